package rawcopy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrCorrupt is what errors about bytes are that no broker can have meant: a
// length that cannot be, a CRC that does not fit, records that do not fill their batch.
var ErrCorrupt = errors.New("corrupt record batch")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// Where the fields of a record batch stand (DefaultRecordBatch, magic 2). The
// first five are at the same place in messages of magic 0 and 1 (LegacyRecord),
// but for the leader epoch, where those have their CRC.
const (
	atBaseOffset      = 0
	atLength          = 8
	atLeaderEpoch     = 12
	atMagic           = 16
	atCRC             = 17
	atAttributes      = 21 // from here on the CRC covers
	atLastOffsetDelta = 23
	atFirstTimestamp  = 27
	atMaxTimestamp    = 35
	atProducerID      = 43
	atProducerEpoch   = 51
	atBaseSequence    = 53
	atCount           = 57
	atRecords         = 61

	prefixLength = 12 // base offset and length, which the length does not count

	atOldCRC        = 12
	atOldAttributes = 17
	atOldTimestamp  = 18 // magic 1 only
	leastMagic0     = prefixLength + 14
	leastMagic1     = prefixLength + 22
)

// The bits of a batch's attributes.
const (
	codecBits         = 0x07
	appendTimeBit     = 0x08
	transactionalBit  = 0x10
	controlBit        = 0x20
	deleteHorizonBits = 0x40
)

// Batch is one whole record batch, its prefix of 12 bytes included, as it stands
// in a fetch response. It aliases the response.
//
// The accessors need a batch that came from Split. What messages of magic 0 and 1
// do not have is given as Kafka gives it for them: no producer (-1), no leader
// epoch (-1), one record, no timestamp (-1) in magic 0.
type Batch []byte

// Split cuts the first whole batch off records. Without an error and without a
// batch there is nothing more: what is left, if anything, is the beginning of a
// batch that the fetch had no room for. The error (ErrCorrupt) says that the
// length of what comes next cannot be. Nothing but length and magic is checked.
func Split(records []byte) (b Batch, rest []byte, err error) {
	if len(records) < prefixLength {
		return nil, records, nil
	}
	length := int32(binary.BigEndian.Uint32(records[atLength:]))
	if length < leastMagic0-prefixLength {
		return nil, records, corrupt("length %d", length)
	}
	if len(records) <= atMagic {
		return nil, records, nil
	}
	least := atRecords
	switch magic := int8(records[atMagic]); {
	case magic < 0:
		return nil, records, corrupt("magic %d", magic)
	case magic == 0:
		least = leastMagic0
	case magic == 1:
		least = leastMagic1
	}
	whole := prefixLength + int64(length)
	if whole < int64(least) {
		return nil, records, corrupt("length %d is too small for magic %d", length, records[atMagic])
	}
	if whole > int64(len(records)) {
		return nil, records, nil
	}
	return Batch(records[:whole:whole]), records[whole:], nil
}

// Magic returns the version of the format: 2 since Kafka 0.11.
func (b Batch) Magic() int8 { return int8(b[atMagic]) }

func (b Batch) old() bool { return b[atMagic] < 2 }

// BaseOffset returns the offset of the first record, or of where it was before it was compacted
// away. For a compressed message of magic 0 or 1 only its content tells: it is 0.
func (b Batch) BaseOffset() int64 {
	if b.old() && b.Codec() != 0 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(b[atBaseOffset:]))
}

// LeaderEpoch returns the epoch of the leader that appended the batch, or -1.
func (b Batch) LeaderEpoch() int32 {
	if b.old() {
		return -1
	}
	return int32(binary.BigEndian.Uint32(b[atLeaderEpoch:]))
}

// CRC returns the checksum as it stands in the batch: CRC32C in magic 2, CRC32
// before.
func (b Batch) CRC() uint32 {
	if b.old() {
		return binary.BigEndian.Uint32(b[atOldCRC:])
	}
	return binary.BigEndian.Uint32(b[atCRC:])
}

// Attributes returns codec and flags.
func (b Batch) Attributes() int16 {
	if b.old() {
		return int16(b[atOldAttributes])
	}
	return int16(binary.BigEndian.Uint16(b[atAttributes:]))
}

// Codec returns the compression: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd; up to
// 7 if it is one that we do not know.
func (b Batch) Codec() int8 { return int8(b.Attributes() & codecBits) }

// LogAppendTime says that the records' timestamps are the batch's MaxTimestamp.
func (b Batch) LogAppendTime() bool { return b.Attributes()&appendTimeBit != 0 }

// Transactional says that the records count only once their transaction has
// been committed.
func (b Batch) Transactional() bool { return !b.old() && b.Attributes()&transactionalBit != 0 }

// Control says that there is no data in the batch, but a mark of the broker's.
func (b Batch) Control() bool { return !b.old() && b.Attributes()&controlBit != 0 }

// LastOffsetDelta returns how far the last offset is from the base offset.
// Compaction does not change it.
func (b Batch) LastOffsetDelta() int32 {
	if b.old() {
		return 0
	}
	return int32(binary.BigEndian.Uint32(b[atLastOffsetDelta:]))
}

// LastOffset returns the offset of the last record, or where it was.
func (b Batch) LastOffset() int64 {
	if b.old() {
		return int64(binary.BigEndian.Uint64(b[atBaseOffset:]))
	}
	return b.BaseOffset() + int64(b.LastOffsetDelta())
}

// FirstTimestamp returns what the records' timestamps are counted from, in
// milliseconds.
func (b Batch) FirstTimestamp() int64 {
	if b.old() {
		return b.MaxTimestamp()
	}
	return int64(binary.BigEndian.Uint64(b[atFirstTimestamp:]))
}

// MaxTimestamp returns the largest timestamp, in milliseconds, or -1.
func (b Batch) MaxTimestamp() int64 {
	switch b[atMagic] {
	case 0:
		return -1
	case 1:
		return int64(binary.BigEndian.Uint64(b[atOldTimestamp:]))
	}
	return int64(binary.BigEndian.Uint64(b[atMaxTimestamp:]))
}

// ProducerID returns who wrote the batch, or -1.
func (b Batch) ProducerID() int64 {
	if b.old() {
		return -1
	}
	return int64(binary.BigEndian.Uint64(b[atProducerID:]))
}

// ProducerEpoch returns the epoch of the producer id, or -1.
func (b Batch) ProducerEpoch() int16 {
	if b.old() {
		return -1
	}
	return int16(binary.BigEndian.Uint16(b[atProducerEpoch:]))
}

// BaseSequence returns the producer's sequence number of the first record, or -1.
func (b Batch) BaseSequence() int32 {
	if b.old() {
		return -1
	}
	return int32(binary.BigEndian.Uint32(b[atBaseSequence:]))
}

// Count returns how many records there are. For a compressed message of magic 0
// or 1 only its content tells: it is 1.
func (b Batch) Count() int32 {
	if b.old() {
		return 1
	}
	return int32(binary.BigEndian.Uint32(b[atCount:]))
}

// possible says what is wrong with the numbers of a header of magic 2, apart
// from its CRC.
func (b Batch) possible() error {
	base, delta, count := b.BaseOffset(), b.LastOffsetDelta(), b.Count()
	switch {
	case base < 0 || base > math.MaxInt64-math.MaxInt32:
		return corrupt("base offset %d", base)
	case delta < 0:
		return corrupt("last offset %d after the first", delta)
	case count < 0 || int64(count) > int64(delta)+1:
		return corrupt("%d records in %d offsets", count, int64(delta)+1)
	}
	return nil
}
