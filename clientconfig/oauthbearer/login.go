// Package oauthbearer gets and keeps the tokens of SASL OAUTHBEARER (KIP-255,
// KIP-768, KIP-1139): from a token endpoint, from a file, or made here without a signature. It knows no
// settings: clientconfig reads and guards them.
//
// Easy to get wrong: nothing that a token endpoint or a file answers may stand in
// an error, but for the fields that RFC 6749 gives to errors; who chose the address may not be who may read
// what is there (CVE-2025-27817).
package oauthbearer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"

	"barnabas/config"
)

// Retriever gets a new token. It bounds its own time.
type Retriever func(context.Context) (config.Secret, error)

// Login holds the token of one client and gets a new one when connections need
// one that lasts longer: each connection that authenticates, or authenticates again (KIP-368), asks it.
type Login struct {
	Retrieve Retriever
	// SubjectClaim names the claim with whom the token is for; empty is "sub". A token without it is
	// refused as Kafka's clients do, unless Opaque.
	SubjectClaim string
	// Opaque takes tokens that are no JWT, which last TTL.
	Opaque bool
	TTL    time.Duration
	// Extensions go along with the token (SASL extensions, KIP-342).
	Extensions map[string]string
	// WindowFactor and WindowJitter say at which part of its life a token is replaced
	// (sasl.login.refresh.window.*). It is also replaced Buffer before its end, but not
	// within MinPeriod of its start, unless the two contradict each other: then the factor decides.
	WindowFactor, WindowJitter float64
	MinPeriod, Buffer          time.Duration

	mu      sync.Mutex // held while a token is fetched, so that many connections at once fetch one
	token   config.Secret
	life    life
	refresh time.Time
}

// life is from when to when a token counts.
type life struct{ from, until time.Time }

// Mechanism is what a Kafka client authenticates with.
func (l *Login) Mechanism() sasl.Mechanism { return mechanism{l} }

type mechanism struct{ login *Login }

func (mechanism) Name() string { return "OAUTHBEARER" }

// Authenticate begins the exchange with a token that is valid now.
func (m mechanism) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	token, err := m.login.Token(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("SASL OAUTHBEARER: %w", err)
	}
	_, first, err := oauth.Auth{Token: token.Reveal(), Extensions: m.login.Extensions}.AsMechanism().Authenticate(ctx, host)
	return session(m), first, err
}

type session struct{ login *Login }

// Challenge reads the broker's answer: nothing, or why the token does not do (RFC 7628, 3.2.2).
func (s session) Challenge(answer []byte) (done bool, write []byte, err error) {
	if len(answer) == 0 {
		return true, nil, nil
	}
	s.login.forget() // the next connection gets another one
	var refusal struct{ Status, Scope string }
	if json.Unmarshal(answer, &refusal) != nil || refusal.Status == "" {
		return false, nil, final{errors.New("SASL OAUTHBEARER: the broker refuses the token")}
	}
	return false, nil, final{fmt.Errorf("SASL OAUTHBEARER: the broker refuses the token: %s", printable(refusal.Status))}
}

// Token returns a token that is valid, and new if the one at hand is due to be replaced. While no new one can be had, the one at
// hand serves until its end.
func (l *Login) Token(ctx context.Context) (config.Secret, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Before(l.refresh) && now.Before(l.life.until) {
		return l.token, nil
	}
	token, err := l.Retrieve(ctx)
	var alive life
	if err == nil {
		if alive, err = l.judge(token, now); err != nil {
			err = fmt.Errorf("the token that was got: %w", err)
		}
	}
	if err != nil {
		if now.Before(l.life.until) {
			// Asked again by the next connection, but not by each of hundreds.
			l.refresh = now.Add(min(10*time.Second, l.life.until.Sub(now)/2))
			return l.token, nil
		}
		return config.Secret{}, err
	}
	l.token, l.life, l.refresh = token, alive, l.due(alive)
	return token, nil
}

// forget drops the token, which a broker has refused.
func (l *Login) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.life = life{}
}

// due is when a token is to be replaced, as ExpiringCredentialRefreshingLogin reckons.
func (l *Login) due(t life) time.Time {
	span := t.until.Sub(t.from)
	at := t.from.Add(time.Duration(float64(span) * (l.WindowFactor + l.WindowJitter*rand.Float64())))
	// franz-go authenticates again a second before a token's end, or earlier. With the same token it would have to do so again at
	// once, which a broker refuses (SaslServerAuthenticator takes one a second).
	if last := t.until.Add(-2 * time.Second); at.After(last) {
		at = last
	}
	if span < l.MinPeriod+l.Buffer {
		return at
	}
	if last := t.until.Add(-l.Buffer); at.After(last) {
		at = last
	}
	if first := t.from.Add(l.MinPeriod); at.Before(first) {
		at = first
	}
	return at
}

// judge looks into a token as ClientJwtValidator does: the broker checks who has signed it, the client whether it is one
// and how long it lasts.
func (l *Login) judge(token config.Secret, now time.Time) (life, error) {
	if l.Opaque {
		return life{now, now.Add(l.TTL)}, nil
	}
	claims, err := claimsOf(token)
	if err != nil {
		return life{}, err
	}
	name := l.SubjectClaim
	if name == "" {
		name = "sub"
	}
	if subject, ok := claims[name].(string); !ok || blank(subject) {
		return life{}, fmt.Errorf("it has no claim %q with whom it is for", name)
	}
	until, ok := seconds(claims["exp"])
	if !ok {
		return life{}, errors.New(`it has no claim "exp" with its end`)
	}
	if !now.Before(until) {
		return life{}, fmt.Errorf("it has ended at %s", until.UTC().Format(time.RFC3339))
	}
	from, ok := seconds(claims["iat"])
	if !ok || from.After(now) {
		from = now
	}
	return life{from, until}, nil
}
