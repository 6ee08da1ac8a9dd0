package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"barnabas/e2e/kdc"
)

// canary is a mechanism with which a connector logs in, by a secret of some provider.
type canary struct {
	name     string
	settings map[string]string // of a client
	// good and wrong have the provider give the right secret, or another.
	good, wrong func()
	// refused is in the trace when the secret is the wrong one, or in the log of a connector that goes on trying.
	refused string
}

func (c *canaries) jaas(module, user, reference string) string {
	return fmt.Sprintf(`org.apache.kafka.common.security.%s required username="%s" password="%s";`, module, user, reference)
}

// managed is a mechanism whose secret a manager of secrets has.
func (c *canaries) managed(name, right, refused string, settings map[string]string) canary {
	set := func(password string) func() { return func() { c.m.set(name, password) } }
	return canary{name, settings, set(right), set(c.Leak.Plant("wrong " + name)), refused}
}

// mechanisms are all of them, each with another provider.
func (c *canaries) mechanisms() []canary {
	e := c.Env
	e.Leak.Watch("PLAIN", c.users["by-plain"])
	scram := map[string]string{"by-256": e.Leak.Plant("SCRAM-SHA-256"), "by-512": e.Leak.Plant("SCRAM-SHA-512")}
	for name, password := range scram {
		e.Must(e.Source.AddUser(e.Context(), name, password))
	}
	with := func(listener, protocol, mechanism, jaas string) map[string]string {
		return map[string]string{"bootstrap.servers": e.Source.Address(listener), "security.protocol": protocol, "sasl.mechanism": mechanism, "sasl.jaas.config": jaas}
	}
	const scramModule = "scram.ScramLoginModule"
	oidc := with("OIDC", "SASL_PLAINTEXT", "OAUTHBEARER", "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;")
	maps.Copy(oidc, map[string]string{
		"sasl.login.callback.handler.class":             "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler",
		"sasl.oauthbearer.token.endpoint.url":           c.idp.url + "/token",
		"sasl.oauthbearer.client.credentials.client.id": "by-client", "sasl.oauthbearer.client.credentials.client.secret": "${gcp:oidc:password}",
	})
	client := c.ca.issue("client")
	all := []canary{
		c.managed("plain", c.users["by-plain"], "SASL_AUTHENTICATION_FAILED", with(Client, "SASL_PLAINTEXT", "PLAIN", c.jaas("plain.PlainLoginModule", "by-plain", "${vault:secret/plain:password}"))),
		c.managed("scram256", scram["by-256"], "SASL_AUTHENTICATION_FAILED", with(Client, "SASL_PLAINTEXT", "SCRAM-SHA-256", c.jaas(scramModule, "by-256", "$<aws:scram256:password>"))),
		c.managed("scram512", scram["by-512"], "SASL_AUTHENTICATION_FAILED", with(Client, "SASL_PLAINTEXT", "SCRAM-SHA-512", c.jaas(scramModule, "by-512", "${ssm:/scram512:password}"))),
		c.managed("oidc", c.idp.secret, "invalid_client", oidc),
		c.managed("store", e.storePassword(), "password", map[string]string{
			"bootstrap.servers": e.Source.Address("MUTUAL"), "security.protocol": "SSL",
			"ssl.keystore.type": "PKCS12", "ssl.keystore.location": client.keystore, "ssl.keystore.password": "${azure:store:password}", "ssl.key.password": "${azure:store:password}",
			"ssl.truststore.type": "PKCS12", "ssl.truststore.location": c.ca.truststore(), "ssl.truststore.password": "${azure:store:password}",
		}),
	}
	iam := with(Client, "SASL_PLAINTEXT", "AWS_MSK_IAM", `software.amazon.msk.auth.iam.IAMLoginModule required awsRegion="eu-central-1" awsAccessKeyId="AKIACANARIES" awsSecretAccessKey="${k8s:team/msk:password}" awsSessionToken="${env:AWS_SESSION}";`)
	iam["bootstrap.servers"], iam["sasl.client.callback.handler.class"] = c.msk.address, "software.amazon.msk.auth.iam.IAMClientCallbackHandler"
	all = append(all, c.managed("msk", e.Leak.Plant("AWS secret key"), "SASL_AUTHENTICATION_FAILED", iam), c.inline(client))
	if c.realm != nil {
		all = append(all, c.kerberos())
	}
	return all
}

// inline has a private key in the settings, encrypted if it can be, both from a directory.
func (c *canaries) inline(client certified) canary {
	key, err := os.ReadFile(client.key)
	c.Must(err)
	c.Leak.Lines("private key", string(key))
	settings := map[string]string{
		"bootstrap.servers": c.Source.Address("MUTUAL"), "security.protocol": "SSL", "ssl.truststore.type": "PEM", "ssl.truststore.location": c.ca.pem(),
		"ssl.keystore.type": "PEM", "ssl.keystore.certificate.chain": "${dir:" + c.file("") + ":client.pem}", "ssl.keystore.key": "${dir:" + c.file("") + ":canary-key}",
	}
	password, wrong := c.Leak.Plant("key password"), c.Leak.Plant("wrong key password")
	shut := string(key)
	if text := c.encrypted(client.key, password); text != "" {
		shut = text
		c.Leak.Lines("encrypted private key", text)
		settings["ssl.key.password"] = "${dir:" + c.file("") + ":canary-key-password}"
	}
	c.Secret("canary-key", shut)
	write := func(key, password string) func() {
		return func() {
			c.Secret("canary-key", key)
			c.Secret("canary-key-password", password)
		}
	}
	return canary{"inline", settings, write(shut, password), write(strings.Replace(shut, "M", "N", 3), wrong), "key"}
}

// kerberos has a keytab.
func (c *canaries) kerberos() canary {
	keytab := func(file string) []byte {
		path, err := c.realm.Keytab(c.Context(), "by-keytab/worker.example", file)
		c.Must(err)
		text, err := os.ReadFile(path)
		c.Must(err)
		c.Leak.Watch("key of a keytab", string(text[len(text)-20:len(text)-4])) // the last key; behind it its version
		return text
	}
	old, fresh := keytab("old.keytab"), keytab("new.keytab") // a new key ends the old one
	path := c.file("client.keytab")
	return canary{
		"gssapi", map[string]string{
			"bootstrap.servers": c.Source.Address("KERBEROS"), "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "GSSAPI", "sasl.kerberos.service.name": "kafka",
			"sasl.jaas.config": fmt.Sprintf(`com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true keyTab="%s" principal="by-keytab/worker.example@%s";`, path, kdc.Realm),
		}, func() { c.replace(path, fresh) }, func() { c.replace(path, old) }, "keytab incorrect",
	}
}

// connector is the configuration of a mirror whose source client logs in by a mechanism, and whose clients of the target by references
// to the registry, the environment and a file.
func (c *canaries) connector(k canary, topic string) Config {
	config := c.Mirror(Identity{}, c.target, regexp.QuoteMeta(topic), 1)
	for key, value := range config {
		switch {
		case strings.HasPrefix(key, "source.cluster.s"):
			delete(config, key)
		case strings.HasPrefix(key, "producer.override."):
			config[key] = strings.ReplaceAll(value, c.target.Reference(), "${secret:rw:password}")
		case strings.HasPrefix(key, "admin.override."):
			config[key] = strings.ReplaceAll(value, c.target.Reference(), "${env:TARGET_PASSWORD}")
		}
	}
	for key, value := range k.settings {
		config["source.cluster."+key] = value
	}
	return config
}

// pages asks each worker for everything that it tells, by the description of its own API.
func (c *canaries) pages(names map[string]string) {
	c.t.Helper()
	var described struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	c.Must(json.Unmarshal([]byte(c.f.Do(http.MethodGet, "/openapi.json", "", http.StatusOK)), &described))
	parameter := regexp.MustCompile(`\{([a-z]+)\}`)
	told := 0
	for _, w := range c.f.Alive() {
		for path, methods := range described.Paths {
			if methods["get"] == nil || strings.HasSuffix(path, "/translate") { // which waits for a topic that is not there
				continue
			}
			path = parameter.ReplaceAllStringFunc(path, func(p string) string { return names[strings.Trim(p, "{}")] })
			if status, text := w.Ask(http.MethodGet, path, ""); status < 300 {
				told++
				if path == "/metrics" {
					c.Leak.Scan("metrics", w.Name, []byte(text))
				}
			}
		}
		for _, path := range []string{"/connectors?expand=info&expand=status", "/v1/audit?limit=1000", "/connector-plugins?connectorsOnly=false"} {
			w.Ask(http.MethodGet, path, "")
		}
	}
	if told < 40 {
		c.t.Errorf("only %d pages told something", told)
	}
}

// provoke makes errors in which a secret may stand: references where no secret belongs, or to nothing, literals, logins that fail.
func (c *canaries) provoke(config Config) {
	c.t.Helper()
	validate := func(more map[string]string) {
		c.f.any().Ask(http.MethodPut, "/connector-plugins/MirrorSourceConnector/config/validate", config.With(more).With(map[string]string{"name": "v"}).JSON())
	}
	odd := c.Leak.Plant("odd") + `";(\`
	c.Leak.Plant("unused")
	reference := "${file:" + c.Secret("odd.properties", "odd="+strings.ReplaceAll(odd, `\`, `\\`)+"\n") + ":odd}"
	keys := slices.Collect(maps.Keys(config))
	keys = append(keys, "key.converter", "header.converter", "transforms", "predicates", "errors.tolerance", "offset.lag.max", "sync.topic.configs.interval.seconds", "config.properties.exclude",
		"replication.policy.class", "topic.filter.class", "source.cluster.request.timeout.ms", "source.cluster.ssl.keystore.location", "source.cluster.ssl.cipher.suites",
		"source.cluster.sasl.oauthbearer.token.endpoint.url", "source.connection", "producer.override.acks", "admin.override.client.id")
	for _, key := range keys {
		validate(map[string]string{key: reference})
		validate(map[string]string{key: config[key] + reference})
	}
	c.refer(config, reference)
	c.write(config)
	c.enter()
}

// refer has connectors refer to what there is not, or cannot be had, and to more.
func (c *canaries) refer(config Config, more ...string) {
	c.t.Helper()
	for i, value := range append(more, "${vault:secret/nothing:password}", "${nobody:a:b}", "${vault:secret/plain:pasword}", "${ssm:/nothing:password}", "${secret:rw:nothing}") {
		name := fmt.Sprintf("%s-odd-%d", c.Prefix, i)
		bad := config.With(map[string]string{"source.cluster.sasl.jaas.config": `org.apache.kafka.common.security.plain.PlainLoginModule required username="a" password="` + value + `";`})
		c.f.any().Ask(http.MethodPost, "/connectors", `{"name":"`+name+`","config":`+bad.JSON()+`}`)
		c.f.any().Ask(http.MethodPut, "/connectors/"+name+"/config", config.With(map[string]string{"tasks.max": value, "topics": value}).JSON())
	}
}

// write sends secrets that are written out. They are refused, and nobody is shown them.
func (c *canaries) write(config Config) {
	c.t.Helper()
	literal := c.Leak.Plant("literal")
	jaas := c.jaas("plain.PlainLoginModule", "a", literal)
	for path, body := range map[string]string{
		"/connectors":                      `{"name":"` + c.Prefix + `-literal","config":` + config.With(map[string]string{"source.cluster.sasl.jaas.config": jaas}).JSON() + `}`,
		"/v1/secrets/rotate":               `{"reference":"` + literal + `"}`,
		"/v1/secrets/prove-revoked":        `{"reference":"${vault:secret/plain:password}","version":"` + literal + `"}`,
		"/secret/paths/rw/keys/x/versions": `{"secret":"` + literal + `",}`,
	} {
		if status, text := c.f.any().Ask(http.MethodPost, path, body); status < 400 {
			c.t.Errorf("%s: %d %s", path, status, text)
		}
	}
	connection, err := json.Marshal(map[string]any{"config": map[string]string{"bootstrap.servers": c.Source.Address(Client), "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.jaas.config": jaas}})
	c.Must(err)
	if status, text := c.f.any().Ask(http.MethodPut, "/v1/connections/"+c.Prefix+"/literal", string(connection)); status != http.StatusBadRequest {
		c.t.Errorf("a connection with a literal: %d %s", status, text)
	}
}

// enter asks with credentials of nobody.
func (c *canaries) enter() {
	c.t.Helper()
	for _, header := range []string{login("ann", c.Leak.Plant("wrong password of ann")), login(c.Leak.Plant("user"), "x"), "Bearer " + c.Leak.Plant("token of nobody"), "Basic " + c.Leak.Plant("no base64"), c.Leak.Plant("no scheme")} {
		for _, path := range []string{"/connectors", "/v1/apps"} {
			req, err := http.NewRequestWithContext(c.Context(), http.MethodGet, c.f.any().URL()+path, http.NoBody)
			c.Must(err)
			req.Header.Set("Authorization", header)
			res, err := c.Client.Do(req)
			c.Must(err)
			var text bytes.Buffer
			_, err = text.ReadFrom(res.Body)
			_ = res.Body.Close()
			c.Must(err)
			_ = res.Header.Write(&text)
			c.Leak.Scan("answer", path, text.Bytes())
			if res.StatusCode != http.StatusUnauthorized {
				c.t.Errorf("%s with credentials of nobody: %d", path, res.StatusCode)
			}
		}
	}
}

// Every provider and every mechanism has secrets that are like no others. Logins fail with the wrong ones and work with the right ones,
// managers go down, values stand where they do not belong; then all that has been written and sent is searched for them, as
// they are and in disguise. The group's name, which may be shown, tells that the search can see into each place.
func TestNoSecretIsEverShown(t *testing.T) {
	t.Parallel()
	e := New(t, 6*time.Minute)
	c := e.canaries()
	all := c.mechanisms()
	body, err := json.Marshal(map[string]string{"secret": c.target.Password})
	e.Must(err)
	c.f.Do(http.MethodPost, "/secret/paths/rw/keys/password/versions", string(body), http.StatusOK)

	topics := map[string]string{}
	name := func(k canary) string { return c.Prefix + "-" + k.name + "-" + c.group }
	for _, k := range all {
		topic := e.Topic(e.Source, k.name, 1)
		e.Write([]string{topic}, 1, 20)
		k.wrong()
		c.f.Create(name(k), c.connector(k, topic))
		if k.name != "msk" {
			topics[topic] = "src." + topic
		}
	}
	for _, k := range all {
		e.Until(time.Minute, k.name+" with a wrong secret", func() string {
			s, _ := c.f.Status(name(k))
			if said := fmt.Sprintf("%+v", s); !strings.Contains(said, k.refused) && c.f.lines("level=WARN", "connector="+name(k)+" ", k.refused) == 0 {
				return said
			}
			return ""
		})
	}
	for _, k := range all {
		k.good()
	}
	if !strings.Contains(c.msk.last(), "AKIACANARIES") {
		t.Errorf("the broker of MSK was not shown a signature: %q", c.msk.last())
	}
	app := c.app(topics)
	for _, k := range all {
		if k.name != "msk" { // nobody lets it in
			c.running(name(k))
		}
	}
	if report := e.Copied(topics, time.Minute); !report.Equal() {
		t.Errorf("source and target differ: %s", report)
	}
	c.m.with(func() {
		for _, manager := range []string{"vault", "kubernetes", "aws", "ssm", "gcp", "azure"} {
			if c.m.asked[manager] == 0 {
				t.Errorf("%s was not asked", manager)
			}
		}
	})

	// A wrong secret in what runs, errors of every kind, and managers that are down and say what they were sent.
	all[2].wrong()
	e.Until(time.Minute, "a rotation that fails", func() string {
		if c.f.lines("level=WARN", name(all[2]), "${ssm:/scram512:password}") == 0 {
			return "no line says so"
		}
		return ""
	})
	config := c.connector(all[0], "nothing")
	c.provoke(config)
	c.m.with(func() { c.m.down = true })
	c.refer(config)
	c.f.Do(http.MethodPost, "/connectors/"+name(all[1])+"/restart?includeTasks=true", "", http.StatusAccepted)
	for _, k := range all[:5] {
		reference := regexp.MustCompile(`[$][{<](vault|aws|ssm|gcp|azure):[^}>]*[}>]`).FindString(fmt.Sprint(k.settings))
		c.f.any().Ask(http.MethodPost, "/v1/secrets/rotate", `{"reference":"`+reference+`"}`)
		c.f.any().Ask(http.MethodPost, "/v1/secrets/prove-revoked", `{"reference":"`+reference+`","version":"1"}`)
	}
	e.Until(time.Minute, "a start that waits", func() string {
		if s, _ := c.f.Status(name(all[1])); !strings.Contains(fmt.Sprintf("%+v", s), "503") {
			return fmt.Sprintf("%+v", s)
		}
		return ""
	})
	c.pages(map[string]string{
		"connector": name(all[0]), "plugin": "MirrorSourceConnector", "task": "0", "logger": "worker", "worker": c.f.Workers[0].ID, "role": "all", "version": "1",
		"app": app, "env": c.Prefix, "name": "from", "path": "rw", "key": "password",
	})
	c.m.with(func() { c.m.down = false })
	c.search(name(all[0]))
}

// running starts a connector again until its task runs: a provider may give what it had for a while.
func (c *canaries) running(name string) {
	c.t.Helper()
	last := time.Time{}
	c.Until(time.Minute, name+" to run", func() string {
		s, _ := c.f.Status(name)
		if s.Connector.State == "RUNNING" && len(s.Tasks) == 1 && s.Tasks[0].State == "RUNNING" {
			return ""
		}
		if time.Since(last) > 3*time.Second {
			last = time.Now()
			c.f.any().Ask(http.MethodPost, "/connectors/"+name+"/restart?includeTasks=true&onlyFailed=true", "")
		}
		return fmt.Sprintf("%+v", s)
	})
}

// app makes an app of two connections, whose copies are added to topics.
func (c *canaries) app(topics map[string]string) string {
	c.t.Helper()
	topic := c.Topic(c.Source, "app", 1)
	c.Write([]string{topic}, 1, 20)
	source := Identity{Name: "rw", File: c.target.File}
	c.f.Connection(c.Prefix+"/from", c.Source.Address(Client), source, map[string]any{"scope": map[string]any{"read": []string{topic}}})
	c.f.Connection(c.Prefix+"/to", c.Target.Address(Client), c.target, map[string]any{"scope": map[string]any{"write": []string{"copy." + topic}}})
	c.f.any().Ask(http.MethodPost, "/v1/connections/"+c.Prefix+"/from/check", "")
	name := c.Prefix + "-app"
	c.f.Do(http.MethodPut, "/v1/apps/"+name, fmt.Sprintf(`{"source": %q, "target": %q, "topics": [%q], "naming": {"policy": "prefix", "prefix": "copy."}}`, c.Prefix+"/from", c.Prefix+"/to", topic), http.StatusCreated)
	topics[topic] = "copy." + topic
	return name
}

// search looks into every place there is; the rest is what every test ends with.
func (c *canaries) search(connector string) {
	c.t.Helper()
	env := []string{"BARNABAS_URL=" + c.f.Workers[0].URL(), "BARNABAS_USER=ann", "BARNABAS_PASSWORD=" + c.ann}
	for _, args := range []string{
		"connectors list", "connectors status " + connector, "connectors config " + connector, "secrets references", "workers list", "apps list", "connections list", "audit list",
		"replication " + connector, "whoami", "connectors validate -f nothing", "bundle --file " + filepath.Join(c.Dir, "bundle.tar.gz"),
	} {
		c.run(env, strings.Fields(args)...)
	}
	c.run(append(env[:2:2], "BARNABAS_PASSWORD="+c.Leak.Plant("wrong password of the command")), "connectors", "list")
	archive, err := os.ReadFile(filepath.Join(c.Dir, "bundle.tar.gz"))
	c.Must(err)
	c.Must(c.Leak.Archive("bundle", "bundle.tar.gz", archive))
	for _, w := range c.f.Workers {
		if err := c.Leak.Process(c.Context(), w.Name, w.proc.PID()); err != nil {
			c.t.Logf("left out: %v", err)
		}
		c.Must(syscall.Kill(w.proc.PID(), syscall.SIGQUIT))
		<-w.proc.Done()
		if !strings.Contains(w.proc.Tail(100_000), "goroutine ") {
			c.t.Errorf("%s: no dump of goroutines in its log", w.Name)
		}
		text, err := os.ReadFile(w.Log())
		c.Must(err)
		c.Leak.Scan("log", w.Name, text)
	}
	c.searchTopics(c.Hub)
	c.fleets = nil // the search at the end of every test would find no broker
	want := []string{"answer", "bundle", "command", "gossip", "log", "metrics", "topic"}
	if os.Geteuid() == 0 {
		want = append(want, "process")
	}
	for _, kind := range want {
		if seen := c.Leak.Seen("group"); !slices.Contains(seen, kind) {
			c.t.Errorf("the name of the group, which may be shown, was not found in places of the kind %q, only in %v: the search is blind there", kind, seen)
		}
	}
}
