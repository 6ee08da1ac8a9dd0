import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.util.OptionalLong;
import java.util.Random;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.connect.mirror.OffsetSyncStore;

/**
 * Translates offsets with MirrorMaker's own store. A line is a store: whether only the last sync counts until the topic was read,
 * and what was done: s upstream downstream, e (the topic was read), t upstream answer (-1: too old, -2: none).
 *
 *   java -cp '.cache/kafka/4.3.1/libs/*' Syncs.java > syncs.txt
 */
public class Syncs {
    public static void main(String[] args) throws Exception {
        Constructor<?> sync = Class.forName("org.apache.kafka.connect.mirror.OffsetSync").getDeclaredConstructor(TopicPartition.class, long.class, long.class);
        sync.setAccessible(true);
        Constructor<OffsetSyncStore> made = OffsetSyncStore.class.getDeclaredConstructor();
        made.setAccessible(true);
        Method handle = OffsetSyncStore.class.getDeclaredMethod("handleRecord", ConsumerRecord.class);
        handle.setAccessible(true);
        TopicPartition tp = new TopicPartition("t", 0);
        for (int seed = 0; seed < 60; seed++) {
            Random random = new Random(seed);
            OffsetSyncStore store = made.newInstance();
            boolean must = random.nextInt(3) == 0;
            set(store, "initializationMustReadToEnd", must);
            StringBuilder line = new StringBuilder(must ? "must" : "all");
            long up = random.nextInt(3) == 0 ? Long.MAX_VALUE / 2 : random.nextInt(1000), down = random.nextInt(1000);
            int step = 1 << random.nextInt(12), end = random.nextInt(20);
            for (int i = 0; i < 60; i++) {
                if (i == end) {
                    set(store, "readToEnd", true);
                    line.append(" e");
                }
                switch (random.nextInt(40)) {
                    case 0 -> up = Math.max(0, up - random.nextInt(10 * step));
                    case 1 -> up += 1000L * step;
                    case 2 -> { }
                    default -> up += 1 + random.nextInt(step);
                }
                down += 1 + random.nextInt(step);
                Object s = sync.newInstance(tp, up, down);
                handle.invoke(store, new ConsumerRecord<>("x", 0, i, bytes(s, "recordKey"), bytes(s, "recordValue")));
                line.append(" s ").append(up).append(' ').append(down);
                if (i > end) {
                    for (int n = 0; n < 6; n++) {
                        long at = Math.max(0, n == 0 ? up : up + step - (long) (random.nextDouble() * step * i * 2));
                        OptionalLong answer = store.translateDownstream("g", tp, at);
                        line.append(" t ").append(at).append(' ').append(answer.isPresent() ? answer.getAsLong() : -2);
                    }
                }
            }
            System.out.println(line);
        }
    }

    static byte[] bytes(Object record, String method) throws Exception {
        Method m = record.getClass().getDeclaredMethod(method);
        m.setAccessible(true);
        return (byte[]) m.invoke(record);
    }

    static void set(OffsetSyncStore store, String field, boolean value) throws Exception {
        Field f = OffsetSyncStore.class.getDeclaredField(field);
        f.setAccessible(true);
        f.setBoolean(store, value);
    }
}
