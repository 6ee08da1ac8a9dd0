import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.zip.CRC32;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.MutableRecordBatch;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.utils.ByteBufferOutputStream;

/**
 * Writes batches with Kafka's own classes, and reads ours with them.
 *
 *   java -cp '.cache/kafka/4.3.1/libs/*' Batches.java write DIR
 *   java -cp '.cache/kafka/4.3.1/libs/*' Batches.java read FILE
 */
public class Batches {
    static final long TIME = 1_700_000_000_000L;

    public static void main(String[] args) throws Exception {
        if (args[0].equals("read")) {
            read(Path.of(args[1]));
            return;
        }
        Path dir = Path.of(args[1]);
        for (byte magic = 0; magic <= 2; magic++) {
            for (CompressionType type : CompressionType.values()) {
                if (type == CompressionType.ZSTD && magic < 2) {
                    continue;
                }
                TimestampType time = magic == 0 ? TimestampType.NO_TIMESTAMP_TYPE : TimestampType.CREATE_TIME;
                write(dir, "magic" + magic + "-" + type.name, magic, type, time, 1, false, RecordBatch.NO_TIMESTAMP);
            }
        }
        write(dir, "magic1-lz4-appendtime", (byte) 1, CompressionType.LZ4, TimestampType.LOG_APPEND_TIME, 1, false, RecordBatch.NO_TIMESTAMP);
        write(dir, "magic2-zstd-appendtime", (byte) 2, CompressionType.ZSTD, TimestampType.LOG_APPEND_TIME, 1, false, RecordBatch.NO_TIMESTAMP);
        write(dir, "magic2-lz4-compacted", (byte) 2, CompressionType.LZ4, TimestampType.CREATE_TIME, 3, false, RecordBatch.NO_TIMESTAMP);
        write(dir, "magic2-snappy-transactional", (byte) 2, CompressionType.SNAPPY, TimestampType.CREATE_TIME, 1, true, RecordBatch.NO_TIMESTAMP);
        write(dir, "magic2-gzip-horizon", (byte) 2, CompressionType.GZIP, TimestampType.CREATE_TIME, 3, false, TIME + 5000);
        for (ControlRecordType type : new ControlRecordType[] {ControlRecordType.ABORT, ControlRecordType.COMMIT}) {
            MemoryRecords marker = MemoryRecords.withEndTransactionMarker(1000, TIME, 7, 42L, (short) 3, new EndTransactionMarker(type, 5));
            put(dir, "marker-" + type.name().toLowerCase(), marker.buffer());
        }
    }

    /** Records 0 to 39; every step-th of them is there. */
    static void write(Path dir, String name, byte magic, CompressionType type, TimestampType time, int step, boolean transactional, long horizon)
            throws Exception {
        ByteBufferOutputStream out = new ByteBufferOutputStream(1 << 10);
        MemoryRecordsBuilder b = new MemoryRecordsBuilder(out, magic, Compression.of(type).build(), time, 1000L, TIME + 77,
            transactional ? 42L : -1L, (short) (transactional ? 3 : -1), transactional ? 17 : -1, transactional, false, magic < 2 ? -1 : 7, 1 << 20, horizon);
        for (int i = 0; i < 40; i += step) {
            long at = magic == 0 ? -1 : TIME + i * 37 % 100;
            b.appendWithOffset(1000 + i, at, key(i), value(i), magic < 2 ? new Header[0] : headers(i));
        }
        if (step > 1) {
            b.overrideLastOffset(1039);
        }
        put(dir, name, b.build().buffer());
    }

    static byte[] key(int i) {
        return i % 5 == 0 ? null : i % 5 == 1 ? new byte[0] : ("key-" + i).getBytes(StandardCharsets.UTF_8);
    }

    /** 0 to 4,000 bytes, every fourth of them without a pattern. */
    static byte[] value(int i) {
        if (i % 7 == 3) {
            return null;
        }
        byte[] v = new byte[i * 1103 % 4001];
        int state = i;
        for (int n = 0; n < v.length; n++) {
            state = state * 1103515245 + 12345;
            v[n] = i % 4 == 2 ? (byte) (state >>> 16) : (byte) ('a' + (n / 3 + i) % 26);
        }
        return v;
    }

    static Header[] headers(int i) {
        Header[] all = new Header[i % 4];
        for (int n = 0; n < all.length; n++) {
            byte[] v = n == 0 ? null : n == 1 ? new byte[0] : ("header of " + i).getBytes(StandardCharsets.UTF_8);
            all[n] = new RecordHeader("h" + n, v);
        }
        return all;
    }

    static void put(Path dir, String name, ByteBuffer buffer) throws Exception {
        byte[] all = new byte[buffer.remaining()];
        buffer.get(all);
        Files.write(dir.resolve(name + ".batch"), all);
    }

    /** One line for each batch and each record; contents by their CRC32. */
    static void read(Path file) throws Exception {
        StringBuilder out = new StringBuilder();
        MemoryRecords all = MemoryRecords.readableRecords(ByteBuffer.wrap(Files.readAllBytes(file)));
        if (all.validBytes() != all.sizeInBytes()) {
            throw new IllegalStateException(all.sizeInBytes() + " bytes, " + all.validBytes() + " of them valid");
        }
        for (MutableRecordBatch b : all.batches()) {
            b.ensureValid();
            out.append(String.format("batch %d %d %d %s %d %d %d%n", b.sizeInBytes(), b.baseOffset(), b.lastOffset(), b.compressionType().name, b.maxTimestamp(), b.producerId(), b.countOrNull()));
            for (Record r : b) {
                r.ensureValid();
                out.append(String.format("%d %d %s %s", r.offset(), r.timestamp(), sum(r.key()), sum(r.value())));
                for (Header h : r.headers()) {
                    out.append(' ').append(h.key()).append('=').append(sum(h.value() == null ? null : ByteBuffer.wrap(h.value())));
                }
                out.append('\n');
            }
        }
        System.out.print(out);
    }

    static String sum(ByteBuffer b) {
        if (b == null) {
            return "null";
        }
        CRC32 crc = new CRC32();
        int n = b.remaining();
        crc.update(b.duplicate());
        return String.format("%d:%08x", n, crc.getValue());
    }
}
