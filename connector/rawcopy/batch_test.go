package rawcopy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"
)

// header is what the tests' batches have besides their records.
type header struct {
	base       int64
	attributes int16
	lastDelta  int32
	first      int64
	latest     int64
	producer   int64
	epoch      int16
	sequence   int32
	count      int32
}

// batch makes a batch of magic 2 around any payload, with the right CRC.
func (h header) batch(payload []byte) Batch {
	b := make(Batch, atRecords+len(payload))
	copy(b[atRecords:], payload)
	binary.BigEndian.PutUint64(b[atBaseOffset:], uint64(h.base))
	binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-prefixLength))
	binary.BigEndian.PutUint32(b[atLeaderEpoch:], 9)
	b[atMagic] = 2
	binary.BigEndian.PutUint16(b[atAttributes:], uint16(h.attributes))
	binary.BigEndian.PutUint32(b[atLastOffsetDelta:], uint32(h.lastDelta))
	binary.BigEndian.PutUint64(b[atFirstTimestamp:], uint64(h.first))
	binary.BigEndian.PutUint64(b[atMaxTimestamp:], uint64(h.latest))
	binary.BigEndian.PutUint64(b[atProducerID:], uint64(h.producer))
	binary.BigEndian.PutUint16(b[atProducerEpoch:], uint16(h.epoch))
	binary.BigEndian.PutUint32(b[atBaseSequence:], uint32(h.sequence))
	binary.BigEndian.PutUint32(b[atCount:], uint32(h.count))
	return b.seal()
}

// seal gives a batch the CRC of its content.
func (b Batch) seal() Batch {
	binary.BigEndian.PutUint32(b[atCRC:], checksum(b[atAttributes:]))
	return b
}

// checksum is CRC32C, bit by bit.
func checksum(content []byte) uint32 {
	crc := ^uint32(0)
	for _, c := range content {
		crc ^= uint32(c)
		for range 8 {
			crc = crc>>1 ^ reversedCastagnoli&-(crc&1)
		}
	}
	return ^crc
}

func TestSplitCutsBatches(t *testing.T) {
	t.Parallel()
	one := header{base: 5, count: 1}.batch([]byte("one"))
	two := header{base: 6, count: 1}.batch(nil)
	old := vectors(t)["magic0-lz4"]
	log := slices.Concat([]byte(one), two, old, one[:len(one)-1])
	for i, want := range [][]byte{one, two, old} {
		b, rest, err := Split(log)
		if err != nil || !bytes.Equal(b, want) {
			t.Fatalf("batch %d: %d bytes, error %v; want %d bytes", i, len(b), err, len(want))
		}
		if cap(b) != len(b) {
			t.Errorf("batch %d can be appended to, over the next one", i)
		}
		log = rest
	}
	if b, rest, err := Split(log); len(b) != 0 || err != nil || len(rest) != len(one)-1 {
		t.Errorf("the last one is not whole: got %d bytes, %d left, error %v", len(b), len(rest), err)
	}
	for n := range one { // wherever the fetch was cut
		if b, _, err := Split(one[:n]); len(b) != 0 || err != nil {
			t.Errorf("%d bytes of a batch: got %d, error %v", n, len(b), err)
		}
	}
}

func TestSplitRefusesImpossibleLengths(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		length int32
		magic  byte
		bad    bool
	}{
		{"negative", -1, 2, true},
		{"most negative", math.MinInt32, 2, true},
		{"nothing", 0, 2, true},
		{"less than magic 0", 13, 0, true},
		{"magic 0", 14, 0, false},
		{"less than magic 1", 21, 1, true},
		{"magic 1", 22, 1, false},
		{"less than magic 2", 48, 2, true},
		{"magic 2", 49, 2, false},
		{"less than a magic to come", 48, 3, true},
		{"most", math.MaxInt32, 2, false}, // more than there is: the rest of it
		{"negative magic", 60, 0x80, true},
	} {
		b := make([]byte, 100)
		binary.BigEndian.PutUint32(b[atLength:], uint32(row.length))
		b[atMagic] = row.magic
		got, _, err := Split(b)
		if errors.Is(err, ErrCorrupt) != row.bad || err != nil && len(got) > 0 {
			t.Errorf("%s: got %d bytes, error %v", row.name, len(got), err)
		}
		if want := int(row.length) + prefixLength; !row.bad && row.length < 100 && len(got) != want {
			t.Errorf("%s: got %d bytes, want %d", row.name, len(got), want)
		}
	}
}

func TestHeadersAreReadAsKafkaWritesThem(t *testing.T) {
	t.Parallel()
	type fields struct {
		magic, codec                         int8
		base, last, first, latest, producer  int64
		delta, count, sequence, leader       int32
		epoch                                int16
		appendTime, transactional, isControl bool
	}
	for name, want := range map[string]fields{
		"magic2-snappy-transactional": {magic: 2, codec: 2, base: 1000, last: 1039, delta: 39, first: vectorTime, latest: vectorTime + 99, producer: 42, epoch: 3, sequence: 17, count: 40, leader: 7, transactional: true},
		"magic2-lz4-compacted":        {magic: 2, codec: 3, base: 1000, last: 1039, delta: 39, first: vectorTime, latest: vectorTime + 99, producer: -1, epoch: -1, sequence: -1, count: 14, leader: 7},
		"magic2-zstd-appendtime":      {magic: 2, codec: 4, base: 1000, last: 1039, delta: 39, first: vectorTime, latest: vectorTime + 77, producer: -1, epoch: -1, sequence: -1, count: 40, leader: 7, appendTime: true},
		"marker-abort":                {magic: 2, base: 1000, last: 1000, first: vectorTime, latest: vectorTime, producer: 42, epoch: 3, sequence: -1, count: 1, leader: 7, transactional: true, isControl: true},
		"magic0-none":                 {base: 1000, last: 1000, first: -1, latest: -1, producer: -1, epoch: -1, sequence: -1, count: 1, leader: -1},
		"magic1-gzip":                 {magic: 1, codec: 1, last: 1039, first: vectorTime + 99, latest: vectorTime + 99, producer: -1, epoch: -1, sequence: -1, count: 1, leader: -1},
		"magic1-lz4-appendtime":       {magic: 1, codec: 3, last: 1039, first: vectorTime + 77, latest: vectorTime + 77, producer: -1, epoch: -1, sequence: -1, count: 1, leader: -1, appendTime: true},
	} {
		b, _, err := Split(vectors(t)[name])
		if err != nil || len(b) == 0 {
			t.Fatalf("%s: %v", name, err)
		}
		got := fields{
			b.Magic(), b.Codec(), b.BaseOffset(), b.LastOffset(), b.FirstTimestamp(), b.MaxTimestamp(), b.ProducerID(),
			b.LastOffsetDelta(), b.Count(), b.BaseSequence(), b.LeaderEpoch(), b.ProducerEpoch(), b.LogAppendTime(), b.Transactional(), b.Control(),
		}
		if got != want {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, want)
		}
		if !b.intact() {
			t.Errorf("%s: the CRC is not what we compute", name)
		}
	}
}
