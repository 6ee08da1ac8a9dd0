package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"barnabas/e2e/answers"
)

// moreQuestions are requests that the recorded story has not: about each of MirrorMaker's connectors, stopped, and about HTTP.
func moreQuestions() (all []answers.Exchange) {
	add := func(method, path, body string, headers ...string) *answers.Exchange {
		v := answers.Exchange{Name: fmt.Sprintf("more %d", len(all)), Method: method, Path: path, Headers: map[string]string{}}
		if body != "" {
			v.Body, v.Headers["Content-Type"] = &body, "application/json"
		}
		for i := 0; i < len(headers); i += 2 {
			v.Headers[headers[i]] = headers[i+1]
		}
		all = append(all, v)
		return &all[len(all)-1]
	}
	stopped := func(connector string) {
		v := add("GET", "/connectors/"+connector+"/status", "", "connector", connector)
		v.Until = &struct {
			State string `json:"state"`
			Tasks int    `json:"tasks"`
		}{"STOPPED", 0}
	}
	for _, class := range []string{"MirrorSource", "MirrorCheckpoint", "MirrorHeartbeat"} {
		config := map[string]string{
			"connector.class": "org.apache.kafka.connect.mirror." + class + "Connector", "source.cluster.alias": "A", "target.cluster.alias": "B",
			"source.cluster.bootstrap.servers": "127.0.0.1:29092", "target.cluster.bootstrap.servers": "127.0.0.1:29092",
		}
		with := func(pairs ...string) string {
			c := maps.Clone(config)
			for i := 0; i < len(pairs); i += 2 {
				c[pairs[i]] = pairs[i+1]
			}
			text, _ := json.Marshal(c) //nolint:errchkjson // strings
			return string(text)
		}
		name := "q" + class
		path := "/connectors/" + name
		for _, plugin := range []string{class, class + "Connector", config["connector.class"]} {
			add("GET", "/connector-plugins/"+plugin+"/config", "")
			add("PUT", "/connector-plugins/"+plugin+"/config/validate", with("name", name))
		}
		for _, wrong := range [][]string{
			{"tasks.max", "0"},
			{"tasks.max", "x"},
			{"tasks.max", ""},
			{"refresh.topics.interval.seconds", "x"},
			{"replication.factor", "x"},
			{"sync.topic.acls.enabled", "x"},
			{"replication.policy.class", "nope"},
			{"offset.lag.max", "-1"},
			{"source.cluster.alias", ""},
			{"errors.tolerance", "some"},
			{"errors.retry.timeout", "x"},
			{"config.action.reload", "never"},
			{"topic.creation.groups", "a"},
			{"exactly.once.support", "sometimes"},
			{"exactly.once.support", "required"},
			{"transaction.boundary", "connector"},
			{"transaction.boundary", "never"},
			{"transaction.boundary.interval.ms", "0"},
			{"offsets.storage.topic", " "},
			{"transforms", "a"},
			{"predicates", "a"},
			{"transforms", "a,a"},
			{"topic.creation.groups", "a,a"},
			{"transforms", "a", "transforms.a.type", "org.apache.kafka.connect.transforms.Filter"},
			{
				"transforms", "a", "transforms.a.type", "org.apache.kafka.connect.transforms.Filter", "transforms.a.predicate", "p", "predicates", "p",
				"predicates.p.type", "org.apache.kafka.connect.transforms.predicates.HasHeaderKey",
			},
			{"connector.plugin.version", "[4.0,5.0)"},
			{"connector.plugin.version", "9.9"},
			{"connector.plugin.version", "[9"},
			{"topic.creation.default.partitions", "x"},
			{"emit.checkpoints.enabled", "false"},
			{"emit.heartbeats.enabled", "false"},
			{"emit.offset-syncs.enabled", "false"},
			{"groups", "("},
			{"topics", "("},
			{"unknown", "x"},
			{"name", "other"},
			{"tasks.max.enforce", "x"},
		} {
			add("PUT", "/connector-plugins/"+class+"/config/validate", with(wrong...)).Name = class + " " + wrong[0] + "=" + wrong[1] + strings.Repeat(" and more", min(1, len(wrong)/2-1))
		}
		add("POST", "/connectors", `{"name":"`+name+`","initial_state":"STOPPED","config":`+with()+`}`)
		stopped(name)
		for _, p := range []string{"", "/config", "/tasks", "/offsets", "/topics", "/tasks/0/status"} {
			add("GET", path+p, "")
		}
		add("PUT", path+"/config", with("tasks.max", "2"))
		add("PUT", path+"/config", with("tasks.max", "2"))
		add("PATCH", path+"/config", `{"tasks.max":null,"groups":"g.*"}`)
		add("PATCH", path+"/config", `{"groups":7}`)
		add("PATCH", path+"/config", `{}`)
		add("PATCH", path+"/config", `{"tasks.max":"x"}`)
		add("PATCH", path+"/config", `[]`)
		stopped(name)
		for _, partition := range []string{
			`{"cluster":"A","partition":0,"topic":"t1"}`, `{"partition":0,"topic":"t1","group":"g"}`, `{"sourceClusterAlias":"A","targetClusterAlias":"B"}`,
			`{"cluster":"A","partition":2147483648,"topic":"t1"}`, `{"cluster":1,"partition":0,"topic":"t1"}`, `{"cluster":"A","partition":-1,"topic":"t1"}`, `{"partition":1.5,"cluster":"A","topic":"t"}`,
			`{}`, `null`, `{"x":[1]}`,
		} {
			for _, offset := range []string{`{"offset":0}`, `{"offset":7}`, `{"offset":-1}`, `{"offset":"x"}`, `{"offset":1.5}`, `{}`, `null`} {
				add("PATCH", path+"/offsets", `{"offsets":[{"partition":`+partition+`,"offset":`+offset+`}]}`)
			}
		}
		add("DELETE", path+"/offsets", "")
		add("GET", path+"/offsets", "")
		add("PATCH", path+"/offsets", `{"offsets":[7]}`)
		add("PATCH", path+"/offsets", `{"offset":[]}`)
		add("PUT", path+"/stop", "")
		add("POST", path+"/restart?includeTasks=true", "")
		add("PUT", path+"/topics/reset", "")
		add("DELETE", path, "")
	}
	const transforms = "org.apache.kafka.connect.transforms."
	for _, p := range []string{
		transforms + "RegexRouter", transforms + "InsertHeader", transforms + "DropHeaders", transforms + "Filter", transforms + "MaskField$Key", transforms + "MaskField$Value",
		transforms + "ReplaceField$Key", transforms + "ReplaceField$Value", transforms + "predicates.TopicNameMatches", transforms + "predicates.HasHeaderKey",
		transforms + "predicates.RecordIsTombstone", "org.apache.kafka.connect.json.JsonConverter", "org.apache.kafka.connect.storage.StringConverter",
		"org.apache.kafka.connect.storage.SimpleHeaderConverter", "org.apache.kafka.connect.converters.LongConverter",
		"RegexRouter", "MaskField$Value", "Filter", "HasHeaderKey", "RecordIsTombstone", "Json", "JsonConverter", "Simple", "SimpleHeader", "SimpleHeaderConverter", "ByteArray", "String",
	} {
		add("GET", "/connector-plugins/"+p+"/config", "")
	}
	for _, version := range []string{"4.3.1", "latest", "%5B4.0,5.0)", "9.9", "%5B4", "", "(,)"} {
		add("GET", "/connector-plugins/MirrorSource/config?version="+version, "")
		add("GET", "/connector-plugins/RegexRouter/config?version="+version, "")
	}
	for _, flag := range []string{"true", "TRUE"} {
		add("GET", "/connector-plugins?connectorsOnly="+flag, "").Name = "plugins " + flag
	}
	for _, p := range []string{"/", "/connectors", "/connectors/nope", "/connector-plugins", "/health", "/nope", "/admin/loggers"} {
		add("HEAD", p, "")
		add("OPTIONS", p, "")
		add("GET", p, "", "Origin", "http://ui.example", "Accept", "text/html")
	}
	for _, origin := range []string{"http://ui.example", "http://evil.example", "null"} {
		add("GET", "/connectors/nope", "", "Origin", origin)
		for _, method := range []string{"PUT", "PATCH", "TRACE"} {
			add("OPTIONS", "/connectors/nope/config", "", "Origin", origin, "Access-Control-Request-Method", method, "Access-Control-Request-Headers", "content-type")
		}
	}
	for _, name := range []string{"a%20b", "%E2%82%AC", "a+b", "a%3Fb", "a;b=c", "%2e", "a%0Ab", "A%41"} {
		add("GET", "/connectors/"+name, "")
		add("GET", "/connectors/"+name+"/status/", "")
		add("GET", "/connectors/"+name+"/topics", "")
	}
	for _, level := range []string{`{"level":"DEBUG"}`, `{"level":"debug"}`, `{"level":"nope"}`, `{}`, `{"level":null}`} {
		add("PUT", "/admin/loggers/no.such.logger?scope=cluster", level)
		add("PUT", "/admin/loggers/no.other.logger?scope=other", level)
	}
	return all
}
