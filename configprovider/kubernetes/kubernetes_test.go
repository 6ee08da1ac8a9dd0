package kubernetes

import (
	"context"
	"encoding/base64"
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

	"barnabas/configprovider"
)

// api answers as the API of Kubernetes is documented to: objects, watches with bookmarks, 410 when a version is too old.
type api struct {
	*testing.T
	url, token string // a file

	mu       sync.Mutex
	changed  *sync.Cond
	good     string            // token
	objects  map[string]string // JSON of data, by resource/namespace/name
	version  int
	versions map[string]int
	watches  int // that were begun
	gets     int
	noWatch  bool
	refused  int // watches
	expired  bool
	cut      int // connections of watches are cut when it grows
	down     bool
}

func newAPI(t *testing.T) *api {
	t.Helper()
	a := &api{T: t, good: "canary-token", objects: map[string]string{}, versions: map[string]int{}, version: 100}
	a.changed = sync.NewCond(&a.mu)
	s := httptest.NewServer(a)
	t.Cleanup(func() {
		a.with(func() { a.cut++ })
		s.CloseClientConnections()
		s.Close()
	})
	a.url, a.token = s.URL, filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(a.token, []byte(a.good+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *api) with(do func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	do()
	a.changed.Broadcast()
}

func (a *api) put(object string, data map[string]string) {
	encoded := map[string]string{}
	for k, v := range data {
		if strings.HasPrefix(object, secrets) {
			v = base64.StdEncoding.EncodeToString([]byte(v))
		}
		encoded[k] = v
	}
	text, _ := json.Marshal(encoded)
	a.with(func() {
		a.version++
		a.objects[object], a.versions[object] = string(text), a.version
	})
}

func (a *api) object(of string) string {
	return fmt.Sprintf(`{"kind":"Secret","apiVersion":"v1","metadata":{"name":"x","resourceVersion":"%d"},"data":%s,"type":"Opaque"}`, a.versions[of], a.objects[of])
}

func status(w http.ResponseWriter, code int, reason, message string) {
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":%q,"reason":%q,"code":%d}`, message, reason, code)
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/api/v1/namespaces/"), "/")
	switch {
	case a.down:
		status(w, 503, "ServiceUnavailable", "apiserver not ready")
	case r.Header.Get("Authorization") != "Bearer "+a.good:
		status(w, 401, "Unauthorized", "Unauthorized")
	case parts[0] == "denied":
		status(w, 403, "Forbidden", `secrets "x" is forbidden: User "system:serviceaccount:connect:worker" cannot get resource "secrets"`)
	case r.URL.Query().Get("watch") == "true":
		a.watch(w, r, parts[1]+"/"+parts[0]+"/"+strings.TrimPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name="))
	case len(parts) == 3 && a.versions[parts[1]+"/"+parts[0]+"/"+parts[2]] > 0:
		a.gets++
		fmt.Fprint(w, a.object(parts[1]+"/"+parts[0]+"/"+parts[2]))
	default:
		status(w, 404, "NotFound", `secrets "x" not found`)
	}
}

// watch streams events. a.mu is held, but while it waits.
func (a *api) watch(w http.ResponseWriter, r *http.Request, object string) {
	if a.noWatch {
		a.refused++
		status(w, 403, "Forbidden", "cannot watch")
		return
	}
	since := 0
	_, _ = fmt.Sscan(r.URL.Query().Get("resourceVersion"), &since)
	a.watches++
	cut := a.cut
	stop := context.AfterFunc(r.Context(), func() { a.with(func() {}) })
	defer stop()
	w.WriteHeader(200)
	fmt.Fprintf(w, `{"type":"BOOKMARK","object":{"kind":"Secret","metadata":{"resourceVersion":"%d"}}}`+"\n", since)
	for r.Context().Err() == nil && a.cut == cut {
		if a.expired {
			a.expired = false
			fmt.Fprintln(w, `{"type":"ERROR","object":{"kind":"Status","status":"Failure","message":"too old resource version","reason":"Expired","code":410}}`)
			return
		}
		if a.versions[object] > since {
			since = a.versions[object]
			fmt.Fprintf(w, `{"type":"MODIFIED","object":%s}`+"\n", a.object(object))
		}
		w.(http.Flusher).Flush() //nolint:forcetypeassert // httptest's is one
		a.changed.Wait()
	}
}

func (a *api) resolver(extra map[string]string) *configprovider.Resolver {
	a.Helper()
	worker := map[string]string{
		"config.providers": "k,c", "config.providers.k.class": "io.strimzi.kafka.KubernetesSecretConfigProvider", "config.providers.c.class": "io.strimzi.kafka.KubernetesConfigMapConfigProvider",
	}
	params := map[string]string{"kubernetes.api.server": a.url, "kubernetes.token.file": a.token, "kubernetes.namespace": "connect"}
	maps.Copy(params, extra)
	for k, v := range params {
		worker["config.providers.k.param."+k], worker["config.providers.c.param."+k] = v, v
	}
	r, err := configprovider.New(a.Context(), worker, Kinds(nil))
	if err != nil {
		a.Fatal(err)
	}
	return r
}

func TestSecretsAndConfigMapsAreReadInAnyNamespace(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.put("secrets/connect/own", map[string]string{"password": "canary-own"})
	a.put("secrets/team/orders", map[string]string{"password": "canary-1", "b.crt": "B", "a.crt": "A", "bytes": "\xff\xfe"})
	a.put("configmaps/team/orders", map[string]string{"topics": "orders.*"})
	r := a.resolver(nil)
	for ref, want := range map[string]string{
		"${k:own:password}":                     "canary-own",
		"${k:team/orders:password}":             "canary-1",
		"${k:secrets/team/orders:password}":     "canary-1",
		"${k:configmaps/team/orders:topics}":    "orders.*",
		"${c:team/orders:topics}":               "orders.*",
		"${k:team/orders:*.crt}":                "A\nB",
		"${k:team/orders:bytes}":                "!has no key",
		"${k:team/orders:*.pem}":                "!has no key",
		"${k:team/orders:pasword}":              `!that Secret has no key "pasword"; it has "password"`,
		"${k:team/none:x}":                      "!there is no Secret team/none",
		"${c:team/none:x}":                      "!there is no ConfigMap team/none",
		"${k:denied/x:y}":                       `!Kubernetes answers 403: secrets "x" is forbidden`,
		"${k:team/../kube-system/x:y}":          "!neither name nor namespace/name",
		"${k:team/orders?watch=true:y}":         "!neither name nor namespace/name",
		"${k:pods/team/orders:y}":               "!neither name nor namespace/name",
		"${k:Team/orders:y}":                    "!neither name nor namespace/name",
		"${k:team/a..b:y}":                      "!neither name nor namespace/name",
		"${k:password}":                         "!neither name nor namespace/name",
		"${k:secrets/team/orders/finalizers:y}": "!neither name nor namespace/name",
	} {
		settings, uses, err := r.Resolve(t.Context(), map[string]string{"x": ref})
		reason, wrong := strings.CutPrefix(want, "!")
		switch {
		case wrong && (err == nil || !strings.Contains(err.Error(), reason) || strings.Contains(err.Error(), "canary")):
			t.Errorf("%s: %v, want %q", ref, err, reason)
		case !wrong && (err != nil || settings["x"].Value.Reveal() != want || uses[0].Version == "" || uses[0].TTL != defaultTTL):
			t.Errorf("%s: %v %v", ref, uses, err)
		}
	}
	if _, _, err := a.resolver(map[string]string{"allowed.paths": "connect"}).Resolve(t.Context(), map[string]string{"x": "${k:team/orders:password}"}); err == nil || !strings.Contains(err.Error(), "outside allowed.paths") {
		t.Errorf("beyond allowed.paths: %v", err)
	}
}

func (a *api) until(what string, condition func() bool) {
	a.Helper()
	ctx, cancel := context.WithTimeout(a.Context(), time.Minute)
	defer cancel()
	for {
		met := false
		a.with(func() { met = condition() })
		if met {
			return
		}
		select {
		case <-ctx.Done():
			a.Fatalf("no %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

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

func (a *api) told(changes chan string, want string) {
	a.Helper()
	select {
	case path := <-changes:
		if path != want {
			a.Errorf("told of %s, want %s", path, want)
		}
	case <-time.After(time.Minute):
		a.Fatal("a change is not told")
	}
}

func TestChangesAreToldByAWatchAndNotPolled(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.put("secrets/team/orders", map[string]string{"password": "canary-1"})
	r := a.resolver(nil)
	changes := run(t, r)
	read := func() (string, configprovider.Use) {
		t.Helper()
		settings, uses, err := r.Resolve(t.Context(), map[string]string{"x": "${k:team/orders:password}"})
		if err != nil {
			t.Fatal(err)
		}
		return settings["x"].Value.Reveal(), uses[0]
	}
	read()
	a.until("watch", func() bool { return a.watches == 1 })
	for n := 2; n < 5; n++ {
		password := fmt.Sprintf("canary-%d", n)
		a.put("secrets/team/orders", map[string]string{"password": password})
		a.told(changes, "k:team/orders")
		if got, use := read(); got != password || use.TTL != watchedTTL {
			t.Errorf("%s, good for %s", got, use.TTL)
		}
	}
	a.with(func() {
		if a.gets != 4 || a.watches != 1 {
			t.Errorf("%d reads and %d watches for 3 changes", a.gets, a.watches)
		}
	})

	// A watch that breaks off, or is too old, is begun again, and what it may have missed is read.
	a.with(func() { a.cut++ })
	a.until("second watch", func() bool { return a.watches >= 2 })
	a.put("secrets/team/orders", map[string]string{"password": "canary-9"})
	a.told(changes, "k:team/orders")
	a.with(func() { a.expired = true })
	a.told(changes, "k:team/orders")
	if got, _ := read(); got != "canary-9" {
		t.Errorf("after a watch that was too old: %s", got)
	}
	a.until("third watch", func() bool { return a.watches >= 3 })
}

func TestWhatMayNotBeWatchedIsPolled(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.noWatch = true
	a.put("secrets/team/orders", map[string]string{"password": "canary-1"})
	r := a.resolver(map[string]string{"secret.ttl.ms": "5000"})
	run(t, r)
	for range 2 {
		_, uses, err := r.Resolve(t.Context(), map[string]string{"x": "${k:team/orders:password}"})
		if err != nil || uses[0].TTL != 5*time.Second {
			t.Errorf("%v %v", uses, err)
		}
	}
	// A server that starts refuses everybody for a moment.
	a.until("refusal", func() bool { return a.refused > 0 })
	a.with(func() { a.noWatch = false })
	a.until("watch", func() bool { return a.watches == 1 })
}

func TestTheTokenIsReadAnewAndAnAPIThatIsDownIsUnavailable(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.put("secrets/team/orders", map[string]string{"password": "canary-1"})
	r := a.resolver(map[string]string{"timeout.ms": "2000"})
	fails := func(want string, unavailable bool) {
		t.Helper()
		_, _, err := r.Resolve(t.Context(), map[string]string{"x": "${k:team/orders:password}"})
		failed, ok := err.(*configprovider.Error) //nolint:errorlint // not wrapped by Resolve
		if !ok || failed.Unavailable() != unavailable || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	a.with(func() { a.good = "canary-second" })
	fails("401: Unauthorized", false)
	if err := os.WriteFile(a.token, []byte("canary-second\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Resolve(t.Context(), map[string]string{"x": "${k:team/orders:password}"}); err != nil {
		t.Error(err)
	}
	a.with(func() { a.down = true })
	fails("503", true)
}

func TestOutsideOfAPodTheServerHasToBeNamed(t *testing.T) {
	t.Parallel()
	worker := map[string]string{"config.providers": "k", "config.providers.k.class": "kubernetes"}
	if _, err := configprovider.New(t.Context(), worker, Kinds(nil)); err == nil || !strings.Contains(err.Error(), "in no pod") {
		t.Errorf("outside: %v", err)
	}
	if _, err := configprovider.New(t.Context(), worker, Kinds([]string{"KUBERNETES_SERVICE_HOST=10.0.0.1", "KUBERNETES_SERVICE_PORT=443"})); err != nil {
		t.Errorf("inside: %v", err)
	}
}
