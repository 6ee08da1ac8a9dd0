package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"barnabas/config"
)

// pemStore writes a keystore in PEM with a certificate of its own.
func pemStore(t *testing.T, name string) (path string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), name+".pem")
	text := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// certificateOf is whose certificate a listener shows; empty if it speaks no TLS.
func certificateOf(t *testing.T, l net.Listener) string {
	t.Helper()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if secure, ok := conn.(*tls.Conn); ok {
			_ = secure.Handshake()
		}
	}()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} // the question is who it is
	conn, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		return ""
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
}

func workerFile(t *testing.T, more map[string]string) config.Worker {
	t.Helper()
	written := map[string]string{
		"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "config.storage.topic": "c", "offset.storage.topic": "o", "status.storage.topic": "s",
	}
	for k, v := range more {
		written[k] = v
	}
	file, problems, _ := config.ParseWorker(config.Literal(written))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return file
}

// Each setting has its own prefix, and without a key behind it the worker's own ssl.* count, as in Connect.
func TestListenersHaveTheirOwnCertificates(t *testing.T) {
	t.Parallel()
	main, admin, plain := pemStore(t, "main"), pemStore(t, "admin"), pemStore(t, "plain")
	all := map[string]string{
		"listeners": "http://127.0.0.1:0,https://127.0.0.1:0", "admin.listeners": "https://127.0.0.1:0", "ssl.keystore.type": "PEM", "ssl.keystore.location": plain,
		"listeners.https.ssl.keystore.type": "PEM", "listeners.https.ssl.keystore.location": main,
	}
	own := map[string]string{"admin.listeners.https.ssl.keystore.type": "PEM", "admin.listeners.https.ssl.keystore.location": admin}
	for _, row := range []struct {
		name string
		more map[string]string
		want []string // listeners, then admin.listeners
	}{
		{"with a prefix of its own", own, []string{"", "main", "admin"}},
		{"without", nil, []string{"", "main", "plain"}},
	} {
		for k, v := range row.more {
			all[k] = v
		}
		file := workerFile(t, all)
		opened, _, err := openListeners("listeners", file.Listeners, file, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		more, _, err := openListeners("admin.listeners", file.AdminListeners, file, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range append(opened, more...) {
			if got := certificateOf(t, l); got != row.want[i] {
				t.Errorf("%s: listener %d shows %q, want %q", row.name, i, got, row.want[i])
			}
			l.Close()
		}
		for k := range row.more {
			delete(all, k)
		}
	}
}

func TestListenersThatCannotOpenNameTheirKey(t *testing.T) {
	t.Parallel()
	file := workerFile(t, map[string]string{"admin.listeners": "http://127.0.0.1:0,https://127.0.0.1:0", "admin.listeners.https.ssl.keystore.location": "/gone", "admin.listeners.https.ssl.keystore.password": "hunter2"})
	opened, _, err := openListeners("admin.listeners", file.AdminListeners, file, slog.New(slog.DiscardHandler))
	if err == nil || len(opened) > 0 || !strings.Contains(err.Error(), "admin.listeners.https.ssl.keystore.location: read /gone") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestAdvertisedAddress(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		more map[string]string
		want string // PORT is that of the listener of the scheme
	}{
		{"http before https", map[string]string{"listeners": "https://127.0.0.1:0,http://127.0.0.1:0"}, "http://127.0.0.1:PORT"},
		{"said", map[string]string{"listeners": "https://127.0.0.1:0,http://127.0.0.1:0", "rest.advertised.listener": "HTTPS"}, "https://127.0.0.1:PORT"},
		{"behind a proxy", map[string]string{"listeners": "http://127.0.0.1:0", "rest.advertised.listener": "https", "rest.advertised.port": "443", "rest.advertised.host.name": "connect.example"}, "https://connect.example:443"},
	} {
		row.more["ssl.keystore.type"], row.more["ssl.keystore.location"] = "PEM", pemStore(t, "any")
		file := workerFile(t, row.more)
		opened, _, err := openListeners("listeners", file.Listeners, file, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range file.Listeners {
			if _, port, _ := net.SplitHostPort(opened[i].Addr().String()); strings.HasPrefix(row.want, l.Scheme+":") {
				row.want = strings.Replace(row.want, "PORT", port, 1)
			}
		}
		if got := advertisedURL(file, opened); got != row.want {
			t.Errorf("%s: got %s, want %s", row.name, got, row.want)
		}
		closeAll(opened)
	}
}
