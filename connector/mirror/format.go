package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// This file is the format of the records that MirrorMaker 2 keeps in topics of its own, byte for byte as the classes
// Heartbeat, Checkpoint and OffsetSync of Kafka 4.3.1 write them: numbers are big-endian, a string has its length
// in bytes before it as an int16. None of the records has headers; all stand in partition 0 of a compacted topic.

// errFormat says that a record is not one of MirrorMaker's, or damaged.
var errFormat = errors.New("malformed record")

// errTooLong says that a string does not fit in the format.
var errTooLong = errors.New("longer than 32767 bytes")

// formatVersion is what values of heartbeats and checkpoints begin with. Kafka has had no other.
const formatVersion = 0

// Heartbeat says that the link from Source to Target was alive at Timestamp. There is one record of each link in
// the topic heartbeats.
type Heartbeat struct {
	Source, Target string // aliases
	Timestamp      int64  // ms since 1970
}

// Encode returns the record's key and value.
func (h Heartbeat) Encode() (key, value []byte, err error) {
	key, err = appendStrings(nil, h.Source, h.Target)
	value = binary.BigEndian.AppendUint16(nil, formatVersion)
	return key, binary.BigEndian.AppendUint64(value, uint64(h.Timestamp)), err
}

// DecodeHeartbeat reads a record of a topic of heartbeats. Like Java's classes it does not mind bytes
// that follow.
func DecodeHeartbeat(key, value []byte) (Heartbeat, error) {
	k, v := formatReader{b: key}, formatReader{b: value}
	h := Heartbeat{Source: k.string(), Target: k.string()}
	v.version()
	h.Timestamp = v.int64()
	return h, recordError("heartbeat", k, v)
}

// Checkpoint says where a group that has read a partition of the source up to Upstream goes on at the target.
type Checkpoint struct {
	Group      string
	Topic      string // at the target
	Partition  int32
	Upstream   int64 // the group's committed offset at the source
	Downstream int64 // the same at the target
	Metadata   string
}

// Encode returns the record's key and value.
func (c Checkpoint) Encode() (key, value []byte, err error) {
	key, err = appendStrings(nil, c.Group, c.Topic)
	key = binary.BigEndian.AppendUint32(key, uint32(c.Partition))
	value = binary.BigEndian.AppendUint16(nil, formatVersion)
	value = binary.BigEndian.AppendUint64(value, uint64(c.Upstream))
	value = binary.BigEndian.AppendUint64(value, uint64(c.Downstream))
	value, err2 := appendStrings(value, c.Metadata)
	return key, value, errors.Join(err, err2)
}

// DecodeCheckpoint reads a record of a topic of checkpoints.
func DecodeCheckpoint(key, value []byte) (Checkpoint, error) {
	k, v := formatReader{b: key}, formatReader{b: value}
	c := Checkpoint{Group: k.string(), Topic: k.string(), Partition: k.int32()}
	v.version()
	c.Upstream, c.Downstream, c.Metadata = v.int64(), v.int64(), v.string()
	return c, recordError("checkpoint", k, v)
}

// OffsetSync says that the record at Upstream of a source partition stands at Downstream in its copy.
type OffsetSync struct {
	Topic                string // at the source
	Partition            int32
	Upstream, Downstream int64
}

// Encode returns the record's key and value, which has no version.
func (o OffsetSync) Encode() (key, value []byte, err error) {
	key, err = appendStrings(nil, o.Topic)
	key = binary.BigEndian.AppendUint32(key, uint32(o.Partition))
	value = binary.BigEndian.AppendUint64(nil, uint64(o.Upstream))
	return key, binary.BigEndian.AppendUint64(value, uint64(o.Downstream)), err
}

// DecodeOffsetSync reads a record of a topic of offset-syncs.
func DecodeOffsetSync(key, value []byte) (OffsetSync, error) {
	k, v := formatReader{b: key}, formatReader{b: value}
	o := OffsetSync{Topic: k.string(), Partition: k.int32(), Upstream: v.int64(), Downstream: v.int64()}
	return o, recordError("offset-sync", k, v)
}

// appendStrings appends strings with their lengths.
func appendStrings(b []byte, all ...string) ([]byte, error) {
	for _, s := range all {
		if len(s) > math.MaxInt16 {
			return b, fmt.Errorf("%.40q…: %w", s, errTooLong)
		}
		b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
		b = append(b, s...)
	}
	return b, nil
}

// formatReader reads fields one after the other; after the first that is wrong all are zero.
type formatReader struct {
	b   []byte
	err error
}

func (r *formatReader) take(n int) []byte {
	if r.err == nil && len(r.b) < n {
		r.err = fmt.Errorf("%w: %d bytes are left of at least %d", errFormat, len(r.b), n)
	}
	if r.err != nil {
		return make([]byte, 8)
	}
	taken := r.b[:n:n]
	r.b = r.b[n:]
	return taken
}

func (r *formatReader) int16() int16 { return int16(binary.BigEndian.Uint16(r.take(2))) }
func (r *formatReader) int32() int32 { return int32(binary.BigEndian.Uint32(r.take(4))) }
func (r *formatReader) int64() int64 { return int64(binary.BigEndian.Uint64(r.take(8))) }

// string reads a string. What is no UTF-8 becomes U+FFFD, as in Java.
func (r *formatReader) string() string {
	n := int(r.int16())
	if r.err == nil && n < 0 {
		r.err = fmt.Errorf("%w: a string of length %d", errFormat, n)
	}
	text := r.take(max(0, n))
	if r.err != nil {
		return ""
	}
	return strings.ToValidUTF8(string(text), string(utf8.RuneError))
}

func (r *formatReader) version() {
	if v := r.int16(); r.err == nil && v != formatVersion {
		r.err = fmt.Errorf("%w: version %d, where only %d is known", errFormat, v, formatVersion)
	}
}

func recordError(kind string, key, value formatReader) error {
	if key.err != nil {
		return fmt.Errorf("key of a %s: %w", kind, key.err)
	}
	if value.err != nil {
		return fmt.Errorf("value of a %s: %w", kind, value.err)
	}
	return nil
}
