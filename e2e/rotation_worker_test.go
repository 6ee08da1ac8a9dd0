package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"barnabas/e2e/kafka"
	"barnabas/rest"
)

// The password of the workers themselves changes while they run. One that does not work is told and not used; one that works is
// what they log in with when all their connections are cut, which the brokers would refuse with the old one.
func TestWorkersOwnPasswordChangesWithoutARestart(t *testing.T) {
	t.Parallel()
	e := New(t, 4*time.Minute)
	all := []kadm.ACLOperation{kadm.OpAll}
	own := e.User(e.Hub, "own", kafka.Grant{Topic: e.Prefix + "*", Operations: all}, kafka.Grant{TransactionalID: "*", Operations: all},
		kafka.Grant{Group: "*", Operations: all}, kafka.Grant{Operations: all})
	properties := own.Settings("")
	properties["bootstrap.servers"] = e.Hub.Address(Faulty)
	properties["audit.topic"], properties["audit.required"] = e.Prefix+"-audit", "true"
	f := e.Fleet(FleetOptions{Size: 2, Properties: properties})
	copied := copying(e, f, "orders", 1, 1)
	pids := []int{f.Workers[0].proc.PID(), f.Workers[1].proc.PID()}
	told := func(words ...string) {
		t.Helper()
		e.Until(time.Minute, fmt.Sprint(words), func() string {
			for _, w := range f.Workers {
				if (&Fleet{e: e, Workers: []*Worker{w}}).lines(words...) == 0 {
					return w.Name + " does not say so"
				}
			}
			return ""
		})
	}
	give := func(password string) {
		e.Must(os.WriteFile(own.File+".next", []byte("username="+own.Name+"\npassword="+password+"\n"), 0o600))
		e.Must(os.Rename(own.File+".next", own.File))
	}

	// listed wants the workers' own use of the password listed in a state.
	listed := func(state string) {
		t.Helper()
		e.Until(time.Minute, "the workers' own reference to be "+state, func() string {
			var uses rest.SecretReferences
			e.Must(json.Unmarshal([]byte(f.Do(http.MethodGet, "/v1/secrets/references?reference="+url.QueryEscape(own.Reference()), "", http.StatusOK)), &uses))
			workers := map[string]bool{}
			for _, r := range uses.References {
				if r.Connector == "" && r.State == state && r.Version != "" && len(r.Clients) > 0 && r.Clients[0].Principal == "User:"+own.Name {
					workers[r.WorkerID] = true
				}
			}
			if len(workers) < len(f.Workers) {
				return fmt.Sprintf("%+v", uses)
			}
			return ""
		})
	}
	listed("current")
	give(e.Leak.Plant("wrong"))
	told("a secret of the worker itself cannot be rotated; the old value stays in use", own.Name)
	listed("failed")
	f.Do(http.MethodPut, "/connectors/"+e.Prefix+"-orders/pause", "", http.StatusAccepted)
	f.Do(http.MethodPut, "/connectors/"+e.Prefix+"-orders/resume", "", http.StatusAccepted)

	second := e.Leak.Plant("second")
	e.Must(e.Hub.AddUser(t.Context(), own.Name, second))
	give(second)
	for _, client := range []string{"worker", "audit"} {
		told(`msg="secret of the worker itself rotated"`, "client="+client+" ", own.Reference())
	}
	told("secrets of the worker itself are in order again")
	listed("current")
	e.HubNet.Cut()
	for i := range 4 { // each of them is written to the topics of the configuration and of the audit trail
		name := fmt.Sprintf("%s-after-%d", e.Prefix, i)
		e.Until(time.Minute, "a change under the new password", func() string {
			status, answer := f.Workers[i%2].Ask(http.MethodPut, "/connectors/"+name+"/config", e.Mirror(own, own, "nothing", 1).JSON())
			if status >= 300 {
				return answer
			}
			return ""
		})
		f.Do(http.MethodDelete, "/connectors/"+name, "", http.StatusNoContent)
	}
	sources, _ := names(copied)
	e.Write(sources, 1, 100)
	if report := e.Copied(copied, time.Minute); !report.Equal() {
		t.Errorf("source and target differ: %s", report)
	}
	for _, client := range []string{"worker", "audit"} {
		if n := f.lines("client="+client+" ", "SASL_AUTHENTICATION_FAILED"); n > 0 {
			t.Errorf("%d lines say that the client %s was refused", n, client)
		}
	}
	for i, w := range f.Workers {
		if !w.Running() || w.proc.PID() != pids[i] {
			t.Errorf("%s was started again", w.Name)
		}
	}
}
