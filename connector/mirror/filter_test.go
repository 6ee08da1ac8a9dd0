package mirror

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPatternsMatchLikeJava compares with what DefaultTopicFilter of Kafka
// 4.3.1 answered on Java 17.
func TestPatternsMatchLikeJava(t *testing.T) {
	t.Parallel()
	var recorded struct {
		Names []string
		Rows  []struct {
			Topics  string
			Matches []string
			Error   *string
		}
	}
	readTestdata(t, "filter.json", &recorded)
	// Refused here with a clear error: nobody names topics with these.
	unsupported := []string{`(?x) orders # c`, `\R`, `\N{LATIN SMALL LETTER A}a`}
	for _, row := range recorded.Rows {
		if row.Topics == "," {
			continue // the key's validator refuses it before
		}
		t.Run(row.Topics, func(t *testing.T) {
			t.Parallel()
			got, err := matches(row.Topics, recorded.Names)
			if (err != nil) != (row.Error != nil || slices.Contains(unsupported, row.Topics)) {
				t.Fatalf("error %v, Java's %v", err, row.Error)
			}
			if err == nil && !cmp.Equal(got, row.Matches) {
				t.Errorf("matches %q, Java's %q", got, row.Matches)
			}
		})
	}
}

func matches(topics string, names []string) ([]string, error) {
	var list []string
	for item := range strings.SplitSeq(topics, ",") {
		if topics != "" {
			list = append(list, strings.TrimSpace(item))
		}
	}
	p, err := newPatterns("topics", list)
	if err != nil {
		return nil, err
	}
	got := []string{}
	for _, n := range names {
		ok, err := p.match(n)
		if err != nil {
			return nil, err
		}
		if ok {
			got = append(got, n)
		}
	}
	return got, nil
}

func TestSlowRegexIsStopped(t *testing.T) {
	t.Parallel()
	p, err := newPatterns("topics", []string{`(?=a)(a+)+b`})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.match(strings.Repeat("a", 60))
	if err == nil || !strings.Contains(err.Error(), "topics") {
		t.Fatalf("got %v, want an error that names the key", err)
	}
}

func TestFilterLeavesOut(t *testing.T) {
	t.Parallel()
	include, _ := newPatterns("topics", []string{".*"})
	exclude, _ := newPatterns("topics.exclude", []string{`mm2.*\.internal`, `.*\.replica`, `__.*`})
	f := TopicFilter{
		include: include, exclude: exclude, policy: newPolicy(false, ".", true, "A"), target: "B", heartbeats: true,
		reserved: map[string]bool{"connect-configs": true},
	}
	for topic, want := range map[string]bool{
		"orders": true, "orders-internal": true, "orders.internal": true, "C.orders": true, "heartbeats": true, "C.heartbeats": true,
		"C.A.heartbeats": false, "A.heartbeats": false, "C.D.A.heartbeats": false, "C.D.heartbeats": true, "C.A.orders": true,
		"B.orders": false, "C.B.orders": false, "B.heartbeats": false, "__consumer_offsets": false, ".x": false, "orders.replica": false,
		"mm2-offset-syncs.B.internal": false, "C.checkpoints.internal": false, "connect-configs": false,
	} {
		if got, err := f.Copies(topic); got != want || err != nil {
			t.Errorf("Copies(%q) = %v, %v", topic, got, err)
		}
	}
	f.include = patterns{}
	if got, _ := f.Copies("heartbeats"); !got {
		t.Error("heartbeats are copied whatever topics says")
	}
	f.heartbeats = false
	if got, _ := f.Copies("heartbeats"); got {
		t.Error("heartbeats.replication.enabled=false leaves them to topics")
	}
}
