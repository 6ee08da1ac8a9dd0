package rawcopy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// FuzzSplitJudgeRewrite takes any bytes for a fetch response: nothing panics, all bytes are
// accounted for, and a CRC is right afterwards if and only if it was before.
func FuzzSplitJudgeRewrite(f *testing.F) {
	for _, raw := range vectors(f) {
		f.Add(raw[:min(len(raw), 2000)], int64(1000), true)
	}
	two := slices.Concat([]byte(nil), []byte(header{base: 5, count: 1, lastDelta: 1, attributes: 3, producer: 1}.batch([]byte("payload"))), []byte(header{base: 7, count: 1, attributes: transactionalBit, producer: 1}.batch(nil)))
	f.Add(two, int64(0), false)
	f.Add(append(two, two[:40]...), int64(6), true)
	f.Fuzz(func(t *testing.T, raw []byte, want int64, committed bool) {
		var a *Aborter
		if committed {
			a = &Aborter{}
			a.Begin(abortedList(1, 0, 42, 1000, 1, 6))
		}
		for rest := slices.Clone(raw); ; {
			b, more, err := Split(rest)
			if err != nil && (!errors.Is(err, ErrCorrupt) || len(b) > 0) {
				t.Fatalf("%d bytes, error %v", len(b), err)
			}
			if len(b) == 0 {
				return
			}
			if len(b)+len(more) != len(rest) || int(binary.BigEndian.Uint32(b[atLength:]))+prefixLength != len(b) {
				t.Fatalf("%d and %d bytes of %d", len(b), len(more), len(rest))
			}
			intact := b.intact()
			verdict, reason := Judge(b, want, a, Limits{MaxBytes: 1000, KeepAppendTime: true, Codecs: 0x0f})
			if verdict == Skip && !intact {
				t.Fatalf("skipped as %q, but it is damaged", reason)
			}
			if (verdict == Raw) != (reason == reasonNone) {
				t.Fatalf("verdict %d for %q", verdict, reason)
			}
			if verdict == Raw {
				source := slices.Clone(b)
				Rewrite(b, Stamp{ProducerID: want, Epoch: 1, BaseSequence: 2, Transactional: committed})
				if b.intact() != intact {
					t.Fatalf("the CRC was right: %v; is: %v", intact, b.intact())
				}
				if intact && !SamePayload(source, b) {
					t.Fatal("the copy is not the same")
				}
			}
			rest = more
		}
	})
}

// FuzzDecode takes any bytes for a batch whose CRC is right. What is decoded can be encoded, and
// is what another library decodes.
func FuzzDecode(f *testing.F) {
	for _, raw := range vectors(f) {
		b, _, _ := Split(raw)
		f.Add([]byte(b[:min(len(b), 3000)]), int64(1000))
	}
	small := []Record{{Key: []byte("key"), Value: []byte("value")}, {Offset: 1, Timestamp: 5, Headers: []Header{{[]byte("h"), nil}}}}
	for codec := range lastCodec + 1 {
		encoded, err := Encode(small, codec, 0)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(encoded[0].Batch), int64(0))
	}
	f.Add(message(1, 5, 0, nil, []byte("v")), int64(0))
	f.Add(message(1, 5, 1, nil, gzipped(f, message(1, 0, 0, []byte{}, nil))), int64(0))
	f.Add(message(0, 5, 3, nil, lz4Frame(f, message(0, 5, 0, []byte{}, nil))), int64(0))
	f.Fuzz(func(t *testing.T, raw []byte, from int64) {
		const limit = 1 << 20
		if len(raw) < leastMagic0 || len(raw) > 1<<16 {
			return
		}
		raw = slices.Clone(raw)
		binary.BigEndian.PutUint32(raw[atLength:], uint32(len(raw)-prefixLength))
		b, _, err := Split(raw)
		if err != nil || len(b) == 0 {
			return
		}
		if b.old() {
			binary.BigEndian.PutUint32(b[atOldCRC:], crc32.ChecksumIEEE(b[atMagic:]))
		} else {
			b.reseal()
		}
		records, err := Decode(b, from, limit, nil)
		if err != nil {
			if len(records) > 0 || !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("%d records, %v", len(records), err)
			}
			return
		}
		previous := int64(-1)
		for _, r := range records {
			if r.Offset <= previous || r.Offset < from || r.Offset > b.LastOffset() {
				t.Fatalf("offset %d after %d; from %d to %d are there", r.Offset, previous, from, b.LastOffset())
			}
			previous = r.Offset
		}
		encoded, err := Encode(records, codecLZ4, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkEncoded(encoded, records, codecLZ4, 10_000); err != nil {
			t.Fatal(err)
		}
		if from <= 0 {
			sameAsFranz(t, b, records)
		}
	})
}

// sameAsFranz compares with another library, where that one reads the batch too: it is stricter
// with the checksums within codecs, and in other places.
func sameAsFranz(t *testing.T, b Batch, records []Record) {
	t.Helper()
	rp := kmsg.NewFetchResponseTopicPartition()
	rp.RecordBatches = slices.Clone(b)
	fp, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{KeepControlRecords: true}, &rp, franzDecompressor, nil)
	if fp.Err != nil || len(fp.Records) != len(records) {
		return
	}
	for i, r := range fp.Records {
		if r.Offset != records[i].Offset || !bytes.Equal(r.Key, records[i].Key) || !bytes.Equal(r.Value, records[i].Value) || len(r.Headers) != len(records[i].Headers) {
			t.Fatalf("record %d: franz-go has %v, we %v", i, r, records[i])
		}
	}
}

// FuzzDecompress needs no CRC, no records.
func FuzzDecompress(f *testing.F) {
	for codec := codecGzip; codec <= lastCodec; codec++ {
		var c compressor
		packed, err := c.compress(bytes.Repeat([]byte("some text that repeats itself, "), 50), codec)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(codec), slices.Clone(packed), uint16(2000))
		f.Add(byte(codec), slices.Clone(packed), uint16(10))
	}
	f.Add(byte(codecLZ4), []byte{0x04, 0x22, 0x4d, 0x18, 0x40, 0x40, 0, 5, 0, 0, 0, 0x0f, 1, 0, 0, 0, 0, 0, 0, 0}, uint16(100))
	f.Fuzz(func(t *testing.T, codec byte, packed []byte, limit uint16) {
		got, err := decompress(nil, packed, int8(codec%8), int64(limit))
		if err == nil && len(got) > int(limit) {
			t.Fatalf("%d bytes, %d allowed", len(got), limit)
		}
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) {
			t.Fatal(err)
		}
	})
}
