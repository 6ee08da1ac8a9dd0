// Package kubernetes reads Secrets and ConfigMaps from the API of Kubernetes, in any namespace that the worker's service account may read, and
// watches them: a change reaches who uses it at once and costs no polling.
//
// It speaks the API itself. It needs two requests of it, both plain JSON, while client-go brings 379 packages and more than
// the rest of the product weighs for what a pod does not need (kubeconfig files, exec plugins, informers).
//
// Easy to get wrong: a watch tells that something has changed, never what. What counts is what is read afterwards, so
// that a watch that breaks off, repeats or skips events can lose nothing.
package kubernetes

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/configprovider/remote"
)

const (
	// defaultTTL is how long what was read is good for where it may not be watched.
	defaultTTL = 30 * time.Second
	// watchedTTL is how long where it is: a look all the same, in case a watch is alive and says nothing.
	watchedTTL = 10 * time.Minute
)

var (
	paramServer    = []string{"kubernetes.api.server"}
	paramToken     = []string{"kubernetes.token.file"}
	paramCA        = []string{"kubernetes.ca.file"}
	paramNamespace = []string{"kubernetes.namespace"}
	paramSeparator = []string{"separator"}
)

// account is where a pod finds what it reaches the API with.
const account = "/var/run/secrets/kubernetes.io/serviceaccount"

// Kinds are the providers ${kubernetes:namespace/name:key}, for Secrets, and the same for ConfigMaps. environ is that of the pod.
func Kinds(environ []string) []configprovider.Kind {
	params := slices.Concat(paramServer, paramToken, paramCA, paramNamespace, paramSeparator, []string{remote.ParamTTL, remote.ParamTimeout, remote.ParamAllowed, remote.ParamPlain})
	kind := func(name, class, resource string) configprovider.Kind {
		return configprovider.Kind{
			Name: name, Classes: []string{class}, Params: params,
			Open: func(settings config.Settings) (configprovider.Provider, error) {
				return open(settings, environ, resource)
			},
		}
	}
	return []configprovider.Kind{
		kind("kubernetes", "io.strimzi.kafka.KubernetesSecretConfigProvider", secrets),
		kind("kubernetes-configmaps", "io.strimzi.kafka.KubernetesConfigMapConfigProvider", configMaps),
	}
}

// The resources.
const (
	secrets    = "secrets"
	configMaps = "configmaps"
)

type provider struct {
	client    *remote.Client
	resource  string // of paths that do not say
	namespace string // likewise; empty: nobody knows
	token     string // a file, read for each request: the kubelet replaces it
	separator string
	ttl       time.Duration
	allowed   remote.Allowed
	kick      chan struct{} // holds something when there is something new to watch

	mu     sync.Mutex
	places map[string]*place // by path as it is written
}

// place is one object that is read.
type place struct {
	object
	version string // resourceVersion when it was read last
	used    time.Time
	watched bool
}

// maxPlaces bounds the objects that are watched; others are polled.
const maxPlaces = 256

func open(settings config.Settings, environ []string, resource string) (configprovider.Provider, error) {
	q := &remote.Params{Settings: settings}
	inside := map[string]string{}
	for _, variable := range environ {
		if name, value, ok := strings.Cut(variable, "="); ok {
			inside[name] = value
		}
	}
	pod := ""
	if host := inside["KUBERNETES_SERVICE_HOST"]; host != "" {
		pod = "https://" + net.JoinHostPort(host, cmp.Or(inside["KUBERNETES_SERVICE_PORT"], "443"))
	}
	p := &provider{
		resource: resource, namespace: q.Text(paramNamespace...), token: cmp.Or(q.Text(paramToken...), filepath.Join(account, "token")), separator: "\n",
		ttl: q.TTL(defaultTTL), allowed: q.Allowed(), kick: make(chan struct{}, 1), places: map[string]*place{},
	}
	if s, ok := settings[paramSeparator[0]]; ok {
		p.separator = s.Value.Reveal()
	}
	if p.namespace == "" {
		if text, err := remote.ReadFile(filepath.Join(account, "namespace")); err == nil {
			p.namespace = text.Reveal()
		}
	}
	server := q.Address(pod, paramServer...)
	if server == nil && q.Text(paramServer...) == "" {
		q.Need(paramServer[0], "the worker is in no pod of Kubernetes ($KUBERNETES_SERVICE_HOST is not set)")
	}
	ca := filepath.Join(account, "ca.crt")
	if _, set := q.Find(paramCA...); set.Written == "" {
		if _, err := os.Stat(ca); err == nil {
			settings[paramCA[0]] = config.Setting{Written: ca, Value: config.NewSecret(ca)}
		}
	}
	tls := q.TLS(paramCA, []string{""}, []string{""})
	timeout := q.Timeout()
	if err := q.Err(); err != nil {
		return nil, err
	}
	p.client = remote.New(remote.Options{Name: "Kubernetes", Base: server, TLS: tls, Timeout: timeout})
	return p, nil
}

// object is one Secret or ConfigMap.
type object struct{ resource, namespace, name string }

func (o object) String() string {
	return map[string]string{secrets: "Secret ", configMaps: "ConfigMap "}[o.resource] + o.namespace + "/" + o.name
}

// subdomain is what names of objects look like (RFC 1123); those of namespaces are shorter.
var subdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

// objectOf reads a path: name, namespace/name or secrets/namespace/name.
func (p *provider) objectOf(written string) (object, error) {
	o := object{resource: p.resource, namespace: p.namespace}
	parts := strings.Split(written, "/")
	if len(parts) == 3 && (parts[0] == secrets || parts[0] == configMaps) {
		o.resource, parts = parts[0], parts[1:]
	}
	switch len(parts) {
	case 1:
		o.name = parts[0]
	case 2:
		o.namespace, o.name = parts[0], parts[1]
	}
	if o.name != "" && o.namespace == "" {
		return o, fmt.Errorf("no namespace is named, and that of the worker is not known: write namespace/name, or set %s", paramNamespace[0])
	}
	if !subdomain.MatchString(o.name) || !subdomain.MatchString(o.namespace) || strings.Contains(o.name, "..") {
		return o, errors.New("that is neither name nor namespace/name, secrets/namespace/name or configmaps/namespace/name")
	}
	return o, p.allowed.Check(o.namespace + "/" + o.name)
}

// Read reads an object, and has it watched from then on.
func (p *provider) Read(ctx context.Context, written string, keys []string) (configprovider.Data, error) {
	o, err := p.objectOf(written)
	if err != nil {
		return configprovider.Data{}, err
	}
	a, err := p.ask(ctx, "api/v1/namespaces/"+o.namespace+"/"+o.resource+"/"+o.name)
	if err != nil {
		return configprovider.Data{}, err
	}
	switch a.Status {
	case http.StatusOK:
	case http.StatusNotFound:
		return configprovider.Data{}, fmt.Errorf("there is no %s", o)
	default:
		return configprovider.Data{}, fmt.Errorf("Kubernetes answers %d%s", a.Status, remote.Said(a.Body))
	}
	values, version, err := o.values(a.Body)
	if err != nil {
		return configprovider.Data{}, err
	}
	d := configprovider.Data{Place: "that " + strings.Fields(o.String())[0], Values: map[string]config.Secret{}, Version: version, TTL: p.ttl}
	for _, key := range keys {
		if value, ok := p.matching(key, values); ok {
			d.Values[key] = value
		}
	}
	for name := range values {
		d.Names = append(d.Names, name)
	}
	slices.Sort(d.Names)
	if p.read(written, o, version) {
		d.TTL = max(p.ttl, watchedTTL)
	}
	return d, nil
}

// read notes that an object was read, and says whether it is watched.
func (p *provider) read(written string, o object, version string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.places[written]
	if at == nil {
		if len(p.places) >= maxPlaces {
			return false
		}
		at = &place{object: o}
		p.places[written] = at
		select {
		case p.kick <- struct{}{}:
		default:
		}
	}
	at.version, at.used = version, time.Now()
	return at.watched
}

func (p *provider) request(path string) (remote.Request, error) {
	token, err := remote.ReadFile(p.token)
	if err != nil {
		return remote.Request{}, fmt.Errorf("the file with the token for Kubernetes: %w", err)
	}
	if strings.ContainsAny(token.Reveal(), "\r\n\x00") {
		return remote.Request{}, errors.New("the file with the token for Kubernetes holds none")
	}
	return remote.Request{
		Path: path, Hidden: []config.Secret{token},
		Header: http.Header{"Authorization": {"Bearer " + token.Reveal()}, "Accept": {"application/json"}},
	}, nil
}

func (p *provider) ask(ctx context.Context, path string) (remote.Answer, error) {
	r, err := p.request(path)
	if err != nil {
		return remote.Answer{}, err
	}
	return p.client.Do(ctx, r)
}

// values are what an object holds.
func (o object) values(body []byte) (map[string]config.Secret, string, error) {
	var answer struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
		Data       map[string]string `json:"data"`
		BinaryData map[string]string `json:"binaryData"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Metadata.ResourceVersion == "" {
		return nil, "", fmt.Errorf("what Kubernetes answers is no %s", strings.Fields(o.String())[0])
	}
	values := map[string]config.Secret{}
	encoded := answer.BinaryData
	if o.resource == secrets {
		encoded = answer.Data
	} else {
		for name, text := range answer.Data {
			values[name] = config.NewSecret(text)
		}
	}
	for name, text := range encoded {
		if raw, err := base64.StdEncoding.DecodeString(text); err == nil && utf8.Valid(raw) { // what is no text can be no setting
			values[name] = config.NewSecret(string(raw))
		}
	}
	return values, answer.Metadata.ResourceVersion, nil
}

// matching is the value of a key, or those of all that it is a pattern of, in the order of their names: ca*.crt, as in Strimzi's providers.
func (p *provider) matching(key string, values map[string]config.Secret) (config.Secret, bool) {
	if value, ok := values[key]; ok || !strings.ContainsAny(key, "*?[") {
		return value, ok
	}
	var names, texts []string
	for name := range values {
		if ok, err := path.Match(key, name); ok && err == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		texts = append(texts, values[name].Reveal())
	}
	return config.NewSecret(strings.Join(texts, p.separator)), len(names) > 0
}
