package e2e

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// managers answer as Vault, Kubernetes, AWS Secrets Manager and Systems Manager, Google's Secret Manager and Azure Key Vault do, all at one address. Each has the
// same secrets, which hold a password.
type managers struct {
	*Env
	url, token string

	mu        sync.Mutex
	changed   *sync.Cond
	passwords map[string]string
	version   int
	down      bool
	over      bool
	asked     map[string]int // by manager
}

func (e *Env) managers() *managers {
	m := &managers{Env: e, passwords: map[string]string{}, version: 1, asked: map[string]int{}, token: e.Leak.Plant("token")}
	m.changed = sync.NewCond(&m.mu)
	s := httptest.NewServer(m)
	e.t.Cleanup(func() {
		m.with(func() { m.over = true })
		s.Close()
	})
	m.url = s.URL
	return m
}

func (m *managers) with(do func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	do()
	m.changed.Broadcast()
}

// set gives a secret a new password everywhere.
func (m *managers) set(name, password string) {
	m.with(func() {
		m.version++
		m.passwords[name] = password
	})
}

// fields are a secret as JSON; empty: there is none.
func (m *managers) fields(name string) string {
	password, ok := m.passwords[name]
	if !ok {
		return ""
	}
	text, err := json.Marshal(map[string]string{"password": password})
	m.Must(err)
	return string(text)
}

func (m *managers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	path := r.URL.Path
	last := path[strings.LastIndex(path, "/")+1:]
	_ = r.ParseForm()
	quoted, err := json.Marshal(m.token)
	m.Must(err)
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	switch {
	case m.down:
		// What was sent in confidence comes back, as from a server that explains itself at length.
		text, err := json.Marshal(map[string]any{"message": "down: " + r.Header.Get("Authorization") + r.Header.Get("X-Vault-Token") + r.Form.Get("client_secret"), "errors": r.Form["client_secret"]})
		m.Must(err)
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write(text)
	case strings.HasSuffix(path, "/token") || strings.HasSuffix(path, "/login") && strings.HasPrefix(path, "/v1/auth/"):
		fmt.Fprintf(w, `{"access_token":%s,"expires_in":3600,"token_type":"Bearer","auth":{"client_token":%s,"lease_duration":3600,"renewable":true}}`, quoted, quoted)
	case strings.HasPrefix(path, "/v1/sys/internal/ui/mounts/"):
		fmt.Fprint(w, `{"data":{"path":"secret/","type":"kv","options":{"version":"2"}}}`)
	case strings.HasPrefix(path, "/v1/secret/data/"):
		m.asked["vault"]++
		fmt.Fprintf(w, `{"data":{"data":%s,"metadata":{"version":%d}}}`, m.fields(last), m.version)
	case strings.HasPrefix(path, "/v1/projects/"):
		m.asked["gcp"]++
		fmt.Fprintf(w, `{"name":"projects/p/secrets/x/versions/%d","payload":{"data":%q}}`, m.version, encode(m.fields(strings.Split(path, "/")[5])))
	case strings.HasPrefix(path, "/secrets/"):
		m.asked["azure"]++
		value, err := json.Marshal(m.fields(last))
		m.Must(err)
		fmt.Fprintf(w, `{"value":%s,"id":"https://x/secrets/x/%d"}`, value, m.version)
	case r.Header.Get("X-Amz-Target") == "secretsmanager.GetSecretValue":
		m.asked["aws"]++
		var asked struct{ SecretID string }
		_ = json.NewDecoder(r.Body).Decode(&asked)
		value, err := json.Marshal(m.fields(asked.SecretID))
		m.Must(err)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		fmt.Fprintf(w, `{"Name":%q,"VersionId":"%d","SecretString":%s}`, asked.SecretID, m.version, value)
	case r.Header.Get("X-Amz-Target") == "AmazonSSM.GetParameters":
		m.asked["ssm"]++
		m.parameters(w, r)
	case r.URL.Query().Get("watch") == "true":
		m.watch(w, r)
	case strings.HasPrefix(path, "/api/v1/namespaces/team/secrets/"):
		m.asked["kubernetes"]++
		fmt.Fprintf(w, `{"metadata":{"resourceVersion":"%d"},"data":{"password":%q}}`, m.version, encode(m.passwords[last]))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// parameters answers as AWS Systems Manager: a parameter /NAME/password for each password.
func (m *managers) parameters(w http.ResponseWriter, r *http.Request) {
	var asked struct{ Names []string }
	_ = json.NewDecoder(r.Body).Decode(&asked)
	found := []map[string]any{}
	for _, name := range asked.Names {
		if password, ok := m.passwords[strings.TrimSuffix(strings.TrimPrefix(name, "/"), "/password")]; ok {
			found = append(found, map[string]any{"Name": name, "Type": "SecureString", "Value": password, "Version": m.version})
		}
	}
	text, err := json.Marshal(map[string]any{"Parameters": found})
	m.Must(err)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_, _ = w.Write(text)
}

// watch tells that something has changed whenever it has. m.mu is held, but while it waits.
func (m *managers) watch(w http.ResponseWriter, r *http.Request) {
	since := m.version
	stop := context.AfterFunc(r.Context(), func() { m.with(func() {}) })
	defer stop()
	for r.Context().Err() == nil && !m.over && !m.down {
		if m.version > since {
			since = m.version
			fmt.Fprintf(w, `{"type":"MODIFIED","object":{"metadata":{"resourceVersion":"%d"}}}`+"\n", since)
		}
		w.(http.Flusher).Flush() //nolint:forcetypeassert // httptest's is one
		m.changed.Wait()
	}
}

// properties are those of a worker that has all of them.
func (m *managers) properties() map[string]string {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	m.Must(err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	m.Must(err)
	private := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	m.Leak.Lines("key of a service account", private)
	account, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "p", "client_email": "w@p.iam.gserviceaccount.com", "token_uri": m.url + "/token",
		"private_key": private,
	})
	m.Must(err)
	p := map[string]string{"config.providers": "file,vault,k8s,aws,ssm,gcp,azure"}
	for name, params := range map[string]map[string]string{
		"vault": {"class": "io.confluent.csid.config.provider.vault.VaultConfigProvider", "vault.address": m.url, "vault.auth.method": "AppRole", "vault.auth.role": "worker", "vault.auth.secret": m.Leak.Plant("AppRole")},
		"k8s":   {"class": "io.strimzi.kafka.KubernetesSecretConfigProvider", "kubernetes.api.server": m.url, "kubernetes.token.file": m.Secret("kubernetes-token", m.token)},
		"aws":   {"class": "com.amazonaws.kafka.config.providers.SecretsManagerConfigProvider", "endpoint": m.url, "region": "eu-central-1", "aws.access.key": "AKIATEST", "aws.secret.key": m.Leak.Plant("AWS")},
		"ssm":   {"class": "com.amazonaws.kafka.config.providers.SsmParamStoreConfigProvider", "endpoint": m.url, "region": "eu-central-1", "aws.access.key": "AKIATEST", "aws.secret.key": m.Leak.Plant("SSM")},
		"gcp":   {"class": "io.confluent.csid.config.provider.gcloud.SecretManagerConfigProvider", "endpoint": m.url, "credential.file": m.Secret("account.json", string(account))},
		"azure": {"class": "io.confluent.csid.config.provider.azure.KeyVaultConfigProvider", "vault.url": m.url, "authority.host": m.url, "tenant.id": "t", "client.id": "c", "client.secret": m.Leak.Plant("Azure")},
	} {
		for key, value := range params {
			if key == "class" {
				p["config.providers."+name+".class"] = value
				continue
			}
			if strings.Contains(key, "secret") && key != "secret.ttl.ms" { // a file holds it, as it should
				value = "${file:" + m.Secret(name+".properties", "value="+value+"\n") + ":value}"
			}
			p["config.providers."+name+".param."+key] = value
		}
		p["config.providers."+name+".param.secret.ttl.ms"] = "2000"
	}
	return p
}

// TestManagersOfSecretsComeGoAndChange has every client of a connector take its password from another manager; all of
// them are down for a while, and a password changes. What is written and sent is searched for every credential.
func TestManagersOfSecretsComeGoAndChange(t *testing.T) {
	t.Parallel()
	e := New(t, 3*time.Minute)
	m := e.managers()
	f := e.Fleet(FleetOptions{Size: 2, Properties: m.properties()})
	topics := []string{e.Topic(e.Source, "orders", 2), e.Topic(e.Source, "returns", 1)}
	e.Write(topics, 1, 100)
	source := e.User(e.Source, "ro", append(ReadTopics(topics[0]), ReadTopics(topics[1])...)...)
	target := e.User(e.Target, "rw", append(WriteTopics("src."+topics[0]), WriteTopics("src."+topics[1])...)...)
	m.set("source", source.Password)
	m.set("target", target.Password)
	config := func(topic string) Config {
		c := e.Mirror(source, target, topic, 1)
		for key, value := range source.Settings("consumer.override.") {
			c[key] = value
		}
		for key, value := range c {
			of := "${aws:target:password}"
			switch {
			case strings.HasPrefix(key, "producer.override."):
				of = "${k8s:team/target:password}"
			case strings.HasPrefix(key, "admin.override."):
				of = "${azure:target:password}"
			}
			from := "${vault:secret/source:password}"
			if strings.HasPrefix(key, "consumer.override.") {
				from = "$<gcp:source:password>"
			}
			c[key] = strings.NewReplacer(source.Reference(), from, target.Reference(), of).Replace(value)
		}
		return c
	}
	first, second := e.Prefix, e.Prefix+"-2"
	f.Create(first, config(topics[0]))
	f.Await(first, "RUNNING", 1, time.Minute)
	m.with(func() {
		for _, name := range []string{"vault", "kubernetes", "aws", "gcp", "azure"} {
			if m.asked[name] == 0 {
				t.Errorf("%s was not asked", name)
			}
		}
		m.down = true
	})

	// A start waits and says for what; what runs goes on.
	f.Create(second, config(topics[1]))
	e.Until(time.Minute, "a connector that waits", func() string {
		s, _ := f.Status(second)
		if s.Connector.State != "UNASSIGNED" || !strings.Contains(s.Connector.Trace, "It starts when its secrets can be had: ") || !strings.Contains(s.Connector.Trace, "503") {
			return fmt.Sprintf("%+v", s)
		}
		return ""
	})
	e.Until(time.Minute, "references that cannot be read", func() string {
		if answer := f.Do(http.MethodGet, "/v1/secrets/references", "", http.StatusOK); !strings.Contains(answer, `"unreadable"`) {
			return answer
		}
		return ""
	})
	e.Write(topics[:1], 2, 100)
	if report := e.Copied(map[string]string{topics[0]: "src." + topics[0]}, time.Minute); !report.Equal() {
		t.Errorf("while all managers are down: %s", report)
	}
	f.Await(first, "RUNNING", 1, time.Minute)
	f.Pages(first, second)
	m.with(func() { m.down = false })
	f.Await(second, "RUNNING", 1, time.Minute)

	// A new password: the task writes with that of Kubernetes, which tells of it, the connector makes topics with that of Azure.
	password := e.Leak.Plant("second")
	e.Must(e.Target.AddUser(t.Context(), target.Name, password))
	m.set("target", password)
	for _, reference := range []string{"${k8s:team/target:password}", "${azure:target:password}"} {
		e.Until(time.Minute, "change of "+reference, func() string {
			for _, connector := range []string{first, second} {
				if f.lines(`msg="secret rotated"`, "connector="+connector+" ", reference, fmt.Sprintf("version=%d ", m.version)) == 0 {
					return connector + " does not use it"
				}
			}
			return ""
		})
	}
	e.Write(topics, 1, 100)
	if report := e.Copied(map[string]string{topics[0]: "src." + topics[0], topics[1]: "src." + topics[1]}, time.Minute); !report.Equal() {
		t.Errorf("source and target differ: %s", report)
	}
	f.Pages(first, second)
}
