import java.lang.reflect.Constructor;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HexFormat;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.connect.mirror.Checkpoint;
import org.apache.kafka.connect.mirror.Heartbeat;
import org.apache.kafka.connect.mirror.MirrorClient;
import org.apache.kafka.connect.mirror.RemoteClusterUtils;

/**
 * Writes records with MirrorMaker's own classes, and reads topics with its client.
 *
 *   java -cp '.cache/kafka/4.3.1/libs/*' Formats.java write > formats.jsonl
 *   java -cp '.cache/kafka/4.3.1/libs/*' Formats.java read BOOTSTRAP ALIAS GROUP
 */
public class Formats {
    static final String[] TEXTS = {"", "A", "prod.eu-west", "\u00dcber \u30af\u30e9\u30b9\u30bf \ud83d\ude00", "a\"b\\c\n"};
    static final long[] NUMBERS = {0, 1, 41, 1_700_000_000_000L, Long.MAX_VALUE, -1};

    public static void main(String[] args) throws Exception {
        if (args[0].equals("read")) {
            read(args[1], args[2], args[3]);
            return;
        }
        int n = 0;
        for (String a : TEXTS) {
            for (String b : TEXTS) {
                long x = NUMBERS[n % NUMBERS.length], y = NUMBERS[(n / 2 + 1) % NUMBERS.length];
                int partition = n % 3 == 0 ? Integer.MAX_VALUE : n;
                n++;
                show("heartbeat", new Heartbeat(a, b, x), a, b, "", 0, x, 0);
                show("checkpoint", new Checkpoint(a, new TopicPartition(b, partition), x, y, b), a, b, b, partition, x, y);
                if (a.isEmpty()) {
                    Class<?> c = Class.forName("org.apache.kafka.connect.mirror.OffsetSync");
                    Constructor<?> made = c.getDeclaredConstructor(TopicPartition.class, long.class, long.class);
                    made.setAccessible(true);
                    show("offset-sync", made.newInstance(new TopicPartition(b, partition), x, y), b, "", "", partition, x, y);
                }
            }
        }
    }

    static void show(String kind, Object record, String a, String b, String c, int partition, long x, long y) throws Exception {
        System.out.printf("{\"kind\":%s,\"a\":%s,\"b\":%s,\"c\":%s,\"partition\":%d,\"x\":%d,\"y\":%d,\"key\":\"%s\",\"value\":\"%s\"}%n",
            quoted(kind), quoted(a), quoted(b), quoted(c), partition, x, y, bytes(record, "recordKey"), bytes(record, "recordValue"));
    }

    static String bytes(Object record, String method) throws Exception {
        Method m = record.getClass().getDeclaredMethod(method);
        m.setAccessible(true);
        return HexFormat.of().formatHex((byte[]) m.invoke(record));
    }

    static String quoted(String s) {
        StringBuilder b = new StringBuilder("\"");
        for (char c : s.toCharArray()) {
            b.append(c < 0x20 || c > 0x7e || c == '"' || c == '\\' ? String.format("\\u%04x", (int) c) : String.valueOf(c));
        }
        return b.append('"').toString();
    }

    static void read(String bootstrap, String alias, String group) throws Exception {
        Map<String, Object> props = new HashMap<>();
        props.put("bootstrap.servers", bootstrap);
        try (MirrorClient client = new MirrorClient(props)) {
            System.out.println("heartbeat topics " + new TreeSet<>(client.heartbeatTopics()));
            System.out.println("checkpoint topics " + new TreeSet<>(client.checkpointTopics()));
            System.out.println("upstream clusters " + new TreeSet<>(client.upstreamClusters()));
            System.out.println("remote topics " + new TreeSet<>(client.remoteTopics(alias)));
            System.out.println("hops " + client.replicationHops(alias));
        }
        Map<TopicPartition, OffsetAndMetadata> offsets = RemoteClusterUtils.translateOffsets(props, alias, group, Duration.ofSeconds(20));
        Map<String, String> sorted = new TreeMap<>();
        offsets.forEach((p, o) -> sorted.put(p.toString(), o.offset() + " " + o.metadata()));
        System.out.println("offsets " + sorted);
    }
}
