package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"barnabas/access"
	"barnabas/config"
	"barnabas/connection"
	"barnabas/k2k"
	"barnabas/rest"
	"barnabas/worker"
)

// manifest is one document of a file for apply, diff and export.
type manifest struct {
	kind, name string
	spec       connection.Spec // of a connection
	app        k2k.Spec        // of an app
	role       access.Role
	config     map[string]string // of a connector
}

// manifestKinds are those of documents, in the order in which they are applied: what is used comes first.
var manifestKinds = []string{"connection", "role", "app", "connector"}

// fields are what the document says, as its JSON has it, by path.
func (m manifest) fields() map[string]string {
	var v any
	switch m.kind {
	case "connection":
		v = m.spec
	case "role":
		role := m.role
		role.Name = ""
		v = role
	case "app":
		v = m.app.Defaults()
	default:
		settings := maps.Clone(m.config)
		delete(settings, "name")
		v = map[string]any{"config": settings}
	}
	text, _ := json.Marshal(v) // structs of texts and numbers
	var tree any
	_ = json.Unmarshal(text, &tree)
	all := map[string]string{}
	flatten("", tree, all)
	return all
}

// flatten writes the leaves of JSON by their paths. Lists are leaves.
func flatten(path string, tree any, into map[string]string) {
	fields, ok := tree.(map[string]any)
	if !ok {
		text, _ := json.Marshal(tree)
		if s, isText := tree.(string); isText {
			text = []byte(s)
		}
		if string(text) != "[]" && string(text) != "" && string(text) != "null" {
			into[path] = string(text)
		}
		return
	}
	for key, value := range fields {
		flatten(strings.TrimPrefix(path+"."+key, "."), value, into)
	}
}

// readManifests reads the documents of a file, in the order in which they are applied.
func (c *cli) readManifests(file string) (all []manifest, _ error) {
	text, err := c.readFile(file)
	if err != nil {
		return nil, err
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	for n := 1; ; n++ {
		var tree map[string]any
		err := d.Decode(&tree)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: document %d is not YAML: %s", file, n, yamlPlace(err))
		}
		if len(tree) == 0 {
			continue
		}
		m, err := newManifest(tree)
		if err != nil {
			return nil, fmt.Errorf("%s: document %d: %w", file, n, err)
		}
		if slices.ContainsFunc(all, func(o manifest) bool { return o.kind == m.kind && o.name == m.name }) {
			return nil, fmt.Errorf("%s: document %d: %s %s is there twice", file, n, m.kind, m.name)
		}
		all = append(all, m)
	}
	slices.SortStableFunc(all, func(a, b manifest) int {
		return cmp.Compare(slices.Index(manifestKinds, a.kind), slices.Index(manifestKinds, b.kind))
	})
	return all, nil
}

func newManifest(tree map[string]any) (m manifest, err error) {
	m.kind, _ = tree["kind"].(string)
	m.name, _ = tree["name"].(string)
	if !slices.Contains(manifestKinds, m.kind) || m.name == "" {
		return m, fmt.Errorf("it needs a name and a kind, which is one of %s", strings.Join(manifestKinds, ", "))
	}
	delete(tree, "kind")
	delete(tree, "name")
	text, err := treeJSON(tree)
	if err != nil {
		return m, err
	}
	switch m.kind {
	case "connection":
		name, err := connection.ParseName(m.name)
		if err != nil {
			return m, err
		}
		m.spec, err = connection.Decode(name, text)
		return m, err
	case "role":
		m.role, err = access.DecodeRole(m.name, text)
		return m, err
	case "app":
		m.app, err = k2k.Decode(m.name, text)
		return m, err
	}
	var only struct {
		Config map[string]string `json:"config"`
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if d.Decode(&only) != nil || len(only.Config) == 0 { // its error could show a value
		return m, fmt.Errorf("connector %s has a config of texts, and nothing else", m.name)
	}
	m.config = only.Config
	return m, nil
}

// present is what the cluster has in place of m; false: nothing.
func present(ctx context.Context, client *rest.Client, m manifest) (manifest, bool, error) {
	at := manifest{kind: m.kind, name: m.name}
	var err error
	switch m.kind {
	case "connection":
		var name connection.Name
		if name, err = connection.ParseName(m.name); err == nil {
			var k worker.Connection
			k, err = client.KafkaConnection(ctx, name)
			at.spec = k.Spec
		}
	case "role":
		var r rest.Role
		r, err = client.Role(ctx, m.name)
		at.role = r.Role
	case "app":
		var a rest.App
		a, err = client.App(ctx, m.name)
		at.app = a.Spec
	default:
		at.config, err = client.Config(ctx, m.name)
	}
	if rest.IsNotFound(err) {
		return at, false, nil
	}
	return at, err == nil, err
}

// put makes the cluster have m.
func put(ctx context.Context, client *rest.Client, m manifest) (err error) {
	switch m.kind {
	case "connection":
		name, err := connection.ParseName(m.name)
		if err == nil {
			_, err = client.PutKafkaConnection(ctx, name, m.spec)
		}
		return err
	case "role":
		_, err = client.PutRole(ctx, m.role)
		return err
	case "app":
		_, err = client.PutApp(ctx, m.name, m.app, worker.AppCondition{})
		return err
	}
	_, err = client.PutConfig(ctx, m.name, m.config)
	return err
}

// difference is what apply would change of one thing.
type difference struct {
	Kind    string        `json:"kind"`
	Name    string        `json:"name"`
	Change  string        `json:"change"` // create, update or none
	Changes []fieldChange `json:"changes"`
	// Problems are those that apply would have, if it was rehearsed.
	Problems []string `json:"problems,omitempty"`
}

// fieldChange is one field; nil: it is not set.
type fieldChange struct {
	Field  string  `json:"field"`
	Before *string `json:"before"`
	After  *string `json:"after"`
}

func compare(ctx context.Context, client *rest.Client, m manifest) (difference, error) {
	d := difference{Kind: m.kind, Name: m.name, Change: "none", Changes: []fieldChange{}}
	there, ok, err := present(ctx, client, m)
	if err != nil {
		return d, err
	}
	before, after := map[string]string{}, m.fields()
	if ok {
		before = there.fields()
	}
	either := maps.Clone(before)
	maps.Copy(either, after)
	for _, field := range slices.Sorted(maps.Keys(either)) {
		was, had := before[field]
		is, has := after[field]
		if had && has && was == is {
			continue
		}
		f := fieldChange{Field: field}
		key := strings.TrimPrefix(field, "config.")
		if was = config.Redact(key, was); had {
			f.Before = &was
		}
		if is = config.Redact(key, is); has {
			f.After = &is
		}
		d.Changes = append(d.Changes, f)
	}
	switch {
	case !ok:
		d.Change = "create"
	case len(d.Changes) > 0:
		d.Change = "update"
	}
	return d, nil
}

func drawDifferences(t *table, all []difference) {
	for _, d := range all {
		t.text("%s %s: %s", d.Kind, d.Name, map[string]string{"create": "is not there, would be created", "update": "differs", "none": "as it is"}[d.Change])
		if len(d.Changes) == 0 {
			continue
		}
		t.header("FIELD", "PRESENT", "FILE")
		for _, f := range d.Changes {
			t.row(f.Field, set(f.Before), set(f.After))
		}
		for _, problem := range d.Problems {
			t.text("it would fail: %s", problem)
		}
	}
}

func (c *cli) compareAll(ctx context.Context, client *rest.Client, file string) (manifests []manifest, all []difference, err error) {
	if manifests, err = c.readManifests(file); err != nil {
		return nil, nil, err
	}
	all = []difference{}
	for _, m := range manifests {
		d, err := compare(ctx, client, m)
		if err != nil {
			return nil, nil, c.wrong(fmt.Errorf("%s %s: %w", m.kind, m.name, err))
		}
		all = append(all, d)
	}
	return manifests, all, nil
}

const manifestHelp = `FILE holds YAML documents, each of a kind (connection, role, app, connector) and a name, with the
fields that "barnabas export" shows. What a file does not name is left alone.`

func (c *cli) diffCommand() *cobra.Command {
	file := ""
	cmd := &cobra.Command{
		Use: "diff -f FILE", Short: "Show how connections, roles, apps and connectors differ from a file", Args: cobra.NoArgs,
		Long: "Show how connections, roles, apps and connectors differ from a file. Exits with 3 if they do.\n\n" + manifestHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			_, all, err := c.compareAll(cmd.Context(), client, file)
			if err != nil {
				return err
			}
			if err := c.show(all, func(t *table) { drawDifferences(t, all) }); err != nil {
				return err
			}
			if slices.ContainsFunc(all, func(d difference) bool { return d.Change != "none" }) {
				return errDifference
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "the documents; - is standard input")
	return cmd
}

func (c *cli) applyCommand() *cobra.Command {
	file, dry := "", false
	cmd := &cobra.Command{
		Use: "apply -f FILE", Short: "Make connections, roles, apps and connectors what a file says", Args: cobra.NoArgs,
		Long: "Make connections, roles, apps and connectors what a file says, connections and roles first. Applying it again\n" +
			"changes nothing. --dry-run shows what would change, as \"barnabas diff\" does, and why it would fail:\n" +
			"what the caller may not do, references that cannot be resolved and settings that do not fit, and\n" +
			"rights in Kafka that a connection's principal lacks. Connections that the file itself makes or\n" +
			"changes can be tried only when they are there. It changes nothing, and ends with 1 if apply would fail.\n\n" + manifestHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			manifests, all, err := c.compareAll(cmd.Context(), client, file)
			if err != nil {
				return err
			}
			if dry {
				return c.rehearse(cmd.Context(), client, manifests, all)
			}
			for i, m := range manifests {
				if all[i].Change == "none" {
					continue
				}
				if err := put(cmd.Context(), client, m); err != nil {
					return c.wrong(fmt.Errorf("%s %s, after %d of %d: %w", m.kind, m.name, i, len(manifests), err))
				}
			}
			return c.show(all, func(t *table) {
				t.header("KIND", "NAME", "CHANGE")
				for _, d := range all {
					t.row(d.Kind, d.Name, map[string]string{"create": "created", "update": "updated", "none": "-"}[d.Change])
				}
			})
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "the documents; - is standard input")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "show what would change and why it would fail, and change nothing")
	return cmd
}

func (c *cli) exportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "export [NAME...]", Short: "Write connections, roles, apps and connectors as a file for apply",
		Long: `Write all connections, roles that were put over REST, apps and connectors, or those named, as YAML documents that "barnabas apply" takes.
References to secrets are written as they are. Connectors that belong to an app are left to
it. Secrets that are written out in a connector's configuration are written out here, too.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			var out bytes.Buffer
			if err := export(cmd.Context(), client, &out, args); err != nil {
				return c.wrong(err)
			}
			_, err = c.stdout.Write(out.Bytes())
			return err
		},
	}
}

// heading begins a manifest as it is written.
type heading struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

func export(ctx context.Context, client *rest.Client, out io.Writer, only []string) error {
	wanted := func(name string) bool { return len(only) == 0 || slices.Contains(only, name) }
	write := func(v any) error {
		text, err := toYAML(v)
		if err == nil {
			_, err = fmt.Fprintf(out, "---\n%s", text)
		}
		return err
	}
	connections, err := client.KafkaConnections(ctx)
	if err != nil {
		return err
	}
	for _, k := range connections {
		name := connection.Name{Env: k.Environment, Name: k.Name}
		if !wanted(name.String()) {
			continue
		}
		whole, err := client.KafkaConnection(ctx, name)
		if rest.IsNotFound(err) {
			continue // deleted since it was listed
		}
		if err != nil {
			return err
		}
		if err := write(struct {
			heading
			connection.Spec
		}{heading{"connection", name.String()}, whole.Spec}); err != nil {
			return err
		}
	}
	if err := exportRoles(ctx, client, wanted, write); err != nil {
		return err
	}
	apps, err := client.Apps(ctx)
	if err != nil {
		return err
	}
	for _, a := range apps {
		if !wanted(a.Name) {
			continue
		}
		if err := write(struct {
			heading
			k2k.Spec
		}{heading{"app", a.Name}, a.Spec}); err != nil {
			return err
		}
	}
	names, err := client.Connectors(ctx)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if !wanted(name) {
			continue
		}
		settings, err := client.Config(ctx, name)
		if rest.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		if settings[k2k.AppKey] != "" {
			continue
		}
		delete(settings, "name")
		if err := write(struct {
			heading
			Config map[string]string `json:"config"`
		}{heading{"connector", name}, settings}); err != nil {
			return err
		}
	}
	return nil
}

// exportRoles writes the roles that were put over REST; those in files are files already. Who may not see roles gets none, as of
// connections.
func exportRoles(ctx context.Context, client *rest.Client, wanted func(string) bool, write func(v any) error) error {
	roles, err := client.Roles(ctx)
	if rest.HasStatus(err, http.StatusForbidden) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, r := range roles {
		if r.File != "" || !wanted(r.Name) {
			continue
		}
		if err := write(struct {
			Kind string `json:"kind"`
			access.Role
		}{"role", r.Role}); err != nil {
			return err
		}
	}
	return nil
}
