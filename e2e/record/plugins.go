package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"

	"barnabas/e2e/kafka"
)

// recordPlugins records what plugins there are besides connectors, and their settings, for package worker; and, in settings.json, what
// Connect says of versions of plugins (KIP-891), groups of topics to create (KIP-158) and tasks.max.enforce (KIP-1004).
func (r *recorder) recordPlugins(ctx context.Context) error {
	connect, err := r.connect(ctx, "plugins", nil)
	if err != nil {
		return err
	}
	defer connect.Process().Kill()
	s := &session{r: r, connect: connect}
	_, text, err := s.ask(ctx, http.MethodGet, "/connector-plugins?connectorsOnly=false", "")
	if err != nil {
		return fmt.Errorf("list the plugins: %w", err)
	}
	type plugin struct {
		Class   string          `json:"class"`
		Type    string          `json:"type"`
		Version string          `json:"version"`
		Keys    json.RawMessage `json:"keys"`
	}
	var listed, others []plugin
	if err := json.Unmarshal([]byte(text), &listed); err != nil {
		return fmt.Errorf("list the plugins: %w", err)
	}
	for _, p := range listed {
		if p.Type == "source" || p.Type == "sink" {
			continue
		}
		_, keys, err := s.ask(ctx, http.MethodGet, "/connector-plugins/"+p.Class+"/config", "")
		if err != nil {
			return fmt.Errorf("keys of %s: %w", p.Class, err)
		}
		p.Keys = json.RawMessage(keys)
		others = append(others, p)
	}
	root, err := kafka.Root()
	if err != nil {
		return err
	}
	into := *r
	into.out = filepath.Join(root, "worker")
	if err := into.write("plugins.json", others); err != nil {
		return err
	}
	var all []judgement
	for _, class := range []string{"MirrorSourceConnector", "FileStreamSourceConnector", "FileStreamSinkConnector"} {
		more, err := s.settings(ctx, class)
		if err != nil {
			return err
		}
		all = append(all, more...)
	}
	return r.write("settings.json", all)
}

// judgement is what a validation finds of settings.
type judgement struct {
	Class    string            `json:"class"`
	Settings map[string]string `json:"settings"`
	Status   int               `json:"status"`
	// Count is the number of errors, Errors are they by setting.
	Count  int                 `json:"count"`
	Errors map[string][]string `json:"errors,omitempty"`
}

const transformClass = "org.apache.kafka.connect.transforms."

// judged are settings, as pairs of key and value.
var judged = [][]string{
	{"connector.plugin.version", "4.3.1"},
	{"connector.plugin.version", "latest"},
	{"connector.plugin.version", " 4.3.1 "},
	{"connector.plugin.version", "4.3"},
	{"connector.plugin.version", "4.3.0"},
	{"connector.plugin.version", "[4.0,5.0)"},
	{"connector.plugin.version", "[4.3.1]"},
	{"connector.plugin.version", "(,4.0]"},
	{"connector.plugin.version", "[4.0"},
	{"connector.plugin.version", "[4.3.1,)"},
	{"connector.plugin.version", "[3.0,4.0),[4.3,4.4)"},
	{"connector.plugin.version", "abc"},
	{"key.converter.plugin.version", "4.3.1"},
	{"value.converter", stringConverter, "value.converter.plugin.version", "9.9"},
	{"value.converter", stringConverter, "value.converter.plugin.version", "4.3.1"},
	{"value.converter", stringConverter, "value.converter.plugin.version", "[4.0,5.0)"},
	{"value.converter", stringConverter, "value.converter.plugin.version", "[9"},
	{"transforms", "a", "transforms.a.type", transformClass + "Filter", "transforms.a.plugin.version", "4.3.1"},
	{"transforms", "a", "transforms.a.type", transformClass + "Filter", "transforms.a.plugin.version", "9.9"},
	{"transforms", "a", "transforms.a.type", transformClass + "Filter", "transforms.a.plugin.version", "[4.0,5.0)"},
	{"transforms", "a", "transforms.a.type", transformClass + "Filter", "transforms.a.plugin.version", "[9"},
	{"tasks.max.enforce", "false"},
	{"tasks.max.enforce", "x"},
	{"topic.creation.groups", "a"},
	{"topic.creation.groups", "a,a"},
	{"topic.creation.groups", "default"},
	{"topic.creation.default.partitions", "3"},
	{"topic.creation.default.replication.factor", "1"},
	{"topic.creation.default.partitions", "0", "topic.creation.default.replication.factor", "1"},
	{"topic.creation.default.partitions", "-1", "topic.creation.default.replication.factor", "-1"},
	{"topic.creation.default.partitions", "x", "topic.creation.default.replication.factor", "0"},
	{"topic.creation.default.partitions", "1", "topic.creation.default.replication.factor", "1", "topic.creation.default.include", "a", "topic.creation.default.exclude", "b"},
	{"topic.creation.default.partitions", "1", "topic.creation.default.replication.factor", "1", "topic.creation.groups", "a"},
	{"topic.creation.default.partitions", "1", "topic.creation.default.replication.factor", "1", "topic.creation.groups", "a", "topic.creation.a.include", "a.*"},
	{"topic.creation.default.partitions", "1", "topic.creation.default.replication.factor", "1", "topic.creation.groups", "a", "topic.creation.a.include", "("},
	{"topic.creation.default.partitions", "1", "topic.creation.default.replication.factor", "1", "topic.creation.groups", "a", "topic.creation.a.exclude", "a.*"},
	{
		"topic.creation.default.partitions", "1", "topic.creation.default.replication.factor", "1", "topic.creation.groups", "b,a", "topic.creation.a.include", "x",
		"topic.creation.b.include", "y", "topic.creation.b.partitions", "0", "topic.creation.a.cleanup.policy", "compact",
	},
	{"topic.creation.default.partitions", "1", "topic.creation.default.replication.factor", "1", "topic.creation.groups", "default"},
	{"topic.creation.default.partitions", "1", "topic.creation.default.replication.factor", "1", "topic.creation.groups", "a,a", "topic.creation.a.include", "x"},
	{"topic.creation.default.partitions", "1", "topic.creation.default.replication.factor", "1", "topic.creation.c.include", "x"},
}

// settings asks what a connector's settings may be.
func (s *session) settings(ctx context.Context, class string) (all []judgement, err error) {
	config := s.r.minimal(class)
	for _, wrong := range judged {
		j := judgement{Class: class, Settings: map[string]string{}, Errors: map[string][]string{}}
		for i := 0; i < len(wrong); i += 2 {
			j.Settings[wrong[i]] = wrong[i+1]
		}
		res, text, err := s.ask(ctx, http.MethodPut, "/connector-plugins/"+class+"/config/validate", with(config, wrong...))
		if err != nil {
			return nil, fmt.Errorf("validate %v: %w", wrong, err)
		}
		var infos struct {
			Count   int `json:"error_count"`
			Configs []struct {
				Value struct {
					Name   string
					Errors []string
				}
			}
		}
		if err := json.Unmarshal([]byte(text), &infos); err != nil {
			return nil, fmt.Errorf("validate %v: %w", wrong, err)
		}
		j.Status, j.Count = res.StatusCode, infos.Count
		for _, c := range infos.Configs {
			if len(c.Value.Errors) > 0 {
				j.Errors[c.Value.Name] = c.Value.Errors
			}
		}
		all = append(all, j)
	}
	return all, nil
}
