package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"barnabas/config"
	"barnabas/rest"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string // in PEM
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = a.write("authority", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

func (a *authority) write(name string, text []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name+".pem")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// issue writes a key and a certificate of it.
func (a *authority) issue(subject pkix.Name) (path string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: subject, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(subject.CommonName, append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...))
}

// TestCallersAreNamedByTheirCertificates asks a worker that lets in by certificate or by password.
func TestCallersAreNamedByTheirCertificates(t *testing.T) {
	t.Parallel()
	a, stranger := newAuthority(t), newAuthority(t)
	roles := t.TempDir()
	if err := os.WriteFile(filepath.Join(roles, "ops.yaml"), []byte("name: ops\nusers: [ann]\npolicy: [{effect: allow, action: admin:GetWorkers, resource: '*'}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("bob"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	htpasswd := a.write("htpasswd", []byte("bob:"+string(hash)+"\n"))
	n := startTestNode(t, startKafka(t), map[string]string{
		"listeners": "https://127.0.0.1:0", "listeners.https.ssl.keystore.type": "PEM", "listeners.https.ssl.keystore.location": a.issue(pkix.Name{CommonName: "worker"}),
		"listeners.https.ssl.truststore.type": "PEM", "listeners.https.ssl.truststore.location": a.file, "listeners.https.ssl.client.auth": "requested",
		"rest.authentication": "basic,mtls", "rest.authentication.basic.file": htpasswd, "access.roles.dir": roles,
		"ssl.principal.mapping.rules": "RULE:^CN=(.*?),OU=People.*$/$1/L,RULE:^CN=([^,]*)$/service-$1/",
	})
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	for _, row := range []struct {
		name, cert string
		user       string // with a password
		want       rest.Identity
		fails      string
	}{
		{"a person", a.issue(pkix.Name{CommonName: "Ann", OrganizationalUnit: []string{"People"}}), "", rest.Identity{User: "ann", Roles: []string{"ops"}}, ""},
		{"a service", a.issue(pkix.Name{CommonName: "x"}), "", rest.Identity{User: "service-x"}, ""},
		{"nobody by the rules", a.issue(pkix.Name{CommonName: "y", Organization: []string{"z"}}), "", rest.Identity{}, "401"},
		{"no certificate", "", "", rest.Identity{}, "401"},
		{"a person by password", "", "bob", rest.Identity{User: "bob"}, ""},
		{"a certificate and a wrong password", a.issue(pkix.Name{CommonName: "v"}), "eve", rest.Identity{}, "401"},
		{"a certificate of a stranger", stranger.issue(pkix.Name{CommonName: "ann"}), "", rest.Identity{}, "tls: "},
	} {
		secure := &tls.Config{RootCAs: pool}
		if row.cert != "" {
			pair, err := tls.LoadX509KeyPair(row.cert, row.cert)
			if err != nil {
				t.Fatal(err)
			}
			secure.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		client, err := rest.NewClient(rest.ClientOptions{URLs: []string{n.url}, TLS: secure, Retry: -1, User: row.user, Password: config.NewSecret("bob")})
		if err != nil {
			t.Fatal(err)
		}
		got, err := client.Whoami(t.Context())
		var status *rest.StatusError
		switch {
		case row.fails == "401":
			if !errors.As(err, &status) || status.Status != 401 {
				t.Errorf("%s: got %+v %v", row.name, got, err)
			}
		case row.fails != "":
			if err == nil || !strings.Contains(err.Error(), row.fails) {
				t.Errorf("%s: got %+v %v", row.name, got, err)
			}
		case err != nil || got.User != row.want.User || strings.Join(got.Roles, " ") != strings.Join(row.want.Roles, " "):
			t.Errorf("%s: got %+v %v", row.name, got, err)
		}
	}
}

// Nobody could log in.
func TestCertificatesThatNobodyIsAskedForAreAMistake(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	for name, more := range map[string]map[string]string{
		"http":  {"listeners": "http://127.0.0.1:0"},
		"https": {"listeners": "https://127.0.0.1:0", "ssl.keystore.type": "PEM", "ssl.keystore.location": a.issue(pkix.Name{CommonName: "worker"})},
		"rules": {"ssl.principal.mapping.rules": "RULE:x"},
	} {
		more["rest.authentication"] = "mtls"
		_, err := newNode(nodeOptions{Settings: workerFile(t, more).Settings, Log: slog.New(slog.DiscardHandler)})
		if want := map[string]string{"rules": "ssl.principal.mapping.rules: "}[name]; err == nil || !strings.Contains(err.Error(), want) || want == "" && !strings.Contains(err.Error(), "no listener asks for certificates") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
