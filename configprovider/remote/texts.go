package remote

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"barnabas/config"
	"barnabas/configprovider"
)

// Texts is how managers are read that keep a text under a name. ${provider:NAME:key} is a field of a text that is a JSON object,
// ${provider:NAME} is the whole text.
type Texts struct {
	// JSON: a text under a path is an object. Otherwise a key that is the name stands for the whole (use.json=false).
	JSON    bool
	Allowed Allowed
	// Options may stand behind the name, as in NAME?version=3, besides ttl, in milliseconds.
	Options []string
	TTL     time.Duration
	// Split takes what is not part of its name off a key; nil: nothing.
	Split func(key string) (name string, ttl time.Duration)
}

// Read reads what keys name by get, which is asked once a name.
func (t Texts) Read(path string, keys []string, get func(name string, options map[string]string) (text config.Secret, version string, err error)) (configprovider.Data, error) {
	d := configprovider.Data{Place: "that secret", Values: map[string]config.Secret{}, Failed: map[string]error{}, Versions: map[string]string{}, TTL: t.TTL}
	names := make(map[string]string, len(keys)) // of keys
	for _, key := range keys {
		names[key] = key
		if t.Split != nil {
			name, ttl := t.Split(key)
			if names[key] = name; ttl > 0 {
				d.TTL = min(d.TTL, ttl)
			}
		}
	}
	if path == "" {
		for _, key := range keys {
			text, version, err := t.get(names[key], &d, get)
			if err != nil { // the others are somebody else's
				d.Failed[key] = err
				continue
			}
			d.Values[key], d.Versions[key] = text, version
		}
		return d, nil
	}
	text, version, err := t.get(path, &d, get)
	if err != nil {
		return configprovider.Data{}, err
	}
	d.Version = version
	if !t.JSON {
		name, _, _ := strings.Cut(path, "?")
		for _, key := range keys {
			if names[key] == name {
				d.Values[key] = text
			}
		}
		return d, nil
	}
	fields, known, ok := Fields([]byte(text.Reveal()))
	if !ok {
		return configprovider.Data{}, errors.New("that secret is no JSON object with keys: refer to the whole of it, without a key, as ${provider:NAME}")
	}
	d.Names = known
	for _, key := range keys {
		if value, ok := fields[names[key]]; ok {
			d.Values[key] = value
		}
	}
	return d, nil
}

func (t Texts) get(path string, d *configprovider.Data, get func(string, map[string]string) (config.Secret, string, error)) (config.Secret, string, error) {
	name, options, err := Pinned(path, append([]string{"ttl"}, t.Options...)...)
	if ms, set := options["ttl"]; set {
		n, wrong := strconv.ParseInt(ms, 10, 32)
		if wrong != nil || n <= 0 {
			return config.Secret{}, "", errors.New("ttl is in milliseconds")
		}
		d.TTL = time.Duration(n) * time.Millisecond
	}
	if err == nil {
		err = Name(name)
	}
	if err == nil {
		err = t.Allowed.Check(name)
	}
	if err != nil {
		return config.Secret{}, "", err
	}
	return get(name, options)
}
