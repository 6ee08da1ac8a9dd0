package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"barnabas/config"
	"barnabas/worker"
)

// The readers here accept what Jackson accepts for Connect's types, and answer
// 500 to the rest, as Connect does: scalars become strings as they are written,
// objects and arrays do not, the last of two equal fields wins, and a byte order
// mark is skipped. Messages are ours: Jackson's name Java classes. None repeats
// a value, which might be a secret.

// readObject reads a JSON object. A null and an empty body give nil.
func readObject(body []byte) (map[string]json.RawMessage, error) {
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	if len(body) == 0 {
		return nil, nil
	}
	var fields map[string]json.RawMessage
	if err := readJSON(body, &fields, "an object"); err != nil {
		return nil, err
	}
	return fields, nil
}

// readOurs reads a JSON object for a path that Connect does not have: there what is wrong with it is a 400.
func readOurs(body []byte) (map[string]json.RawMessage, error) {
	fields, err := readObject(body)
	var f *failure
	if errors.As(err, &f) {
		return nil, fail(http.StatusBadRequest, "%s", f.message)
	}
	return fields, err
}

func readJSON(body []byte, v any, what string) error {
	if !utf8.Valid(body) {
		return fail(http.StatusInternalServerError, "The request body is not UTF-8.")
	}
	err := json.Unmarshal(body, v)
	var syntax *json.SyntaxError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &syntax):
		return fail(http.StatusInternalServerError, "The request body is not JSON: %v at byte %d.", syntax, syntax.Offset)
	}
	return fail(http.StatusInternalServerError, "The request body is not %s.", what)
}

// readStrings reads an object as Java's Map<String, String>. A null and an empty body give nil.
func readStrings(body []byte) (map[string]*string, error) {
	fields, err := readObject(body)
	if fields == nil {
		return nil, err
	}
	out := make(map[string]*string, len(fields))
	for k, raw := range fields {
		v, err := readString(raw)
		if err != nil {
			return nil, fail(http.StatusInternalServerError, "The value of %q is not a string.", k)
		}
		out[k] = v
	}
	return out, nil
}

var errNotScalar = errors.New("not a scalar")

// readString reads a string, or another scalar as its text; nil for null.
func readString(raw json.RawMessage) (*string, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return nil, errNotScalar
	}
	switch raw[0] {
	case 'n':
		return nil, nil
	case '{', '[':
		return nil, errNotScalar
	case '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, fmt.Errorf("read a string: %w", err)
		}
		return &s, nil
	}
	s := string(raw)
	return &s, nil
}

// creation is the body of POST /connectors (Connect's CreateConnectorRequest).
type creation struct {
	name    string
	config  map[string]*string
	initial worker.TargetState
}

func readCreation(body []byte) (creation, error) {
	var c creation
	fields, err := readObject(body)
	if err != nil {
		return c, err
	}
	if fields == nil {
		return c, fail(http.StatusInternalServerError, "The request has no body.")
	}
	if err := onlyFields(fields, "name", "config", "initial_state"); err != nil {
		return c, err
	}
	if raw, ok := fields["name"]; ok {
		name, err := readString(raw)
		if err != nil {
			return c, fail(http.StatusInternalServerError, `The value of "name" is not a string.`)
		}
		if name != nil {
			c.name = trim(*name)
		}
	}
	if c.initial, err = readInitialState(fields["initial_state"]); err != nil {
		return c, err
	}
	raw, ok := fields["config"]
	if !ok || string(raw) == "null" {
		return c, fail(http.StatusInternalServerError, `The request has no "config".`)
	}
	c.config, err = readStrings(raw)
	return c, err
}

// onlyFields refuses fields that are not known.
func onlyFields(fields map[string]json.RawMessage, known ...string) error {
	for k := range fields {
		if !slices.Contains(known, k) {
			return fail(http.StatusInternalServerError, "Unrecognized field %q, not one of %q.", k, known)
		}
	}
	return nil
}

// readInitialState reads initial_state (KIP-980); absent and null give "".
func readInitialState(raw json.RawMessage) (worker.TargetState, error) {
	if raw == nil {
		return "", nil
	}
	s, err := readString(raw)
	if err == nil && s == nil {
		return "", nil
	}
	states := map[string]worker.TargetState{"RUNNING": worker.Started, "PAUSED": worker.Paused, "STOPPED": worker.Stopped}
	if err == nil {
		if state, ok := states[strings.ToUpper(*s)]; ok {
			return state, nil
		}
	}
	return "", fail(http.StatusInternalServerError, `The value of "initial_state" is not one of RUNNING, PAUSED, STOPPED.`)
}

// trim is Java's String.trim.
func trim(s string) string { return strings.TrimFunc(s, func(r rune) bool { return r <= ' ' }) }

// readTaskConfigs reads the body of the internal POST /connectors/{name}/tasks.
func readTaskConfigs(body []byte) ([]map[string]string, error) {
	var list []json.RawMessage
	if err := readJSON(body, &list, "a list of objects"); err != nil {
		return nil, err
	}
	tasks := make([]map[string]string, 0, len(list))
	for i, raw := range list {
		fields, err := readStrings(raw)
		if err != nil {
			return nil, err
		}
		task := make(map[string]string, len(fields))
		for k, v := range fields {
			if v == nil {
				return nil, fail(http.StatusInternalServerError, "The value of %q in task %d is null.", k, i)
			}
			task[k] = *v
		}
		tasks = append(tasks, task)
	}
	return tasks, nil
}

const classKey = "connector.class"

// checkConfig settles a new configuration of a connector: the name in it must be
// that of the path or request and is added if absent, it must name a class,
// and no value may be null. The worker checks the rest.
func checkConfig(name string, written map[string]*string) (map[string]string, error) {
	if written == nil {
		return nil, fail(http.StatusInternalServerError, "The request has no configuration.")
	}
	if in := written["name"]; in != nil && *in != name {
		return nil, nameMismatch(*in, name)
	}
	written["name"] = &name
	if written[classKey] == nil {
		return nil, noClass(written)
	}
	if reason := unaddressable(name); reason != "" {
		return nil, invalid("Invalid value %s for configuration name: %s", name, reason)
	}
	out := make(map[string]string, len(written))
	for k, v := range written {
		if v == nil {
			return nil, invalid(nullValue)
		}
		out[k] = *v
	}
	return out, nil
}

const nullValue = "Null value can not be supplied as the configuration value."

func nameMismatch(in, name string) error {
	return fail(http.StatusBadRequest, "Connector name configuration (%s) doesn't match connector name in the URL (%s)", in, name)
}

// invalid frames one problem of a configuration as Connect does.
func invalid(format string, args ...any) error {
	return fail(http.StatusBadRequest, "Connector configuration is invalid and contains the following 1 error(s):\n%s\n"+
		"You can also find the above list of errors at the endpoint `/connector-plugins/{connectorType}/config/validate`",
		fmt.Sprintf(format, args...))
}

// noClass is Connect's refusal of a configuration without a class. It shows the configuration
// as Java prints a map; secrets that are written out are hidden.
func noClass(written map[string]*string) error {
	keys := make([]string, 0, len(written))
	for k := range written {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for i, k := range keys {
		value := "null"
		if v := written[k]; v != nil {
			value = config.Redact(k, *v)
		}
		keys[i] = k + "=" + value
	}
	return fail(http.StatusBadRequest, "Connector config {%s} contains no connector type", strings.Join(keys, ", "))
}

// unaddressable says why a name would make a connector that no path can name.
// Connect creates those, and then they cannot be deleted.
func unaddressable(name string) string {
	switch {
	case strings.ContainsAny(name, "/%"):
		return "String may not contain '/' or '%', because no path could address the connector"
	case name == "." || name == "..":
		return "String may not be '.' or '..', because no path could address the connector"
	}
	return ""
}
