package clientconfig

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"barnabas/config"
)

// store returns the path of a file of testdata.
func store(name string) string { return filepath.Join("testdata", name) }

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(store(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// server answers TLS connections with the certificate called name, and tells for
// each which client certificate it saw, once the client has sent a byte. It wants a certificate of the test's
// authority where mutual is set.
func server(t *testing.T, name string, adjust func(*tls.Config)) (address string, seen <-chan string) {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(store(name+".pem"), store(name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(read(t, "ca.pem")))
	c := &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven}
	if adjust != nil {
		adjust(c)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	names := make(chan string, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
			conn := tls.Server(raw, c)
			name := "refused"
			if conn.Handshake() == nil {
				name = "nobody"
				if peers := conn.ConnectionState().PeerCertificates; len(peers) > 0 {
					name = peers[0].Subject.CommonName
				}
			}
			select {
			case names <- name:
			default:
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String(), names
}

// mutual makes a server ask for a client certificate.
func mutual(c *tls.Config) { c.ClientAuth = tls.RequireAndVerifyClientCert }

// connect builds an admin client with TLS settings and dials address with it.
func connect(t *testing.T, address string, written map[string]string) (*Client, error) {
	t.Helper()
	all := map[string]string{"bootstrap.servers": address, "security.protocol": "SSL"}
	for k, v := range written {
		all[k] = v
	}
	c, err := Build(config.Literal(all), Admin)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := c.Dial(ctx, "tcp", address)
	if err == nil {
		// With TLS 1.3 a client learns with its first read that it was refused.
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = conn.Read(make([]byte, 1))
		conn.Close()
	}
	return c, err
}

func TestKeystoresLogIn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		written map[string]string
		user    string
	}{
		{"JKS", map[string]string{"location": "keystore.jks", "password": "store-pass"}, "orders-ro"},
		{"JKS whose key has a password of its own", map[string]string{"location": "keystore-keypass.jks", "password": "store-pass", "key.password": "key-pass"}, "orders-ro"},
		{"JKS with a trusted entry", map[string]string{"location": "combined.jks", "password": "store-pass"}, "orders-ro"},
		{"JKS with two keys", map[string]string{"location": "two.jks", "password": "store-pass"}, "orders-rsa"},
		{"PKCS12 of keytool", map[string]string{"location": "keystore.p12", "password": "store-pass", "type": "PKCS12"}, "orders-ro"},
		{"PKCS12 of keytool with a trusted entry", map[string]string{"location": "combined.p12", "password": "store-pass", "type": "pkcs12"}, "orders-ro"},
		{"PKCS12 of OpenSSL", map[string]string{"location": "keystore-openssl.p12", "password": "store-pass", "type": "PKCS12"}, "orders-ro"},
		{"PKCS12 of old OpenSSL, RSA", map[string]string{"location": "keystore-legacy.p12", "password": "store-pass", "type": "PKCS12"}, "orders-rsa"},
		{"PKCS12 called JKS", map[string]string{"location": "keystore.p12", "password": "store-pass"}, "orders-ro"},
		{"JKS called PKCS12", map[string]string{"location": "keystore.jks", "password": "store-pass", "type": "PKCS12"}, "orders-ro"},
		{"PEM file", map[string]string{"location": "keystore.pem", "type": "PEM"}, "orders-ro"},
		{"encrypted PEM file", map[string]string{"location": "keystore-encrypted.pem", "type": "PEM", "key.password": "key-pass"}, "orders-ro"},
		{"PEM file with PKCS1", map[string]string{"location": "keystore-traditional.pem", "type": "PEM"}, "orders-rsa"},
		{"PEM file with PBES1", map[string]string{"location": "keystore-pbes1.pem", "type": "PEM", "key.password": "key-pass"}, "orders-ro"},
		{"PEM file with OpenSSL's old encryption", map[string]string{"location": "keystore-dek.pem", "type": "PEM", "key.password": "key-pass"}, "orders-rsa"},
		{"inline PEM", map[string]string{"type": "PEM", "key": read(t, "client.key"), "certificate.chain": read(t, "client.pem")}, "orders-ro"},
		{"inline PEM on one line", map[string]string{
			"type": "PEM", "key": strings.ReplaceAll(read(t, "encrypted.key"), "\n", " "),
			"certificate.chain": strings.ReplaceAll(read(t, "client.pem"), "\n", " "), "key.password": "key-pass",
		}, "orders-ro"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address, seen := server(t, "server", mutual)
			c, err := connect(t, address, keystoreSettings(tt.written))
			if err != nil {
				t.Fatal(err)
			}
			if got := <-seen; got != tt.user {
				t.Errorf("the broker saw %q, want %q", got, tt.user)
			}
			want := map[string]string{
				"orders-ro": `User:CN=orders-ro,OU=Orders,O=Shop\, Inc,C=SE`, "orders-rsa": "User:CN=orders-rsa,O=Shop",
			}[tt.user]
			if !strings.Contains(c.Report.Principal, want) {
				t.Errorf("principal %q, want %q", c.Report.Principal, want)
			}
		})
	}
}

// keystoreSettings spells short names out and adds a truststore.
func keystoreSettings(short map[string]string) map[string]string {
	written := map[string]string{"ssl.truststore.location": store("truststore.jks"), "ssl.truststore.password": "trust-pass"}
	for k, v := range short {
		switch k {
		case "location":
			v = store(v)
			fallthrough
		default:
			written["ssl.keystore."+k] = v
		case "key.password":
			written["ssl.key.password"] = v
		}
	}
	return written
}

// cut returns the path of the first half of a file of testdata.
func cut(t *testing.T, name string) string {
	t.Helper()
	data := read(t, name)
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(data[:len(data)/2]), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBadKeystoresAreExplained(t *testing.T) {
	t.Parallel()
	const location = "ssl.keystore.location: keystore: "
	for _, tt := range []struct {
		name    string
		written map[string]string
		want    string
	}{
		{"JKS, wrong password", map[string]string{"location": "keystore.jks", "password": "canary-pass"}, location + errStorePassword.Error()},
		{"JKS, wrong key password", map[string]string{"location": "keystore-keypass.jks", "password": "store-pass"}, location + errKeyPassword.Error()},
		{"PKCS12, wrong password", map[string]string{"location": "keystore.p12", "password": "canary-pass"}, location + errStorePassword.Error()},
		{"old PKCS12, wrong password", map[string]string{"location": "keystore-legacy.p12", "password": "canary-pass"}, location + errStorePassword.Error()},
		{"PEM, wrong key password", map[string]string{"location": "keystore-encrypted.pem", "type": "PEM", "key.password": "canary-pass"}, location + errKeyPassword.Error()},
		{"PEM, no key password", map[string]string{"location": "keystore-encrypted.pem", "type": "PEM"}, "ssl.key.password is not set"},
		{"PEM, password of the store", map[string]string{"location": "keystore.pem", "type": "PEM", "password": "canary-pass"}, "SSL key store password cannot be specified with PEM format, only key password may be specified."},
		{"PEM, PBES1, wrong key password", map[string]string{"location": "keystore-pbes1.pem", "type": "PEM", "key.password": "canary-pass"}, location + errKeyPassword.Error()},
		{"PEM, OpenSSL's old encryption, wrong key password", map[string]string{"location": "keystore-dek.pem", "type": "PEM", "key.password": "canary-pass"}, location + errKeyPassword.Error()},
		{"PEM, OpenSSL's old encryption, no key password", map[string]string{"location": "keystore-dek.pem", "type": "PEM"}, "ssl.key.password is not set"},
		{"PKCS12, wrong key password", map[string]string{"location": "keystore.p12", "password": "store-pass", "key.password": "canary-pass"}, location + errKeyPassword.Error()},
		{"PEM, key of another", map[string]string{"location": "keystore-mismatch.pem", "type": "PEM"}, errNotPair.Error()},
		{"PEM without a key", map[string]string{"location": "ca.pem", "type": "PEM"}, "Private key not provided"},
		{"PEM without a certificate", map[string]string{"location": "client.key", "type": "PEM"}, errNoCertificate.Error()},
		{"PEM called JKS", map[string]string{"location": "keystore.pem", "password": "x"}, "it is PEM, but the type is set to JKS"},
		{"JKS called PEM", map[string]string{"location": "keystore.jks", "type": "PEM"}, "it is JKS, but the type is set to PEM"},
		{"JKS that only trusts", map[string]string{"location": "truststore.jks", "password": "trust-pass"}, "there is no private key in it"},
		{"PKCS12 that only trusts", map[string]string{"location": "truststore.p12", "password": "trust-pass"}, "there is no private key in it"},
		{"JCEKS", map[string]string{"location": "keystore.jceks", "password": "store-pass"}, "not supported yet: JCEKS"},
		{"unknown type", map[string]string{"location": "keystore.jks", "type": "BKS", "password": "x"}, "ssl.keystore.type: not supported yet: a store of type BKS"},
		{"no store at all", map[string]string{"location": "make.sh", "password": "x"}, "it is neither JKS, PKCS12 nor PEM"},
		{"no file", map[string]string{"location": "absent.jks", "password": "x"}, "no such file or directory"},
		{"a folder", map[string]string{"location": ".", "password": "x"}, "it is not a file"},
		{"no password", map[string]string{"location": "keystore.jks"}, "SSL key store is specified, but key store password is not specified."},
		{"only a password", map[string]string{"password": "canary-pass"}, "SSL key store is not specified, but key store password is specified."},
		{"key without chain", map[string]string{"type": "PEM", "key": "canary-pass"}, "certificate chain is not specified."},
		{"chain without key", map[string]string{"type": "PEM", "certificate.chain": "canary-pass"}, "private key is not specified"},
		{"inline key, JKS", map[string]string{"key": "canary-pass", "certificate.chain": "x"}, "SSL private key can be specified only for PEM, but key store type is JKS."},
		{"inline key and file", map[string]string{"type": "PEM", "key": "canary-pass", "certificate.chain": "x", "location": "keystore.pem"}, "Both SSL key store location and separate private key are specified."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := build(Admin, withTLS(keystoreSettings(tt.written)))
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "canary") {
				t.Errorf("got error %v, want %q", err, tt.want)
			}
		})
	}
	for _, name := range []string{"keystore.jks", "keystore.p12", "keystore-openssl.p12", "keystore.pem"} {
		written := map[string]string{"ssl.keystore.location": cut(t, name), "ssl.keystore.password": "store-pass"}
		if strings.HasSuffix(name, ".pem") {
			written = map[string]string{"ssl.keystore.location": cut(t, name), "ssl.keystore.type": "PEM"}
		}
		_, err := build(Admin, withTLS(written))
		if err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("half of %s: got error %v, want that it is damaged", name, err)
		}
	}
}

func withTLS(written map[string]string) map[string]string {
	written["security.protocol"] = "SSL"
	return written
}

func TestTruststoresDecide(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		written map[string]string // of ssl.truststore.
		want    string            // part of the error, or empty
	}{
		{"JKS", map[string]string{"location": store("truststore.jks"), "password": "trust-pass"}, ""},
		{"JKS without password", map[string]string{"location": store("truststore.jks")}, ""},
		{"JKS, wrong password", map[string]string{"location": store("truststore.jks"), "password": "x"}, errStorePassword.Error()},
		{"JKS, password beyond ASCII", map[string]string{"location": store("truststore-unicode.jks"), "password": "pässwörd€"}, ""},
		{"JKS that trusts another", map[string]string{"location": store("truststore-other.jks"), "password": "trust-pass"}, "unknown authority"},
		{"JKS with keys, too", map[string]string{"location": store("combined.jks"), "password": "store-pass"}, ""},
		{"JKS with a key only", map[string]string{"location": store("keystore.jks"), "password": "store-pass"}, "unknown authority"},
		{"PKCS12", map[string]string{"location": store("truststore.p12"), "password": "trust-pass", "type": "PKCS12"}, ""},
		{"PKCS12 called JKS", map[string]string{"location": store("truststore.p12"), "password": "trust-pass"}, ""},
		{"PKCS12 without password", map[string]string{"location": store("truststore.p12")}, errStorePassword.Error()},
		{"PKCS12 without Java's mark", map[string]string{"location": store("truststore-unmarked.p12"), "password": "trust-pass"}, "not marked as trusted"},
		{"PKCS12 with keys, too", map[string]string{"location": store("combined.p12"), "password": "store-pass"}, ""},
		{"PEM file", map[string]string{"location": store("truststore.pem"), "type": "PEM"}, ""},
		{"PEM inline", map[string]string{"certificates": read(t, "truststore.pem"), "type": "PEM"}, ""},
		{"PEM inline on one line", map[string]string{"certificates": strings.ReplaceAll(read(t, "truststore.pem"), "\n", " "), "type": "PEM"}, ""},
		{"PEM inline, damaged", map[string]string{"certificates": read(t, "ca.pem")[:300], "type": "PEM"}, "damaged"},
		{"PEM inline, JKS", map[string]string{"certificates": read(t, "ca.pem")}, "only for PEM"},
		{"PEM, password", map[string]string{"location": store("ca.pem"), "type": "PEM", "password": "x"}, "cannot be specified for PEM"},
		{"PEM twice", map[string]string{"location": store("ca.pem"), "type": "PEM", "certificates": "x"}, "Both SSL trust store location"},
		{"only a password", map[string]string{"password": "x"}, "SSL trust store is not specified"},
		{"the system's", nil, "unknown authority"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address, seen := server(t, "server", nil)
			written := map[string]string{}
			for k, v := range tt.written {
				written["ssl.truststore."+k] = v
			}
			_, err := connect(t, address, written)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got error %v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := <-seen; got != "nobody" {
				t.Errorf("the broker saw %q, want nobody", got)
			}
		})
	}
}

func TestHostNamesAreCheckedAsJavaDoes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, cert, host, algorithm string
		want                        string
	}{
		{"DNS name", "server", "localhost", "https", ""},
		{"IP address", "server", "127.0.0.1", "HTTPS", ""},
		{"common name, no DNS names", "server-cn", "localhost", "https", ""},
		{"common name is no address", "server-cn", "127.0.0.1", "https", "doesn't contain any IP SANs"},
		{"DNS names beat the common name", "server-elsewhere", "localhost", "https", "not localhost"},
		{"unchecked", "server-elsewhere", "localhost", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address, _ := server(t, tt.cert, nil)
			_, port, _ := net.SplitHostPort(address)
			_, err := connect(t, net.JoinHostPort(tt.host, port), map[string]string{
				"ssl.endpoint.identification.algorithm": tt.algorithm,
				"ssl.truststore.type":                   "PEM", "ssl.truststore.location": store("ca.pem"),
			})
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want %q", err, tt.want)
			}
		})
	}
}

// TestChainIsCheckedWithoutHostName is what an empty
// ssl.endpoint.identification.algorithm must not turn off.
func TestChainIsCheckedWithoutHostName(t *testing.T) {
	t.Parallel()
	address, _ := server(t, "server", nil)
	_, err := connect(t, address, map[string]string{
		"ssl.endpoint.identification.algorithm": "",
		"ssl.truststore.type":                   "PEM", "ssl.truststore.location": store("other-ca.pem"),
	})
	if err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("got error %v, want that the authority is unknown", err)
	}
}

func TestProtocolsAndSuites(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		protocols, suites string
		server            func(*tls.Config)
		works             bool
	}{
		{"TLSv1.2,TLSv1.3", "", nil, true},
		{"TLSv1.2", "", func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, false},
		{"TLSv1.3", "", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, false},
		{"TLSv1.2,TLSv1.3", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, false},
		{"TLSv1.2,TLSv1.3", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,TLS_NO_SUCH", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, true},
		{"TLSv1.2,TLSv1.3", "TLS_AES_256_GCM_SHA384", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, false},
		{"TLSv1.2,TLSv1.3", "TLS_AES_256_GCM_SHA384", nil, true},
		{"TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", func(c *tls.Config) {
			c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
		}, false},
	} {
		address, _ := server(t, "server", tt.server)
		c, err := connect(t, address, map[string]string{
			"ssl.enabled.protocols": tt.protocols, "ssl.cipher.suites": tt.suites,
			"ssl.truststore.type": "PEM", "ssl.truststore.location": store("ca.pem"),
		})
		if (err == nil) != tt.works {
			t.Errorf("protocols %q, suites %q: got error %v, want it to work: %v", tt.protocols, tt.suites, err, tt.works)
		}
		if err == nil && strings.Contains(tt.suites, "NO_SUCH") && !strings.Contains(c.Report.Adapted[0].Message, "TLS_NO_SUCH") {
			t.Errorf("the unknown suite is not reported: %v", c.Report.Adapted)
		}
	}
}

// FuzzBags feeds what is inside of a PKCS12 store, past its MAC and its encryption, and keys.
func FuzzBags(f *testing.F) {
	data, err := os.ReadFile(store("keystore-openssl.p12"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data[60:])
	f.Add([]byte("\x30\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var file pkcs12File
		if file.add(data) == nil {
			file.trusted()
			if len(file.keys) < 3 {
				_, _ = file.pairs("x")
			}
		}
		_, _ = contentInfo{Type: oidEncryptedData, Content: asn1.RawValue{Bytes: data}}.open("x")
		_, _ = decryptPKCS8(data, "x")
	})
}

// FuzzStores feeds damaged stores to every reader; passwords are those of the
// seeds, so that the inside is reached.
func FuzzStores(f *testing.F) {
	for _, name := range []string{"keystore.jks", "two.jks", "truststore.jks", "keystore.pem", "keystore-encrypted.pem", "truststore.pem", "combined.p12", "keystore-openssl.p12"} {
		data, err := os.ReadFile(store(name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	f.Add([]byte("-----BEGIN CERTIFICATE----- AAAA -----END CERTIFICATE-----"))
	f.Fuzz(func(t *testing.T, data []byte) {
		real := sniff(data)
		trusted, err := openTruststore(data, real, "", false)
		if err == nil && len(trusted) == 0 {
			t.Error("a truststore without certificates was taken")
		}
		if real == jksStore {
			store, err := readJKS(data, "", false)
			for _, k := range store.keys {
				if _, keyErr := k.open("store-pass"); err == nil && keyErr == nil && len(k.sealed) < 40 {
					t.Error("a key came out of nothing")
				}
			}
		}
		pairs, err := openKeystore(data, real, "store-pass", "key-pass")
		for _, p := range pairs {
			if err == nil && p.key == nil {
				t.Error("a pair without a key was taken")
			}
		}
	})
}
