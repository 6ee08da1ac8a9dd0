package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"barnabas/config"
	"barnabas/configprovider"
)

// server answers as Vault's API is documented to. What it cannot stand for is shown against the real one, in e2e.
type server struct {
	*testing.T
	url string

	mu       sync.Mutex
	tokens   map[string]bool // that are good
	next     int
	logins   []map[string]string // what was sent
	paths    []string            // of requests
	down     int                 // a status that everything is answered with
	password string
	leases   int
	length   int // of leases and tokens, in seconds
	renewals map[string]int
	refuse   bool // to renew
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{T: t, tokens: map[string]bool{"given": true}, password: "canary-1", length: 3600, renewals: map[string]int{}}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	s.url = h.URL
	return s
}

func (s *server) with(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paths = append(s.paths, r.Header.Get("X-Vault-Namespace")+r.URL.Path)
	answer := func(status int, body string) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	token := r.Header.Get("X-Vault-Token")
	switch {
	case s.down > 0:
		answer(s.down, `{"errors":["Vault is sealed"]}`)
	case strings.HasSuffix(path, "/login"):
		var sent map[string]string
		_ = json.NewDecoder(r.Body).Decode(&sent)
		s.logins = append(s.logins, sent)
		if sent["secret_id"] == "wrong" {
			answer(400, `{"errors":["invalid role or secret ID: wrong"]}`)
			return
		}
		s.next++
		token := fmt.Sprintf("canary-token-%d", s.next)
		s.tokens[token] = true
		answer(200, fmt.Sprintf(`{"auth":{"client_token":%q,"lease_duration":%d,"renewable":true}}`, token, s.length))
	case !s.tokens[token]:
		answer(403, `{"errors":["permission denied"]}`)
	case path == "auth/token/lookup-self":
		answer(200, fmt.Sprintf(`{"data":{"id":%q,"ttl":%d,"renewable":true}}`, token, s.length))
	case path == "auth/token/renew-self", path == "sys/leases/renew":
		s.renewals[path]++
		if s.refuse {
			answer(400, `{"errors":["lease is not renewable"]}`)
			return
		}
		answer(200, fmt.Sprintf(`{"lease_id":"database/creds/rw/1","lease_duration":%d,"renewable":true,"auth":{"client_token":%q,"lease_duration":%d,"renewable":true}}`, s.length, token, s.length))
	case strings.HasPrefix(path, "sys/internal/ui/mounts/secret/"):
		answer(200, `{"data":{"path":"secret/","type":"kv","options":{"version":"2"}}}`)
	case strings.HasPrefix(path, "sys/internal/ui/mounts/old/"):
		answer(200, `{"data":{"path":"old/","type":"kv","options":{}}}`)
	case strings.HasPrefix(path, "sys/internal/ui/mounts/team/auth/"):
		answer(200, `{"data":{"path":"team/auth/token/","type":"token"}}`)
	case strings.HasPrefix(path, "sys/internal/ui/mounts/database/"):
		answer(200, `{"data":{"path":"database/","type":"database"}}`)
	case path == "secret/data/orders":
		answer(200, fmt.Sprintf(`{"data":{"data":{"password":%q,"port":5432,"on":true,"none":null},"metadata":{"version":7,"deletion_time":"","destroyed":false}}}`, s.password))
	case path == "secret/data/deleted":
		answer(404, `{"data":{"data":null,"metadata":{"version":3,"deletion_time":"2026-01-01T00:00:00Z"}}}`)
	case path == "secret/data/denied":
		answer(403, `{"errors":["1 error occurred:\n\t* permission denied\n\n"]}`)
	case path == "old/orders":
		answer(200, fmt.Sprintf(`{"lease_duration":5,"data":{"password":%q}}`, s.password))
	case path == "database/creds/rw":
		s.leases++
		answer(200, fmt.Sprintf(`{"lease_id":"database/creds/rw/%d","lease_duration":%d,"renewable":true,"data":{"username":"u-%d","password":"canary-%d"}}`, s.leases, s.length, s.leases, s.leases))
	default:
		answer(404, `{"errors":[]}`)
	}
}

// resolver makes a resolver with the provider alone.
func resolver(t *testing.T, params map[string]string) *configprovider.Resolver {
	t.Helper()
	r, err := tryResolver(t, params)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func tryResolver(t *testing.T, params map[string]string, environ ...string) (*configprovider.Resolver, error) {
	t.Helper()
	worker := map[string]string{"config.providers": "vault", "config.providers.vault.class": "io.confluent.csid.config.provider.vault.VaultConfigProvider"}
	for k, v := range params {
		worker["config.providers.vault.param."+k] = v
	}
	return configprovider.New(t.Context(), worker, []configprovider.Kind{Kind(environ)})
}

func read(t *testing.T, r *configprovider.Resolver, ref string) (string, configprovider.Use, error) {
	t.Helper()
	settings, uses, err := r.Resolve(t.Context(), map[string]string{"k": ref})
	if err != nil {
		return "", configprovider.Use{}, err
	}
	return settings["k"].Value.Reveal(), uses[0], nil
}

func TestSecretsOfBothVersionsOfKVAreRead(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := resolver(t, map[string]string{"vault.address": s.url, "vault.auth.token": "given", "vault.namespace": "team-a/"})
	for ref, want := range map[string]string{
		"${vault:secret/orders:password}": "canary-1 7", "${vault:/secret/data/orders:port}": "5432 7", "${vault:secret/orders?version=7:on}": "true 7", "${vault:old/orders:password}": "canary-1 ",
	} {
		got, use, err := read(t, r, ref)
		if err != nil || got+" "+use.Version != want {
			t.Errorf("%s: %q %q, %v", ref, got, use.Version, err)
		}
		if wantTTL := map[bool]time.Duration{true: 5 * time.Second, false: defaultTTL}[strings.Contains(ref, "old/")]; use.TTL != wantTTL {
			t.Errorf("%s is good for %s", ref, use.TTL)
		}
	}
	for ref, want := range map[string]string{
		"${vault:secret/orders:pasword}":         `that path has no key "pasword"; it has "password"`,
		"${vault:secret/orders:none}":            `that path has no key "none"`,
		"${vault:secret/deleted:x}":              "version 3 of that secret has been deleted",
		"${vault:secret/denied:x}":               "Vault answers 403: 1 error occurred: * permission denied",
		"${vault:old/none:x}":                    "nothing at that path",
		"${vault:nowhere/none:x}":                "where that path is mounted",
		"${vault:password}":                      "names no path",
		"${vault:auth/token/lookup-self:id}":     "for no connector",
		"${vault:SYS/health:version}":            "for no connector",
		"${vault:secret/../auth/token:x}":        "no empty part, . or ..",
		"${vault:secret/%2e%2e/auth/token:x}":    "has no control character",
		"${vault:secret/orders?list=true:x}":     "version=…",
		"${vault:team/auth/token/lookup-self:i}": "for no connector",
	} {
		if _, _, err := read(t, r, ref); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", ref, err, want)
		}
	}
	s.with(func() {
		for _, path := range s.paths {
			if !strings.HasPrefix(path, "team-a/v1/") {
				t.Errorf("%s was asked outside of the namespace", path)
			}
		}
	})
}

func TestOnlyAllowedPathsAreRead(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := resolver(t, map[string]string{"vault.address": s.url, "vault.auth.token": "given", "allowed.paths": "secret/orders, old"})
	for ref, want := range map[string]bool{"${vault:secret/orders:password}": true, "${vault:old/orders:password}": true, "${vault:secret/ordersx:password}": false, "${vault:database/creds/rw:password}": false} {
		if _, _, err := read(t, r, ref); want != (err == nil) || err != nil && !strings.Contains(err.Error(), "outside allowed.paths") {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

func TestEachMethodLogsIn(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "credential")
	if err := os.WriteFile(file, []byte("canary-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, one := range map[string]struct {
		params map[string]string
		path   string
		sent   map[string]string
	}{
		"AppRole":           {map[string]string{"vault.auth.method": "AppRole", "vault.auth.role": "r", "vault.auth.secret": "canary-s"}, "auth/approle", map[string]string{"role_id": "r", "secret_id": "canary-s"}},
		"AppRole of Lenses": {map[string]string{"auth.method": "approle", "app.role.id": "r", "vault.auth.secret.file": file, "app.role.path": "auth/mine"}, "auth/mine", map[string]string{"role_id": "r", "secret_id": "canary-file"}},
		"AppRole bare":      {map[string]string{"vault.auth.method": "approle", "vault.auth.role": "r"}, "auth/approle", map[string]string{"role_id": "r"}},
		"Kubernetes":        {map[string]string{"vault.auth.method": "kubernetes", "kubernetes.role": "r", "kubernetes.token.path": file}, "auth/kubernetes", map[string]string{"role": "r", "jwt": "canary-file"}},
		"JWT":               {map[string]string{"vault.auth.method": "jwt", "vault.auth.role": "r", "vault.auth.jwt": "canary-j", "vault.auth.mount": "oidc"}, "auth/oidc", map[string]string{"role": "r", "jwt": "canary-j"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			params := maps.Clone(one.params)
			params["vault.address"] = s.url
			r := resolver(t, params)
			if got, _, err := read(t, r, "${vault:secret/orders:password}"); err != nil || got != "canary-1" {
				t.Fatalf("%q, %v", got, err)
			}
			s.with(func() {
				if len(s.logins) != 1 || !maps.Equal(s.logins[0], one.sent) || s.paths[0] != "/v1/"+one.path+"/login" {
					t.Errorf("logged in with %v at %s", s.logins, s.paths[0])
				}
				clear(s.tokens) // revoked
			})
			if got, _, err := read(t, r, "${vault:old/orders:password}"); err != nil || got != "canary-1" {
				t.Errorf("after its token was revoked: %q, %v", got, err)
			}
			s.with(func() {
				if len(s.logins) != 2 {
					t.Errorf("%d logins after a revocation", len(s.logins))
				}
			})
		})
	}
}

func TestATokenThatIsRevokedIsNamedAndReadAnewFromItsFile(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("given\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := resolver(t, map[string]string{"vault.address": s.url, "vault.auth.token.file": file})
	if _, _, err := read(t, r, "${vault:secret/orders:password}"); err != nil {
		t.Fatal(err)
	}
	s.with(func() { s.tokens = map[string]bool{"second": true} })
	if _, _, err := read(t, r, "${vault:secret/orders:password}"); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("with a revoked token: %v", err)
	}
	if err := os.WriteFile(file, []byte("second\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := read(t, r, "${vault:secret/orders:password}"); err != nil {
		t.Errorf("with another token in its file: %v", err)
	}
}

// run has the provider work until the test ends; changes are the paths that it told.
func run(t *testing.T, r *configprovider.Resolver) (changes chan string) {
	t.Helper()
	changes = make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() {
		over <- r.Run(ctx, slog.New(slog.DiscardHandler), func(provider, path string) { changes <- provider + ":" + path })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
	return changes
}

func (s *server) until(what string, condition func() bool) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	for {
		met := false
		s.with(func() { met = condition() })
		if met {
			return
		}
		select {
		case <-ctx.Done():
			s.Fatalf("no %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestTokensAndLeasesAreRenewedUntilTheyCannotBe(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.length = 2
	r := resolver(t, map[string]string{"vault.address": s.url, "vault.auth.method": "approle", "vault.auth.role": "r"})
	changes := run(t, r)
	user, _, err := read(t, r, "${vault:database/creds/rw:username}")
	if err != nil {
		t.Fatal(err)
	}
	s.until("renewal of token and lease, twice", func() bool { return s.renewals["auth/token/renew-self"] >= 2 && s.renewals["sys/leases/renew"] >= 2 })
	password, use, err := read(t, r, "${vault:database/creds/rw:password}")
	if err != nil || user != "u-1" || password != "canary-1" || use.TTL != time.Second {
		t.Fatalf("%s %s %v %v: expected what belongs together, of one lease", user, password, use, err)
	}
	s.with(func() {
		if len(s.logins) != 1 {
			t.Errorf("%d logins", len(s.logins))
		}
		s.refuse = true
	})
	select {
	case path := <-changes:
		if path != "vault:database/creds/rw" {
			t.Errorf("%s has changed", path)
		}
	case <-time.After(time.Minute):
		t.Fatal("the end of a lease was not told")
	}
	if password, _, err := read(t, r, "${vault:database/creds/rw:password}"); err != nil || password == "canary-1" {
		t.Errorf("after the lease: %s %v", password, err)
	}
	s.until("login for another token", func() bool { return len(s.logins) > 1 })
}

func TestManyReadersOfALeaseHaveOne(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := resolver(t, map[string]string{"vault.address": s.url, "vault.auth.token": "given"})
	var g sync.WaitGroup
	for range 20 {
		g.Go(func() {
			if got, _, err := read(t, r, "${vault:database/creds/rw:password}"); err != nil || got != "canary-1" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	g.Wait()
}

func TestAVaultThatIsDownIsUnavailable(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	gone := httptest.NewServer(nil)
	gone.Close()
	for _, url := range []string{s.url, gone.URL} {
		r := resolver(t, map[string]string{"vault.address": url, "vault.auth.token": "canary-token", "timeout.ms": "2000"})
		s.with(func() { s.down = 503 })
		_, _, err := read(t, r, "${vault:secret/orders:password}")
		failed, ok := err.(*configprovider.Error) //nolint:errorlint // not wrapped by Resolve
		if !ok || !failed.Unavailable() || strings.Contains(err.Error(), "canary") {
			t.Errorf("%v", err)
		}
	}
	s.with(func() { s.down = 0 })
	r := resolver(t, map[string]string{"vault.address": s.url, "vault.auth.method": "approle", "vault.auth.role": "canary-role", "vault.auth.secret": "wrong"})
	_, _, err := read(t, r, "${vault:secret/orders:password}")
	failed, ok := err.(*configprovider.Error) //nolint:errorlint // not wrapped by Resolve
	if !ok || failed.Unavailable() || strings.Contains(err.Error(), "wrong") || !strings.Contains(err.Error(), "400: invalid role or secret ID: "+config.Hidden) {
		t.Errorf("a wrong secret: %v", err)
	}
}

func TestWhatIsSetWrongIsSaid(t *testing.T) {
	t.Parallel()
	ok := map[string]string{"vault.address": "https://vault:8200", "vault.auth.token": "canary"}
	for want, params := range map[string]map[string]string{
		"vault.address is missing":                               {"vault.address": ""},
		"vault.auth.token is missing":                            {"vault.auth.token": ""},
		"plain text; use https":                                  {"vault.address": "http://vault:8200"},
		"without user, query or fragment":                        {"vault.address": "https://u:canary@vault"},
		"expected one of token, approle, kubernetes, jwt":        {"vault.auth.method": "LDAP"},
		"vault.auth.role is missing":                             {"vault.auth.method": "kubernetes"},
		"the server is always verified":                          {"vault.ssl.verify.enabled": "false"},
		"expected one of , 1, 2":                                 {"vault.secrets.version": "3"},
		"expected 1000 to 86400000 milliseconds":                 {"secret.ttl.ms": "5"},
		"both set":                                               {"vault.auth.token.file": "/x"},
		`no such parameter; did you mean "vault.auth.method"?`:   {"vault.auth.methods": "token"},
		"vault.ssl.pem_trust_path=/none: no such file":           {"vault.ssl.pem_trust_path": "/none"},
		"vault.ssl.pem_key_path is missing: the private key":     {"vault.ssl.pem_cert_path": "/none"},
		"vault.prefix.depth=x: expected 1 to 9":                  {"vault.prefix.depth": "x"},
		"vault.auth.mount: a name of a secret has no empty part": {"vault.auth.mount": "a/../b"},
	} {
		all := maps.Clone(ok)
		maps.Copy(all, params)
		if _, err := tryResolver(t, all); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%v: %v, want %q", params, err, want)
		}
	}
	if _, err := tryResolver(t, nil, "VAULT_ADDR=https://vault:8200", "VAULT_TOKEN=canary"); err != nil {
		t.Errorf("what the environment says: %v", err)
	}
}
