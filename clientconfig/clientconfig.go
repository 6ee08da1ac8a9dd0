// Package clientconfig turns the settings of Kafka's Java clients, which is what
// every existing configuration holds, into options of franz-go and a report of
// what was understood. It knows security (JAAS, keystores, TLS), the order in
// which layers of settings win, and the policies that say which client settings
// a connector may override. It opens no connection by itself.
//
// Easy to get wrong: a setting's resolved value may be used but never shown.
// Errors and the Report show what its author wrote, and of a password-typed key
// only the references in it.
package clientconfig

import (
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
	"barnabas/connection"
)

// Kind says which of Kafka's Java clients the settings are for.
type Kind string

// The kinds, named like the prefixes of Kafka Connect ("producer.override.").
const (
	Producer Kind = "producer"
	Consumer Kind = "consumer"
	Admin    Kind = "admin"
)

// Client is what one client needs to be made.
type Client struct {
	// Opts configure everything but the connection itself: the caller adds
	// kgo.Dialer with Dial, or with a function that wraps it. A later option wins over an earlier one, so the caller appends its own. What the settings asked for can be
	// read back from a client with its OptValue, e.g. cl.OptValue(kgo.FetchMinBytes).
	Opts []kgo.Opt
	// Dial connects to a broker, and makes the TLS handshake where security.protocol asks for it. It gives up
	// after socket.connection.setup.timeout.ms, which grows with each failure in a row up to
	// socket.connection.setup.timeout.max.ms (KIP-601).
	Dial   DialFunc
	dialer *dialer
	login  *liveLogin // nil without SASL
	// mark and rest are what SameCredentials and SameSettings compare.
	mark, rest []byte
	// User is the SASL user name as it resolved; it is empty without SASL. The
	// Report shows it only where it was written literally.
	User config.Secret
	// Report says what became of each setting.
	Report Report
}

// Report says what became of the settings of one client. It holds no resolved
// value, so it may be logged and shown.
type Report struct {
	Kind Kind
	// Protocol is security.protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
	Protocol string
	// Mechanism is the SASL mechanism, empty without SASL.
	Mechanism string
	// Principal is whom the broker will see, as far as the configuration tells:
	// "User:orders-ro", "User:ANONYMOUS", "User:CN=orders,O=Shop" for mutual TLS. A user name that comes from
	// a reference is shown as that reference: "User:${file:/etc/k/creds:user}".
	Principal string
	// References are the references in each key's value, as written.
	References map[string][]string
	// Adapted are settings that act otherwise than written, with the reason.
	Adapted []config.Problem
	// Meaningless are keys that Kafka knows and that change nothing here, with the reason.
	Meaningless []config.Problem
	// Unknown are keys that Kafka does not know for this kind of client.
	Unknown []UnknownKey
}

// UnknownKey is a key that no Kafka client has.
type UnknownKey struct {
	Key string
	// Nearest is the known key that it resembles most, or empty.
	Nearest string
}

// Error is all that is wrong with the settings of one client, ordered by key. It
// holds no resolved value.
type Error struct {
	Kind     Kind
	Problems []config.Problem
}

// Error joins the problems in one line.
func (e *Error) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		texts[i] = p.Key + ": " + p.Message
	}
	return fmt.Sprintf("%s settings: %s", e.Kind, strings.Join(texts, "; "))
}

// DialWith is Dial over connections that tcp opens.
func (c *Client) DialWith(tcp DialFunc) DialFunc { return c.dialer.over(tcp).dial }

// Build compiles the settings of one client; see Layers for where they come
// from. It reads keystores, and nothing else from outside. The error is an
// *Error naming everything that is wrong.
func Build(settings config.Settings, kind Kind) (*Client, error) {
	switch kind {
	case Producer, Consumer, Admin:
	default:
		return nil, fmt.Errorf("unknown kind of client %q", kind)
	}
	r := newReader(settings, kind)
	c := &Client{}
	r.bootstrap()
	hosts := r.list(connection.HostsKey)
	r.common()
	security := r.security()
	switch kind {
	case Producer:
		r.producer()
	case Consumer:
		r.consumer()
	case Admin:
		r.admin()
	}
	r.classifyRest()
	if err := r.err(); err != nil {
		return nil, err
	}
	c.Opts = append(r.opts, security.opts...)
	c.login = r.login
	c.mark, c.rest = marks(settings, r.stores)
	c.dialer = newDialer(security.tls, r.setupTimeout, r.setupTimeoutMax)
	c.dialer.hosts = hosts
	c.Dial = c.dialer.dial
	c.User = security.user
	c.Report = r.report
	return c, nil
}

// Problems returns what is wrong according to an error of Build, or nil.
func Problems(err error) []config.Problem {
	var e *Error
	if errors.As(err, &e) {
		return e.Problems
	}
	return nil
}
