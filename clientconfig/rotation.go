package clientconfig

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"golang.org/x/sync/errgroup"

	"barnabas/config"
)

// This file changes the credentials of clients that run. A client takes what it logs in with at each new
// connection; so it is replaced there (Adopt), and the caller closes the connections that were made before.

// liveLogin is the SASL mechanism of a client, which can be replaced by one of the same name while connections are made.
type liveLogin struct {
	name string
	now  atomic.Pointer[sasl.Mechanism]

	mu     sync.Mutex
	former []sasl.Mechanism // may be logging in still, so they are closed with the client
}

// live returns m as the mechanism of the client that is being read.
func (r *reader) live(m sasl.Mechanism) sasl.Mechanism {
	r.login = &liveLogin{name: m.Name()}
	r.login.now.Store(&m)
	return r.login
}

// Name is that of the mechanism, which stays.
func (l *liveLogin) Name() string { return l.name }

// Authenticate begins a login with what is to be used now.
func (l *liveLogin) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	return (*l.now.Load()).Authenticate(ctx, host)
}

// Close closes the mechanisms that want to be closed; franz-go calls it with the client.
func (l *liveLogin) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range append(l.former, *l.now.Load()) {
		if c, ok := m.(sasl.ClosingMechanism); ok {
			c.Close()
		}
	}
	l.former = nil
}

// adopt has further logins use what next uses.
func (l *liveLogin) adopt(next *liveLogin) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if before := l.now.Swap(next.now.Load()); before != nil {
		if _, closes := (*before).(sasl.ClosingMechanism); closes {
			l.former = append(l.former, *before)
		}
	}
}

// SameCredentials tells whether both log in with the same, and at the same brokers: the values of all settings of
// SASL and TLS, and what the files hold that they name.
func (c *Client) SameCredentials(other *Client) bool { return hmac.Equal(c.mark, other.mark) }

// SameSettings tells whether both would be made alike, apart from their credentials.
func (c *Client) SameSettings(other *Client) bool { return hmac.Equal(c.rest, other.rest) }

// Adopt has new connections of the clients that were made of c log in with the credentials of next; c itself goes on
// to describe what it was built of. The error says why that needs new clients: nothing has changed then.
func (c *Client) Adopt(next *Client) error {
	switch {
	case c.login == nil && c.Report.Mechanism != "":
		panic("clientconfig: a login that cannot be replaced: it was not made with reader.live")
	case (c.login == nil) != (next.login == nil), (c.dialer.tls() == nil) != (next.dialer.tls() == nil):
		return errors.New("security.protocol has changed")
	case c.login != nil && c.login.name != next.login.name:
		return errors.New("sasl.mechanism has changed")
	}
	if c.login != nil {
		c.login.adopt(next.login)
	}
	if settings := next.dialer.tls(); settings != nil {
		c.dialer.secure.Store(settings)
	}
	return nil
}

// markKey makes marks that tell nothing about the values outside of this process.
var markKey = func() []byte {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails
	return key
}()

// credential says whether key is about how a client logs in, and where.
func credential(key string) bool {
	return key == "bootstrap.servers" || strings.HasPrefix(key, "security.") || strings.HasPrefix(key, "sasl.") || strings.HasPrefix(key, "ssl.")
}

// Rotates says whether a client that runs can take a new value of key, the key of a setting under any prefix: whether
// it is one of TLS or SASL.
func Rotates(key string) bool {
	for {
		if credential(key) && key != "bootstrap.servers" {
			return true
		}
		_, rest, more := strings.Cut(key, ".")
		if !more {
			return false
		}
		key = rest
	}
}

// Fingerprint tells credentials apart: two clients have the same one if SameCredentials. It tells nothing about them.
func (c *Client) Fingerprint() string { return hex.EncodeToString(c.mark) }

// marks are two keyed hashes: of the credentials, with the files that they name and that have been read, and of all else.
func marks(settings config.Settings, stores [][sha256.Size]byte) (mark, rest []byte) {
	one, two := hmac.New(sha256.New, markKey), hmac.New(sha256.New, markKey)
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		to := two
		if credential(key) {
			to = one
		}
		for _, p := range []string{key, settings[key].Value.Reveal()} {
			var length [8]byte
			binary.BigEndian.PutUint64(length[:], uint64(len(p)))
			to.Write(length[:])
			to.Write([]byte(p))
		}
	}
	for _, s := range stores {
		one.Write(s[:])
	}
	return one.Sum(nil), two.Sum(nil)
}

// fileKey says whether key names a file that is read when a client is made.
func fileKey(key string) bool {
	return key == "ssl.keystore.location" || key == "ssl.truststore.location"
}

// File is one that a setting names.
type File struct {
	Written string // as the setting has it, references intact
	Path    string
}

// Files are the files with keys and certificates that settings of clients name, under any prefix, each once.
func Files(settings config.Settings) (files []File) {
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		i := strings.LastIndex(key, "ssl.")
		if i < 0 || !fileKey(key[i:]) || i > 0 && key[i-1] != '.' {
			continue
		}
		f := File{settings[key].Written, javaTrim(settings[key].Value.Reveal())}
		if f.Path != "" && !slices.Contains(files, f) {
			files = append(files, f)
		}
	}
	return files
}

// RefusedError says that a broker has refused credentials, or that they do not trust it: an answer, not a failure to
// get one.
type RefusedError struct {
	Broker string // its address, as far as it is known
	Err    error
}

func (e *RefusedError) Error() string {
	if e.Broker == "" {
		return fmt.Sprintf("refused: %v", e.Err)
	}
	return fmt.Sprintf("refused at broker %s: %v", e.Broker, e.Err)
}

// Unwrap returns what the broker said.
func (e *RefusedError) Unwrap() error { return e.Err }

// proofsAtOnce bounds the brokers that one Prove logs in at together.
const proofsAtOnce = 8

// Prove logs in, once for each Client, since the end closes its mechanism, at every broker of the cluster that can be reached, on fresh connections that dial opens, and closes
// them. It returns nil if at least one has let it in and none has refused it; a *RefusedError if one has.
func (c *Client) Prove(ctx context.Context, dial DialFunc) error {
	client, err := kgo.NewClient(append(slices.Clone(c.Opts), kgo.Dialer(dial), kgo.RequestRetries(0))...)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	defer client.Close()
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return refusal("", err)
	}
	var g errgroup.Group
	g.SetLimit(proofsAtOnce)
	for _, b := range resp.Brokers {
		g.Go(func() error {
			_, err := client.Broker(int(b.NodeID)).Request(ctx, kmsg.NewPtrApiVersionsRequest())
			err = refusal(net.JoinHostPort(b.Host, fmt.Sprint(b.Port)), err)
			if refused := (*RefusedError)(nil); errors.As(err, &refused) {
				return err
			}
			return nil // one that is down proves nothing
		})
	}
	return g.Wait()
}

// Try logs in at one broker, on a fresh connection that dial opens. The error is a *RefusedError if it refuses.
func (c *Client) Try(ctx context.Context, dial DialFunc, address string) error {
	client, err := kgo.NewClient(append(slices.Clone(c.Opts), kgo.SeedBrokers(address), kgo.Dialer(dial), kgo.RequestRetries(0))...)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	defer client.Close()
	_, err = client.SeedBrokers()[0].Request(ctx, kmsg.NewPtrApiVersionsRequest())
	return refusal(address, err)
}

var errHungUp = errors.New("the connection is closed during the login")

// refusal tells a refusal by a broker from other errors.
func refusal(broker string, err error) error {
	var alert *net.OpError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed):
	case errors.Is(err, io.EOF): // Kafka answers; other brokers hang up
		err = errHungUp
	case errors.As(err, &alert) && alert.Op == "remote error": // of TLS: crypto/tls has no type of its own for it
	case errors.As(err, &authority), errors.As(err, &invalid), errors.As(err, &host): // we do not trust the broker
	default:
		return err
	}
	return &RefusedError{broker, err}
}
