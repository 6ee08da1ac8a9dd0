package clientconfig

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"barnabas/config"
)

func TestClientsAreToldApartByWhatTheyLogInWith(t *testing.T) {
	t.Parallel()
	plain := map[string]string{
		"bootstrap.servers": "a:1", "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
		"sasl.jaas.config": plainModule + ` required username="u" password="one";`,
	}
	build := func(over map[string]string) *Client {
		t.Helper()
		c, err := Build(config.Literal(plain).Merge(config.Literal(over)), Producer)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := build(nil)
	for _, row := range []struct {
		name              string
		over              map[string]string
		credentials, rest bool // are the same
		adopts            string
	}{
		{"the same", nil, true, true, ""},
		{"another password", map[string]string{"sasl.jaas.config": plainModule + ` required username="u" password="two";`}, false, true, ""},
		{"another setting", map[string]string{"acks": "1"}, true, false, ""},
		{"other brokers", map[string]string{"bootstrap.servers": "b:1"}, false, true, ""},
		{"another mechanism", map[string]string{"sasl.mechanism": "SCRAM-SHA-256", "sasl.jaas.config": scramModule + ` required username="u" password="one";`}, false, true, "sasl.mechanism has changed"},
		{"another protocol", map[string]string{"security.protocol": "PLAINTEXT"}, false, true, "security.protocol has changed"},
	} {
		next := build(row.over)
		if got := first.SameCredentials(next); got != row.credentials || got != (first.Fingerprint() == next.Fingerprint()) {
			t.Errorf("%s: the same credentials: %t", row.name, got)
		}
		if got := first.SameSettings(next); got != row.rest {
			t.Errorf("%s: the same settings: %t", row.name, got)
		}
		switch err := build(nil).Adopt(next); {
		case row.adopts == "" && err != nil, row.adopts != "" && (err == nil || err.Error() != row.adopts):
			t.Errorf("%s: adopt: %v, want %q", row.name, err, row.adopts)
		}
	}
	if mark := first.Fingerprint(); strings.Contains(mark, "one") || len(mark) != 64 {
		t.Errorf("fingerprint %q", mark)
	}
}

// authorityPEM returns the certificate of a new authority.
func authorityPEM(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestWhatAFileHoldsIsPartOfTheCredentials(t *testing.T) {
	t.Parallel()
	authorities := filepath.Join(t.TempDir(), "ca.pem")
	settings := config.Literal(map[string]string{
		"bootstrap.servers": "a:1", "security.protocol": "SSL", "ssl.truststore.type": "PEM", "ssl.truststore.location": authorities,
	})
	build := func(cert string) *Client {
		t.Helper()
		if err := os.WriteFile(authorities, []byte(cert), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Build(settings, Admin)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	cert := authorityPEM(t)
	first := build(cert)
	if !first.SameCredentials(build(cert)) {
		t.Error("the same file makes other credentials")
	}
	if first.SameCredentials(build(cert + authorityPEM(t))) {
		t.Error("another file makes the same credentials")
	}
	prefixed := config.Settings{}
	for key, s := range settings {
		prefixed["source.cluster."+key] = s
	}
	if files := Files(prefixed); !slices.Equal(files, []File{{authorities, authorities}}) {
		t.Errorf("files %v", files)
	}
}

func TestOnlySettingsOfSecurityChangeInWhatRuns(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]bool{
		"sasl.jaas.config": true, "source.cluster.sasl.jaas.config": true, "producer.override.ssl.keystore.key": true, "target.cluster.security.protocol": true,
		"source.cluster.bootstrap.servers": false, "acks": false, "topics": false, "transforms.ssl": false,
	} {
		if got := Rotates(key); got != want {
			t.Errorf("%s: %t", key, got)
		}
	}
}
