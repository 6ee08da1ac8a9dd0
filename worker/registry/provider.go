package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"barnabas/config"
	"barnabas/configprovider"
)

// ttl is how long a value is good for: looking again costs no request.
const ttl = time.Second

const (
	paramMaster = "master.encryption.key"
	paramOld    = "master.encryption.key.old"
	paramTopic  = "kafkastore.topic"
	paramCopies = "kafkastore.topic.replication.factor"
)

// Kind is the provider ${secret:path:key}, also under the class name of Confluent's InternalSecretConfigProvider.
// ${secret:path:key:3} is version 3, else it is the newest.
func (r *Registry) Kind() configprovider.Kind {
	return configprovider.Kind{
		Name:    "secret",
		Classes: []string{"io.confluent.connect.secretregistry.rbac.config.provider.InternalSecretConfigProvider"},
		Params:  []string{paramMaster, paramOld, paramTopic, paramCopies, "kafkastore.bootstrap.servers"},
		Open:    r.open,
	}
}

func (r *Registry) open(params config.Settings) (configprovider.Provider, error) {
	if r.opened {
		return nil, errors.New("there is a secret registry already: a worker has one")
	}
	all, err := parseMasters(params[paramMaster], params[paramOld])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", paramMaster, err)
	}
	r.masters, r.topic = all, cmp.Or(params[paramTopic].Written, DefaultTopic)
	r.replicas = -1 // as the brokers say
	if s, ok := params[paramCopies]; ok {
		n, err := strconv.ParseInt(strings.TrimSpace(s.Value.Reveal()), 10, 16)
		if err != nil || n < 1 && n != -1 {
			return nil, fmt.Errorf("%s=%s: expected 1 or more, or -1 for the brokers' default", paramCopies, s.Written)
		}
		r.replicas = int16(n)
	}
	r.client = params.Sub("kafkastore.")
	delete(r.client, "topic")
	delete(r.client, "topic.replication.factor")
	r.opened = true
	return provider{r}, nil
}

type provider struct{ r *Registry }

// Read decrypts the values of keys at a path.
func (p provider) Read(ctx context.Context, path string, keys []string) (configprovider.Data, error) {
	if path == "" {
		return configprovider.Data{}, errors.New("that names no path: write it as ${secret:path:key}")
	}
	if p.r.reader == nil {
		return configprovider.Data{}, errors.New("the secret registry is there for connectors on a running worker only: the worker's own settings are what it is reached with")
	}
	if err := p.r.Ready(ctx); err != nil {
		return configprovider.Data{}, err
	}
	d := configprovider.Data{Place: "that path", Values: map[string]config.Secret{}, Versions: map[string]string{}, TTL: ttl}
	for _, key := range keys {
		at, s, ok := p.r.find(path, key)
		if !ok {
			continue
		}
		value, err := p.r.masters.open(at, s)
		if err != nil {
			return configprovider.Data{}, fmt.Errorf("version %d of key %q cannot be read: %w", at.Version, at.Key, err)
		}
		d.Values[key], d.Versions[key] = value, strconv.FormatInt(at.Version, 10)
	}
	if len(d.Values) < len(keys) {
		for _, v := range p.r.List(path, "", 0) {
			d.Names = append(d.Names, v.Key)
		}
	}
	return d, nil
}

// find returns the newest version of a key, or the one that it ends with.
func (r *Registry) find(path, key string) (place, sealed, bool) {
	version := int64(0)
	if base, number, ok := strings.Cut(key, ":"); ok {
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n < 1 {
			return place{}, sealed{}, false
		}
		key, version = base, n
	}
	if version == 0 {
		all := r.versions(path, key)
		if len(all) == 0 {
			return place{}, sealed{}, false
		}
		version = all[len(all)-1]
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	at := place{path, key, version}
	rec, ok := r.held[at]
	if !ok || rec.Sealed == nil {
		return place{}, sealed{}, false
	}
	return at, *rec.Sealed, true
}

// compare orders places.
func compare(a, b place) int {
	return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Key, b.Key), cmp.Compare(a.Version, b.Version))
}
