package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"barnabas/e2e/answers"
	"barnabas/e2e/kafka"
)

// system is a cluster that is asked: Kafka Connect, or ours.
type system struct {
	e         *Env
	name      string
	workers   []string // host:port
	bootstrap string   // that connectors get
	asked     int
}

// next is the worker whose turn it is.
func (s *system) next() string {
	s.asked++
	return s.workers[s.asked%len(s.workers)]
}

// send performs a request as it is written, with paths that no client would make.
func (s *system) send(worker string, v answers.Exchange) answers.Received {
	s.e.t.Helper()
	target, query, _ := strings.Cut(v.Path, "?")
	u := &url.URL{Scheme: "http", Host: worker, Opaque: "//" + worker + target, RawQuery: query}
	var body io.Reader
	if v.Body != nil {
		body = strings.NewReader(strings.ReplaceAll(*v.Body, "127.0.0.1:29092", s.bootstrap))
	}
	req, err := http.NewRequestWithContext(s.e.Context(), v.Method, "http://"+worker, body)
	s.e.Must(err)
	req.URL = u
	for k, h := range v.Headers {
		req.Header.Set(k, h)
	}
	client := &http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		s.e.t.Fatalf("%s: %s: %v", s.name, v.Name, err)
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	text, err := io.ReadAll(res.Body)
	s.e.Must(err)
	return answers.Received{Status: res.StatusCode, Header: res.Header, Body: strings.TrimSpace(string(text))}
}

// calm is send, again while Kafka Connect does not perform requests because it rebalances.
func (s *system) calm(v answers.Exchange, onPurpose bool) (got answers.Received) {
	s.e.t.Helper()
	s.e.Until(2*time.Minute, s.name+": the end of a rebalance", func() string {
		got = s.send(s.workers[0], v)
		if !onPurpose && (got.Status == http.StatusConflict || got.Status == http.StatusInternalServerError) && strings.Contains(got.Body, "because a rebalance is expected") {
			return got.Body
		}
		return ""
	})
	return got
}

// await waits for a connector's state and number of tasks, as each worker sees them.
func (s *system) await(connector, state string, tasks int) {
	for _, w := range s.workers {
		s.awaitAt(w, connector, state, tasks)
	}
}

func (s *system) awaitAt(worker, connector, state string, tasks int) {
	s.e.t.Helper()
	s.e.Until(2*time.Minute, fmt.Sprintf("%s: %s %s with %d tasks", s.name, connector, state, tasks), func() string {
		got := s.send(worker, answers.Exchange{Method: "GET", Path: "/connectors/" + connector + "/status"})
		var st Status
		if got.Status != http.StatusOK || json.Unmarshal([]byte(got.Body), &st) != nil || st.Connector.State != state || len(st.Tasks) != tasks {
			return got.Body
		}
		for _, t := range st.Tasks {
			if t.State != state {
				return got.Body
			}
		}
		return ""
	})
}

// headers are those that a client could depend on, besides what answers.Compare looks at.
var headers = []string{
	"Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Access-Control-Allow-Credentials", "Access-Control-Max-Age", "X-Frame-Options",
}

// TestAnswersLikeConnect asks Kafka Connect and ours, one worker and three, the same, and compares.
func TestAnswersLikeConnect(t *testing.T) {
	e := New(t, 9*time.Minute)
	root, err := kafka.Root()
	e.Must(err)
	differences, err := answers.Differences(filepath.Join(root, "docs", "connect-differences.md"))
	e.Must(err)
	script, err := answers.Read(filepath.Join(root, "rest", "testdata", "connect-4.3.1.json"))
	e.Must(err)
	script = append(script, moreQuestions()...)
	connect, systems := e.beside()
	seen, asked, differs := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, v := range script {
		if v.Name == "bad escape" || v.Name == "null char" { // not let through by net/http: it answers 400 itself
			continue
		}
		if v.Until != nil {
			for _, s := range append(systems, connect) {
				s.await(cmpOr(v.Headers["connector"], "m1"), v.Until.State, v.Until.Tasks)
			}
		}
		delete(v.Headers, "connector")
		theirs := connect.calm(v, differences[v.Name].Reason != "")
		v.Answer.Status, v.Answer.Body, v.Answer.Headers = theirs.Status, nil, map[string]string{"Location": theirs.Header.Get("Location"), "Allow": theirs.Header.Get("Allow")}
		if theirs.Body == "" || json.Valid([]byte(theirs.Body)) {
			v.Answer.Body = &theirs.Body
		}
		for _, s := range systems {
			worker := s.workers[0] // levels of loggers are each worker's own
			if !strings.HasPrefix(v.Path, "/admin") {
				worker = s.next()
			}
			got := s.send(worker, v)
			for _, other := range s.workers {
				got.Body = strings.ReplaceAll(got.Body, other, worker)
			}
			here := strings.NewReplacer(connect.bootstrap, s.bootstrap, connect.workers[0], worker)
			wrong := answers.Compare(v, got, here, differences)
			asked[v.Name] = true
			differs[v.Name] = differs[v.Name] || v.Answer.Body == nil || theirs.Header.Get("Content-Type") != got.Header.Get("Content-Type") ||
				len(answers.Compare(v, got, here, nil)) > 0
			for _, h := range headers {
				a, b := here.Replace(theirs.Header.Get(h)), got.Header.Get(h)
				page := v.Answer.Body == nil // Jetty's own pages come without them
				if !answers.SameWords(a, b) && !page && differences[v.Name].Reason == "" {
					wrong = append(wrong, fmt.Sprintf("%s is %q, want %q", h, b, a))
				}
			}
			for _, w := range wrong {
				seen[v.Name] = true
				t.Errorf("%s: %s: %s %s %.300s\n %s\n Connect: %d %.600s\n ours:    %d %.600s", s.name, v.Name, v.Method, v.Path, answers.Text(v.Body), w,
					theirs.Status, theirs.Body, got.Status, got.Body)
			}
		}
	}
	for _, file := range []string{"rest.json", "policy-None.json", "policy-Principal.json"} { // which rest replays
		more, err := answers.Read(filepath.Join(root, "e2e", "vectors", file))
		e.Must(err)
		script = append(script, more...)
	}
	for name, listed := range differences {
		switch {
		case !slices.ContainsFunc(script, func(v answers.Exchange) bool { return v.Name == name }):
			t.Errorf("docs/connect-differences.md names %q, which nobody asks", name)
		case asked[name] && !differs[name] && !strings.HasPrefix(listed.Reason, "how far "): // a matter of time
			t.Errorf("docs/connect-differences.md names %q, and it does not differ", name)
		}
	}
	t.Logf("%d requests, %d differ", len(script), len(seen))
}

// beside starts Kafka Connect, and ours with one worker and with three.
func (e *Env) beside() (connect *system, ours []*system) {
	e.t.Helper()
	settings := map[string]string{
		"access.control.allow.origin": "http://ui.example,http://other.example", "access.control.allow.methods": "GET,PUT,POST,DELETE",
		"response.http.headers.config": "set X-Frame-Options: DENY", "offset.storage.partitions": "5",
	}
	for _, b := range []*kafka.Broker{e.Source, e.Target} {
		admin, err := b.Admin()
		e.Must(err)
		_, err = admin.CreateTopic(e.Context(), 4, 1, nil, "t1")
		e.Must(err)
		admin.Close()
	}
	dir := filepath.Join(e.Dir, "connect")
	e.Must(os.MkdirAll(dir, 0o700))
	properties := map[string]string{"bootstrap.servers": e.Source.Bootstrap(), "group.id": e.Prefix + "-connect", "offset.flush.interval.ms": "1000"}
	for k, v := range settings {
		properties[k] = v
	}
	c, err := kafka.StartConnect(e.Context(), kafka.ConnectSpec{Name: e.Prefix, Dir: dir, Properties: properties})
	e.Must(err)
	e.t.Cleanup(c.Process().Kill)
	connect = &system{e: e, name: "connect", workers: []string{strings.TrimPrefix(c.URL(), "http://")}, bootstrap: e.Source.Bootstrap()}
	for _, n := range []int{1, 3} {
		f := e.Fleet(FleetOptions{Size: n, Group: fmt.Sprintf("of-%d", n), Properties: settings})
		s := &system{e: e, name: fmt.Sprintf("%d workers", n), bootstrap: e.Target.Bootstrap()}
		for _, w := range f.Workers {
			s.workers = append(s.workers, w.ID)
		}
		ours = append(ours, s)
	}
	return connect, ours
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
