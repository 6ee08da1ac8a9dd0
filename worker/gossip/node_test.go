package gossip

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"barnabas/config"
)

// patience is how long a test waits for what should take a fraction of it: the
// machine may be busy with other things.
const patience = 20 * time.Second

// node is a running worker's membership.
type node struct {
	*Cluster
	t    *testing.T
	log  *logBuffer
	stop func() // ends Run and waits for it
}

// start runs a worker called name, on a free loopback port unless o says otherwise.
func start(t *testing.T, name string, o Options) *node {
	t.Helper()
	n := &node{t: t, log: &logBuffer{}}
	o.Name = name
	if o.Incarnation == 0 {
		o.Incarnation = 1
	}
	if o.Bind == "" {
		o.Bind = "127.0.0.1:0"
	}
	if o.Meta.URL == "" {
		o.Meta.URL = "http://" + name
	}
	o.Logger = slog.New(slog.NewTextHandler(n.log, nil))
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	n.Cluster = c
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: Run: %v", name, err)
		}
	})
	t.Cleanup(n.stop)
	n.until("it lists itself", func(m []Member) bool { return slices.ContainsFunc(m, isSelf) })
	return n
}

func isSelf(m Member) bool { return m.Self }

// address is where n's gossip listens.
func (n *node) address() string {
	m := n.Members()
	return m[slices.IndexFunc(m, isSelf)].Address
}

// until waits until what n says of its members fits.
func (n *node) until(what string, fits func([]Member) bool) {
	n.t.Helper()
	deadline := time.After(patience)
	for !fits(n.Members()) {
		select {
		case <-n.Changed():
		case <-deadline:
			n.t.Fatalf("%s: not within %v: %s\nmembers: %+v\nlog:\n%s", n.o.Name, patience, what, n.Members(), n.log)
		}
	}
}

// sees waits until n's members are those called names.
func (n *node) sees(names ...string) {
	n.t.Helper()
	n.until("members are "+strings.Join(names, " "), func(m []Member) bool { return slices.Equal(ids(m), names) })
}

func ids(members []Member) []string {
	var ids []string
	for _, m := range members {
		ids = append(ids, m.ID)
	}
	return ids
}

// logBuffer collects a worker's log.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// count gives the number of lines with text.
func (l *logBuffer) count(text string) int {
	n := 0
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func newSecret() config.Secret {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	return config.NewSecret(string(key))
}

// three starts workers a, b and c that know each other.
func three(t *testing.T, o Options) (a, b, c *node) {
	t.Helper()
	a = start(t, "a:1", o)
	o.Join = []string{a.address()}
	b, c = start(t, "b:1", o), start(t, "c:1", o)
	for _, n := range []*node{a, b, c} {
		n.sees("a:1", "b:1", "c:1")
	}
	return a, b, c
}
