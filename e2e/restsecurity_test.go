package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"barnabas/e2e/answers"
	"barnabas/e2e/kafka"
)

// login is the header of basic authentication.
func login(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// as gives every request a user.
type as struct {
	header string
	next   http.RoundTripper
}

func (a as) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Authorization") == "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", a.header)
	}
	return a.next.RoundTrip(r)
}

// client makes a client that opens a connection for each request.
func (a *authority) client(header string, c *tls.Config) *http.Client {
	c.RootCAs = a.pool()
	var transport http.RoundTripper = &http.Transport{DisableKeepAlives: true, TLSClientConfig: c}
	if header != "" {
		transport = as{header, transport}
	}
	return &http.Client{Timeout: time.Minute, Transport: transport}
}

// guardedSystem is a Connect, or ours, with three listeners.
type guardedSystem struct {
	name                string
	https, plain, admin string // host:port
}

// guarded starts Kafka Connect and ours with the same settings: https with client certificates, http, an admin listener, and the
// extension for basic authentication with the same files.
func (e *Env) guarded(ca *authority, password string) (connect, ours guardedSystem) {
	e.t.Helper()
	server := ca.issue("server")
	users := e.Secret("users.properties", "ann="+password+"\n")
	jaas := e.Secret("jaas.conf", "KafkaConnect {\n  org.apache.kafka.connect.rest.basic.auth.extension.PropertyFileLoginModule required\n  file=\""+users+"\";\n};\n")
	stores := e.Secret("stores.properties", "password="+e.storePassword()+"\n")
	ports, err := kafka.FreePorts(4)
	e.Must(err)
	settings := func(https, plain, admin, password string) map[string]string {
		return map[string]string{
			"listeners": "https://" + https + ",http://" + plain, "rest.advertised.listener": "https", "admin.listeners": "http://" + admin,
			"listeners.https.ssl.keystore.location": server.keystore, "listeners.https.ssl.keystore.type": "PKCS12", "listeners.https.ssl.keystore.password": password,
			"listeners.https.ssl.truststore.location": ca.truststore(), "listeners.https.ssl.truststore.type": "PKCS12", "listeners.https.ssl.truststore.password": password,
			"listeners.https.ssl.client.auth": "required",
			"rest.extension.classes":          "org.apache.kafka.connect.rest.basic.auth.extension.BasicAuthSecurityRestExtension",
			"access.control.allow.origin":     "http://ui.example", "access.control.allow.methods": "GET,PUT", "response.http.headers.config": "set X-Frame-Options: DENY",
		}
	}
	e.Client = ca.client(login("ann", password), &tls.Config{Certificates: []tls.Certificate{ca.issue("harness").tls}})

	properties := settings("127.0.0.1:0", ports[0], ports[1], "${file:"+stores+":password}")
	delete(properties, "listeners") // with the address of the fleet
	f := e.Prepare(FleetOptions{Size: 1, HTTPS: true, Properties: properties, Env: []string{"KAFKA_OPTS=-Xmx1g -Djava.security.auth.login.config=" + jaas}})
	f.o.Properties["listeners"] = f.Workers[0].URL() + ",http://" + ports[0]
	f.Workers[0].write()
	f.Start()
	ours = guardedSystem{"ours", f.Workers[0].ID, ports[0], ports[1]}

	dir := e.t.TempDir() // its files hold passwords
	connect = guardedSystem{name: "Connect", plain: ports[2], admin: ports[3]}
	free, err := kafka.FreePorts(1)
	e.Must(err)
	connect.https = free[0]
	properties = settings(connect.https, connect.plain, connect.admin, e.storePassword())
	properties["bootstrap.servers"], properties["group.id"] = e.Source.Bootstrap(), e.Prefix+"-connect"
	c, err := kafka.StartConnect(e.Context(), kafka.ConnectSpec{
		Name: "guarded", Dir: dir, Properties: properties, Extensions: true, JVM: []string{"-Djava.security.auth.login.config=" + jaas}, Client: e.Client,
	})
	e.Must(err)
	e.t.Cleanup(c.Process().Kill)
	e.Until(time.Minute, "Connect", func() string {
		status, answer, err := e.ask(e.Context(), "GET", "https://"+connect.https+"/connectors", "")
		if err != nil || status != http.StatusOK {
			return fmt.Sprint(status, answer, err)
		}
		return ""
	})
	return connect, ours
}

// question is one that both are asked.
type question struct {
	name, method, path string
	listener           string // https, plain, admin, or plain to https
	authorization      string
	header             map[string]string
	body               string
	tls                *tls.Config // nil: with a certificate that is trusted
}

// answered is what came back; an error of the connection is status 0.
type answered struct {
	status int
	header http.Header
	body   string
	err    error
}

func (e *Env) pose(ca *authority, s guardedSystem, q question, trusted tls.Certificate) answered {
	e.t.Helper()
	base := map[string]string{"https": "https://" + s.https, "": "https://" + s.https, "plain": "http://" + s.plain, "admin": "http://" + s.admin, "plain to https": "http://" + s.https}[q.listener]
	req, err := http.NewRequestWithContext(e.Context(), q.method, base+q.path, strings.NewReader(q.body))
	e.Must(err)
	for k, v := range q.header {
		req.Header.Set(k, v)
	}
	if q.authorization != "" {
		req.Header.Set("Authorization", q.authorization)
	}
	config := &tls.Config{Certificates: []tls.Certificate{trusted}}
	if q.tls != nil {
		config = q.tls.Clone()
	}
	res, err := ca.client("", config).Do(req)
	if err != nil {
		return answered{err: err}
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	text, err := io.ReadAll(res.Body)
	e.Must(err)
	return answered{status: res.StatusCode, header: res.Header, body: string(bytes.TrimSpace(text))}
}

func securityQuestions(ann, wrong string, trusted, foreign tls.Certificate) []question {
	json := map[string]string{"Content-Type": "application/json"}
	forged := map[string]string{"X-Connect-Authorization": "AAAA", "X-Connect-Request-Signature-Algorithm": "HmacSHA256"}
	const level = `{"level":"WARN"}`
	preflight := map[string]string{"Origin": "http://ui.example", "Access-Control-Request-Method": "GET"}
	all := []question{
		{name: "nobody, root", method: "GET", path: "/"},
		{name: "root", method: "GET", path: "/", authorization: ann},
		{name: "nobody, health", method: "GET", path: "/health"},
		{name: "health", method: "GET", path: "/health", authorization: ann},
		{name: "nobody", method: "GET", path: "/connectors"},
		{name: "user", method: "GET", path: "/connectors", authorization: ann},
		{name: "wrong", method: "GET", path: "/connectors", authorization: wrong},
		{name: "unknown", method: "GET", path: "/connectors", authorization: login("x", "y")},
		{name: "lower case", method: "GET", path: "/connectors", authorization: strings.Replace(ann, "B", "b", 1)},
		{name: "bearer", method: "GET", path: "/connectors", authorization: "Bearer abc"},
		{name: "only the scheme", method: "GET", path: "/connectors", authorization: "Basic"},
		{name: "no base64", method: "GET", path: "/connectors", authorization: "Basic %%%"},
		{name: "no colon", method: "GET", path: "/connectors", authorization: "Basic YW5u"},
		{name: "no name", method: "GET", path: "/connectors", authorization: login("", "x")},
		{name: "no password", method: "GET", path: "/connectors", authorization: login("ann", "")},
		{name: "two spaces", method: "GET", path: "/connectors", authorization: strings.Replace(ann, " ", "  ", 1)},
		{name: "nobody, unknown path", method: "GET", path: "/nosuch"},
		{name: "nobody, unknown verb", method: "DELETE", path: "/connectors"},
		{name: "nobody, unknown connector", method: "GET", path: "/connectors/x/status"},
		{name: "unknown connector", method: "GET", path: "/connectors/x/status", authorization: ann},
		{name: "nobody, HEAD", method: "HEAD", path: "/connectors"},
		{name: "nobody, OPTIONS", method: "OPTIONS", path: "/connectors"},
		{name: "nobody, preflight", method: "OPTIONS", path: "/connectors", header: preflight},
		{name: "nobody, another origin", method: "GET", path: "/connectors", header: map[string]string{"Origin": "http://ui.example"}},
		{name: "nobody, text", method: "GET", path: "/connectors", header: map[string]string{"Accept": "text/html"}},
		{name: "nobody, no content type", method: "POST", path: "/connectors", body: "{}"},
		{name: "nobody, bad JSON", method: "POST", path: "/connectors", body: "{", header: json},
		{name: "internal", method: "POST", path: "/connectors/x/tasks", body: "[]", header: json},
		{name: "internal with a slash", method: "POST", path: "/connectors/x/tasks/", body: "[]", header: json},
		{name: "nobody, tasks", method: "GET", path: "/connectors/x/tasks"},
		{name: "plain, nobody", method: "GET", path: "/connectors", listener: "plain"},
		{name: "plain", method: "GET", path: "/connectors", listener: "plain", authorization: ann},
		{name: "admin, nobody", method: "GET", path: "/admin/loggers/root", listener: "admin"},
		{name: "admin, wrong", method: "GET", path: "/admin/loggers/root", listener: "admin", authorization: wrong},
		{name: "admin", method: "GET", path: "/admin/loggers/root", listener: "admin", authorization: ann},
		{name: "admin's on the main one", method: "GET", path: "/admin/loggers/root", authorization: ann},
		{name: "main's on the admin one", method: "GET", path: "/connectors", listener: "admin", authorization: ann},
		{name: "main's root on the admin one", method: "GET", path: "/", listener: "admin", authorization: ann},
		{name: "main's health on the admin one", method: "GET", path: "/health", listener: "admin", authorization: ann},
		{name: "main's plugins on the admin one", method: "GET", path: "/connector-plugins", listener: "admin", authorization: ann},
		{name: "main's writes on the admin one", method: "POST", path: "/connectors", listener: "admin", authorization: ann, body: "{}", header: json},
		{name: "admin, all loggers", method: "GET", path: "/admin/loggers", listener: "admin", authorization: ann},
		{name: "admin, a level", method: "PUT", path: "/admin/loggers/a.b", listener: "admin", authorization: ann, body: level, header: json},
		{name: "admin, a level for all", method: "PUT", path: "/admin/loggers/a.b?scope=cluster", listener: "admin", authorization: ann, body: level, header: json},
		{name: "admin, a verb", method: "DELETE", path: "/admin/loggers/a.b", listener: "admin", authorization: ann},
		{name: "admin, verbs", method: "OPTIONS", path: "/admin/loggers/a.b", listener: "admin", authorization: ann},
		{name: "admin, unknown path", method: "GET", path: "/admin/nosuch", listener: "admin", authorization: ann},
		{name: "a level on the main one", method: "PUT", path: "/admin/loggers/a.b", authorization: ann, body: level, header: json},
		{name: "a level for all on the main one", method: "PUT", path: "/admin/loggers/a.b?scope=cluster", authorization: ann, body: level, header: json},
		{name: "admin's verbs on the main one", method: "OPTIONS", path: "/admin/loggers/a.b", authorization: ann},
		{name: "admin's wrong verb on the main one", method: "DELETE", path: "/admin/loggers/a.b", authorization: ann},
		{name: "fence", method: "PUT", path: "/connectors/x/fence"},
		{name: "fence with a slash", method: "PUT", path: "/connectors/x/fence/"},
		{name: "fence, forged", method: "PUT", path: "/connectors/x/fence", header: forged},
		{name: "fence, unknown algorithm", method: "PUT", path: "/connectors/x/fence", header: map[string]string{"X-Connect-Authorization": "AAAA", "X-Connect-Request-Signature-Algorithm": "x"}},
		{name: "internal, forged", method: "POST", path: "/connectors/x/tasks", body: "[]", header: forged},
		{name: "fence, another verb", method: "GET", path: "/connectors/x/fence", authorization: ann},
		{name: "plain to https", method: "GET", path: "/", listener: "plain to https", authorization: ann},
		{name: "no certificate", method: "GET", path: "/", authorization: ann, tls: &tls.Config{}},
		{name: "foreign certificate", method: "GET", path: "/", authorization: ann, tls: &tls.Config{
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &foreign, nil },
		}},
	}
	for _, v := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13} {
		all = append(all, question{name: tls.VersionName(v), method: "GET", path: "/", authorization: ann, tls: &tls.Config{Certificates: []tls.Certificate{trusted}, MinVersion: v, MaxVersion: v}})
	}
	for _, suite := range []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384} {
		all = append(all, question{
			name: tls.CipherSuiteName(suite), method: "GET", path: "/", authorization: ann,
			tls: &tls.Config{Certificates: []tls.Certificate{trusted}, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}},
		})
	}
	return all
}

// TestRestSecurityLikeConnect asks Kafka Connect and ours the same, with and without users and certificates.
// docs/rest-security.md lists what differs.
func TestRestSecurityLikeConnect(t *testing.T) {
	t.Parallel()
	e := New(t, 4*time.Minute)
	if err := kafka.HasExtensions(); err != nil {
		t.Skip(err)
	}
	root, err := kafka.Root()
	e.Must(err)
	differences, err := answers.Differences(filepath.Join(root, "docs", "rest-security.md"))
	e.Must(err)
	ca, other := e.authority("ca"), e.authority("other")
	password := e.Leak.Plant("ann")
	connect, ours := e.guarded(ca, password)
	trusted, foreign := ca.issue("client").tls, other.issue("foreign").tls
	seen := map[string]bool{}
	for _, q := range securityQuestions(login("ann", password), login("ann", e.Leak.Plant("wrong")), trusted, foreign) {
		theirs, got := e.pose(ca, connect, q, trusted), e.pose(ca, ours, q, trusted)
		d, differs := differences[q.name]
		seen[q.name] = true
		want := theirs.status
		if differs {
			want = d.Status
			if got.status == theirs.status {
				t.Errorf("%s: listed as different, and both answer %d", q.name, got.status)
			}
		}
		if got.status != want {
			t.Errorf("%s: %d %s %v, want %d; Connect: %d %s %v", q.name, got.status, got.body, got.err, want, theirs.status, theirs.body, theirs.err)
			continue
		}
		for _, h := range append([]string{"Allow"}, headers...) {
			if a, b := theirs.header.Get(h), got.header.Get(h); !differs && q.listener != "admin" && (h != "Allow" || a != "") && !answers.SameWords(a, b) {
				t.Errorf("%s: %s is %q, Connect's %q", q.name, h, b, a)
			}
		}
		if challenge := got.header.Get("WWW-Authenticate"); (got.status == http.StatusUnauthorized) != strings.HasPrefix(challenge, "Basic ") {
			t.Errorf("%s: %d with WWW-Authenticate %q", q.name, got.status, challenge)
		}
		if got.status == http.StatusUnauthorized && q.method != http.MethodHead {
			var body struct{ Message string }
			if json.Unmarshal([]byte(got.body), &body) != nil || !differs && body.Message != theirs.body {
				t.Errorf("%s: %s, Connect says %s", q.name, got.body, theirs.body)
			}
		}
	}
	for name := range differences {
		if !seen[name] {
			t.Errorf("docs/rest-security.md names %q, which nobody asks", name)
		}
	}
}

// Three workers that show each other certificates and are used with a password, from the command line too, while certificates are
// replaced by those of another authority.
func TestWorkersReachEachOtherOverTLS(t *testing.T) {
	t.Parallel()
	e := New(t, 3*time.Minute)
	ca := e.authority("ca")
	server, harness := ca.issue("server"), ca.issue("harness")
	password := e.Leak.Plant("ann")
	hash, err := bcrypt.GenerateFromPassword([]byte(password), 10)
	e.Must(err)
	stores := "${file:" + e.Secret("stores.properties", "password="+e.storePassword()+"\n") + ":password}"
	trust := ca.truststore()
	e.Client = ca.client(login("ann", password), &tls.Config{Certificates: []tls.Certificate{harness.tls}})
	f := e.Fleet(FleetOptions{Size: 3, HTTPS: true, Properties: map[string]string{
		"listeners.https.ssl.keystore.location": server.keystore, "listeners.https.ssl.keystore.type": "PKCS12", "listeners.https.ssl.keystore.password": stores,
		"listeners.https.ssl.truststore.location": trust, "listeners.https.ssl.truststore.type": "PKCS12", "listeners.https.ssl.truststore.password": stores,
		"listeners.https.ssl.client.auth": "required",
		"rest.authentication":             "basic", "rest.authentication.basic.file": e.Secret("users", "ann:"+string(hash)+"\n"),
	}})
	topic := e.Topic(e.Source, "orders", 3)
	e.Write([]string{topic}, 3, 300)
	source, target := e.User(e.Source, "ro", ReadTopics(topic)...), e.User(e.Target, "rw", WriteTopics("src."+topic)...)
	config := e.Mirror(source, target, topic, 3)
	f.Create(e.Prefix, config)
	f.Await(e.Prefix, "RUNNING", 3, time.Minute)
	everybodyForwards := func(flush string) {
		t.Helper()
		for i, w := range f.Workers {
			change := config.With(map[string]string{"offset.lag.max": fmt.Sprint(flush, i)})
			if status, answer := w.Ask(http.MethodPut, "/connectors/"+e.Prefix+"/config", change.JSON()); status != http.StatusOK {
				t.Fatalf("%s: %d %s", w.Name, status, answer)
			}
			if status, answer := w.Ask(http.MethodGet, "/v1/replication/"+e.Prefix, ""); status != http.StatusOK || strings.Contains(answer, "could not be reached") {
				t.Errorf("%s: %d %s", w.Name, status, answer)
			}
		}
		f.Await(e.Prefix, "RUNNING", 3, time.Minute) // the plan came to the leader
	}
	everybodyForwards("10")
	history := f.Do(http.MethodGet, "/v1/connectors/"+e.Prefix+"/history", "", http.StatusOK)
	if strings.Count(history, `"user":"ann"`) < 4 {
		t.Errorf("the author of changes is not who has logged in: %s", history)
	}
	e.commandLineOverTLS(f, ca, harness, password)

	// Another authority, its certificates besides, as whoever moves to it does: first trusted, then shown.
	next := e.authority("next")
	e.replace(trust, ca.bothStores(next))
	replaced := next.issue("server") // into the same files
	e.Client = next.client(login("ann", password), &tls.Config{Certificates: []tls.Certificate{next.issue("harness-2").tls}})
	for _, w := range f.Workers {
		e.Until(time.Minute, w.Name+" shows its new certificate", func() string {
			conn, err := tls.Dial("tcp", w.ID, &tls.Config{RootCAs: next.pool(), Certificates: []tls.Certificate{harness.tls}})
			if err != nil {
				return err.Error()
			}
			defer conn.Close() //nolint:errcheck // nothing was written
			if got := conn.ConnectionState().PeerCertificates[0].SerialNumber; got.Cmp(replaced.cert.SerialNumber) != 0 {
				return "another certificate"
			}
			return ""
		})
	}
	everybodyForwards("20")
	if report := e.Copied(map[string]string{topic: "src." + topic}, time.Minute); !report.Equal() || report.Source != 300 {
		t.Errorf("source and target differ: %s", report)
	}
	metrics := ""
	for _, w := range f.Workers {
		_, text := w.Ask(http.MethodGet, "/metrics", "")
		metrics += text
	}
	for _, want := range []string{`barnabas_rest_logins_total{outcome="ok"}`, `barnabas_rest_logins_total{outcome="missing"}`, `barnabas_rest_logins_total{outcome="wrong"}`, `barnabas_rest_forwards_total{outcome="taken"}`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no metric %s", want)
		}
	}
}

// commandLineOverTLS uses the command line with certificates and users, and without.
func (e *Env) commandLineOverTLS(f *Fleet, ca *authority, own certified, password string) {
	e.t.Helper()
	w := f.Workers[0]
	url, pass := "BARNABAS_URL="+w.URL(), "BARNABAS_PASSWORD="+password
	all := []string{"--cacert", ca.pem(), "--cert", own.pem, "--key", own.key, "--user", "ann"}
	for _, row := range []struct {
		env   []string
		args  []string
		code  int
		shows string
	}{
		{[]string{url, pass}, append([]string{"connectors", "list"}, all...), 0, e.Prefix},
		{[]string{url, pass, "BARNABAS_CACERT=" + ca.pem(), "BARNABAS_CERT=" + own.pem, "BARNABAS_KEY=" + own.key, "BARNABAS_USER=ann"}, []string{"health"}, 0, "healthy"},
		{[]string{url, pass}, []string{"connectors", "list", "--user", "ann"}, 1, "--cacert"},
		{[]string{url, pass}, []string{"connectors", "list", "--cacert", ca.pem()}, 1, "--cert"},
		{[]string{url}, append([]string{"connectors", "list"}, all[:6]...), 1, "use --user and $BARNABAS_PASSWORD"},
		{[]string{url, "BARNABAS_PASSWORD=guess"}, append([]string{"connectors", "list"}, all...), 1, "use --user and $BARNABAS_PASSWORD"},
		{[]string{url, pass}, []string{"connectors", "list", "--key", own.key}, 2, "--key needs --cert"},
		{[]string{"BARNABAS_URL=http://" + w.ID}, []string{"connectors", "list"}, 1, "https"},
	} {
		out, code := e.run(row.env, row.args...)
		if code != row.code || !strings.Contains(out, row.shows) {
			e.t.Errorf("barnabas %s: exit code %d, want %d and %q:\n%s", strings.Join(row.args, " "), code, row.code, row.shows, out)
		}
	}
}
