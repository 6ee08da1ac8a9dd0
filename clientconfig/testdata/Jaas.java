// Jaas writes jaas.jsonl: texts, hand-made and random, and what Kafka's own parser
// (JaasContext of kafka-clients 4.3.1) makes of each.
//
//	java -cp kafka-clients.jar:slf4j-api.jar Jaas.java > jaas.jsonl
import java.util.*;
import org.apache.kafka.common.config.types.Password;
import org.apache.kafka.common.security.JaasContext;

public class Jaas {
    static final String P = "org.apache.kafka.common.security.plain.PlainLoginModule";

    public static void main(String[] args) {
        String[] texts = {
            P + " required username=\"alice\" password=\"secret\";",
            P + " required username=alice password=secret ;",
            P + " required\n  username=\"alice\"\n  password=\"secret\";\n",
            P + " REQUIRED username='alice' password='it is';",
            P + " Requisite a=b;", P + " sufficient a=b;", P + " optional a=b;", P + " needed a=b;",
            P + " required username=\"al\\\"ice\" password=\"a\\\\b\\tc\\101\\7z\\477\";",
            P + " required a=\"x\\\ny\";", P + " required a=\"open;", P + " required a=\"open\nb=c;",
            P + " required /* user */ username=alice // the end ;\n password=x;",
            P + " required / username=alice\n password=x;", P + " required /\nusername=alice\n password=x;",
            P + " required a=b /* open", P + " required a=/**/b;", P + " required a=/*/b*/c;",
            P + " required a=12;", P + " required a=\"12\";", P + " required a=1a;", P + " required a=a1.b-c_d$e;",
            P + " required a=-b;", P + " required a=-1;", P + " required a=.5;", P + " required -a=b;",
            P + " required a=pa!ss;", P + " required a=b c;", P + " required a=b=c;", P + " required a==b;",
            P + " required a;", P + " required a=;", P + " required a=b", P + " required", P, "", "  \n", "// only", ";",
            "; required a=b;", P + ";", P + " required;", P + " required ; ;", P + " required a=b;" + P + " required c=d;",
            "\"" + P + "\" \"required\" \"a b\"=\"c d\";", "12 required a=b;", P + " 12 a=b;", P + " required 12=b;",
            P + " required a=\u00e4\u00f6; // \u20ac", P + " required a=\u0085b;", P + " required a=\u00a0b;", P + " required a=\ud83d\ude00b;",
            P + " required a=b a=c;", P + " required a=\"\";", P + " required\ra=b\r\n;", P + " required a=\"x\\", P + " required a=\"x\\0\\08\\377\\400\";",
            "com.sun.security.auth.module.JndiLoginModule required a=b;",
            "com.sun.security.auth.module.LdapLoginModule required a=b;",
            P + " required a=${file:/x:y};", P + " required a=\"${file:/x:y}\";", P + " required a=$<file:/x:y>;",
        };
        for (String t : texts) show(t);
        Random random = new Random(7);
        String[] parts = {P, "a", "required", "optional", "=", "=", "=", ";", ";", "\"", "'", "\\", "/", "//", "/*", "*/", "*", " ", " ", " ", "\n", "\r", "-", ".", "5", "1.2.3", "-7",
            "$", "_", "{", "\u20ac", "\u0090", "\t", "b", "n", "0", "12", "377", "required a=b", " x=\"y\" "};
        String[] seps = {" ", "\n", "", " /* ; */ ", " // ;\n", " / ;\r", "\t"};
        for (int i = 0; i < 500; i++) {
            StringBuilder b = new StringBuilder(P + " required ");
            for (int n = random.nextInt(4); n > 0; n--) {
                b.append("k" + n).append(seps[random.nextInt(seps.length)]).append("=").append(seps[random.nextInt(seps.length)]);
                String quote = random.nextBoolean() ? "\"" : "'";
                b.append(quote);
                for (int m = random.nextInt(8); m > 0; m--) {
                    String part = parts[random.nextInt(parts.length)];
                    b.append(part.equals(quote) ? "\\" + part : part);
                }
                b.append(quote).append(seps[random.nextInt(seps.length)]);
            }
            show(b.append(";").toString());
        }
        for (int i = 0; i < 700; i++) {
            StringBuilder b = new StringBuilder();
            if (i % 3 > 0) b.append(P).append(" required ");
            for (int n = random.nextInt(14); n > 0; n--) b.append(parts[random.nextInt(parts.length)]);
            if (i % 3 > 1) b.append(";");
            show(b.toString());
        }
    }

    static void show(String text) {
        StringBuilder out = new StringBuilder("{\"text\":" + quote(text));
        try {
            var entry = JaasContext.loadClientContext(Map.of("sasl.jaas.config", new Password(text))).configurationEntries().get(0);
            out.append(",\"module\":" + quote(entry.getLoginModuleName()) + ",\"options\":{");
            Map<String, Object> options = new HashMap<>(entry.getOptions());
            options.remove(null);
            String comma = "";
            for (String k : new TreeSet<>(options.keySet())) {
                out.append(comma + quote(k) + ":" + quote((String) options.get(k)));
                comma = ",";
            }
            out.append("}");
        } catch (RuntimeException e) {
            out.append(",\"error\":" + quote(String.valueOf(e.getMessage())));
        }
        System.out.println(out + "}");
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
