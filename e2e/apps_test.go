package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"barnabas/rest"
)

func (f *Fleet) app(name string) (a rest.App) {
	f.e.t.Helper()
	f.e.Must(json.Unmarshal([]byte(f.Do(http.MethodGet, "/v1/apps/"+name, "", http.StatusOK)), &a))
	return a
}

// An app copies topics from one connection to the other, each an identity of its own with nothing but the minimal grant for its scope; it
// picks up a new topic, survives the end of a worker, and tells in words what it does.
func TestAnAppCopiesUnderMinimalGrants(t *testing.T) {
	t.Parallel()
	e := New(t, 4*time.Minute)
	f := e.Fleet(FleetOptions{Size: 2})
	first := e.Topic(e.Source, "orders-eu", 2)
	e.Topic(e.Source, "payments", 1)
	e.Write([]string{first}, 2, 300)
	reader, writer := e.User(e.Source, "ro"), e.User(e.Target, "rw")
	source, target := e.Prefix+"/ro", e.Prefix+"/rw"
	orders := e.Prefix + ".orders-*"
	f.Connection(source, e.Source.Address(Client), reader, map[string]any{"scope": map[string]any{"read": []string{orders}}})
	f.Connection(target, e.Target.Address(Client), writer, map[string]any{"scope": map[string]any{"write": []string{"copy." + orders}}})
	e.allowAll(e.Source, reader, f.check(source).Grant.Rights)
	e.allowAll(e.Target, writer, f.check(target).Grant.Rights)
	name := e.Prefix + "-app"
	app := fmt.Sprintf(`{"source": %q, "target": %q, "topics": [%q], "replicas": 2, "naming": {"policy": "prefix", "prefix": "copy."}}`, source, target, orders)
	f.Do(http.MethodPut, "/v1/apps/"+name, app, http.StatusCreated)
	f.Do(http.MethodPut, "/v1/apps/"+name, app, http.StatusOK)
	topics := map[string]string{first: "copy." + first}
	if report := e.Copied(topics, time.Minute); !report.Equal() {
		t.Errorf("source and target differ: %s", report)
	}
	second := e.Topic(e.Source, "orders-us", 1)
	e.Write([]string{second}, 1, 100)
	topics[second] = "copy." + second
	if report := e.Copied(topics, time.Minute); !report.Equal() {
		t.Errorf("with a new topic source and target differ: %s", report)
	}
	f.Await(name, "RUNNING", 2, time.Minute)
	if r := f.replicates(name, "RUNNING"); len(r.Notes) > 0 {
		t.Errorf("the app lacks something: %+v", r.Notes)
	}
	if got := f.delivery(name); got != "fenced" {
		t.Errorf("delivery is %s", got)
	}
	e.Until(time.Minute, "the status in words", func() string {
		st := f.app(name).Status
		if st == nil || st.State != "RUNNING" || !strings.HasPrefix(st.Says, "copies 2 topics, 3 partitions, of "+orders) || !strings.Contains(st.Says, "all that is there") {
			return fmt.Sprintf("%+v", st)
		}
		return ""
	})
	// The worker that runs a task goes; the app goes on.
	owner := f.ByID(f.Owners(name)[name+"-0"])
	if owner == nil {
		owner = f.Alive()[0]
	}
	owner.Kill()
	e.Write([]string{first}, 2, 300)
	if report := e.Copied(topics, time.Minute); !report.Equal() {
		t.Errorf("after the end of a worker source and target differ: %s", report)
	}
	f.Do(http.MethodDelete, "/v1/apps/"+name, "", http.StatusNoContent)
	if text := f.Do(http.MethodGet, "/connectors", "", http.StatusOK); strings.Contains(text, name) {
		t.Errorf("connectors of a deleted app: %s", text)
	}
}
