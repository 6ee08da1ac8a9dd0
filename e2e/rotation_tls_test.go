package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/e2e/kafka"
	"barnabas/e2e/oracle"
)

// issuer signs certificates, as PEM keystores.
type issuer struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newIssuer(t *testing.T, name string) issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := issuer{t: t, key: key}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// pem is the authority's certificate.
func (a issuer) pem() string { return block("CERTIFICATE", a.cert.Raw) }

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// pair is a new private key and its certificate, as a PEM keystore.
func (a issuer) pair(name string, serial int64) string {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return block("PRIVATE KEY", private) + block("CERTIFICATE", der)
}

// store puts a keystore in the place of one, at once, and returns its version.
func (e *Env) store(path, text string) (version string) {
	e.t.Helper()
	e.Must(os.WriteFile(path+".next", []byte(text), 0o600))
	info, err := os.Stat(path + ".next")
	e.Must(err)
	e.Must(os.Rename(path+".next", path))
	return info.ModTime().UTC().Format("2006-01-02T15:04:05.000000Z")
}

func TestCertificatesChangeWithoutARestart(t *testing.T) {
	t.Parallel()
	e := New(t, 4*time.Minute)
	ca := newIssuer(t, "ca")
	dir := t.TempDir()
	for name, text := range map[string]string{"broker.pem": ca.pair("broker", 2), "ca.pem": ca.pem()} {
		e.Must(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	const listener = "MUTUAL"
	tls := func(key string) string { return "listener.name.mutual.ssl." + key }
	broker, err := kafka.Start(t.Context(), kafka.Spec{
		Name: "mutual", Dir: filepath.Join(dir, "data"), Listeners: []kafka.Listener{{Name: listener}}, Properties: map[string]string{
			"listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAIN:PLAINTEXT," + listener + ":SSL",
			tls("keystore.type"):             "PEM", tls("keystore.location"): filepath.Join(dir, "broker.pem"),
			tls("truststore.type"): "PEM", tls("truststore.location"): filepath.Join(dir, "ca.pem"), tls("client.auth"): "required",
		},
	})
	e.Must(err)
	t.Cleanup(broker.Kill)
	topic := e.Topic(broker, "orders", 3)
	target := e.User(e.Target, "rw", WriteTopics("src."+topic)...)
	keystore := e.Secret("client.pem", ca.pair("client", 3))
	config := e.Mirror(Identity{}, target, topic, 2)
	for key := range config {
		if strings.HasPrefix(key, "source.cluster.s") {
			delete(config, key)
		}
	}
	f := e.Fleet(FleetOptions{Size: 2})
	d := &drill{Env: e, f: f, name: e.Prefix, tasks: 2}
	f.Create(e.Prefix, config.With(map[string]string{
		"source.cluster.alias": "src", "source.cluster.bootstrap.servers": broker.Address(listener), "source.cluster.security.protocol": "SSL",
		"source.cluster.ssl.keystore.type": "PEM", "source.cluster.ssl.keystore.location": keystore,
		"source.cluster.ssl.truststore.type": "PEM", "source.cluster.ssl.truststore.location": filepath.Join(dir, "ca.pem"),
	}))
	f.Await(e.Prefix, "RUNNING", 2, 60*time.Second)
	client, err := broker.Client()
	e.Must(err)
	defer client.Close()
	written := 0
	write := func() {
		for range 300 {
			client.Produce(t.Context(), &kgo.Record{Topic: topic, Value: fmt.Append(nil, "record ", written)}, nil)
			written++
		}
		e.Must(client.Flush(t.Context()))
	}
	write()
	runs := func() int { return f.lines("generation=", "msg=running", "connector="+e.Prefix) }
	before := runs()
	for i := range int64(2) {
		t.Logf("certificate %d is used after %s", i, d.rotated("reference="+keystore, e.store(keystore, ca.pair("client", 4+i))))
		write()
	}
	foreign := e.store(keystore, newIssuer(t, "ca").pair("client", 9)) // same names, another key
	took := e.Until(90*time.Second, "the report of a certificate that the broker does not know", func() string {
		if r := f.Replication(e.Prefix); r.Status != "DEGRADED" || !strings.Contains(r.Reason, "rotation failed: "+keystore) {
			return r.Status + " " + r.Reason
		}
		return ""
	})
	t.Logf("a foreign certificate is reported after %s: %s", took, f.Replication(e.Prefix).Reason)
	write()
	if n := f.lines(`msg="secret rotated"`, foreign); n > 0 {
		t.Errorf("%d tasks use a certificate that the broker does not know", n)
	}
	d.rotated("reference="+keystore, e.store(keystore, ca.pair("client", 10)))
	write()
	var report oracle.Report
	e.Until(2*time.Minute, "the whole copy", func() string {
		report, err = oracle.Compare(t.Context(), oracle.Options{Source: Plain(broker), Target: Plain(e.Target), Topics: map[string]string{topic: "src." + topic}})
		e.Must(err)
		if report.Missing > 0 {
			return report.String()
		}
		return ""
	})
	if !report.Equal() || report.Source != int64(written) {
		t.Errorf("source and target differ: %s", report)
	}
	if after := runs(); after != before {
		t.Errorf("tasks were started %d times while certificates changed", after-before)
	}
}
