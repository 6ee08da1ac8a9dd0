package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"barnabas/config"
	"barnabas/rest"
)

func TestOnlyWhatIsKnownToBeHarmlessIsShown(t *testing.T) {
	t.Parallel()
	types := map[string]config.Type{"file": config.String, "topics": config.List, "emit": config.Boolean, "token": config.Password}
	written := map[string]string{
		"name": "n", "file": "/var/x", "emit": "no such", "token": "ab", "empty": "",
		"source.cluster.bootstrap.servers": "a:1,b:2", "source.cluster.sasl.mechanism": "PLAIN", "source.cluster.fetch.max.bytes": "1048576",
		"source.cluster.ssl.keystore.password": "${file:/x:y}", "source.cluster.sasl.jaas.config": `o.a.PlainLoginModule required username="u" password="${file:/x:y}";`,
		"target.cluster.sasl.jaas.config": `o.a.PlainLoginModule required username="u" password="s3cr3t";`,
		"something.of.ours":               "a word", "account": "1234567890123456", "ssl.truststore.certificates": "-----BEGIN CERTIFICATE-----",
	}
	want := map[string]string{
		"name": "n", "file": "/var/x", "emit": "no such", "token": "[hidden]", "empty": "",
		"source.cluster.bootstrap.servers": "a:1,b:2", "source.cluster.sasl.mechanism": "PLAIN", "source.cluster.fetch.max.bytes": "1048576",
		"source.cluster.ssl.keystore.password": "${file:/x:y}", "source.cluster.sasl.jaas.config": "o.a.PlainLoginModule [hidden]",
		"target.cluster.sasl.jaas.config": "[hidden]",
		"something.of.ours":               "[hidden]", "account": "[hidden]", "ssl.truststore.certificates": "[hidden]",
	}
	got, hidden := shown(written, types)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var missing []string
	for key, value := range got {
		if strings.Contains(value, config.Hidden) {
			missing = append(missing, key)
		}
	}
	slices.Sort(missing)
	if diff := cmp.Diff(missing, hidden); diff != "" {
		t.Error(diff)
	}
}

// TestABundleIsWrittenWhateverIsMissing has a worker that answers little, and repeats secrets in what it answers.
func TestABundleIsWrittenWhateverIsMissing(t *testing.T) {
	t.Parallel()
	const secret = `Gehe"im<1>`
	answers := map[string]any{
		"/": map[string]string{"version": "1"}, "/connectors": []string{"a/b"},
		"/connectors/a%2Fb/config":             map[string]string{"connector.class": "C", "x.sasl.jaas.config": `o.Module required username="name" password="` + strings.ReplaceAll(secret, `"`, `\"`) + `";`, "token": secret},
		"/connector-plugins/C/config":          []any{},
		"/v1/connectors/a%2Fb/status":          map[string]any{"name": "a/b", "reason": "refused: " + secret},
		"/v1/replication/a%2Fb":                nil,
		"/connectors/a%2Fb/topics":             map[string]any{"a/b": map[string]any{"topics": []string{"t"}}},
		"/v1/connectors/a%2Fb/history":         nil,
		"/metrics":                             nil,
		"/connector-plugins":                   []any{},
		"/admin/loggers":                       map[string]any{},
		"/v1/workers":                          []any{},
		"/v1/connectors":                       []any{map[string]string{"name": "a/b", "reason": "refused: " + secret}},
		"/health":                              map[string]string{"status": "unhealthy", "message": secret},
		"/v1/secrets/references":               nil,
		"/connectors/a%2Fb/config/none at all": nil,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := answers[r.URL.EscapedPath()]
		w.Header().Set("Content-Type", "application/json")
		if answer == nil {
			w.WriteHeader(http.StatusInternalServerError)
			answer = map[string]any{"error_code": 500, "message": "out of order: " + secret}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	defer server.Close()
	client, err := rest.NewClient(rest.ClientOptions{URLs: []string{server.URL}, Retry: -1})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	m, err := Write(t.Context(), &out, client, time.Unix(1, 0))
	if err != nil || len(m.Failed) == 0 {
		t.Fatalf("%v, %+v", err, m)
	}
	files := unpack(t, &out)
	for name, text := range files {
		if strings.HasSuffix(name, ".json") && !json.Valid([]byte(text)) {
			t.Errorf("%s is no JSON:\n%s", name, text)
		}
		if strings.Contains(text, "im<1>") || strings.Contains(text, `im\u003c`) {
			t.Errorf("%s holds the secret:\n%s", name, text)
		}
	}
	for _, want := range []string{"manifest.json", "server.json", "connectors/a%2Fb/config.json", "connectors/a%2Fb/status.json", "connectors/a%2Fb/topics.json"} {
		if files["barnabas-bundle/"+want] == "" {
			t.Errorf("%s is missing", want)
		}
	}
	if manifest := files["barnabas-bundle/manifest.json"]; !strings.Contains(manifest, "out of order: [hidden]") || !strings.Contains(manifest, "connector a/b: the value of token") {
		t.Errorf("manifest:\n%s", manifest)
	}
}

func TestNobodyThereIsAnError(t *testing.T) {
	t.Parallel()
	client, err := rest.NewClient(rest.ClientOptions{URLs: []string{"http://127.0.0.1:1"}, Retry: -1})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := Write(t.Context(), &out, client, time.Now()); err == nil || out.Len() > 0 {
		t.Errorf("%v, %d bytes", err, out.Len())
	}
}

func unpack(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	packed, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	archive := tar.NewReader(packed)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		all[h.Name] = string(text)
	}
}
