package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"barnabas/clientconfig"
	"barnabas/rest"
	"barnabas/worker"
)

func (c *cli) demoCommand() *cobra.Command {
	o := demoOptions{}
	cmd := &cobra.Command{
		Use: "demo", Short: "Show everything in one process, and prove that nothing is missing", Args: cobra.NoArgs,
		Long: `Start two Kafka clusters with authentication and access rights, three gossiping
workers, and a replication of generated orders under an identity of its own,
all in this process; pause and resume it, kill a worker; and at the end compare
source and target record by record, and look for the secrets everywhere. Exits
0 only if nothing is missing or different and no secret was found.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.keep && !cmd.Flags().Changed("port") {
				o.port = 8083
			}
			return c.demo(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.keep, "keep", false, "leave everything running at the end, until interrupted")
	flags.IntVar(&o.port, "port", 0, "REST port of the first worker; the others take the next ones (default any; with --keep 8083)")
	flags.StringVar(&o.dir, "dir", "", "`directory` for the secrets and logs (default a temporary one, removed at the end)")
	flags.Int64Var(&o.records, "records", 300_000, "orders that are there when the replication begins")
	flags.IntVar(&o.rate, "rate", 5_000, "orders a second that come while it runs")
	return cmd
}

type demoOptions struct {
	keep    bool
	port    int
	dir     string
	records int64
	rate    int
}

// Names and sizes of the demonstration.
const (
	demoConnector  = "orders"
	demoTopic      = "orders"
	demoCopy       = "prod.orders"
	demoPartitions = 6
	demoTasks      = 3
	demoWorkers    = 3
)

// demo is one demonstration.
type demo struct {
	*cli
	o        demoOptions
	dir      string
	clusters *demoClusters
	canary   *canary
	nodes    []*demoNode
	client   *rest.Client
	orders   *orders
	target   *kadm.Client // of the demonstration itself
	step     int

	endStream func() error // waits until what was begun is written
	killed    string       // id of the killed worker
	begun     time.Time
	wait      time.Duration // for what is on its way when the proof begins
}

func (c *cli) demo(ctx context.Context, o demoOptions) (err error) {
	d := &demo{cli: c, o: o, dir: o.dir, begun: time.Now(), wait: time.Minute}
	if d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "barnabas-demo-"); err != nil {
			return err
		}
	} else if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	if d.dir, err = filepath.Abs(d.dir); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, d.close())
		if err == nil && o.dir == "" {
			err = os.RemoveAll(d.dir)
		} else if err != nil && ctx.Err() == nil {
			d.say("The logs of the workers are in %s.", d.dir)
		}
	}()
	for _, act := range []func(context.Context) error{
		d.startClusters, d.fillSource, d.startWorkers, d.refused, d.copy, d.pause, d.killWorker, d.prove, d.lookForSecrets,
	} {
		if err := act(ctx); err != nil {
			if ctx.Err() != nil {
				return errors.New("interrupted")
			}
			return err
		}
	}
	d.say("\nDone in %.0f s.", time.Since(d.begun).Seconds())
	if o.keep {
		return d.keep(ctx)
	}
	return nil
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.stdout, format+"\n", args...) }

func (d *demo) title(format string, args ...any) {
	d.step++
	d.say("\n%d. "+format, append([]any{d.step}, args...)...)
}

// close ends everything, in order.
func (d *demo) close() error {
	var wrong []error
	if d.endStream != nil {
		_ = d.endStream()
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, n := range d.nodes {
		wg.Go(func() {
			err := n.end()
			mu.Lock()
			defer mu.Unlock()
			wrong = append(wrong, err)
		})
	}
	wg.Wait()
	if d.orders != nil {
		d.orders.client.Close()
	}
	if d.target != nil {
		d.target.Close()
	}
	if d.clusters != nil {
		d.clusters.close()
	}
	return errors.Join(wrong...)
}

func (d *demo) startClusters(ctx context.Context) (err error) {
	if d.clusters, err = startDemoClusters(d.dir); err != nil {
		return err
	}
	d.canary = newCanary(d.clusters.secrets())
	cl, err := d.clusters.stagingAdmin.client(ctx, d.clusters.staging, clientconfig.Admin)
	if err != nil {
		return err
	}
	d.target = kadm.NewClient(cl)
	d.title("Two Kafka clusters, with SASL/SCRAM and ACLs")
	d.say("   prod     %s   shop-ro may read orders, payments", d.clusters.prod.ListenAddrs()[0])
	d.say("   staging  %s   shop-rw may write prod.*; the workers' own principal, connect, may not", d.clusters.staging.ListenAddrs()[0])
	d.say("   Their passwords are in files below %s.", d.dir)
	return nil
}

func (d *demo) fillSource(ctx context.Context) (err error) {
	d.title("Orders in prod")
	if d.orders, err = newOrders(ctx, d.clusters, demoTopic, demoPartitions); err != nil {
		return err
	}
	bar := d.progress("   writing", "orders")
	err = d.orders.load(ctx, d.o.records, bar.set)
	bar.done()
	if err != nil {
		return err
	}
	payments, err := newOrders(ctx, d.clusters, "payments", 2)
	if err != nil {
		return err
	}
	defer payments.client.Close()
	if err := payments.load(ctx, 5_000, func(int64, int64) {}); err != nil {
		return err
	}
	streaming, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- d.orders.stream(streaming, d.o.rate) }()
	d.endStream = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	d.say("   %s orders in %d partitions, and %s more a second from here on", counted(d.orders.written.Load()), demoPartitions, counted(int64(d.o.rate)))
	return nil
}

func (d *demo) startWorkers(ctx context.Context) error {
	d.title("Three workers, which find each other and keep their state in staging")
	var urls []string
	for i := range demoWorkers {
		port := 0
		if d.o.port > 0 {
			port = d.o.port + i
		}
		n, err := d.startNode(ctx, i+1, port)
		if err != nil {
			return fmt.Errorf("start worker %d: %w", i+1, err)
		}
		d.nodes = append(d.nodes, n)
		urls = append(urls, n.url)
	}
	var err error
	if d.client, err = rest.NewClient(rest.ClientOptions{URLs: urls, Timeout: 10 * time.Second, Retry: 20 * time.Second}); err != nil {
		return err
	}
	begin := time.Now()
	var members []worker.Member
	if err := d.until(ctx, time.Minute, "the workers to form a cluster", func(ctx context.Context) (bool, string, error) {
		members, _ = d.client.Workers(ctx)
		alive, leaders := 0, 0
		for _, m := range members {
			if m.State == "alive" {
				alive++
			}
			if m.Leader {
				leaders++
			}
		}
		return alive == demoWorkers && leaders == 1, fmt.Sprintf("%d alive, %d leading", alive, leaders), nil
	}); err != nil {
		return err
	}
	for _, m := range members {
		role := ""
		if m.Leader {
			role = "   leads"
		}
		d.say("   %s%s", m.URL, role)
	}
	d.say("   one cluster after %.1f s", time.Since(begin).Seconds())
	return nil
}

// refused creates the connector without an identity of its own.
func (d *demo) refused(ctx context.Context) error {
	d.title("A replication that brings no identity for staging")
	if _, err := d.client.Create(ctx, demoConnector, d.clusters.mirror(demoConnector, demoTopic, demoTasks, false), ""); err != nil {
		return fmt.Errorf("create connector %s: %w", demoConnector, err)
	}
	trace := ""
	if err := d.until(ctx, 2*time.Minute, "the connector to be refused", func(ctx context.Context) (bool, string, error) {
		s, err := d.client.Status(ctx, demoConnector)
		if err != nil {
			return false, err.Error(), nil
		}
		trace = ""
		if s.Connector.State == "FAILED" {
			trace = s.Connector.Trace
		}
		for _, t := range s.Tasks {
			if t.State == "FAILED" {
				trace = t.Trace
			}
		}
		return trace != "", s.Connector.State, nil
	}); err != nil {
		return err
	}
	d.say("   FAILED, as it should be: %s", firstLine(trace))
	if n, err := d.copied(ctx); err != nil || n > 0 {
		return fmt.Errorf("%d orders were copied without the right to: %w", n, err)
	}
	return nil
}

// copy gives the connector its identity and waits until it copies.
func (d *demo) copy(ctx context.Context) error {
	d.title("The same with producer.override.* and admin.override.*, and the password as a reference")
	patch := map[string]*string{}
	for key, value := range d.clusters.overrides() {
		patch[key] = &value
	}
	if _, err := d.client.PatchConfig(ctx, demoConnector, patch); err != nil {
		return fmt.Errorf("configure connector %s: %w", demoConnector, err)
	}
	d.say("   producer.override.sasl.jaas.config = %s", *patch["producer.override.sasl.jaas.config"])
	begin := time.Now()
	bar := d.progress("   copying", "orders")
	err := d.until(ctx, 2*time.Minute, "the orders to be copied", func(ctx context.Context) (bool, string, error) {
		n, err := d.copied(ctx)
		if err != nil {
			return false, "", err
		}
		bar.set(min(n, d.o.records), d.o.records)
		return n >= d.o.records, fmt.Sprintf("%d of %d; %s", n, d.o.records, d.state(ctx)), nil
	})
	bar.done()
	if err != nil {
		return err
	}
	status, err := d.client.Status(ctx, demoConnector)
	if err != nil {
		return err
	}
	for _, t := range status.Tasks {
		d.say("   task %d %s on %s", t.ID, t.State, t.WorkerID)
	}
	d.say("   %s orders copied in %.1f s", counted(d.o.records), time.Since(begin).Seconds())
	return nil
}

// copied is how many records the target has.
func (d *demo) copied(ctx context.Context) (n int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	ends, err := d.target.ListEndOffsets(ctx, demoCopy)
	if err != nil {
		return 0, fmt.Errorf("look at %s: %w", demoCopy, err)
	}
	ends.Each(func(o kadm.ListedOffset) { n += max(0, o.Offset) })
	return n, nil
}

// state describes the connector in one line.
func (d *demo) state(ctx context.Context) string {
	s, err := d.client.Status(ctx, demoConnector)
	if err != nil {
		return err.Error()
	}
	parts := []string{"connector " + s.Connector.State + " " + firstLine(s.Connector.Trace)}
	for _, t := range s.Tasks {
		parts = append(parts, fmt.Sprintf("task %d %s %s", t.ID, t.State, firstLine(t.Trace)))
	}
	return strings.Join(parts, "; ")
}

func (d *demo) pause(ctx context.Context) error {
	d.title("Paused, then resumed")
	if err := d.client.Pause(ctx, demoConnector); err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	if err := d.tasksAre(ctx, "PAUSED", ""); err != nil {
		return err
	}
	before, err := d.copied(ctx)
	if err != nil {
		return err
	}
	source := d.orders.written.Load()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(1500 * time.Millisecond): // so that one sees it stand still
	}
	after, err := d.copied(ctx)
	if err != nil {
		return err
	}
	grown := d.orders.written.Load() - source
	if after != before {
		return fmt.Errorf("%d orders were copied by a paused connector", after-before)
	}
	d.say("   in 1.5 s prod got %s orders, staging none", counted(grown))
	if err := d.client.Resume(ctx, demoConnector); err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	if err := d.tasksAre(ctx, "RUNNING", ""); err != nil {
		return err
	}
	return d.copiesOn(ctx, after+grown+int64(d.o.rate), "running again")
}

// copiesOn waits until the target has n records.
func (d *demo) copiesOn(ctx context.Context, n int64, told string) error {
	if err := d.until(ctx, time.Minute, "orders to be copied", func(ctx context.Context) (bool, string, error) {
		have, err := d.copied(ctx)
		return have >= n, d.state(ctx), err
	}); err != nil {
		return err
	}
	d.say("   %s", told)
	return nil
}

// tasksAre waits until all tasks are in a state, none of them on the worker not.
func (d *demo) tasksAre(ctx context.Context, state, not string) error {
	return d.until(ctx, 2*time.Minute, "the tasks to be "+state, func(ctx context.Context) (bool, string, error) {
		s, err := d.client.Status(ctx, demoConnector)
		if err != nil {
			return false, err.Error(), nil
		}
		all := len(s.Tasks) == demoTasks
		for _, t := range s.Tasks {
			all = all && t.State == state && t.WorkerID != not
		}
		return all, d.state(ctx), nil
	})
}

func (d *demo) killWorker(ctx context.Context) error {
	d.title("A worker killed in the middle of it")
	status, err := d.client.Status(ctx, demoConnector)
	if err != nil {
		return err
	}
	tasks := map[string]int{}
	for _, t := range status.Tasks {
		tasks[t.WorkerID]++
	}
	victim := d.nodes[0]
	for _, n := range d.nodes {
		if tasks[n.worker.ID()] > tasks[victim.worker.ID()] {
			victim = n
		}
	}
	d.killed = victim.worker.ID()
	begin := time.Now()
	victim.kill()
	d.say("   worker %d (%s), which ran %s, is gone without a good-bye", victim.number, d.killed, plural(tasks[d.killed], "task"))
	if err := d.tasksAre(ctx, "RUNNING", d.killed); err != nil {
		return err
	}
	elsewhere := fmt.Sprintf("its work goes on elsewhere after %.1f s", time.Since(begin).Seconds())
	have, err := d.copied(ctx)
	if err != nil {
		return err
	}
	return d.copiesOn(ctx, have+1, elsewhere)
}

// until waits for a condition, within a bound. The error says what was there last.
func (d *demo) until(ctx context.Context, bound time.Duration, what string, met func(context.Context) (ok bool, state string, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	last := ""
	for {
		ok, state, err := met(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if ok {
			return nil
		}
		if ctx.Err() == nil {
			last = state
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s for %s in vain: %s", bound, what, last)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
