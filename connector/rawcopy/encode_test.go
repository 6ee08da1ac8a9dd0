package rawcopy

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
)

// someRecords makes records of all kinds: null, empty, long, with and without a
// pattern, with gaps between their offsets.
func someRecords(random *rand.Rand, n, most int) []Record {
	all := make([]Record, n)
	at := random.Int64N(1 << 40)
	field := func() []byte {
		switch random.IntN(6) {
		case 0:
			return nil
		case 1:
			return []byte{}
		case 2:
			return noise(random, random.IntN(most+1))
		}
		return bytes.Repeat([]byte{byte(random.Uint32())}, random.IntN(most+1))
	}
	for i := range all {
		all[i] = Record{Offset: at, Timestamp: vectorTime + random.Int64N(1e6) - 5e5, Key: field(), Value: field()}
		if random.IntN(20) == 0 {
			all[i].Timestamp = int64(random.Uint64())
		}
		for range random.IntN(4) * random.IntN(2) {
			key := field()
			if key == nil {
				key = []byte{}
			}
			all[i].Headers = append(all[i].Headers, Header{key, field()})
		}
		if at++; random.IntN(10) == 0 {
			at += random.Int64N(100)
		}
	}
	return all
}

func TestEncodedRecordsAreTheSame(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	for range 60 {
		records := someRecords(random, 1+random.IntN(400), []int{0, 10, 3000}[random.IntN(3)])
		codec := int8(random.IntN(int(lastCodec) + 1))
		most := []int{0, 1, 100, 5000, 100_000}[random.IntN(5)]
		encoded, err := Encode(records, codec, most)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkEncoded(encoded, records, codec, most); err != nil {
			t.Fatalf("%d records, codec %d, at most %d bytes: %v", len(records), codec, most, err)
		}
	}
}

// checkEncoded says what is wrong with batches made of records.
func checkEncoded(encoded []Encoded, records []Record, codec int8, most int) error {
	for i, e := range encoded {
		b, rest, err := Split(e.Batch)
		switch {
		case err != nil || len(rest) > 0:
			return fmt.Errorf("batch %d: %d bytes left over, %w", i, len(rest), err)
		case most > 0 && len(b) > most && b.Count() > 1:
			return fmt.Errorf("batch %d has %d bytes, and %d records", i, len(b), b.Count())
		case b.Codec() != codec || b.Attributes()&^codecBits != 0:
			return fmt.Errorf("batch %d has attributes %#x", i, b.Attributes())
		case b.ProducerID() != -1 || b.ProducerEpoch() != -1 || b.BaseSequence() != -1 || b.BaseOffset() != 0 || b.LeaderEpoch() != -1:
			return fmt.Errorf("batch %d says where it belongs", i)
		case b.Count() != b.LastOffsetDelta()+1:
			return fmt.Errorf("batch %d has gaps", i)
		}
		got, err := Decode(b, 0, math.MaxInt32, nil)
		if err != nil {
			return fmt.Errorf("batch %d: %w", i, err)
		}
		if len(got) > len(records) {
			return fmt.Errorf("batch %d: %d records of %d", i, len(got), len(records))
		}
		latest := int64(math.MinInt64)
		for n := range got {
			if got[n].Offset != int64(n) {
				return fmt.Errorf("batch %d: record %d is at %d", i, n, got[n].Offset)
			}
			latest = max(latest, got[n].Timestamp)
		}
		renumber(got, e.Spans)
		if d := difference(records[:len(got)], got); d != "" {
			return fmt.Errorf("batch %d: %s", i, d)
		}
		if b.MaxTimestamp() != latest || b.FirstTimestamp() != got[0].Timestamp || e.UpTo != got[len(got)-1].Offset+1 {
			return fmt.Errorf("batch %d: largest timestamp %d, want %d; up to %d", i, b.MaxTimestamp(), latest, e.UpTo)
		}
		for n, s := range e.Spans {
			if n > 0 && e.Spans[n-1].Source+e.Spans[n-1].Count == s.Source {
				return fmt.Errorf("batch %d: spans %v", i, e.Spans)
			}
		}
		records = records[len(got):]
	}
	if len(records) > 0 {
		return fmt.Errorf("%d records are missing", len(records))
	}
	return nil
}

// TestBatchesAreFilled: not one record each, however well they compress.
func TestBatchesAreFilled(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	for name, value := range map[string]func() []byte{
		"noise": func() []byte { return noise(random, 1000) },
		"text": func() []byte {
			return fmt.Appendf(nil, "%0500d %s", random.IntN(1000), bytes.Repeat([]byte("abcdefghij"), 50))
		},
		"mixed": func() []byte { return append(noise(random, 300), make([]byte, 700)...) },
	} {
		records := make([]Record, 4000)
		for i := range records {
			records[i] = Record{Offset: int64(i), Value: value()}
		}
		for codec := range lastCodec + 1 {
			const most = 100_000
			encoded, err := Encode(records, codec, most)
			if err != nil {
				t.Fatal(err)
			}
			if err := checkEncoded(encoded, records, codec, most); err != nil {
				t.Fatalf("%s, codec %d: %v", name, codec, err)
			}
			total, plain := 0, len(records)*1000
			for _, e := range encoded {
				total += len(e.Batch)
			}
			if few := max(total*3/2/most, plain/plainMax) + 2; len(encoded) > few {
				t.Errorf("%s, codec %d: %d batches for %d bytes, want at most %d", name, codec, len(encoded), total, few)
			}
		}
	}
}

func TestEncodeIsTheSameEachTimeFromManySides(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	var sets [][]Record
	want := map[int][]Encoded{}
	for i := range 10 {
		sets = append(sets, someRecords(random, 200, 2000))
		for codec := range lastCodec + 1 {
			encoded, err := Encode(sets[i], codec, 50_000)
			if err != nil {
				t.Fatal(err)
			}
			want[i*10+int(codec)] = encoded
		}
	}
	var all sync.WaitGroup
	for range 4 {
		order := random.Perm(50)
		all.Go(func() {
			for _, n := range order {
				i, codec := n/5, int8(n%5)
				got, err := Encode(sets[i], codec, 50_000)
				if err != nil || len(got) != len(want[i*10+int(codec)]) {
					t.Errorf("codec %d: %d batches, %v", codec, len(got), err)
					return
				}
				for k, e := range got {
					if !bytes.Equal(e.Batch, want[i*10+int(codec)][k].Batch) {
						t.Errorf("codec %d: batch %d is another one", codec, k)
					}
					if _, err := Decode(e.Batch, 0, much, nil); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	for _, codec := range []int8{-1, 5, 7} {
		if _, err := Encode([]Record{{}}, codec, 0); err == nil {
			t.Errorf("codec %d is taken", codec)
		}
	}
	if got, err := Encode(nil, 0, 0); err != nil || len(got) != 0 {
		t.Errorf("no records: %v, %v", got, err)
	}
	huge := make([]byte, 1<<30)
	if _, err := Encode([]Record{{Key: huge, Value: huge}}, 0, 0); err == nil {
		t.Error("a record of 2 GiB is taken")
	}
}
