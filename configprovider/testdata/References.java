// References writes references.jsonl: values, hand-made and random, and what Kafka's own ConfigTransformer
// (kafka-clients 4.3.1) makes of each with providers of every name, whose values tell what they were asked for.
//
//	java -cp kafka-clients.jar:slf4j-api.jar References.java > references.jsonl
import java.util.*;
import org.apache.kafka.common.config.*;
import org.apache.kafka.common.config.provider.ConfigProvider;

public class References {
    public static void main(String[] a) {
        List<String> values = new ArrayList<>(List.of("${a:b}", "${a:b:c}", "${a:b:c:d}", "${a::b}", "${::}", "${:}", "${}", "${a}", "$${a:b}", "${${a:b}}", "${a:${b:c}}",
            "${a:b}${c:d:e}", "x${a:b}y", "${a:b", "$a:b}", "{a:b}", "${a:b}}", "${a:b\nc}", "${ a : b : c }", "${a:/p/q:k.l}", "${a:b}${a:b}", "$ {a:b}", "${a:b:}", "${:b:c}"));
        Random random = new Random(11);
        String[] parts = {"$", "{", "}", "${", "${", "${", "}", "}", ":", ":", ":", "a", "b", "/", " ", "\n", "<", ">", "\\", "\u20ac", "${a:b}", "${p:/q:k}"};
        for (int i = 0; i < 1500; i++) {
            StringBuilder b = new StringBuilder();
            for (int n = 1 + random.nextInt(14); n > 0; n--) b.append(parts[random.nextInt(parts.length)]);
            values.add(b.toString());
        }
        for (String value : values)
            System.out.println("{\"value\":" + quote(value) + ",\"want\":" + quote(transform(value)) + "}");
    }

    static String transform(String value) {
        Map<String, ConfigProvider> every = new HashMap<>() {
            @Override public ConfigProvider get(Object name) { return new Told((String) name); }
            @Override public boolean containsKey(Object name) { return true; }
        };
        return new ConfigTransformer(every).transform(Map.of("k", value)).data().get("k");
    }

    record Told(String name) implements ConfigProvider {
        public ConfigData get(String path) { return get(path, Set.of()); }
        public ConfigData get(String path, Set<String> keys) {
            Map<String, String> data = new HashMap<>();
            for (String k : keys) data.put(k, "[" + name + "|" + (path == null ? "" : path) + "|" + k + "]");
            return new ConfigData(data);
        }
        public void configure(Map<String, ?> configs) { }
        public void close() { }
    }

    static String quote(String s) {
        StringBuilder b = new StringBuilder("\"");
        for (char c : s.toCharArray()) {
            if (c < ' ' || c > '~' || c == '"' || c == '\\') b.append(String.format("\\u%04x", (int) c));
            else b.append(c);
        }
        return b.append("\"").toString();
    }
}
