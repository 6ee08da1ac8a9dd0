// Writes connect-4.3.1.jsonl: records of the internal topics as Kafka Connect's own classes encode
// them. Run it with Connect's jars on the class path:
//   java -cp '.cache/kafka/4.3.1/libs/*' worker/store/testdata/Vectors.java > worker/store/testdata/connect-4.3.1.jsonl
import java.util.*;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.connect.data.*;
import org.apache.kafka.connect.json.JsonConverter;
import org.apache.kafka.connect.storage.*;

public class Vectors {
    static final JsonConverter values = new JsonConverter();
    static final JsonConverter out = new JsonConverter();

    static Schema schema(Class<?> store, String name) throws Exception {
        var field = store.getDeclaredField(name);
        field.setAccessible(true);
        return (Schema) field.get(null);
    }

    static void write(byte[] key, byte[] value) throws Exception {
        var line = new LinkedHashMap<String, Object>();
        line.put("key", new String(key, "UTF-8"));
        line.put("value", value == null ? null : new String(value, "UTF-8"));
        for (int n : new int[] {5, 25})
            line.put("partition_of_" + n, BuiltInPartitioner.partitionForKey(key, n));
        System.out.println(new String(out.fromConnectData("", null, line), "UTF-8"));
    }

    static void write(String key, Schema schema, Object value) throws Exception {
        write(key.getBytes("UTF-8"), values.fromConnectData("", schema, value));
    }

    static Struct status(String state, String trace, String worker, int generation, String version) throws Exception {
        return new Struct(schema(KafkaStatusBackingStore.class, "STATUS_SCHEMA_V0")).put("state", state)
            .put("trace", trace).put("worker_id", worker).put("generation", generation).put("version", version);
    }

    public static void main(String[] args) throws Exception {
        values.configure(Map.of("schemas.enable", "false"), false);
        out.configure(Map.of("schemas.enable", "false"), false);
        Class<?> c = KafkaConfigBackingStore.class, s = KafkaStatusBackingStore.class;

        var config = new TreeMap<String, String>();
        config.put("connector.class", "org.apache.kafka.connect.mirror.MirrorSourceConnector");
        config.put("name", "orders");
        config.put("a.jaas", "x required password=\"${file:/etc/k/c.properties:p}\";");
        config.put("b.escapes", "< > & ' / \\ \" \b \f \n \r \t \u0000 \u0001 \u001f \u007f \u0080 \u00e9 \u2028 \u2029 \ufeff \uffff");
        config.put("c.emoji \ud83d\ude80", "\ud83d\ude00 \ud800\udc00 \udbff\udfff \u4e2d\u6587");
        config.put("d.empty", "");
        Schema configuration = schema(c, "CONNECTOR_CONFIGURATION_V0");
        write("connector-orders", configuration, new Struct(configuration).put("properties", config));
        write("connector-n\u00e4me with - and \ud83d\ude00", configuration, new Struct(configuration).put("properties", new TreeMap<>()));
        write("task-orders-0", configuration, new Struct(configuration).put("properties", config));
        write("task-a-b--12", configuration, new Struct(configuration).put("properties", config));
        Schema commit = schema(c, "CONNECTOR_TASKS_COMMIT_V0");
        write("commit-orders", commit, new Struct(commit).put("tasks", 2));
        write("commit-none", commit, new Struct(commit).put("tasks", 0));
        Schema target = schema(c, "TARGET_STATE_V1");
        write("target-state-a", target, new Struct(target).put("state", "STARTED").put("state.v2", "STARTED"));
        write("target-state-b", target, new Struct(target).put("state", "PAUSED").put("state.v2", "PAUSED"));
        write("target-state-c", target, new Struct(target).put("state", "PAUSED").put("state.v2", "STOPPED"));
        Schema restart = schema(c, "RESTART_REQUEST_V0");
        write("restart-connector-orders", restart, new Struct(restart).put("include-tasks", true).put("only-failed", false));
        Schema session = schema(c, "SESSION_KEY_V0");
        write("session-key", session, new Struct(session).put("key", Base64.getEncoder().encodeToString(new byte[] {0, 1, (byte) 254, (byte) 255, 62, 63}))
            .put("algorithm", "HmacSHA256").put("creation-timestamp", 1764000000123L));
        Schema count = schema(c, "TASK_COUNT_RECORD_V0");
        write("tasks-fencing-orders", count, new Struct(count).put("task-count", 3));
        Schema level = schema(c, "LOGGER_LEVEL_V0");
        write("logger-cluster-org.apache.kafka", level, new Struct(level).put("level", "TRACE"));

        Schema status = schema(s, "STATUS_SCHEMA_V0");
        write("status-connector-orders", status, status("RUNNING", null, "10.0.0.1:8083", 7, "4.3.1"));
        write("status-connector-paused", status, status("PAUSED", null, "w:8083", -1, null));
        write("status-task-orders-0", status, status("FAILED", "java.lang.X: <\"no\">\n\tat a.b(C.java:1)\n", "w:8083", 2147483647, "4.3.1"));
        Schema topic = schema(s, "TOPIC_STATUS_SCHEMA_V0"), inner = schema(s, "TOPIC_STATUS_VALUE_SCHEMA_V0");
        write("status-topic-A.orders:connector-orders", topic, Map.of("topic", new Struct(inner)
            .put("name", "A.orders").put("connector", "orders").put("task", 1).put("discoverTimestamp", 1764000000123L)));

        for (String name : List.of("orders", "n\u00e4me \"quoted\" \ud83d\ude00 <&>")) {
            var partition = new LinkedHashMap<String, Object>();
            partition.put("cluster", "A");
            partition.put("partition", 0);
            partition.put("topic", "orders.\u00e9");
            write(values.fromConnectData("", null, Arrays.asList(name, partition)), values.fromConnectData("", null, Map.of("offset", 41L)));
        }
    }
}
