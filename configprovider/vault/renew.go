package vault

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"barnabas/config"
	"barnabas/configprovider"
)

const (
	// renewPause is the wait after a renewal that could not be made, and between looks at what is short-lived.
	renewPause = 2 * time.Second
	// idle is the longest wait between looks at what there is to renew.
	idle = time.Minute
	// logEvery bounds how often trouble with renewals is told.
	logEvery = time.Minute
)

// lease is what a secret is lent by. The zero value is none.
type lease struct {
	id        string
	renewable bool
	length    time.Duration
	since     time.Time
	granted   time.Duration // the length when it was new
	by        config.Secret // the token that it hangs on: its end is the lease's
}

// holds says whether what is lent may still be handed out: not at the end of its life, when who uses it shall have time
// to take another.
func (l lease) holds(now time.Time) bool { return l.id != "" && now.Before(l.since.Add(l.length*5/6)) }

// due is when to renew it.
func (l lease) due() time.Time { return l.since.Add(l.length * 2 / 3) }

// look has Run look at what there is to renew.
func (p *provider) look() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// Run renews the token and the leases. What is at the end of its life is told by changed while it is still good.
func (p *provider) Run(ctx context.Context, log *slog.Logger, changed func(path string)) error {
	var told time.Time
	for {
		next, err := p.renew(ctx, changed)
		if err != nil && ctx.Err() == nil && time.Since(told) > logEvery {
			told = time.Now()
			log.Warn("Vault does not renew; what runs goes on with what it has", "err", err)
		}
		timer := time.NewTimer(min(max(time.Until(next), 0)+rand.N(100*time.Millisecond), idle))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case <-p.kick:
			timer.Stop()
		}
	}
}

// renew renews what is due and says when to look again.
func (p *provider) renew(ctx context.Context, changed func(path string)) (next time.Time, err error) {
	now := time.Now()
	next = now.Add(idle)
	soon := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	p.mu.Lock()
	t := p.token
	places := make(map[string]*place, len(p.places))
	for path, at := range p.places {
		places[path] = at
	}
	p.mu.Unlock()
	if due := t.due(); !due.IsZero() && !now.Before(due) {
		if err = p.renewToken(ctx, t); err != nil {
			soon(now.Add(renewPause))
		}
		p.mu.Lock()
		t = p.token
		p.mu.Unlock()
		if renewed := t.due(); err == nil {
			soon(maxTime(renewed, now.Add(renewPause/4)))
		}
	} else {
		soon(due)
	}
	for path, at := range places {
		again, failed := p.renewLease(ctx, path, at, t, changed)
		soon(again)
		err = errors.Join(err, failed)
	}
	return next, err
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// renewToken renews the token, or logs in for another if it cannot be, or only for a moment: its longest life is near.
func (p *provider) renewToken(ctx context.Context, t token) error {
	if t.renewable {
		since := time.Now()
		a, err := p.send(ctx, http.MethodPost, "auth/token/renew-self", nil, []byte("{}"), t.value)
		if err != nil {
			return err
		}
		if renewed, ok := tokenOf(a.Body, since); a.Status == http.StatusOK && ok && (p.login.method == "token" || renewed.length > t.length/2) {
			p.mu.Lock()
			if p.token.value.Equal(t.value) {
				p.token = renewed
			}
			p.mu.Unlock()
			return nil
		}
	}
	if p.login.method == "token" && p.login.file == "" {
		return errors.New("the token ends soon and cannot be renewed")
	}
	_, err := p.tokenFor(ctx, t)
	return err
}

// renewLease renews the lease of a place while somebody uses it, and says when to look again.
func (p *provider) renewLease(ctx context.Context, path string, at *place, with token, changed func(path string)) (time.Time, error) {
	at.mu.Lock()
	l, used := at.lease, at.used
	at.mu.Unlock()
	now := time.Now()
	switch {
	case l.id == "":
		return time.Time{}, nil
	case !l.by.Equal(with.value):
		p.drop(at, l) // of a token before this one, and gone when that ends
		changed(path)
		return time.Time{}, nil
	case now.Before(l.due()):
		return l.due(), nil
	case now.Sub(used) > l.length && now.Sub(used) > 2*time.Minute:
		p.drop(at, l) // nobody reads it any more: it ends by itself
		return time.Time{}, nil
	}
	if l.renewable {
		renewed, err := p.askRenewal(ctx, l)
		var unavailable *configprovider.UnavailableError
		switch {
		case err == nil && renewed.length > l.granted/2 && renewed.length > l.length/2:
			at.mu.Lock()
			if at.lease.id == l.id {
				at.lease = renewed
			}
			at.mu.Unlock()
			return renewed.due(), nil
		case errors.As(err, &unavailable) && l.holds(now):
			return now.Add(renewPause), err
		}
	}
	// At the end of its life. The next read has another, and who uses this one takes the other while this one is good.
	p.drop(at, l)
	changed(path)
	return time.Time{}, nil
}

func (p *provider) drop(at *place, l lease) {
	at.mu.Lock()
	defer at.mu.Unlock()
	if at.lease.id == l.id {
		at.lease = lease{}
	}
}

func (p *provider) askRenewal(ctx context.Context, l lease) (lease, error) {
	body, err := json.Marshal(map[string]any{"lease_id": l.id})
	if err != nil {
		return l, err
	}
	since := time.Now()
	a, err := p.ask(ctx, http.MethodPut, "sys/leases/renew", nil, body)
	if err != nil {
		return l, err
	}
	var s secret
	if a.Status != http.StatusOK || json.Unmarshal(a.Body, &s) != nil || s.LeaseDuration <= 0 {
		return l, errors.New("the lease cannot be renewed")
	}
	l.length, l.since, l.renewable = time.Duration(s.LeaseDuration)*time.Second, since, s.Renewable
	return l, nil
}
