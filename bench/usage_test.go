package main

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestProcessTimeIsUserAndSystem(t *testing.T) {
	t.Parallel()
	stat := "4242 (a (strange) name) S 1 4242 4242 0 -1 4194304 9 9 9 9 1234 66 7 8 20 0 11 0 100 200 300"
	got, err := processTime([]byte(stat))
	if err != nil || got != 13*time.Second {
		t.Errorf("processor time of %q: %s, %v; want 13s", stat, got, err)
	}
	if _, err := processTime([]byte("1 (x) S 1 2")); err == nil {
		t.Error("a line that is too short gave no error")
	}
}

func TestMachineTimeIsAllButIdle(t *testing.T) {
	t.Parallel()
	stat := "cpu  100 10 200 99999 88888 5 15 70 40 4\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
	got, err := machineTime([]byte(stat))
	if err != nil || got != 4*time.Second {
		t.Errorf("processor time of %q: %s, %v; want 4s", stat, got, err)
	}
	if _, err := machineTime([]byte("intr 1 2")); err == nil {
		t.Error("another line gave no error")
	}
}

func TestUsageOfThisProcessCanBeRead(t *testing.T) {
	t.Parallel()
	u, err := meter{}.read()
	if err != nil || u.machine == 0 {
		t.Errorf("usage of the machine: %s, %v", u.machine, err)
	}
	if peak, now := memoryIn("Name:\tjava\nVmHWM:\t  2048 kB\nVmRSS:\t1024 kB\nThreads:\t7\n"); peak != 2<<20 || now != 1<<20 {
		t.Errorf("memory: peak %d, now %d; want 2 MiB, 1 MiB", peak, now)
	}
}

// batchOf makes a batch of version 2 with some bytes as records.
func batchOf(base int64, count uint32, payload int) batch {
	b := make(batch, batchHeader+payload)
	binary.BigEndian.PutUint64(b, uint64(base))
	binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[atLastDelta:], count-1)
	binary.BigEndian.PutUint64(b[atProducer:], 77)
	binary.BigEndian.PutUint32(b[atCount:], count)
	for i := batchHeader; i < len(b); i++ {
		b[i] = byte(i)
	}
	return b
}

func TestSplitGivesWholeBatchesOnly(t *testing.T) {
	t.Parallel()
	first, second := batchOf(5, 3, 40), batchOf(8, 1, 0)
	all := slices.Concat(first, second)
	for cut := range len(all) + 1 {
		whole := 0
		for b, rest := split(all[:cut]); b != nil; b, rest = split(rest) {
			whole++
			if want := []int64{7, 8}[whole-1]; b.last() != want {
				t.Fatalf("last offset of batch %d: %d, want %d", whole, b.last(), want)
			}
		}
		want := 0
		if cut >= len(first) {
			want++
		}
		if cut == len(all) {
			want++
		}
		if whole != want {
			t.Errorf("%d of %d bytes: %d batches, want %d", cut, len(all), whole, want)
		}
	}
	negative := batchOf(0, 1, 0)
	binary.BigEndian.PutUint32(negative[atLength:], 3)
	if b, _ := split(negative); b != nil {
		t.Error("a batch that is shorter than its header was taken")
	}
}

func TestBareTakesTheProducerOff(t *testing.T) {
	t.Parallel()
	b := batchOf(1234, 10, 100)
	records := slices.Clone(b[batchHeader:])
	bare(b)
	if base, id := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[atProducer:]); base != 0 || id != 1<<64-1 {
		t.Errorf("base offset %d, producer id %d; want 0 and -1", base, int64(id))
	}
	if got, want := binary.BigEndian.Uint32(b[atCRC:]), crc32.Checksum(b[atAttributes:], castagnoli); got != want {
		t.Errorf("CRC %x, want %x", got, want)
	}
	if b.count() != 10 || !slices.Equal(b[batchHeader:], records) {
		t.Error("count or records were changed")
	}
}

func TestDigestTellsWhatDiffers(t *testing.T) {
	t.Parallel()
	when := time.UnixMilli(1000)
	base := kgo.Record{Timestamp: when, Key: []byte("k"), Value: []byte("v"), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("1")}}}
	sum := func(records ...kgo.Record) digest {
		var d digest
		for _, r := range records {
			d.add(&r)
		}
		return d
	}
	change := func(f func(*kgo.Record)) kgo.Record {
		r := base
		f(&r)
		return r
	}
	for name, other := range map[string]kgo.Record{
		"value":        change(func(r *kgo.Record) { r.Value = []byte("w") }),
		"null key":     change(func(r *kgo.Record) { r.Key = nil }),
		"empty key":    change(func(r *kgo.Record) { r.Key = []byte{} }),
		"shifted":      change(func(r *kgo.Record) { r.Key, r.Value = []byte("kv"), []byte{} }),
		"time":         change(func(r *kgo.Record) { r.Timestamp = time.UnixMilli(1001) }),
		"header":       change(func(r *kgo.Record) { r.Headers = []kgo.RecordHeader{{Key: "h"}} }),
		"more headers": change(func(r *kgo.Record) { r.Headers = append(slices.Clone(r.Headers), r.Headers...) }),
	} {
		if sum(base) == sum(other) {
			t.Errorf("%s: the digest is the same", name)
		}
	}
	second := change(func(r *kgo.Record) { r.Value = []byte("second") })
	if sum(base, second) == sum(second, base) {
		t.Error("records in another order have the same digest")
	}
	for want, copied := range map[string]digest{"": sum(base, second), "1 records missing": sum(base), "1 records too many": sum(base, second, second), "1 partitions differ": sum(second, base)} {
		if got := compare([]digest{sum(base, second)}, []digest{copied}); got != want {
			t.Errorf("compare: %q, want %q", got, want)
		}
	}
}

func TestACopyIsCompleteBesideItsMarkers(t *testing.T) {
	t.Parallel()
	w := &watcher{want: []int64{10, 5}}
	if !w.complete([]int64{11, 5}, []int64{1, 0}) {
		t.Error("10 records and a marker, 5 records: not complete")
	}
	if w.complete([]int64{10, 5}, []int64{1, 0}) {
		t.Error("9 records and a marker: complete")
	}
}

func TestArgumentsChooseWhatIsMeasured(t *testing.T) {
	t.Parallel()
	p, err := parse([]string{"-quick", "-results", "somewhere"}, io.Discard)
	if err != nil || len(p.profiles) != 1 || p.profiles[0].records != quickRecords || p.results != "" {
		t.Errorf("a quick run: %v, %d profiles, results in %q; want the main one only, no file", err, len(p.profiles), p.results)
	}
	p, err = parse([]string{"-results", "somewhere"}, io.Discard)
	if err != nil || len(p.profiles) != len(profiles()) || !p.whole || p.results != "somewhere" || !slices.Equal(p.kinds, allKinds) {
		t.Errorf("a whole run: %v, %+v", err, p)
	}
	p, err = parse([]string{"-profiles", "small,wide", "-records", "10", "-without", "mm2,once", "-keep", "-results", "f"}, io.Discard)
	if err != nil || len(p.profiles) != 2 || p.profiles[1].records != 10 || p.results != "f" || !slices.Equal(p.kinds, []kind{rawFetch, rawLoop, ours}) {
		t.Errorf("some profiles: %v, %+v", err, p)
	}
	for _, wrong := range [][]string{{"-profiles", "none"}, {"-parts", "none"}, {"main"}} {
		if _, err := parse(wrong, io.Discard); err == nil {
			t.Errorf("%v was taken", wrong)
		}
	}
}
