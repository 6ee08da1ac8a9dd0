// Package gssapi logs Kafka clients in with Kerberos (SASL GSSAPI), with the key of a keytab or the tickets of a cache. It
// knows no settings: clientconfig reads and guards them.
//
// Easy to get wrong: a logged-in client of gokrb5 renews its ticket in a goroutine of its own, which ends with Close
// of the mechanism; franz-go calls that when its client closes.
package gssapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/jcmturner/gokrb5/v8/client"
	krb5 "github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/credentials"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/kerberos"
)

// Options say who logs in, and to what.
type Options struct {
	// Conf is the path of krb5.conf.
	Conf string
	// Principal is who logs in, with or without its realm. With a ticket cache it may be empty: whose tickets those are.
	Principal string
	// Keytab and TicketCache are paths; one of them is set.
	Keytab, TicketCache string
	// Service is the first part of the brokers' principals: sasl.kerberos.service.name.
	Service string
}

// Mechanism is what a Kafka client authenticates with. The zero value does not work: use New.
type Mechanism struct {
	o Options

	mu     sync.Mutex // held while logging in, so that many connections at once log in once
	client *client.Client
}

var _ sasl.ClosingMechanism = (*Mechanism)(nil)

// New checks krb5.conf and the keytab, if there is one, and remembers. Their files are read again for each login.
func New(o Options) (*Mechanism, error) {
	conf, err := readConf(o.Conf)
	if err != nil {
		return nil, err
	}
	if o.Keytab != "" {
		if _, err := o.withKeytab(conf); err != nil {
			return nil, err
		}
	}
	return &Mechanism{o: o}, nil
}

// Name returns GSSAPI.
func (*Mechanism) Name() string { return "GSSAPI" }

// Authenticate gets a ticket for the broker and begins the exchange. Each KDC is given 5 seconds over UDP and TCP, by gokrb5.
func (m *Mechanism) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for fresh := m.client == nil; ; fresh = true {
		session, first, err := m.begin(ctx, host)
		if err == nil {
			return session, first, nil
		}
		m.drop()
		if fresh || ctx.Err() != nil {
			return nil, nil, refused(fmt.Errorf("SASL GSSAPI: %w", err))
		}
		// The login at hand has come to its end, or its key has changed: once more, with the files as they are.
	}
}

func (m *Mechanism) begin(ctx context.Context, host string) (session sasl.Session, first []byte, err error) {
	defer func() {
		if recover() != nil {
			session, first, err = nil, nil, errors.New("the tickets are damaged")
		}
	}()
	if ctx.Err() != nil {
		return nil, nil, ctx.Err() // the Kafka client is closed: a login would outlive it
	}
	if m.client == nil {
		if m.client, err = m.o.login(); err != nil {
			return nil, nil, err
		}
	}
	auth := kerberos.Auth{Client: m.client, Service: m.o.Service, PersistAfterAuth: true}
	return kerberos.Kerberos(func(context.Context) (kerberos.Auth, error) { return auth, nil }).Authenticate(ctx, host)
}

// refusal is an error by which a KDC refuses whom or what it was asked for, in place of the broker; callers judge it alike.
type refusal struct{ error }

func (r refusal) Unwrap() []error { return []error{r.error, kerr.SaslAuthenticationFailed} }

// refused marks refusals. The library keeps of a KDC's error only the text.
func refused(err error) error {
	if text := err.Error(); strings.Contains(text, "KDC_ERR_") && !strings.Contains(text, "KDC_ERR_SVC_UNAVAILABLE") {
		return refusal{err}
	}
	return err
}

// Close ends the login.
func (m *Mechanism) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop()
}

func (m *Mechanism) drop() {
	if m.client != nil {
		m.client.Destroy()
		m.client = nil
	}
}

// login makes a client of what the files hold now. It sends nothing.
func (o Options) login() (*client.Client, error) {
	conf, err := readConf(o.Conf)
	if err != nil {
		return nil, err
	}
	if o.Keytab != "" {
		return o.withKeytab(conf)
	}
	return o.withTickets(conf)
}

// settings of gokrb5: KDCs of Active Directory do not take part in FAST negotiation, and gokrb5 refuses those by default.
var settings = client.DisablePAFXFAST(true)

func (o Options) withKeytab(conf *krb5.Config) (*client.Client, error) {
	name, realm := split(o.Principal, conf)
	if name == "" || realm == "" {
		return nil, errors.New("a login with a keytab needs the principal, with its realm unless krb5.conf has a default_realm")
	}
	data, err := readFile(o.Keytab)
	if err != nil {
		return nil, fmt.Errorf("read the keytab: %w", err)
	}
	table := keytab.New()
	if err := unmarshal(func() error { return table.Unmarshal(data) }); err != nil {
		return nil, errors.New("the keytab is damaged, or none")
	}
	var holds []string
	for _, e := range table.Entries {
		p := strings.Join(e.Principal.Components, "/") + "@" + e.Principal.Realm
		if p == name+"@"+realm {
			return client.NewWithKeytab(name, realm, table, conf, settings), nil
		}
		if len(holds) < 5 && (len(holds) == 0 || holds[len(holds)-1] != p) {
			holds = append(holds, p)
		}
	}
	return nil, fmt.Errorf("the keytab has no key for %s@%s; it has keys for %q", name, realm, holds)
}

func (o Options) withTickets(conf *krb5.Config) (*client.Client, error) {
	data, err := readFile(strings.TrimPrefix(o.TicketCache, "FILE:"))
	if err != nil {
		return nil, fmt.Errorf("read the ticket cache: %w", err)
	}
	cache := new(credentials.CCache)
	var made *client.Client
	if err := unmarshal(func() (err error) {
		if err = cache.Unmarshal(data); err == nil {
			made, err = client.NewFromCCache(cache, conf, settings)
		}
		return err
	}); err != nil {
		return nil, errors.New("the ticket cache is damaged, or has no ticket-granting ticket")
	}
	if o.Principal != "" {
		name, realm := split(o.Principal, conf)
		if got := cache.GetClientPrincipalName().PrincipalNameString() + "@" + cache.GetClientRealm(); got != name+"@"+realm {
			return nil, fmt.Errorf("the ticket cache is of %s, not of %s@%s", got, name, realm)
		}
	}
	return made, nil
}

// unmarshal turns a panic of a decoder into an error: a file comes from outside.
func unmarshal(decode func() error) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("damaged")
		}
	}()
	return decode()
}

// split returns a principal's name and realm.
func split(principal string, conf *krb5.Config) (name, realm string) {
	name, realm, ok := strings.Cut(principal, "@")
	if !ok {
		realm = conf.LibDefaults.DefaultRealm
	}
	return name, realm
}

func readConf(path string) (*krb5.Config, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	var conf *krb5.Config
	err = unmarshal(func() (err error) {
		conf, err = krb5.NewFromString(string(text))
		return err
	})
	if _, unsupported := errors.AsType[krb5.UnsupportedDirective](err); err != nil && !unsupported || conf == nil {
		return nil, fmt.Errorf("read %s: it is not a krb5.conf", path)
	}
	return conf, nil
}

// maxFileBytes bounds keytabs, ticket caches and krb5.conf.
const maxFileBytes = 4 << 20

// readFile reads a small regular file. Its errors do not hold the path.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.New("it is not a file")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	switch {
	case err != nil:
		return nil, withoutPath(err)
	case len(data) > maxFileBytes:
		return nil, fmt.Errorf("it has more than %d bytes", maxFileBytes)
	}
	return data, nil
}

func withoutPath(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}
