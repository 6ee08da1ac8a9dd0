import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.common.config.ConfigValue;
import org.apache.kafka.connect.connector.Connector;
import org.apache.kafka.connect.mirror.MirrorCheckpointConnector;
import org.apache.kafka.connect.mirror.MirrorHeartbeatConnector;

/**
 * Asks MirrorMaker's checkpoint and heartbeat connectors what they find wrong.
 *
 *   java -cp '.cache/kafka/4.3.1/libs/*' Validate.java > validate-groups.json
 */
public class Validate {
    static final String[][] ROWS = {
        {},
        {"source.cluster.alias", null},
        {"emit.heartbeats.enabled", "false"},
        {"emit.heartbeats.enabled", "maybe"},
        {"emit.heartbeats.interval.seconds", "soon"},
        {"emit.heartbeats.interval.seconds", "-1"},
        {"heartbeats.topic.replication.factor", "70000"},
        {"emit.checkpoints.enabled", "false"},
        {"emit.checkpoints.enabled", "false", "enabled", "false"},
        {"emit.checkpoints.interval.seconds", "x"},
        {"emit.offset-syncs.enabled", "false"},
        {"emit.offset-syncs.enabled", "false", "emit.checkpoints.enabled", "false"},
        {"groups", ""},
        {"groups", "a,,b"},
        {"groups", "a,a"},
        {"groups", "a,b"},
        {"groups.exclude", ""},
        {"groups.exclude", "a,"},
        {"groups.exclude", "a,a"},
        {"group.filter.class", "no.Such"},
        {"group.filter.class", ""},
        {"topic.filter.class", "no.Such"},
        {"refresh.groups.interval.seconds", "1.5"},
        {"refresh.groups.enabled", "yes"},
        {"sync.group.offsets.enabled", "1"},
        {"sync.group.offsets.interval.seconds", ""},
        {"checkpoints.topic.replication.factor", "three"},
        {"consumer.poll.timeout.ms", "x"},
        {"offset-syncs.topic.location", "here"},
        {"offset-syncs.topic.location", "target"},
        {"replication.policy.class", "no.Such"},
        {"security.protocol", "NONE"},
        {"metric.names.formats", "older"},
    };

    public static void main(String[] args) throws Exception {
        List<String> lines = new ArrayList<>();
        for (Connector c : new Connector[]{new MirrorHeartbeatConnector(), new MirrorCheckpointConnector()}) {
            for (String[] row : ROWS) {
                Map<String, String> props = new LinkedHashMap<>();
                props.put("name", "x");
                props.put("connector.class", c.getClass().getName());
                props.put("source.cluster.alias", "A");
                for (int i = 0; i < row.length; i += 2) {
                    if (row[i + 1] == null) {
                        props.remove(row[i]);
                    } else {
                        props.put(row[i], row[i + 1]);
                    }
                }
                Map<String, List<String>> errors = new TreeMap<>();
                for (ConfigValue v : c.validate(props).configValues()) {
                    if (!v.errorMessages().isEmpty()) {
                        errors.put(v.name(), v.errorMessages());
                    }
                }
                lines.add("{\"config\":" + json(props) + ",\"errors\":" + json(errors) + "}");
            }
        }
        System.out.println("[\n" + String.join(",\n", lines) + "\n]");
    }

    static String json(Object o) {
        if (o instanceof Map<?, ?> m) {
            List<String> parts = new ArrayList<>();
            m.forEach((k, v) -> parts.add(json(k) + ":" + json(v)));
            return "{" + String.join(",", parts) + "}";
        }
        if (o instanceof List<?> l) {
            List<String> parts = new ArrayList<>();
            l.forEach(v -> parts.add(json(v)));
            return "[" + String.join(",", parts) + "]";
        }
        return "\"" + o.toString().replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n") + "\"";
    }
}
