// Package store keeps the internal topics of a worker cluster: it creates and
// checks them, reads them as logs, writes to them, and knows what Kafka Connect 4.3.1
// writes there, byte for byte. It decides nothing.
//
//   - Topics creates and checks; Log reads one topic and says when its end was reached.
//   - Leader appends to the config topic, fenced; Appender appends to the other two.
//   - DecodeConfig, DecodeStatus and ParseOffsetKey read records; the record types write themselves (Entry).
//   - Offsets and Statuses are views of their topics, fed by a Log.
//
// Easy to get wrong: Log.CaughtUp renews a worker's right to act, so an answer
// about the end of the log counts only once everything below it has been applied.
package store

import "time"

// Record is one record that a Log has read.
type Record struct {
	Partition int32
	Offset    int64
	Key       []byte // nil when the record has none, and for a marker
	Value     []byte // nil for a tombstone
	Timestamp time.Time
	// Marker says that this is no record but the end of a transaction: with More
	// false, everything that was read belongs to finished transactions.
	Marker bool
	// More says that the transaction that this record belongs to goes on, so
	// nothing may be concluded yet.
	More bool
}

// Entry is one record to be written.
type Entry struct {
	Key   []byte
	Value []byte // nil deletes the key
	// Pinned sends the entry to Partition instead of the partition that Kafka's
	// hash of the key names.
	Pinned    bool
	Partition int32
}
