// Package strimzi reads a KafkaMirrorMaker2, the resource with which Strimzi's operator for Kubernetes runs MirrorMaker 2,
// and tells what its parts are here: the settings of the workers, and connectors under the names that the operator gives
// them, so that offsets are found again. It reads both forms of the resource: v1beta2 (connectCluster and clusters) and v1 (target,
// and a source in each mirror).
//
// It reads no secrets: where the operator mounts or looks up a Secret, the settings have a reference to a file of it.
package strimzi

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"barnabas/connector/mirror/dedicated"
)

// Resource is a KafkaMirrorMaker2, as settings.
type Resource struct {
	Name       string
	Worker     map[string]string // of every worker
	Connectors []Connector
	// Outcomes tell what became of each value of the resource, ordered by its path.
	Outcomes []dedicated.Outcome
	// Notes are what one has to see to by hand.
	Notes []string
}

// Connector is a connector, as a definition for the REST API.
type Connector struct {
	Name         string            `json:"name"`
	Config       map[string]string `json:"config"`
	InitialState string            `json:"initial_state,omitempty"`
}

// ErrOther says that a text is no KafkaMirrorMaker2.
var ErrOther = errors.New("that is no KafkaMirrorMaker2")

// DefaultSecrets is where Secrets are expected, each in a directory of its name.
const DefaultSecrets = "/etc/barnabas/secrets"

// maxDocuments bounds how many documents of a file are looked at.
const maxDocuments = 1000

const javaPackage = "org.apache.kafka.connect.mirror."

// Parse reads a resource. Errors quote nothing of the text. secrets is the directory under which the Secrets
// that the resource names are mounted; empty: DefaultSecrets.
func Parse(text []byte, secrets string) (*Resource, error) {
	var root struct {
		Kind     string
		Metadata struct{ Name string }
		Spec     map[string]any
	}
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	for n := 0; root.Kind != "KafkaMirrorMaker2"; n++ {
		root.Spec = nil
		if err := d.Decode(&root); err != nil || n == maxDocuments {
			return nil, ErrOther // the text has ended, or is no YAML
		}
	}
	if secrets == "" {
		secrets = DefaultSecrets
	}
	r := &reader{leaves: map[string]string{}, uses: map[string][]dedicated.Use{}, secrets: strings.TrimRight(secrets, "/")}
	r.flatten("spec", root.Spec)
	if err := r.read(); err != nil {
		return nil, err
	}
	r.out.Name = root.Metadata.Name
	r.out.Outcomes = r.outcomes()
	return &r.out, nil
}

// reader takes a resource apart.
type reader struct {
	leaves  map[string]string // by path: spec.clusters[0].alias
	uses    map[string][]dedicated.Use
	secrets string
	out     Resource
}

func (r *reader) flatten(path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, item := range v {
			r.flatten(path+"."+k, item)
		}
		if len(v) == 0 {
			r.leaves[path] = "{}"
		}
	case []any:
		for i, item := range v {
			r.flatten(fmt.Sprintf("%s[%d]", path, i), item)
		}
	case nil:
	default:
		r.leaves[path] = fmt.Sprint(v)
	}
}

// has says whether there is anything below path.
func (r *reader) has(path string) bool {
	for p := range r.leaves {
		if p == path || strings.HasPrefix(p, path+".") || strings.HasPrefix(p, path+"[") {
			return true
		}
	}
	return false
}

// count is the length of the list at path.
func (r *reader) count(path string) int {
	n := 0
	for r.has(fmt.Sprintf("%s[%d]", path, n)) {
		n++
	}
	return n
}

// sink is where the settings of a cluster go, under a prefix.
type sink struct {
	link, part, prefix string
	settings           map[string]string
}

// put sets a setting that comes from the values at paths.
func (r *reader) put(s sink, key, text string, paths ...string) {
	s.settings[s.prefix+key] = text
	for _, p := range paths {
		if _, ok := r.leaves[p]; ok {
			r.uses[p] = append(r.uses[p], dedicated.Use{Link: s.link, Part: s.part, Key: s.prefix + key})
		}
	}
}

// move sets a setting to the value at path, if there is one.
func (r *reader) move(s sink, key, path string) {
	if text, ok := r.leaves[path]; ok {
		r.put(s, key, text, path)
	}
}

// config takes the free settings at path over.
func (r *reader) config(s sink, path string) {
	for _, p := range slices.Sorted(maps.Keys(r.leaves)) {
		if key, ok := strings.CutPrefix(p, path+"."); ok {
			r.put(s, key, r.leaves[p], p)
		}
	}
}

// secret is a reference to a file of a Secret.
func (r *reader) secret(name, key string) string {
	return "${directory:" + r.secrets + "/" + name + ":" + key + "}"
}

// cluster puts the settings of the cluster at path.
func (r *reader) cluster(s sink, path string) {
	r.move(s, "bootstrap.servers", path+".bootstrapServers")
	protocol := "PLAINTEXT"
	if r.has(path + ".tls") {
		protocol = "SSL"
		r.trust(s, path+".tls.trustedCertificates")
	}
	protocol = r.authentication(s, path+".authentication", protocol)
	r.put(s, "security.protocol", protocol, path+".tls")
	r.config(s, path+".config")
}

// trust has the certificates at path trusted.
func (r *reader) trust(s sink, path string) {
	var all, from []string
	for i := range r.count(path) {
		at := fmt.Sprintf("%s[%d]", path, i)
		file := r.leaves[at+".certificate"]
		if file == "" {
			file = "ca.crt"
			r.note(fmt.Sprintf("%s picks certificates by a pattern: %s is taken; name others in %sssl.truststore.certificates", at, file, s.prefix))
		}
		all = append(all, r.secret(r.leaves[at+".secretName"], file))
		from = append(from, at+".secretName", at+".certificate", at+".pattern")
	}
	if len(all) > 0 {
		r.put(s, "ssl.truststore.certificates", strings.Join(all, "\n"), from...)
		r.put(s, "ssl.truststore.type", "PEM")
	}
}

// authentication puts how to log in, and returns the protocol for it.
func (r *reader) authentication(s sink, path, protocol string) string {
	kind := r.leaves[path+".type"]
	sasl := map[string]string{"PLAINTEXT": "SASL_PLAINTEXT", "SSL": "SASL_SSL"}[protocol]
	login := func(mechanism, module string) string {
		r.put(s, "sasl.mechanism", mechanism, path+".type")
		password := r.secret(r.leaves[path+".passwordSecret.secretName"], r.leaves[path+".passwordSecret.password"])
		r.put(s, "sasl.jaas.config", fmt.Sprintf(`%s required username="%s" password="%s";`, module, r.leaves[path+".username"], password),
			path+".username", path+".passwordSecret.secretName", path+".passwordSecret.password")
		return sasl
	}
	switch kind {
	case "":
		return protocol
	case "tls":
		name := path + ".certificateAndKey."
		r.put(s, "ssl.keystore.type", "PEM", path+".type")
		r.put(s, "ssl.keystore.certificate.chain", r.secret(r.leaves[name+"secretName"], r.leaves[name+"certificate"]), name+"secretName", name+"certificate")
		r.put(s, "ssl.keystore.key", r.secret(r.leaves[name+"secretName"], r.leaves[name+"key"]), name+"secretName", name+"key")
		return protocol
	case "scram-sha-256", "scram-sha-512":
		return login(strings.ToUpper(kind), "org.apache.kafka.common.security.scram.ScramLoginModule")
	case "plain":
		return login("PLAIN", "org.apache.kafka.common.security.plain.PlainLoginModule")
	case "custom":
		r.config(s, path+".config")
		if r.leaves[path+".sasl"] == "true" {
			r.put(s, "security.protocol", sasl, path+".sasl", path+".type")
			return sasl
		}
		return protocol
	}
	r.note(fmt.Sprintf("%s is %s: write its settings by hand, as %ssasl.…", path, kind, s.prefix))
	return sasl
}

func (r *reader) note(text string) {
	if !slices.Contains(r.out.Notes, text) {
		r.out.Notes = append(r.out.Notes, text)
	}
}
