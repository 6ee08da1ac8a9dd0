package rest

import (
	"strings"
	"testing"

	"barnabas/e2e/answers"
)

// onPurpose is what differs from Kafka Connect on purpose.
func onPurpose(t *testing.T) map[string]answers.Difference {
	t.Helper()
	all, err := answers.Differences("../docs/connect-differences.md")
	if err != nil || len(all) == 0 {
		t.Fatal(len(all), err)
	}
	return all
}

// The recorded answers are of one worker on an empty cluster that holds the topic t1 with 4 partitions. They are one story: the
// order matters.
func TestAnswersAreConnects(t *testing.T) {
	t.Parallel()
	vectors, differences := readVectors(t, "testdata/connect-4.3.1.json"), onPurpose(t)
	c := newCluster(t, 1)
	n := c.nodes[0]
	here := strings.NewReplacer("127.0.0.1:29092", c.bootstrap(), "127.0.0.1:28083", n.id)
	for _, v := range vectors {
		if v.Name == "bad escape" || v.Name == "null char" { // not let through by net/http: it answers 400 itself
			continue
		}
		if v.Body != nil {
			body := here.Replace(*v.Body)
			v.Body = &body
		}
		if v.Until != nil {
			n.waitFor("m1", v.Until.State, v.Until.Tasks)
		}
		got := ask(t, n.url, v.Method, v.Path, v.Headers, v.Body)
		for _, wrong := range answers.Compare(v, got.exchange(), here, differences) {
			t.Errorf("%s: %s %s %s\n %s\n Connect: %d %s\n ours:    %d %s", v.Name, v.Method, v.Path, answers.Text(v.Body), wrong,
				v.Answer.Status, answers.Text(v.Answer.Body), got.status, got.body)
		}
	}
}

func readVectors(t *testing.T, path string) []answers.Exchange {
	t.Helper()
	all, err := answers.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestRefusalsAreConnects replays what the recorder in e2e/record has asked Kafka
// Connect about MirrorSource connectors, each with a connector of its own.
func TestRefusalsAreConnects(t *testing.T) {
	t.Parallel()
	for file, settings := range map[string]map[string]string{
		"rest.json":             nil,
		"policy-None.json":      {"connector.client.config.override.policy": "None"},
		"policy-Principal.json": {"connector.client.config.override.policy": "Principal"},
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 1, settings)
			n := c.nodes[0]
			here := strings.NewReplacer("source:9092", c.bootstrap(), "target:9092", c.bootstrap(), "connect:8083", n.id)
			replayed, differences := 0, onPurpose(t)
			for _, v := range readVectors(t, "../e2e/vectors/"+file) {
				if !strings.Contains(answers.Text(v.Body), "MirrorSourceConnector") && v.Path != "/" && v.Path != "/health" {
					continue // about other connectors, or about one of those
				}
				replayed++
				if v.Body != nil {
					body := here.Replace(*v.Body)
					v.Body = &body
				}
				got := ask(t, n.url, v.Method, v.Path, v.Headers, v.Body)
				for _, wrong := range answers.Compare(v, got.exchange(), here, differences) {
					t.Errorf("%s: %s %s %s\n %s\n Connect: %d %s\n ours:    %d %s", v.Name, v.Method, v.Path, answers.Text(v.Body), wrong,
						v.Answer.Status, answers.Text(v.Answer.Body), got.status, got.body)
				}
				if got.status == 201 {
					n.remove(strings.TrimPrefix(got.header.Get("Location"), n.url+"/connectors/"))
				}
			}
			if replayed == 0 {
				t.Error("nothing was replayed")
			}
		})
	}
}

// remove deletes a connector and waits until it is gone.
func (n *node) remove(name string) {
	n.t.Helper()
	if err := n.client.Delete(n.t.Context(), name); err != nil {
		n.t.Fatal(err)
	}
	eventually(n.t, func() string {
		if _, err := n.client.Connector(n.t.Context(), name); !IsNotFound(err) {
			return name + " is still there"
		}
		return ""
	})
}

func (r received) exchange() answers.Received {
	return answers.Received{Status: r.status, Header: r.header, Body: r.body}
}
