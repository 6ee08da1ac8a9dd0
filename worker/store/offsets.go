package store

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sync"

	"barnabas/connector"
)

// Offsets is the offset topic in memory: what Connect's KafkaOffsetBackingStore
// knows. Apply feeds it; readers may call it at any time.
type Offsets struct {
	mu sync.RWMutex
	// by connector, then by the JSON of the source partition, byte for byte.
	offsets map[string]map[string][]byte
}

// NewOffsets returns an empty view.
func NewOffsets() *Offsets { return &Offsets{offsets: map[string]map[string][]byte{}} }

// Apply takes a record of the offset topic in. The error says that the key is
// not one of Connect's: log it and go on.
func (o *Offsets) Apply(r Record) error {
	if r.Marker {
		return nil
	}
	name, partition, err := ParseOffsetKey(r.Key)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	of := o.offsets[name]
	if r.Value == nil {
		delete(of, string(partition))
		if len(of) == 0 {
			delete(o.offsets, name)
		}
		return nil
	}
	if of == nil {
		of = map[string][]byte{}
		o.offsets[name] = of
	}
	of[string(partition)] = r.Value
	return nil
}

// Get returns the offset of each of a connector's source partitions, nil where there
// is none. Partitions are compared byte for byte, as Connect does.
func (o *Offsets) Get(name string, partitions [][]byte) [][]byte {
	o.mu.RLock()
	defer o.mu.RUnlock()
	offsets := make([][]byte, len(partitions))
	for i, p := range partitions {
		offsets[i] = bytes.Clone(o.offsets[name][string(p)])
	}
	return offsets
}

// All returns all offsets of a connector, sorted by partition.
func (o *Offsets) All(name string) []connector.Offset {
	o.mu.RLock()
	defer o.mu.RUnlock()
	all := make([]connector.Offset, 0, len(o.offsets[name]))
	for _, p := range slices.Sorted(maps.Keys(o.offsets[name])) {
		all = append(all, connector.Offset{Partition: []byte(p), Offset: bytes.Clone(o.offsets[name][p])})
	}
	return all
}

// Load reads log to its end, and then gives what Get gives: it is
// connector.Offsets.Load for one connector.
func (o *Offsets) Load(ctx context.Context, log *Log, name string, partitions [][]byte) ([][]byte, error) {
	if err := log.ReadToEnd(ctx); err != nil {
		return nil, err
	}
	return o.Get(name, partitions), nil
}

// SaveOffsets appends a connector's offsets and returns when they are durable: it is
// connector.Offsets.Save for one connector. A view shows them once its log has read them.
func SaveOffsets(ctx context.Context, a *Appender, name string, offsets []connector.Offset) error {
	if len(offsets) == 0 {
		return nil
	}
	entries := make([]Entry, len(offsets))
	for i, o := range offsets {
		entries[i] = Entry{Key: OffsetKey(name, o.Partition), Value: o.Offset}
	}
	return a.Append(ctx, entries)
}
