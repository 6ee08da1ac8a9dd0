package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"barnabas/e2e/oracle"
	"barnabas/rest"
)

// setting is a number from the environment: the drill of a release is longer and faster than the one of every build.
func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv(name), strconv.Itoa(otherwise)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// changePassword puts a new password into the identity's file, at once as an operator of secrets does, and returns the version
// that the file has then.
func (e *Env) changePassword(i Identity, password string) (version string) {
	e.t.Helper()
	next := i.File + ".next"
	e.Must(os.WriteFile(next, []byte("username="+i.Name+"\npassword="+password+"\n"), 0o600))
	info, err := os.Stat(next)
	e.Must(err)
	e.Must(os.Rename(next, i.File))
	return info.ModTime().UTC().Format("2006-01-02T15:04:05.000000Z")
}

// lines counts the log lines of all workers that hold all of these words.
func (f *Fleet) lines(words ...string) (n int) {
	f.e.t.Helper()
	for _, w := range f.Workers {
		text, err := os.ReadFile(w.Log())
		f.e.Must(err)
	next:
		for line := range strings.SplitSeq(string(text), "\n") {
			for _, word := range words {
				if !strings.Contains(line, word) {
					continue next
				}
			}
			n++
		}
	}
	return n
}

// drill is a mirror whose passwords change.
type drill struct {
	*Env
	f              *Fleet
	name           string
	tasks          int
	source, target Identity
}

// rotated waits until all tasks use a version.
func (d *drill) rotated(reference, version string) time.Duration {
	d.t.Helper()
	return d.Until(90*time.Second, "all tasks use "+version, func() string {
		for task := range d.tasks {
			if d.f.lines(`msg="secret rotated"`, "connector="+d.name+" ", fmt.Sprintf("task=%d ", task), reference, "version="+version) == 0 {
				return fmt.Sprintf("task %d does not", task)
			}
		}
		return ""
	})
}

// wrong puts a password into the file that the broker does not know, and takes it out again.
func (d *drill) wrong(who Identity, right string) {
	d.t.Helper()
	before := d.f.lines(`msg="secret rotated"`)
	version := d.changePassword(who, d.Leak.Plant("wrong"))
	took := d.Until(90*time.Second, "the report of a wrong password", func() string {
		r := d.f.Replication(d.name)
		if r.Status != "DEGRADED" || !strings.Contains(r.Reason, "rotation failed") || !strings.Contains(r.Reason, version) {
			return r.Status + " " + r.Reason
		}
		if d.f.lines("level=WARN", `msg="secret rotation failed`, version) == 0 {
			return "no line in the log"
		}
		return ""
	})
	d.t.Logf("a wrong password is reported after %s: %s", took, d.f.Replication(d.name).Reason)
	if limit := setting(d.t, "E2E_ROTATION_REPORT_MS", 0); limit > 0 && took > time.Duration(limit)*time.Millisecond {
		d.t.Errorf("a wrong password was reported after %s", took)
	}
	if after := d.f.lines(`msg="secret rotated"`); after != before {
		d.t.Errorf("%d changes while the password was wrong", after-before)
	}
	d.changePassword(who, right)
	d.Until(90*time.Second, "good order again", func() string {
		if r := d.f.Replication(d.name); r.Status != "RUNNING" {
			return r.Status + " " + r.Reason
		}
		return ""
	})
}

// drills changes a password by order: a rehearsal first, then the change, then the proof that the former one is refused.
func (d *drill) drills() {
	d.t.Helper()
	ref := d.target.Reference()
	var before rest.SecretReferences
	d.Must(json.Unmarshal([]byte(d.f.Do(http.MethodGet, "/v1/secrets/references?reference="+url.QueryEscape(ref), "", http.StatusOK)), &before))
	if len(before.References) != d.tasks+1 || len(before.Missing) > 0 { // the connector itself, too
		d.t.Errorf("%s is used by %+v", ref, before)
	}
	for _, r := range before.References {
		if len(r.Clients) == 0 || r.State != "current" || r.Clients[0].Principal != "User:"+d.target.Name || r.Clients[0].Cluster != d.Target.Address(Client) {
			d.t.Errorf("%+v", r)
		}
	}
	outcomes := func(dry bool) (all []string) {
		var done rest.SecretRotations
		body, _ := json.Marshal(map[string]any{"reference": ref, "dry_run": dry})
		d.Must(json.Unmarshal([]byte(d.f.Do(http.MethodPost, "/v1/secrets/rotate", string(body), http.StatusOK)), &done))
		for _, r := range done.Rotations {
			all = append(all, r.Outcome)
		}
		return slices.Compact(all)
	}
	if got := outcomes(false); !slices.Equal(got, []string{"unchanged"}) {
		d.t.Errorf("a value that has not changed: %v", got)
	}
	password := d.Leak.Plant("password by order")
	d.Must(d.Target.AddUser(d.Context(), d.target.Name, password))
	version := d.changePassword(d.target, password)
	for _, got := range outcomes(true) { // some of the workers may have been faster, and have the new value already
		if got != "proved" && got != "unchanged" {
			d.t.Errorf("rehearsal: %s", got)
		}
	}
	outcomes(false)
	d.rotated(ref, version)

	body, _ := json.Marshal(map[string]any{"reference": ref, "version": before.References[0].Version})
	var proof rest.SecretRevocation
	d.Must(json.Unmarshal([]byte(d.f.Do(http.MethodPost, "/v1/secrets/prove-revoked", string(body), http.StatusOK)), &proof))
	if !proof.Revoked || len(proof.Proofs) == 0 {
		d.t.Errorf("the former password: %+v", proof)
	}
}

func TestPasswordsChangeUnderLoadWithoutARestart(t *testing.T) {
	t.Parallel()
	for mode, properties := range map[string]map[string]string{"fenced": nil, "transactional": {"exactly.once.source.support": "enabled"}} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			changes, rate := setting(t, "E2E_ROTATIONS", 3), setting(t, "E2E_ROTATION_RATE", 1000)
			length := time.Duration(setting(t, "E2E_ROTATION_SECONDS", 8)) * time.Second
			e := New(t, length+4*time.Minute)
			d := &drill{Env: e, f: e.Fleet(FleetOptions{Size: 3, Properties: properties}), name: e.Prefix + "-" + mode, tasks: 3}
			topic := e.Topic(e.Source, mode, 6)
			d.source, d.target = e.User(e.Source, mode+"-ro", ReadTopics(topic)...), e.User(e.Target, mode+"-rw", WriteTopics("src."+topic+"*")...)
			d.f.Create(d.name, e.Mirror(d.source, d.target, topic, d.tasks).With(map[string]string{"offsets.storage.topic": "src." + topic + ".offsets"}))
			d.f.Await(d.name, "RUNNING", d.tasks, 60*time.Second)
			stop := e.Load([]string{topic}, 6, rate)
			runs := func() int { return d.f.lines("generation=", "msg=running", "connector="+d.name) }
			began, before := time.Now(), runs()

			for i := range changes {
				who, broker := d.source, e.Source
				if i%2 == 1 {
					who, broker = d.target, e.Target
				}
				password := e.Leak.Plant(fmt.Sprint("password ", i))
				version := ""
				if i%3 == 2 { // the file first: it is refused until the broker knows
					version = e.changePassword(who, password)
					e.Until(90*time.Second, "the refusal", func() string {
						if d.f.lines(`msg="secret rotation failed`, version) == 0 {
							return "not yet"
						}
						return ""
					})
					e.Must(broker.AddUser(t.Context(), who.Name, password))
				} else {
					e.Must(broker.AddUser(t.Context(), who.Name, password))
					version = e.changePassword(who, password)
				}
				t.Logf("change %d is made after %s", i, d.rotated(who.Reference(), version))
				if i == changes/2 {
					d.wrong(who, password)
				}
				e.Pass(time.Until(began.Add(length * time.Duration(i+1) / time.Duration(changes))))
			}
			d.drills()
			stop()
			if after := runs(); after != before {
				t.Errorf("tasks were started %d times while passwords changed", after-before)
			}
			var report oracle.Report
			e.Until(2*time.Minute, "the whole copy", func() (missing string) {
				var err error
				report, err = oracle.Compare(e.Context(), oracle.Options{Source: Plain(e.Source), Target: Plain(e.Target), Topics: map[string]string{topic: "src." + topic}, Committed: true})
				e.Must(err)
				if report.Missing > 0 {
					missing = report.String()
				}
				return missing
			})
			if !report.Equal() || report.Source == 0 {
				t.Errorf("source and target differ: %s", report)
			}
			t.Log(report)
			d.f.Pages(d.name)
		})
	}
}
