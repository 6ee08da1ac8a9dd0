package rawcopy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

func TestDecodeReadsWhatOtherLibrariesCompress(t *testing.T) {
	t.Parallel()
	want := vectorRecords("magic2-none")
	encoded, err := Encode(want, codecNone, 0)
	if err != nil {
		t.Fatal(err)
	}
	plain := encoded[0].Batch[atRecords:]
	for name, row := range map[string]struct {
		codec  int8
		packed []byte
	}{
		"raw snappy":            {codecSnappy, s2.EncodeSnappy(nil, plain)},
		"lz4, 4 MiB blocks":     {codecLZ4, lz4Frame(t, plain, lz4.BlockSizeOption(lz4.Block4Mb))},
		"lz4, with checksums":   {codecLZ4, lz4Frame(t, plain, lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(true), lz4.BlockChecksumOption(true), lz4.SizeOption(uint64(len(plain))))},
		"lz4, best":             {codecLZ4, lz4Frame(t, plain, lz4.CompressionLevelOption(lz4.Level9))},
		"lz4, linked blocks":    {codecLZ4, linkedLZ4(t, plain)},
		"gzip in two parts":     {codecGzip, append(gzipped(t, plain[:1000]), gzipped(t, plain[1000:])...)},
		"zstd, size unknown":    {codecZstd, zstdStream(t, plain)},
		"zstd in two frames":    {codecZstd, append(zstdStream(t, plain[:1000]), zstdStream(t, plain[1000:])...)},
		"snappy in many blocks": {codecSnappy, manyBlocks(plain)},
	} {
		h := header{base: 1000, lastDelta: 39, count: 40, first: vectorTime, attributes: int16(row.codec)}
		got, err := Decode(h.batch(row.packed), 0, int64(len(plain))+40*recordMemory, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i := range got {
			got[i].Offset = want[i].Offset
		}
		if d := difference(want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if _, err := Decode(h.batch(row.packed), 0, int64(len(plain))-1, nil); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s, one byte less allowed than there is: %v", name, err)
		}
	}
}

func lz4Frame(t testing.TB, plain []byte, options ...lz4.Option) []byte {
	t.Helper()
	var out bytes.Buffer
	w := lz4.NewWriter(&out)
	if err := errors.Join(w.Apply(options...), second(w.Write(plain)), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func second[T any](_ T, err error) error { return err }

// linkedLZ4 makes a frame whose second block is a copy out of the first.
func linkedLZ4(t testing.TB, plain []byte) []byte {
	t.Helper()
	frame := append([]byte(nil), lz4FrameHeader...)
	frame[4] &^= lz4Independent
	half := len(plain) - 1000
	frame = binary.LittleEndian.AppendUint32(frame, uint32(half)|lz4Stored)
	frame = append(frame, plain[:half]...)
	// No literal, then 19+ bytes from 1000 before; the rest as it is.
	at := bytes.Index(plain[:half], plain[half:half+24])
	if at < 0 || half-at > math.MaxUint16 {
		t.Fatal("the records do not repeat themselves")
	}
	block := []byte{0x0f, byte(half - at), byte((half - at) >> 8), 24 - 19, 0xf0}
	for n := len(plain) - half - 24 - 15; ; n -= 255 {
		if n < 255 {
			block = append(block, byte(n))
			break
		}
		block = append(block, 255)
	}
	block = append(block, plain[half+24:]...)
	frame = binary.LittleEndian.AppendUint32(frame, uint32(len(block)))
	return append(append(frame, block...), 0, 0, 0, 0)
}

func gzipped(t testing.TB, plain []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if err := errors.Join(second(w.Write(plain)), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstdStream(t testing.TB, plain []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(second(w.Write(plain)), w.Flush(), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func manyBlocks(plain []byte) []byte {
	out := slices.Clone(xerialHeader)
	for block := range slices.Chunk(plain, 777) {
		packed := s2.EncodeSnappy(nil, block)
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(packed))), packed...)
	}
	return out
}

// body is a record of magic 2 without its length.
func body(offset byte, rest ...byte) []byte { return append([]byte{0, 0, offset * 2}, rest...) }

func TestDecodeRefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	record := func(b []byte) []byte { return append([]byte{byte(len(b) * 2)}, b...) }
	good := record(body(0, 1, 1, 0))
	next := record(body(1, 1, 1, 0))
	two := header{lastDelta: 1, count: 2}
	for name, b := range map[string]Batch{
		"a record is missing":           two.batch(good),
		"one too many":                  header{count: 1}.batch(slices.Concat(good, next)),
		"bytes behind":                  header{count: 1}.batch(append(slices.Clone(good), 0)),
		"an offset twice":               two.batch(slices.Concat(good, good)),
		"offsets that go back":          two.batch(slices.Concat(next, good)),
		"an offset behind the last":     header{count: 1}.batch(next),
		"a negative offset":             header{count: 1}.batch(record([]byte{0, 0, 1, 1, 1, 0})),
		"more records than bytes":       header{lastDelta: math.MaxInt32 - 1, count: math.MaxInt32}.batch(good),
		"more records than offsets":     header{count: 2}.batch(slices.Concat(good, next)),
		"a negative count":              header{count: -1}.batch(nil),
		"a negative last offset":        header{lastDelta: -1, count: 0}.batch(nil),
		"a negative base offset":        header{base: -1, count: 1}.batch(good),
		"the last offset is too large":  header{base: math.MaxInt64, lastDelta: 1, count: 1}.batch(good),
		"a length longer than the rest": header{count: 1}.batch([]byte{126, 0, 0, 0, 1, 1, 0}),
		"a length too short":            header{count: 1}.batch([]byte{10, 0, 0, 0, 1, 1, 0}),
		"a negative length":             header{count: 1}.batch([]byte{13, 0, 0, 0, 1, 1, 0}),
		"a key longer than the rest":    header{count: 1}.batch(record(body(0, 100, 1, 0))),
		"a value longer than the rest":  header{count: 1}.batch(record(body(0, 1, 100, 0))),
		"a number without an end":       header{count: 1}.batch(bytes.Repeat([]byte{0xff}, 20)),
		"headers without number":        header{count: 1}.batch(record(body(0, 1, 1, 1))),
		"more headers than bytes":       header{count: 1}.batch(record(body(0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f))),
		"a header without a key":        header{count: 1}.batch(record(body(0, 1, 1, 2, 1, 1))),
		"a codec that nobody knows":     header{count: 1, attributes: 5}.batch(good),
		"not gzip":                      header{count: 1, attributes: 1}.batch(good),
		"not snappy":                    header{count: 1, attributes: 2}.batch(good),
		"not lz4":                       header{count: 1, attributes: 3}.batch(good),
		"not zstd":                      header{count: 1, attributes: 4}.batch(good),
		"no gzip at all":                header{count: 1, attributes: 1}.batch(nil),
		"no snappy at all":              header{count: 1, attributes: 2}.batch(nil),
		"no lz4 at all":                 header{count: 1, attributes: 3}.batch(nil),
		"no zstd at all":                header{count: 1, attributes: 4}.batch(nil),
		"a magic to come":               func() Batch { b := header{count: 1}.batch(good); b[atMagic] = 3; return b }(),
		"a CRC that does not fit":       func() Batch { b := header{count: 1}.batch(good); b[atCRC]++; return b }(),
	} {
		into := []Record{{Offset: 1}}
		got, err := Decode(b, 0, 1<<20, into)
		if !errors.Is(err, ErrCorrupt) || len(got) != 1 {
			t.Errorf("%s: %d records, error %v", name, len(got)-1, err)
		}
	}
	if got, err := Decode(two.batch(slices.Concat(good, next)), 1, 1<<20, nil); err != nil || len(got) != 1 || got[0].Offset != 1 {
		t.Errorf("the good one: %v, %v", got, err)
	}
	if got, err := Decode(header{count: 0, lastDelta: 5, attributes: 4}.batch(nil), 0, 1<<20, nil); err != nil || len(got) != 0 {
		t.Errorf("nothing left after compaction: %v, %v", got, err)
	}
}

// message makes one of magic 0 or 1.
func message(magic byte, offset int64, attributes byte, key, value []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(offset))
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, magic, attributes)
	if magic == 1 {
		b = binary.BigEndian.AppendUint64(b, vectorTime)
	}
	for _, field := range [][]byte{key, value} {
		if field == nil {
			b = binary.BigEndian.AppendUint32(b, math.MaxUint32)
			continue
		}
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(field))), field...)
	}
	binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-prefixLength))
	binary.BigEndian.PutUint32(b[atOldCRC:], crc32.ChecksumIEEE(b[atMagic:]))
	return b
}

func TestDecodeRefusesOldSetsThatCannotBe(t *testing.T) {
	t.Parallel()
	inner := func(magic byte, offsets ...int64) []byte {
		var all []byte
		for _, o := range offsets {
			all = append(all, message(magic, o, 0, nil, []byte("v"))...)
		}
		return all
	}
	damaged := message(1, 5, 0, nil, []byte("value"))
	damaged[len(damaged)-1]++
	innerDamaged := inner(1, 0, 1)
	innerDamaged[len(innerDamaged)-1]++
	for name, b := range map[string][]byte{
		"damaged":                  damaged,
		"damaged inside":           message(1, 5, 1, nil, gzipped(t, innerDamaged)),
		"another magic inside":     message(1, 5, 1, nil, gzipped(t, inner(0, 4, 5))),
		"offsets that go back":     message(0, 5, 1, nil, gzipped(t, inner(0, 5, 4))),
		"offsets behind the set's": message(0, 5, 1, nil, gzipped(t, inner(0, 5, 6))),
		"offsets before the first": message(1, 2, 1, nil, gzipped(t, inner(1, 0, 1, 2, 3))),
		"nothing inside":           message(1, 5, 1, nil, gzipped(t, nil)),
		"null":                     message(1, 5, 1, nil, nil),
		"compressed twice":         message(1, 5, 1, nil, gzipped(t, message(1, 0, 1, nil, gzipped(t, inner(1, 0))))),
		"cut off inside":           message(1, 5, 1, nil, gzipped(t, inner(1, 0, 1)[:60])),
		"zstd":                     message(1, 5, 4, nil, zstdStream(t, inner(1, 0))),
		"a negative offset":        message(1, -1, 0, nil, nil),
		"bytes behind": func() []byte {
			b := append(message(1, 5, 0, nil, nil), 0)
			binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-prefixLength))
			binary.BigEndian.PutUint32(b[atOldCRC:], crc32.ChecksumIEEE(b[atMagic:]))
			return b
		}(),
	} {
		whole, _, err := Split(b)
		if err != nil || len(whole) == 0 {
			t.Fatalf("%s: Split: %v", name, err)
		}
		if got, err := Decode(whole, 0, 1<<20, nil); !errors.Is(err, ErrCorrupt) || len(got) != 0 {
			t.Errorf("%s: %d records, error %v", name, len(got), err)
		}
	}
	if got, err := Decode(message(1, 5, 1, nil, gzipped(t, inner(1, 0, 3))), 3, 1<<20, nil); err != nil || len(got) != 1 || got[0].Offset != 5 {
		t.Errorf("a good one with a gap: %v, %v", got, err)
	}
}

// allocated returns how many bytes f allocates, at the least of some runs: others allocate too.
func allocated(f func()) uint64 {
	least := uint64(math.MaxUint64)
	for range 20 { // the race detector has pools forget things
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}

// TestBombsAreRefusedInTime: what would become much more than allowed costs a small multiple of
// what is allowed, garbage counted, and what only says so costs next to nothing.
func TestBombsAreRefusedInTime(t *testing.T) {
	const limit = 1 << 20
	zeros := make([]byte, 64<<20)
	lying := func(name string) []byte {
		switch name {
		case "snappy":
			return s2.EncodeSnappy(nil, zeros)[:20]
		case "gzip":
			b := gzipped(t, []byte("x"))
			binary.LittleEndian.PutUint32(b[len(b)-4:], 1<<30)
			return b
		case "zstd": // a content size of 900,000 bytes, and nothing in it
			return []byte{0x28, 0xb5, 0x2f, 0xfd, 0x80, 0x58, 0xa0, 0xbb, 0x0d, 0x00, 0x01, 0x00, 0x00}
		case "zstd window": // of 512 MiB
			return []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x98, 0x01, 0x00, 0x00}
		}
		frame := append(slices.Clone(lz4FrameHeader), 5, 0, 0, 0, 0x0f, 1, 0, 0, 0, 0, 0, 0, 0)
		frame[5] = 0x70
		return frame
	}
	var level1 bytes.Buffer
	z, _ := zstd.NewWriter(&level1, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithSingleSegment(false))
	packedZstd := z.EncodeAll(zeros, nil)
	for _, row := range []struct {
		name   string
		codec  int16
		packed []byte
		most   uint64
		want   error
	}{
		{"gzip", 1, gzipped(t, zeros), 4 * limit, ErrTooLarge},
		{"snappy", 2, s2.EncodeSnappy(nil, zeros), limit, ErrTooLarge},
		{"xerial", 2, manyBlocks(zeros[:8<<20]), 4 * limit, ErrTooLarge},
		{"lz4", 3, lz4Frame(t, zeros), 4 * limit, ErrTooLarge},
		{"zstd", 4, packedZstd, limit, ErrTooLarge},
		{"zstd stream", 4, zstdStream(t, zeros), 7 * zstdLeast, ErrTooLarge},
		{"gzip that lies", 1, lying("gzip"), 256 << 10, ErrCorrupt},
		{"snappy that lies", 2, lying("snappy"), 32 << 10, ErrTooLarge},
		{"lz4 that lies", 3, lying("lz4"), 32 << 10, ErrCorrupt},
		{"zstd that lies", 4, lying("zstd"), 512 << 10, ErrCorrupt},
		{"zstd with a large window", 4, lying("zstd window"), 512 << 10, ErrTooLarge},
	} {
		b := header{count: 1, attributes: row.codec}.batch(nil)
		b = append(b, row.packed...)
		binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-prefixLength))
		b.reseal()
		var err error
		got := allocated(func() { _, err = Decode(b, 0, limit, nil) })
		if !errors.Is(err, row.want) {
			t.Errorf("%s: %v", row.name, err)
		}
		if got > row.most {
			t.Errorf("%s: %d bytes of memory for %d of batch, %d allowed (%v)", row.name, got, len(b), row.most, err)
		}
	}
}

// TestFieldsAreBounded: records of 7 bytes take 12 times as much in memory.
func TestFieldsAreBounded(t *testing.T) {
	const n = 200_000
	records := make([]Record, n)
	encoded, err := Encode(records, codecZstd, 0)
	if err != nil || len(encoded) != 1 {
		t.Fatal(len(encoded), err)
	}
	got := allocated(func() { _, err = Decode(encoded[0].Batch, 0, 4<<20, nil) })
	if !errors.Is(err, ErrTooLarge) || got > 32<<20 {
		t.Errorf("%v with %d bytes", err, got)
	}
	if !strings.Contains(err.Error(), "4194304") {
		t.Errorf("the limit is not named: %v", err)
	}
	if got, err := Decode(encoded[0].Batch, n-10, 4<<20, nil); err != nil || len(got) != 10 {
		t.Errorf("the last ten: %d, %v", len(got), err)
	}
	headers, err := Encode([]Record{{Headers: make([]Header, n)}}, codecLZ4, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(headers[0].Batch, 0, 4<<20, nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("headers: %v", err)
	}
}

func TestDecoderUsesItsMemoryAgain(t *testing.T) {
	want := vectorRecords("magic2-none")
	var batches []Batch
	for codec := range lastCodec + 1 {
		encoded, err := Encode(want, codec, 0)
		if err != nil {
			t.Fatal(err)
		}
		batches = append(batches, encoded[0].Batch)
	}
	var d Decoder
	var records []Record
	round := func() {
		d.Reset()
		records = records[:0]
		for _, b := range batches {
			var err error
			if records, err = d.Decode(b, 0, much, records); err != nil {
				t.Fatal(err)
			}
		}
	}
	round()
	if got := allocated(round); got > 64<<10 {
		t.Errorf("%d bytes of new memory", got)
	}
	for i, r := range records { // one batch's memory is not another's
		r.Offset = want[i%40].Offset
		if d := difference(want[i%40:i%40+1], []Record{r}); d != "" {
			t.Fatalf("record %d: %s", i, d)
		}
	}
}
