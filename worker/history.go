package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/worker/herder"
)

// Author is who asks for a change, as far as it is known.
type Author struct {
	User    string // anonymous while nobody has to prove who they are
	Address string // of the client
}

// Anonymous is the user of requests without proof of who sent them.
const Anonymous = "anonymous"

type authorKey struct{}

// WithAuthor gives the changes that are asked for with ctx an author, for the history.
func WithAuthor(ctx context.Context, a Author) context.Context {
	return context.WithValue(ctx, authorKey{}, a)
}

// authorOf returns the author of ctx. Without one it is the worker's own doing, as in the dedicated mode.
func authorOf(ctx context.Context) Author {
	a, known := ctx.Value(authorKey{}).(Author)
	if !known {
		a.User = "worker"
	}
	return a
}

// changeBy describes a change by the author of ctx.
func changeBy(ctx context.Context, what string) herder.Change {
	a := authorOf(ctx)
	return herder.Change{What: what, User: a.User, Address: a.Address, At: time.Now().UnixMilli()}
}

// conceal returns what the history may keep of a configuration. References are kept as they are. Secrets written out are
// not: the history would hold a password long after it was replaced by a reference.
func conceal(written map[string]string) (kept map[string]string, hidden []string) {
	if p, err := pluginFor(written["connector.class"]); err == nil {
		hidden = configprovider.Literals(p.Keys, written)
	}
	for key, value := range written {
		if config.LiteralSecret(key, value, false) && !slices.Contains(hidden, key) {
			hidden = append(hidden, key)
		}
	}
	slices.Sort(hidden)
	kept = maps.Clone(written)
	for _, key := range hidden {
		delete(kept, key)
	}
	return kept, hidden
}

// ConfigVersion is one version of a connector's configuration.
type ConfigVersion struct {
	Version int64     `json:"version"`
	What    string    `json:"what"` // created, updated, patched, deleted, rolled back, found
	User    string    `json:"user,omitempty"`
	Address string    `json:"address,omitempty"`
	At      time.Time `json:"at"`
	// From is the version that was rolled back to.
	From    int64    `json:"from,omitempty"`
	Changed []string `json:"changed,omitempty"`
	// Config is what was written, with config.Hidden in place of secrets written out; nil in a list, of a deletion, and if
	// it was too large to be kept (Omitted).
	Config  map[string]string `json:"config,omitempty"`
	Hidden  []string          `json:"hidden,omitempty"`
	Omitted bool              `json:"omitted,omitempty"`
}

func newConfigVersion(v *herder.Version) ConfigVersion {
	return ConfigVersion{
		Version: v.Number, What: v.What, User: v.User, Address: v.Address, At: time.UnixMilli(v.At).UTC(), From: v.From,
		Changed: v.Changed, Hidden: v.Hidden, Omitted: v.Omitted,
	}
}

// ConfigChange is one difference between two versions; nil: not set.
type ConfigChange struct {
	Key    string  `json:"key"`
	Before *string `json:"before"`
	After  *string `json:"after"`
}

// ConfigDiff is how two versions differ, by key.
type ConfigDiff struct {
	From    int64          `json:"from"`
	To      int64          `json:"to"`
	Changes []ConfigChange `json:"changes"`
}

// History returns the versions of a connector's configuration that are kept, the newest first, without the configurations.
// A connector that is deleted has a history, too.
func (w *Worker) History(ctx context.Context, name string) ([]ConfigVersion, error) {
	kept, err := w.versions(ctx, name)
	if err != nil {
		return nil, err
	}
	all := make([]ConfigVersion, 0, len(kept))
	for _, v := range slices.Backward(kept) {
		all = append(all, newConfigVersion(v))
	}
	return all, nil
}

func (w *Worker) versions(ctx context.Context, name string) (kept []*herder.Version, err error) {
	err = w.read(ctx, func(m *herder.Machine) error {
		kept = m.History(name)
		if _, _, exists := m.Connector(name); !exists && len(kept) == 0 {
			return notFound("Connector %s not found", name)
		}
		return nil
	})
	return kept, err
}

func (w *Worker) version(ctx context.Context, name string, number int64) (*herder.Version, error) {
	kept, err := w.versions(ctx, name)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(kept, func(v *herder.Version) bool { return v.Number == number })
	if i < 0 {
		return nil, notFound("Version %d of the configuration of connector %s not found", number, name)
	}
	return kept[i], nil
}

// ConfigVersion returns one version with its configuration.
func (w *Worker) ConfigVersion(ctx context.Context, name string, number int64) (ConfigVersion, error) {
	v, err := w.version(ctx, name, number)
	if err != nil {
		return ConfigVersion{}, err
	}
	c := newConfigVersion(v)
	c.Config = shownConfig(v)
	return c, nil
}

func shownConfig(v *herder.Version) map[string]string {
	shown := maps.Clone(v.Config)
	for _, key := range v.Hidden {
		if shown == nil {
			shown = map[string]string{}
		}
		shown[key] = config.Hidden
	}
	return shown
}

// Diff returns how version to differs from version from; 0 stands for the newest, and for the one before to.
func (w *Worker) Diff(ctx context.Context, name string, from, to int64) (ConfigDiff, error) {
	kept, err := w.versions(ctx, name)
	if err != nil {
		return ConfigDiff{}, err
	}
	if to == 0 && len(kept) > 0 {
		to = kept[len(kept)-1].Number
	}
	if from == 0 {
		from = to - 1
	}
	d := ConfigDiff{From: from, To: to, Changes: []ConfigChange{}}
	var sides [2]map[string]string
	for i, number := range []int64{from, to} {
		v, err := w.version(ctx, name, number)
		if err != nil {
			return d, err
		}
		if v.Omitted {
			return d, &Error{ErrInvalid, fmt.Sprintf("Version %d of the configuration of connector %s was too large to be kept.", number, name)}
		}
		sides[i] = shownConfig(v)
	}
	changed := map[string]bool{} // a secret that was replaced by another one shows as no difference
	for _, v := range kept {
		if v.Number > min(from, to) && v.Number <= max(from, to) {
			for _, key := range v.Changed {
				changed[key] = true
			}
		}
	}
	keys := maps.Clone(sides[0])
	if keys == nil {
		keys = map[string]string{}
	}
	maps.Copy(keys, sides[1])
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		c := ConfigChange{Key: key}
		if v, ok := sides[0][key]; ok {
			c.Before = &v
		}
		if v, ok := sides[1][key]; ok {
			c.After = &v
		}
		same := c.Before != nil && c.After != nil && *c.Before == *c.After
		if !same || changed[key] && *c.Before == config.Hidden {
			d.Changes = append(d.Changes, c)
		}
	}
	return d, nil
}

// Rollback makes a version of a connector's configuration the present one, as a new version. A connector that is deleted is
// created again. Secrets written out are not kept: they stay as they are in the present configuration, and if they
// are not in it the roll-back is refused.
func (w *Worker) Rollback(ctx context.Context, name string, number int64) (ConnectorInfo, error) {
	if err := w.leads(ctx); err != nil {
		return ConnectorInfo{}, err
	}
	v, err := w.version(ctx, name, number)
	if err != nil {
		return ConnectorInfo{}, err
	}
	if v.Config == nil {
		why := "is the deletion of connector " + name
		if v.Omitted {
			why = "of the configuration of connector " + name + " was too large to be kept"
		}
		return ConnectorInfo{}, &Error{ErrInvalid, fmt.Sprintf("Version %d %s: there is nothing to roll back to.", number, why)}
	}
	var present map[string]string
	var rev int64
	if err := w.read(ctx, func(m *herder.Machine) error {
		present, rev, _ = m.Connector(name)
		return nil
	}); err != nil {
		return ConnectorInfo{}, err
	}
	written := maps.Clone(v.Config)
	for _, key := range v.Hidden {
		value, ok := present[key]
		if !ok {
			return ConnectorInfo{}, &Error{ErrInvalid, fmt.Sprintf("Version %d of the configuration of connector %s had a secret written out in %s, "+
				"which the history does not keep, and the present configuration has no such key: write the configuration anew, with a reference.", number, name, key)}
		}
		written[key] = value
	}
	change := changeBy(ctx, herder.RolledBack)
	change.From = number
	info, _, err := w.put(ctx, name, written, rev, change)
	if errors.Is(err, herder.ErrChanged) {
		return info, &Error{ErrConflict, fmt.Sprintf("The configuration of connector %s has changed meanwhile.", name)}
	}
	return info, err
}
