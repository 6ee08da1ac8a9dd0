package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/connector/mirror/dedicated"
	"barnabas/rest"
	"barnabas/worker"
)

// mirrorLink is a link of a dedicated MirrorMaker: a worker on its target cluster, and the connectors that the file wants there.
type mirrorLink struct {
	dedicated.Link
	maker *mirrorMaker
	log   *slog.Logger

	connectors []dedicated.Connector // those that are to run
	unwanted   []string              // names of those that are not
	stop       time.Duration         // how long its tasks may take to end
	now        atomic.Pointer[linkRun]
}

// linkRun is one life of a link's worker.
type linkRun struct {
	worker  *worker.Worker
	server  *rest.Server // nil without the internal REST API
	metrics *prometheus.Registry
}

// prepare decides which connectors run, and checks their settings and the worker's.
func (l *mirrorLink) prepare(ctx context.Context) error {
	run, err := l.open(ctx)
	if err != nil {
		return err
	}
	var wrong []error
	for _, c := range l.maker.file.Connectors(l.Link) {
		switch {
		case c.Off != "":
			l.unwanted = append(l.unwanted, c.Name)
			l.log.Debug("connector not wanted", "connector", c.Name, "reason", c.Off)
			continue
		case !slices.ContainsFunc(run.worker.Plugins(), func(p worker.PluginInfo) bool { return p.Class == c.Class }):
			l.log.Warn("connector left out: this version does not have it", "connector", c.Name)
			continue
		}
		infos, err := run.worker.Validate(ctx, c.Class, c.Config)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", c.Name, err))
		}
		for _, i := range infos.Configs {
			for _, text := range i.Value.Errors {
				wrong = append(wrong, fmt.Errorf("%s: %s", c.Name, text))
			}
		}
		l.connectors = append(l.connectors, c)
	}
	return errors.Join(wrong...)
}

// open makes the link's worker. It opens nothing.
func (l *mirrorLink) open(ctx context.Context) (*linkRun, error) {
	written := l.maker.file.Worker(l.Link)
	settings, resolver, err := l.maker.resolve(ctx, written)
	if err != nil {
		return nil, err
	}
	file, problems, warnings := config.ParseWorker(settings)
	for _, w := range warnings {
		if !w.Unknown { // judged where they stand, in the file
			l.log.Debug("setting noted", "key", w.Key, "reason", w.Message)
		}
	}
	if len(problems) > 0 {
		return nil, problemsError("worker", problems)
	}
	l.stop = file.TaskStopTimeout
	run := &linkRun{metrics: prometheus.NewRegistry()}
	metrics := prometheus.WrapRegistererWith(prometheus.Labels{"link": l.String()}, run.metrics)
	o := worker.Options{
		File: file, Resolver: resolver, ID: l.maker.id, Version: version, Commit: commit,
		Log: l.log.With(logAttr, "worker"), Metrics: metrics,
	}
	if a := l.maker.api; a != nil {
		o.URL, o.ID = a.urlOf(l.Link), a.address
		o.Publish = rest.Publisher(a.peer, func() ([]byte, string, bool) { return run.worker.SessionKey() })
	}
	if run.worker, err = worker.New(o); err != nil {
		return nil, err
	}
	if a := l.maker.api; a != nil {
		run.server, err = rest.New(rest.Options{Worker: run.worker, Log: l.log.With(logAttr, "rest"), Metrics: metrics, PeerTLS: a.peer, Signatures: file.SignaturesAccepted})
	}
	return run, err
}

// resolve resolves the references of a worker's settings with the providers that they name.
func (m *mirrorMaker) resolve(ctx context.Context, written map[string]string) (config.Settings, *configprovider.Resolver, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	resolver, err := configprovider.New(ctx, written, providerKinds(m.cli.environ))
	if err != nil {
		return nil, nil, err
	}
	settings, _, err := resolver.Resolve(ctx, written)
	return settings, resolver, err
}

// Bounds of the wait before a link is tried again.
const (
	firstLinkWait = 2 * time.Second
	maxLinkWait   = time.Minute
)

// run keeps the link's worker running until ctx ends. If the first attempt fails, failed is told.
func (l *mirrorLink) run(ctx context.Context, failed chan<- error) error {
	for wait, first := firstLinkWait, true; ; first = false {
		began := time.Now()
		err := l.live(ctx)
		if ctx.Err() != nil {
			return err
		}
		switch up := l.wasUp(); {
		case up && time.Since(began) > maxLinkWait:
			wait = firstLinkWait
		case !up && first:
			select {
			case failed <- fmt.Errorf("%s: %w", l.Link, err):
			case <-ctx.Done():
				return err
			}
		}
		l.log.Error("the link has failed and is tried again", "in", wait, "err", err)
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ctx.Done():
			return nil
		}
		wait = min(2*wait, maxLinkWait)
	}
}

// wasUp says whether the worker of the last run got as far as to read its topics.
func (l *mirrorLink) wasUp() bool {
	run := l.now.Load()
	return run != nil && run.worker.Health().Status != "starting"
}

// live is one life of the link's worker, with what keeps its connectors as the file has them.
func (l *mirrorLink) live(ctx context.Context) error {
	run, err := l.open(ctx)
	if err != nil {
		return err
	}
	l.now.Store(run)
	g, parts := errgroup.WithContext(ctx)
	parts, cancel := context.WithCancel(parts)
	defer cancel()
	g.Go(func() error {
		defer cancel() // nothing is left to configure or to serve
		if err := run.worker.Run(parts); err != nil {
			return err
		}
		if ctx.Err() == nil {
			return errors.New("the worker has ended by itself")
		}
		return nil
	})
	if run.server != nil {
		g.Go(func() error { return run.server.Run(parts) })
	}
	g.Go(func() error {
		l.keep(parts, run.worker)
		return nil
	})
	return g.Wait()
}

// leadInterval is how often the link looks whether this process leads it: until then connectors run as the topic has
// them from an earlier file.
const leadInterval = 100 * time.Millisecond

// keep makes the connectors what the file says whenever this process begins to lead the link, as MirrorMaker's herders do
// (MirrorHerder.rebalanceSuccess): so the file of the process that led last counts, and at the end of a rolling restart
// that is the new one.
func (l *mirrorLink) keep(ctx context.Context, w *worker.Worker) {
	ticker := time.NewTicker(leadInterval)
	defer ticker.Stop()
	done, tries := false, 0
	var next time.Time // after a failure
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		leads := slices.ContainsFunc(w.Members(), func(m worker.Member) bool { return m.Self && m.Leader })
		if !leads || done || time.Now().Before(next) {
			done = done && leads
			continue
		}
		err := l.configure(ctx, w)
		if done = err == nil; done {
			tries = 0
			continue
		}
		next = time.Now().Add(time.Second)
		if tries++; ctx.Err() == nil && tries%60 == 1 { // once a minute
			l.log.Error("the connectors cannot be made what the file says yet", "err", err)
		}
	}
}

// configure makes, changes and removes connectors.
func (l *mirrorLink) configure(ctx context.Context, w *worker.Worker) error {
	names, err := w.Connectors(ctx)
	if err != nil {
		return err
	}
	for _, name := range l.unwanted {
		if slices.Contains(names, name) {
			if err := w.Delete(ctx, name); err != nil {
				return fmt.Errorf("remove %s: %w", name, err)
			}
			l.log.Info("connector removed: the file does not want it", "connector", name)
		}
	}
	var wrong []error
	for _, c := range l.connectors {
		if slices.Contains(names, c.Name) {
			info, err := w.Connector(ctx, c.Name)
			if err == nil && maps.Equal(info.Config, c.Config) {
				l.log.Info("connector is as the file has it", "connector", c.Name)
				continue
			}
		}
		if _, _, err := w.Put(ctx, c.Name, c.Config); err != nil {
			wrong = append(wrong, fmt.Errorf("configure %s: %w", c.Name, err))
			continue
		}
		l.log.Info("connector configured from the file", "connector", c.Name)
	}
	return errors.Join(wrong...)
}
