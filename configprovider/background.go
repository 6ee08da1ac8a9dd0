package configprovider

import (
	"context"
	"fmt"
	"log/slog"

	"golang.org/x/sync/errgroup"
)

// Background is a Provider that works between reads: it renews what it was lent, or watches what it has read.
type Background interface {
	Provider
	// Run works until ctx ends, and returns nil then. It says by changed that what is at a path may be another from now
	// on; whoever uses it reads it again. Without Run, Read works all the same, with what it can find out itself.
	Run(ctx context.Context, log *slog.Logger, changed func(path string)) error
}

// Run has the providers work that do so between reads, until ctx ends. changed is told which paths to read again.
func (r *Resolver) Run(ctx context.Context, log *slog.Logger, changed func(provider, path string)) error {
	g, ctx := errgroup.WithContext(ctx)
	for name, p := range r.providers {
		if b, ok := p.(Background); ok {
			g.Go(func() error {
				if err := b.Run(ctx, log.With("provider", name), func(path string) { changed(name, path) }); err != nil {
					return fmt.Errorf("config provider %q: %w", name, err)
				}
				return nil
			})
		}
	}
	return g.Wait()
}

// UnavailableError says that a provider could not be asked: another time it may tell. It is neither for a secret that is
// not there nor for one that may not be read.
type UnavailableError struct{ Err error }

func (e *UnavailableError) Error() string { return e.Err.Error() }

// Unwrap returns what kept it from telling.
func (e *UnavailableError) Unwrap() error { return e.Err }

// Unavailable tells whether all that failed is that providers could not be asked.
func (e *Error) Unavailable() bool {
	for _, f := range e.Failures {
		if !f.Unavailable {
			return false
		}
	}
	return len(e.Failures) > 0
}
