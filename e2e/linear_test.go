package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"golang.org/x/sync/errgroup"
)

var linearSeconds = flag.Float64("linear.seconds", linearDefault(), "how long clients change connectors while workers are killed and frozen; $E2E_LINEAR_SECONDS is the default")

func linearDefault() float64 {
	if s, err := strconv.ParseFloat(os.Getenv("E2E_LINEAR_SECONDS"), 64); err == nil {
		return s
	}
	return 18
}

// A call is one request of a client about a connector, and did is what came of it.
type (
	call struct {
		kind      string // create, put, get, delete, pause, resume, state
		connector string
		version   int // that create and put write
	}
	did struct {
		unknown bool // no answer came: it may have been performed, or may be performed later
		status  int
		version int    // that get has found
		state   string // RUNNING or PAUSED, that state has found
	}
	// kept is what a cluster without faults knows of a connector. Its zero value: there is none.
	kept struct {
		version int // 0: there is no such connector
		paused  bool
	}
)

// after is what a request makes of a connector, and the status that answers it.
func (k kept) after(c call) (kept, int) {
	switch {
	case c.kind == "create" && k.version != 0:
		return k, http.StatusConflict
	case c.kind == "create":
		return kept{version: c.version}, http.StatusCreated
	case c.kind == "put" && k.version == 0:
		return kept{version: c.version}, http.StatusCreated
	case k.version == 0:
		return k, http.StatusNotFound
	case c.kind == "put":
		return kept{c.version, k.paused}, http.StatusOK
	case c.kind == "delete":
		return kept{}, http.StatusNoContent
	case c.kind == "pause", c.kind == "resume":
		return kept{k.version, c.kind == "pause"}, http.StatusAccepted
	}
	return k, http.StatusOK
}

// connectors is the model: every connector by itself behaves as if requests were performed one after the other, each
// at a moment between its start and its answer.
var connectors = porcupine.Model{
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		at := map[string]int{}
		for _, o := range history {
			name := o.Input.(call).connector
			i, known := at[name]
			if !known {
				i = len(parts)
				at[name], parts = i, append(parts, nil)
			}
			parts[i] = append(parts[i], o)
		}
		return parts
	},
	Init: func() any { return kept{} },
	Step: func(state, input, output any) (bool, any) {
		k, c, d := state.(kept), input.(call), output.(did)
		next, status := k.after(c)
		switch {
		case d.unknown:
			return true, next // at some moment, which may lie after everything else
		case d.status != status:
			return false, k
		case c.kind == "get" && status == http.StatusOK:
			return d.version == k.version, k
		case c.kind == "state" && status == http.StatusOK:
			return d.state == map[bool]string{false: "RUNNING", true: "PAUSED"}[k.paused], k
		}
		return true, next
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v: %+v", input, output) },
}

// history is what all clients have asked and been answered.
type history struct {
	began time.Time
	mu    sync.Mutex
	all   []porcupine.Operation
	wrong []string // answers that there must not be, whatever happens to workers
	stale int
}

func (h *history) now() int64 { return int64(time.Since(h.began)) }

// add books a request, unless it says nothing.
func (h *history) add(o porcupine.Operation) {
	if o.Output.(did).unknown {
		if o.Input.(call).kind == "get" {
			return
		}
		o.Return = math.MaxInt64
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, o)
}

func (h *history) complain(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrong = append(h.wrong, fmt.Sprintf(format, args...))
}

// callers is how many clients there are.
const callers = 8

// linear is a fleet with clients that change connectors at random.
type linear struct {
	e *Env
	f *Fleet
	history
	client *http.Client
}

// send sends a request to a worker and returns what came of it, and whether there is anything to book.
func (l *linear) send(client int, base string, c call) (o porcupine.Operation, came bool) {
	method, path, body := http.MethodGet, "/connectors/"+c.connector, ""
	config := Config{
		"connector.class": "FileStreamSource", "topic": l.e.Prefix, "file": filepath.Join(l.e.Dir, "nosuch"), "batch.size": strconv.Itoa(c.version),
	}
	switch c.kind {
	case "create":
		method, path = http.MethodPost, "/connectors"
		body = `{"name":"` + c.connector + `","config":` + config.JSON() + `}`
	case "put":
		method, path, body = http.MethodPut, path+"/config", config.JSON()
	case "get":
		path += "/config"
	case "state":
		path += "/status"
	case "delete":
		method = http.MethodDelete
	default:
		method, path = http.MethodPut, path+"/"+c.kind
	}
	ctx, cancel := context.WithTimeout(l.e.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
	if err != nil {
		panic(err) // made of constants
	}
	req.Header.Set("Content-Type", "application/json")
	o = porcupine.Operation{ClientId: client, Input: c, Call: l.now()}
	res, err := l.client.Do(req)
	if err != nil {
		var dial *net.OpError
		o.Output = did{unknown: true}
		return o, !errors.As(err, &dial) || dial.Op != "dial" // otherwise it was not sent
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	text, err := io.ReadAll(res.Body)
	d := did{status: res.StatusCode, unknown: err != nil}
	switch {
	case d.unknown:
	case strings.HasPrefix(res.Header.Get("Warning"), "110 "):
		l.mu.Lock()
		l.stale++
		l.mu.Unlock()
		return o, false // the worker says itself that it may be old
	case d.status >= 500, d.status == http.StatusConflict && c.kind != "create":
		l.complain("%s %s on %s after %v: %d %s", method, path, base, time.Duration(l.now()-o.Call), d.status, text)
		d.unknown = true
	case c.kind == "get" && d.status == http.StatusOK:
		var config Config
		l.must(json.Unmarshal(text, &config))
		d.version, err = strconv.Atoi(config["batch.size"])
		l.must(err)
	case c.kind == "state" && d.status == http.StatusOK:
		var status struct{ Connector struct{ State string } }
		l.must(json.Unmarshal(text, &status))
		d.state = status.Connector.State
	}
	o.Output, o.Return = d, l.now()
	return o, true
}

func (l *linear) must(err error) {
	if err != nil {
		l.complain("an answer that is none: %v", err)
	}
}

// work has a client send requests, each to any worker, until ctx ends.
func (l *linear) work(ctx context.Context, client int, names []string, rng *rand.Rand) {
	kinds := []string{"create", "create", "put", "put", "put", "get", "get", "get", "get", "delete", "pause", "resume"}
	for version := client + 1; ctx.Err() == nil; version += 1000 {
		c := call{kind: kinds[rng.IntN(len(kinds))], connector: names[rng.IntN(len(names))], version: version}
		// One in three about a few, so that clients meet.
		if rng.IntN(3) == 0 {
			c.connector = names[rng.IntN(10)]
		}
		for ctx.Err() == nil {
			if o, came := l.send(client, l.f.Workers[rng.IntN(len(l.f.Workers))].URL(), c); came {
				l.add(o)
				break
			}
			wait(ctx, 5*time.Millisecond) // a killed worker refuses at once
		}
	}
}

// harm kills and freezes workers in turn, each time waiting until the fleet is whole again, and until ctx ends.
func (l *linear) harm(ctx context.Context, rng *rand.Rand) {
	for round := 0; ; round++ {
		wait(ctx, time.Duration(200+rng.IntN(800))*time.Millisecond)
		victim := l.f.Workers[rng.IntN(len(l.f.Workers))]
		if round%2 == 0 {
			victim = l.f.Leader()
		}
		frozen := round%4 >= 2
		if frozen {
			victim.Freeze()
		} else {
			victim.Kill()
		}
		l.e.t.Logf("%v: %s, frozen %v", time.Duration(l.now()).Round(time.Millisecond), victim.Name, frozen)
		// Longer than the others need to go on without it, and than its lease.
		wait(ctx, time.Duration(1500+rng.IntN(3500))*time.Millisecond)
		if frozen {
			victim.Thaw()
		} else {
			victim.Start()
		}
		if ctx.Err() != nil {
			return
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// TestRequestsAreLinearizableWhileWorkersAreKilled: eight clients change 200 connectors through any of three workers, of which
// the leader or another one is killed or frozen. Every answer is one that a single worker without faults could have
// given at a moment between request and answer; none is 409 but to a creation, or 5xx; and in the end
// connectors are and do what that worker would have.
func TestRequestsAreLinearizableWhileWorkersAreKilled(t *testing.T) {
	e := New(t, 3*time.Minute+time.Duration(*linearSeconds*float64(time.Second)))
	l := &linear{e: e, f: e.Fleet(FleetOptions{Size: 3})}
	l.began = time.Now()
	l.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	var names []string
	for i := range 200 {
		names = append(names, fmt.Sprintf("%s-%d", e.Prefix, i))
	}
	working, stop := context.WithTimeout(e.Context(), time.Duration(*linearSeconds*float64(time.Second)))
	defer stop()
	var all sync.WaitGroup
	for i := range callers {
		rng := rand.New(rand.NewPCG(e.Seed, uint64(i)))
		all.Go(func() { l.work(working, i, names, rng) })
	}
	l.harm(working, rand.New(rand.NewPCG(e.Seed, callers)))
	all.Wait()
	worked := len(l.all)
	l.settle(names)
	for i, complaint := range l.wrong {
		if i == 20 {
			t.Errorf("and %d more", len(l.wrong)-i)
			break
		}
		t.Error(complaint)
	}
	t.Logf("after %v %d requests, and %d at the end; %d said that they may be old", time.Duration(l.now()).Round(time.Millisecond), worked, len(l.all)-worked, l.stale)
	if worked < 100 {
		t.Errorf("only %d requests: this shows nothing", worked)
	}
	result, info := porcupine.CheckOperationsVerbose(connectors, l.all, time.Minute)
	if result != porcupine.Ok {
		l.explain()
		path := filepath.Join(os.TempDir(), e.Prefix+"-linear.html")
		_ = porcupine.VisualizePath(connectors, info, path)
		t.Errorf("the answers are %s; %s shows them", result, path)
	}
}

// settle asks for config and state of every connector until the cluster has come to rest.
func (l *linear) settle(names []string) {
	l.e.t.Helper()
	parts := map[string][]porcupine.Operation{}
	for _, part := range connectors.Partition(l.all) {
		parts[part[0].Input.(call).connector] = part
	}
	var g errgroup.Group
	g.SetLimit(8)
	for i, name := range names {
		g.Go(func() error {
			base, part := l.f.Workers[i%len(l.f.Workers)].URL(), parts[name]
			explained := porcupine.CheckOperations(connectors, part) // otherwise no state will do
			for _, kind := range []string{"get", "state"} {
				ctx, cancel := context.WithTimeout(l.e.Context(), time.Minute)
				defer cancel()
				for {
					o, came := l.send(callers+i, base, call{kind: kind, connector: name})
					fits := came && porcupine.CheckOperations(connectors, append(slices.Clone(part), o))
					// What is paused or resumed gets there a moment later.
					if came && (kind == "get" || fits || !explained) || ctx.Err() != nil {
						if came {
							l.add(o)
						}
						break
					}
					wait(ctx, 50*time.Millisecond)
				}
			}
			return nil
		})
	}
	_ = g.Wait() // no function returns an error
}

// explain prints the histories that fit no order.
func (l *linear) explain() {
	shown := 0
	for _, part := range connectors.Partition(l.all) {
		if porcupine.CheckOperations(connectors, part) {
			continue
		}
		if shown++; shown > 3 {
			continue
		}
		var text strings.Builder
		for _, o := range part {
			fmt.Fprintf(&text, "\n%8.3f to %8.3f client %d: %+v %+v", float64(o.Call)/1e9, float64(o.Return)/1e9, o.ClientId, o.Input, o.Output)
		}
		l.e.t.Errorf("no order explains:%s", text.String())
	}
	l.e.t.Errorf("%d connectors in all", shown)
}
