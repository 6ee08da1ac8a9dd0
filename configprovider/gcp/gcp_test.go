package gcp

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"barnabas/configprovider"
)

// emulator answers as Secret Manager's REST API and the token endpoint are documented to.
type emulator struct {
	*testing.T
	url, file string

	mu     sync.Mutex
	paths  []string
	tokens int
	status int // of tokens and secrets; 0: good
	damage bool
}

func newServer(t *testing.T) *emulator {
	t.Helper()
	s := &emulator{T: t}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	s.url = h.URL
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "mine", "client_email": "w@mine.iam.gserviceaccount.com", "token_uri": s.url + "/token",
		"private_key_id": "1", "private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.file = filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(s.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path == "/token" {
		s.tokens++
		if s.status > 0 {
			w.WriteHeader(s.status)
			fmt.Fprint(w, `{"error":"invalid_grant","error_description":"Invalid JWT Signature.","canary":"canary"}`)
			return
		}
		if r.FormValue("assertion") == "" {
			s.Error("no assertion")
		}
		fmt.Fprint(w, `{"access_token":"canary-token","expires_in":3599,"token_type":"Bearer"}`)
		return
	}
	s.paths = append(s.paths, r.URL.Path)
	fail := func(code int, status, message string) {
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"error":{"code":%d,"message":%q,"status":%q}}`, code, message, status)
	}
	text := map[string]string{"orders": `{"password":"canary-1","port":1}`, "whole": "canary-whole"}[strings.Split(strings.SplitAfterN(r.URL.Path, "/secrets/", 2)[1], "/")[0]]
	switch {
	case r.Header.Get("Authorization") != "Bearer canary-token":
		fail(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
	case strings.Contains(r.URL.Path, "/denied/"):
		fail(403, "PERMISSION_DENIED", "Permission 'secretmanager.versions.access' denied")
	case text == "" || strings.Contains(r.URL.Path, "/versions/9"):
		fail(404, "NOT_FOUND", "Secret not found")
	default:
		sum := crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli))
		if s.damage {
			sum++
		}
		fmt.Fprintf(w, `{"name":"projects/123/secrets/x/versions/7","payload":{"data":%q,"dataCrc32c":"%d"}}`, base64.StdEncoding.EncodeToString([]byte(text)), sum)
	}
}

func (s *emulator) resolver(extra map[string]string) (*configprovider.Resolver, error) {
	worker := map[string]string{"config.providers": "gcp", "config.providers.gcp.class": "io.confluent.csid.config.provider.gcloud.SecretManagerConfigProvider"}
	params := map[string]string{"endpoint": s.url, "credential.location": "File", "credential.file": s.file}
	maps.Copy(params, extra)
	for k, v := range params {
		worker["config.providers.gcp.param."+k] = v
	}
	return configprovider.New(s.Context(), worker, []configprovider.Kind{Kind()})
}

func TestSecretsOfGoogleAreRead(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r, err := s.resolver(nil)
	if err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]string{
		"${gcp:orders:password}":                          "canary-1 mine latest",
		"${gcp:orders?version=3:port}":                    "1 mine 3",
		"${gcp:orders?version=prod&projectid=other:port}": "1 other prod",
		"${gcp:orders?ttl=5000:port}":                     "1 mine latest",
		"${gcp:projects/theirs/secrets/orders:password}":  "canary-1 theirs latest",
		"${gcp:whole}":                                    "canary-whole mine latest",
		"${gcp:orders?version=9:password}":                "!no such secret",
		"${gcp:none:password}":                            "!no such secret",
		"${gcp:denied:password}":                          "!403: Permission 'secretmanager.versions.access' denied",
		"${gcp:orders:pasword}":                           `!it has "password"`,
		"${gcp:whole:key}":                                "!no JSON object",
		"${gcp:projects/a/locations/b:x}":                 "!neither NAME nor",
		"${gcp:orders/versions/1:x}":                      "!neither NAME nor",
		"${gcp:../orders:x}":                              "!no empty part",
		"${gcp:orders?version=1/../../x:password}":        "!behind the ?",
	} {
		s.mu.Lock()
		s.paths = nil
		s.mu.Unlock()
		settings, uses, err := r.Resolve(t.Context(), map[string]string{"k": ref})
		if err != nil {
			if reason, wrong := strings.CutPrefix(want, "!"); !wrong || !strings.Contains(err.Error(), reason) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%s: %v, want %q", ref, err, want)
			}
			continue
		}
		parts := strings.Split(s.paths[0], "/") // "", v1, projects, P, secrets, N, versions, V:access
		if got := settings["k"].Value.Reveal() + " " + parts[3] + " " + strings.TrimSuffix(parts[7], ":access"); got != want || uses[0].Version != "7" {
			t.Errorf("%s: %s %+v, want %s", ref, got, uses, want)
		}
	}
	if s.tokens != 1 {
		t.Errorf("%d tokens", s.tokens)
	}
	s.mu.Lock()
	s.damage = true
	s.mu.Unlock()
	if _, _, err := r.Resolve(t.Context(), map[string]string{"k": "${gcp:whole}"}); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged answer: %v", err)
	}
}

func TestCredentialsThatGoogleRefusesAreToldFromTrouble(t *testing.T) {
	t.Parallel()
	for status, unavailable := range map[int]bool{400: false, 503: true} {
		s := newServer(t)
		s.status = status
		r, err := s.resolver(nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = r.Resolve(t.Context(), map[string]string{"k": "${gcp:whole}"})
		failed, ok := err.(*configprovider.Error) //nolint:errorlint // not wrapped by Resolve
		if !ok || failed.Unavailable() != unavailable || !strings.Contains(err.Error(), "invalid_grant: Invalid JWT Signature.") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%d: %v", status, err)
		}
	}
}

func TestWhatIsSetWrongIsSaid(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for want, params := range map[string]map[string]string{
		"credential.file is missing":   {"credential.file": ""},
		"credential.inline is missing": {"credential.location": "Inline"},
		"both set":                     {"credential.location": "", "credential.inline": "canary"},
		"no location":                  {"location": "a.b"},
		"no id or number":              {"project.id": "a/b"},
	} {
		if _, err := s.resolver(params); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%v: %v, want %q", params, err, want)
		}
	}
	r, err := s.resolver(map[string]string{"credential.location": "Inline", "credential.inline": `{"type":"canary"}`})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Resolve(t.Context(), map[string]string{"k": "${gcp:whole}"}); err == nil || !strings.Contains(err.Error(), "no JSON of a service account") || strings.Contains(err.Error(), "canary") {
		t.Errorf("odd credentials: %v", err)
	}
}
