package e2e

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"barnabas/rest"
)

// Passwords live in the secret registry only; they change there, and the topic that holds them is searched like all others.
func TestPasswordsOfTheRegistryReachTasksAndChange(t *testing.T) {
	t.Parallel()
	e := New(t, 3*time.Minute)
	var key [32]byte
	_, _ = rand.Read(key[:])
	master := base64.StdEncoding.EncodeToString(key[:])
	e.Leak.Watch("master key", master)
	store := e.Prefix + "-secrets"
	f := e.Fleet(FleetOptions{Size: 2, Properties: map[string]string{
		"config.providers":                                                  "file,secret",
		"config.providers.secret.class":                                     "io.confluent.connect.secretregistry.rbac.config.provider.InternalSecretConfigProvider",
		"config.providers.secret.param.master.encryption.key":               "${file:" + e.Secret("master.properties", "key="+master+"\n") + ":key}",
		"config.providers.secret.param.kafkastore.topic":                    store,
		"config.providers.secret.param.kafkastore.topic.replication.factor": "1",
	}})
	topic := e.Topic(e.Source, "orders", 2)
	e.Write([]string{topic}, 2, 100)
	source, target := e.User(e.Source, "ro", ReadTopics(topic)...), e.User(e.Target, "rw", WriteTopics("src."+topic)...)
	put := func(worker *Worker, path, value string) {
		t.Helper()
		body, _ := json.Marshal(map[string]string{"secret": value})
		if status, answer := worker.Ask(http.MethodPost, "/secret/paths/"+path+"/keys/password/versions", string(body)); status != http.StatusOK || strings.Contains(answer, value) {
			t.Fatalf("store a secret: %d %s", status, answer)
		}
	}
	put(f.Workers[0], "ro", source.Password)
	put(f.Workers[1], "rw", target.Password)
	const reference = "${secret:rw:password}"
	config := e.Mirror(source, target, topic, 2)
	for k, v := range config {
		config[k] = strings.NewReplacer(source.Reference(), "${secret:ro:password}", target.Reference(), reference).Replace(v)
	}
	f.Create(e.Prefix, config)
	f.Await(e.Prefix, "RUNNING", 2, 60*time.Second)
	if report := e.Copied(map[string]string{topic: "src." + topic}, 60*time.Second); !report.Equal() {
		t.Errorf("source and target differ: %s", report)
	}

	password := e.Leak.Plant("second")
	e.Must(e.Target.AddUser(t.Context(), target.Name, password))
	put(f.Workers[0], "rw", password)
	d := &drill{Env: e, f: f, name: e.Prefix, tasks: 2}
	d.rotated(reference, "2")
	e.Write([]string{topic}, 2, 100)
	if report := e.Copied(map[string]string{topic: "src." + topic}, 60*time.Second); !report.Equal() {
		t.Errorf("source and target differ: %s", report)
	}
	var proof rest.SecretRevocation
	e.Must(json.Unmarshal([]byte(f.Do(http.MethodPost, "/v1/secrets/prove-revoked", `{"reference":"`+reference+`","version":"1"}`, http.StatusOK)), &proof))
	if !proof.Revoked {
		t.Errorf("the first password: %+v", proof)
	}
	for path, want := range map[string]string{
		"/secret/paths": `["ro","rw"]`, "/secret/paths/rw/keys": `["password"]`, "/secret/paths/rw/keys/password/versions/latest": `"version":2`,
		"/secret/paths/rw/keys/password/versions/1": `"version":1`,
	} {
		if answer := f.Do(http.MethodGet, path, "", http.StatusOK); !strings.Contains(answer, want) {
			t.Errorf("%s: %s, want %s", path, answer, want)
		}
	}
	f.Do(http.MethodGet, "/secret/paths/rw/keys/password/versions/3", "", http.StatusNotFound)
	f.Do(http.MethodPost, "/secret/paths/rw/keys/password", `{"secrets":"x"}`, http.StatusBadRequest)

	// The registry's topic raw: no value, whatever the form.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	e.Must(e.searchTopic(ctx, e.Hub, store))
	f.Pages(e.Prefix)
}
