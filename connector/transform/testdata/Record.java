// Records what Kafka Connect's own transforms and predicates do, and how Connect describes and checks their settings.
// Run it with the jars of Kafka 4.3.1: java -cp 'KAFKA/libs/*' Record.java >vectors.json
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import java.nio.charset.StandardCharsets;
import java.util.*;
import org.apache.kafka.common.config.*;
import org.apache.kafka.connect.data.*;
import org.apache.kafka.connect.header.*;
import org.apache.kafka.connect.json.JsonConverter;
import org.apache.kafka.connect.runtime.*;
import org.apache.kafka.connect.runtime.isolation.Plugins;
import org.apache.kafka.connect.source.SourceRecord;
import org.apache.kafka.connect.storage.SimpleHeaderConverter;
import org.apache.kafka.connect.transforms.*;

public class Record {
    static final String T = "org.apache.kafka.connect.transforms.";
    static final String P = T + "predicates.";
    static final ObjectMapper mapper = new ObjectMapper().configure(SerializationFeature.ORDER_MAP_ENTRIES_BY_KEYS, true);
    static final List<Object> out = new ArrayList<>();

    static Map<String, String> map(String... kv) {
        Map<String, String> m = new LinkedHashMap<>();
        for (int i = 0; i < kv.length; i += 2) m.put(kv[i], kv[i + 1]);
        return m;
    }

    static void validate(Plugins plugins, String... kv) throws Exception {
        Map<String, String> props = map(kv);
        Map<String, String> full = new HashMap<>(props);
        full.put("name", "x");
        full.put("connector.class", "org.apache.kafka.connect.mirror.MirrorSourceConnector");
        Map<String, Object> row = new LinkedHashMap<>();
        row.put("kind", "validate");
        row.put("config", props);
        try {
            ConfigDef def = ConnectorConfig.enrich(plugins, SourceConnectorConfig.configDef(), full, false);
            List<ConfigValue> values = def.validate(full);
            List<Object> infos = new ArrayList<>();
            var result = AbstractHerder.generateResult("x", def.configKeys(), values, new ArrayList<>(def.groups()));
            for (var info : result.configs()) {
                String n = info.configKey() == null ? info.configValue().name() : info.configKey().name();
                if (n.startsWith("transforms") || n.startsWith("predicates")) infos.add(info);
            }
            row.put("groups", result.groups());
            row.put("configs", infos);
        } catch (ConfigException e) {
            row.put("error", e.getMessage());
        }
        out.add(row);
    }

    @SuppressWarnings("unchecked")
    static void apply(String cls, Map<String, String> config, String topic, String json, Long timestamp) throws Exception {
        Map<String, Object> row = new LinkedHashMap<>();
        row.put("kind", "apply");
        row.put("type", cls);
        row.put("config", config);
        row.put("topic", topic);
        row.put("value", json);
        row.put("timestamp", timestamp);
        try {
            Transformation<SourceRecord> t = (Transformation<SourceRecord>) Class.forName(T + cls).getDeclaredConstructor().newInstance();
            t.configure(config);
            JsonConverter c = new JsonConverter();
            c.configure(Map.of("schemas.enable", "false"), false);
            Object v = json == null ? null : c.toConnectData("t", json.getBytes(StandardCharsets.UTF_8)).value();
            boolean key = cls.endsWith("$Key");
            SourceRecord r = new SourceRecord(null, null, topic, 0, null, key ? v : null, null, key ? null : v, timestamp);
            SourceRecord a = t.apply(r);
            row.put("wantTopic", a.topic());
            Object got = key ? a.key() : a.value();
            byte[] b = got == null ? null : c.fromConnectData("t", null, got);
            row.put("want", b == null ? null : new String(b, StandardCharsets.UTF_8));
        } catch (Exception e) {
            row.put("error", e.getMessage() == null ? e.getClass().getName() : e.getMessage());
        }
        out.add(row);
    }

    static void literal(String text) {
        Map<String, Object> row = new LinkedHashMap<>();
        row.put("kind", "literal");
        row.put("value", text);
        SchemaAndValue v = Values.parseString(text);
        if (v == null) v = SchemaAndValue.NULL;
        row.put("schema", v.schema() == null ? null : v.schema().name() == null ? v.schema().type().toString() : v.schema().name());
        byte[] b = new SimpleHeaderConverter().fromConnectHeader("t", "h", v.schema(), v.value());
        row.put("want", b == null ? null : new String(b, StandardCharsets.UTF_8));
        out.add(row);
    }

    public static void main(String[] args) throws Exception {
        java.io.PrintStream stdout = System.out;
        System.setOut(System.err);
        String[] doc = {
            "{\"a\":1,\"b\":\"x\",\"c\":1.5,\"d\":true,\"e\":[1,2],\"f\":{\"g\":1},\"h\":null,\"i\":12345678901,\"j\":123456789012345678901234567890}",
            "{}", "null", "[1]", "\"text\"", "1", "not json", null, "{\"a\":-0,\"b\":1e3,\"c\":\"\\u00e9\"}", "{\"a\":1} trailing", "{\"a\":1,\"a\":2}"};
        for (String d : doc) for (String v : new String[]{"Value", "Key"}) {
            apply("MaskField$" + v, map("fields", "a,b,c,d,e,f,h,missing"), "t", d, 0L);
            apply("ReplaceField$" + v, map("exclude", "a,f"), "t", d, 0L);
            apply("ReplaceField$" + v, map("include", "a,b,zz", "renames", "a:aa,zz:b"), "t", d, 0L);
            apply("ReplaceField$" + v, map("exclude", "a", "include", "a,b"), "t", d, 0L);
            apply("ReplaceField$" + v, map("renames", "f:g,c:a"), "t", d, 0L);
        }
        for (String f : "a b c d e f h i j missing a,b a,i,c".split(" "))
            for (String r : new String[]{"***", "0", "42", "-7", "1.25", "99999999999", "1e2", " 5 ", "NaN", "+3", "007", "123456789012345678901234567890"})
                apply("MaskField$Value", map("fields", f, "replacement", r), "t", doc[0], 0L);
        for (String f : "i j".split(" ")) apply("MaskField$Value", map("fields", f), "t", doc[0], 0L);
        String[][] routes = {{"(.*)-old", "$1-new"}, {"us\\.(.*)", "$1"}, {"(?<n>[a-z]+)\\.(.*)", "${n}_$2"}, {".*", "all"}, {"orders", "x"}, {"(a)(b)?", "[$2]"},
            {"(.*)", "\\$1-$1\\\\"}, {"(.*)", "$12"}, {"(.*)", "$3"}, {"(.*)", "$"}, {"(.*)", "\\"}, {"([^.]*)\\.?.*", "${x}"}, {"", "x"}, {"a*", "z"}, {".*?", "q"}, {"(.*)", "$1$1"}, {"(.*)", "${1}"}, {"(.*)", ""}};
        for (String[] r : routes) for (String t : new String[]{"us.orders-old", "us.orders", "orders", "ab", "a", "aaa"})
            apply("RegexRouter", map("regex", r[0], "replacement", r[1]), t, null, 0L);
        for (String f : new String[]{null, "yyyyMMdd", "yyyy-MM-dd'T'HH", "YYYY.ww", "yy", "MMM", "MMMM", "EEE", "EEEE", "D", "DDD", "HH:mm:ss.SSS", "h a", "k", "K", "u", "W", "F", "G", "z", "Z", "X", "XX", "XXX", "y", "M", "d", "''yyyy", "'o''clock'", "yyyyy", "S", "SSSSS", "q", "'", "L", "LLL", "ee", "w"})
            for (long ts : new long[]{0L, 1700000000123L, 1735603199999L, 1704067200000L, -1L, 4102444800000L}) {
                Map<String, String> c = f == null ? map() : map("timestamp.format", f, "topic.format", "${timestamp}");
                apply("TimestampRouter", c, "orders", null, ts);
            }
        apply("TimestampRouter", map("topic.format", "${topic}.${topic}$1-${timestamp}-${timestamp}"), "a$b\\", null, 1700000000123L);
        apply("TimestampRouter", map("topic.format", "fixed"), "a", null, 1700000000123L);
        apply("TimestampRouter", map(), "a", null, null);
        for (String l : (String[]) new String[]{"abc", "", " ", " abc ", "abc def", "null", "NULL", "true", "TRUE", "false", "\"true\"", "\"a\\\"b\"", "\"a b\"", "\"open", "42", "-42", "+42", "007", "300", "70000", "99999999999",
            "123456789012345678901234567890", "1.5", "1.50", "-0", "-0.0", "1e3", "1E3", "1.0", "0.1", "123.456789012345678", "NaN", "Infinity", "1_000", "0x10", "1d", "1f", "1L", ".5", "5.", "2024-01-02", "2024-01-02T03:04:05.678Z",
            "03:04:05.678Z", "2024-01-02T03:04:05Z", "[]", "[1, 2]", "[1,\"a\"]", "[a]", "{}", "{\"a\":1}", "{a:1}", "{\"a\" : \"b\"}", "a,b", "a:b", "a[b]", "a{b}", "a\\,b", "a\\b", "ünï", "it's", "'q'", "a\"b", "a\tb", "user@host", "http://x/y?z=1", "1 2", " 42 ", "42 ", "t", "tru", "nul", "[", "]", "{", "}", ":", ",", "\"", "\"\"", "\\", "a\\\"b"})
            literal(l);

        Plugins plugins = new Plugins(Map.of());
        Map<String, String[]> extra = new LinkedHashMap<>();
        for (String c : new String[]{"RegexRouter", "TimestampRouter", "InsertHeader", "DropHeaders", "Filter", "MaskField$Key", "MaskField$Value", "ReplaceField$Key", "ReplaceField$Value"})
            validate(plugins, "transforms", "X", "transforms.X.type", T + c);
        for (String c : new String[]{"TopicNameMatches", "HasHeaderKey", "RecordIsTombstone"})
            validate(plugins, "predicates", "X", "predicates.X.type", P + c);
        validate(plugins, "transforms", "X");
        validate(plugins, "transforms", "X,Y", "transforms.X.type", T + "Filter");
        validate(plugins, "transforms", "X", "transforms.X.type", "no.such.Class");
        validate(plugins, "transforms", "X", "transforms.X.type", "RegexRouter", "transforms.X.regex", "a", "transforms.X.replacement", "b");
        validate(plugins, "transforms", "X", "transforms.X.type", "java.lang.String");
        validate(plugins, "transforms", "X", "transforms.X.type", P + "RecordIsTombstone");
        validate(plugins, "transforms", "X", "transforms.X.type", T + "MaskField");
        validate(plugins, "transforms", "X,X", "transforms.X.type", T + "Filter");
        validate(plugins, "transforms", "X", "transforms.X.type", T + "Filter", "transforms.X.predicate", "nope");
        validate(plugins, "transforms", "X", "transforms.X.type", T + "Filter", "transforms.X.negate", "true");
        validate(plugins, "transforms", "X", "transforms.X.type", T + "Filter", "transforms.X.negate", "maybe");
        validate(plugins, "transforms", "X", "transforms.X.type", T + "Filter", "transforms.X.predicate", "P", "predicates", "P", "predicates.P.type", P + "RecordIsTombstone");
        validate(plugins, "predicates", "P");
        validate(plugins, "predicates", "P", "predicates.P.type", "no.such.Class");
        validate(plugins, "predicates", "P", "predicates.P.type", T + "Filter");
        validate(plugins, "predicates", "P", "predicates.P.type", P + "TopicNameMatches", "predicates.P.pattern", "(");
        validate(plugins, "predicates", "P", "predicates.P.type", P + "TopicNameMatches", "predicates.P.pattern", "");
        validate(plugins, "predicates", "P", "predicates.P.type", P + "HasHeaderKey", "predicates.P.name", "");
        validate(plugins, "transforms", "X", "transforms.X.type", T + "RegexRouter", "transforms.X.regex", "(", "transforms.X.replacement", "b");
        validate(plugins, "transforms", "X", "transforms.X.type", T + "MaskField$Value", "transforms.X.fields", "");
        validate(plugins, "transforms", "X", "transforms.X.type", T + "MaskField$Value", "transforms.X.fields", "a", "transforms.X.replacement", "");
        validate(plugins, "transforms", "X", "transforms.X.type", T + "ReplaceField$Value", "transforms.X.renames", "a");
        validate(plugins, "transforms", "X", "transforms.X.type", T + "DropHeaders", "transforms.X.headers", "");
        stdout.print("[\n");
        for (int i = 0; i < out.size(); i++) stdout.print(mapper.writeValueAsString(out.get(i)) + (i + 1 < out.size() ? ",\n" : "\n"));
        stdout.print("]\n");
        stdout.flush();
        System.exit(0);
    }
}
