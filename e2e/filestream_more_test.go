package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/e2e/kafka"
)

// TestAFileIsWrittenToATopicExactlyOnce kills the worker of a file source that writes in transactions, again and again.
func TestAFileIsWrittenToATopicExactlyOnce(t *testing.T) {
	e := New(t, 3*time.Minute)
	properties := e.fileClients()
	e.Must(e.Hub.Allow(e.Context(), e.Prefix+"-filer",
		kafka.Grant{TransactionalID: e.Prefix + "*", Operations: []kadm.ACLOperation{kadm.OpWrite, kadm.OpDescribe}},
		kafka.Grant{Topic: e.Prefix + "-workers-offset", Operations: []kadm.ACLOperation{kadm.OpWrite, kadm.OpDescribe}}))
	properties["exactly.once.source.support"] = "enabled"
	f := e.Fleet(FleetOptions{Size: 3, Properties: properties})
	in, topic := filepath.Join(e.Dir, "in"), e.Topic(e.Hub, "once", 1)
	file, err := os.Create(in)
	e.Must(err)
	defer file.Close() //nolint:errcheck // its lines have been read
	f.Create(e.Prefix+"-once", Config{
		"connector.class": "FileStreamSource", "file": in, "topic": topic, "key.converter": stringConverter, "value.converter": stringConverter,
		"exactly.once.support": "required", "batch.size": "7",
	})
	n := 0
	write := func(more int) {
		for range more {
			_, err := fmt.Fprintf(file, "line %d\n", n)
			e.Must(err)
			n++
		}
	}
	for round := range 3 {
		f.Await(e.Prefix+"-once", "RUNNING", 1, 40*time.Second)
		write(3000)
		e.Pass(time.Duration(100*(round+1)) * time.Millisecond) // somewhere within them
		owner := f.Owners(e.Prefix + "-once")[e.Prefix+"-once-0"]
		if round < 2 {
			f.ByID(owner).Kill()
		}
	}
	want := make([]string, n)
	for i := range want {
		want[i] = fmt.Sprintf("line %d", i)
	}
	e.Until(60*time.Second, "all lines once", func() string {
		got := e.committed(topic)
		switch {
		case len(got) > n:
			e.t.Fatalf("%d records of %d lines", len(got), n)
		case !slices.Equal(got, want):
			return fmt.Sprintf("%d records of %d lines", len(got), n)
		}
		return ""
	})
}

// committed are the values of the committed records of a topic of one partition.
func (e *Env) committed(topic string) []string {
	e.t.Helper()
	client, err := e.Hub.Client(kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	e.Must(err)
	defer client.Close()
	ends, err := kadm.NewClient(client).ListCommittedOffsets(e.Context(), topic)
	e.Must(err)
	end, _ := ends.Lookup(topic, 0)
	var got []string
	for at := int64(0); at < end.Offset; {
		fetches := client.PollFetches(e.Context())
		e.Must(fetches.Err0())
		fetches.EachRecord(func(r *kgo.Record) {
			at = r.Offset + 1
			if !r.Attrs.IsControl() {
				got = append(got, string(r.Value))
			}
		})
	}
	return got
}

// TestASinkGoesOnElsewhere kills one of the workers that run a sink's tasks, and pauses, stops and resets the sink. Reports tell of each
// record, under an identity that may nothing else.
func TestASinkGoesOnElsewhere(t *testing.T) {
	e := New(t, 8*time.Minute)
	f := e.Fleet(FleetOptions{Size: 3, Properties: e.fileClients()})
	topic, out, name := e.Topic(e.Hub, "many", 4), filepath.Join(e.Dir, "out"), e.Prefix+"-many"
	teller := e.User(e.Hub, "teller",
		kafka.Grant{Topic: e.Prefix + ".told*", Operations: []kadm.ACLOperation{kadm.OpWrite, kadm.OpCreate, kadm.OpDescribe}},
		kafka.Grant{Operations: []kadm.ACLOperation{kadm.OpIdempotentWrite}})
	config := Config{
		"connector.class": "FileStreamSink", "file": out, "topics": topic, "tasks.max": "3",
		"key.converter": stringConverter, "value.converter": jsonConverter, "value.converter.schemas.enable": "false", "errors.tolerance": "all",
		"reporter.bootstrap.servers": e.Hub.Address(Client), "reporter.result.topic.name": e.Prefix + ".told-well", "reporter.error.topic.name": e.Prefix + ".told-ill",
		"reporter.result.topic.replication.factor": "1", "reporter.error.topic.replication.factor": "1", "reporter.error.topic.value.format": "string",
	}.With(teller.Settings("reporter.admin.")).With(teller.Settings("reporter.producer."))
	f.Create(name, config)
	f.Await(name, "RUNNING", 3, 40*time.Second)
	client, err := e.Hub.Client(kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	e.Must(err)
	defer client.Close()
	n := 0
	write := func(more int) {
		var records []*kgo.Record
		for range more {
			records = append(records, &kgo.Record{Topic: topic, Value: []byte(fmt.Sprintf(`{"n":%d}`, n))})
			n++
		}
		e.Must(client.ProduceSync(e.Context(), records...).FirstErr())
	}
	there := func(what string) {
		// A member that could not leave its group, being killed or in the middle of a rebalance, holds up the next ones: for
		// session.timeout.ms, 45 s, and for as long as members may take to join.
		e.Until(150*time.Second, what, func() string {
			text, _ := os.ReadFile(out)
			seen := map[string]bool{}
			for _, line := range strings.Split(string(text), "\n") {
				seen[line] = true
			}
			for i := range n {
				if !seen[fmt.Sprintf("{n=%d}", i)] {
					return fmt.Sprintf("line %d of %d is missing", i, n)
				}
			}
			return ""
		})
	}
	write(1000)
	there("all lines")
	e.Must(client.ProduceSync(e.Context(), &kgo.Record{Topic: topic, Value: []byte("{")}).FirstErr())
	f.ByID(f.Owners(name)[name+"-1"]).Kill()
	write(1000)
	there("lines after a worker was killed")
	f.Await(name, "RUNNING", 3, 40*time.Second)

	f.Do(http.MethodPut, "/connectors/"+name+"/pause", "", http.StatusAccepted)
	f.Await(name, "PAUSED", 3, 30*time.Second)
	write(100)
	f.Do(http.MethodPut, "/connectors/"+name+"/resume", "", http.StatusAccepted)
	there("lines after a pause")

	// In good order nothing is written twice.
	f.Do(http.MethodPut, "/connectors/"+name+"/stop", "", http.StatusNoContent)
	f.Await(name, "STOPPED", 0, 30*time.Second)
	before, err := os.ReadFile(out)
	e.Must(err)
	f.Do(http.MethodPut, "/connectors/"+name+"/resume", "", http.StatusAccepted)
	f.Await(name, "RUNNING", 3, 30*time.Second)
	write(10)
	there("lines after a stop")
	after, err := os.ReadFile(out)
	e.Must(err)
	if more := strings.Count(strings.TrimPrefix(string(after), string(before)), "\n"); more != 10 {
		t.Errorf("%d lines were written after a stop in good order, want 10", more)
	}
	e.Until(30*time.Second, "reports", func() string {
		ill := e.committed(e.Prefix + ".told-ill")
		well := e.committed(e.Prefix + ".told-well")
		if len(ill) == 0 || len(well) < n {
			return fmt.Sprintf("%d of success for %d records, %d of errors", len(well), n, len(ill))
		}
		var report struct{ Connector, Result, Topic string }
		e.Must(json.Unmarshal([]byte(well[0]), &report))
		if report.Connector != name || report.Result != "success" || report.Topic != topic {
			t.Fatalf("report %s", well[0])
		}
		if !strings.HasPrefix(ill[0], "error: record of topic "+topic) || !strings.Contains(ill[0], "serialization error") {
			t.Fatalf("report %s", ill[0])
		}
		return ""
	})
}
