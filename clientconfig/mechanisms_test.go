package clientconfig

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
	"barnabas/e2e/kafka"
	"barnabas/e2e/kdc"
)

// provider is an OpenID provider: tokens, and the key that signs them.
type provider struct {
	*httptest.Server
	key      *rsa.PrivateKey
	lifetime atomic.Int64 // of a token, in seconds
	given    atomic.Int64
	form     atomic.Pointer[url.Values] // of the last request
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{key: key}
	p.lifetime.Store(3600)
	mux := http.NewServeMux()
	encode := base64.RawURLEncoding.EncodeToString
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"keys":[{"kty":"RSA","kid":"k1","use":"sig","alg":"RS256","n":%q,"e":%q}]}`,
			encode(key.N.Bytes()), encode(big.NewInt(int64(key.E)).Bytes()))
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		p.form.Store(&form)
		id, secret, _ := r.BasicAuth()
		if secret != "client-secret" && !form.Has("assertion") && !form.Has("client_assertion") {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":"invalid_client","error_description":"no such client or secret"}`)
			return
		}
		if id == "" {
			id = "by-assertion"
		}
		fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer"}`, p.token(id))
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

// token is a signed token for subject.
func (p *provider) token(subject string) string {
	p.given.Add(1)
	now := time.Now().Unix()
	claims, _ := json.Marshal(map[string]any{"sub": subject, "iat": now, "exp": now + p.lifetime.Load(), "aud": "kafka", "iss": "test", "scope": "read write"})
	encode := base64.RawURLEncoding.EncodeToString
	content := encode([]byte(`{"alg":"RS256","kid":"k1","typ":"JWT"}`)) + "." + encode(claims)
	digest := sha256.Sum256([]byte(content))
	signature, _ := rsa.SignPKCS1v15(rand.Reader, p.key, crypto.SHA256, digest[:])
	return content + "." + encode(signature)
}

// listeners are one of each kind.
func listeners(t *testing.T, p *provider) []kafka.Listener {
	t.Helper()
	server := filepath.Join(t.TempDir(), "server.pem")
	var pair []byte
	for _, name := range []string{"server.key", "server.pem"} {
		text, err := os.ReadFile(store(name))
		if err != nil {
			t.Fatal(err)
		}
		pair = append(pair, text...)
	}
	if err := os.WriteFile(server, pair, 0o600); err != nil {
		t.Fatal(err)
	}
	ca, err := filepath.Abs(store("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	ssl := map[string]string{
		"ssl.keystore.type": "PEM", "ssl.keystore.location": server, "ssl.truststore.type": "PEM", "ssl.truststore.location": ca,
		"ssl.client.auth": "required", "ssl.enabled.protocols": "TLSv1.2,TLSv1.3",
	}
	oidc := maps.Clone(ssl)
	oidc["ssl.client.auth"] = "none"
	maps.Copy(oidc, map[string]string{
		"sasl.enabled.mechanisms": "OAUTHBEARER", "oauthbearer.sasl.jaas.config": oauthModule + " required;",
		"oauthbearer.sasl.server.callback.handler.class": "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler",
		"oauthbearer.sasl.oauthbearer.jwks.endpoint.url": p.URL + "/keys", "oauthbearer.sasl.oauthbearer.expected.audience": "kafka",
		"oauthbearer.sasl.oauthbearer.expected.issuer": "test", "oauthbearer.connections.max.reauth.ms": "3600000",
	})
	return []kafka.Listener{
		{Name: "PASSWORDS", SASL: true},
		{Name: "MUTUAL", Protocol: "SSL", Properties: ssl},
		{Name: "OIDC", Protocol: "SASL_SSL", Properties: oidc},
		{Name: "UNSIGNED", Protocol: "SASL_PLAINTEXT", Properties: map[string]string{
			"sasl.enabled.mechanisms": "OAUTHBEARER", "oauthbearer.sasl.jaas.config": oauthModule + ` required unsecuredLoginStringClaim_sub="broker";`,
		}},
	}
}

// topicOf names the topic that only principal may see.
func topicOf(principal string) string {
	sum := sha256.Sum256([]byte(principal))
	return fmt.Sprintf("of-%x", sum[:6])
}

// sees tells whether a client with settings is taken for principal.
func sees(t *testing.T, settings map[string]string, principal string) error {
	t.Helper()
	c, err := Build(config.Literal(settings), Admin)
	if err != nil {
		return err
	}
	cl, err := kgo.NewClient(append(c.Opts, kgo.Dialer(c.Dial))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	topics, err := kadm.NewClient(cl).ListTopics(ctx, topicOf(principal))
	if err != nil {
		return err
	}
	return topics[topicOf(principal)].Err
}

// real is the broker of TestMechanismsOnRealKafka.
type real struct {
	provider *provider
	logins   map[string]realLogin
}

// TestMechanismsOnRealKafka logs in with each mechanism on one broker, and asks for what only the principal that it should be
// may see.
func TestMechanismsOnRealKafka(t *testing.T) {
	t.Parallel()
	if _, err := kafka.Find(); err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	p := newProvider(t)
	spec := kafka.Spec{
		Name: "mechanisms", Dir: t.TempDir(), ACLs: true, Users: map[string]string{"by-plain": "secret"}, Listeners: listeners(t, p),
		System: map[string]string{AllowedURLsKey: p.URL + "/keys"},
	}
	realm := withKerberos(t, &spec)
	b, err := kafka.Start(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Kill)
	if err := b.AddUser(ctx, "by-scram", "secret"); err != nil {
		t.Fatal(err)
	}
	logins := realLogins(t, p, b)
	if realm != nil {
		maps.Copy(logins, kerberosLogins(t, realm, b))
	}
	for name, l := range logins {
		if err := b.Allow(ctx, l.principal, kafka.Grant{Topic: topicOf(l.principal), Operations: []kadm.ACLOperation{kadm.OpDescribe}}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	admin, err := b.Admin()
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	topics := map[string]bool{}
	for _, l := range logins {
		topics[topicOf(l.principal)] = true
	}
	for topic := range topics {
		if _, err := admin.CreateTopic(ctx, 1, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
	}
	for name, l := range logins {
		t.Run(name, func(t *testing.T) {
			if err := sees(t, l.settings, l.principal); err != nil {
				t.Errorf("as %s: %v", l.principal, err)
			}
			if err := sees(t, l.settings, "by-nobody"); err == nil {
				t.Error("it may see what is nobody's")
			}
			if l.wrong == nil {
				return
			}
			settings := maps.Clone(l.settings)
			maps.Copy(settings, l.wrong)
			if err := sees(t, settings, l.principal); err == nil || !strings.Contains(err.Error(), l.refusal) {
				t.Errorf("with wrong settings: %v, want %q", err, l.refusal)
			}
		})
	}
	s := &real{p, logins}
	t.Run("tokens are replaced on living connections", s.tokenIsReplaced)
}

// tokenIsReplaced has tokens of a few seconds, and a broker that ends connections with their token.
func (s *real) tokenIsReplaced(t *testing.T) {
	before := s.provider.given.Load()
	s.provider.lifetime.Store(5)
	defer s.provider.lifetime.Store(3600)
	c, err := Build(config.Literal(s.logins["OAUTHBEARER with a secret"].settings), Admin)
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(append(c.Opts, kgo.Dialer(c.Dial))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for poll := time.NewTicker(100 * time.Millisecond); s.provider.given.Load() < before+3; <-poll.C {
		if err := cl.Ping(ctx); err != nil {
			t.Fatalf("after %d tokens: %v", s.provider.given.Load()-before, err)
		}
	}
}

// realLogin is a login of TestMechanismsOnRealKafka, and how it fails with wrong settings laid over it.
type realLogin struct {
	settings  map[string]string
	principal string
	wrong     map[string]string
	refusal   string
}

func realLogins(t *testing.T, p *provider, b *kafka.Broker) map[string]realLogin {
	t.Helper()
	ca, err := os.ReadFile(store("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	logins := map[string]realLogin{}
	for mechanism, user := range map[string]string{"PLAIN": "by-plain", "SCRAM-SHA-256": "by-scram", "SCRAM-SHA-512": "by-scram"} {
		logins[mechanism] = realLogin{
			settings: map[string]string{
				"bootstrap.servers": b.Address("PASSWORDS"), "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": mechanism,
				"sasl.jaas.config": jaasFor(mechanism, user, "secret"),
			},
			principal: user, wrong: map[string]string{"sasl.jaas.config": jaasFor(mechanism, user, "other")}, refusal: "SASL_AUTHENTICATION_FAILED",
		}
	}
	trusting := map[string]string{"bootstrap.servers": b.Address("MUTUAL"), "security.protocol": "SSL", "ssl.truststore.type": "PEM", "ssl.truststore.certificates": string(ca)}
	for file, typ := range map[string]string{"keystore.jks": "JKS", "keystore.p12": "PKCS12", "keystore-openssl.p12": "JKS", "keystore.pem": "PEM", "keystore-encrypted.pem": "PEM"} {
		settings := maps.Clone(trusting)
		settings["ssl.keystore.type"], settings["ssl.keystore.location"] = typ, store(file)
		if typ == "PEM" {
			settings["ssl.key.password"] = "key-pass"
		} else {
			settings["ssl.keystore.password"] = "store-pass"
		}
		logins["mutual TLS with "+file] = realLogin{settings: settings, principal: `CN=orders-ro,OU=Orders,O=Shop\, Inc,C=SE`}
	}
	old := maps.Clone(logins["mutual TLS with keystore.jks"].settings)
	old["ssl.enabled.protocols"], old["ssl.cipher.suites"] = "TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
	logins["mutual TLS 1.2 with one suite"] = realLogin{
		settings: old, principal: `CN=orders-ro,OU=Orders,O=Shop\, Inc,C=SE`,
		wrong: map[string]string{"ssl.truststore.certificates": "", "ssl.truststore.location": store("other-ca.pem")}, refusal: "certificate signed by unknown authority",
	}
	maps.Copy(logins, oauthLogins(t, p, b))
	return logins
}

// withKerberos adds a KDC and a listener for its realm, or nothing where there is no KDC to be had.
func withKerberos(t *testing.T, spec *kafka.Spec) *kdc.KDC {
	t.Helper()
	if err := kdc.Find(); err != nil {
		t.Logf("GSSAPI is left out: %v", err)
		return nil
	}
	realm, err := kdc.Start(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(realm.Kill)
	keytab, err := realm.Keytab(t.Context(), "kafka/127.0.0.1", "kafka.keytab")
	if err != nil {
		t.Fatal(err)
	}
	spec.System["java.security.krb5.conf"] = realm.Conf()
	spec.Listeners = append(spec.Listeners, kafka.Listener{Name: "KERBEROS", Protocol: "SASL_PLAINTEXT", Properties: map[string]string{
		"sasl.enabled.mechanisms":    "GSSAPI",
		"gssapi.sasl.jaas.config":    kerberosModule + fmt.Sprintf(` required useKeyTab=true storeKey=true keyTab="%s" principal="kafka/127.0.0.1@%s";`, keytab, kdc.Realm),
		"sasl.kerberos.service.name": "kafka",
	}})
	return realm
}

func kerberosLogins(t *testing.T, realm *kdc.KDC, b *kafka.Broker) map[string]realLogin {
	t.Helper()
	keytab, err := realm.Keytab(t.Context(), "by-keytab/worker.example", "client.keytab")
	if err != nil {
		t.Fatal(err)
	}
	other, err := realm.Keytab(t.Context(), "by-tickets", "tickets.keytab")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := realm.Tickets(t.Context(), "by-tickets", other, "tickets")
	if err != nil {
		t.Fatal(err)
	}
	with := func(options string) map[string]string {
		return map[string]string{
			"bootstrap.servers": b.Address("KERBEROS"), "security.protocol": "SASL_PLAINTEXT", "sasl.kerberos.service.name": "kafka",
			KerberosKey: realm.Conf(), "sasl.jaas.config": kerberosModule + " required " + options + ";",
		}
	}
	return map[string]realLogin{
		"GSSAPI with a keytab": {
			settings:  with(fmt.Sprintf(`useKeyTab=true storeKey=true keyTab=%q principal="by-keytab/worker.example@%s"`, keytab, kdc.Realm)),
			principal: "by-keytab", wrong: map[string]string{"sasl.kerberos.service.name": "kafka2"}, refusal: "KDC_ERR_S_PRINCIPAL_UNKNOWN",
		},
		"GSSAPI with a ticket cache": {
			settings:  with(fmt.Sprintf(`useTicketCache=true ticketCache=%q`, cache)),
			principal: "by-tickets",
			wrong:     map[string]string{"sasl.jaas.config": kerberosModule + fmt.Sprintf(` required useTicketCache=true ticketCache=%q principal=orders;`, cache)},
			refusal:   "the ticket cache is of by-tickets@TEST.EXAMPLE, not of orders@TEST.EXAMPLE",
		},
	}
}

func oauthLogins(t *testing.T, p *provider, b *kafka.Broker) map[string]realLogin {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "token")
	if err := os.WriteFile(file, []byte(p.token("by-file")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := filepath.Abs(store("rsa.key"))
	if err != nil {
		t.Fatal(err)
	}
	with := func(more map[string]string) map[string]string {
		all := oauth(p.URL+"/token", map[string]string{
			"bootstrap.servers": b.Address("OIDC"), "ssl.truststore.type": "PEM", "ssl.truststore.location": store("ca.pem"),
			"sasl.oauthbearer.client.credentials.client.id": "by-client", "sasl.oauthbearer.client.credentials.client.secret": "client-secret",
			"sasl.oauthbearer.scope": "kafka", AllowedFilesKey: key,
		})
		maps.Copy(all, more)
		return all
	}
	return map[string]realLogin{
		"OAUTHBEARER with a secret": {
			settings: with(nil), principal: "by-client",
			wrong: map[string]string{"sasl.oauthbearer.client.credentials.client.secret": "other"}, refusal: "it answered 401: invalid_client, no such client or secret",
		},
		"OAUTHBEARER with a client assertion": {
			settings: with(map[string]string{"sasl.oauthbearer.assertion.claim.iss": "orders", "sasl.oauthbearer.assertion.private.key.file": key}), principal: "by-assertion",
		},
		"OAUTHBEARER with a JWT bearer": {
			settings:  with(map[string]string{"sasl.oauthbearer.jwt.retriever.class": oauthPackage + "JwtBearerJwtRetriever", "sasl.oauthbearer.assertion.private.key.file": key}),
			principal: "by-assertion",
		},
		"OAUTHBEARER with a file": {
			settings:  with(map[string]string{"sasl.oauthbearer.token.endpoint.url": "file://" + file, AllowedURLsKey: "file://" + file}),
			principal: "by-file",
		},
		"OAUTHBEARER unsigned": {
			settings: map[string]string{
				"bootstrap.servers": b.Address("UNSIGNED"), "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER",
				"sasl.jaas.config": oauthModule + ` required unsecuredLoginStringClaim_sub="unsigned" unsecuredLoginListClaim_scope=",a,b";`,
			},
			principal: "unsigned",
			// A signed token is none for this listener, which says so in its own way.
			wrong:   with(map[string]string{"security.protocol": "SASL_PLAINTEXT", "bootstrap.servers": b.Address("UNSIGNED")}),
			refusal: "SASL OAUTHBEARER: the broker refuses the token: invalid_token",
		},
	}
}
