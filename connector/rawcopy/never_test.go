package rawcopy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The tests of this file need a real broker. What must never be done is done in them by hand, the
// way that is nearest, to show what comes of it; then an Engine does the same job.

// written is one batch of numbered records as the log has it.
func written(t *testing.T, first, count int, codec int8) Batch {
	t.Helper()
	var records []Record
	for i := range count {
		records = append(records, Record{Timestamp: int64(vectorTime + first + i), Key: fmt.Appendf(nil, "k%d", first+i), Value: fmt.Appendf(nil, "value %d", first+i)})
	}
	return encoded(t, records, codec)
}

func encoded(t *testing.T, records []Record, codec int8) Batch {
	t.Helper()
	all, err := Encode(records, codec, 64<<20)
	if err != nil || len(all) != 1 {
		t.Fatalf("%d batches: %v", len(all), err)
	}
	return all[0].Batch
}

// fill writes batches to a topic, as they are.
func (l *rawLog) fill(topic string, batches ...Batch) {
	l.t.Helper()
	for _, b := range batches {
		if err := l.append(topic, b); err != nil {
			l.t.Fatalf("write to %s: %v", topic, err)
		}
	}
}

// values are the values of a topic's records.
func (l *rawLog) values(topic string) (all []string) {
	l.t.Helper()
	for _, r := range l.consume(topic) {
		all = append(all, string(r.Value))
	}
	return all
}

// produceParts issues one produce request that has a topic's only partition once for each part.
func (l *rawLog) produceParts(topic string, parts ...[]byte) []*kerr.Error {
	l.t.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 10_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = l.full(topic), l.topics[topic]
	for _, part := range parts {
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Records = part
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	resp, err := l.client.Broker(1).Request(l.ctx, req)
	if err != nil {
		l.t.Fatal(err)
	}
	var codes []*kerr.Error
	for _, p := range resp.(*kmsg.ProduceResponse).Topics[0].Partitions {
		codes = append(codes, kerr.TypedErrorForCode(p.ErrorCode))
	}
	return codes
}

func TestNeverTwoBatchesOfOnePartitionInOneRequest(t *testing.T) {
	t.Parallel()
	l := startRawLog(t)
	l.topic("source", nil)
	for i := range 200 {
		l.fill("source", written(t, i*3, 3, 0))
	}

	// Both batches of a partition, one behind the other: none is taken.
	l.topic("joined", nil)
	both := slices.Concat(written(t, 0, 2, 0), written(t, 2, 2, 0))
	if got := l.produceParts("joined", both); got[0] != kerr.InvalidRecord {
		t.Errorf("two batches in one partition's records: %v, want %v", got[0], kerr.InvalidRecord)
	}

	// The partition twice: both are acknowledged and one is lost.
	l.topic("repeated", nil)
	got := l.produceParts("repeated", written(t, 0, 2, 0), written(t, 2, 2, 0))
	for i, err := range got {
		if err != nil {
			t.Errorf("the same partition twice: answer %d is %v, want none", i, err)
		}
	}
	if n := len(l.consume("repeated")); n != 2 {
		t.Errorf("the same partition twice: %d of 4 acknowledged records are there, want 2", n)
	}

	// The engine has hundreds of batches of one partition waiting at once.
	job := copyJob{source: "source", target: "copy"}
	l.topic("copy", nil)
	c := l.run(job)
	l.same(job, c)
	if n := len(c.of(Troubled)); n > 0 {
		t.Errorf("%d times in trouble: %v", n, c.of(Troubled))
	}
}

func TestNeverForcedLastOffsetDelta(t *testing.T) {
	t.Parallel()
	l := startRawLog(t)
	source := l.compacted("source")
	var holed Batch
	for rest := l.fetch(source, 0).RecordBatches; holed == nil; {
		var b Batch
		var err error
		if b, rest, err = Split(rest); err != nil || len(b) == 0 {
			t.Fatalf("no batch with holes: %v", err)
		}
		if b.Count() > 1 && int64(b.Count()) != int64(b.LastOffsetDelta())+1 && b.Codec() == 0 {
			holed = slices.Clone(b)
		}
	}
	none := Stamp{ProducerID: -1, Epoch: -1, BaseSequence: -1}

	// As it is it is refused.
	l.topic("asis", nil)
	b := slices.Clone(holed)
	Rewrite(b, none)
	if err := l.append("asis", b); !errors.Is(err, kerr.InvalidRecord) {
		t.Errorf("a compacted batch as it is: %v, want %v", err, kerr.InvalidRecord)
	}

	// With the delta that the broker wants to see it is taken, and its records have offsets of others.
	l.topic("forced", nil)
	b = slices.Clone(holed)
	binary.BigEndian.PutUint32(b[atLastOffsetDelta:], uint32(b.Count()-1))
	b.seal()
	Rewrite(b, none)
	l.fill("forced", written(t, 0, 1, 0), b, written(t, 1, 1, 0))
	stored := l.fetch("forced", 0)
	corruptStored := false
	for rest := stored.RecordBatches; ; {
		var b Batch
		if b, rest, _ = Split(rest); len(b) == 0 {
			break
		}
		for _, r := range byFranz(t, b) {
			corruptStored = corruptStored || r.Offset > b.LastOffset()
		}
	}
	if !corruptStored {
		t.Errorf("a forced lastOffsetDelta: the broker has put it right")
	}

	job := copyJob{source: source, target: l.topic("copy", nil)}
	c := l.run(job)
	l.same(job, c)
	if c.decided(reasonCompacted) == 0 {
		t.Errorf("no batch was decoded because it was compacted: %v", c.lanes[0].Decisions)
	}
}

// flipper changes bytes in what comes from a broker, each batch once. It reads whole answers.
type flipper struct {
	mu    sync.Mutex
	flips []flip
	done  int
}

// flip changes the byte at an index of the batch that ends with payload.
type flip struct {
	batch Batch
	at    int
	bit   byte
	over  bool
}

// conn puts the flipper between a client and its connection.
func (f *flipper) conn(inner net.Conn) net.Conn { return &flippedConn{Conn: inner, f: f} }

// answer changes what of it is to be changed.
func (f *flipper) answer(frame []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.flips {
		if f.flips[i].over {
			continue
		}
		if at := bytes.Index(frame, f.flips[i].batch); at >= 0 {
			frame[at+f.flips[i].at] ^= f.flips[i].bit
			f.flips[i].over = true
			f.done++
		}
	}
}

type flippedConn struct {
	net.Conn
	f    *flipper
	left []byte
}

// Read implements net.Conn.
func (c *flippedConn) Read(p []byte) (int, error) {
	if len(c.left) == 0 {
		size := make([]byte, 4)
		if _, err := io.ReadFull(c.Conn, size); err != nil {
			return 0, err
		}
		frame := make([]byte, binary.BigEndian.Uint32(size))
		if _, err := io.ReadFull(c.Conn, frame); err != nil {
			return 0, err
		}
		c.f.answer(frame)
		c.left = append(size, frame...)
	}
	n := copy(p, c.left)
	c.left = c.left[n:]
	return n, nil
}

func TestNeverRecomputedCRC(t *testing.T) {
	t.Parallel()
	l := startRawLog(t)
	good := written(t, 0, 3, 0)
	damaged := slices.Clone(good)
	damaged[len(damaged)-2] ^= 1 // in the last value

	// With a CRC of what has come, the broker stores the damage as good.
	l.topic("recomputed", nil)
	l.fill("recomputed", slices.Clone(damaged).seal())
	if got := l.values("recomputed"); got[2] == "value 2" {
		t.Errorf("the damage has not arrived: %q", got)
	}
	l.topic("patched", nil)
	Rewrite(damaged, Stamp{ProducerID: -1, Epoch: -1, BaseSequence: -1})
	if err := l.append("patched", damaged); !errors.Is(err, kerr.CorruptMessage) {
		t.Errorf("a damaged batch with a patched CRC: %v, want %v", err, kerr.CorruptMessage)
	}
}

// Every byte of a batch that the CRC covers, and what frames it, is damaged on its way to the copy, one bit of it.
// Nothing in Kafka's format covers the base offset.
func TestFlippedByteIsRefusedAndFetchedAgain(t *testing.T) {
	t.Parallel()
	l := startRawLog(t)
	const perPartition = 6
	for _, codec := range []int8{codecNone, codecLZ4} {
		sample := written(t, 0, 5, codec)
		var places []int
		for at := atLength; at < len(sample); at++ {
			if codec == codecNone && at < atRecords+8 || at%16 == 0 || at == len(sample)-1 {
				places = append(places, at)
			}
		}
		source, target := fmt.Sprintf("source-%d", codec), fmt.Sprintf("copy-%d", codec)
		l.topicOf(source, int32(len(places)), nil)
		l.topicOf(target, int32(len(places)), nil)
		f := &flipper{}
		for p, at := range places {
			for i := range perPartition {
				b := written(t, (p*perPartition+i)*5, 5, codec)
				if err := l.appendTo(source, int32(p), b); err != nil {
					t.Fatal(err)
				}
				if i%2 == 1 {
					f.flips = append(f.flips, flip{at: min(at, len(b)-1), bit: 1 << ((at + i/2*3) % 8), batch: l.stored(source, int32(p), int64(i)*5)})
				}
			}
		}
		c := l.run(copyJob{source: source, target: target, partitions: int32(len(places)), conn: f.conn})
		if f.done != len(f.flips) {
			t.Errorf("codec %d: %d of %d bytes have been flipped", codec, f.done, len(f.flips))
		}
		refused := 0
		for _, e := range c.of(Troubled) {
			if errors.Is(e.Err, kerr.CorruptMessage) {
				refused++
			}
		}
		t.Logf("codec %d: %d flipped, %d partitions in trouble, %d of them by the broker", codec, f.done, len(c.of(Troubled)), refused)
		if refused < len(places)/2 {
			t.Errorf("codec %d: the broker has refused batches in %d of %d partitions", codec, refused, len(places))
		}
		for _, kind := range []EventKind{Gap, Refused, Parked} {
			for _, e := range c.of(kind) {
				t.Errorf("codec %d, byte %d: %+v", codec, places[e.Source.ID], e)
			}
		}
		l.equal(source, target, places)
	}
}

// A leader epoch that is not the log's is what a fetch names next, to find out whether its log was cut off.
func TestFlippedLeaderEpochDoesNotStopTheCopy(t *testing.T) {
	t.Parallel()
	l := startRawLog(t)
	job := copyJob{source: l.topic("source", nil), target: l.topic("copy", nil)}
	for i := range 8 {
		l.fill("source", written(t, 5*i, 5, 0))
	}
	f := &flipper{flips: []flip{{batch: l.stored("source", 0, 35), at: atLeaderEpoch + 2, bit: 1}}}
	job.conn, job.then = f.conn, func() { l.fill("source", written(t, 40, 5, 0)) }
	c := l.run(job)
	if f.done != 1 {
		t.Error("nothing was flipped")
	}
	l.same(job, c)
}

// stored returns a batch as a fetch response has it.
func (l *rawLog) stored(topic string, partition int32, offset int64) Batch {
	l.t.Helper()
	b, _, err := Split(l.fetchFrom(topic, partition, offset).RecordBatches)
	if err != nil {
		l.t.Fatal(err)
	}
	return slices.Clone(b)
}

// equal says that all batches of all partitions are the same, and have the same offsets.
func (l *rawLog) equal(source, target string, places []int) {
	l.t.Helper()
	for p := range int32(len(places)) {
		a, b := l.fetchFrom(source, p, 0).RecordBatches, l.fetchFrom(target, p, 0).RecordBatches
		var want, got []string
		for _, r := range byFranz(l.t, a) {
			want = append(want, fmt.Sprintf("%d %d %s=%s", r.Offset, r.Timestamp, r.Key, r.Value))
		}
		for _, r := range byFranz(l.t, b) {
			got = append(got, fmt.Sprintf("%d %d %s=%s", r.Offset, r.Timestamp, r.Key, r.Value))
		}
		if !slices.Equal(want, got) {
			l.t.Errorf("byte %d: the copy is\n%s\nthe source\n%s", places[p], strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}
