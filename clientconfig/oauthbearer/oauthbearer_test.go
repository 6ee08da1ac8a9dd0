package oauthbearer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"barnabas/config"
)

// jwt makes an unsigned token that lasts from and until now plus these.
func jwt(from, until time.Duration) config.Secret {
	encode := base64.RawURLEncoding.EncodeToString
	now := time.Now()
	payload := fmt.Sprintf(`{"sub":"orders-ro","iat":%d,"exp":%d}`, now.Add(from).Unix(), now.Add(until).Unix())
	return config.NewSecret(encode([]byte(`{"alg":"none"}`)) + "." + encode([]byte(payload)) + ".x")
}

// server answers as the handlers say, one after the other, the last one for ever.
type server struct {
	*httptest.Server
	mu       sync.Mutex
	handlers []http.HandlerFunc
	asked    []*http.Request
	bodies   []string
}

func newServer(t *testing.T, handlers ...http.HandlerFunc) *server {
	s := &server{handlers: handlers}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		h := s.handlers[min(len(s.asked), len(s.handlers)-1)]
		s.asked, s.bodies = append(s.asked, r), append(s.bodies, string(body))
		s.mu.Unlock()
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

func (s *server) endpoint() Endpoint {
	return Endpoint{URL: s.URL + "/token", Shown: "the endpoint", ConnectTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second, Backoff: time.Millisecond, BackoffMax: 20 * time.Second}
}

func gives(token config.Secret) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer"}`, token.Reveal())
	}
}

func fails(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status); fmt.Fprint(w, body) }
}

func TestClientSecretIsSentAsKafkaDoes(t *testing.T) {
	t.Parallel()
	for encode, want := range map[bool]struct{ auth, body string }{
		false: {"ord:ers:s e+c", "grant_type=client_credentials&scope=a b"},
		true:  {"ord%3Aers:s+e%2Bc", "grant_type=client_credentials&scope=a+b"},
	} {
		s := newServer(t, gives(jwt(0, time.Hour)))
		token, err := ClientSecret(s.endpoint(), config.NewSecret("ord:ers"), config.NewSecret("s e+c"), "a b", encode)(t.Context())
		if err != nil || !token.Equal(jwt(0, time.Hour)) {
			t.Fatalf("got %v, %v", token, err)
		}
		auth, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(s.asked[0].Header.Get("Authorization"), "Basic "))
		if string(auth) != want.auth || s.bodies[0] != want.body || s.asked[0].Method != "POST" {
			t.Errorf("encode %v: sent %s %q with %q, want %q with %q", encode, s.asked[0].Method, s.bodies[0], auth, want.body, want.auth)
		}
	}
}

func TestEndpointThatFailsIsAskedAgain(t *testing.T) {
	t.Parallel()
	s := newServer(t, fails(503, ""), fails(500, `{"error":"x"}`), gives(jwt(0, time.Hour)))
	if _, err := ClientSecret(s.endpoint(), config.NewSecret("a"), config.NewSecret("b"), "", false)(t.Context()); err != nil || s.count() != 3 {
		t.Errorf("after %d requests: error %v, want none after 3", s.count(), err)
	}
}

// TestFinalAnswersAreNamed shows what an error says, and that it repeats neither the secret nor the answer.
func TestFinalAnswersAreNamed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"refused": {fails(401, `{"error":"invalid_client","error_description":"wrong canary\nagain"}`), "no token from the endpoint after 1 attempts: it answered 401: invalid_client, wrong [hidden] again"},
		"encoded": {fails(401, `{"error":"no","error_description":"wrong YTpjYW5hcnk="}`), "it answered 401: no, wrong [hidden]"},
		"okta":    {fails(400, `{"errorCode":"E1","errorSummary":"no such app"}`), "it answered 400: E1, no such app"},
		"a page":  {fails(404, "<html>canary"), "it answered 404"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/canary", http.StatusTemporaryRedirect)
		}, "it answered 307"},
		"no JSON":  {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "root:x:canary") }, "its answer is not the JSON of RFC 6749"},
		"no token": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"canary":1}`) }, "neither access_token nor id_token"},
		"too much": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat("canary", 1<<20)) }, "more than 524288 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, tt.answer)
			_, err := ClientSecret(s.endpoint(), config.NewSecret("a"), config.NewSecret("canary"), "", false)(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "canary") || s.count() != 1 || !errors.Is(err, kerr.SaslAuthenticationFailed) {
				t.Errorf("after %d requests: %v, want %q after one", s.count(), err, tt.want)
			}
		})
	}
}

func TestSilentEndpointIsGivenUp(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	e := s.endpoint()
	e.ReadTimeout, e.BackoffMax = 50*time.Millisecond, 0
	_, err := ClientSecret(e, config.NewSecret("a"), config.NewSecret("canary"), "", false)(t.Context())
	if err == nil || !strings.Contains(err.Error(), "it did not answer in time") || errors.Is(err, kerr.SaslAuthenticationFailed) {
		t.Errorf("got %v", err)
	}
}

func TestTokenIsKeptAndReplaced(t *testing.T) {
	t.Parallel()
	var given []config.Secret
	retrieve := func(tokens ...config.Secret) *Login {
		given = nil
		return &Login{WindowFactor: 0.8, MinPeriod: time.Minute, Buffer: 5 * time.Minute, Retrieve: func(context.Context) (config.Secret, error) {
			if len(given) == len(tokens) {
				return config.Secret{}, errors.New("down")
			}
			given = append(given, tokens[len(given)])
			return given[len(given)-1], nil
		}}
	}
	get := func(l *Login) config.Secret {
		t.Helper()
		token, err := l.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	fresh, old := jwt(0, time.Hour), jwt(-55*time.Minute, 5*time.Minute)
	l := retrieve(fresh)
	if a, b := get(l), get(l); !a.Equal(b) || len(given) != 1 {
		t.Errorf("%d tokens fetched for two connections, want 1", len(given))
	}
	l = retrieve(old, fresh)
	if !get(l).Equal(old) || !get(l).Equal(fresh) {
		t.Error("a token near its end is not replaced")
	}
	l = retrieve(old)
	if a, b := get(l), get(l); !a.Equal(old) || !b.Equal(old) {
		t.Error("a token that cannot be replaced does not serve until its end")
	}
	l = retrieve(fresh)
	get(l)
	if _, _, err := (session{l}).Challenge([]byte(`{"status":"invalid_token"}`)); !errors.Is(err, kerr.SaslAuthenticationFailed) || !strings.Contains(err.Error(), "the broker refuses the token: invalid_token") {
		t.Errorf("refusal: %v", err)
	}
	if _, err := l.Token(t.Context()); err == nil || err.Error() != "down" {
		t.Errorf("a refused token is used again: %v", err)
	}
}

func TestTokensThatDoNotCountAreRefused(t *testing.T) {
	t.Parallel()
	encode := base64.RawURLEncoding.EncodeToString
	with := func(payload string) string {
		return encode([]byte(`{"alg":"x"}`)) + "." + encode([]byte(payload)) + ".x"
	}
	for text, want := range map[string]string{
		"canary": "not a JWT", "a.b": "not a JWT", "a.b.c.d": "not a JWT", "!.!.!": "not a JWT", with("[]"): "not a JWT", with("null"): "not a JWT",
		with(`{"exp":99999999999}`):                     `no claim "sub"`,
		with(`{"sub":" ","exp":99999999999}`):           `no claim "sub"`,
		with(`{"sub":"canary"}`):                        `no claim "exp"`,
		with(`{"sub":"canary","exp":"soon"}`):           `no claim "exp"`,
		with(`{"sub":"canary","exp":1e300}`):            `no claim "exp"`,
		with(`{"sub":"canary","exp":1000,"iat":500}`):   "it has ended at 1970-01-01T00:16:40Z",
		with(`{"sub":"canary","exp":-5,"iat":-1}`):      `no claim "exp"`,
		jwt(-2*time.Hour, -time.Second).Reveal() + "  ": "it has ended",
	} {
		l := &Login{Retrieve: func(context.Context) (config.Secret, error) { return config.NewSecret(text), nil }}
		_, err := l.Token(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func FuzzToken(f *testing.F) {
	f.Add(jwt(0, time.Hour).Reveal())
	f.Add("e30.e30.")
	f.Fuzz(func(t *testing.T, text string) {
		l := &Login{}
		if life, err := l.judge(config.NewSecret(text), time.Now()); err == nil && !life.until.After(life.from) {
			t.Errorf("%q lives from %s until %s", text, life.from, life.until)
		}
	})
}

func TestFileIsReadAnewEachTime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "canary")
	retrieve := File(path)
	if _, err := retrieve(t.Context()); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("no file: %v", err)
	}
	for _, want := range []string{"one", "two"} {
		if err := os.WriteFile(path, []byte(want+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := retrieve(t.Context()); err != nil || got.Reveal() != want {
			t.Errorf("got %q, %v, want %q", got.Reveal(), err, want)
		}
	}
}

func TestAssertionIsSigned(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key, template := filepath.Join(dir, "key"), filepath.Join(dir, "template")
	for path, text := range map[string]string{key: "PEM", template: `{"header":{"kid":"k1"},"payload":{"aud":"theirs","sub":"templated"}}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for algorithm, private := range map[string]crypto.Signer{"RS256": rsaKey, "ES256": ecKey} {
		s := Signed{
			Algorithm: algorithm, KeyFile: key, TemplateFile: template, ID: true, Expires: 5 * time.Minute, NotBefore: time.Minute,
			Claims: map[string]any{"iss": "orders", "sub": "mine"}, ParseKey: func(string) (crypto.PrivateKey, error) { return private, nil },
		}
		got, err := s.Assertion()
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(got.Reveal(), ".")
		digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
		signature, _ := base64.RawURLEncoding.DecodeString(parts[2])
		switch public := private.Public().(type) {
		case *rsa.PublicKey:
			if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature); err != nil {
				t.Error(err)
			}
		case *ecdsa.PublicKey:
			if !ecdsa.Verify(public, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
				t.Error("the signature is wrong")
			}
		}
		var header, claims map[string]any
		for i, into := range []*map[string]any{&header, &claims} {
			text, _ := base64.RawURLEncoding.DecodeString(parts[i])
			if err := json.Unmarshal(text, into); err != nil {
				t.Fatal(err)
			}
		}
		id, _ := claims["jti"].(string)
		if header["alg"] != algorithm || header["kid"] != "k1" || claims["iss"] != "orders" || claims["sub"] != "templated" || claims["aud"] != "theirs" ||
			claims["exp"].(float64)-claims["nbf"].(float64) != 360 || len(id) != 36 {
			t.Errorf("header %v, claims %v", header, claims)
		}
	}
	_, err = Signed{Algorithm: "ES256", KeyFile: key, ParseKey: func(string) (crypto.PrivateKey, error) { return rsaKey, nil }}.Assertion()
	if err == nil || !strings.Contains(err.Error(), "is for RSA, the algorithm is ES256") {
		t.Errorf("wrong kind of key: %v", err)
	}
}
