package clientconfig

import (
	"crypto/tls"

	"barnabas/config"
)

// ServerTLS makes the TLS of an HTTPS listener out of ssl.* settings, as Kafka's
// RestServer does: keystore, truststore, protocols, cipher suites, ssl.client.auth. peer is for clients that
// call such listeners of other workers. It reads the stores and nothing else; the error is an *Error.
func ServerTLS(settings config.Settings) (server, peer *tls.Config, err error) {
	r := newReader(settings, Admin)
	auth := r.oneOf("ssl.client.auth", "none", "required", "requested", "none")
	s := r.tls()
	if len(r.problems) == 0 && len(s.base.Certificates) == 0 {
		r.fail("ssl.keystore.location", "an https listener needs a keystore with its key and certificate")
	}
	if err := r.err(); err != nil {
		return nil, nil, err
	}
	server = s.base.Clone()
	server.ClientCAs = s.roots
	switch auth {
	case "required":
		server.ClientAuth = tls.RequireAndVerifyClientCert
	case "requested":
		server.ClientAuth = tls.VerifyClientCertIfGiven
	}
	peer = s.base.Clone()
	peer.RootCAs = s.roots
	return server, peer, nil
}
