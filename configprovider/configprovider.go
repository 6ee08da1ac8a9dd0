// Package configprovider resolves the secret references in a configuration:
// ${provider:path:key} and $<provider:path:key> become the values that a
// provider has for them. It holds the resolver and the providers that need nothing
// but the machine: file, directory and env; others are leaf packages below it.
//
// A resolved value leaves it only as a config.Secret, and no error, hint or Use
// ever holds one. Easy to get wrong: a resolved value is never scanned for references again.
package configprovider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"barnabas/config"
)

// readsAtOnce bounds the reads that one Resolve has under way: enough to hide
// the latency of a remote provider, too few to trip its rate limit.
const readsAtOnce = 8

// Provider looks up secrets: Kafka's ConfigProvider. Implementations may be
// called at the same time, obey ctx, and put no value into an error.
type Provider interface {
	// Read returns what the provider has at path for keys. A key that is not
	// there is absent from Data.Values; an error is for what keeps it from telling, an
	// *UnavailableError if that may pass by itself.
	Read(ctx context.Context, path string, keys []string) (Data, error)
}

// Data is what a provider has at one path.
type Data struct {
	Values map[string]config.Secret
	// Failed are keys that could not be read where others could.
	Failed map[string]error
	// Place says what was looked into, for errors: "that file".
	Place string
	// Names are keys that the place has, for hints; nil where names are not to be told.
	Names []string
	// TTL is how long the values are good for, zero for as long as one likes.
	TTL time.Duration
	// Version names the version of the values in the backend's own terms, empty
	// if it has none. It is never computed from a value.
	Version string
	// Versions are those of single keys, where they have versions of their own.
	Versions map[string]string
}

// Kind is a kind of provider: a row of the table that a program is built with.
type Kind struct {
	// Name is the short name that config.providers.X.class accepts.
	Name string
	// Classes are the Java class names that it accepts besides.
	Classes []string
	// Params are the names of the parameters; others are ignored, as in Kafka, unless they look like a typing mistake.
	Params []string
	// Open makes a provider of config.providers.X.param.*.
	Open func(params config.Settings) (Provider, error)
}

// Kinds returns the kinds of this package. environ is what env looks into, in
// the form of os.Environ.
func Kinds(environ []string) []Kind {
	return []Kind{fileKind, directoryKind, envKind(environ)}
}

// Resolver resolves references with the providers of one worker.
type Resolver struct {
	providers map[string]Provider
}

// New makes the providers that the worker's settings list in config.providers,
// in that order; the parameters of one may hold references to those before it. All that is wrong is in the error.
func New(ctx context.Context, worker map[string]string, kinds []Kind) (*Resolver, error) {
	r := &Resolver{providers: map[string]Provider{}}
	var wrong []error
	for name := range strings.SplitSeq(worker["config.providers"], ",") {
		name = strings.TrimSpace(name)
		if name == "" || r.providers[name] != nil {
			continue
		}
		p, err := r.open(ctx, name, worker, kinds)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		r.providers[name] = p
	}
	return r, errors.Join(wrong...)
}

func (r *Resolver) open(ctx context.Context, name string, worker map[string]string, kinds []Kind) (Provider, error) {
	prefix := "config.providers." + name + "."
	class := strings.TrimSpace(worker[prefix+"class"])
	kind, err := kindOf(prefix+"class", class, kinds)
	if err != nil {
		return nil, err
	}
	written := map[string]string{}
	for key, value := range worker {
		if param, ok := strings.CutPrefix(key, prefix+"param."); ok && param != "" {
			written[param] = value
			if near := config.Nearest(param, kind.Params); near != "" && near != param {
				// Ignored, allowed.path would open every file to every connector.
				return nil, fmt.Errorf("%s: the %s provider has no such parameter; did you mean %q?", key, kind.Name, near)
			}
		}
	}
	params, _, err := r.Resolve(ctx, written)
	if err != nil {
		return nil, fmt.Errorf("parameters of config provider %q: %w", name, err)
	}
	p, err := kind.Open(params)
	if err != nil {
		return nil, fmt.Errorf("config provider %q: %w", name, err)
	}
	return p, nil
}

func kindOf(key, class string, kinds []Kind) (Kind, error) {
	var names []string
	for _, k := range kinds {
		if class != "" && (class == k.Name || slices.Contains(k.Classes, class)) {
			return k, nil
		}
		names = append(names, k.Name)
	}
	if class == "" {
		return Kind{}, fmt.Errorf("%s is missing: set it to one of %s, or to its Java class name", key, strings.Join(names, ", "))
	}
	return Kind{}, fmt.Errorf("%s: no config provider %q; there are %s, also under their Java class names", key, class, strings.Join(names, ", "))
}

// Use tells that a setting used a reference. It holds no value.
type Use struct {
	Key       string // of the setting
	Reference string // as written
	Version   string // of the value, in the backend's own terms; empty if it has none
	TTL       time.Duration
}

// Resolve replaces the references in written, each provider being read once a
// path. Uses are ordered by key, then by place in the value. If anything fails,
// the error is an *Error with all failures, and there are no settings.
//
// Unlike Kafka's ConfigTransformer, which leaves a reference to an unknown
// provider or key as literal text, either fails.
func (r *Resolver) Resolve(ctx context.Context, written map[string]string) (config.Settings, []Use, error) {
	found := map[string][]Reference{}
	reads := map[place]*read{}
	for key, value := range written {
		found[key] = References(value)
		for _, ref := range found[key] {
			at := place{ref.Provider, ref.Path}
			if reads[at] == nil {
				reads[at] = &read{keys: map[string]bool{}}
			}
			reads[at].keys[ref.Key] = true
		}
	}
	r.read(ctx, reads)

	settings := make(config.Settings, len(written))
	var uses []Use
	var failures []Failure
	for _, key := range slices.Sorted(maps.Keys(written)) {
		var value strings.Builder
		rest := 0
		for i, ref := range found[key] {
			got := reads[place{ref.Provider, ref.Path}]
			secret, err := r.pick(got, ref)
			if err != nil {
				var unavailable *UnavailableError
				failures = append(failures, Failure{Key: key, Reference: ref.String(), Reason: err.Error(), Unavailable: errors.As(err, &unavailable)})
				continue
			}
			value.WriteString(written[key][rest:ref.start])
			value.WriteString(secret.Reveal())
			rest = ref.start + len(ref.written)
			if !slices.ContainsFunc(found[key][:i], func(before Reference) bool { return before.written == ref.written }) {
				uses = append(uses, Use{Key: key, Reference: ref.String(), Version: cmp.Or(got.data.Versions[ref.Key], got.data.Version), TTL: got.data.TTL})
			}
		}
		value.WriteString(written[key][rest:])
		settings[key] = config.Setting{Written: written[key], Value: config.NewSecret(value.String())}
	}
	if failures != nil {
		return nil, nil, &Error{Failures: failures}
	}
	return settings, uses, nil
}

// place is where keys are read together.
type place struct{ provider, path string }

type read struct {
	keys map[string]bool
	data Data
	err  error
}

// read fills reads in.
func (r *Resolver) read(ctx context.Context, reads map[place]*read) {
	var g errgroup.Group
	g.SetLimit(readsAtOnce)
	for at, one := range reads {
		provider, ok := r.providers[at.provider]
		if !ok {
			continue
		}
		g.Go(func() error {
			if one.err = ctx.Err(); one.err == nil {
				one.data, one.err = provider.Read(ctx, at.path, slices.Sorted(maps.Keys(one.keys)))
			}
			return nil
		})
	}
	_ = g.Wait() // each read keeps its own error
}

// pick takes the value of ref out of what was read for it, or says why not.
func (r *Resolver) pick(got *read, ref Reference) (config.Secret, error) {
	if _, ok := r.providers[ref.Provider]; !ok {
		return config.Secret{}, errors.New(r.unknown(ref.Provider))
	}
	if err := cmp.Or(got.err, got.data.Failed[ref.Key]); err != nil {
		return config.Secret{}, err
	}
	if secret, ok := got.data.Values[ref.Key]; ok {
		return secret, nil
	}
	reason := fmt.Sprintf("%s has no key %q", cmp.Or(got.data.Place, "the provider"), ref.Key)
	if near := config.Nearest(ref.Key, got.data.Names); near != "" {
		reason += fmt.Sprintf("; it has %q", near)
	}
	return config.Secret{}, errors.New(reason)
}

func (r *Resolver) unknown(provider string) string {
	names := slices.Sorted(maps.Keys(r.providers))
	if len(names) == 0 {
		return fmt.Sprintf("there is no config provider %q: config.providers of the worker lists none", provider)
	}
	return fmt.Sprintf("there is no config provider %q: config.providers of the worker lists %s", provider, strings.Join(names, ", "))
}

// Failure is a reference that could not be resolved. It holds no value.
type Failure struct {
	Key       string // of the setting
	Reference string // as written
	Reason    string
	// Unavailable: the provider could not be asked; later it may tell.
	Unavailable bool
}

// Error says which references could not be resolved, and why.
type Error struct{ Failures []Failure }

// Error is one line with all failures.
func (e *Error) Error() string {
	parts := make([]string, len(e.Failures))
	for i, f := range e.Failures {
		parts[i] = f.String()
	}
	return strings.Join(parts, "; ")
}

// Problems returns the failures for the answer of validate.
func (e *Error) Problems() []config.Problem {
	problems := make([]config.Problem, len(e.Failures))
	for i, f := range e.Failures {
		problems[i] = config.Problem{Key: f.Key, Message: f.String()}
	}
	return problems
}

// String is a sentence for a person.
func (f Failure) String() string {
	return fmt.Sprintf("%q names %s, and %s", f.Key, f.Reference, f.Reason)
}
