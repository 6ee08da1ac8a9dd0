package clientconfig

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"barnabas/config"
)

// selfSigned writes a PEM keystore with a certificate of its own for 127.0.0.1.
func selfSigned(t *testing.T, path, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// listening answers TLS handshakes until the test ends.
func listening(t *testing.T, s *ServerTLS) net.Addr {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", s.Server())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = conn.Write([]byte("x"))
			}()
		}
	}()
	return l.Addr()
}

// reach connects and returns whose certificate the listener shows.
func reach(address net.Addr, c *tls.Config) (name string, err error) {
	c = c.Clone()
	c.InsecureSkipVerify = true // whom the client trusts is not the question here
	d := tls.Dialer{Config: c}
	conn, err := d.Dial("tcp", address.String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if n, err := conn.Read(make([]byte, 1)); n == 0 { // with what it has read it may tell of the end
		return "", err
	}
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

// throughPeer connects as another worker does.
func throughPeer(t *testing.T, address net.Addr, s *ServerTLS) error {
	t.Helper()
	conn, err := net.Dial("tcp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	secure, err := s.Handshake(t.Context(), conn, "127.0.0.1")
	if err != nil {
		return err
	}
	defer secure.Close()
	if n, err := secure.Read(make([]byte, 1)); n == 0 {
		return err
	}
	return nil
}

func TestListenerAsksForCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	own := selfSigned(t, filepath.Join(dir, "own.pem"), "own")
	foreign := selfSigned(t, filepath.Join(dir, "foreign.pem"), "foreign")
	base := map[string]string{
		"ssl.keystore.type": "PEM", "ssl.keystore.location": filepath.Join(dir, "own.pem"), "ssl.truststore.type": "PEM", "ssl.truststore.location": filepath.Join(dir, "own.pem"),
	}
	for auth, want := range map[string][3]bool{ // own, foreign, none
		"none": {true, true, true}, "requested": {true, false, true}, "required": {true, false, false},
	} {
		settings := maps.Clone(base)
		settings["ssl.client.auth"] = auth
		s, err := NewServerTLS(config.Literal(settings), "", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		address := listening(t, s)
		for i, c := range []*tls.Config{{Certificates: []tls.Certificate{own}}, {GetClientCertificate: show(foreign)}, {}} {
			if _, err := reach(address, c); (err == nil) != want[i] {
				t.Errorf("ssl.client.auth=%s, client %d: %v", auth, i, err)
			}
		}
		if err := throughPeer(t, address, s); err != nil {
			t.Errorf("ssl.client.auth=%s: another worker is refused: %v", auth, err)
		}
	}
}

// show sends a certificate whether or not the server names its authority.
func show(c tls.Certificate) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }
}

func TestListenerSpeaksWhatJettyDoes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "own.pem")
	selfSigned(t, path, "own")
	base := map[string]string{"ssl.keystore.type": "PEM", "ssl.keystore.location": path}
	with := func(key, value string) map[string]string {
		m := maps.Clone(base)
		m[key] = value
		return m
	}
	for _, row := range []struct {
		name     string
		settings map[string]string
		client   *tls.Config
		ok       bool
	}{
		{"TLS 1.1", base, &tls.Config{MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11}, false},
		{"TLS 1.2", base, &tls.Config{MaxVersion: tls.VersionTLS12}, true},
		{"TLS 1.3", base, &tls.Config{MinVersion: tls.VersionTLS13}, true},
		{"CBC", base, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}, false},
		{"only TLS 1.3", with("ssl.enabled.protocols", "TLSv1.3"), &tls.Config{MaxVersion: tls.VersionTLS12}, false},
		{"TLS 1.1, if it must be", with("ssl.enabled.protocols", "TLSv1.1,TLSv1.2"), &tls.Config{MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11}, false}, // no suite for it
		{"a suite", with("ssl.cipher.suites", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"), &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}, false},
		{"that suite", with("ssl.cipher.suites", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"), &tls.Config{MaxVersion: tls.VersionTLS12}, true},
	} {
		s, err := NewServerTLS(config.Literal(row.settings), "listeners.https.", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		if _, err := reach(listening(t, s), row.client); (err == nil) != row.ok {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

func TestListenerFollowsItsFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "own.pem")
	first := selfSigned(t, path, "first")
	var log bytes.Buffer
	s, err := NewServerTLS(config.Literal(map[string]string{
		"ssl.keystore.type": "PEM", "ssl.keystore.location": path, "ssl.truststore.type": "PEM", "ssl.truststore.location": path, "ssl.client.auth": "required",
	}), "listeners.https.", slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	address := listening(t, s)
	shows := func(want string, with tls.Certificate) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			got, err := reach(address, &tls.Config{GetClientCertificate: show(with)})
			if err == nil && got == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("the listener shows %q, %v; want %q", got, err, want)
			}
		}
	}
	shows("first", first)
	second := selfSigned(t, path, "second")
	shows("second", second)
	if _, err := reach(address, &tls.Config{GetClientCertificate: show(first)}); err == nil {
		t.Error("a certificate that is no longer trusted is let in")
	}
	if err := throughPeer(t, address, s); err != nil {
		t.Errorf("another worker: %v", err)
	}
	if err := os.WriteFile(path, []byte("-----BEGIN CERTIFICATE-----\nhunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.looked = time.Time{}
	s.mu.Unlock()
	shows("second", second)
	s.mu.Lock() // under which it is written
	text := log.String()
	s.mu.Unlock()
	if strings.Count(text, "certificates read again") != 1 || strings.Count(text, "the ones before stay in use") != 1 || strings.Contains(text, "hunter2") {
		t.Errorf("the log is\n%s", text)
	}
	third := selfSigned(t, path, "third")
	shows("third", third)
}

func TestPeerChecksWhomItTalksTo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	selfSigned(t, filepath.Join(dir, "own.pem"), "own")
	selfSigned(t, filepath.Join(dir, "foreign.pem"), "foreign")
	of := func(keystore, truststore string) *ServerTLS {
		s, err := NewServerTLS(config.Literal(map[string]string{
			"ssl.keystore.type": "PEM", "ssl.keystore.location": filepath.Join(dir, keystore), "ssl.truststore.type": "PEM", "ssl.truststore.location": filepath.Join(dir, truststore),
		}), "", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if err := throughPeer(t, listening(t, of("foreign.pem", "own.pem")), of("own.pem", "own.pem")); err == nil || !strings.Contains(err.Error(), "ssl.truststore") {
		t.Errorf("a worker with a foreign certificate: %v", err)
	}
	conn, err := net.Dial("tcp", listening(t, of("own.pem", "own.pem")).String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := of("own.pem", "own.pem").Handshake(t.Context(), conn, "127.0.0.2"); err == nil || !strings.Contains(err.Error(), "rest.advertised.host.name") {
		t.Errorf("a worker under another name: %v", err)
	}
}

func TestListenerErrorsNameTheKey(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "own.pem")
	selfSigned(t, path, "own")
	for _, row := range []struct {
		settings map[string]string
		want     string
	}{
		{nil, "listeners.https.ssl.keystore.location: an https listener needs a keystore"},
		{map[string]string{"ssl.client.auth": "sometimes"}, "listeners.https.ssl.client.auth: Invalid value sometimes"},
		{map[string]string{"ssl.keystore.location": "/gone", "ssl.keystore.password": "hunter2"}, "listeners.https.ssl.keystore.location: read /gone: no such file"},
		{map[string]string{"ssl.keystore.location": path, "ssl.keystore.type": "PEM", "ssl.client.auth": "required"}, "listeners.https.ssl.truststore.location: ssl.client.auth=required needs a truststore"},
		{map[string]string{"ssl.keystore.location": path, "ssl.keystore.type": "PEM", "ssl.enabled.protocols": "TLSv9"}, "listeners.https.ssl.enabled.protocols: "},
		{map[string]string{"ssl.keystore.location": "testdata/keystore.p12", "ssl.keystore.type": "PKCS12", "ssl.keystore.password": "hunter2"}, "listeners.https.ssl.keystore.location: keystore: the password is wrong"},
	} {
		_, err := NewServerTLS(config.Literal(row.settings), "listeners.https.", slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%v: got %v, want %s", row.settings, err, row.want)
		}
	}
	s, err := NewServerTLS(config.Literal(map[string]string{"ssl.keystore.location": path, "ssl.keystore.type": "PEM", "ssl.clientauth": "required"}), "listeners.https.", slog.New(slog.DiscardHandler))
	if err != nil || len(s.Report().Unknown) != 1 || s.Report().Unknown[0].Key != "listeners.https.ssl.clientauth" {
		t.Errorf("an unknown key: %v, %+v", err, s.Report().Unknown)
	}
}
