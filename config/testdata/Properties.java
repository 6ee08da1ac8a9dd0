// Properties writes properties.jsonl: random texts of .properties files, and what java.util.Properties (Java 17) reads in each.
//
//	java Properties.java > properties.jsonl
import java.io.StringReader;
import java.util.*;

public class Properties {
    public static void main(String[] a) {
        Random random = new Random(13);
        String[] parts = {"a", "b", "k", "=", "=", ":", " ", "\t", "\f", "\n", "\n", "\r", "\r\n", "\\", "\\\n", "\\\r\n  ", "#", "!", "\\u00e9", "\\u20AC", "\\t", "\\=", "\\:", "\\ ", "\\\\",
            "\u00e4", "\u20ac", "${f:g:h}", "$<f:h>", "\"", "'", "\\#", "x=y\n", "\\u0041", "\n\n", "\\z", "\u0000", "\u00a0"};
        for (int i = 0; i < 1500; i++) {
            StringBuilder b = new StringBuilder();
            for (int n = 1 + random.nextInt(16); n > 0; n--) b.append(parts[random.nextInt(parts.length)]);
            show(b.toString());
        }
        for (String text : new String[] {"a=\\u12", "a=\\uzzzz", "\\u", "a=\\u00g0", "b\\u123=4"}) show(text);
    }

    static void show(String text) {
        StringBuilder out = new StringBuilder("{\"text\":" + quote(text));
        java.util.Properties p = new java.util.Properties();
        try {
            p.load(new StringReader(text));
            out.append(",\"want\":{");
            String comma = "";
            for (String k : new TreeSet<>(p.stringPropertyNames())) {
                out.append(comma + quote(k) + ":" + quote(p.getProperty(k)));
                comma = ",";
            }
            out.append("}");
        } catch (Exception e) {
            out.append(",\"malformed\":true");
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
