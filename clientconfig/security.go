package clientconfig

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
)

// security is what the security settings of a client come to.
type security struct {
	opts []kgo.Opt
	tls  *tlsSettings // nil for plain TCP
	user config.Secret
}

// security reads security.protocol and what it calls for. Settings of TLS or
// SASL that the protocol does not use are reported as such, not judged, as in Java.
func (r *reader) security() security {
	const key = "security.protocol"
	protocol := strings.ToUpper(r.text(key, "PLAINTEXT"))
	var s security
	switch protocol {
	case "PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL":
	default:
		r.invalid(key, "String must be one of (case insensitive): PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL")
		return s
	}
	r.report.Protocol = protocol
	r.report.Principal = "User:ANONYMOUS"
	if strings.HasSuffix(protocol, "SSL") {
		s.tls = r.tls()
	}
	if strings.HasPrefix(protocol, "SASL") {
		var opt kgo.Opt
		if opt, s.user = r.sasl(); opt != nil {
			s.opts = append(s.opts, opt)
		}
	}
	for k := range r.settings {
		if r.used[k] || !knownKeys[k].kinds.has(r.kind) {
			continue
		}
		if strings.HasPrefix(k, "ssl.") && s.tls == nil || strings.HasPrefix(k, "sasl.") && r.report.Mechanism == "" {
			r.ignore(k, "security.protocol "+protocol+" does not use it")
		}
	}
	return s
}
