package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/e2e/kafka"
)

// chain gives transforms, or predicates, to a connector: pairs of an alias's setting and its value. Types are without their package.
func chain(pairs ...string) Config {
	c := Config{}
	names := map[string][]string{}
	for i := 0; i < len(pairs); i += 2 {
		kind, alias, _ := strings.Cut(strings.TrimSuffix(pairs[i], ".type"), ".")
		value := pairs[i+1]
		if strings.HasSuffix(pairs[i], ".type") {
			names[kind] = append(names[kind], alias)
			value = "org.apache.kafka.connect.transforms." + value
		}
		c[pairs[i]] = value
	}
	for kind, all := range names {
		c[kind] = strings.Join(all, ",")
	}
	return c
}

// marking is a chain for which a record's bytes are enough, so that MirrorMaker runs it too.
func marking() Config {
	return chain(
		"transforms.route.type", "RegexRouter", "transforms.route.regex", `(java|ours)\.(.*)`, "transforms.route.replacement", "$1-eu.$2",
		"transforms.number.type", "InsertHeader", "transforms.number.header", "via", "transforms.number.value.literal", "0042",
		"transforms.text.type", "InsertHeader", "transforms.text.header", "note", "transforms.text.value.literal", "from the east",
		"transforms.text.predicate", "special", "transforms.text.negate", "true",
		"transforms.tomb.type", "Filter", "transforms.tomb.predicate", "tombstone",
		"transforms.skip.type", "Filter", "transforms.skip.predicate", "skipped",
		"transforms.trace.type", "DropHeaders", "transforms.trace.headers", "trace,via",
		"transforms.again.type", "InsertHeader", "transforms.again.header", "last", "transforms.again.value.literal", "true",
		"predicates.special.type", "predicates.TopicNameMatches", "predicates.special.pattern", `.*-eu\..*special`,
		"predicates.tombstone.type", "predicates.RecordIsTombstone",
		"predicates.skipped.type", "predicates.HasHeaderKey", "predicates.skipped.name", "skip",
	)
}

// shown is what a record looks like to who consumes it.
func shown(r *kgo.Record) string {
	line := fmt.Sprintf("%d: %q=%q at %d", r.Partition, r.Key, r.Value, r.Timestamp.UnixMilli())
	if r.Value == nil {
		line += " tombstone"
	}
	for _, h := range r.Headers {
		line += fmt.Sprintf(" %s=%q", h.Key, h.Value)
	}
	return line
}

// spoiled makes a topic of two partitions and one of one, with 60 records in each: among them tombstones, records without a key, and
// records with headers.
func (e *Env) spoiled() (special, plain string) {
	e.t.Helper()
	special, plain = e.Topic(e.Source, "special", 2), e.Topic(e.Source, "plain", 1)
	at := time.UnixMilli(1_700_000_000_000)
	fill := func(topic string, partition int32) {
		e.numbers(e.Source, topic, partition, 0, 60, func(r *kgo.Record) {
			r.Timestamp, at = at, at.Add(time.Second)
			switch n := len(r.Key) + int(r.Key[len(r.Key)-1]); {
			case n%5 == 0:
				r.Value = nil
			case n%5 == 1:
				r.Headers = append(r.Headers, kgo.RecordHeader{Key: "skip"})
			case n%5 == 2:
				r.Headers = append(r.Headers, kgo.RecordHeader{Key: "trace", Value: []byte("x")})
			case n%5 == 3:
				r.Key = nil
			}
		})
	}
	fill(special, 0)
	fill(special, 1)
	fill(plain, 0)
	return special, plain
}

// TestTransformsCopyWhatMirrorMakerCopies gives Kafka Connect's MirrorSourceConnector and ours the same chain and compares the copies.
func TestTransformsCopyWhatMirrorMakerCopies(t *testing.T) {
	e := New(t, 4*time.Minute)
	dir := filepath.Join(e.Dir, "connect")
	e.Must(os.Mkdir(dir, 0o700))
	java, err := kafka.StartConnect(e.Context(), kafka.ConnectSpec{Name: "java", Dir: dir, Properties: map[string]string{
		"bootstrap.servers": e.Hub.Bootstrap(), "group.id": e.Prefix + "-java", "offset.flush.interval.ms": "1000", "offset.storage.partitions": "5",
	}})
	e.Must(err)
	t.Cleanup(java.Process().Kill)
	p := &filePair{e: e, java: java, fleet: e.Fleet(FleetOptions{Size: 1})}

	special, plain := e.spoiled()
	config := func(who string, more Config) Config {
		return Config{
			"connector.class":      "org.apache.kafka.connect.mirror.MirrorSourceConnector",
			"source.cluster.alias": who, "target.cluster.alias": "west", "topics": special + "," + plain, "tasks.max": "2", "replication.factor": "1",
			"source.cluster.bootstrap.servers": e.Source.Bootstrap(), "target.cluster.bootstrap.servers": e.Target.Bootstrap(),
			"producer.override.bootstrap.servers": e.Target.Bootstrap(), "admin.override.bootstrap.servers": e.Target.Bootstrap(),
			"emit.offset-syncs.enabled": "false", "sync.topic.acls.enabled": "false", "sync.topic.configs.enabled": "false",
			// MirrorMaker makes the topics whose names it knows: that of the copy is left to the worker.
			"topic.creation.default.partitions": "2", "topic.creation.default.replication.factor": "1",
		}.With(more)
	}
	p.both(func(who string) { p.put(who, e.Prefix+"-"+who, config(who, marking())) })
	read := func(who, topic string) any {
		lines := []string{}
		admin, err := e.Target.Admin()
		e.Must(err)
		there, err := admin.ListTopics(e.Context(), who+"-eu."+topic)
		admin.Close()
		e.Must(err)
		if !there.Has(who + "-eu." + topic) {
			return lines
		}
		for _, r := range e.raw(e.Target, who+"-eu."+topic, false) {
			lines = append(lines, shown(r))
		}
		slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(a[:2], b[:2]) }) // by partition
		return lines
	}
	for topic, n := range map[string]int{special: 72, plain: 36} {
		p.same("copies of "+topic, func(who string) any { return read(who, topic) }, func(v any) bool { l, ok := v.([]string); return ok && len(l) == n })
	}
	notes := strings.Count(fmt.Sprint(read("ours", plain)), `note="from the east"`)
	if text := fmt.Sprint(read("ours", special)); notes != 36 || strings.Contains(text, "note=") || strings.Contains(text, "via=") || strings.Count(text, ` last="true"`) != 72 {
		t.Errorf("%d notes, and %.500s", notes, text)
	}

	e.modes(p.fleet, e.Prefix+"-ours", "decoded", "decoded: transform")
	// A router alone leaves batches as they are.
	route := marking()
	for key := range route {
		if !strings.HasPrefix(key, "transforms.route.") {
			delete(route, key)
		}
	}
	route["transforms"], route["topics"] = "route", plain
	route["transforms.route.replacement"] = "$1-raw.$2"
	p.fleet.Create(e.Prefix+"-raw", config("ours", route))
	e.modes(p.fleet, e.Prefix+"-raw", "raw", "")

	// Fields of JSON: here records are JSON without schemas, in MirrorMaker they are bytes.
	mask := chain("transforms.mask.type", "MaskField$Value", "transforms.mask.fields", "card").With(Config{"topics": plain, "tasks.max": "1"})
	if status, answer := p.ask("java", http.MethodPut, "/connectors/"+e.Prefix+"-mask/config", config("mask", mask).JSON()); status/100 != 2 {
		t.Fatal(status, answer)
	}
	p.cannotMask(e.Prefix + "-mask")
}

// cannotMask waits until Kafka Connect's task has failed because values are bytes to it.
func (p *filePair) cannotMask(connector string) {
	p.e.t.Helper()
	p.e.Until(60*time.Second, "MirrorMaker cannot mask", func() string {
		_, answer := p.ask("java", http.MethodGet, "/connectors/"+connector+"/tasks/0/status", "")
		if !strings.Contains(answer, "objects supported for [mask fields], found: [B") {
			return answer
		}
		return ""
	})
}

// modes waits until all partitions of a replication are copied in a mode, for a reason.
func (e *Env) modes(f *Fleet, connector, mode, reason string) {
	e.t.Helper()
	e.Until(60*time.Second, connector+" is "+mode, func() string {
		n := 0
		for _, task := range f.Replication(connector).Tasks {
			for _, p := range task.Partitions {
				if n++; p.Mode != mode || p.Reason != reason || p.CopiedOffset == 0 {
					return fmt.Sprintf("%s-%d: %s, %s, at %d", p.Topic, p.Partition, p.Mode, p.Reason, p.CopiedOffset)
				}
			}
		}
		if n == 0 {
			return "no partitions"
		}
		return ""
	})
}

// TestTransformedRecordsComeOnceThoughWorkersAreKilled kills the workers of a replication that filters and masks.
func TestTransformedRecordsComeOnceThoughWorkersAreKilled(t *testing.T) {
	t.Parallel()
	e := New(t, 3*time.Minute)
	f := e.Fleet(FleetOptions{Size: 2})
	topic := e.Topic(e.Source, "cards", 1)
	connector := f.mirror("cards", "src", topic, chain(
		"transforms.tomb.type", "Filter", "transforms.tomb.predicate", "tombstone",
		"transforms.mask.type", "MaskField$Value", "transforms.mask.fields", "card", "transforms.mask.replacement", "****",
		"transforms.mark.type", "InsertHeader", "transforms.mark.header", "masked", "transforms.mark.value.literal", "true",
		"predicates.tombstone.type", "predicates.RecordIsTombstone",
	), 1)
	var want []string
	written := 0
	write := func(n int) {
		e.numbers(e.Source, topic, 0, written, written+n, func(r *kgo.Record) {
			if len(want)%3 == 2 && len(r.Key) > 0 && r.Key[len(r.Key)-1]%2 == 0 {
				r.Value = nil
				return
			}
			want = append(want, fmt.Sprintf(`{"n": %s, "card":"****"} masked="true"`, r.Key))
			r.Value = fmt.Appendf(nil, `{"n": %s, "card":"4111"}`, r.Key)
		})
		written += n
	}
	read := func() (all []string) {
		for _, r := range e.raw(e.Target, "src."+topic, false) {
			line := string(r.Value)
			for _, h := range r.Headers {
				line += fmt.Sprintf(" %s=%q", h.Key, h.Value)
			}
			all = append(all, line)
		}
		return all
	}
	for range 3 {
		for range 20 { // many batches: a kill meets some of them
			write(25)
		}
		owner := f.ByID(f.Owners(connector)[connector+"-0"])
		owner.Kill()
		write(50)
		e.Until(90*time.Second, "the copy", func() string {
			if got := read(); len(got) < len(want) {
				return fmt.Sprintf("%d records of %d", len(got), len(want))
			}
			return ""
		})
		owner.Start()
	}
	if diff := cmp.Diff(want, read()); diff != "" {
		t.Errorf("copy (-want +got):\n%s", diff)
	}
	if task := f.Replication(connector).Tasks[0]; task.Delivery != "fenced" || task.Why != "" {
		t.Errorf("delivery %q because of %q", task.Delivery, task.Why)
	}
}
