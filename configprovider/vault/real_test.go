package vault

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"barnabas/e2e/process"
)

// real is a Vault server of its own, HashiCorp's, that .ci/vault builds.
type real struct {
	*testing.T
	address, token string
}

func startVault(t *testing.T) *real {
	t.Helper()
	binary, err := filepath.Abs("../../.cache/vault/vault")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(binary); err != nil {
		t.Skip("no Vault in .cache/vault: .ci/vault builds it")
	}
	dir := t.TempDir()
	p, err := process.Start(process.Spec{Name: "Vault", Path: binary, Args: []string{"127.0.0.1:0", filepath.Join(dir, "vault.json")}, Log: filepath.Join(dir, "vault.log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		if text, err := os.ReadFile(filepath.Join(dir, "vault.json")); err == nil {
			var told struct{ Address, Token string }
			if err := json.Unmarshal(text, &told); err != nil {
				t.Fatal(err)
			}
			return &real{t, told.Address, told.Token}
		}
		select {
		case <-p.Done():
			t.Fatalf("Vault has ended:\n%s", p.Tail(20))
		case <-ctx.Done():
			t.Fatalf("Vault does not start:\n%s", p.Tail(20))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// do is a request of the administrator's.
func (v *real) do(method, path string, body any) map[string]any {
	v.Helper()
	text, _ := json.Marshal(body)
	req, err := http.NewRequestWithContext(v.Context(), method, v.address+"/v1/"+path, bytes.NewReader(text))
	if err != nil {
		v.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", v.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		v.Fatal(err)
	}
	defer resp.Body.Close()
	var answer map[string]any
	_ = json.NewDecoder(resp.Body).Decode(&answer)
	if resp.StatusCode >= 300 {
		v.Fatalf("%s %s: %d %v", method, path, resp.StatusCode, answer)
	}
	data, _ := answer["data"].(map[string]any)
	return data
}

const policy = `path "secret/data/*" { capabilities = ["read"] }
path "old/*" { capabilities = ["read"] }
path "leased/*" { capabilities = ["read"] }`

// prepare makes engines, secrets and a policy.
func (v *real) prepare() {
	v.Helper()
	v.do(http.MethodPost, "sys/mounts/secret", map[string]any{"type": "kv", "options": map[string]string{"version": "2"}})
	v.do(http.MethodPost, "sys/mounts/old", map[string]any{"type": "kv"})
	v.do(http.MethodPost, "sys/mounts/leased", map[string]any{"type": "leased-kv"})
	v.do(http.MethodPost, "old/orders", map[string]string{"password": "canary-old"})
	v.do(http.MethodPost, "sys/policies/acl/worker", map[string]string{"policy": policy})
	v.secret("canary-1")
}

func (v *real) secret(password string) {
	v.Helper()
	v.do(http.MethodPost, "secret/data/orders", map[string]any{"data": map[string]any{"password": password, "port": 5432}})
}

func TestRealVaultGivesSecretsToEachLogin(t *testing.T) {
	t.Parallel()
	v := startVault(t)
	v.prepare()
	v.secret("canary-2")

	v.do(http.MethodPost, "sys/auth/approle", map[string]string{"type": "approle"})
	v.do(http.MethodPost, "auth/approle/role/worker", map[string]any{"token_policies": "worker", "token_ttl": "1h"})
	role := v.do(http.MethodGet, "auth/approle/role/worker/role-id", nil)["role_id"].(string)          //nolint:forcetypeassert // Vault's API
	secretID := v.do(http.MethodPost, "auth/approle/role/worker/secret-id", nil)["secret_id"].(string) //nolint:forcetypeassert // likewise
	key, signed := workload(t)
	v.do(http.MethodPost, "sys/auth/jwt", map[string]string{"type": "jwt"})
	v.do(http.MethodPost, "auth/jwt/config", map[string]any{"jwt_validation_pubkeys": []string{key}})
	v.do(http.MethodPost, "auth/jwt/role/worker", map[string]any{"role_type": "jwt", "user_claim": "sub", "bound_subject": "worker", "token_policies": "worker"})
	reviews := tokenReviews(t, "canary-service-account")
	v.do(http.MethodPost, "sys/auth/kubernetes", map[string]string{"type": "kubernetes"})
	v.do(http.MethodPost, "auth/kubernetes/config", map[string]any{"kubernetes_host": reviews, "token_reviewer_jwt": signed, "disable_local_ca_jwt": true})
	v.do(http.MethodPost, "auth/kubernetes/role/worker", map[string]any{"bound_service_account_names": "worker", "bound_service_account_namespaces": "connect", "token_policies": "worker"})

	for name, params := range map[string]map[string]string{
		"token":      {"vault.auth.token": v.token},
		"AppRole":    {"vault.auth.method": "AppRole", "vault.auth.role": role, "vault.auth.secret": secretID},
		"JWT":        {"vault.auth.method": "jwt", "vault.auth.role": "worker", "vault.auth.jwt": signed},
		"Kubernetes": {"vault.auth.method": "kubernetes", "vault.auth.role": "worker", "vault.auth.jwt": "eyJhbGciOiJSUzI1NiJ9." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"canary-service-account","kubernetes.io":{"namespace":"connect","serviceaccount":{"name":"worker","uid":"1"}}}`)) + ".c2ln"},
	} {
		all := maps.Clone(params)
		all["vault.address"] = v.address
		r := resolver(t, all)
		for ref, want := range map[string]string{
			"${vault:secret/orders:password}": "canary-2 2", "${vault:secret/data/orders:port}": "5432 2", "${vault:secret/orders?version=1:password}": "canary-1 1", "${vault:old/orders:password}": "canary-old ",
		} {
			got, use, err := read(t, r, ref)
			if err != nil || got+" "+use.Version != want {
				t.Errorf("%s: %s: %q %q, %v", name, ref, got, use.Version, err)
			}
		}
		for ref, want := range map[string]string{"${vault:secret/none:x}": "nothing at that path", "${vault:secret/orders:pasword}": `it has "password"`} {
			if _, _, err := read(t, r, ref); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %s: %v", name, ref, err)
			}
		}
		if _, _, err := read(t, r, "${vault:nowhere/x:y}"); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: a mount that is not there: %v", name, err)
		}
	}
	r := resolver(t, map[string]string{"vault.address": v.address, "vault.auth.method": "approle", "vault.auth.role": role, "vault.auth.secret": "canary-wrong"})
	if _, _, err := read(t, r, "${vault:secret/orders:password}"); err == nil || !strings.Contains(err.Error(), "refuses the login by approle") || strings.Contains(err.Error(), "canary") {
		t.Errorf("a wrong secret id: %v", err)
	}
	v.do(http.MethodDelete, "secret/data/orders", nil)
	r = resolver(t, map[string]string{"vault.address": v.address, "vault.auth.token": v.token})
	if _, _, err := read(t, r, "${vault:secret/orders:password}"); err == nil || !strings.Contains(err.Error(), "version 2 of that secret has been deleted") {
		t.Errorf("a deleted secret: %v", err)
	}
}

func TestRealVaultRenewsAndRevokes(t *testing.T) {
	t.Parallel()
	v := startVault(t)
	v.prepare()
	v.do(http.MethodPost, "leased/rw", map[string]string{"password": "canary-lease", "ttl": "3s"})
	v.do(http.MethodPost, "sys/auth/approle", map[string]string{"type": "approle"})
	v.do(http.MethodPost, "auth/approle/role/worker", map[string]any{"token_policies": "worker", "token_ttl": "3s", "token_max_ttl": "8s"})
	role := v.do(http.MethodGet, "auth/approle/role/worker/role-id", nil)["role_id"].(string)          //nolint:forcetypeassert // Vault's API
	secretID := v.do(http.MethodPost, "auth/approle/role/worker/secret-id", nil)["secret_id"].(string) //nolint:forcetypeassert // likewise
	r := resolver(t, map[string]string{"vault.address": v.address, "vault.auth.method": "approle", "vault.auth.role": role, "vault.auth.secret": secretID})
	changes := run(t, r)
	_, first, err := read(t, r, "${vault:leased/rw:password}")
	if err != nil {
		t.Fatal(err)
	}
	// The lease outlives its first length, since it is renewed; then the token's longest life ends both.
	select {
	case path := <-changes:
		if path != "vault:leased/rw" {
			t.Errorf("%s has changed", path)
		}
	case <-time.After(time.Minute):
		t.Fatal("the end of a token is not told")
	}
	if lived := time.Since(mustTime(t, first.Version)); lived < 3*time.Second {
		t.Errorf("given up after %s, before its lease was over: it was not renewed", lived)
	}
	if _, second, err := read(t, r, "${vault:leased/rw:password}"); err != nil || second.Version == first.Version {
		t.Errorf("another lease: %v %v", second, err)
	}

	// A revoked token is replaced by a login at the next request.
	accessors := v.do("LIST", "auth/token/accessors", nil)["keys"].([]any) //nolint:forcetypeassert // Vault's API
	revoked := 0
	for _, a := range accessors {
		data := v.do(http.MethodPost, "auth/token/lookup-accessor", map[string]any{"accessor": a})
		if data["path"] == "auth/approle/login" {
			v.do(http.MethodPost, "auth/token/revoke-accessor", map[string]any{"accessor": a})
			revoked++
		}
	}
	if revoked == 0 {
		t.Error("there was no token to revoke")
	}
	if got, _, err := read(t, r, "${vault:secret/orders:password}"); err != nil || got != "canary-1" {
		t.Errorf("after a revocation: %q, %v", got, err)
	}
}

func mustTime(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02T15:04:05.000Z", text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// workload returns a public key and a JWT of the subject worker that it verifies.
func workload(t *testing.T) (public, signed string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"ES256","typ":"JWT"}`)) + "." + encode(fmt.Appendf(nil, `{"sub":"worker","iat":%d,"exp":%d}`, time.Now().Unix(), time.Now().Add(time.Hour).Unix()))
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	var raw [64]byte
	r.FillBytes(raw[:32])
	s.FillBytes(raw[32:])
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), text + "." + encode(raw[:])
}

// tokenReviews stands for the API of Kubernetes, which Vault asks whose token it is: of the worker, if its subject is the one given.
func tokenReviews(t *testing.T, subject string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			Spec struct {
				Token string `json:"token"`
			} `json:"spec"`
		}
		_ = json.NewDecoder(r.Body).Decode(&review)
		parts := strings.Split(review.Spec.Token, ".")
		claims := ""
		if len(parts) == 3 {
			text, _ := base64.RawURLEncoding.DecodeString(parts[1])
			claims = string(text)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","status":{"authenticated":%t,"user":{"username":"system:serviceaccount:connect:worker","uid":"1","groups":["system:serviceaccounts"]}}}`,
			strings.Contains(claims, subject))
	}))
	t.Cleanup(s.Close)
	return s.URL
}
