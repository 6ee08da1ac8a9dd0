package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/prometheus/client_golang/prometheus"
)

// ErrUnavailable: the identity provider cannot be asked for its keys, so that nobody knows.
var ErrUnavailable = errors.New("the identity provider cannot be reached")

// TokenOptions is what Tokens needs.
type TokenOptions struct {
	// Issuer is the URL of the identity provider, as its tokens have it. It is https, but for a host on loopback.
	Issuer string
	// Audience has to be among those of a token.
	Audience string
	// UserClaim is the claim that names the user; empty is "sub".
	UserClaim string
	// GroupsClaim is the claim that lists the groups; empty is "groups". One that is nested has dots: realm_access.roles.
	GroupsClaim string
	// Client asks the identity provider; nil is one with a timeout.
	Client *http.Client
	// Metrics is where logins are counted; nil leaves that out.
	Metrics prometheus.Registerer
	// Now is the clock; nil is the system's.
	Now func() time.Time
}

// Tokens is authentication by bearer tokens (RFC 6750): JWTs of an OpenID Connect provider, whose keys are asked for when they are
// needed and followed as they change. It may be used by many goroutines. Make it with NewTokens.
type Tokens struct {
	o      TokenOptions
	slow   *throttle
	logins *prometheus.CounterVec

	mu       sync.Mutex
	provider *oidc.IDTokenVerifier
	since    time.Time     // of provider
	asking   chan struct{} // closed when the provider has answered; nil: it is not being asked
	failed   error         // of the last time
}

// algorithms are those that tokens may be signed with: none whose key the provider shares.
var algorithms = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA}

const (
	// keepKeys is how long keys are used before they are asked for again, so that one that the provider has withdrawn ends; without an answer
	// for as long as staleKeys they are not used any more.
	keepKeys  = 10 * time.Minute
	staleKeys = time.Hour
	// askTimeout bounds a request to the provider, maxAnswer its answer.
	askTimeout = 5 * time.Second
	maxAnswer  = 1 << 20
	// maxToken bounds a token; a header cannot be much larger anyway.
	maxToken = 32 << 10
)

// NewTokens checks the options. It asks nobody yet.
func NewTokens(o TokenOptions) (*Tokens, error) {
	u, err := url.Parse(o.Issuer)
	switch {
	case err != nil || u.Host == "":
		return nil, fmt.Errorf("the issuer %q is not a URL", o.Issuer)
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
		return nil, fmt.Errorf("the issuer %q is not https: anybody on the way could make tokens", o.Issuer)
	case o.Audience == "":
		return nil, errors.New("there is no audience: tokens that are meant for others would be taken")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.UserClaim == "" {
		o.UserClaim = "sub"
	}
	if o.GroupsClaim == "" {
		o.GroupsClaim = "groups"
	}
	if o.Client == nil {
		o.Client = &http.Client{Timeout: askTimeout}
	}
	bounded := *o.Client
	bounded.Transport = boundedAnswers{o.Client.Transport}
	o.Client = &bounded
	return &Tokens{o: o, slow: newThrottle(o.Now), logins: loginCounter(o.Metrics)}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// boundedAnswers bounds the bodies that a transport answers with.
type boundedAnswers struct{ next http.RoundTripper }

func (b boundedAnswers) RoundTrip(r *http.Request) (*http.Response, error) {
	next := b.next
	if next == nil {
		next = http.DefaultTransport
	}
	res, err := next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(res.Body, maxAnswer), res.Body}
	return res, nil
}

// IsBearer tells whether a header Authorization holds a bearer token.
func IsBearer(header string) bool {
	scheme, _, _ := strings.Cut(header, " ")
	return strings.EqualFold(scheme, "Bearer")
}

// Login says which user and groups the token in a header Authorization proves, of a request from the address.
func (t *Tokens) Login(ctx context.Context, header, address string) (user string, groups []string, err error) {
	outcome := "ok"
	defer func() { t.logins.WithLabelValues(outcome).Inc() }()
	_, token, _ := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	if !IsBearer(header) || token == "" {
		outcome = "missing"
		return "", nil, ErrMissing
	}
	host := Origin(address)
	if !t.slow.admits(host) {
		outcome = "busy"
		return "", nil, ErrBusy
	}
	user, groups, err = t.judge(ctx, token)
	var expired *oidc.TokenExpiredError
	switch {
	case err == nil:
		return user, groups, nil
	case errors.Is(err, ErrUnavailable):
		outcome = "unavailable"
		return "", nil, err
	case !errors.As(err, &expired): // those are no guesses
		t.slow.failed(ctx, host)
	}
	outcome = "wrong"
	return "", nil, fmt.Errorf("%w: %w", ErrWrong, err)
}

func (t *Tokens) judge(ctx context.Context, token string) (user string, groups []string, err error) {
	if len(token) > maxToken || strings.Count(token, ".") != 2 {
		return "", nil, errors.New("not a signed token")
	}
	verifier, err := t.verifier(ctx)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var unreached error
	verified, err := verifier.Verify(context.WithValue(ctx, unreachedKey{}, &unreached), token)
	switch {
	case unreached != nil:
		return "", nil, fmt.Errorf("%w: %w", ErrUnavailable, unreached)
	case err != nil:
		return "", nil, err
	}
	var claims map[string]any
	if err := verified.Claims(&claims); err != nil {
		return "", nil, fmt.Errorf("read the claims: %w", err)
	}
	user, _ = claims[t.o.UserClaim].(string)
	if user == "" {
		return "", nil, fmt.Errorf("the token has no claim %s", t.o.UserClaim)
	}
	if verified, there := claims["email_verified"]; t.o.UserClaim == "email" && there && verified != true {
		return "", nil, errors.New("the e-mail address is not verified")
	}
	return user, texts(nested(claims, t.o.GroupsClaim)), nil
}

// verifier returns what judges tokens by the provider's keys. One that has just failed is not asked again by the same request.
func (t *Tokens) verifier(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	t.mu.Lock()
	age := t.o.Now().Sub(t.since)
	known := t.provider
	if known != nil && age < keepKeys {
		t.mu.Unlock()
		return known, nil
	}
	asking := t.asking
	if asking == nil {
		asking = make(chan struct{})
		t.asking = asking
		go t.ask(asking) // ends within askTimeout
	}
	t.mu.Unlock()
	if known != nil && age < staleKeys {
		return known, nil
	}
	select {
	case <-asking:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed != nil {
		return nil, t.failed
	}
	return t.provider, nil
}

// ask asks the provider how it is set up, and makes what judges its tokens.
func (t *Tokens) ask(over chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	var verifier *oidc.IDTokenVerifier
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, t.o.Client), t.o.Issuer)
	if err == nil {
		var at struct {
			URL string `json:"jwks_uri"`
		}
		if err = provider.Claims(&at); err == nil {
			// The keys are asked for later, in a context that does not end.
			remote := oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), t.o.Client), at.URL)
			verifier = oidc.NewVerifier(t.o.Issuer, keySet{remote}, &oidc.Config{ClientID: t.o.Audience, SupportedSigningAlgs: algorithms, Now: t.o.Now})
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed = err; err == nil {
		t.provider, t.since = verifier, t.o.Now()
	}
	t.asking = nil
	close(over)
}

// keySet are the keys of the provider. It tells a judgement that they could not be had, which the verifier does not tell apart from a wrong signature.
type keySet struct{ *oidc.RemoteKeySet }

// unreachedKey is where a context holds a *error for that.
type unreachedKey struct{}

func (k keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := k.RemoteKeySet.VerifySignature(ctx, token)
	if to, ok := ctx.Value(unreachedKey{}).(*error); ok && err != nil && strings.HasPrefix(err.Error(), "fetching keys") {
		*to = err
	}
	return payload, err
}

// nested returns a claim, which may be within others.
func nested(claims map[string]any, name string) any {
	if v, there := claims[name]; there {
		return v
	}
	outer, inner, ok := strings.Cut(name, ".")
	if within, is := claims[outer].(map[string]any); ok && is {
		return nested(within, inner)
	}
	return nil
}

// texts reads a claim that is a text or a list of texts.
func texts(claim any) (all []string) {
	switch v := claim.(type) {
	case string:
		return []string{v}
	case []any:
		for _, e := range v {
			if s, ok := e.(string); ok && s != "" {
				all = append(all, s)
			}
		}
	}
	return all
}
