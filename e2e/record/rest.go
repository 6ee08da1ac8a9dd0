package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
)

// classes are the connectors whose definitions are recorded.
var classes = []string{"MirrorSourceConnector", "MirrorCheckpointConnector", "MirrorHeartbeatConnector", "FileStreamSourceConnector", "FileStreamSinkConnector"}

const stringConverter = "org.apache.kafka.connect.storage.StringConverter"

// minimal is a config that passes validation.
func (r *recorder) minimal(class string) map[string]string {
	mirror := map[string]string{
		"name": "x", "connector.class": "org.apache.kafka.connect.mirror." + class,
		"source.cluster.alias": "A", "target.cluster.alias": "B",
		"source.cluster.bootstrap.servers": r.source.Bootstrap(), "target.cluster.bootstrap.servers": r.target.Bootstrap(),
	}
	file := map[string]string{
		"name": "x", "connector.class": "org.apache.kafka.connect.file." + class,
		"file": filepath.Join(r.dir, "lines.txt"), "topic": "lines",
		"key.converter": stringConverter, "value.converter": stringConverter,
	}
	switch class {
	case "FileStreamSourceConnector":
		return file
	case "FileStreamSinkConnector":
		delete(file, "topic")
		file["topics"] = "lines"
		return file
	}
	return mirror
}

// with returns a config as JSON, changed by pairs of key and value; the value
// "" takes the key out.
func with(config map[string]string, pairs ...string) string {
	config = maps.Clone(config)
	for i := 0; i < len(pairs); i += 2 {
		config[pairs[i]] = pairs[i+1]
		if pairs[i+1] == "" {
			delete(config, pairs[i])
		}
	}
	text, err := json.Marshal(config)
	if err != nil {
		panic(err) // strings
	}
	return string(text)
}

// recordRest records validate-*.json and rest.json.
func (r *recorder) recordRest(ctx context.Context) error {
	connect, err := r.connect(ctx, "rest", nil)
	if err != nil {
		return err
	}
	defer connect.Process().Kill()
	s := &session{r: r, connect: connect}
	for _, class := range classes {
		if err := s.recordClass(ctx, class); err != nil {
			return err
		}
	}
	for _, part := range []func(context.Context) error{s.validation, s.lifecycle, s.states, s.offsets, s.listing} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return r.write("rest.json", s.said)
}

// recordClass records what a connector's settings are.
func (s *session) recordClass(ctx context.Context, class string) error {
	config := with(s.r.minimal(class))
	res, validated, err := s.ask(ctx, http.MethodPut, "/connector-plugins/"+class+"/config/validate", config)
	if err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("validate %s: %v %s", class, err, validated)
	}
	res, keys, err := s.ask(ctx, http.MethodGet, "/connector-plugins/"+class+"/config", "")
	if err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("keys of %s: %v %s", class, err, keys)
	}
	return s.r.write("validate-"+class+".json", map[string]json.RawMessage{
		"config":   json.RawMessage(s.normal(config)),
		"validate": json.RawMessage(s.normal(validated)),
		"keys":     json.RawMessage(s.normal(keys)),
	})
}

// row is one request of a script.
type row struct{ name, method, path, body string }

func (s *session) play(ctx context.Context, rows ...row) error {
	for _, r := range rows {
		if err := s.send(ctx, r.name, r.method, r.path, r.body); err != nil {
			return err
		}
	}
	return nil
}

// validation asks for what is refused, and how.
func (s *session) validation(ctx context.Context) error {
	source, sink, file := s.r.minimal("MirrorSourceConnector"), s.r.minimal("FileStreamSinkConnector"), s.r.minimal("FileStreamSourceConnector")
	create := func(name, config string) row {
		return row{name, "POST", "/connectors", `{"name":"x","config":` + config + `}`}
	}
	return s.play(ctx,
		create("create mirror without alias", with(source, "source.cluster.alias", "")),
		create("create mirror tasks.max abc", with(source, "tasks.max", "abc")),
		create("create mirror tasks.max 0", with(source, "tasks.max", "0")),
		create("create mirror bad boolean", with(source, "sync.topic.configs.enabled", "maybe")),
		create("create mirror bad number", with(source, "replication.factor", "three", "refresh.topics.interval.seconds", "x")),
		create("create mirror offset-syncs setting while off", with(source, "emit.offset-syncs.enabled", "false", "offset-syncs.topic.replication.factor", "1")),
		create("create mirror bad policy class", with(source, "replication.policy.class", "no.such.Policy")),
		create("create mirror two errors", with(source, "tasks.max", "abc", "sync.topic.acls.enabled", "x")),
		create("create mirror bad converter", with(source, "value.converter", "no.such.Converter")),
		create("create mirror bad transform", with(source, "transforms", "a")),
		create("create mirror exactly once required", with(source, "exactly.once.support", "required")),
		create("create sink without topics", with(sink, "topics", "")),
		create("create sink topics and regex", with(sink, "topics.regex", "a.*")),
		create("create file source without topic", with(file, "topic", "")),
		create("create file source empty batch", with(file, "batch.size", "x")),
		create("create sink consumer override", with(sink, "consumer.override.bogus", "1", "topics", "")),
		row{"validate mirror tasks.max abc", "PUT", "/connector-plugins/FileStreamSource/config/validate", with(file, "tasks.max", "abc")},
		row{"validate sink without topics", "PUT", "/connector-plugins/FileStreamSink/config/validate", with(sink, "topics", "")},
		row{"validate unknown provider", "PUT", "/connector-plugins/FileStreamSource/config/validate", with(file, "file", "${nope:a:b}")},
	)
}

// lifecycle walks a connector from creation to deletion.
func (s *session) lifecycle(ctx context.Context) error {
	file := s.r.minimal("FileStreamSourceConnector")
	delete(file, "name")
	path := "/connectors/life"
	if err := s.play(ctx,
		row{"create", "POST", "/connectors", `{"name":"life","config":` + with(file) + `}`},
	); err != nil {
		return err
	}
	if err := s.await(ctx, "life", state("RUNNING", 1)); err != nil {
		return err
	}
	if err := s.play(ctx,
		row{"create again", "POST", "/connectors", `{"name":"life","config":` + with(file) + `}`},
		row{"get", "GET", path, ""},
		row{"config", "GET", path + "/config", ""},
		row{"status", "GET", path + "/status", ""},
		row{"tasks", "GET", path + "/tasks", ""},
		row{"task status", "GET", path + "/tasks/0/status", ""},
		row{"put same", "PUT", path + "/config", with(file)},
		row{"patch adds", "PATCH", path + "/config", `{"batch.size":"7"}`},
		row{"patch removes", "PATCH", path + "/config", `{"batch.size":null}`},
		row{"patch removes class", "PATCH", path + "/config", `{"connector.class":null}`},
		row{"pause", "PUT", path + "/pause", ""},
	); err != nil {
		return err
	}
	if err := s.await(ctx, "life", state("PAUSED", 1)); err != nil {
		return err
	}
	if err := s.play(ctx,
		row{"status paused", "GET", path + "/status", ""},
		row{"restart paused", "POST", path + "/restart", ""},
		row{"offsets while paused", "DELETE", path + "/offsets", ""},
		row{"resume", "PUT", path + "/resume", ""},
	); err != nil {
		return err
	}
	if err := s.await(ctx, "life", state("RUNNING", 1)); err != nil {
		return err
	}
	if err := s.play(ctx,
		row{"restart", "POST", path + "/restart", ""},
		row{"restart only failed", "POST", path + "/restart?onlyFailed=true", ""},
		row{"restart tasks only failed", "POST", path + "/restart?includeTasks=true&onlyFailed=true", ""},
		row{"restart tasks", "POST", path + "/restart?includeTasks=true", ""},
	); err != nil {
		return err
	}
	if err := s.await(ctx, "life", state("RUNNING", 1)); err != nil {
		return err
	}
	return s.play(ctx,
		row{"task restart", "POST", path + "/tasks/0/restart", ""},
		row{"task restart unknown", "POST", path + "/tasks/5/restart", ""},
	)
}

// states stops, resumes and deletes, and creates in other initial states.
func (s *session) states(ctx context.Context) error {
	file := s.r.minimal("FileStreamSourceConnector")
	delete(file, "name")
	path := "/connectors/life"
	if err := s.await(ctx, "life", state("RUNNING", 1)); err != nil {
		return err
	}
	if err := s.play(ctx, row{"stop", "PUT", path + "/stop", ""}); err != nil {
		return err
	}
	if err := s.await(ctx, "life", state("STOPPED", 0)); err != nil {
		return err
	}
	if err := s.play(ctx,
		row{"status stopped", "GET", path + "/status", ""},
		row{"tasks stopped", "GET", path + "/tasks", ""},
		row{"task restart stopped", "POST", path + "/tasks/0/restart", ""},
		row{"restart tasks stopped", "POST", path + "/restart?includeTasks=true", ""},
	); err != nil {
		return err
	}
	if err := s.await(ctx, "life", state("STOPPED", 0)); err != nil {
		return err
	}
	if err := s.play(ctx,
		row{"pause stopped", "PUT", path + "/pause", ""},
	); err != nil {
		return err
	}
	if err := s.await(ctx, "life", state("PAUSED", 0)); err != nil {
		return err
	}
	if err := s.play(ctx,
		row{"status paused after stopped", "GET", path + "/status", ""},
		row{"create paused", "POST", "/connectors", `{"name":"paused","initial_state":"PAUSED","config":` + with(file) + `}`},
		row{"create stopped", "POST", "/connectors", `{"name":"stopped","initial_state":"STOPPED","config":` + with(file) + `}`},
		row{"create running", "POST", "/connectors", `{"name":"running","initial_state":"RUNNING","config":` + with(file) + `}`},
		row{"create lower case state", "POST", "/connectors", `{"name":"lower","initial_state":"paused","config":` + with(file) + `}`},
	); err != nil {
		return err
	}
	for name, want := range map[string]func(status) bool{"paused": state("PAUSED", 0), "stopped": state("STOPPED", 0), "running": state("RUNNING", 1), "lower": state("PAUSED", 0)} {
		if err := s.await(ctx, name, want); err != nil {
			return err
		}
	}
	return s.play(ctx,
		row{"status created paused", "GET", "/connectors/paused/status", ""},
		row{"status created stopped", "GET", "/connectors/stopped/status", ""},
	)
}

// offsets reads, alters and resets offsets.
func (s *session) offsets(ctx context.Context) error {
	file := with(map[string]string{"file": filepath.Join(s.r.dir, "lines.txt")}, "filename", filepath.Join(s.r.dir, "lines.txt"), "file", "")
	if err := s.play(ctx,
		row{"offsets of paused", "PATCH", "/connectors/paused/offsets", `{"offsets":[{"partition":` + file + `,"offset":{"position":3}}]}`},
		row{"offsets alter", "PATCH", "/connectors/stopped/offsets", `{"offsets":[{"partition":` + file + `,"offset":{"position":3}}]}`},
		row{"offsets altered", "GET", "/connectors/stopped/offsets", ""},
		row{"offsets alter empty", "PATCH", "/connectors/stopped/offsets", `{"offsets":[]}`},
		row{"offsets alter null", "PATCH", "/connectors/stopped/offsets", `{"offsets":null}`},
		row{"offsets alter none", "PATCH", "/connectors/stopped/offsets", `{}`},
		row{"offsets alter bad position", "PATCH", "/connectors/stopped/offsets", `{"offsets":[{"partition":` + file + `,"offset":{"position":"x"}}]}`},
		row{"offsets alter unknown connector", "PATCH", "/connectors/nope/offsets", `{"offsets":[{"partition":` + file + `,"offset":null}]}`},
		row{"offsets delete one", "PATCH", "/connectors/stopped/offsets", `{"offsets":[{"partition":` + file + `,"offset":null}]}`},
		row{"offsets reset", "DELETE", "/connectors/stopped/offsets", ""},
		row{"offsets reset unknown", "DELETE", "/connectors/nope/offsets", ""},
		row{"offsets after reset", "GET", "/connectors/stopped/offsets", ""},
	); err != nil {
		return err
	}
	mirror := s.r.minimal("MirrorSourceConnector")
	delete(mirror, "name")
	entry := func(partition, offset string) string {
		return `{"offsets":[{"partition":` + partition + `,"offset":` + offset + `}]}`
	}
	good := `{"cluster":"A","partition":0,"topic":"orders"}`
	return s.play(ctx,
		row{"mirror create stopped", "POST", "/connectors", `{"name":"mirror","initial_state":"STOPPED","config":` + with(mirror) + `}`},
		row{"mirror offsets alter", "PATCH", "/connectors/mirror/offsets", entry(good, `{"offset":41}`)},
		row{"mirror offsets", "GET", "/connectors/mirror/offsets", ""},
		row{"mirror offsets negative", "PATCH", "/connectors/mirror/offsets", entry(good, `{"offset":-1}`)},
		row{"mirror offsets not a number", "PATCH", "/connectors/mirror/offsets", entry(good, `{"offset":"x"}`)},
		row{"mirror offsets no key", "PATCH", "/connectors/mirror/offsets", entry(`{"cluster":"A","topic":"orders"}`, `{"offset":1}`)},
		row{"mirror offsets bad partition", "PATCH", "/connectors/mirror/offsets", entry(`{"cluster":"A","partition":"0","topic":"orders"}`, `{"offset":1}`)},
		row{"mirror offsets other cluster", "PATCH", "/connectors/mirror/offsets", entry(`{"cluster":"Z","partition":0,"topic":"orders"}`, `{"offset":1}`)},
		row{"mirror offsets reset", "DELETE", "/connectors/mirror/offsets", ""},
	)
}

// listing reads lists, topics and plugins, and deletes everything.
func (s *session) listing(ctx context.Context) error {
	rows := []row{
		{"list", "GET", "/connectors", ""},
		{"expand status", "GET", "/connectors?expand=status", ""},
		{"expand info and status", "GET", "/connectors?expand=info&expand=status", ""},
		{"expand bogus", "GET", "/connectors?expand=bogus", ""},
		{"topics", "GET", "/connectors/running/topics", ""},
		{"topics reset", "PUT", "/connectors/running/topics/reset", ""},
		{"topics of unknown", "GET", "/connectors/nope/topics", ""},
		{"topics reset of unknown", "PUT", "/connectors/nope/topics/reset", ""},
		{"plugins", "GET", "/connector-plugins", ""},
		{"root", "GET", "/", ""},
		{"health", "GET", "/health", ""},
	}
	for _, name := range []string{"life", "paused", "stopped", "running", "lower", "mirror"} {
		rows = append(rows, row{"delete " + name, "DELETE", "/connectors/" + name, ""})
	}
	rows = append(rows, row{"delete again", "DELETE", "/connectors/life", ""})
	return s.play(ctx, rows...)
}

// recordPolicies records policy-*.json: what each override policy says.
func (r *recorder) recordPolicies(ctx context.Context) error {
	for _, policy := range []string{"None", "Principal"} {
		connect, err := r.connect(ctx, "policy-"+policy, map[string]string{"connector.client.config.override.policy": policy})
		if err != nil {
			return err
		}
		s := &session{r: r, connect: connect}
		err = s.overrides(ctx)
		connect.Process().Kill()
		if err != nil {
			return err
		}
		if err := r.write("policy-"+policy+".json", s.said); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) overrides(ctx context.Context) error {
	source, sink := s.r.minimal("MirrorSourceConnector"), s.r.minimal("FileStreamSinkConnector")
	jaas := `org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="p";`
	create := func(name, config string) row {
		return row{name, "POST", "/connectors", `{"name":"x","initial_state":"STOPPED","config":` + config + `}`}
	}
	rows := []row{
		create("producer acks", with(source, "producer.override.acks", "1")),
		create("producer principal", with(source, "producer.override.security.protocol", "SASL_PLAINTEXT", "producer.override.sasl.mechanism", "PLAIN", "producer.override.sasl.jaas.config", jaas)),
		create("producer principal and acks", with(source, "producer.override.sasl.jaas.config", jaas, "producer.override.acks", "1")),
		create("producer two", with(source, "producer.override.acks", "1", "producer.override.linger.ms", "5")),
		create("consumer on a source", with(source, "consumer.override.max.poll.records", "5")),
		create("admin on a source", with(source, "admin.override.retries", "5")),
		create("admin on a source that creates topics", with(source, "admin.override.retries", "5", "topic.creation.default.replication.factor", "1", "topic.creation.default.partitions", "1")),
		create("consumer on a sink", with(sink, "consumer.override.max.poll.records", "5")),
		create("producer on a sink", with(sink, "producer.override.acks", "1")),
		create("admin on a sink", with(sink, "admin.override.retries", "5")),
		create("sink with dead letters", with(sink, "producer.override.acks", "1", "admin.override.retries", "5", "errors.deadletterqueue.topic.name", "dead", "errors.tolerance", "all")),
		create("override and bad value", with(source, "producer.override.acks", "1", "tasks.max", "abc")),
		{"validate producer acks", "PUT", "/connector-plugins/MirrorSourceConnector/config/validate", with(source, "producer.override.acks", "1")},
	}
	for _, r := range rows {
		if err := s.play(ctx, r); err != nil {
			return err
		}
		if _, _, err := s.ask(ctx, http.MethodDelete, "/connectors/x", ""); err != nil {
			return err
		}
		if err := s.await(ctx, "x", gone); err != nil {
			return err
		}
	}
	return nil
}
