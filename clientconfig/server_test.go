package clientconfig

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"

	"barnabas/config"
)

func TestListenerAsksForCertificates(t *testing.T) {
	t.Parallel()
	base := map[string]string{
		"ssl.keystore.type": "PKCS12", "ssl.keystore.location": "testdata/keystore.p12", "ssl.keystore.password": "store-pass",
		"ssl.truststore.type": "PEM", "ssl.truststore.location": "testdata/ca.pem", "ssl.client.auth": "required",
	}
	server, peer, err := ServerTLS(config.Literal(base))
	if err != nil {
		t.Fatal(err)
	}
	if server.ClientAuth != tls.RequireAndVerifyClientCert || server.ClientCAs == nil || len(server.Certificates) == 0 {
		t.Error("the listener does not ask for client certificates")
	}
	dial := func(c *tls.Config) error {
		here, there := net.Pipe()
		defer here.Close()
		defer there.Close()
		go func() {
			s := tls.Server(there, server)
			if s.Handshake() == nil {
				_, _ = s.Write([]byte("x"))
			}
			there.Close()
		}()
		c = c.Clone()
		c.ServerName = "localhost"
		c.InsecureSkipVerify = true // whom the client trusts is not the question here
		client := tls.Client(here, c)
		_, err := client.Read(make([]byte, 1))
		return err
	}
	if err := dial(peer); err != nil {
		t.Errorf("a peer is refused: %v", err)
	}
	if err := dial(&tls.Config{}); err == nil {
		t.Error("a client without a certificate is let in")
	}
}

func TestListenerNeedsAKey(t *testing.T) {
	t.Parallel()
	_, _, err := ServerTLS(config.Literal(map[string]string{"ssl.client.auth": "sometimes"}))
	if err == nil || !strings.Contains(err.Error(), "ssl.client.auth") {
		t.Errorf("got %v", err)
	}
	_, _, err = ServerTLS(config.Literal(nil))
	if err == nil || !strings.Contains(err.Error(), "ssl.keystore.location") {
		t.Errorf("got %v", err)
	}
}
