package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// provider is as much of an identity provider as tokens need. The whole of one is in e2e.
type provider struct {
	*httptest.Server
	mu    sync.Mutex
	keys  []jose.JSONWebKey
	down  bool
	asked atomic.Int32 // for keys
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch {
		case p.down:
			w.WriteHeader(http.StatusInternalServerError)
		case r.URL.Path == "/.well-known/openid-configuration":
			_ = json.NewEncoder(w).Encode(map[string]any{"issuer": p.URL, "jwks_uri": p.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"}})
		default:
			p.asked.Add(1)
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: p.keys})
		}
	}))
	t.Cleanup(p.Close)
	return p
}

// has makes keys those that the provider tells of.
func (p *provider) has(keys ...signingKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = nil
	for _, k := range keys {
		p.keys = append(p.keys, jose.JSONWebKey{Key: k.key.Public(), KeyID: k.id, Use: "sig"})
	}
}

func (p *provider) setDown(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

type signingKey struct {
	id  string
	alg jose.SignatureAlgorithm
	key crypto.Signer
}

func rsaKey(t *testing.T, id string) signingKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return signingKey{id, jose.RS256, key}
}

// sign makes a header Authorization of claims.
func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, id string, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", id))
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return "Bearer " + token
}

func (p *provider) claims(more map[string]any) map[string]any {
	c := map[string]any{
		"iss": p.URL, "aud": "barnabas", "sub": "ann", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(), "groups": []string{"payments", "ops"},
	}
	maps.Copy(c, more)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func openTokens(t *testing.T, o TokenOptions) *Tokens {
	t.Helper()
	if o.Audience == "" {
		o.Audience = "barnabas"
	}
	tokens, err := NewTokens(o)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func TestTokensProveUsersAndGroups(t *testing.T) {
	t.Parallel()
	p, key := newProvider(t), rsaKey(t, "1")
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	elliptic := signingKey{"ec", jose.ES256, ec}
	p.has(key, elliptic)
	for name, row := range map[string]struct {
		o      TokenOptions
		key    signingKey
		claims map[string]any
		user   string
		groups []string
	}{
		"as usual":            {TokenOptions{}, key, nil, "ann", []string{"payments", "ops"}},
		"elliptic curve":      {TokenOptions{}, elliptic, nil, "ann", []string{"payments", "ops"}},
		"several audiences":   {TokenOptions{}, key, map[string]any{"aud": []string{"x", "barnabas"}}, "ann", []string{"payments", "ops"}},
		"no groups":           {TokenOptions{}, key, map[string]any{"groups": nil}, "ann", nil},
		"one group":           {TokenOptions{}, key, map[string]any{"groups": "ops"}, "ann", []string{"ops"}},
		"groups of no text":   {TokenOptions{}, key, map[string]any{"groups": []any{1, "", "ops", nil, map[string]any{}}}, "ann", []string{"ops"}},
		"other claims":        {TokenOptions{UserClaim: "email", GroupsClaim: "realm_access.roles"}, key, map[string]any{"email": "ann@x", "email_verified": true, "realm_access": map[string]any{"roles": []string{"r"}}}, "ann@x", []string{"r"}},
		"a claim with a dot":  {TokenOptions{GroupsClaim: "https://x.example/groups"}, key, map[string]any{"https://x.example/groups": []string{"g"}}, "ann", []string{"g"}},
		"a little before nbf": {TokenOptions{}, key, map[string]any{"nbf": time.Now().Add(time.Minute).Unix()}, "ann", []string{"payments", "ops"}},
	} {
		row.o.Issuer = p.URL
		user, groups, err := openTokens(t, row.o).Login(t.Context(), sign(t, row.key.alg, row.key.key, row.key.id, p.claims(row.claims)), here)
		if err != nil || user != row.user || !slices.Equal(groups, row.groups) {
			t.Errorf("%s: got %q %q %v", name, user, groups, err)
		}
	}
}

func TestTokensThatProveNothingAreRefused(t *testing.T) {
	t.Parallel()
	p, key, foreign := newProvider(t), rsaKey(t, "1"), rsaKey(t, "1")
	p.has(key)
	public, err := x509.MarshalPKIXPublicKey(key.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	good := sign(t, key.alg, key.key, "1", p.claims(nil))
	parts := strings.Split(strings.TrimPrefix(good, "Bearer "), ".")
	coded := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	of := func(more map[string]any) string { return sign(t, key.alg, key.key, "1", p.claims(more)) }
	for name, header := range map[string]string{
		"another key of that name":       sign(t, foreign.alg, foreign.key, "1", p.claims(nil)),
		"a key that there is not":        sign(t, foreign.alg, foreign.key, "2", p.claims(nil)),
		"the public key as a shared one": sign(t, jose.HS256, public, "1", p.claims(nil)),
		"no signature":                   "Bearer " + coded(`{"alg":"none"}`) + "." + parts[1] + ".",
		"a signature of other claims":    "Bearer " + parts[0] + "." + coded(`{"iss":"`+p.URL+`","aud":"barnabas","sub":"root","exp":9999999999}`) + "." + parts[2],
		"another issuer":                 of(map[string]any{"iss": "https://elsewhere.example"}),
		"no issuer":                      of(map[string]any{"iss": nil}),
		"another audience":               of(map[string]any{"aud": "grafana"}),
		"no audience":                    of(map[string]any{"aud": nil}),
		"expired":                        of(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}),
		"never expires":                  of(map[string]any{"exp": nil}),
		"later":                          of(map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}),
		"nobody":                         of(map[string]any{"sub": nil}),
		"nobody by name":                 of(map[string]any{"sub": ""}),
		"a number":                       of(map[string]any{"sub": 7}),
		"not a token":                    "Bearer x",
		"three parts of nothing":         "Bearer ..",
		"much too long":                  "Bearer " + strings.Repeat("a.", 2) + strings.Repeat("a", 1<<20),
	} {
		tokens := openTokens(t, TokenOptions{Issuer: p.URL})
		if user, groups, err := tokens.Login(t.Context(), header, here); !errors.Is(err, ErrWrong) || user != "" || groups != nil {
			t.Errorf("%s: got %q %q %v", name, user, groups, err)
		}
	}
	if _, _, err := openTokens(t, TokenOptions{Issuer: p.URL, UserClaim: "email"}).Login(t.Context(), of(map[string]any{"email": "root@x", "email_verified": false}), here); !errors.Is(err, ErrWrong) {
		t.Errorf("an address that is not verified: %v", err)
	}
	for _, header := range []string{"", "Bearer", "Bearer ", "Basic YW5uOnNlY3JldA=="} {
		if _, _, err := openTokens(t, TokenOptions{Issuer: p.URL}).Login(t.Context(), header, here); !errors.Is(err, ErrMissing) {
			t.Errorf("%q: %v", header, err)
		}
	}
}

func TestKeysOfTheProviderAreFollowed(t *testing.T) {
	t.Parallel()
	p, before, after := newProvider(t), rsaKey(t, "1"), rsaKey(t, "2")
	p.has(before)
	var now atomic.Int64 // how much later it is
	tokens := openTokens(t, TokenOptions{Issuer: p.URL, Now: func() time.Time { return time.Now().Add(time.Duration(now.Load())) }})
	login := func(what string, k signingKey, want error) {
		t.Helper()
		_, _, err := tokens.Login(t.Context(), sign(t, k.alg, k.key, k.id, p.claims(map[string]any{"exp": time.Now().Add(24 * time.Hour).Unix()})), here)
		if !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
	}
	login("the key", before, nil)
	login("a key that is not there yet", after, ErrWrong)
	p.has(before, after)
	login("one that has come", after, nil)
	asked := p.asked.Load()
	for range 20 {
		login("a key that is known", before, nil)
	}
	if n := p.asked.Load(); n != asked {
		t.Errorf("the provider was asked %d times for keys that are known", n-asked)
	}
	p.has(after)
	now.Store(int64(keepKeys + time.Second))
	eventually(t, "a key that was withdrawn", func() bool {
		_, _, err := tokens.Login(t.Context(), sign(t, before.alg, before.key, before.id, p.claims(nil)), elsewhere)
		return errors.Is(err, ErrWrong)
	})
	login("the one that is left", after, nil)

	// While it does not answer, keys are used for a while.
	p.setDown(true)
	now.Store(int64(2*keepKeys + time.Minute))
	login("a provider that is down", after, nil)
	now.Store(int64(2*keepKeys + staleKeys))
	login("one that is down for long", after, ErrUnavailable)
	p.setDown(false)
	login("one that is back", after, nil)
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within a minute", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestAProviderThatIsNotThereIsNoWrongToken(t *testing.T) {
	t.Parallel()
	p, key := newProvider(t), rsaKey(t, "1")
	p.has(key)
	p.setDown(true)
	tokens := openTokens(t, TokenOptions{Issuer: p.URL})
	header := sign(t, key.alg, key.key, key.id, p.claims(nil))
	if _, _, err := tokens.Login(t.Context(), header, here); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	p.setDown(false)
	if user, _, err := tokens.Login(t.Context(), header, here); err != nil || user != "ann" {
		t.Errorf("%q %v", user, err)
	}
	if _, _, err := openTokens(t, TokenOptions{Issuer: p.URL + "/x"}).Login(t.Context(), header, here); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a provider of another name: %v", err)
	}
}

func TestIssuersThatProveNothingAreRefused(t *testing.T) {
	t.Parallel()
	for _, o := range []TokenOptions{
		{Issuer: "http://id.example", Audience: "a"}, {Issuer: "id.example", Audience: "a"}, {Issuer: "", Audience: "a"}, {Issuer: "https://id.example"},
	} {
		if _, err := NewTokens(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	for _, issuer := range []string{"https://id.example/realms/x", "http://127.0.0.1:5556/dex", "http://localhost:1"} {
		if _, err := NewTokens(TokenOptions{Issuer: issuer, Audience: "a"}); err != nil {
			t.Error(err)
		}
	}
}

func FuzzTokens(f *testing.F) {
	f.Add("Bearer eyJhbGciOiJub25lIn0.e30.")
	f.Add("Bearer a.b.c")
	f.Add("bearer ")
	tokens, err := NewTokens(TokenOptions{Issuer: "http://127.0.0.1:1", Audience: "a"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if user, _, err := tokens.Login(t.Context(), header, here); err == nil {
			t.Errorf("%q proves %q", header, user)
		}
	})
}
