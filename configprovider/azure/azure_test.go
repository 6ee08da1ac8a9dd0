package azure

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"barnabas/configprovider"
)

// cloud answers as Key Vault, Microsoft's identity platform and App Service's identity endpoint are documented to.
type cloud struct {
	*testing.T
	url string

	mu     sync.Mutex
	forms  []url.Values
	tokens int
	good   string
	status int
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{T: t}
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	c.url = s.URL
	return c
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if strings.HasSuffix(r.URL.Path, "/token") {
		_ = r.ParseForm()
		r.Form.Set("path", r.URL.Path)
		r.Form.Set("header", r.Header.Get("X-Identity-Header"))
		c.forms = append(c.forms, r.Form)
		if c.status > 0 || r.Form.Get("client_secret") == "wrong" {
			w.WriteHeader(max(c.status, 401))
			fmt.Fprintf(w, `{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided: %s.","error_codes":[7000215]}`, r.Form.Get("client_secret"))
			return
		}
		c.tokens++
		c.good = fmt.Sprintf("canary-token-%d", c.tokens)
		fmt.Fprintf(w, `{"token_type":"Bearer","expires_in":%s,"access_token":%q}`, map[bool]string{true: `"3599"`, false: "3599"}[r.Method == http.MethodGet], c.good)
		return
	}
	fail := func(status int, code, message string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error":{"code":%q,"message":%q}}`, code, message)
	}
	parts := strings.Split(r.URL.Path, "/")
	value, there := map[string]string{"orders": `{"password":"canary-1"}`, "whole": "canary-whole", "pre-x": "canary-x"}[parts[2]]
	switch {
	case r.Header.Get("Authorization") != "Bearer "+c.good:
		fail(401, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.")
	case r.URL.Query().Get("api-version") == "":
		fail(400, "BadParameter", "api-version must be specified")
	case parts[2] == "denied":
		fail(403, "Forbidden", "The user, group or application does not have secrets get permission")
	case !there || len(parts) > 3 && parts[3] != "v1":
		fail(404, "SecretNotFound", "A secret with (name/id) x was not found in this key vault.")
	default:
		fmt.Fprintf(w, `{"value":%q,"id":"https://x.vault.azure.net/secrets/%s/v7","attributes":{"enabled":true}}`, value, parts[2])
	}
}

func (c *cloud) resolver(extra map[string]string, environ ...string) (*configprovider.Resolver, error) {
	worker := map[string]string{"config.providers": "azure", "config.providers.azure.class": "io.lenses.connect.secrets.providers.AzureSecretProvider"}
	params := map[string]string{"vault.url": c.url, "authority.host": c.url, "azure.tenant.id": "tenant", "azure.client.id": "client", "azure.secret.id": "canary-secret"}
	maps.Copy(params, extra)
	for k, v := range params {
		worker["config.providers.azure.param."+k] = v
	}
	return configprovider.New(c.Context(), worker, []configprovider.Kind{Kind(environ)})
}

func (c *cloud) must(extra map[string]string, environ ...string) *configprovider.Resolver {
	c.Helper()
	r, err := c.resolver(extra, environ...)
	if err != nil {
		c.Fatal(err)
	}
	return r
}

func TestSecretsOfAKeyVaultAreRead(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	u, _ := url.Parse(c.url)
	r := c.must(map[string]string{"vault.url": c.url + ", other.vault.azure.net"})
	for ref, want := range map[string]string{
		"${azure:orders:password}":                "canary-1",
		"${azure:orders?version=v1:password}":     "canary-1",
		"${azure:whole}":                          "canary-whole",
		"${azure:" + u.Hostname() + ":whole}":     "!none of vault.url",
		"${azure:thief.vault.azure.net:whole}":    "!none of vault.url",
		"${azure:orders?version=v2:password}":     "!no such secret",
		"${azure:none:password}":                  "!no such secret",
		"${azure:denied:password}":                "!403: The user, group or application",
		"${azure:orders:pasword}":                 `!it has "password"`,
		"${azure:or_ders:x}":                      "!no name of a secret of Azure",
		"${azure:a/b:x}":                          "!no name of a secret of Azure",
		"${azure:orders?version=v1&x=y:password}": "!behind the ?",
	} {
		settings, uses, err := r.Resolve(t.Context(), map[string]string{"k": ref})
		reason, wrong := strings.CutPrefix(want, "!")
		switch {
		case wrong && (err == nil || !strings.Contains(err.Error(), reason) || strings.Contains(err.Error(), "canary")):
			t.Errorf("%s: %v, want %q", ref, err, reason)
		case !wrong && (err != nil || settings["k"].Value.Reveal() != want || uses[0].Version != "v7"):
			t.Errorf("%s: %+v %v", ref, uses, err)
		}
	}
	c.mu.Lock()
	if c.tokens != 1 {
		t.Errorf("%d logins", c.tokens)
	}
	if f := c.forms[0]; f.Get("path") != "/tenant/oauth2/v2.0/token" || f.Get("client_id") != "client" || f.Get("client_secret") != "canary-secret" || f.Get("scope") != "https://vault.azure.net/.default" {
		t.Errorf("logged in with %v", f)
	}
	c.good = "another" // revoked
	c.mu.Unlock()
	if _, _, err := r.Resolve(t.Context(), map[string]string{"k": "${azure:whole}"}); err != nil || c.tokens != 2 {
		t.Errorf("after its token was revoked: %v", err)
	}
	settings, _, err := c.must(map[string]string{"secret.prefix": "pre-", "use.json": "false"}).Resolve(t.Context(), map[string]string{"k": "${azure:x:x}"})
	if err != nil || settings["k"].Value.Reveal() != "canary-x" {
		t.Errorf("with a prefix: %v", err)
	}
}

func TestTheMachinesIdentitiesLogIn(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("canary-jwt\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bare := map[string]string{"azure.tenant.id": "", "azure.client.id": "", "azure.secret.id": ""}
	for name, one := range map[string]struct {
		environ []string
		want    map[string]string
	}{
		"secret":   {[]string{"AZURE_TENANT_ID=t", "AZURE_CLIENT_ID=c", "AZURE_CLIENT_SECRET=canary-s"}, map[string]string{"client_secret": "canary-s", "path": "/t/oauth2/v2.0/token"}},
		"workload": {[]string{"AZURE_TENANT_ID=t", "AZURE_CLIENT_ID=c", "AZURE_FEDERATED_TOKEN_FILE=" + file}, map[string]string{"client_assertion": "canary-jwt", "client_assertion_type": jwtBearer, "client_secret": ""}},
		"app host": {[]string{"IDENTITY_ENDPOINT=" + c.url + "/msi/token", "IDENTITY_HEADER=canary-h"}, map[string]string{"header": "canary-h", "resource": "https://vault.azure.net", "path": "/msi/token"}},
	} {
		r := c.must(bare, one.environ...)
		if settings, _, err := r.Resolve(t.Context(), map[string]string{"k": "${azure:whole}"}); err != nil || settings["k"].Value.Reveal() != "canary-whole" {
			t.Errorf("%s: %v", name, err)
		}
		form := c.forms[len(c.forms)-1]
		for key, want := range one.want {
			if form.Get(key) != want {
				t.Errorf("%s: %s is %q, want %q", name, key, form.Get(key), want)
			}
		}
	}
}

func TestALoginThatIsRefusedIsToldFromTrouble(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	fails := func(r *configprovider.Resolver, unavailable bool, want string) {
		t.Helper()
		_, _, err := r.Resolve(t.Context(), map[string]string{"k": "${azure:whole}"})
		failed, ok := err.(*configprovider.Error) //nolint:errorlint // not wrapped by Resolve
		if !ok || failed.Unavailable() != unavailable || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "wrong") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	fails(c.must(map[string]string{"azure.secret.id": "wrong"}), false, "refuses the login by client secret: 401: invalid_client: AADSTS7000215: Invalid client secret provided: [hidden].")
	c.status = 503
	fails(c.must(nil), true, "answers 503")
}

func TestWhatIsSetWrongIsSaid(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	for want, params := range map[string]map[string]string{
		"vault.url is missing":    {"vault.url": ""},
		"expected addresses such": {"vault.url": "https://a.vault.azure.net/x"},
		"tenant.id is missing":    {"azure.tenant.id": ""},
		"that is no id":           {"azure.tenant.id": "a/b"},
		"expected one of ":        {"credential.type": "UsernamePassword"},
	} {
		if _, err := c.resolver(params); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%v: %v, want %q", params, err, want)
		}
	}
}
