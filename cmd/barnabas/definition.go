package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"barnabas/config"
	"barnabas/worker"
)

// definition is a connector as a file describes it.
type definition struct {
	name    string // empty: the file does not say
	config  map[string]string
	initial worker.TargetState // empty: the file does not say
}

// maxDefinitionBytes bounds what is read from a file: a record of the config topic
// cannot hold more than 1 MiB anyway.
const maxDefinitionBytes = 4 << 20

// readDefinition reads the file at path, or standard input for "-".
func (c *cli) readDefinition(path string) (definition, error) {
	text, err := c.readFile(path)
	if err != nil {
		return definition{}, err
	}
	d, err := parseDefinition(filepath.Ext(path), text)
	if err != nil {
		return d, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// readFile reads the file that -f names; - is standard input.
func (c *cli) readFile(path string) ([]byte, error) {
	if path == "" {
		return nil, usagef("give the file with -f FILE, or -f - for standard input")
	}
	in := c.stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxDefinitionBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(text) > maxDefinitionBytes {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, maxDefinitionBytes)
	}
	return text, nil
}

// named settles the name: flag wins over what file says.
func (d definition) named(flag, file string) (definition, error) {
	if flag != "" {
		d.name = flag
	}
	if d.name == "" {
		return d, fmt.Errorf(`%s has no "name": add it, or give --name`, file)
	}
	if _, ok := d.config["name"]; ok {
		d.config["name"] = d.name
	}
	return d, nil
}

// parseDefinition reads text as what the extension of its file says, or, if that
// says nothing, as what it looks like. Errors hold nothing of the text, which may be a secret.
func parseDefinition(extension string, text []byte) (definition, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if extension == ".properties" || extension != ".yaml" && extension != ".yml" && extension != ".json" && looksLikeProperties(text) {
		settings, err := config.ParseProperties(string(text))
		return definition{name: settings["name"], config: settings}, err
	}
	var root yaml.Node
	if trimmed := bytes.TrimSpace(text); extension == ".json" || len(trimmed) > 0 && trimmed[0] == '{' {
		if !json.Valid(text) {
			return definition{}, jsonError(text)
		}
	}
	if err := yaml.Unmarshal(text, &root); err != nil { // JSON is YAML
		return definition{}, fmt.Errorf("it is not YAML: %s", yamlPlace(err))
	}
	if len(root.Content) == 0 || root.Content[0].Kind != yaml.MappingNode {
		return definition{}, fmt.Errorf(`it has no settings: it is to be {"name": …, "config": {…}}, or the settings alone`)
	}
	return fromMapping(root.Content[0])
}

// jsonError says where text stops being JSON.
func jsonError(text []byte) error {
	var v any
	err := json.Unmarshal(text, &v)
	var syntax *json.SyntaxError
	if ok := asSyntax(err, &syntax); ok {
		at := min(max(int(syntax.Offset), 0), len(text))
		return fmt.Errorf("it is not JSON: line %d: %w", 1+bytes.Count(text[:at], []byte("\n")), err)
	}
	return fmt.Errorf("it is not JSON")
}

func asSyntax(err error, target **json.SyntaxError) bool {
	s, ok := err.(*json.SyntaxError) //nolint:errorlint // json returns it as it is
	*target = s
	return ok
}

// yamlPlace is the line that an error of the parser names. What else it says may
// quote the text.
func yamlPlace(err error) string {
	if _, rest, ok := strings.Cut(err.Error(), "line "); ok {
		number, _, _ := strings.Cut(rest, ":")
		return "see line " + number
	}
	return "it cannot be read"
}

// looksLikeProperties tells .properties from YAML by the first separator of the first setting.
func looksLikeProperties(text []byte) bool {
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == '!' || line == "---" {
			continue
		}
		if line[0] == '{' {
			return false
		}
		at := strings.IndexAny(line, "=:")
		return at >= 0 && line[at] == '='
	}
	return false
}

// fromMapping reads Connect's shape, or settings alone.
func fromMapping(m *yaml.Node) (definition, error) {
	fields := map[string]*yaml.Node{}
	for i := 0; i+1 < len(m.Content); i += 2 {
		fields[m.Content[i].Value] = m.Content[i+1]
	}
	settings := fields["config"]
	if settings == nil || settings.Kind != yaml.MappingNode {
		config, err := scalars(m)
		return definition{name: config["name"], config: config}, err
	}
	config, err := scalars(settings)
	if err != nil {
		return definition{}, err
	}
	d := definition{name: config["name"], config: config}
	for field, node := range fields {
		switch field {
		case "config":
		case "name":
			d.name = node.Value
		case "initial_state":
			initial, ok := map[string]worker.TargetState{
				"RUNNING": worker.Started, "PAUSED": worker.Paused, "STOPPED": worker.Stopped,
			}[strings.ToUpper(node.Value)]
			if !ok {
				return d, fmt.Errorf("initial_state is RUNNING, PAUSED or STOPPED")
			}
			d.initial = initial
		default:
			return d, fmt.Errorf(`there is no field %q beside "config": they are name, config and initial_state`, field)
		}
	}
	return d, nil
}

// scalars reads settings as they are written, whatever their type.
func scalars(m *yaml.Node) (map[string]string, error) {
	settings := map[string]string{}
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, value := m.Content[i].Value, m.Content[i+1]
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		if value.Kind != yaml.ScalarNode || value.Tag == "!!null" {
			return nil, fmt.Errorf("%q needs a value that is text or a number", key)
		}
		settings[key] = value.Value
	}
	return settings, nil
}
