package rest

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"barnabas/connector/mirror"
)

// TestPlansAndTranslationsAreDescribed has answers with everything in them checked against openapi.yaml.
func TestPlansAndTranslationsAreDescribed(t *testing.T) {
	t.Parallel()
	translations := Translations{"m", []mirror.GroupTranslation{
		{Group: "g", Partitions: []mirror.Translation{
			{Topic: "o", Partition: 1, Offset: 7, Metadata: "x", TargetTopic: "A.o", TargetOffset: 5, Accuracy: mirror.Exact},
			{Topic: "o", Offset: 7, TargetTopic: "A.o", TargetOffset: -1, Accuracy: mirror.Unknown, Reason: "made anew"},
		}},
		{Group: "h", Partitions: []mirror.Translation{}, Error: "the source has no such group"},
	}}
	plan := FailoverPlan{"m", mirror.FailoverPlan{
		Source: "A", Target: "B", At: time.Unix(1, 0).UTC(), Verdict: mirror.Failed,
		Checks: []mirror.Check{
			{Name: mirror.CheckLag, Verdict: mirror.Failed, Text: "x (and 1 more)", Details: []string{"x", "y"}, More: 3},
			{Name: mirror.CheckGroups, Verdict: mirror.OK, Text: "fine"},
			{Name: mirror.CheckLoss, Verdict: mirror.Todo, Text: "wait"},
			{Name: mirror.CheckProducerRights, Verdict: mirror.Unclear, Text: "refused"},
		},
		Loss: []mirror.TopicLoss{{Topic: "o", Records: 3, Partitions: 1, Unknown: 1}},
		Groups: []mirror.GroupPlan{{
			Group: "g", SourceState: "Stable", TargetState: "Dead", Partitions: 2, Accuracies: map[mirror.Accuracy]int{mirror.Exact: 1, mirror.Unknown: 1}, Unset: 1, Beyond: 0, Reason: "made anew",
		}},
	}}
	s, err := newServer(Options{}, func(*Server) []route {
		answerWith := func(v any) handler {
			return func(context.Context, *request) (answer, error) { return ok(v) }
		}
		return []route{
			{method: "GET", path: "/v1/replication/:connector/translate", handle: answerWith(translations)},
			{method: "GET", path: "/v1/replication/:connector/failover", handle: answerWith(plan)},
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	client := testClient(t, server.URL)
	gotTranslations, err := client.Translate(t.Context(), "m", []string{"g", "h"}, []string{"o"})
	if diff := cmp.Diff(translations, gotTranslations); err != nil || diff != "" || translations.Translated() {
		t.Errorf("%v %s", err, diff)
	}
	gotPlan, err := client.FailoverPlan(t.Context(), "m", 10, time.Second, time.Minute)
	if diff := cmp.Diff(plan, gotPlan); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

// TestAnyWorkerAnswersForTheOneThatRunsTheConnector asks every worker of a cluster: all but one have to forward.
func TestAnyWorkerAnswersForTheOneThatRunsTheConnector(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	ctx := t.Context()
	if _, err := c.nodes[0].client.PutConfig(ctx, "m", c.mirror(nil)); err != nil {
		t.Fatal(err)
	}
	c.nodes[0].waitFor("m", "RUNNING", 2)
	for _, n := range c.nodes {
		eventually(t, func() string {
			p, err := n.client.FailoverPlan(ctx, "m", 10, time.Millisecond, 0)
			if err != nil || len(p.Checks) != 13 || p.Checks[0].Name != mirror.CheckConnectors || p.Checks[0].Verdict != mirror.OK {
				return toJSON(t, p) + toJSON(t, err)
			}
			return ""
		})
		if tr, err := n.client.Translate(ctx, "m", []string{"none"}, nil); err != nil || len(tr.Groups) != 1 || tr.Translated() {
			t.Errorf("%+v, error %v", tr, err)
		}
		if _, err := n.client.Translate(ctx, "nope", nil, nil); !IsNotFound(err) {
			t.Errorf("of an unknown connector: %v", err)
		}
		if _, err := n.client.FailoverPlan(ctx, "m", -1, 0, 0); !HasStatus(err, 400) {
			t.Errorf("of a negative lag: %v", err)
		}
	}
}
