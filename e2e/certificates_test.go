package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	pkcs12 "software.sslmate.com/src/go-pkcs12"
)

// authority signs certificates for a test.
type authority struct {
	e    *Env
	name string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// authority makes a certificate authority.
func (e *Env) authority(name string) *authority {
	e.t.Helper()
	a := &authority{e: e, name: name}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	a.cert, a.key = e.certificate(template, nil, nil)
	return a
}

func serial() *big.Int {
	n, _ := rand.Int(rand.Reader, big.NewInt(1<<62)) // never fails
	return n
}

// certificate makes a key and its certificate; without an authority it is its own.
func (e *Env) certificate(template, by *x509.Certificate, byKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	e.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	e.Must(err)
	if by == nil {
		by, byKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, key.Public(), byKey)
	e.Must(err)
	cert, err := x509.ParseCertificate(der)
	e.Must(err)
	return cert, key
}

// certified is a key with its certificate, in memory and as files.
type certified struct {
	cert     *x509.Certificate
	tls      tls.Certificate
	keystore string // PKCS12, with the authority's certificate behind the own
	pem      string // the certificates
	key      string // PKCS8 in PEM
}

// storePassword protects the keystores of a test. It is a secret to be looked for.
func (e *Env) storePassword() string {
	if e.stores == "" {
		e.stores = e.Leak.Plant("keystore")
	}
	return e.stores
}

// issue makes a certified for 127.0.0.1 and localhost, and writes its files.
func (a *authority) issue(name string) certified {
	e := a.e
	e.t.Helper()
	cert, key := e.certificate(&x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name, OrganizationalUnit: []string{"replication"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}, a.cert, a.key)
	c := certified{cert: cert, tls: tls.Certificate{Certificate: [][]byte{cert.Raw, a.cert.Raw}, PrivateKey: key, Leaf: cert}}
	c.keystore, c.pem, c.key = e.file(name+".p12"), e.file(name+".pem"), e.file(name+".key")
	store, err := pkcs12.Modern.Encode(key, cert, []*x509.Certificate{a.cert}, e.storePassword())
	e.Must(err)
	e.replace(c.keystore, store)
	e.replace(c.pem, append(encoded("CERTIFICATE", cert.Raw), encoded("CERTIFICATE", a.cert.Raw)...))
	der, err := x509.MarshalPKCS8PrivateKey(key)
	e.Must(err)
	e.replace(c.key, encoded("PRIVATE KEY", der))
	return c
}

// truststore writes a truststore (PKCS12) with the authority's certificate.
func (a *authority) truststore() string {
	a.e.t.Helper()
	store, err := pkcs12.Modern.EncodeTrustStore([]*x509.Certificate{a.cert}, a.e.storePassword())
	a.e.Must(err)
	path := a.e.file(a.name + "-trust.p12")
	a.e.replace(path, store)
	return path
}

// bothStores is a truststore with the certificates of two authorities.
func (a *authority) bothStores(other *authority) []byte {
	a.e.t.Helper()
	store, err := pkcs12.Modern.EncodeTrustStore([]*x509.Certificate{a.cert, other.cert}, a.e.storePassword())
	a.e.Must(err)
	return store
}

// pem writes the authority's certificate in PEM.
func (a *authority) pem() string {
	a.e.t.Helper()
	path := a.e.file(a.name + "-ca.pem")
	a.e.replace(path, encoded("CERTIFICATE", a.cert.Raw))
	return path
}

// pool trusts the authority.
func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func encoded(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func (e *Env) file(name string) string { return filepath.Join(e.Dir, "secrets", name) }

// replace writes a file as a whole, as whoever rotates certificates does.
func (e *Env) replace(path string, content []byte) {
	e.t.Helper()
	e.Must(os.WriteFile(path+".new", content, 0o600))
	e.Must(os.Rename(path+".new", path))
}
