package worker

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"barnabas/worker/gossip"
	"barnabas/worker/herder"
)

func (w *Worker) gossipOptions() gossip.Options {
	incarnation, _ := strconv.ParseInt(w.self.Incarnation, 10, 64)
	f := w.o.File
	goodbye := time.Duration(0) // as long as usual
	if w.o.Crash != nil {
		goodbye = -1
	}
	return gossip.Options{
		Name: w.self.Worker, Incarnation: incarnation, Cluster: f.GroupID,
		Bind: f.GossipBind, Advertise: f.GossipAdvertise, Join: f.GossipJoin, Secrets: f.GossipSecrets,
		Meta:        gossip.Meta{URL: w.o.URL, Version: w.o.Version, Labels: f.Labels},
		LabelsInLog: true, Logger: w.log.With("logger", "gossip"), LeaveTimeout: goodbye,
	}
}

// heard returns who is alive as the herder should know it: those that gossip sees
// and that can read the config topic.
func (w *Worker) heard() herder.Gossip {
	var alive []herder.Instance
	for _, m := range w.gossip.Members() {
		if m.Ready {
			alive = append(alive, herder.Instance{Worker: m.ID, Incarnation: strconv.FormatInt(m.Incarnation, 10)})
		}
	}
	return herder.Gossip{Alive: alive}
}

// gossipAddress returns where this worker's gossip is reached, once it listens.
func (w *Worker) gossipAddress() string {
	for _, m := range w.gossip.Members() {
		if m.Self {
			return m.Address
		}
	}
	return ""
}

// awaitGossip waits until gossip listens: the others learn its address from this
// worker's join record.
func (w *Worker) awaitGossip(ctx context.Context) {
	for w.gossipAddress() == "" {
		select {
		case <-w.gossip.Changed():
		case <-ctx.Done():
			return
		}
	}
}

// listen acts on hints, tells the load, and watches the leader's address.
func (w *Worker) listen(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	weigh := time.NewTicker(weighInterval)
	defer weigh.Stop()
	told := herder.Load{Instance: w.self}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-weigh.C:
			if load := w.load(told); !load.Same(told) {
				w.writer.announce(load)
				told = load
			}
		case <-w.gossip.Hints():
			// Reading to the end renews the lease and tells that the topic can be read; the
			// records themselves come by the fetch that is waiting for them.
			reading, cancel := context.WithTimeout(ctx, time.Second)
			if err := w.topics.config.ReadToEnd(reading); err != nil {
				w.log.Debug("a hint could not be followed", "err", err)
			}
			cancel()
		case <-ticker.C:
			total := 0.0
			for _, tasks := range w.runner.Throughput() {
				for _, rate := range tasks {
					total += rate
				}
			}
			w.gossip.SetLoad(total)
			w.probeLeader(ctx)
		}
	}
}

// weighInterval is how often the weights of tasks are taken: seldom, since they
// only matter when members or connectors change.
const weighInterval = 10 * time.Second

// load returns the weights of the tasks on this worker and the rates of their partitions, as far as they are measured. told is what
// it told last.
func (w *Worker) load(told herder.Load) herder.Load {
	load := herder.Load{Instance: w.self, Weights: map[string]map[int]int64{}, Rates: herder.Rates(w.runner.Rates(), told.Rates)}
	for name, tasks := range w.runner.Throughput() {
		for task, rate := range tasks {
			if load.Weights[name] == nil {
				load.Weights[name] = map[int]int64{}
			}
			load.Weights[name][task] = herder.Weigh(rate, told.Weights[name][task])
		}
	}
	return load
}

// rates returns what the partitions of a connector carry, wherever its tasks run.
func (w *Worker) rates(ctx context.Context, connector string) (rates map[string]int64, err error) {
	err = w.ask(ctx, func(m *herder.Machine) { rates = m.Rates(connector) })
	return rates, err
}

// probeLeader tells the herder when the leader's address refuses connections: a process that was killed
// leaves its port closed, which shows sooner than its silence. It only ever shortens
// the wait for a leader.
func (w *Worker) probeLeader(ctx context.Context) {
	var leader herder.Join
	var self bool
	if err := w.ask(ctx, func(m *herder.Machine) { leader, self, _ = m.Leader() }); err != nil || self || leader.URL == "" {
		return
	}
	if u, err := url.Parse(leader.URL); err == nil && refused(ctx, u.Host) {
		w.log.Log(ctx, slog.LevelDebug, "the leader's address refuses connections", "leader", leader.Worker)
		w.tell(herder.Refused{})
	}
}

// refused says whether nobody listens at address. Any other trouble (a timeout, a
// missing route) says nothing about the process there.
func refused(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
