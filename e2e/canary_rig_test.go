package e2e

import (
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
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/crypto/bcrypt"

	"barnabas/e2e/kafka"
	"barnabas/e2e/kdc"
)

// issuerOfTokens is an OpenID provider that explains a refusal at length: with the secret that it was given.
type issuerOfTokens struct {
	*Env
	url, secret string
	key         *rsa.PrivateKey
}

func (e *Env) issuerOfTokens() *issuerOfTokens {
	e.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	e.Must(err)
	p := &issuerOfTokens{Env: e, key: key, secret: e.Leak.Plant("client secret")}
	s := httptest.NewServer(p)
	e.t.Cleanup(s.Close)
	p.url = s.URL
	return p
}

func (p *issuerOfTokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	encode := base64.RawURLEncoding.EncodeToString
	if r.URL.Path == "/keys" {
		fmt.Fprintf(w, `{"keys":[{"kty":"RSA","kid":"k1","use":"sig","alg":"RS256","n":%q,"e":%q}]}`, encode(p.key.N.Bytes()), encode(big.NewInt(int64(p.key.E)).Bytes()))
		return
	}
	id, secret, _ := r.BasicAuth()
	if secret != p.secret {
		text, err := json.Marshal(map[string]string{"error": "invalid_client", "error_description": "not the secret of " + id + ": " + secret + " in " + r.Header.Get("Authorization")})
		p.Must(err)
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write(text)
		return
	}
	now := time.Now().Unix()
	claims, err := json.Marshal(map[string]any{"sub": id, "iat": now, "exp": now + 3600, "aud": "kafka", "iss": "test", "scope": "kafka"})
	p.Must(err)
	content := encode([]byte(`{"alg":"RS256","kid":"k1","typ":"JWT"}`)) + "." + encode(claims)
	digest := sha256.Sum256([]byte(content))
	signature, err := rsa.SignPKCS1v15(rand.Reader, p.key, crypto.SHA256, digest[:])
	p.Must(err)
	p.Leak.Watch("access token", encode(signature)) // whoever has that has the token
	fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer"}`, content+"."+encode(signature))
}

// signedFor is a broker as far as AWS_MSK_IAM: it takes what a client signed, and refuses it.
type signedFor struct {
	address string
	mu      sync.Mutex
	taken   []byte
}

func (e *Env) signedFor() *signedFor {
	e.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	e.Must(err)
	s := &signedFor{address: l.Addr().String()}
	var serving sync.WaitGroup
	e.t.Cleanup(serving.Wait)
	e.t.Cleanup(func() { _ = l.Close() })
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			serving.Go(func() { s.serve(c) })
		}
	})
	return s
}

func (s *signedFor) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.taken)
}

// serve answers until the client has been refused.
func (s *signedFor) serve(c net.Conn) {
	defer c.Close()
	for {
		var size [4]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		b := kbin.Reader{Src: size[:]}
		body := make([]byte, min(max(b.Int32(), 8), 1<<16))
		if _, err := io.ReadFull(c, body); err != nil {
			return
		}
		b = kbin.Reader{Src: body}
		key, version, id := b.Int16(), b.Int16(), b.Int32()
		b.NullableString() // the client's id
		var resp kmsg.Response
		switch key {
		case 18:
			r := &kmsg.ApiVersionsResponse{Version: min(version, 3)}
			for _, k := range []struct{ key, most int16 }{{18, 3}, {17, 1}, {36, 2}, {3, 12}} {
				r.ApiKeys = append(r.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: k.key, MaxVersion: k.most})
			}
			if version > 3 {
				r.Version, r.ErrorCode = 0, 35 // and the client asks again
			}
			resp = r
		case 17:
			resp = &kmsg.SASLHandshakeResponse{Version: version, SupportedMechanisms: []string{"AWS_MSK_IAM"}}
		case 36:
			s.mu.Lock()
			s.taken = body
			s.mu.Unlock()
			text := "access denied"
			resp = &kmsg.SASLAuthenticateResponse{Version: version, ErrorCode: 58, ErrorMessage: &text}
		default:
			return
		}
		out := kbin.AppendInt32(nil, id)
		if resp.IsFlexible() && key != 18 {
			out = append(out, 0) // no tags in the header
		}
		out = resp.AppendTo(out)
		if _, err := c.Write(append(kbin.AppendInt32(nil, int32(len(out))), out...)); err != nil { //nolint:gosec // small
			return
		}
	}
}

// canaries is a cluster of one broker and two workers whose every secret is one to be looked for.
type canaries struct {
	*Env
	m     *managers
	f     *Fleet
	ca    *authority
	idp   *issuerOfTokens
	realm *kdc.KDC // nil: there is none
	msk   *signedFor
	// group is in everything that the workers show, and ann's password in what she sends.
	group, ann string
	target     Identity
	users      map[string]string // of PLAIN
}

// canaries starts all of it.
func (e *Env) canaries() *canaries {
	e.t.Helper()
	c := &canaries{Env: e, ca: e.authority("ca"), msk: e.signedFor(), idp: e.issuerOfTokens(), ann: e.Leak.Plant("ann"), group: e.Leak.Show("group")}
	c.broker()
	c.m = e.managers()
	worker := e.Leak.Plant("worker")
	e.Secret("worker.properties", "password="+worker+"\n")
	e.Must(e.Hub.AddUser(e.Context(), "worker", worker))
	c.target = Identity{Name: "rw", Password: e.Leak.Plant("rw")}
	e.Must(e.Target.AddUser(e.Context(), c.target.Name, c.target.Password))
	c.target.File = e.Secret("rw.properties", "password="+c.target.Password+"\n")

	hash, err := bcrypt.GenerateFromPassword([]byte(c.ann), bcrypt.MinCost)
	e.Must(err)
	roles := filepath.Join(e.Dir, "roles")
	e.Must(os.Mkdir(roles, 0o700))
	e.Must(os.WriteFile(filepath.Join(roles, "all.yaml"), []byte("name: all\nusers: [ann]\npolicy: [{effect: allow, action: ['connect:*', 'secrets:*', 'k2k:*', 'environments:*', 'audit:*', 'admin:*', 'kubernetes:*'], resource: '*'}]\n"), 0o600))
	var master [32]byte
	_, _ = rand.Read(master[:])
	key := base64.StdEncoding.EncodeToString(master[:])
	e.Leak.Watch("master key", key)
	p := c.m.properties()
	maps.Copy(p, map[string]string{
		"config.providers": p["config.providers"] + ",dir,env,secret", "worker.labels": "zone=" + c.group,
		"config.providers.dir.class":                                        "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
		"config.providers.env.class":                                        "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
		"config.providers.secret.class":                                     "io.confluent.connect.secretregistry.rbac.config.provider.InternalSecretConfigProvider",
		"config.providers.secret.param.master.encryption.key":               "${file:" + e.Secret("master.properties", "key="+key+"\n") + ":key}",
		"config.providers.secret.param.kafkastore.topic.replication.factor": "1",
		"rest.authentication":                                               "basic",
		"rest.authentication.basic.file":                                    e.Secret("htpasswd", "ann:"+string(hash)+"\n"),
		"access.roles.dir":                                                  roles,
		"connector.secrets.literal.policy":                                  "deny",
		"java.security.krb5.conf":                                           "/nonexistent",
		"audit.key":                                                         "${file:" + e.Secret("audit.properties", "key="+e.Leak.Plant("audit")+"\n") + ":key}",
		"org.apache.kafka.sasl.oauthbearer.allowed.urls":                    c.idp.url + "/token",
	})
	if c.realm != nil {
		p["java.security.krb5.conf"] = c.realm.Conf()
	}
	e.Client = &http.Client{Timeout: time.Minute, Transport: as{login("ann", c.ann), http.DefaultTransport}}
	session := e.Leak.Plant("AWS session")
	c.f = e.Fleet(FleetOptions{
		Size: 2, Group: c.group, GossipProxy: true, LogLevel: "TRACE", Properties: p,
		Env: []string{"AWS_SESSION=" + session, "TARGET_PASSWORD=" + c.target.Password, "GOTRACEBACK=all"},
	})
	return c
}

// broker starts the one broker, with a listener for each mechanism, in the place of the shared three.
func (c *canaries) broker() {
	e := c.Env
	dir := e.t.TempDir() // its files hold passwords
	server, ca := c.ca.issue("server"), c.ca.pem()
	pair := filepath.Join(dir, "server.pem")
	var text []byte
	for _, file := range []string{server.key, server.pem} {
		part, err := os.ReadFile(file)
		e.Must(err)
		text = append(text, part...)
	}
	e.Must(os.WriteFile(pair, text, 0o600))
	e.Must(os.Mkdir(filepath.Join(dir, "broker"), 0o700))
	spec := kafka.Spec{
		Name: "canaries", Dir: filepath.Join(dir, "broker"), Users: map[string]string{"by-plain": e.Leak.Plant("PLAIN")},
		System: map[string]string{"org.apache.kafka.sasl.oauthbearer.allowed.urls": c.idp.url + "/keys"},
		Listeners: []kafka.Listener{{Name: Client, SASL: true}, {Name: "MUTUAL", Protocol: "SSL", Properties: map[string]string{
			"ssl.keystore.type": "PEM", "ssl.keystore.location": pair, "ssl.truststore.type": "PEM", "ssl.truststore.location": ca, "ssl.client.auth": "required",
		}}, {Name: "OIDC", Protocol: "SASL_PLAINTEXT", Properties: map[string]string{
			"sasl.enabled.mechanisms": "OAUTHBEARER", "oauthbearer.sasl.jaas.config": "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;",
			"oauthbearer.sasl.server.callback.handler.class": "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler",
			"oauthbearer.sasl.oauthbearer.jwks.endpoint.url": c.idp.url + "/keys", "oauthbearer.sasl.oauthbearer.expected.audience": "kafka",
			"oauthbearer.sasl.oauthbearer.expected.issuer": "test",
		}}},
	}
	if err := kdc.Find(); err != nil {
		e.t.Logf("GSSAPI is left out: %v", err)
	} else {
		c.realm, err = kdc.Start(e.Context(), e.t.TempDir())
		e.Must(err)
		e.t.Cleanup(c.realm.Kill)
		keytab, err := c.realm.Keytab(e.Context(), "kafka/127.0.0.1", "kafka.keytab")
		e.Must(err)
		spec.System["java.security.krb5.conf"] = c.realm.Conf()
		spec.Listeners = append(spec.Listeners, kafka.Listener{Name: "KERBEROS", Protocol: "SASL_PLAINTEXT", Properties: map[string]string{
			"sasl.enabled.mechanisms": "GSSAPI", "sasl.kerberos.service.name": "kafka",
			"gssapi.sasl.jaas.config": fmt.Sprintf(`com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true keyTab="%s" principal="kafka/127.0.0.1@%s";`, keytab, kdc.Realm),
		}})
	}
	b, err := kafka.Start(e.Context(), spec)
	e.Must(err)
	e.t.Cleanup(b.Kill)
	e.Source, e.Target, e.Hub = b, b, b
	c.users = spec.Users
}

// encrypted is a private key in PEM that a password protects, by openssl; "" where there is none.
func (c *canaries) encrypted(key, password string) string {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		c.t.Log("an encrypted key in PEM is left out: no openssl")
		return ""
	}
	cmd := exec.CommandContext(c.Context(), openssl, "pkcs8", "-topk8", "-in", key, "-v2", "aes-256-cbc", "-passout", "stdin")
	cmd.Stdin = strings.NewReader(password + "\n")
	out, err := cmd.Output()
	c.Must(err)
	return string(out)
}
