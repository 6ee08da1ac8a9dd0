package config

import (
	"encoding/json"
	"regexp"
	"strings"
)

// ReferencePattern matches one secret reference: ${provider:[path:]key} or
// $<provider:[path:]key>. The first spelling is Kafka's ConfigTransformer's, group by group (provider 1,
// path 2, key 3; the second has 4, 5 and 6). What it means is in package configprovider.
var ReferencePattern = regexp.MustCompile(`\$\{([^}]*?):(?:([^}]*?):)?([^}]*?)\}|\$<([^>]*?):(?:([^>]*?):)?([^>]*?)>`)

// HasReference tells whether written holds a secret reference.
func HasReference(written string) bool { return ReferencePattern.MatchString(written) }

// secretEndings are the last words of keys that hold a secret in the
// configurations of Kafka's clients and of common connectors.
var secretEndings = []string{
	"password", "passwd", "passphrase", "secret", "secret.key", "secret.access.key", "session.token", "access.token",
	"auth.token", "private.key", "api.key", "sasl.jaas.config", "ssl.keystore.key", "basic.auth.user.info", "credentials",
}

// SecretName tells whether the name of a key says that its value is a secret.
func SecretName(key string) bool {
	key = strings.ToLower(key)
	for _, e := range secretEndings {
		if rest, ok := strings.CutSuffix(key, e); ok && (rest == "" || strings.HasSuffix(rest, ".") || strings.HasSuffix(rest, "_")) {
			return true
		}
	}
	return false
}

// jaasSecret finds the options of a JAAS entry that hold a secret, with their
// values: quoted, which may contain escaped quotes, or bare.
var jaasSecret = regexp.MustCompile(`(?i)([A-Za-z0-9_.]*(?:password|passwd|passphrase|secret|secretkey|secretaccesskey|token|storepass|keypass))\s*=\s*("(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|[^\s;"']+)`)

// InlineSecret tells whether written is a JAAS entry, or alike, with a secret
// written out: password="…" with anything but references between the quotes.
func InlineSecret(written string) bool {
	for _, m := range jaasSecret.FindAllStringSubmatch(written, -1) {
		if !OnlyReferences(m[2]) {
			return true
		}
	}
	return false
}

// OnlyReferences tells whether nothing is left of a value when its references
// and quotes are taken away.
func OnlyReferences(value string) bool {
	return strings.Trim(ReferencePattern.ReplaceAllString(value, ""), `"' `+"\t") == ""
}

// LiteralSecret tells whether written, as the value of key, is or holds a
// secret written out rather than referred to. password says that the key is defined as a PASSWORD.
func LiteralSecret(key, written string, password bool) bool {
	if strings.TrimSpace(written) == "" || publicPassword(key) {
		return false
	}
	if InlineSecret(written) {
		return true
	}
	if !password && !SecretName(key) || OnlyReferences(written) {
		return false
	}
	// A JAAS entry names a login module and how it counts; its secrets, if any, are references here.
	return !(strings.HasSuffix(key, "sasl.jaas.config") && jaasEntry.MatchString(written))
}

var jaasEntry = regexp.MustCompile(`(?i)^\s*[\w.$]+\s+(required|requisite|sufficient|optional)\b`)

// publicPassword names what Kafka types PASSWORD only to keep long text out of
// its logs: certificates.
func publicPassword(key string) bool {
	return strings.HasSuffix(key, "ssl.keystore.certificate.chain") || strings.HasSuffix(key, "ssl.truststore.certificates")
}

// Redact returns written as a log may show it: Hidden if it is or holds a
// literal secret, as far as key and text can tell.
func Redact(key, written string) string {
	if LiteralSecret(key, written, false) {
		return Hidden
	}
	return written
}

// marshalShown encodes a map whose values marshal safely, past the
// json.Marshaler of the type around it.
func marshalShown[V any](m map[string]V) ([]byte, error) { return json.Marshal(m) }
