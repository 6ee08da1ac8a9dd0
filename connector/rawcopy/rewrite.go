package rawcopy

import "encoding/binary"

// Stamp is who writes a batch to the target: what a producer puts into the header.
type Stamp struct {
	ProducerID   int64
	Epoch        int16
	BaseSequence int32
	// Transactional says that the batch is part of a transaction.
	Transactional bool
}

// Rewrite makes b a batch that a producer may send, in place, at the same cost whatever its size.
// Base offset and leader epoch are given by the target's broker; of the attributes only the codec
// stays: that the batch was in a transaction of the source, the source's time of append and a delete
// horizon mean nothing at the target. The CRC is patched, not computed: a batch that was damaged on
// the way still is, for the broker to see. Rewrite may be applied again.
//
// b is of magic 2 (Judge gives Recode for others).
func Rewrite(b Batch, s Stamp) {
	before := b.headerCRC()
	attributes := uint16(b.Attributes() & codecBits)
	if s.Transactional {
		attributes |= transactionalBit
	}
	binary.BigEndian.PutUint64(b[atBaseOffset:], 0)
	binary.BigEndian.PutUint32(b[atLeaderEpoch:], 0xffffffff)
	binary.BigEndian.PutUint16(b[atAttributes:], attributes)
	binary.BigEndian.PutUint64(b[atProducerID:], uint64(s.ProducerID))
	binary.BigEndian.PutUint16(b[atProducerEpoch:], uint16(s.Epoch))
	binary.BigEndian.PutUint32(b[atBaseSequence:], uint32(s.BaseSequence))
	crc := b.CRC() ^ shift(before^b.headerCRC(), len(b)-atRecords)
	binary.BigEndian.PutUint32(b[atCRC:], crc)
}

// SamePayload says whether target is the raw copy of source: as many records in as many bytes with
// the same codec and timestamps, and the same content by their CRCs, which it relies on. The headers
// suffice: of the rest only the length is looked at. A broker that gives its own time of
// append puts it over the largest timestamp, so that is not compared then.
func SamePayload(source, target Batch) bool {
	if source.old() || target.old() || len(source) != len(target) || source.Count() != target.Count() || source.Codec() != target.Codec() ||
		source.LastOffsetDelta() != target.LastOffsetDelta() || source.FirstTimestamp() != target.FirstTimestamp() {
		return false
	}
	if source.MaxTimestamp() != target.MaxTimestamp() && !source.LogAppendTime() && !target.LogAppendTime() {
		return false
	}
	return source.CRC()^shift(source.headerCRC()^target.headerCRC(), len(source)-atRecords) == target.CRC()
}
