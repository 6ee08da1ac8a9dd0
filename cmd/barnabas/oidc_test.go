package main

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"barnabas/audit"
	"barnabas/config"
	"barnabas/e2e/kafka"
	"barnabas/rest"
)

// startProvider runs npm's oidc-provider, which is a certified OpenID Connect provider, at a port of 127.0.0.1 with a key of a
// name. `make clients` installs it; without, the test is skipped, but in CI it fails.
func startProvider(t *testing.T, port, key string) (issuer string, stop func()) {
	t.Helper()
	root, err := kafka.Root()
	if err != nil {
		t.Fatal(err)
	}
	modules := filepath.Join(root, ".cache", "clients", "node", "node_modules")
	if _, err := os.Stat(filepath.Join(modules, "oidc-provider")); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("no OpenID Connect provider: .ci/clients has not installed it")
		}
		t.Skip("no OpenID Connect provider: make clients installs it")
	}
	cmd := exec.CommandContext(t.Context(), "node", filepath.Join(root, "e2e", "clients", "provider.js"), port, key)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			in.Close()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(stop)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the provider does not say where it is: %v", err)
	}
	return strings.TrimSpace(line), stop
}

// tokenOf gets a client of the provider a token.
func tokenOf(t *testing.T, issuer, client string) config.Secret {
	t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "resource": {"urn:barnabas"}, "scope": {"api"}}
	req, err := http.NewRequestWithContext(t.Context(), "POST", issuer+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(client, "secret-of-"+client)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := (&http.Client{Timeout: time.Minute}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var body struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(res.Body).Decode(&body); err != nil || body.Token == "" {
		t.Fatalf("no token of %s: %s %v", client, res.Status, err)
	}
	return config.NewSecret(body.Token)
}

// TestTokensOfARealProvider has callers log in with tokens of an OpenID Connect provider that gets another key.
func TestTokensOfARealProvider(t *testing.T) {
	t.Parallel()
	issuer, stop := startProvider(t, "0", "first")
	roles := t.TempDir()
	if err := os.WriteFile(filepath.Join(roles, "payments.yaml"), []byte("name: payments\ngroups: [payments]\npolicy: [{effect: allow, action: ['connect:*', 'audit:Read'], resource: '*'}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := startTestNode(t, startKafka(t), map[string]string{
		"rest.authentication": "oidc", "rest.authentication.oidc.issuer": issuer, "rest.authentication.oidc.audience": "urn:barnabas", "access.roles.dir": roles,
	})
	with := func(token config.Secret) *rest.Client {
		client, err := rest.NewClient(rest.ClientOptions{URLs: []string{n.url}, Retry: -1, Token: token})
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
	first := tokenOf(t, issuer, "ann")
	who, err := with(first).Whoami(t.Context())
	if err != nil || who.User != "ann" || !slices.Equal(who.Groups, []string{"payments"}) || !slices.Equal(who.Roles, []string{"payments"}) {
		t.Errorf("got %+v %v", who, err)
	}
	if err := with(first).Pause(t.Context(), "none"); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("got %v", err)
	}
	if _, err := with(tokenOf(t, issuer, "eve")).Connectors(t.Context()); err == nil || !strings.Contains(err.Error(), "User eve may not do that") {
		t.Errorf("got %v", err)
	}
	for name, token := range map[string]config.Secret{"nothing": {}, "no token": config.NewSecret("x"), "a changed one": config.NewSecret(first.Reveal() + "x")} {
		if _, err := with(token).Whoami(t.Context()); err == nil || !strings.Contains(err.Error(), "User cannot access the resource") {
			t.Errorf("%s: %v", name, err)
		}
	}
	page, err := with(first).Audit(t.Context(), audit.Query{User: "ann"})
	if err != nil || len(page.Entries) != 2 || page.Entries[0].How != "oidc" {
		t.Errorf("audited %+v %v", page, err)
	}

	stop()
	if _, err := with(first).Whoami(t.Context()); err != nil {
		t.Errorf("the provider is down, and its key known: %v", err)
	}
	at, err := url.Parse(issuer)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := startProvider(t, at.Port(), "second"); again != issuer {
		t.Fatalf("the provider is at %s", again)
	}
	if who, err := with(tokenOf(t, issuer, "ann")).Whoami(t.Context()); err != nil || who.User != "ann" {
		t.Errorf("by its new key: %+v %v", who, err)
	}
	if _, err := with(first).Whoami(t.Context()); err == nil {
		t.Error("a token of the key that is gone is taken")
	}
}
