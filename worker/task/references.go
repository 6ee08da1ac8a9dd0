package task

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"barnabas/clientconfig"
	"barnabas/configprovider"
)

// Reference is the use of a reference, or of a file with keys, by one connector or task that runs here. It holds no value.
type Reference struct {
	Reference string `json:"reference"`
	Connector string `json:"connector"` // empty: the worker itself
	Task      int    `json:"task"`      // -1: the connector itself
	// Version is that of the value in use, in the provider's own terms; empty if it has none.
	Version string `json:"version,omitempty"`
	// Since is when the run began to use this version, Resolved when it was last read.
	Since    time.Time `json:"since"`
	Resolved time.Time `json:"resolved"`
	// Clients are the Kafka clients that log in with it.
	Clients []ReferenceClient `json:"clients"`
	// State is current, failed (a newer value does not work), restart (one takes effect when this is started again) or unreadable (its
	// provider could not read it again). Reason says why it is not current.
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
}

// ReferenceClient is a Kafka client that uses a reference.
type ReferenceClient struct {
	Role      string `json:"role"`
	Cluster   string `json:"cluster"` // its bootstrap servers, as written
	Principal string `json:"principal"`
	// Key is the setting that holds the reference, without the prefix of its layer.
	Key string `json:"key"`
}

// References are the uses of references by what runs here, ordered by reference, connector and task.
func (t *Runner) References() []Reference {
	all := []Reference{}
	for _, run := range t.all() {
		all = append(all, t.referencesOf(run)...)
	}
	slices.SortStableFunc(all, compareReferences)
	return all
}

func compareReferences(a, b Reference) int {
	return cmp.Or(strings.Compare(a.Reference, b.Reference), strings.Compare(a.Connector, b.Connector), cmp.Compare(a.Task, b.Task))
}

func (t *Runner) referencesOf(run *running) (all []Reference) {
	s := run.secrets
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ref := range slices.Sorted(maps.Keys(s.uses)) {
		u := s.uses[ref]
		r := Reference{
			Reference: ref, Connector: run.Connector, Task: run.Task, Version: u.version, Since: u.since.UTC(), Resolved: u.resolved.UTC(),
			Clients: s.clientsOf(ref), State: "current",
		}
		t.rotor.mu.Lock()
		if e := t.rotor.book[ref]; e != nil && e.failing != "" {
			r.State, r.Reason = "unreadable", e.failing
		}
		t.rotor.mu.Unlock()
		switch {
		case s.trouble != nil && slices.Contains(s.trouble.refs, ref):
			r.State, r.Reason = "failed", s.trouble.text
		case u.restart != "":
			r.State, r.Reason = "restart", u.restart
		}
		all = append(all, r)
	}
	return all
}

// clientsOf are the open clients that use a reference or file. s.mu is held.
func (s *secrets) clientsOf(ref string) []ReferenceClient {
	all := []ReferenceClient{}
	for _, c := range s.clients {
		settings := clientconfig.Layers(c.role, s.now.worker, s.now.run)
		for _, key := range slices.Sorted(maps.Keys(settings)) {
			one := ReferenceClient{string(c.role), settings["bootstrap.servers"].Written, c.now.Report.Principal, key}
			if holds(settings[key].Written, ref) && !slices.Contains(all, one) {
				all = append(all, one)
			}
		}
	}
	return all
}

// Change is what became of new versions of the secrets of a run.
type Change struct {
	// Text names references and versions, never a value.
	Text string
	// Err says why the old ones stay in use; nil: the new ones are.
	Err error
}

// ClientUse is a Kafka client of a run, and what it logs in with.
type ClientUse struct {
	Role      string
	Cluster   string // its bootstrap servers, as written
	Principal string
	// Credentials are references, and files with keys, with the versions in use.
	Credentials []CredentialUse
}

// CredentialUse is a reference or a file with keys, and its version in the provider's terms; empty if it has none.
type CredentialUse struct{ Reference, Version string }

// ClientsOf returns the open clients of a run.
func (t *Runner) ClientsOf(id int64) (all []ClientUse) {
	t.mu.Lock()
	run := t.runs[id]
	t.mu.Unlock()
	if run == nil {
		return nil
	}
	s := run.secrets
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clients {
		all = append(all, ClientUse{
			Role: string(c.role), Cluster: clientconfig.Layers(c.role, s.now.worker, s.now.run)["bootstrap.servers"].Written, Principal: c.now.Report.Principal,
		})
	}
	for _, ref := range slices.Sorted(maps.Keys(s.uses)) {
		for i, c := range s.clients {
			if s.takes(c, ref) != "" {
				all[i].Credentials = append(all[i].Credentials, CredentialUse{ref, s.uses[ref].version})
			}
		}
	}
	return all
}

// takes returns the first setting of a client that holds a reference or names a file; empty if none does. s.mu is held.
func (s *secrets) takes(c *openClient, ref string) string {
	settings := clientconfig.Layers(c.role, s.now.worker, s.now.run)
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		if holds(settings[key].Written, ref) {
			return key
		}
	}
	return ""
}

func holds(written, ref string) bool {
	return written == ref || slices.ContainsFunc(configprovider.References(written), func(r configprovider.Reference) bool { return r.String() == ref })
}

// Rotation is what became of a change of a reference in one run, or would become.
type Rotation struct {
	Connector string `json:"connector"`
	Task      int    `json:"task"`
	From      string `json:"from,omitempty"` // versions
	To        string `json:"to,omitempty"`
	// Outcome is unchanged (the value is the one in use), changed, proved (a rehearsal: it would be changed), failed or restart (it
	// would take, or has taken, effect when this is started again).
	Outcome string            `json:"outcome"`
	Reason  string            `json:"reason,omitempty"`
	Since   time.Time         `json:"since"` // the run uses the version From
	Clients []ReferenceClient `json:"clients"`
}

// ErrUnused says that nothing that runs here uses a reference.
var ErrUnused = errors.New("nothing that runs here uses this reference")

// RotateNow reads a reference, and what else its users take from the same place, and has them use it if it works and has
// changed. A rehearsal (dry) proves and changes nothing.
func (t *Runner) RotateNow(ctx context.Context, ref string, dry bool) ([]Rotation, error) {
	runs := t.usersOf(ref)
	if len(runs) == 0 {
		return nil, ErrUnused
	}
	all := make([]Rotation, len(runs))
	var g errgroup.Group
	g.SetLimit(changesAtOnce)
	for i, run := range runs {
		g.Go(func() error {
			all[i] = t.rotateNow(ctx, run, ref, dry)
			return nil
		})
	}
	return all, g.Wait()
}

func (t *Runner) usersOf(ref string) (runs []*running) {
	for _, run := range t.all() {
		run.secrets.mu.Lock()
		if _, uses := run.secrets.uses[ref]; uses {
			runs = append(runs, run)
		}
		run.secrets.mu.Unlock()
	}
	return runs
}

func (t *Runner) rotateNow(ctx context.Context, run *running, ref string, dry bool) Rotation {
	s := run.secrets
	r := Rotation{Connector: run.Connector, Task: run.Task, Clients: []ReferenceClient{}}
	fail := func(err error) Rotation {
		r.Outcome, r.Reason = "failed", err.Error()
		return r
	}
	if !s.take(ctx) {
		return fail(errors.New("another change of this run's secrets is under way"))
	}
	defer s.rest()
	changed, err := t.readPlace(ctx, run, ref)
	s.mu.Lock()
	u := s.uses[ref]
	r.From, r.To, r.Since, r.Clients = u.version, u.version, u.since.UTC(), s.clientsOf(ref)
	files := slices.DeleteFunc(s.touchedFiles(), func(f clientconfig.File) bool { return f.Written != ref })
	clients := slices.Clone(s.clients)
	var next layers
	if err == nil {
		_, next, err = s.with(changed)
	}
	before := s.now
	s.mu.Unlock()
	switch {
	case err != nil:
		return fail(err)
	case len(changed) == 0 && len(files) == 0:
		r.Outcome = "unchanged"
		return r
	}
	if one, is := changed[ref]; is {
		r.To = one.version
	}
	if err := t.proveAll(ctx, run, clients, next); err != nil {
		return fail(err)
	}
	switch keys := notLive(before, next); {
	case len(keys) > 0:
		r.Outcome, r.Reason = "restart", fmt.Sprintf("%s cannot change in what runs", keys)
	case dry:
		r.Outcome = "proved"
	default:
		r.Outcome = "changed"
	}
	if dry {
		return r
	}
	t.rotor.learn(changed)
	if err := t.commit(ctx, run, changed, files); err != nil {
		return fail(err)
	}
	t.calm(run)
	return r
}

// take makes the caller the one who changes the run's secrets; it waits a little for another to finish.
func (s *secrets) take(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	ticker := time.NewTicker(rotorTick / 10)
	defer ticker.Stop()
	for {
		s.mu.Lock()
		free := s.ready && !s.busy
		if free {
			s.busy = true
		}
		s.mu.Unlock()
		if free {
			return true
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return false
		}
	}
}

// readPlace reads what a run takes from the place of a reference, and returns what has changed.
func (t *Runner) readPlace(ctx context.Context, run *running, ref string) (map[string]reading, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	written := map[string]string{}
	s := run.secrets
	of := configprovider.References(ref)
	s.mu.Lock()
	for other := range s.values {
		if o := configprovider.References(other)[0]; len(of) > 0 && o.Provider == of[0].Provider && o.Path == of[0].Path {
			written[other] = other
		}
	}
	s.mu.Unlock()
	settings, uses, err := t.o.Resolve(ctx, written)
	if err != nil {
		return nil, err
	}
	changed := map[string]reading{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range uses {
		if value := settings[u.Key].Value; !value.Equal(s.values[u.Reference]) {
			changed[u.Reference] = reading{value, u.Version, time.Now()}
		}
	}
	return changed, nil
}

// learn takes values that were read beside the book.
func (r *rotor) learn(changed map[string]reading) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for ref, one := range changed {
		if e := r.book[ref]; e != nil && !e.newest.value.Equal(one.value) {
			e.replace(one)
		}
	}
}

// Revocation is the proof, at one broker, that a former value of a reference is refused, or is not.
type Revocation struct {
	Connector string `json:"connector"`
	Task      int    `json:"task"`
	Cluster   string `json:"cluster"`
	Principal string `json:"principal"`
	Broker    string `json:"broker"`
	// Outcome is refused, accepted or unknown (the broker could not be asked).
	Outcome string `json:"outcome"`
	Reason  string `json:"reason,omitempty"`
}

// ErrVersion says that a worker does not have a version of a reference any more.
var ErrVersion = errors.New("this worker does not have that version: it keeps the last few values that were replaced while it ran")

// ErrInUse says that a version is no former one.
var ErrInUse = errors.New("that version is in use")

// ProveRevoked logs in with a former value of a reference, as those would that use the reference, at every broker.
func (t *Runner) ProveRevoked(ctx context.Context, ref, version string) ([]Revocation, error) {
	runs := t.usersOf(ref)
	if len(runs) == 0 {
		return nil, ErrUnused
	}
	old, err := t.rotor.former(ref, version)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	all, seen := []Revocation{}, map[string]bool{}
	for _, run := range runs {
		s := run.secrets
		s.mu.Lock()
		_, then, err := s.with(map[string]reading{ref: old})
		clients := slices.Clone(s.clients)
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		for _, c := range clients {
			built, _, err := run.build(c.role, then)
			if err != nil || built.SameCredentials(c.now) || seen[built.Fingerprint()] {
				continue
			}
			seen[built.Fingerprint()] = true
			all = append(all, t.tryFormer(ctx, run, c, then)...)
		}
	}
	return all, nil
}

// tryFormer logs in at each broker of a running client's cluster, as it would with other settings.
func (t *Runner) tryFormer(ctx context.Context, run *running, c *openClient, then layers) (all []Revocation) {
	r := Revocation{
		Connector: run.Connector, Task: run.Task, Cluster: clientconfig.Layers(c.role, then.worker, then.run)["bootstrap.servers"].Written,
		Principal: c.now.Report.Principal, Outcome: "unknown",
	}
	brokers, err := brokersOf(ctx, c.client)
	if err != nil {
		r.Reason = "the brokers cannot be listed: " + err.Error()
		return []Revocation{r}
	}
	for _, b := range brokers {
		r.Broker, r.Outcome, r.Reason = b, "accepted", ""
		built, _, err := run.build(c.role, then) // for each: a client closes its mechanism with itself
		if err == nil {
			dial := built.Dial
			if t.o.Dialer != nil {
				dial = built.DialWith(t.o.Dialer)
			}
			err = built.Try(ctx, run.guard.dialer(dial), b)
		}
		var refused *clientconfig.RefusedError
		switch {
		case errors.As(err, &refused):
			r.Outcome, r.Reason = "refused", refused.Err.Error()
		case err != nil:
			r.Outcome, r.Reason = "unknown", err.Error()
		}
		all = append(all, r)
	}
	return all
}

// brokersOf are the addresses of a running client's cluster.
func brokersOf(ctx context.Context, client *kgo.Client) (addresses []string, _ error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, err
	}
	for _, b := range resp.Brokers {
		addresses = append(addresses, net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))))
	}
	slices.Sort(addresses)
	return slices.Compact(addresses), nil
}

// former returns a former value of a reference.
func (r *rotor) former(ref, version string) (reading, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.book[ref]
	if e == nil {
		return reading{}, ErrVersion
	}
	for _, old := range e.history {
		if old.version == version && !old.value.Equal(e.newest.value) {
			return old, nil
		}
	}
	if e.newest.version == version {
		return reading{}, ErrInUse
	}
	return reading{}, ErrVersion
}
