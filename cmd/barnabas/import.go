package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/connector/mirror/dedicated"
	"barnabas/connector/mirror/strimzi"
)

// imported is what a file of MirrorMaker 2 becomes.
type imported struct {
	File     string              `json:"file"`
	Kind     string              `json:"kind"` // mm2.properties or KafkaMirrorMaker2
	Settings []dedicated.Outcome `json:"settings"`
	Problems []string            `json:"problems,omitempty"` // why it cannot be run
	Notes    []string            `json:"notes,omitempty"`    // what is to be done by hand
	Parts    []importedPart      `json:"parts"`
}

// importedPart is a worker or a connector, as a file that barnabas takes.
type importedPart struct {
	Path   string            `json:"path"` // below --out
	Name   string            `json:"name,omitempty"`
	State  string            `json:"initial_state,omitempty"`
	Config map[string]string `json:"config"`
}

func (c *cli) importCommand() *cobra.Command {
	var out, secrets string
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Show what a file of MirrorMaker 2 becomes", Args: cobra.ExactArgs(1),
		Long: `Show what each setting of a file of MirrorMaker 2 becomes, and what is ignored
and why. FILE is an mm2.properties or Strimzi's KafkaMirrorMaker2 as YAML.
Nothing is run.

An mm2.properties needs no conversion: "barnabas mirror FILE" runs it. With --out
the same is written as worker files and connector definitions, for
"barnabas worker" and "barnabas connectors create -f": they use the same groups,
topics and names, so offsets are found again.

Passwords that FILE has written out are written out in the files, too, and are
hidden in what is shown.`,
		Example: "  barnabas import mm2.properties\n  barnabas import mirror.yaml --out imported --secrets /mnt/secrets",
		RunE: func(cmd *cobra.Command, args []string) error {
			i, err := c.importFile(cmd.Context(), args[0], secrets)
			if err != nil {
				return err
			}
			if out != "" {
				if err := i.write(out); err != nil {
					return err
				}
			}
			if err := c.show(i.shown(), i.draw); err != nil {
				return err
			}
			if len(i.Problems) > 0 {
				return fmt.Errorf("%s: it cannot be run as it is: %s", args[0], strings.Join(i.Problems, "; "))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "write worker files and connector definitions below this `directory`")
	cmd.Flags().StringVar(&secrets, "secrets", strimzi.DefaultSecrets, "the `directory` where the Secrets of a KafkaMirrorMaker2 are mounted")
	return cmd
}

// maxImportBytes bounds a file.
const maxImportBytes = 4 << 20

func (c *cli) importFile(ctx context.Context, path, secrets string) (*imported, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxImportBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(text) > maxImportBytes {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, maxImportBytes)
	}
	extension := filepath.Ext(path)
	if extension == ".yaml" || extension == ".yml" || extension != ".properties" && !looksLikeProperties(text) {
		r, err := strimzi.Parse(text, secrets)
		if errors.Is(err, strimzi.ErrOther) {
			return nil, fmt.Errorf("%s is neither an mm2.properties nor a KafkaMirrorMaker2", path)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return importResource(path, r), nil
	}
	written, err := config.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return importProperties(path, written), ctx.Err()
}

// importProperties tells what an mm2.properties becomes.
func importProperties(path string, written map[string]string) *imported {
	file, problems, warnings := dedicated.Parse(written)
	i := &imported{File: path, Kind: "mm2.properties", Settings: file.Outcomes(), Parts: []importedPart{}}
	for _, p := range problems {
		i.Problems = append(i.Problems, p.Message)
	}
	for _, w := range warnings {
		if _, ok := written[w.Key]; !ok || w.Key == "replication.policy.class" { // of no setting alone
			i.Notes = append(i.Notes, w.Message)
		}
	}
	i.addLinks(file)
	i.judge()
	return i
}

func (i *imported) addLinks(file *dedicated.File) {
	for n, l := range file.Links() {
		worker := file.Worker(l)
		if file.InternalREST() {
			maps.Copy(worker, file.REST())
		}
		if worker["listeners"] == "" {
			worker["listeners"] = fmt.Sprintf("http://127.0.0.1:%d", 8083+n)
		}
		dir := fileName(l.Source) + "-to-" + fileName(l.Target)
		i.Parts = append(i.Parts, importedPart{Path: filepath.Join(dir, "worker.properties"), Config: worker})
		for _, c := range file.Connectors(l) {
			if c.Off == "" {
				i.Parts = append(i.Parts, importedPart{Path: filepath.Join(dir, c.Name+".json"), Name: c.Name, Config: c.Config})
			}
		}
	}
}

// importResource tells what a KafkaMirrorMaker2 becomes.
func importResource(path string, r *strimzi.Resource) *imported {
	i := &imported{File: path, Kind: "KafkaMirrorMaker2", Settings: r.Outcomes, Notes: r.Notes}
	i.Parts = append(i.Parts, importedPart{Path: "worker.properties", Config: r.Worker})
	for _, c := range r.Connectors {
		i.Parts = append(i.Parts, importedPart{Path: fileName(strings.ReplaceAll(c.Name, "->", "-to-")) + ".json", Name: c.Name, State: c.InitialState, Config: c.Config})
	}
	i.judge()
	return i
}

var notInFileNames = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// fileName makes the name of a file out of an alias, which may hold anything.
func fileName(alias string) string {
	return cmp.Or(strings.TrimLeft(notInFileNames.ReplaceAllString(alias, "_"), "."), "_")
}

// write writes the files of all parts below dir, where none of them may be yet.
func (i *imported) write(dir string) error {
	for _, p := range i.Parts {
		path := filepath.Join(dir, p.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // it may hold passwords
		if err != nil {
			return fmt.Errorf("--out: %w", err)
		}
		if p.Name == "" {
			_, err = f.WriteString(config.FormatProperties(p.Config))
		} else {
			err = writeJSON(f, struct {
				Name   string            `json:"name"`
				Config map[string]string `json:"config"`
				State  string            `json:"initial_state,omitempty"`
			}{p.Name, p.Config, p.State})
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("--out: write %s: %w", path, err)
		}
	}
	return nil
}

// shown is i without passwords.
func (i *imported) shown() *imported {
	s := *i
	s.Parts = slices.Clone(i.Parts)
	for n, p := range s.Parts {
		hidden := map[string]string{}
		for k, v := range p.Config {
			hidden[k] = config.Redact(k, v)
		}
		s.Parts[n].Config = hidden
	}
	return &s
}

// judge tells of settings that reach workers and connectors and change nothing there.
func (i *imported) judge() {
	values := map[dedicated.Use]string{} // what a use is set to; the link is not needed
	workers := map[string]string{}       // why a worker's setting has no effect
	for _, p := range i.Parts {
		part := cmp.Or(p.Name, dedicated.WorkerPart)
		for k, v := range p.Config {
			values[dedicated.Use{Part: part, Key: k}] = v
		}
		if p.Name == "" {
			_, _, warnings := config.ParseWorker(config.Literal(p.Config))
			for _, w := range warnings {
				workers[w.Key] = w.Message
			}
		}
	}
	for n := range i.Settings {
		o := &i.Settings[n]
		why := ""
		for _, u := range o.Becomes {
			text := workers[u.Key]
			if u.Part != dedicated.WorkerPart {
				text = withoutEffect(u.Key, values[dedicated.Use{Part: u.Part, Key: u.Key}])
			}
			if text == "" { // it does something there
				why = ""
				break
			}
			if why == "" || u.Part == dedicated.WorkerPart {
				why = text
			}
		}
		if why != "" {
			o.Ignored, o.Becomes = why, nil
		}
	}
}

// connectorIgnores are settings of connectors that change nothing, with the reason.
var connectorIgnores = map[string]string{
	"metric.reporters": "metrics are at /metrics", "forwarding.admin.class": "names Java code, which does not run here",
	"key.converter": "records are copied as they are", "value.converter": "records are copied as they are", "header.converter": "records are copied as they are",
}

// kinds are the prefixes of client settings in connectors, with the client that takes them.
var kinds = []struct {
	prefix string
	kinds  []clientconfig.Kind
}{
	{"source.producer.", nil},
	{"target.consumer.", nil},
	{"source.cluster.", []clientconfig.Kind{clientconfig.Consumer, clientconfig.Admin}},
	{"target.cluster.", []clientconfig.Kind{clientconfig.Producer, clientconfig.Admin}},
	{"source.consumer.", []clientconfig.Kind{clientconfig.Consumer}},
	{"consumer.override.", []clientconfig.Kind{clientconfig.Consumer}},
	{"target.producer.", []clientconfig.Kind{clientconfig.Producer}},
	{"producer.override.", []clientconfig.Kind{clientconfig.Producer}},
	{"source.admin.", []clientconfig.Kind{clientconfig.Admin}},
	{"target.admin.", []clientconfig.Kind{clientconfig.Admin}},
	{"admin.override.", []clientconfig.Kind{clientconfig.Admin}},
	{"consumer.", []clientconfig.Kind{clientconfig.Consumer}},
	{"producer.", []clientconfig.Kind{clientconfig.Producer}},
}

// withoutEffect says why a connector's setting changes nothing; empty: it does.
func withoutEffect(key, value string) string {
	for _, k := range kinds {
		rest, ok := strings.CutPrefix(key, k.prefix)
		if !ok {
			continue
		}
		if len(k.kinds) == 0 {
			return "there is no such client"
		}
		if rest == "alias" || rest == "bootstrap.servers" {
			return ""
		}
		why := ""
		for _, kind := range k.kinds {
			text := clientIgnores(kind, rest, value)
			if text == "" {
				return ""
			}
			why = text
		}
		return why
	}
	return connectorIgnores[key]
}

// clientIgnores says why a client's setting changes nothing. What is about security always counts: alone it cannot be judged.
func clientIgnores(kind clientconfig.Kind, key, value string) string {
	if strings.HasPrefix(key, "ssl.") || strings.HasPrefix(key, "sasl.") || key == "security.protocol" || config.HasReference(value) {
		return ""
	}
	client, err := clientconfig.Build(config.Literal(map[string]string{"bootstrap.servers": "localhost:1", key: value}), kind)
	if err != nil {
		return ""
	}
	switch r := client.Report; {
	case len(r.Meaningless) > 0:
		return r.Meaningless[0].Message
	case len(r.Unknown) > 0 && r.Unknown[0].Nearest != "":
		return fmt.Sprintf("no client has it; did you mean %q?", r.Unknown[0].Nearest)
	case len(r.Unknown) > 0:
		return "no client has it"
	}
	return ""
}

// draw shows the settings as a table.
func (i *imported) draw(t *table) {
	t.text("%s, %s", i.File, i.Kind)
	t.header("SETTING", "BECOMES")
	for _, o := range i.Settings {
		if o.Ignored != "" {
			t.row(o.Key, "ignored: "+o.Ignored)
			continue
		}
		t.row(o.Key, strings.Join(slices.DeleteFunc([]string{o.Meaning, grouped(o.Becomes, i.Parts)}, func(s string) bool { return s == "" }), "; "))
	}
	for _, n := range i.Notes {
		t.text("note: %s", n)
	}
}

// grouped writes uses shortly: the parts of a link that take them under the same names together, and a setting of a cluster
// that each kind of client has besides once.
func grouped(uses []dedicated.Use, all []importedPart) string {
	byPart := map[[2]string][]string{}
	for _, u := range uses {
		at := [2]string{u.Link, u.Part}
		byPart[at] = append(byPart[at], u.Key)
	}
	parts := map[string][]string{}
	for at, keys := range byPart {
		slices.Sort(keys)
		link, short := at[0], strings.TrimPrefix(at[1], at[0]+".")
		what := strings.Join(compact(slices.Compact(keys)), ", ")
		parts[link+"\x00"+what] = append(parts[link+"\x00"+what], short)
	}
	var lines []string
	for key, names := range parts {
		link, what, _ := strings.Cut(key, "\x00")
		slices.Sort(names)
		who := strings.Join(names, ", ")
		if len(names) > 1 && len(names) == connectorsOf(link, all) {
			who = "connectors"
		}
		lines = append(lines, strings.TrimSpace(link+" "+who)+": "+what)
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}

// connectorsOf counts the connectors of a link.
func connectorsOf(link string, all []importedPart) int {
	n := 0
	for _, p := range all {
		if p.Name != "" && p.Config["source.cluster.alias"]+"->"+p.Config["target.cluster.alias"] == link {
			n++
		}
	}
	return n
}

// compact leaves out what only repeats a setting of a cluster for a kind of client.
func compact(keys []string) []string {
	return slices.DeleteFunc(slices.Clone(keys), func(k string) bool {
		for _, side := range []string{"source.", "target.", ""} {
			for _, kind := range []string{"producer.", "consumer.", "admin."} {
				if name, ok := strings.CutPrefix(k, side+kind); ok && (slices.Contains(keys, side+"cluster."+name) || side == "" && slices.Contains(keys, name)) {
					return true
				}
			}
		}
		return false
	})
}
