package rawcopy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Every row of Judge's table on a real broker: what an Engine copies is what a consumer of the source sees.

// setting is one of a topic's.
func setting(key, value string) map[string]*string { return map[string]*string{key: &value} }

// random is n bytes that do not compress, the same each time.
func random(seed uint64, n int) []byte {
	generator := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // no secret
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(generator.Uint32())
	}
	return b
}

func TestEveryRowOfTheTableOnARealBroker(t *testing.T) {
	t.Parallel()
	l := startRawLog(t)
	plain := func(name string) {
		l.topic(name, nil)
		for i := range 6 {
			l.fill(name, written(t, i*10, 10, int8(i%5)))
		}
	}
	noisy := func(name string) {
		l.topic(name, nil)
		for i := range 3 {
			var records []Record
			for j := range 20 {
				records = append(records, Record{Timestamp: vectorTime, Key: fmt.Append(nil, i, j), Value: random(uint64(100*i+j), 2000)})
			}
			l.fill(name, encoded(t, records, codecZstd))
		}
	}
	for _, row := range []struct {
		name   string
		fill   func(topic string)
		target map[string]*string
		job    copyJob
		least  map[Reason]int64 // batches by reason
		none   []Reason         // that must not be
		check  func(t *testing.T, job copyJob, c *copyRun)
	}{
		{name: "codecs", fill: plain, least: map[Reason]int64{reasonNone: 6}},
		{
			name: "codec-not-taken", fill: plain, job: copyJob{limits: Limits{Codecs: 1<<codecNone | 1<<codecLZ4}},
			least: map[Reason]int64{reasonNone: 3, reasonCodec: 3},
		},
		{
			name: "transactions", fill: func(topic string) { l.write(l.topic(topic, nil)) },
			least: map[Reason]int64{reasonNone: 15, reasonControl: 20, reasonAborted: 10},
		},
		{
			name: "uncommitted", fill: func(topic string) { l.write(l.topic(topic, nil)) },
			job:   copyJob{options: func(o *FlowOptions) { o.ReadCommitted = false }},
			least: map[Reason]int64{reasonNone: 25, reasonControl: 20}, none: []Reason{reasonAborted},
			check: func(t *testing.T, job copyJob, _ *copyRun) {
				if n := len(l.consume(job.target)); n != 25*40 {
					t.Errorf("%d records, want those of aborted transactions too: %d", n, 25*40)
				}
			},
		},
		{name: "compacted", fill: func(topic string) { l.compacted(topic) }, least: map[Reason]int64{reasonCompacted: 5, reasonEmpty: 1, reasonNone: 1}},
		{name: "resume", fill: plain, job: copyJob{start: 13}, least: map[Reason]int64{reasonResume: 1, reasonNone: 4}},
		{
			name: "append-time", fill: func(topic string) {
				l.topic(topic, setting("message.timestamp.type", "LogAppendTime"))
				l.fill(topic, written(t, 0, 10, codecLZ4), written(t, 10, 10, codecNone))
			},
			job: copyJob{limits: Limits{KeepAppendTime: true}}, least: map[Reason]int64{reasonLogAppendTime: 2},
			check: func(t *testing.T, job copyJob, c *copyRun) {
				if l.same(job, c); l.consume(job.target)[0].Timestamp == vectorTime {
					t.Error("the copy has the producer's times")
				}
			},
		},
		{
			name: "append-time-to-append-time", fill: func(topic string) {
				l.topic(topic, setting("message.timestamp.type", "LogAppendTime"))
				l.fill(topic, written(t, 0, 10, codecLZ4), written(t, 10, 10, codecNone))
			},
			target: setting("message.timestamp.type", "LogAppendTime"), least: map[Reason]int64{reasonNone: 2},
			check: func(t *testing.T, job copyJob, _ *copyRun) {
				if want, got := l.values(job.source), l.values(job.target); strings.Join(want, " ") != strings.Join(got, " ") {
					t.Errorf("%q, want %q", got, want)
				}
			},
		},
		{name: "too-large", fill: noisy, target: setting("max.message.bytes", "9000"), job: copyJob{limits: Limits{MaxBytes: 9000}}, least: map[Reason]int64{reasonTooLarge: 3}},
		{
			name: "too-large-unforeseen", fill: noisy, target: setting("max.message.bytes", "9000"),
			least: map[Reason]int64{reasonNone: 3, reasonRefused: 3},
		},
		{
			name: "tiny", fill: func(topic string) {
				l.topic(topic, nil)
				for i := range 600 {
					l.fill(topic, written(t, i, 1, codecLZ4))
				}
			},
			least: map[Reason]int64{reasonCoalesced: 300},
			check: func(t *testing.T, job copyJob, c *copyRun) {
				l.same(job, c)
				if b := lastBatch(t, l.fetch(job.target, 0).RecordBatches); b.Count() < 10 {
					t.Errorf("the last batch has %d records", b.Count())
				}
			},
		},
		{
			name: "huge", fill: func(topic string) {
				l.topic(topic, setting("max.message.bytes", "20000000"))
				for i := range 3 {
					l.fill(topic, written(t, i, 1, codecLZ4), encoded(t, []Record{{Timestamp: vectorTime, Value: random(uint64(i), 10<<20)}}, codecNone))
				}
			},
			target: setting("max.message.bytes", "20000000"), job: copyJob{limits: Limits{MaxBytes: 20_000_000}},
			least: map[Reason]int64{reasonNone: 6},
		},
	} {
		row.fill(row.name + "-source")
		l.topic(row.name+"-copy", row.target)
		job := row.job
		job.source, job.target = row.name+"-source", row.name+"-copy"
		c := l.run(job)
		for reason, least := range row.least {
			if got := c.decided(reason); got < least {
				t.Errorf("%s: %d batches %q, want at least %d: %v", row.name, got, reason, least, c.lanes[0].Decisions)
			}
		}
		for _, reason := range row.none {
			if got := c.decided(reason); got > 0 {
				t.Errorf("%s: %d batches %q, want none", row.name, got, reason)
			}
		}
		for _, e := range c.events {
			if e.Kind == Gap || e.Kind == Refused || e.Kind == Parked {
				t.Errorf("%s: %+v", row.name, e)
			}
		}
		if row.check == nil {
			row.check = func(_ *testing.T, job copyJob, c *copyRun) { l.same(job, c) }
		}
		row.check(t, job, c)
		t.Logf("%s: %v", row.name, c.lanes[0].Decisions)
	}
}

// One record in the middle that the target will never take: only it is left out, or only its partition stops.
func TestRecordThatTheTargetDoesNotTake(t *testing.T) {
	t.Parallel()
	l := startRawLog(t)
	now := time.Now().UnixMilli()
	record := func(i int) Record {
		return Record{Timestamp: now, Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "value %d", i)}
	}
	for _, row := range []struct {
		name   string
		spoil  func(*Record)
		target map[string]*string
		max    int32
		why    *kerr.Error
	}{
		{"null-key", func(r *Record) { r.Key = nil }, setting("cleanup.policy", "compact"), 0, kerr.InvalidRecord},
		{"old", func(r *Record) { r.Timestamp = vectorTime }, setting("message.timestamp.before.max.ms", "3600000"), 0, kerr.InvalidTimestamp},
		{"too-large", func(r *Record) { r.Value = random(1, 30_000) }, setting("max.message.bytes", "9000"), 9000, kerr.MessageTooLarge},
		{"too-large-unforeseen", func(r *Record) { r.Value = random(1, 30_000) }, setting("max.message.bytes", "9000"), 0, kerr.MessageTooLarge},
	} {
		// In partition 0 the record at offset 17 is bad, in the middle of a batch; partition 1 has none.
		source := l.topicOf(row.name+"-source", 2, nil)
		for p := range int32(2) {
			for b := range 4 {
				var records []Record
				for i := range 10 {
					r := record(10*b + i)
					if p == 0 && 10*b+i == 17 {
						row.spoil(&r)
					}
					records = append(records, r)
				}
				if err := l.appendTo(source, p, encoded(t, records, int8(b))); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, tolerate := range []bool{false, true} {
			name := fmt.Sprintf("%s-tolerated-%t", row.name, tolerate)
			l.topicOf(name, 2, row.target)
			job := copyJob{source: source, target: name, partitions: 2, limits: Limits{MaxBytes: row.max}, options: func(o *FlowOptions) { o.Tolerate = tolerate }}
			c := l.run(job)
			refused, parked := c.of(Refused), c.of(Parked)
			told := parked
			if tolerate {
				told, parked = refused, nil
			} else if len(refused) > 0 {
				t.Errorf("%s: %+v", name, refused)
			}
			if len(told) != 1 || told[0].From != 17 || told[0].Source.ID != 0 || !errors.Is(told[0].Err, row.why) {
				t.Errorf("%s: told %+v, want %v of partition 0 at offset 17", name, told, row.why)
			}
			want := 40 + 39
			if !tolerate {
				want = 40 + 17
				if !c.lanes[0].Parked || c.lanes[1].Parked || len(parked) != 1 || c.lanes[0].Copied != 17 {
					t.Errorf("%s: %+v", name, c.lanes)
				}
			}
			var got []string
			for p := range int32(2) {
				for _, r := range byFranz(t, l.fetchFrom(name, p, 0).RecordBatches) {
					got = append(got, fmt.Sprintf("%d: %s", p, r.Value))
				}
			}
			if len(got) != want {
				t.Errorf("%s: %d records, want %d: %q", name, len(got), want, got)
			}
		}
	}
}
