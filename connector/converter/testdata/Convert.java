import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.connect.converters.*;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.json.JsonConverter;
import org.apache.kafka.connect.storage.Converter;
import org.apache.kafka.connect.storage.StringConverter;

/**
 * Records what Kafka's converters make of bytes, as text, and of text.
 *
 *   java -Duser.timezone=UTC -cp '.cache/kafka/4.3.1/libs/*' Convert.java > convert.json
 */
public class Convert {
    static final List<String> LINES = new ArrayList<>();

    public static void main(String[] args) throws Exception {
        String[] plain = {
            "", " ", "null", "true", "false", "truex", "1", "-0", "007", "1.5", "1e3", "1E-7", "123456789012345678901234567890", "9223372036854775807",
            "9223372036854775808", "-9223372036854775809", "1e400", "0.1", "100000000.0", "12345678.9", "1e21", "0.001", "0.0009", "\"text\"", "\"\\u00e9\\n\\\"\"",
            "\"\\ud83d\\ude00\"", "[]", "[1,\"a\",null,[true]]", "{}", "{\"a\":1}", "{\"b\":1,\"a\":2,\"c\":{\"d\":[1,2.50]}}", "{\"a\":1,\"a\":2}", "{\"a\":1} tail", "1 2",
            "{\"a\":1", "[1,", "\"open", "{a:1}", "'a'", "{\"a\" 1}", "[1 2]", "nul", "+1", ".5", "1.", "01.5", "-", "\"tab\there\"", "NaN", "[1,]", "{\"a\":1,}",
            "{\"zeta\":1,\"alpha\":2,\"Omega\":3,\"orders\":4,\"customers\":5,\"id\":6,\"name\":7,\"quantity\":8,\"price\":9,\"timestamp\":10,\"x\":11,\"y\":12,\"z\":13,\"k1\":14,\"k2\":15,\"k3\":16,\"k4\":17}",
            "{\"Aa\":1,\"BB\":2,\"C#\":3}", "{\"\u00e9\":\"\u20ac\",\"\ud83d\ude00\":null}", "{\"schema\":null,\"payload\":{\"a\":1.0}}",
        };
        for (String s : plain) {
            json(s, "schemas.enable", "false");
        }
        String[] schemas = {
            "", "1", "{}", "{\"schema\":null}", "{\"schema\":null,\"payload\":null}", "{\"schema\":null,\"payload\":{\"a\":[1,2.5,\"x\",true,null]}}", "{\"schema\":null,\"payload\":1,\"more\":1}",
            t("string", "\"x\""), t("string", "1"), t("string", "null"), "{\"schema\":{\"type\":\"string\",\"optional\":true},\"payload\":null}",
            "{\"schema\":{\"type\":\"string\",\"default\":\"d\"},\"payload\":null}",
            t("boolean", "true"), t("boolean", "1"), t("int8", "300"), t("int16", "70000"), t("int32", "3000000000"), t("int32", "1.9"), t("int32", "\"7\""), t("int64", "12"), t("float", "0.1"), t("float", "16777217"),
            t("double", "1e10"), t("double", "\"x\""), t("int64", "123456789012345678901"), t("nope", "1"), "{\"schema\":{\"type\":1},\"payload\":1}", "{\"schema\":7,\"payload\":1}", "{\"schema\":{},\"payload\":1}",
            "{\"schema\":{\"type\":\"array\"},\"payload\":[]}", a("int32", "[1,2]"), a("int32", "[1,null]"), a("string", "[1]"), a("int32", "{\"a\":1}"), a("int32", "7"),
            m("string", "int32", "{\"b\":1,\"a\":2}"), m("string", "int32", "[]"), m("int32", "string", "[[1,\"a\"],[17,\"b\"],[16,\"c\"]]"), m("int32", "string", "{}"), m("int32", "string", "[1]"), m("int32", "string", "[[1]]"),
            m("int64", "string", "[[4294967296,\"a\"],[-1,\"b\"],[3,\"c\"]]"), m("boolean", "string", "[[true,\"a\"],[false,\"b\"]]"), m("double", "string", "[[1.5,\"a\"],[0.25,\"b\"],[3,\"c\"]]"),
            "{\"schema\":{\"type\":\"map\",\"values\":{\"type\":\"int32\"}},\"payload\":{}}", "{\"schema\":{\"type\":\"map\",\"keys\":{\"type\":\"int32\"}},\"payload\":{}}",
            s("{\"field\":\"a\",\"type\":\"int32\"},{\"field\":\"b\",\"type\":\"string\",\"optional\":true}", "{\"a\":1}"),
            s("{\"field\":\"a\",\"type\":\"int32\"},{\"field\":\"b\",\"type\":\"string\",\"optional\":true}", "{\"b\":\"x\",\"a\":1,\"c\":3}"),
            s("{\"field\":\"a\",\"type\":\"int32\"}", "{}"), s("{\"field\":\"a\",\"type\":\"string\"}", "{\"a\":1}"), s("{\"field\":\"a\",\"type\":\"int32\"}", "[1]"), s("{\"field\":\"a\",\"type\":\"int32\"}", "null"),
            s("{\"field\":\"a\",\"type\":\"int32\",\"default\":7}", "{}"), s("{\"type\":\"int32\"}", "{}"), s("1", "{}"), s("", "{}"), "{\"schema\":{\"type\":\"struct\"},\"payload\":{}}",
            s("{\"field\":\"a\",\"type\":\"int32\"},{\"field\":\"a\",\"type\":\"int32\"}", "{\"a\":1}"), s("{\"field\":\"\",\"type\":\"int32\"}", "{\"\":1}"),
            s("{\"field\":\"in\",\"type\":\"struct\",\"fields\":[{\"field\":\"x\",\"type\":\"double\"}]},{\"field\":\"l\",\"type\":\"array\",\"items\":{\"type\":\"string\"}}", "{\"in\":{\"x\":2},\"l\":[\"p\",\"q\"]}"),
            l("bytes", "Decimal", ",\"parameters\":{\"scale\":\"2\"}", "\"MDk=\""), l("bytes", "Decimal", ",\"parameters\":{\"scale\":\"2\"}", "\"/w==\""), l("bytes", "Decimal", ",\"parameters\":{\"scale\":\"12\"}", "\"MDk=\""),
            l("bytes", "Decimal", ",\"parameters\":{\"scale\":\"-3\"}", "\"MDk=\""), l("bytes", "Decimal", "", "\"MDk=\""), l("bytes", "Decimal", ",\"parameters\":{\"scale\":\"2\"}", "12.340"), l("bytes", "Decimal", ",\"parameters\":{\"scale\":\"2\"}", "1e5"),
            l("bytes", "Decimal", ",\"parameters\":{\"scale\":\"2\"}", "true"), l("int32", "Date", "", "19000"), l("int32", "Date", "", "\"x\""), l("int32", "Date", "", "3000000000"), l("int32", "Time", "", "3600000"), l("int64", "Timestamp", "", "1700000000123"), l("int64", "Timestamp", "", "1.5"),
            l("bytes", "Decimal", ",\"parameters\":{\"scale\":2}", "1"), "{\"schema\":{\"type\":\"array\",\"items\":null},\"payload\":[]}",
        };
        for (String s : schemas) {
            json(s);
            json(s, "replace.null.with.default", "false");
        }
        json("{\"a\":5}", "schema.content", "{\"type\":\"struct\",\"fields\":[{\"field\":\"a\",\"type\":\"int8\"}]}");
        json("[5]", "schema.content", "{\"type\":\"struct\",\"fields\":[{\"field\":\"a\",\"type\":\"int8\"}]}");
        byte[][] texts = {{}, {'a'}, {(byte) 0xff}, {(byte) 0xe2, (byte) 0x82}, {(byte) 0xe2, (byte) 0x82, (byte) 0xac}, {(byte) 0xc0, (byte) 0x80}, {(byte) 0xf0, (byte) 0x9f, (byte) 0x98}, {(byte) 0xed, (byte) 0xa0, (byte) 0x80},
            {'a', (byte) 0xf1, (byte) 0x80, (byte) 0x80, 'b', (byte) 0xe0, (byte) 0x80, (byte) 0x80, 'c'}, {(byte) 0xf4, (byte) 0x90, (byte) 0x80, (byte) 0x80}, {0, 1}, {0, 0, 0, 7}, {1, 2, 3, 4, 5, 6, 7, 8}, {1}, {2}};
        for (byte[] b : texts) {
            row(new StringConverter(), b);
            row(new StringConverter(), b, "converter.encoding", "ISO-8859-1");
            row(new StringConverter(), b, "converter.encoding", "US-ASCII");
            for (Converter c : new Converter[]{new IntegerConverter(), new LongConverter(), new ShortConverter(), new FloatConverter(), new DoubleConverter(), new BooleanConverter()}) {
                row(c, b);
            }
        }
        for (String text : new String[]{"", "x", "\u00e9\u20ac\ud83d\ude00", "\"\\\b\f\n\r\t\u0001\u001f\u007f/<>&\u2028"}) {
            for (String[] conf : new String[][]{{"schemas.enable", "true"}, {"schemas.enable", "false"}}) {
                write(new JsonConverter(), text, conf);
            }
            write(new StringConverter(), text);
            write(new StringConverter(), text, "converter.encoding", "ISO-8859-1");
            for (Converter c : new Converter[]{new ByteArrayConverter(), new IntegerConverter(), new BooleanConverter(), new DoubleConverter()}) {
                write(c, text);
            }
        }
        System.out.println("[\n" + String.join(",\n", LINES) + "\n]");
    }

    static String t(String type, String payload) { return "{\"schema\":{\"type\":\"" + type + "\"},\"payload\":" + payload + "}"; }
    static String a(String type, String payload) { return "{\"schema\":{\"type\":\"array\",\"items\":{\"type\":\"" + type + "\"}},\"payload\":" + payload + "}"; }
    static String m(String k, String v, String payload) { return "{\"schema\":{\"type\":\"map\",\"keys\":{\"type\":\"" + k + "\"},\"values\":{\"type\":\"" + v + "\"}},\"payload\":" + payload + "}"; }
    static String s(String fields, String payload) { return "{\"schema\":{\"type\":\"struct\",\"fields\":[" + fields + "]},\"payload\":" + payload + "}"; }
    static String l(String type, String name, String more, String payload) { return "{\"schema\":{\"type\":\"" + type + "\",\"name\":\"org.apache.kafka.connect.data." + name + "\"" + more + "},\"payload\":" + payload + "}"; }

    static void json(String text, String... conf) { row(new JsonConverter(), text.getBytes(StandardCharsets.UTF_8), conf); }

    static Map<String, String> configure(Converter c, String... conf) {
        Map<String, String> m = new HashMap<>();
        for (int i = 0; i < conf.length; i += 2) m.put(conf[i], conf[i + 1]);
        c.configure(m, false);
        return m;
    }

    static void row(Converter c, byte[] in, String... conf) {
        Map<String, String> m = configure(c, conf);
        String text = null, error = null;
        try {
            text = String.valueOf(c.toConnectData("t", in).value());
        } catch (Exception e) {
            error = e.getClass().getName() + ": " + e.getMessage();
        }
        LINES.add("{\"class\":" + q(c.getClass().getName()) + ",\"config\":" + conf(m) + ",\"bytes\":" + q(Base64.getEncoder().encodeToString(in)) + ",\"text\":" + q(text) + ",\"error\":" + q(error) + "}");
    }

    static void write(Converter c, String in, String... conf) {
        Map<String, String> m = configure(c, conf);
        String out = null, error = null;
        try {
            out = Base64.getEncoder().encodeToString(c.fromConnectData("t", Schema.STRING_SCHEMA, in));
        } catch (Exception e) {
            error = e.getClass().getName() + ": " + e.getMessage();
        }
        LINES.add("{\"class\":" + q(c.getClass().getName()) + ",\"config\":" + conf(m) + ",\"write\":" + q(in) + ",\"bytes\":" + q(out) + ",\"error\":" + q(error) + "}");
    }

    static String conf(Map<String, String> m) {
        List<String> parts = new ArrayList<>();
        m.forEach((k, v) -> parts.add(q(k) + ":" + q(v)));
        return "{" + String.join(",", parts) + "}";
    }

    static String q(String s) {
        if (s == null) return "null";
        StringBuilder b = new StringBuilder("\"");
        for (char c : s.toCharArray()) {
            if (c < ' ' || c > '~' || c == '"' || c == '\\') b.append(String.format("\\u%04x", (int) c)); else b.append(c);
        }
        return b.append('"').toString();
    }
}
