package mirror

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
	"barnabas/connector/offsetrun"
)

// hopsOf reads "a>b c=d": copies from topic a of cluster a into topic b of cluster b; = leaves marks.
func hopsOf(text string) (hops []offsetrun.Hop) {
	for word := range strings.FieldsSeq(text) {
		hops = append(hops, offsetrun.Hop{Cluster: word[:1], Topic: topicOf(word[0]), Into: topicOf(word[2]), Marked: word[1] == '='})
	}
	return hops
}

func topicOf(name byte) (id [16]byte) {
	id[0] = name
	return id
}

func TestOneLinkOfEachCircleGivesWay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		links string // all of them
		yield string // those that give way
	}{
		"nothing":                {"a>b", ""},
		"there and back":         {"a>b b>a", "b>a"},
		"a chain":                {"a>b b>c c>d", ""},
		"a ring of three":        {"a>b b>c c>a", "c>a"},
		"the other way round":    {"a>c c>b b>a", "c>b"},
		"a ring with a tail":     {"d>a a>b b>c c>a", "c>a"},
		"a feeder, and an end":   {"e>a a>b b>a b>f", "b>a"},
		"two rings that share a": {"a>b b>a a>c c>a", "b>a c>a"},
		"both ways in a ring":    {"a>b b>a b>c c>b c>a a>c", "b>a c>b c>a"},
		"all leave marks":        {"a=b b=c c=a", ""},
		"one leaves none":        {"a=b b>c c=a", "c=a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all, yielding := hopsOf(c.links), hopsOf(c.yield)
			var got []offsetrun.Hop
			for _, link := range all {
				end := func(id [16]byte) hopEnd { return hopEnd{string(id[:1]), id} }
				known := leading(all, link.Topic)
				if _, n := (circle{source: end(link.Topic), target: end(link.Into), hops: known}).yields(link.Marked); n > 0 {
					got = append(got, link)
				}
			}
			if diff := cmp.Diff(yielding, got); diff != "" {
				t.Errorf("they give way (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHopsAreWrittenIntoTheConfigurationOfTasks(t *testing.T) {
	t.Parallel()
	upstream := map[string][]offsetrun.Hop{"orders": hopsOf("a>b c=a"), "mails": hopsOf("c>a"), "other": hopsOf("b>a")}
	upstream["orders"][0].Cluster = "an id, with spaces"
	text := formatUpstream(upstream, "orders-0,orders-1,mails-2,none-0")
	delete(upstream, "other")
	if diff := cmp.Diff(upstream, parseUpstream(text)); diff != "" {
		t.Error(diff)
	}
	for _, rubbish := range []string{"", "{", `{"a":["x"]}`, `{"a":["!! !! m c"]}`} {
		if got := parseUpstream(rubbish)["a"]; len(got) != 0 {
			t.Errorf("%q: %v", rubbish, got)
		}
	}
	if got := formatUpstream(nil, "orders-0"); got != "" {
		t.Error(got)
	}
}

// ring is n links in a ring under the identity policy.
func ring(t *testing.T, n int) []*rig {
	t.Helper()
	var clusters []*kfake.Cluster
	for i := range n {
		clusters = append(clusters, fake(t, kfake.ClusterID(string(rune('A'+i)))))
	}
	links := make([]*rig, n)
	for i := range links {
		next := clusters[(i+1)%n]
		r := newRigAt(t, clusters[i].ListenAddrs(), next.ListenAddrs())
		r.source, r.target = clusters[i], next
		r.config[keyPolicyClass] = "IdentityReplicationPolicy"
		r.config[keySourceAlias], r.config[keyTargetAlias] = string(rune('a'+i)), string(rune('a'+(i+1)%n))
		r.createTopic(r.source, "orders", 1, nil)
		r.createTopic(r.source, "orders-still", 1, nil)
		links[i] = r
	}
	return links
}

func TestATopicThatRunsInARingOfThreeClustersIsLeftOutOnce(t *testing.T) {
	t.Parallel()
	links := ring(t, 3)
	for _, r := range links {
		r.run()
	}
	write(t, links[0].source, numbered("orders", 0, 0, 10)...)
	last := links[2] // its source's id is the largest
	eventually(t, "the last link leaves the topic out", func() bool { return last.leftOut() })
	eventually(t, "it says that it is over several clusters", func() bool {
		return locked(last, func() bool {
			for _, p := range last.progress[0].Partitions {
				if p.Topic == "orders" && p.State == stateStopped && strings.Contains(p.Reason, "by way of 3 clusters") {
					return true
				}
			}
			return false
		})
	})
	if links[0].leftOut() || links[1].leftOut() {
		t.Error("another link leaves it out, too")
	}
	eventually(t, "what was on its way has come to the end", func() bool {
		return end(links[1].source, "orders") >= end(links[0].source, "orders") && end(last.source, "orders") >= end(links[1].source, "orders")
	})
	write(t, links[0].source, numbered("orders", 0, 100, 5)...)
	eventually(t, "new records come to the end", func() bool {
		return strings.Contains(values(read(t, last.source, "orders")[0]), " orders-0-104 ")
	})
	if got := values(read(t, links[0].source, "orders")[0]); strings.Count(got, " orders-0-102 ") != 1 {
		t.Errorf("a record has come back to where it was written: %s", got)
	}
}

func TestWhatRunsInACircleIsStillKnownAfterARestart(t *testing.T) {
	t.Parallel()
	links := ring(t, 2)
	stops := []func() error{links[0].run(), links[1].run()}
	write(t, links[0].source, numbered("orders", 0, 0, 10)...)
	eventually(t, "the second leaves the topic out", func() bool { return links[1].leftOut() })
	eventually(t, "its task does not copy it any more", func() bool {
		return locked(links[1], func() bool {
			return len(links[1].tasks) == 1 && !strings.Contains(links[1].tasks[0][keyTaskPartitions], "orders-0,")
		})
	})
	if err := stops[1](); err != nil {
		t.Fatal(err)
	}
	before := end(links[0].source, "orders")
	write(t, links[1].source, numbered("orders", 0, 200, 3)...)
	locked(links[1], func() int { links[1].log.Reset(); return 0 })
	links[1].run()
	eventually(t, "it is left out again", func() bool { return links[1].leftOut() || end(links[0].source, "orders") > before })
	if after := end(links[0].source, "orders"); after != before {
		t.Errorf("%d records were copied back before that", after-before)
	}
}

// TestMarkedRecordsDoNotGoRound has a ring in which every link marks: each cluster gets each record once, and nothing is left out.
func TestMarkedRecordsDoNotGoRound(t *testing.T) {
	t.Parallel()
	links := ring(t, 3)
	for _, r := range links {
		r.config[keyProvenance] = "true"
		r.run()
	}
	for i, r := range links {
		write(t, r.source, numbered("orders", 0, 100*i, 10)...)
	}
	eventually(t, "every cluster has the records of all", func() bool {
		for _, r := range links {
			if end(r.source, "orders") < 30 {
				return false
			}
		}
		return true
	})
	eventually(t, "each link has left out what came back", func() bool {
		for _, r := range links {
			if locked(r, func() int64 { return r.decided("left out: came back") }) < 10 {
				return false
			}
		}
		return true
	})
	for _, r := range links {
		records := read(t, r.source, "orders")[0]
		for i := range 3 {
			for n := range 10 {
				value := " " + string(numbered("orders", 0, 100*i+n, 1)[0].Value) + " "
				if got := strings.Count(values(records), value); got != 1 {
					t.Errorf("cluster %s has%sas often as %d times", r.config[keySourceAlias], value, got)
				}
			}
		}
		for _, c := range records {
			for _, h := range c.Headers {
				if h.Key != "barnabas.provenance" || len(h.Value) != 1 {
					t.Errorf("header %s=%s", h.Key, h.Value)
				}
			}
		}
		if r.leftOut() {
			t.Error("a topic is left out though all links mark: " + r.logged())
		}
		if n := locked(r, func() int64 { return r.decided("decoded: provenance") }); n == 0 {
			t.Error("it is not counted that the records were decoded")
		}
	}
}

// decided sums up what became of batches. r.mu is held.
func (r *rig) decided(what string) (n int64) {
	for _, task := range r.progress {
		for _, p := range task.Partitions {
			n += p.Decisions[what]
		}
	}
	return n
}

// TestMarkedRecordsAreReconciled stops a task in the middle, so that its successor has to find out from the target's tail
// how far the copy is, and what was left out.
func TestMarkedRecordsAreReconciled(t *testing.T) {
	t.Parallel()
	links := ring(t, 2)
	r := links[0]
	r.config[keyProvenance] = "true"
	came := numbered("orders", 0, 10, 10)
	for _, c := range came {
		c.Headers = []kgo.RecordHeader{{Key: "barnabas.provenance", Value: []byte("B")}}
	}
	write(t, r.source, append(append(numbered("orders", 0, 0, 10), came...), numbered("orders", 0, 20, 10)...)...)
	r.every = 1 << 40 // books are kept at the beginning only
	r.run()
	eventually(t, "all that has not come back is copied", func() bool { return len(read(t, r.target, "orders")[0]) == 20 })
	r.mu.Lock()
	former, config := r.running[0], r.tasks[0]
	r.mu.Unlock()
	former.kill()
	<-former.done
	r.startTask(0, config)
	write(t, r.source, numbered("orders", 0, 30, 5)...)
	eventually(t, "the successor copies what is new", func() bool {
		return strings.Contains(values(read(t, r.target, "orders")[0]), " orders-0-34 ")
	})
	if got := len(read(t, r.target, "orders")[0]); got != 25 {
		t.Errorf("the copy has %d records, and 25 are to be copied: %s", got, r.logged())
	}
}

// TestMarksAreNoDifference verifies a copy whose records have marks, and whose source has records that came back.
func TestMarksAreNoDifference(t *testing.T) {
	t.Parallel()
	links := ring(t, 2)
	for _, r := range links {
		r.config[keyProvenance] = "true"
		r.run()
	}
	write(t, links[0].source, numbered("orders", 0, 0, 10)...)
	write(t, links[1].source, numbered("orders", 0, 100, 10)...)
	eventually(t, "both have all", func() bool { return end(links[0].source, "orders") >= 20 && end(links[1].source, "orders") >= 20 })
	open := func(at []string) openClient {
		return func(extra ...kgo.Opt) (*kgo.Client, error) {
			return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(at...)}, extra...)...)
		}
	}
	settings := config.Literal(links[0].config)
	settings[keyTopics] = config.Literal(map[string]string{keyTopics: "orders"})[keyTopics]
	report, err := Verify(t.Context(), VerifyOptions{Config: settings, Source: open(links[0].sourceAt), Target: open(links[0].targetAt)})
	if err != nil || len(report.Partitions) != 1 {
		t.Fatal(report, err)
	}
	// All ten are there, marked; the ten that were written at the target are more than the source has copied.
	if p := report.Partitions[0]; p.Missing != 0 || p.Different != 0 || p.Source != 10 {
		t.Errorf("%+v", p)
	}
}
