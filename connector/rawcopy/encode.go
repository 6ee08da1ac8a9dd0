package rawcopy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"sync"
)

// Encoded is a batch made of records.
type Encoded struct {
	// Batch has base offset 0 and no producer: Rewrite gives it one.
	Batch Batch
	// Spans are the source offsets of its records, in order.
	Spans []Span
	// UpTo is the source offset behind the last record.
	UpTo int64
}

// Span is Count source offsets in a row from Source on.
type Span struct{ Source, Count int64 }

const (
	// plainMax bounds what a compressed batch becomes at its reader, unless more is allowed of compressed bytes.
	plainMax = 4 << 20
	// recordMax bounds one record: lengths are int32.
	recordMax = math.MaxInt32 - 1<<20
	// firstRatio is how well the first batch is thought to compress; the others
	// will as the one before did.
	firstRatio = 2
	// spare is left below maxBytes where a size is estimated, in percent.
	spare = 5
	// keepScratch bounds what an encoder keeps for later.
	keepScratch = 8 << 20
)

type encoder struct {
	compressor
	plain []byte
	ends  []int // in plain, of each record
}

var encoders = sync.Pool{New: func() any { return new(encoder) }}

// Encode makes batches of records, compressed with codec, none with more than maxBytes (0: as large as
// batches get), prefix and header counted, but where one record alone has more. Offsets
// become consecutive; timestamps, headers and nulls stay. The same records give the same bytes.
// Errors say that codec is unknown, or that a record is larger than a batch can be.
func Encode(records []Record, codec int8, maxBytes int) ([]Encoded, error) {
	if codec < 0 || codec > lastCodec {
		return nil, fmt.Errorf("codec %d is none that we know", codec)
	}
	if maxBytes <= 0 {
		maxBytes = math.MaxInt32
	}
	e := encoders.Get().(*encoder)
	defer e.release()
	room := max(1, maxBytes-atRecords)
	most := room
	if codec != codecNone {
		most = min(firstRatio*room, max(plainMax, room))
	}
	var all []Encoded
	for len(records) > 0 {
		if err := e.fill(records, most); err != nil {
			return nil, err
		}
		packed, err := e.fit(codec, room)
		if err != nil {
			return nil, err
		}
		n, plain := len(e.ends), e.ends[len(e.ends)-1]
		all = append(all, finish(records[:n], packed, codec))
		records = records[n:]
		if codec != codecNone {
			most = min(max(1, estimate(plain, len(packed), room)), max(plainMax, room))
		}
	}
	return all, nil
}

// estimate returns how many bytes become room bytes if plain ones become
// packed ones, or a bit less.
func estimate(plain, packed, room int) int {
	return int(float64(plain) / float64(max(1, packed)) * float64(room) * (100 - spare) / 100)
}

// fill lays the first records out, as many as fit into most bytes, but one at least.
func (e *encoder) fill(records []Record, most int) error {
	e.plain, e.ends = e.plain[:0], e.ends[:0]
	first := records[0].Timestamp
	for i := range records {
		r := &records[i]
		body, err := r.size(first, i)
		if err != nil {
			return err
		}
		if i > 0 && (len(e.plain)+body+varintSize(int64(body)) > most || i == math.MaxInt32) {
			break
		}
		e.plain = r.append(e.plain, body, first, i)
		e.ends = append(e.ends, len(e.plain))
	}
	return nil
}

// fit compresses what was laid out, and less of it as long as it does not fit into room.
func (e *encoder) fit(codec int8, room int) ([]byte, error) {
	for tries := 1; ; tries++ {
		plain := e.plain[:e.ends[len(e.ends)-1]]
		packed, err := e.compress(plain, codec)
		if err != nil {
			return nil, fmt.Errorf("compress %d bytes: %w", len(plain), err)
		}
		if len(packed) <= room || len(e.ends) == 1 {
			if len(packed) > recordMax {
				return nil, errRecordTooLarge
			}
			return packed, nil
		}
		target := estimate(len(plain), len(packed), room)
		n := len(e.ends) - 1
		if tries > 3 { // some records compress much worse than the others
			n = (n + 1) / 2
		}
		for n > 1 && e.ends[n-1] > target {
			n--
		}
		e.ends = e.ends[:n]
	}
}

var errRecordTooLarge = errors.New("record is larger than a batch can be")

func (e *encoder) release() {
	if cap(e.plain)+cap(e.out)+e.window.Cap() < keepScratch {
		encoders.Put(e)
	}
}

// finish puts the header in front.
func finish(records []Record, packed []byte, codec int8) Encoded {
	b := make(Batch, atRecords+len(packed))
	copy(b[atRecords:], packed)
	first := records[0].Timestamp
	latest := first
	spans := make([]Span, 0, 1)
	for i := range records {
		latest = max(latest, records[i].Timestamp)
		if n := len(spans); n > 0 && records[i].Offset == spans[n-1].Source+spans[n-1].Count {
			spans[n-1].Count++
			continue
		}
		spans = append(spans, Span{Source: records[i].Offset, Count: 1})
	}
	count := uint32(len(records))
	binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-prefixLength))
	binary.BigEndian.PutUint32(b[atLeaderEpoch:], math.MaxUint32)
	b[atMagic] = 2
	binary.BigEndian.PutUint16(b[atAttributes:], uint16(codec))
	binary.BigEndian.PutUint32(b[atLastOffsetDelta:], count-1)
	binary.BigEndian.PutUint64(b[atFirstTimestamp:], uint64(first))
	binary.BigEndian.PutUint64(b[atMaxTimestamp:], uint64(latest))
	for i := atProducerID; i < atCount; i++ { // id, epoch and sequence: -1
		b[i] = 0xff
	}
	binary.BigEndian.PutUint32(b[atCount:], count)
	binary.BigEndian.PutUint32(b[atCRC:], b.sum())
	return Encoded{Batch: b, Spans: spans, UpTo: records[len(records)-1].Offset + 1}
}

// size returns how many bytes the record has as the i-th of a batch, its length
// not counted.
func (r *Record) size(first int64, i int) (int, error) {
	n := 1 + varintSize(r.Timestamp-first) + varintSize(int64(i)) + bytesSize(r.Key) + bytesSize(r.Value) + varintSize(int64(len(r.Headers)))
	for _, h := range r.Headers {
		n += varintSize(int64(len(h.Key))) + len(h.Key) + bytesSize(h.Value)
	}
	if n > recordMax {
		return 0, fmt.Errorf("%w: offset %d", errRecordTooLarge, r.Offset)
	}
	return n, nil
}

func (r *Record) append(to []byte, body int, first int64, i int) []byte {
	to = binary.AppendVarint(to, int64(body))
	to = append(to, 0) // attributes
	to = binary.AppendVarint(to, r.Timestamp-first)
	to = binary.AppendVarint(to, int64(i))
	to = appendBytes(to, r.Key)
	to = appendBytes(to, r.Value)
	to = binary.AppendVarint(to, int64(len(r.Headers)))
	for _, h := range r.Headers {
		to = binary.AppendVarint(to, int64(len(h.Key)))
		to = append(to, h.Key...)
		to = appendBytes(to, h.Value)
	}
	return to
}

func appendBytes(to, b []byte) []byte {
	if b == nil {
		return append(to, 1) // -1
	}
	return append(binary.AppendVarint(to, int64(len(b))), b...)
}

func bytesSize(b []byte) int {
	if b == nil {
		return 1
	}
	return varintSize(int64(len(b))) + len(b)
}

// varintSize returns how many bytes binary.AppendVarint writes.
func varintSize(n int64) int {
	return (bits.Len64(uint64(n<<1^n>>63)|1) + 6) / 7
}
