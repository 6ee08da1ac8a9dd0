// Package vault reads secrets from HashiCorp Vault or OpenBao: KV of both versions, and any other engine that is read with
// GET, such as database credentials, whose leases it keeps. It logs in with a token, an AppRole, a Kubernetes service account
// or a JWT, renews its token and its leases, and logs in again when the token has been revoked.
//
// It speaks Vault's HTTP API itself: it needs four requests of it, and wants the bounds, the quoting of errors and the
// missing goroutines of package remote. hashicorp/vault/api would bring its own retries, environment and watchers.
//
// Easy to get wrong: paths of references come from whoever may write a connector. Where Vault tells of tokens, logins
// and itself (auth/, sys/, identity/, cubbyhole/) they must not reach, or a connector could be given the worker's token.
package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/configprovider/remote"
)

// defaultTTL is how long what was read of KV is good for: Vault has no watch that all its editions know.
const defaultTTL = 10 * time.Second

// The parameters, by Confluent's names first, then by those of Lenses, and short.
var (
	paramAddress   = []string{"vault.address", "vault.addr", "addr", "address"}
	paramNamespace = []string{"vault.namespace", "namespace"}
	paramMethod    = []string{"vault.auth.method", "auth.method"}
	paramMount     = []string{"vault.auth.mount", "auth.mount", "app.role.path", "kubernetes.auth.path", "jwt.provider"}
	paramToken     = []string{"vault.auth.token", "vault.token", "token"}
	paramTokenFile = []string{"vault.auth.token.file"}
	paramRole      = []string{"vault.auth.role", "app.role.id", "kubernetes.role", "jwt.role"}
	paramSecretID  = []string{"vault.auth.secret", "app.role.secret.id"}
	paramSecretIn  = []string{"vault.auth.secret.file"}
	paramJWT       = []string{"vault.auth.jwt", "jwt"}
	paramJWTFile   = []string{"vault.auth.jwt.file", "kubernetes.token.path"}
	paramVersion   = []string{"vault.secrets.version", "vault.engine.version"}
	paramDepth     = []string{"vault.prefix.depth"}
	paramPrefix    = []string{"vault.prefixpath"}
	paramCA        = []string{"vault.ssl.pem_trust_path", "vault.pem"}
	paramCert      = []string{"vault.ssl.pem_cert_path", "vault.client.pem"}
	paramKey       = []string{"vault.ssl.pem_key_path"}
	// paramVerify may only be true: a server that is not verified gets the worker's credentials.
	paramVerify = []string{"vault.ssl.verify.enabled"}
)

// Kind is the provider ${vault:path:key}. environ is where VAULT_ADDR, VAULT_TOKEN, VAULT_NAMESPACE and VAULT_CACERT are
// looked for, in the form of os.Environ.
func Kind(environ []string) configprovider.Kind {
	return configprovider.Kind{
		Name: "vault",
		Classes: []string{
			"io.confluent.csid.config.provider.vault.VaultConfigProvider",
			"com.github.jcustenborder.kafka.config.vault.VaultConfigProvider",
			"io.lenses.connect.secrets.providers.VaultSecretProvider",
		},
		Params: slices.Concat(paramAddress, paramNamespace, paramMethod, paramMount, paramToken, paramTokenFile, paramRole, paramSecretID, paramSecretIn,
			paramJWT, paramJWTFile, paramVersion, paramDepth, paramPrefix, paramCA, paramCert, paramKey, paramVerify,
			[]string{remote.ParamTTL, remote.ParamTimeout, remote.ParamAllowed, remote.ParamPlain}),
		Open: func(params config.Settings) (configprovider.Provider, error) { return open(params, environ) },
	}
}

func open(params config.Settings, environ []string) (configprovider.Provider, error) {
	fromEnvironment(params, environ)
	q := &remote.Params{Settings: params}
	p := &provider{
		namespace: strings.Trim(q.Text(paramNamespace...), "/"), prefix: strings.Trim(q.Text(paramPrefix...), "/"), ttl: q.TTL(defaultTTL), allowed: q.Allowed(),
		mounts: map[string]mount{}, places: map[string]*place{}, kick: make(chan struct{}, 1), depth: 1,
	}
	if !q.Flag(true, paramVerify...) {
		q.Wrong(fmt.Errorf("%s=false: the server is always verified; %s names its authority", paramVerify[0], paramCA[0]))
	}
	address := q.Address("", paramAddress...)
	if address == nil && q.Text(paramAddress...) == "" {
		q.Need(paramAddress[0], "the address of Vault, such as https://vault:8200")
	}
	p.version = map[string]int{"": 0, "1": 1, "2": 2}[q.OneOf([]string{"", "1", "2"}, paramVersion...)]
	if d := q.Text(paramDepth...); d != "" {
		if n := len(strings.Trim(d, "0123456789")); n > 0 || len(d) > 1 || d == "0" {
			q.Wrong(fmt.Errorf("%s=%s: expected 1 to 9", paramDepth[0], d))
		}
		p.depth = int(d[0] - '0')
	}
	p.login = readLogin(q)
	tls := q.TLS(paramCA, paramCert, paramKey)
	timeout := q.Timeout()
	if err := q.Err(); err != nil {
		return nil, err
	}
	p.client = remote.New(remote.Options{Name: "Vault", Base: address, TLS: tls, Timeout: timeout, Redirects: true})
	return p, nil
}

// fromEnvironment takes what Vault's own tools read from the environment for what is not set. A token there is for the method token.
func fromEnvironment(params config.Settings, environ []string) {
	names := map[string][]string{"VAULT_ADDR": paramAddress, "VAULT_TOKEN": slices.Concat(paramToken, paramTokenFile), "VAULT_NAMESPACE": paramNamespace, "VAULT_CACERT": paramCA}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		set := slices.ContainsFunc(names[name], func(n string) bool { _, ok := params[n]; return ok })
		if len(names[name]) > 0 && value != "" && !set {
			params[names[name][0]] = config.Setting{Written: "$" + name, Value: config.NewSecret(value)}
		}
	}
}

type provider struct {
	client    *remote.Client
	namespace string
	prefix    string
	version   int // of KV, 0: as the mount says
	depth     int // segments of a mount's path, where version is given
	ttl       time.Duration
	allowed   remote.Allowed
	login     login
	kick      chan struct{} // holds something when there is something new to renew

	logins sync.Mutex // one login at a time

	mu     sync.Mutex
	token  token
	mounts map[string]mount
	places map[string]*place
}

// mount is where an engine is.
type mount struct {
	path string // with a slash at its end
	kv   int    // 1 or 2; 0: another engine
	at   time.Time
}

// mountValid is how long a mount is taken to be as it was.
const mountValid = 10 * time.Minute

// place is one path that is read.
type place struct {
	gate chan struct{} // holds something while it is read

	mu    sync.Mutex
	found configprovider.Data // all of it
	at    time.Time           // when the reading that found it began
	used  time.Time
	lease lease
}

// maxPlaces bounds what is remembered of paths; those without a lease are forgotten first.
const maxPlaces = 4096

// Read reads a path once for all who ask for it meanwhile. What is leased is kept as long as its lease is renewed.
func (p *provider) Read(ctx context.Context, path string, keys []string) (configprovider.Data, error) {
	if path == "" {
		return configprovider.Data{}, errors.New("that names no path: write it as ${vault:mount/path:key}")
	}
	name, options, err := remote.Pinned(path, "version")
	if err != nil {
		return configprovider.Data{}, err
	}
	name = strings.Trim(strings.Trim(p.prefix+"/"+strings.Trim(name, "/"), "/"), "/")
	if err := p.may(name); err != nil {
		return configprovider.Data{}, err
	}
	asked := time.Now()
	at := p.place(path)
	select {
	case at.gate <- struct{}{}:
		defer func() { <-at.gate }()
	case <-ctx.Done():
		return configprovider.Data{}, &configprovider.UnavailableError{Err: errors.New("no answer in time")}
	}
	at.mu.Lock()
	at.used = asked
	if at.at.After(asked) || at.lease.holds(asked) {
		defer at.mu.Unlock()
		return pick(at.found, keys), nil
	}
	at.mu.Unlock()
	asked = time.Now()
	found, lent, err := p.read(ctx, name, options["version"])
	if err != nil {
		return configprovider.Data{}, err
	}
	at.mu.Lock()
	at.found, at.at, at.lease = found, asked, lent
	at.mu.Unlock()
	if lent.id != "" {
		p.look()
	}
	return pick(found, keys), nil
}

// reserved are the parts of a path where Vault tells of itself. A namespace may stand before them, and none may be called so.
var reserved = []string{"auth", "sys", "identity", "cubbyhole"}

// may says whether references may read a path.
func (p *provider) may(name string) error {
	if err := remote.Name(name); err != nil {
		return err
	}
	first, _, _ := strings.Cut(name, "/")
	if err := outside(first); err != nil {
		return err
	}
	return p.allowed.Check(name)
}

// outside says whether all of a mount's path is for connectors.
func outside(mount string) error {
	for part := range strings.SplitSeq(mount, "/") {
		if slices.Contains(reserved, strings.ToLower(part)) {
			return fmt.Errorf("what is below %s/ of Vault is for no connector", part)
		}
	}
	return nil
}

func (p *provider) place(path string) *place {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := p.places[path]; at != nil {
		return at
	}
	if len(p.places) >= maxPlaces {
		for name, at := range p.places {
			if at.mu.TryLock() {
				if at.lease.id == "" && len(at.gate) == 0 {
					delete(p.places, name)
				}
				at.mu.Unlock()
			}
		}
	}
	at := &place{gate: make(chan struct{}, 1)}
	p.places[path] = at
	return at
}

// pick is what there is for keys.
func pick(found configprovider.Data, keys []string) configprovider.Data {
	d := found
	d.Values = map[string]config.Secret{}
	for _, key := range keys {
		if value, ok := found.Values[key]; ok {
			d.Values[key] = value
		}
	}
	return d
}

// secret is what Vault answers to a read.
type secret struct {
	LeaseID       string          `json:"lease_id"`
	LeaseDuration int64           `json:"lease_duration"`
	Renewable     bool            `json:"renewable"`
	Data          json.RawMessage `json:"data"`
}

// versioned is the data of KV's version 2.
type versioned struct {
	Data     json.RawMessage `json:"data"`
	Metadata struct {
		Version  json.Number `json:"version"`
		Deletion string      `json:"deletion_time"`
		Gone     bool        `json:"destroyed"`
	} `json:"metadata"`
}

// read reads a path of an engine.
func (p *provider) read(ctx context.Context, name, version string) (configprovider.Data, lease, error) {
	m, err := p.mountOf(ctx, name)
	if err != nil {
		return configprovider.Data{}, lease{}, err
	}
	within := strings.TrimPrefix(name+"/", m.path)
	within = strings.TrimSuffix(within, "/")
	var query url.Values
	if m.kv == 2 {
		within = "data/" + strings.TrimPrefix(within, "data/") // what API paths have already
		if version != "" {
			query = url.Values{"version": {version}}
		}
	} else if version != "" {
		return configprovider.Data{}, lease{}, errors.New("only KV of version 2 has versions")
	}
	asked := time.Now()
	a, err := p.ask(ctx, http.MethodGet, remote.Escape(m.path+within), query, nil)
	if err != nil {
		return configprovider.Data{}, lease{}, err
	}
	var s secret
	var v versioned
	_ = json.Unmarshal(a.Body, &s) // judged below
	if m.kv == 2 {
		_ = json.Unmarshal(s.Data, &v)
	}
	switch {
	case a.Status == http.StatusNotFound && v.Metadata.Version != "":
		return configprovider.Data{}, lease{}, fmt.Errorf("version %s of that secret has been deleted", v.Metadata.Version)
	case a.Status == http.StatusNotFound:
		return configprovider.Data{}, lease{}, errors.New("Vault has nothing at that path")
	case a.Status != http.StatusOK:
		return configprovider.Data{}, lease{}, fmt.Errorf("Vault answers %d%s", a.Status, remote.Said(a.Body))
	}
	d := configprovider.Data{Place: "that path", TTL: p.ttl}
	fields := s.Data
	if m.kv == 2 {
		fields, d.Version = v.Data, v.Metadata.Version.String()
	}
	ok := false
	if d.Values, d.Names, ok = remote.Fields(fields); !ok {
		return configprovider.Data{}, lease{}, errors.New("what Vault answers at that path is no secret")
	}
	lent := lease{id: s.LeaseID, renewable: s.Renewable, length: time.Duration(s.LeaseDuration) * time.Second, since: asked}
	lent.granted = lent.length
	p.mu.Lock()
	lent.by = p.token.value
	p.mu.Unlock()
	if lent.id != "" {
		// Read again while the lease is young, which shows that it is still used and costs no request.
		d.Version, d.TTL = asked.UTC().Format("2006-01-02T15:04:05.000Z"), max(lent.length/4, time.Second)
	} else if lent.length > 0 { // KV's version 1 says so by a key ttl
		d.TTL = min(d.TTL, lent.length)
	}
	return d, lent, nil
}

// mountOf finds the engine that a path belongs to, as Vault's own command line does.
func (p *provider) mountOf(ctx context.Context, name string) (mount, error) {
	if p.version > 0 {
		parts := strings.Split(name, "/")
		m := mount{path: strings.Join(parts[:min(p.depth, len(parts))], "/") + "/", kv: p.version}
		if p.version == 1 { // nothing is put behind the mount, which may be a namespace
			return m, outside(name)
		}
		return m, outside(m.path)
	}
	p.mu.Lock()
	for _, m := range p.mounts {
		if strings.HasPrefix(name+"/", m.path) && time.Since(m.at) < mountValid {
			p.mu.Unlock()
			return m, nil
		}
	}
	p.mu.Unlock()
	a, err := p.ask(ctx, http.MethodGet, "sys/internal/ui/mounts/"+remote.Escape(name), nil, nil)
	if err != nil {
		return mount{}, err
	}
	var answer struct {
		Data struct {
			Path    string            `json:"path"`
			Type    string            `json:"type"`
			Options map[string]string `json:"options"`
		} `json:"data"`
	}
	if a.Status != http.StatusOK || json.Unmarshal(a.Body, &answer) != nil || answer.Data.Path == "" || !strings.HasPrefix(name+"/", answer.Data.Path) {
		return mount{}, fmt.Errorf("Vault answers %d to where that path is mounted%s; its token has no right on the path, or set %s", a.Status, remote.Said(a.Body), paramVersion[0])
	}
	if err := outside(answer.Data.Path); err != nil {
		return mount{}, err
	}
	m := mount{path: answer.Data.Path, at: time.Now()}
	if answer.Data.Type == "kv" || answer.Data.Type == "generic" {
		m.kv = 1
		if answer.Data.Options["version"] == "2" {
			m.kv = 2
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.mounts) >= maxPlaces {
		clear(p.mounts)
	}
	p.mounts[m.path] = m
	return m, nil
}
