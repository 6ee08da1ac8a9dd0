package task

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/configprovider"
)

// OwnClients are the Kafka clients that belong to a worker itself: those of its internal topics, of the secret registry
// and of the audit trail. New values of what their settings refer to are proved on a fresh connection, and then
// used, as those of connectors are; what does not work is told, and the former value stays in use.
type OwnClients struct {
	resolve func(context.Context, map[string]string) (config.Settings, []configprovider.Use, error)
	dialer  dialFunc // nil: the network's
	log     *slog.Logger
	wake    chan struct{} // holds something when there is to be looked at once

	mu      sync.Mutex
	clients []*ownClient
	stamps  map[string]string // of files that settings of clients name, by client and path, when they were read
	trouble *trouble
}

// ownClient is one of them.
type ownClient struct {
	what      string
	settings  config.Settings // with the values in use
	base, now *clientconfig.Client
	conns     *connections
	versions  map[string]string // in use, by reference; none before the first look
	since     time.Time         // these are in use
	resolved  time.Time         // when they were read last
}

// NewOwnClients returns those of a worker that has none so far. dialer opens connections; nil: the network's.
func NewOwnClients(resolve func(context.Context, map[string]string) (config.Settings, []configprovider.Use, error), dialer dialFunc, log *slog.Logger) *OwnClients {
	return &OwnClients{resolve: resolve, dialer: dialer, log: log, wake: make(chan struct{}, 1), stamps: map[string]string{}}
}

// Options returns those of clients for one purpose, which what names. What they log in with is kept up to date while Run runs.
func (o *OwnClients) Options(what string, settings config.Settings) ([]kgo.Opt, error) {
	stamps := map[string]string{} // before the files are read, or a change in between would be missed
	for _, f := range clientconfig.Files(settings) {
		stamps[what+f.Path], _ = stampOf(f.Path)
	}
	built, err := clientconfig.Build(settings, clientconfig.Admin)
	if err != nil {
		return nil, fmt.Errorf("the worker's client settings: %w", err)
	}
	c := &ownClient{what: what, settings: settings, base: built, now: built, conns: &connections{}}
	o.mu.Lock()
	maps.Copy(o.stamps, stamps)
	o.clients = append(o.clients, c)
	o.mu.Unlock()
	o.Look()
	return append(slices.Clone(built.Opts), kgo.Dialer(c.conns.dialer(o.dial(built))), kgo.WithLogger(KafkaLog(o.log.With("client", what)))), nil
}

func (o *OwnClients) dial(c *clientconfig.Client) dialFunc {
	if o.dialer != nil {
		return c.DialWith(o.dialer)
	}
	return c.Dial
}

// Look has Run look at once: something that was read is said to be another now.
func (o *OwnClients) Look() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Run keeps up to date what the clients log in with, until ctx ends.
func (o *OwnClients) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-o.wake:
		}
		timer.Reset(o.look(ctx))
	}
}

// look reads what settings refer to, has the clients take what has changed, and says when to look again.
func (o *OwnClients) look(ctx context.Context) time.Duration {
	o.mu.Lock()
	clients := slices.Clone(o.clients)
	o.mu.Unlock()
	again := maxTTL
	var refused []string
	var why error
	for _, c := range clients {
		next, uses, err := o.read(ctx, c)
		if ctx.Err() != nil {
			return again
		}
		if len(clientconfig.Files(c.settings)) > 0 {
			again = min(again, fileLook)
		}
		if err == nil {
			for _, u := range uses {
				if u.TTL > 0 {
					again = min(again, max(u.TTL, minTTL))
				}
			}
			err = o.take(ctx, c, next, uses)
		}
		if err != nil && ctx.Err() == nil {
			refused, why = append(refused, c.what), fmt.Errorf("client %s: %w", c.what, err)
		}
	}
	if why == nil {
		o.calm()
		return again
	}
	return o.worry(refused, why)
}

// read resolves the settings of a client that have references. Nothing to read: next is nil.
func (o *OwnClients) read(ctx context.Context, c *ownClient) (next config.Settings, uses []configprovider.Use, err error) {
	written := map[string]string{}
	for key, s := range c.settings {
		if config.HasReference(s.Written) {
			written[key] = s.Written
		}
	}
	if len(written) == 0 {
		return c.settings, nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	values, uses, err := o.resolve(ctx, written)
	if err != nil {
		return nil, nil, err
	}
	return c.settings.Merge(values), uses, nil
}

// take proves settings and has a client use them, if they are others than those in use. An error leaves everything as it was.
func (o *OwnClients) take(ctx context.Context, c *ownClient, next config.Settings, uses []configprovider.Use) error {
	versions := map[string]string{}
	for _, u := range uses {
		versions[u.Reference] = u.Version
	}
	files, touched := clientconfig.Files(next), map[string]string{}
	o.mu.Lock()
	for _, f := range files {
		if stamp, _ := stampOf(f.Path); stamp != "" && stamp != o.stamps[c.what+f.Path] {
			touched[c.what+f.Path] = stamp
		}
	}
	o.mu.Unlock()
	same := len(touched) == 0
	for key, s := range next {
		same = same && s.Value.Equal(c.settings[key].Value)
	}
	if same {
		o.mu.Lock()
		defer o.mu.Unlock()
		if c.resolved = time.Now(); c.versions == nil {
			c.versions, c.since = versions, c.resolved
		}
		return nil
	}
	built, err := clientconfig.Build(next, clientconfig.Admin)
	if err != nil {
		return err
	}
	if !built.SameCredentials(c.now) {
		if err := o.prove(ctx, next); err != nil {
			return fmt.Errorf("as %s: %w", built.Report.Principal, err)
		}
		if err := c.base.Adopt(built); err != nil {
			return fmt.Errorf("it takes effect when the worker is started again: %w", err)
		}
		old := c.conns.list()
		for _, ref := range slices.Sorted(maps.Keys(versions)) {
			if versions[ref] != c.versions[ref] || len(touched) > 0 {
				o.log.Info("secret of the worker itself rotated", "client", c.what, "reference", ref, "version", versions[ref], "from", orUnknown(c.versions[ref]))
			}
		}
		if len(touched) > 0 {
			o.log.Info("keys and certificates of the worker itself replaced", "client", c.what)
		}
		o.mu.Lock()
		c.now = built
		o.mu.Unlock()
		if cut := retire(ctx, old); cut > 0 {
			o.log.Info("connections under an old secret did not come to rest and were cut", "client", c.what, "connections", cut)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	c.settings, c.versions = next, versions
	c.since = time.Now()
	c.resolved = c.since
	maps.Copy(o.stamps, touched)
	return nil
}

// References are the references that these clients log in with, each with the clients that do. They are of no connector.
func (o *OwnClients) References() []Reference {
	o.mu.Lock()
	defer o.mu.Unlock()
	byRef := map[string]*Reference{}
	for _, c := range o.clients {
		for _, ref := range slices.Sorted(maps.Keys(c.versions)) {
			r := byRef[ref]
			if r == nil {
				r = &Reference{Reference: ref, Task: -1, Version: c.versions[ref], Since: c.since.UTC(), Resolved: c.resolved.UTC(), Clients: []ReferenceClient{}, State: "current"}
				byRef[ref] = r
			}
			if o.trouble != nil && slices.Contains(o.trouble.refs, c.what) {
				r.State, r.Reason = "failed", o.trouble.text
			}
			for _, key := range slices.Sorted(maps.Keys(c.settings)) {
				if holds(c.settings[key].Written, ref) {
					r.Clients = append(r.Clients, ReferenceClient{"worker-" + c.what, c.settings["bootstrap.servers"].Written, c.now.Report.Principal, key})
				}
			}
		}
	}
	all := []Reference{}
	for _, ref := range slices.Sorted(maps.Keys(byRef)) {
		all = append(all, *byRef[ref])
	}
	return all
}

// prove logs in with settings on fresh connections; a broker may learn of a new password a moment after another.
func (o *OwnClients) prove(ctx context.Context, settings config.Settings) error {
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	for until := time.Now().Add(proofPatience); ; {
		probe, err := clientconfig.Build(settings, clientconfig.Admin)
		if err != nil {
			return err
		}
		err = probe.Prove(ctx, o.dial(probe))
		var refused *clientconfig.RefusedError
		if !errors.As(err, &refused) || !pause(ctx, proofPause, until) {
			return err
		}
	}
}

// worry notes that a change could not be made, tells it when it is another than before, and says when to try again.
func (o *OwnClients) worry(clients []string, why error) time.Duration {
	o.mu.Lock()
	before := o.trouble
	o.trouble = before.again(clients, why.Error(), time.Now())
	next := o.trouble.next
	o.mu.Unlock()
	if before == nil || before.text != why.Error() {
		o.log.Warn("a secret of the worker itself cannot be rotated; the old value stays in use", "clients", strings.Join(clients, " "), "err", why)
	}
	return time.Until(next)
}

// calm ends the trouble.
func (o *OwnClients) calm() {
	o.mu.Lock()
	before := o.trouble
	o.trouble = nil
	o.mu.Unlock()
	if before != nil {
		o.log.Info("secrets of the worker itself are in order again", "clients", strings.Join(before.refs, " "))
	}
}
