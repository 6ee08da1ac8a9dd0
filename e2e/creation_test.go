package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// created are file sources, by what their topic.creation.* (KIP-158) are about.
var created = map[string]Config{
	"first-group": {
		"groups": "narrow,wide", "default.partitions": "1", "default.replication.factor": "1",
		"narrow.include": ".*-first-group", "narrow.partitions": "2", "narrow.retention.ms": "2000000", "wide.include": ".*", "wide.partitions": "3",
	},
	"excluded":    {"groups": "a", "default.partitions": "3", "default.replication.factor": "1", "default.retention.ms": "1000000", "a.include": ".*", "a.exclude": ".*-excluded", "a.partitions": "5"},
	"of-brokers":  {"default.partitions": "-1", "default.replication.factor": "-1", "default.max.message.bytes": "12345"},
	"there":       {"default.partitions": "5", "default.replication.factor": "1"},
	"unlisted":    {"default.partitions": "2", "default.replication.factor": "1", "c.include": ".*", "c.partitions": "4"},
	"default-out": {"default.partitions": "2", "default.replication.factor": "1", "default.exclude": ".*"},
	"named":       {"groups": "default,a", "default.partitions": "2", "default.replication.factor": "1", "a.include": "nothing"},
	"patterns":    {"groups": "a", "default.partitions": "1", "default.replication.factor": "1", "a.include": "x,.*-patterns", "a.partitions": "2"},

	"no-default":    {"groups": "a", "a.include": ".*"},
	"no-factor":     {"default.partitions": "3"},
	"no-partitions": {"default.replication.factor": "1"},
	"zero":          {"default.partitions": "0", "default.replication.factor": "1"},
	"text":          {"default.partitions": "x", "default.replication.factor": "1"},
	"zero-factor":   {"default.partitions": "1", "default.replication.factor": "0"},
	"group-zero":    {"groups": "a", "default.partitions": "1", "default.replication.factor": "1", "a.include": "x", "a.partitions": "0"},
	"no-regex":      {"groups": "a", "default.partitions": "1", "default.replication.factor": "1", "a.include": "("},
	"no-include":    {"groups": "a", "default.partitions": "1", "default.replication.factor": "1", "a.exclude": ".*"},
	"bad-setting":   {"default.partitions": "1", "default.replication.factor": "1", "default.cleanup.policy": "nope"},
	"too-many":      {"default.partitions": "1", "default.replication.factor": "7"},
}

var javaClass = regexp.MustCompile(`^(Caused by: )?[a-z]+\.[\w.$]+: `)

// madeTopic waits until a file source has made its topic, or has FAILED, and says which.
func (p *filePair) madeTopic(who, name string) (text string) {
	e := p.e
	admin, err := e.Hub.Admin()
	e.Must(err)
	defer admin.Close()
	topic := p.name(who, name)
	e.Until(90*time.Second, who+" "+name, func() string {
		_, answer := p.ask(who, http.MethodGet, "/connectors/"+topic+"/status", "")
		var s Status
		if json.Unmarshal([]byte(answer), &s) != nil {
			return answer
		}
		for i, state := range append([]TaskStatus{s.Connector}, s.Tasks...) {
			if state.State == "FAILED" {
				first, _, _ := strings.Cut(state.Trace, "\n")
				text = fmt.Sprintf("%s FAILED: %s", []string{"connector", "task"}[i], strings.ReplaceAll(javaClass.ReplaceAllString(first, ""), who+"-", "WHO-"))
				return ""
			}
		}
		there, err := admin.ListTopics(e.Context(), topic)
		e.Must(err)
		if !there.Has(topic) || len(p.records(who, topic)) == 0 {
			return "no records: " + answer
		}
		configs, err := admin.DescribeTopicConfigs(e.Context(), topic)
		e.Must(err)
		var own []string
		for _, c := range configs[0].Configs {
			if c.Source.String() == "DYNAMIC_TOPIC_CONFIG" {
				own = append(own, c.Key+"="+c.MaybeValue())
			}
		}
		slices.Sort(own)
		text = fmt.Sprintf("%d partitions, %s", len(there[topic].Partitions), strings.Join(own, ","))
		return ""
	})
	return text
}

// TestTopicsOfSourcesAreMadeAsKafkaConnectMakesThem compares topics, and errors, of file sources with topic.creation.*.
func TestTopicsOfSourcesAreMadeAsKafkaConnectMakesThem(t *testing.T) {
	e := New(t, 5*time.Minute)
	p := e.files()
	admin, err := e.Hub.Admin()
	e.Must(err)
	defer admin.Close()
	p.both(func(who string) {
		_, err := admin.CreateTopic(e.Context(), 2, 1, nil, p.name(who, "there"))
		e.Must(err)
		for name, creation := range created {
			p.append(who, name, "a line\n")
			c := Config{"connector.class": "FileStreamSource", "file": p.file(who, name), "topic": p.name(who, name), "key.converter": stringConverter, "value.converter": stringConverter}
			for k, v := range creation {
				c["topic.creation."+k] = v
			}
			p.put(who, p.name(who, name), c)
		}
	})
	got := map[string]map[string]string{"java": {}, "ours": {}}
	p.both(func(who string) {
		for name := range created {
			got[who][name] = p.madeTopic(who, name)
		}
	})
	// What the brokers say of a topic is followed by the error's name and whose rights count.
	for name, text := range got["ours"] {
		if refused := " (INVALID_"; strings.Contains(text, refused) {
			got["ours"][name], _, _ = strings.Cut(text, refused)
		}
	}
	if diff := cmp.Diff(got["java"], got["ours"]); diff != "" {
		t.Errorf("(-Connect +Barnabas):\n%s", diff)
	}
}
