package rawcopy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// someText is n records of 1 KiB as of a log: half of it compresses away.
func someText(n int) []Record {
	random := rand.New(rand.NewPCG(1, 2))
	all := make([]Record, n)
	for i := range all {
		value := fmt.Appendf(nil, `{"id":%d,"customer":"%x","amount":%d,"text":"`, i, random.Uint64(), random.IntN(100000))
		for len(value) < 1022 {
			value = fmt.Appendf(value, "%x some words that come again ", random.Uint64())
		}
		all[i] = Record{Offset: int64(i), Timestamp: vectorTime + int64(i), Key: fmt.Appendf(nil, "%08x", random.Uint32()), Value: append(value[:1022], `"}`...)}
	}
	return all
}

func BenchmarkSplitJudgeRewrite(b *testing.B) {
	for _, size := range []int{16 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			log := slices.Repeat([]byte(header{count: 16, lastDelta: 15, attributes: 3, producer: -1}.batch(make([]byte, size-atRecords))), 4)
			l := Limits{MaxBytes: 2 << 20, KeepAppendTime: true, Codecs: 0x1f}
			a := &Aborter{}
			b.ReportAllocs()
			b.SetBytes(int64(size))
			b.ResetTimer()
			rest := log
			for n := range b.N {
				batch, more, err := Split(rest)
				if err != nil || len(batch) == 0 {
					b.Fatal(err)
				}
				if v, _ := Judge(batch, 0, a, l); v != Raw {
					b.Fatal(v)
				}
				Rewrite(batch, Stamp{ProducerID: 4711, BaseSequence: int32(n)})
				if rest = more; len(rest) == 0 {
					rest = log
				}
			}
		})
	}
}

func BenchmarkSamePayload(b *testing.B) {
	source := header{count: 16, lastDelta: 15, attributes: 3, producer: -1}.batch(make([]byte, 1<<20))
	target := slices.Clone(source)
	Rewrite(target, Stamp{ProducerID: 4711, BaseSequence: 1})
	b.ReportAllocs()
	for b.Loop() {
		if !SamePayload(source, target) {
			b.Fatal("not the same")
		}
	}
}

func BenchmarkDecodeEncode(b *testing.B) {
	records := someText(256)
	for codec, name := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		encoded, err := Encode(records, int8(codec), 0)
		if err != nil {
			b.Fatal(err)
		}
		plain := int64(len(encoded[0].Batch))
		if codec != 0 {
			whole, _ := Encode(records, 0, 0)
			plain = int64(len(whole[0].Batch))
		}
		batch := encoded[0].Batch
		var d Decoder
		var into []Record
		decode := func(b *testing.B) {
			d.Reset()
			var err error
			if into, err = d.Decode(batch, 0, much, into[:0]); err != nil {
				b.Fatal(err)
			}
		}
		encode := func(b *testing.B) {
			if _, err := Encode(records, int8(codec), 0); err != nil {
				b.Fatal(err)
			}
		}
		for part, work := range map[string][]func(*testing.B){"decode": {decode}, "encode": {encode}, "both": {decode, encode}} {
			b.Run(name+"/"+part, func(b *testing.B) {
				b.SetBytes(plain)
				b.ReportAllocs()
				for b.Loop() {
					for _, w := range work {
						w(b)
					}
				}
			})
		}
	}
}

// BenchmarkCoalesce makes large batches of those that have one record or five.
func BenchmarkCoalesce(b *testing.B) {
	for _, each := range []int{1, 5} {
		b.Run(fmt.Sprint(each), func(b *testing.B) {
			var batches []Batch
			var plain int64
			for records := range slices.Chunk(someText(500), each) {
				encoded, err := Encode(records, codecLZ4, 0)
				if err != nil {
					b.Fatal(err)
				}
				batches = append(batches, encoded[0].Batch)
				plain += int64(each) << 10
			}
			b.SetBytes(plain)
			b.ReportAllocs()
			for b.Loop() {
				j := &Job{batches: batches, firsts: make([]int64, len(batches)), codec: codecLZ4, max: coalescedBytes}
				if j.Run(); j.err != nil || len(j.encoded) == 0 {
					b.Fatal(j.err)
				}
			}
		})
	}
}
