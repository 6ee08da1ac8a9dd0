package clientconfig

import (
	"path/filepath"
	"strings"

	"barnabas/config"
)

// Keys of the worker that guard what settings of clients may reach. The first two are named like the
// system properties of Kafka's clients, with the same meaning: what they do not list, not even by default, is refused
// (CVE-2025-27817). Layers takes them from the worker alone.
const (
	// AllowedURLsKey lists the token endpoints of sasl.oauthbearer.token.endpoint.url, letter by letter.
	AllowedURLsKey = "org.apache.kafka.sasl.oauthbearer.allowed.urls"
	// AllowedFilesKey lists the files of sasl.oauthbearer.assertion.*.
	AllowedFilesKey = "org.apache.kafka.sasl.oauthbearer.allowed.files"
	// AllowedPathsKey lists files and folders that all other settings with a path may name: keystores,
	// keytabs, ticket caches, tokens. Where it is not set they may name any, as in Kafka.
	AllowedPathsKey = "connector.client.allowed.paths"
	// KerberosKey is the place of krb5.conf, as Java's system property.
	KerberosKey = "java.security.krb5.conf"
)

// workerOnly are settings that reach all clients, and come from the worker alone.
var workerOnly = []string{AllowedURLsKey, AllowedFilesKey, AllowedPathsKey, KerberosKey}

// guarded puts the worker's guards into the settings of a client, in place of what a connector may have put there.
func guarded(client, worker config.Settings) config.Settings {
	for _, key := range workerOnly {
		delete(client, key)
		if s, ok := worker[key]; ok {
			client[key] = s
		}
	}
	return client
}

// allowedURL tells whether key's value is one of the token endpoints that may be asked, and reports it if not.
func (r *reader) allowedURL(key string) bool {
	return r.listed(key, "URL", AllowedURLsKey)
}

// allowedFile tells the same of a file of OAUTHBEARER's settings.
func (r *reader) allowedFile(key string) bool {
	return r.listed(key, "file", AllowedFilesKey)
}

func (r *reader) listed(key, what, list string) bool {
	value := r.text(key, "")
	if what == "file" {
		if abs, err := filepath.Abs(value); err == nil {
			value = abs
		}
	}
	for _, allowed := range r.list(list) {
		if allowed == value && value != "" {
			return true
		}
	}
	r.fail(key, "the %s %s may not be accessed: whoever runs the worker can add it to %s in the worker's settings", what, r.written(key), list)
	return false
}

// allowedPath tells whether path, the value of key or of a part of it that may be shown as shown, lies within
// AllowedPathsKey, and reports it if not. Symbolic links count as what they lead to.
func (r *reader) allowedPath(key, path, shown string) bool {
	if !r.has(AllowedPathsKey) {
		return true
	}
	at := resolved(path)
	for _, allowed := range r.list(AllowedPathsKey) {
		if allowed == "" || !filepath.IsAbs(allowed) {
			continue
		}
		root := resolved(allowed)
		if at == root || strings.HasPrefix(at, strings.TrimSuffix(root, "/")+"/") {
			return true
		}
	}
	r.fail(key, "the file %s may not be accessed: whoever runs the worker can add it, or its folder, to %s in the worker's settings", shown, AllowedPathsKey)
	return false
}

// resolved returns the absolute path with its links followed; what does not exist stays as it is.
func resolved(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		return real
	}
	return filepath.Clean(abs)
}
