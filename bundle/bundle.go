// Package bundle writes support bundles: what helps others to understand a cluster, redacted by construction. A bundle
// holds what is on a list of things that hold no secret, rather than everything but what looks like one; it says what
// it has left out, and it never holds a payload.
package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"runtime/debug"
	"slices"
	"time"

	"barnabas/config"
	"barnabas/rest"
)

// Manifest says what a bundle holds and what it does not. It is the bundle's manifest.json.
type Manifest struct {
	Written time.Time `json:"written"`
	Build   string    `json:"build"` // of the program that wrote it
	Files   []File    `json:"files"`
	LeftOut []LeftOut `json:"left_out"`
	// Failed is what could not be had.
	Failed []Failed `json:"failed,omitempty"`
}

// File is one file of a bundle.
type File struct {
	Name  string `json:"name"`
	What  string `json:"what"`
	Bytes int    `json:"bytes"`
	// Hidden counts the places of the file where the text of something that was left out stood.
	Hidden int `json:"hidden,omitempty"`
}

// LeftOut is something that a bundle does not hold.
type LeftOut struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// Failed is a question that was not answered.
type Failed struct {
	Name  string `json:"name"`
	Error string `json:"error"`
}

// always is never in a bundle, whatever the cluster runs.
var always = []LeftOut{
	{"records of topics, dead letters and reports", "a bundle never holds a payload"},
	{"values that references to secrets stand for", "the workers give them to nobody"},
	{"old versions of configurations", "their list is there, with who and when: \"barnabas connectors history NAME VERSION\" shows one"},
	{"offsets of connectors", "they may be many, and keys of connectors of your own may say anything: \"barnabas connectors offsets NAME\" shows them"},
	{"logs of the workers", "they go to standard error, and where you have sent that: read them before you hand them on"},
	{"files of the workers' machines and their environment", "they hold secrets"},
}

// writer is one bundle on its way.
type writer struct {
	client   *rest.Client
	now      time.Time
	files    []content
	manifest Manifest
	hidden   map[string]bool // values that were left out, which nothing else may show either
}

type content struct {
	name, what string
	text       []byte
}

// Write asks a cluster and writes a bundle to w, as a tar archive compressed with gzip. What cannot be had is listed in the
// bundle; only a cluster that does not answer at all is an error.
func Write(ctx context.Context, w io.Writer, client *rest.Client, now time.Time) (Manifest, error) {
	b := &writer{client: client, now: now, hidden: map[string]bool{}}
	b.manifest = Manifest{Written: now.UTC(), Build: build(), LeftOut: slices.Clone(always)}
	server, err := client.Server(ctx)
	if err != nil {
		return Manifest{}, err
	}
	b.add("server.json", "version and Kafka cluster of the worker that was asked", server)
	b.cluster(ctx)
	names, err := client.Connectors(ctx)
	b.put("connectors.json", "names of all connectors", names, err)
	for _, name := range names {
		b.connector(ctx, name)
	}
	if err := ctx.Err(); err != nil {
		return Manifest{}, context.Cause(ctx)
	}
	return b.manifest, b.write(w)
}

// cluster adds what is known of the workers.
func (b *writer) cluster(ctx context.Context) {
	health, err := b.client.Health(ctx)
	b.put("health.json", "health of the worker that was asked", health, err)
	workers, err := b.client.Workers(ctx)
	b.put("workers.json", "members of the cluster", workers, err)
	plugins, err := b.client.AllPlugins(ctx)
	b.put("plugins.json", "kinds of connectors, converters, transforms and predicates", plugins, err)
	loggers, err := b.client.Loggers(ctx)
	b.put("loggers.json", "log levels of the worker that was asked", loggers, err)
	references, err := b.client.SecretReferences(ctx)
	b.put("secret-references.json", "references to secrets in use, their versions and users; no values", references, err)
	summaries, err := b.client.Summaries(ctx)
	b.put("summaries.json", "state of all connectors", summaries, err)
	metrics, err := b.client.Metrics(ctx)
	if err != nil {
		b.fail("metrics.txt", err)
		return
	}
	b.files = append(b.files, content{"metrics.txt", "metrics of the worker that was asked", []byte(metrics)})
}

// connector adds what is known of one connector.
func (b *writer) connector(ctx context.Context, name string) {
	at := "connectors/" + url.PathEscape(name) + "/"
	written, err := b.client.Config(ctx, name)
	if err == nil {
		var types map[string]config.Type
		if types, err = b.types(ctx, written["connector.class"]); err != nil {
			b.fail(at+"definition", err) // then fewer values are known to be harmless
		}
		shown, hidden := shown(written, types)
		for _, key := range hidden {
			b.manifest.LeftOut = append(b.manifest.LeftOut, LeftOut{"connector " + name + ": the value of " + key, "it is not known to hold no secret"})
			b.hide(written[key])
		}
		b.add(at+"config.json", "configuration", shown)
	} else {
		b.fail(at+"config.json", err)
	}
	detail, err := b.client.Detail(ctx, name)
	b.put(at+"status.json", "state, restarts and progress", detail, err)
	replication, err := b.client.Replication(ctx, name)
	if !rest.IsNotFound(err) { // only connectors that copy have it
		b.put(at+"replication.json", "what is copied, how, and what is in the way", replication, err)
		gaps, err := b.client.Gaps(ctx, name)
		b.put(at+"gaps.json", "gap ledger", gaps, err)
	}
	topics, err := b.client.ActiveTopics(ctx, name)
	b.put(at+"topics.json", "topics in use", topics, err)
	history, err := b.client.History(ctx, name)
	b.put(at+"history.json", "who changed the configuration, and when", history, err)
}

// types are the types of a plugin's own settings.
func (b *writer) types(ctx context.Context, class string) (map[string]config.Type, error) {
	if class == "" {
		return nil, errors.New("the configuration names no connector.class")
	}
	keys, err := b.client.PluginConfig(ctx, class)
	types := map[string]config.Type{}
	for _, k := range keys {
		types[k.Name] = k.Type
	}
	return types, err
}

func (b *writer) put(name, what string, v any, err error) {
	if err != nil {
		b.fail(name, err)
		return
	}
	b.add(name, what, v)
}

func (b *writer) fail(name string, err error) {
	b.manifest.Failed = append(b.manifest.Failed, Failed{name, err.Error()})
}

func (b *writer) add(name, what string, v any) {
	text, err := encode(v)
	if err != nil {
		b.fail(name, err)
		return
	}
	b.files = append(b.files, content{name, what, text})
}

// encode writes v for people too: $<file:…> stays readable.
func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return out.Bytes(), err
}

// write takes what was left out of configurations out of everything else too, and writes the archive.
func (b *writer) write(w io.Writer) error {
	hidden := b.texts()
	for i := range b.files {
		f := &b.files[i]
		count := 0
		f.text, count = scrub(f.text, hidden)
		b.manifest.Files = append(b.manifest.Files, File{f.name, f.what, len(f.text), count})
	}
	manifest, err := encode(b.manifest)
	if err != nil {
		return err
	}
	manifest, _ = scrub(manifest, hidden) // errors may quote what is wrong
	packed := gzip.NewWriter(w)
	archive := tar.NewWriter(packed)
	for _, f := range append([]content{{"manifest.json", "", manifest}}, b.files...) {
		h := &tar.Header{Name: "barnabas-bundle/" + f.name, Mode: 0o600, Size: int64(len(f.text)), ModTime: b.now, Typeflag: tar.TypeReg}
		if err := archive.WriteHeader(h); err != nil {
			return fmt.Errorf("bundle: %s: %w", f.name, err)
		}
		if _, err := archive.Write(f.text); err != nil {
			return fmt.Errorf("bundle: %s: %w", f.name, err)
		}
	}
	return errors.Join(archive.Close(), packed.Close())
}

func build() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	text := info.Main.Version + " " + info.GoVersion
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" || s.Key == "vcs.modified" {
			text += " " + s.Key + "=" + s.Value
		}
	}
	return text
}
