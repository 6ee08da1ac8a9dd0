package rest

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/worker"
)

// records returns the values of a key of the config topic, oldest first.
func (c *cluster) records(key string) (values []string) {
	c.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.kafka.ListenAddrs()...), kgo.ConsumeTopics("configs"), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		c.t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	ends, err := kadm.NewClient(cl).ListCommittedOffsets(ctx, "configs")
	if err != nil {
		c.t.Fatal(err)
	}
	end, _ := ends.Lookup("configs", 0)
	for next := int64(0); next < end.Offset; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			c.t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 2 // the end of a transaction is no record
			if string(r.Key) == key && r.Offset < end.Offset {
				values = append(values, string(r.Value))
			}
		})
	}
	return values
}

// signedBy returns the headers of an internal request with a body.
func (n *node) signedBy(body string) map[string]string {
	n.t.Helper()
	var key []byte
	var algorithm string
	eventually(n.t, func() string {
		var ok bool
		if key, algorithm, ok = n.worker.SessionKey(); !ok {
			return "no session key"
		}
		return ""
	})
	r, err := http.NewRequestWithContext(n.t.Context(), "PUT", "http://x/", nil)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := Sign(r, []byte(body), key, algorithm); err != nil {
		n.t.Fatal(err)
	}
	return map[string]string{headerSignature: r.Header.Get(headerSignature), headerAlgorithm: algorithm}
}

func TestFenceAnswersAsConnectDoes(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	leader, follower := c.roles()
	sink := map[string]string{"connector.class": "FileStreamSink", "topics": "t1", "file": t.TempDir() + "/out"}
	for name, cfg := range map[string]map[string]string{"m": c.mirror(nil), "sink": sink} {
		if _, err := leader.client.Create(t.Context(), name, cfg, map[string]worker.TargetState{"sink": worker.Stopped}[name]); err != nil {
			t.Fatal(err)
		}
	}
	follower.waitFor("m", "RUNNING", 2)
	good := leader.signedBy("")
	with := func(header, value string) map[string]string {
		h := maps.Clone(good)
		h[header] = value
		return h
	}
	body := "x"
	for _, row := range []struct {
		name, connector string
		header          map[string]string
		body            *string
		status          int
		message         string
	}{
		{"unsigned", "m", nil, nil, 400, "Internal request missing required signature"},
		{"without an algorithm", "m", map[string]string{headerSignature: good[headerSignature]}, nil, 400, "Internal request missing required signature"},
		{"with an algorithm that there is not", "m", with(headerAlgorithm, "HmacX"), nil, 400, "Algorithm HmacX not available"},
		{"with an algorithm that is not accepted", "m", with(headerAlgorithm, "HmacSHA1"), nil, 400, "This worker does not support the 'HmacSHA1' key signing algorithm"},
		{"with a wrong signature", "m", with(headerSignature, "AAAA"), nil, 403, "Internal request contained invalid signature."},
		{"with another body", "m", good, &body, 403, "Internal request contained invalid signature."},
		{"of nothing", "nope", good, nil, 404, "Connector nope not found"},
		{"of a sink", "sink", good, nil, 400, "Connector sink is not a source connector"},
		{"of a source", "m", good, nil, 204, ""},
		{"once more", "m", good, nil, 204, ""},
	} {
		for _, n := range c.nodes {
			a := ask(t, n.url, "PUT", "/connectors/"+row.connector+"/fence", row.header, row.body)
			if a.status != row.status || !strings.Contains(a.body, row.message) {
				t.Errorf("%s: answered %d %s, want %d %s", row.name, a.status, a.body, row.status, row.message)
			}
		}
	}
	if got := c.records("tasks-fencing-m"); !slices.Equal(got, []string{`{"task-count":2}`}) {
		t.Errorf("recorded %q, want one record of two tasks", got)
	}
	if a := ask(t, follower.url, "PUT", "/connectors/m/fence?forward=false", good, nil); a.status != http.StatusConflict {
		t.Errorf("not to be forwarded: %d %s", a.status, a.body)
	}
	// New tasks need a new round.
	if _, err := leader.client.PutConfig(t.Context(), "m", c.mirror(map[string]string{"tasks.max": "3"})); err != nil {
		t.Fatal(err)
	}
	follower.waitFor("m", "RUNNING", 3)
	if a := ask(t, follower.url, "PUT", "/connectors/m/fence", good, nil); a.status != http.StatusNoContent {
		t.Errorf("after a change: %d %s", a.status, a.body)
	}
	if got := c.records("tasks-fencing-m"); !slices.Equal(got, []string{`{"task-count":2}`, `{"task-count":3}`}) {
		t.Errorf("recorded %q", got)
	}
}

// Connect does a round when tasks of an exactly-once source start; whom the cluster is handed back to finds the record.
func TestExactlyOnceSourcesHaveTheirTasksCounted(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, map[string]string{"exactly.once.source.support": "enabled"})
	n := c.nodes[0]
	if _, err := n.client.Create(t.Context(), "m", c.mirror(nil), ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if got := c.records("tasks-fencing-m"); !slices.Equal(got, []string{`{"task-count":2}`}) {
			return fmt.Sprintf("recorded %q", got)
		}
		return ""
	})
	if err := n.client.Stop(t.Context(), "m"); err != nil {
		t.Fatal(err)
	}
	if err := n.client.Resume(t.Context(), "m"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if got := c.records("tasks-fencing-m"); !slices.Equal(got, []string{`{"task-count":2}`, `{"task-count":2}`}) {
			return fmt.Sprintf("recorded %q", got)
		}
		return ""
	})
}
