package kubernetes

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"barnabas/configprovider"
	"barnabas/e2e/process"
)

// server is an API server of Kubernetes of its own, the project's, that .ci/kube builds.
type server struct {
	*api // for its resolver
	dir  string
	port string
	proc *process.Process
	http *http.Client
}

// startServer starts one with three namespaces. The service account connect/worker may get and watch what is in connect and
// team, may only get what is in polled, and nothing in denied.
func startServer(t *testing.T) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := &server{api: &api{T: t, url: "https://127.0.0.1:" + port, token: filepath.Join(dir, "token")}, dir: dir, port: port}
	s.begin()
	t.Cleanup(func() { s.proc.Kill() })
	for _, namespace := range []string{"connect", "team", "polled", "denied"} {
		s.do(http.MethodPost, "/api/v1/namespaces", document("Namespace", namespace, nil))
		if namespace == "denied" {
			continue
		}
		verbs := []string{"get", "watch"}
		if namespace == "polled" {
			verbs = verbs[:1]
		}
		rbac := "/apis/rbac.authorization.k8s.io/v1/namespaces/" + namespace
		s.do(http.MethodPost, rbac+"/roles", document("Role", "reads", map[string]any{
			"rules": []any{map[string]any{"apiGroups": []string{""}, "resources": []string{"secrets", "configmaps"}, "verbs": verbs}},
		}))
		s.do(http.MethodPost, rbac+"/rolebindings", document("RoleBinding", "reads", map[string]any{
			"roleRef":  map[string]string{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reads"},
			"subjects": []any{map[string]string{"kind": "ServiceAccount", "name": "worker", "namespace": "connect"}},
		}))
	}
	s.account()
	return s
}

// begin starts the process and waits until it serves.
func (s *server) begin() {
	s.Helper()
	binary, err := filepath.Abs("../../.cache/kube/kube")
	if err != nil {
		s.Fatal(err)
	}
	if _, err := os.Stat(binary); err != nil {
		s.Skip("no API server in .cache/kube: .ci/kube builds it")
	}
	s.proc, err = process.Start(process.Spec{Name: "Kubernetes", Path: binary, Args: []string{s.dir, s.port}, Log: filepath.Join(s.dir, "kube.log")})
	if err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.Context(), 2*time.Minute)
	defer cancel()
	for {
		if pem, err := os.ReadFile(filepath.Join(s.dir, "apiserver.crt")); err == nil {
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM(pem)
			s.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}, Timeout: 10 * time.Second}
			if status, _ := s.request(http.MethodGet, "/readyz", nil); status == http.StatusOK {
				return
			}
		}
		select {
		case <-s.proc.Done():
			s.Fatalf("the API server has ended:\n%s", s.proc.Tail(20))
		case <-ctx.Done():
			s.Fatalf("the API server does not begin:\n%s", s.proc.Tail(20))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// document is an object for the API.
func document(kind, name string, more map[string]any) map[string]any {
	o := map[string]any{"kind": kind, "apiVersion": "v1", "metadata": map[string]string{"name": name}}
	if kind == "Role" || kind == "RoleBinding" {
		o["apiVersion"] = "rbac.authorization.k8s.io/v1"
	}
	for k, v := range more {
		o[k] = v
	}
	return o
}

// request is one of the administrator's.
func (s *server) request(method, path string, body any) (status int, answer []byte) {
	text, _ := json.Marshal(body)
	req, err := http.NewRequestWithContext(s.Context(), method, s.url+path, bytes.NewReader(text))
	if err != nil {
		return 0, nil
	}
	req.Header.Set("Authorization", "Bearer admin")
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.http.Do(req)
	if err != nil {
		return 0, []byte(err.Error())
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	answer, _ = io.ReadAll(resp.Body)
	return resp.StatusCode, answer
}

func (s *server) do(method, path string, body any) []byte {
	s.Helper()
	status, answer := s.request(method, path, body)
	if status >= 300 || status == 0 {
		s.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
	return answer
}

// write makes or replaces an object with text in it.
func (s *server) write(resource, namespace, name string, data map[string]string) {
	s.Helper()
	path, field, kind := "/api/v1/namespaces/"+namespace+"/"+resource, "stringData", "Secret"
	if resource == configMaps {
		field, kind = "data", "ConfigMap"
	}
	body := document(kind, name, map[string]any{field: data})
	if status, _ := s.request(http.MethodGet, path+"/"+name, nil); status == http.StatusOK {
		s.do(http.MethodPut, path+"/"+name, body)
		return
	}
	s.do(http.MethodPost, path, body)
}

// account makes the service account, and writes a token of it to the file that the worker reads.
func (s *server) account() {
	s.Helper()
	accounts := "/api/v1/namespaces/connect/serviceaccounts"
	s.do(http.MethodPost, accounts, document("ServiceAccount", "worker", nil))
	answer := s.do(http.MethodPost, accounts+"/worker/token", map[string]any{
		"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": map[string]any{"expirationSeconds": 600},
	})
	var token struct{ Status struct{ Token string } }
	if err := json.Unmarshal(answer, &token); err != nil || token.Status.Token == "" {
		s.Fatalf("no token: %v", err)
	}
	if err := os.WriteFile(s.token, []byte(token.Status.Token), 0o600); err != nil {
		s.Fatal(err)
	}
}

func (s *server) resolver() *configprovider.Resolver {
	s.Helper()
	return s.api.resolver(map[string]string{"kubernetes.ca.file": filepath.Join(s.dir, "apiserver.crt"), "timeout.ms": "5000"})
}

// eventually waits for a condition, which explains itself: an empty string means fulfilled.
func (s *server) eventually(what string, condition func() string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 2*time.Minute)
	defer cancel()
	for {
		why := condition()
		if why == "" {
			return
		}
		select {
		case <-ctx.Done():
			s.Fatalf("%s: %s", what, why)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func TestRealAPIServerGivesSecretsToAServiceAccount(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.write(secrets, "connect", "own", map[string]string{"password": "canary-own"})
	s.write(secrets, "team", "orders", map[string]string{"password": "canary-1", "b.crt": "B", "a.crt": "A"})
	s.write(configMaps, "team", "orders", map[string]string{"topics": "orders.*"})
	s.write(secrets, "denied", "orders", map[string]string{"password": "canary-denied"})
	r := s.resolver()
	for ref, want := range map[string]string{
		"${k:own:password}":                  "canary-own",
		"${k:team/orders:password}":          "canary-1",
		"${k:configmaps/team/orders:topics}": "orders.*",
		"${c:team/orders:topics}":            "orders.*",
		"${k:team/orders:*.crt}":             "A\nB",
		"${k:team/orders:pasword}":           `!that Secret has no key "pasword"; it has "password"`,
		"${k:team/none:x}":                   "!there is no Secret team/none",
		"${c:team/none:x}":                   "!there is no ConfigMap team/none",
		"${k:denied/orders:password}":        `!Kubernetes answers 403: secrets "orders" is forbidden: User "system:serviceaccount:connect:worker" cannot get resource "secrets" in API group "" in the namespace "denied"`,
		"${k:nowhere/orders:password}":       `!Kubernetes answers 403: secrets "orders" is forbidden`,
	} {
		settings, uses, err := r.Resolve(t.Context(), map[string]string{"x": ref})
		reason, wrong := strings.CutPrefix(want, "!")
		switch {
		case wrong && (err == nil || !strings.Contains(err.Error(), reason) || !strings.Contains(err.Error(), ref) || strings.Contains(err.Error(), "canary")):
			t.Errorf("%s: %v, want %q", ref, err, reason)
		case !wrong && (err != nil || settings["x"].Value.Reveal() != want || uses[0].Version == ""):
			t.Errorf("%s: %v %v", ref, uses, err)
		}
	}

	// Another token of another process of the account, as the kubelet brings it: the old one is void from then on.
	before, err := os.ReadFile(s.token)
	if err != nil {
		t.Fatal(err)
	}
	s.do(http.MethodDelete, "/api/v1/namespaces/connect/serviceaccounts/worker", nil)
	read := func() error {
		_, _, err := r.Resolve(t.Context(), map[string]string{"x": "${k:own:password}"})
		return err
	}
	s.eventually("the old token is refused", func() string { // the server remembers a good one for seconds
		if err := read(); err == nil || !strings.Contains(err.Error(), "401: Unauthorized") || strings.Contains(err.Error(), string(before)) {
			return fmt.Sprint(err)
		}
		return ""
	})
	s.account()
	if err := read(); err != nil {
		t.Errorf("with the new token: %v", err)
	}
}

func TestRealAPIServerTellsChangesByAWatch(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.write(secrets, "team", "orders", map[string]string{"password": "canary-1"})
	s.write(secrets, "team", "other", map[string]string{"password": "canary-1"})
	s.write(configMaps, "team", "orders", map[string]string{"topics": "orders.*"})
	s.write(secrets, "polled", "orders", map[string]string{"password": "canary-polled"})
	r := s.resolver()
	read := func(ref string) (string, configprovider.Use) {
		settings, uses, err := r.Resolve(t.Context(), map[string]string{"x": ref})
		if err != nil {
			return err.Error(), configprovider.Use{}
		}
		return settings["x"].Value.Reveal(), uses[0]
	}
	const secret, configMap, polled = "${k:team/orders:password}", "${c:team/orders:topics}", "${k:polled/orders:password}"
	log := &text{}
	changes := make(chan string, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() {
		over <- r.Run(ctx, slog.New(slog.NewTextHandler(log, nil)), func(provider, path string) { changes <- provider + ":" + path })
	}()
	defer func() {
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
	}()
	watched := func(ref string) {
		t.Helper()
		s.eventually("a watch of "+ref, func() string {
			if got, use := read(ref); use.TTL != watchedTTL {
				return fmt.Sprintf("%q is good for %s", got, use.TTL)
			}
			return ""
		})
	}
	told := func(want string) {
		t.Helper()
		for {
			select {
			case path := <-changes:
				if path == want {
					return
				}
			case <-time.After(time.Minute):
				t.Fatalf("a change of %s is not told:\n%s", want, log)
			}
		}
	}
	is := func(ref, want string) {
		t.Helper()
		if got, _ := read(ref); got != want {
			t.Errorf("%s is %q, want %q", ref, got, want)
		}
	}
	watched(secret)
	watched(configMap)
	s.write(secrets, "team", "other", map[string]string{"password": "canary-2"}) // nobody asked for it
	for n := 2; n < 5; n++ {
		s.write(secrets, "team", "orders", map[string]string{"password": fmt.Sprintf("canary-%d", n)})
		told("k:team/orders")
		is(secret, fmt.Sprintf("canary-%d", n))
	}
	s.write(configMaps, "team", "orders", map[string]string{"topics": "payments.*"})
	told("c:team/orders")
	is(configMap, "payments.*")

	// What may be read and not watched is told to be good for a short time, and why stands in the log.
	s.eventually("a refusal in the log", func() string {
		if got, use := read(polled); got != "canary-polled" || use.TTL != defaultTTL {
			return fmt.Sprintf("%q, good for %s", got, use.TTL)
		}
		if text := log.String(); !strings.Contains(text, "Secret polled/orders") || !strings.Contains(text, "needs the verb watch") {
			return text
		}
		return ""
	})

	// Deleted and made again.
	s.do(http.MethodDelete, "/api/v1/namespaces/team/secrets/orders", nil)
	told("k:team/orders")
	if got, _ := read(secret); !strings.Contains(got, "there is no Secret team/orders") {
		t.Errorf("a deleted Secret: %q", got)
	}
	s.write(secrets, "team", "orders", map[string]string{"password": "canary-6"})
	told("k:team/orders")
	is(secret, "canary-6")

	// The server dies, and is back: what has changed before the watch is there again is not missed.
	s.proc.Kill()
	if _, _, err := r.Resolve(t.Context(), map[string]string{"x": secret}); err == nil || !err.(*configprovider.Error).Unavailable() { //nolint:errorlint // not wrapped by Resolve
		t.Errorf("with the server down: %v", err)
	}
	s.begin()
	s.write(secrets, "team", "orders", map[string]string{"password": "canary-7"})
	told("k:team/orders")
	s.eventually("the new value", func() string {
		got, use := read(secret)
		if got != "canary-7" || use.TTL != watchedTTL {
			return fmt.Sprintf("%q, good for %s\n%s", got, use.TTL, log)
		}
		return ""
	})
	for len(changes) > 0 {
		<-changes
	}
	s.write(secrets, "team", "orders", map[string]string{"password": "canary-8"})
	told("k:team/orders")
	is(secret, "canary-8")
	if strings.Contains(log.String(), "canary") {
		t.Error("the log holds a secret")
	}
}

// text is what was logged.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *text) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(b)
}

func (t *text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}
