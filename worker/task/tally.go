package task

import (
	"maps"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"barnabas/connector"
)

// tally counts what the reports of one run tell. A report is the present state, so that its numbers may get
// smaller: a partition leaves, copying begins anew within the run, the ledger drops its oldest entries.
// Counters must not.
type tally struct {
	mu       sync.Mutex
	clientID string // of the client that reads the source
	batches  map[string]int64
	places   map[place]*placeTally
}

// place is a partition of the source.
type place struct {
	topic     string
	partition int32
}

// placeTally counts for one partition.
type placeTally struct {
	records   int64            // of the newest report
	decisions map[string]int64 // of the newest report
	ledger    map[entry]int64  // records of the entries in the newest report
	dropped   map[string]loss  // by cause, of entries that the ledger has no more
}

// entry identifies an entry of the ledger, whose end may still move.
type entry struct {
	from, at int64 // at in ms, as precise as the ledger keeps it
	cause    string
}

// loss is what entries of one cause amount to.
type loss struct{ gaps, records int64 }

// consumes notes the client.id of the client that reads the source.
func (t *tally) consumes(clientID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clientID = clientID
}

// add takes a report in. It returns how many records and batches were copied since the one before, and how many
// records are on their way.
func (t *tally) add(p connector.Progress) (records, copied, flying int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.places
	t.places = make(map[place]*placeTally, len(p.Partitions))
	if t.batches == nil {
		t.batches = map[string]int64{}
	}
	for _, part := range p.Partitions {
		k := place{part.Topic, part.Partition}
		now, was := &placeTally{records: part.Records, decisions: part.Decisions, ledger: map[entry]int64{}, dropped: map[string]loss{}}, before[k]
		if was == nil {
			was = &placeTally{}
		}
		maps.Copy(now.dropped, was.dropped)
		for decision, n := range part.Decisions {
			if had := was.decisions[decision]; n >= had {
				n -= had
			}
			t.batches[decision] += n
			if !strings.HasPrefix(decision, "skipped") {
				copied += n
			}
		}
		n := part.Records
		if n >= was.records {
			n -= was.records
		}
		records += n
		flying += part.InFlight
		t.places[k] = now
	}
	for _, g := range p.Gaps {
		now, was := t.places[place{g.Topic, g.Partition}], before[place{g.Topic, g.Partition}]
		if now == nil {
			continue
		}
		cause, _ := Cause(g.Cause)
		e := entry{g.From, g.At.UnixMilli(), cause}
		records := max(0, g.To-g.From, now.ledger[e])
		if was != nil {
			records = max(records, was.ledger[e])
		}
		now.ledger[e] = records
	}
	for k, now := range t.places {
		if was := before[k]; was != nil {
			now.drop(was.ledger)
		}
	}
	return records, copied, flying
}

// drop goes on counting the entries of an earlier report that the newest has no more.
func (p *placeTally) drop(earlier map[entry]int64) {
	for e, records := range earlier {
		if _, there := p.ledger[e]; !there {
			l := p.dropped[e.cause]
			p.dropped[e.cause] = loss{l.gaps + 1, l.records + records}
		}
	}
}

// losses sums up by cause.
func (p *placeTally) losses() map[string]loss {
	sum := maps.Clone(p.dropped)
	for e, records := range p.ledger {
		l := sum[e.cause]
		sum[e.cause] = loss{l.gaps + 1, l.records + records}
	}
	return sum
}

// Cause parts the cause of a gap from what it says about the single case ("refused: the record is too large"), which
// would make each a label of its own.
func Cause(text string) (cause, detail string) {
	cause, detail, _ = strings.Cut(text, ":")
	return strings.TrimSpace(cause), strings.TrimSpace(detail)
}

// collect sends the counters, and the lag by client.
func (t *tally) collect(s *series, r Run, p connector.Progress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	task := strconv.Itoa(r.Task)
	for decision, n := range t.batches {
		s.send(descBatches, prometheus.CounterValue, float64(n), r.Connector, task, decision)
	}
	for k, c := range t.places {
		partition := strconv.Itoa(int(k.partition))
		for cause, l := range c.losses() {
			s.send(descGaps, prometheus.CounterValue, float64(l.gaps), r.Connector, task, k.topic, partition, cause)
			s.send(descLost, prometheus.CounterValue, float64(l.records), r.Connector, task, k.topic, partition, cause)
		}
	}
	if t.clientID == "" {
		return
	}
	for _, part := range p.Partitions {
		if part.LagRecords >= 0 {
			s.send(descConsumerLag, prometheus.GaugeValue, float64(part.LagRecords), Quoted(t.clientID), part.Topic, strconv.Itoa(int(part.Partition)))
		}
	}
}
