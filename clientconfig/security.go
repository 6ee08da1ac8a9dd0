package clientconfig

import (
	"crypto/tls"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
)

// security is what the security settings of a client come to.
type security struct {
	opts []kgo.Opt
	tls  *tls.Config // nil for plain TCP
	user config.Secret
}

// security reads security.protocol and what it calls for.
func (r *reader) security() security {
	const key = "security.protocol"
	protocol := strings.ToUpper(r.text(key, "PLAINTEXT"))
	r.report.Protocol = protocol
	r.report.Principal = "User:ANONYMOUS"
	var s security
	switch protocol {
	case "PLAINTEXT":
		return s
	}
	r.fail(key, "not supported yet")
	return s
}
