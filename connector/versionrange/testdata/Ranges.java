// Records what Kafka Connect makes of plugin.version settings (PluginUtils.connectorVersionRequirement, KIP-891).
// Run it with the jars of Kafka 4.3.1: java -cp 'KAFKA/libs/*' Ranges.java >ranges.json
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.*;
import org.apache.kafka.connect.runtime.isolation.PluginUtils;
import org.apache.maven.artifact.versioning.*;

public class Ranges {
    public static void main(String[] args) throws Exception {
        String[] specs = {"latest", "", " ", "4.3.1", " 4.3.1 ", "4.3", "4.3.1.0", "4.03.1", "[4.3.1]", "[4.3.1,4.3.1]", "[4.3]", "(4.3.1)", "[4,5)", "[4.3.1,)", "(4.3.1,)",
            "(,4.3.1]", "(,4.3.1)", "(,)", "[,]", "[3,4),[4.3,4.4)", "(,4),(4.4,)", "[4", "4]", "[4,5", "[4,5]x", "[5,4]", "[4,4)", "(4,4)", "[4,5],[4.5,6]", "[4,5),[5,6)", "[4,5], [6,7]",
            "4.3.1,[5,6]", "[4],5", "abc", "[4.3.1-SNAPSHOT,4.3.1]", "[4.3.0,4.3.1)", "(4.3.1-rc1,4.4)", "4.3.1-ga", "4.3.1.final", "[4.3.1-sp,5)", "4.3.1-1", "[a,b]", "Latest", "[1,2,3]", "[ 4 , 5 ]",
            "${a:b:c}", "[4.3.2-alpha1,)", "[4.3.1-beta-2,4.3.1]", "[4.10,5)", "4.3.1,", ",4.3.1", "[]", "()", "[,4.3.1],[5,)", "(4.3.1,5),[4.3.1]"};
        String[] versions = {"4.3.1", "4.3.1-SNAPSHOT", "4.3.0", "5.0.0", "4.3.2-rc1", "4.9"};
        List<Object> out = new ArrayList<>();
        for (String spec : specs) {
            Map<String, Object> row = new LinkedHashMap<>();
            row.put("spec", spec);
            try {
                VersionRange range = PluginUtils.connectorVersionRequirement(spec);
                row.put("text", range == null ? null : range.toString());
                List<String> in = new ArrayList<>();
                for (String v : versions) if (range == null || range.containsVersion(new DefaultArtifactVersion(v))) in.add(v);
                row.put("contains", in);
            } catch (Exception e) {
                row.put("error", e.getMessage() == null ? e.getClass().getName() : e.getMessage());
            }
            out.add(row);
        }
        System.out.println(new ObjectMapper().writerWithDefaultPrettyPrinter().writeValueAsString(out));
    }
}
