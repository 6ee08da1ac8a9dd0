package clientconfig

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"slices"
	"strings"
)

// tlsSettings make the TLS configuration for a connection to one host.
type tlsSettings struct {
	base *tls.Config
	// roots are the trusted certificates; nil trusts what the system trusts.
	roots *x509.CertPool
	// checkHost says whether the certificate must be for the host
	// (ssl.endpoint.identification.algorithm=https).
	checkHost bool
}

// config returns the configuration for a connection to host, a name or an IP
// address.
func (s *tlsSettings) config(host string) *tls.Config {
	c := s.base.Clone()
	c.ServerName = host
	// The certificate is always checked, by verify: crypto/tls has no mode that checks the
	// chain and leaves out the host, which an empty ssl.endpoint.identification.algorithm asks for.
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(cs tls.ConnectionState) error { return s.verify(host, cs.PeerCertificates) }
	return c
}

// verify checks a server's certificates as Java does.
func (s *tlsSettings) verify(host string, certs []*x509.Certificate) error {
	if len(certs) == 0 {
		return errors.New("the broker sent no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	if _, err := certs[0].Verify(x509.VerifyOptions{Roots: s.roots, Intermediates: between}); err != nil {
		return err
	}
	if !s.checkHost {
		return nil
	}
	return verifyHost(certs[0], host)
}

// verifyHost checks that the certificate is for host. Like Java's
// HostnameChecker, and unlike Go, it takes the common name of a certificate that has no DNS names: keytool
// makes such certificates when told nothing, and many brokers have them.
func verifyHost(cert *x509.Certificate, host string) error {
	host, _, _ = strings.Cut(host, "%") // an IPv6 zone
	err := cert.VerifyHostname(host)
	if err == nil || net.ParseIP(host) != nil || len(cert.DNSNames) > 0 || cert.Subject.CommonName == "" {
		return err
	}
	named := *cert
	named.DNSNames = []string{cert.Subject.CommonName}
	if named.VerifyHostname(host) == nil {
		return nil
	}
	return err
}

// tls reads the settings of TLS.
func (r *reader) tls() *tlsSettings {
	s := &tlsSettings{base: &tls.Config{}}
	switch algorithm := r.text("ssl.endpoint.identification.algorithm", "https"); strings.ToLower(algorithm) {
	case "https":
		s.checkHost = true
	case "":
		r.adapt("ssl.endpoint.identification.algorithm", "the broker's certificate is checked, its host name is not")
	default:
		r.invalid("ssl.endpoint.identification.algorithm", "it may be https, or empty")
	}
	r.protocols(s.base)
	r.cipherSuites(s.base)
	s.roots = r.truststore()
	if pairs := r.keystore(); len(pairs) > 0 {
		s.base.Certificates = pairs
		names := make([]string, len(pairs))
		for i, p := range pairs {
			names[i] = "User:" + distinguishedName(p.Leaf)
		}
		r.report.Principal = strings.Join(names, " or ") // the broker's authorities and ciphers choose
	}
	return s
}

// distinguishedName returns a certificate's subject in the form of RFC 2253, as
// Kafka's DefaultKafkaPrincipalBuilder takes it without mapping rules.
func distinguishedName(cert *x509.Certificate) string {
	var name pkix.RDNSequence
	if rest, err := asn1.Unmarshal(cert.RawSubject, &name); err != nil || len(rest) > 0 {
		return cert.Subject.String()
	}
	return name.String()
}

// tlsVersions are Java's names of the protocols.
var tlsVersions = map[string]uint16{
	"TLSv1": tls.VersionTLS10, "TLSv1.1": tls.VersionTLS11, "TLSv1.2": tls.VersionTLS12, "TLSv1.3": tls.VersionTLS13,
}

// protocols reads ssl.enabled.protocols and ssl.protocol.
func (r *reader) protocols(c *tls.Config) {
	const key = "ssl.enabled.protocols"
	var versions []uint16
	for _, name := range r.list(key, "TLSv1.2", "TLSv1.3") {
		switch v, ok := tlsVersions[name]; {
		case ok:
			versions = append(versions, v)
		case name == "SSLv3" || name == "SSLv2Hello" || name == "SSLv2":
			r.adapt(key, "%s is left out: no broker should speak it", name)
		default:
			r.invalid(key, "its entries may be TLSv1.3, TLSv1.2, TLSv1.1, TLSv1")
			return
		}
	}
	if len(versions) == 0 {
		r.invalid(key, "none of its protocols can be used")
		return
	}
	c.MinVersion, c.MaxVersion = slices.Min(versions), slices.Max(versions)
	for v := c.MinVersion; v < c.MaxVersion; v++ {
		if !slices.Contains(versions, v) {
			r.adapt(key, "%s is used too: only a range is possible here", tls.VersionName(v))
		}
	}
	if key := "ssl.protocol"; r.has(key) {
		name := r.text(key, "")
		if _, ok := tlsVersions[name]; !ok && !slices.Contains([]string{"TLS", "SSL", "SSLv2", "SSLv3"}, name) {
			r.invalid(key, "it may be TLSv1.3, TLSv1.2, TLSv1.1, TLSv1 or TLS")
			return
		}
		r.ignore(key, "ssl.enabled.protocols decides, as in Java")
	}
}

// cipherSuites reads ssl.cipher.suites. Java's names are IANA's, as Go's are, but
// for the oldest, which begin with SSL_ there. Go does not let a client choose among the suites of TLS
// 1.3, only whether that protocol is spoken.
func (r *reader) cipherSuites(c *tls.Config) {
	const key = "ssl.cipher.suites"
	names := r.list(key)
	if len(names) == 0 {
		return
	}
	ids := map[string]uint16{}
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		ids[s.Name] = s.ID
	}
	modern := false
	for _, name := range names {
		id, ok := ids[name]
		if !ok {
			id, ok = ids["TLS_"+strings.TrimPrefix(name, "SSL_")]
		}
		switch {
		case !ok && strings.HasPrefix(name, "TLS_EMPTY_RENEGOTIATION_INFO"):
		case !ok:
			r.adapt(key, "%s is left out: there is no such suite here", r.entry(key, name))
		case id>>8 == 0x13:
			modern = true
		default:
			c.CipherSuites = append(c.CipherSuites, id)
		}
	}
	old := len(c.CipherSuites) > 0
	switch {
	case !modern && !old:
		r.invalid(key, "none of its suites can be used")
	case !modern && c.MinVersion > tls.VersionTLS12, !old && c.MaxVersion < tls.VersionTLS13:
		r.invalid(key, "none of its suites is for a protocol of ssl.enabled.protocols")
	case !modern:
		c.MaxVersion = min(c.MaxVersion, tls.VersionTLS12)
	case !old:
		c.MinVersion = tls.VersionTLS13
	default:
		if c.MaxVersion == tls.VersionTLS13 {
			r.adapt(key, "with TLS 1.3 all of its suites are used")
		}
	}
}

// entry returns what may be shown of one entry of a list.
func (r *reader) entry(key, entry string) string {
	if len(r.report.References[key]) > 0 {
		return "an entry of " + r.written(key)
	}
	return entry
}
