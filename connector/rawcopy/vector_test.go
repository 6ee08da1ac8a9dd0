package rawcopy

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/e2e/kafka"
)

// The files in testdata/java were written by Kafka's own classes (testdata/Batches.java).

const (
	vectorTime = 1_700_000_000_000
	much       = 64 << 20
)

// vectorRecord is the i-th record of the vectors, as Batches.java makes it.
func vectorRecord(magic, i int) Record {
	r := Record{Offset: int64(1000 + i), Timestamp: int64(vectorTime + i*37%100)}
	if magic == 0 {
		r.Timestamp = -1
	}
	switch i % 5 {
	case 0:
	case 1:
		r.Key = []byte{}
	default:
		r.Key = fmt.Appendf(nil, "key-%d", i)
	}
	if i%7 != 3 {
		r.Value = make([]byte, i*1103%4001)
		state := uint32(i)
		for n := range r.Value {
			state = state*1103515245 + 12345
			r.Value[n] = byte(int('a') + (n/3+i)%26)
			if i%4 == 2 {
				r.Value[n] = byte(state >> 16)
			}
		}
	}
	if magic == 2 {
		for n := range i % 4 {
			h := Header{Key: fmt.Appendf(nil, "h%d", n)}
			switch n {
			case 1:
				h.Value = []byte{}
			case 2:
				h.Value = fmt.Appendf(nil, "header of %d", i)
			}
			r.Headers = append(r.Headers, h)
		}
	}
	return r
}

func vectorRecords(name string) []Record {
	magic := int(name[len("magic")] - '0')
	step := 1
	if strings.Contains(name, "compacted") || strings.Contains(name, "horizon") {
		step = 3
	}
	var all []Record
	for i := 0; i < 40; i += step {
		r := vectorRecord(magic, i)
		if strings.Contains(name, "appendtime") {
			r.Timestamp = vectorTime + 77
		}
		all = append(all, r)
	}
	return all
}

// vectors gives the batches that Kafka wrote, by name.
func vectors(t testing.TB) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/java/*.batch")
	if err != nil || len(names) < 18 {
		t.Fatalf("%d vectors: %v", len(names), err)
	}
	all := map[string][]byte{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(name), ".batch")] = text
	}
	return all
}

func decodeAll(t testing.TB, raw []byte, from int64) []Record {
	t.Helper()
	var all []Record
	for {
		b, rest, err := Split(raw)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) == 0 {
			if len(rest) > 0 {
				t.Fatalf("%d bytes are left over", len(rest))
			}
			return all
		}
		if all, err = Decode(b, from, much, all); err != nil {
			t.Fatal(err)
		}
		raw = rest
	}
}

func TestDecodeReadsWhatKafkaWrites(t *testing.T) {
	t.Parallel()
	for name, raw := range vectors(t) {
		if strings.HasPrefix(name, "marker") {
			continue
		}
		want := vectorRecords(name)
		if d := difference(want, decodeAll(t, raw, 0)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		i := slices.IndexFunc(want, func(r Record) bool { return r.Offset >= 1017 })
		if d := difference(want[i:], decodeAll(t, raw, 1017)); d != "" {
			t.Errorf("%s from 1017: %s", name, d)
		}
		if got := decodeAll(t, raw, 1040); len(got) != 0 {
			t.Errorf("%s: %d records behind the end", name, len(got))
		}
		if name == "magic0-lz4" {
			continue // franz-go minds the header's checksum, which Kafka makes wrong in magic 0
		}
		if d := difference(want, byFranz(t, raw)); d != "" {
			t.Errorf("%s: franz-go reads something else: %s", name, d)
		}
	}
}

// difference says how records differ, and tells null from empty.
func difference(want, got []Record) string {
	if reflect.DeepEqual(want, got) { // which is much faster
		return ""
	}
	return cmp.Diff(want, got)
}

var franzDecompressor = kgo.DefaultDecompressor()

// byFranz decodes with another library.
func byFranz(t testing.TB, raw []byte) []Record {
	t.Helper()
	rp := kmsg.NewFetchResponseTopicPartition()
	rp.RecordBatches = slices.Clone(raw)
	fp, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{}, &rp, franzDecompressor, nil)
	if fp.Err != nil {
		t.Fatal(fp.Err)
	}
	var all []Record
	for _, r := range fp.Records {
		o := Record{Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value}
		if r.Attrs.TimestampType() == -1 {
			o.Timestamp = -1
		}
		for _, h := range r.Headers {
			o.Headers = append(o.Headers, Header{[]byte(h.Key), h.Value})
		}
		all = append(all, o)
	}
	return all
}

// TestKafkaReadsWhatEncodeWrites has Kafka's own classes read our batches.
func TestKafkaReadsWhatEncodeWrites(t *testing.T) {
	t.Parallel()
	if _, err := kafka.Find(); err != nil {
		t.Skip(err)
	}
	root, err := kafka.Root()
	if err != nil {
		t.Fatal(err)
	}
	var file []byte
	var want strings.Builder
	next := int64(0)
	for codec := range lastCodec + 1 {
		for _, records := range [][]Record{vectorRecords("magic2-none"), vectorRecords("magic2-compacted"), {{Value: bytes.Repeat([]byte("x"), 200<<10)}}, {{}}} {
			encoded, err := Encode(records, codec, 48<<10)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range encoded {
				n := int(e.Batch.Count())
				Rewrite(e.Batch, Stamp{ProducerID: 8, Epoch: 2, BaseSequence: 5, Transactional: true})
				e.Batch.setBaseOffset(next)
				names := []string{"none", "gzip", "snappy", "lz4", "zstd"}
				latest := slices.MaxFunc(records[:n], func(a, b Record) int { return int(a.Timestamp - b.Timestamp) }).Timestamp
				fmt.Fprintf(&want, "batch %d %d %d %s %d 8 %d\n", len(e.Batch), next, next+int64(n)-1, names[codec], latest, n)
				for i, r := range records[:n] {
					fmt.Fprintf(&want, "%d %d %s %s", next+int64(i), r.Timestamp, sum(r.Key), sum(r.Value))
					for _, h := range r.Headers {
						fmt.Fprintf(&want, " %s=%s", h.Key, sum(h.Value))
					}
					want.WriteByte('\n')
				}
				file = append(file, e.Batch...)
				next += int64(n)
				records = records[n:]
			}
			if len(records) > 0 {
				t.Fatalf("codec %d: %d records are missing", codec, len(records))
			}
		}
	}
	name := filepath.Join(t.TempDir(), "batches")
	if err := os.WriteFile(name, file, 0o600); err != nil {
		t.Fatal(err)
	}
	java := exec.CommandContext(t.Context(), "java", "-cp", filepath.Join(root, ".cache", "kafka", kafka.Version, "libs", "*"), "testdata/Batches.java", "read", name)
	var said bytes.Buffer
	java.Stderr = &said
	got, err := java.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &said)
	}
	if d := cmp.Diff(strings.Split(want.String(), "\n"), strings.Split(string(got), "\n")); d != "" {
		t.Error(d)
	}
}

func sum(b []byte) string {
	if b == nil {
		return "null"
	}
	return fmt.Sprintf("%d:%08x", len(b), crc32.ChecksumIEEE(b))
}
