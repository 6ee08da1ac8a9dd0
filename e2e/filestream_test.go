package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/e2e/kafka"
)

const (
	stringConverter = "org.apache.kafka.connect.storage.StringConverter"
	jsonConverter   = "org.apache.kafka.connect.json.JsonConverter"
)

// filePair are Kafka Connect and Barnabas on the same cluster, with file connectors that have the same names but for java and
// ours in them: their topics, files and groups are named likewise.
type filePair struct {
	e     *Env
	java  *kafka.Connect
	fleet *Fleet
}

func (e *Env) files() *filePair {
	e.t.Helper()
	dir := filepath.Join(e.Dir, "connect")
	e.Must(os.Mkdir(dir, 0o700))
	p := &filePair{e: e}
	properties := map[string]string{"bootstrap.servers": e.Hub.Bootstrap(), "group.id": e.Prefix + "-java", "offset.flush.interval.ms": "1000", "offset.storage.partitions": "5"}
	var err error
	p.java, err = kafka.StartConnect(e.Context(), kafka.ConnectSpec{Name: "java", Dir: dir, Properties: properties})
	e.Must(err)
	e.t.Cleanup(p.java.Process().Kill)
	p.fleet = e.Fleet(FleetOptions{Size: 2, Properties: e.fileClients()})
	return p
}

// fileClients are the settings with which the connectors of a fleet log in at the hub, as one user who may just do what they need.
func (e *Env) fileClients() map[string]string {
	all := []kadm.ACLOperation{kadm.OpRead, kadm.OpWrite, kadm.OpCreate, kadm.OpDescribe}
	user := e.User(e.Hub, "filer",
		kafka.Grant{Topic: e.Prefix + ".*", Operations: all},
		kafka.Grant{Group: "connect-" + e.Prefix + "*", Operations: []kadm.ACLOperation{kadm.OpRead, kadm.OpDescribe, kadm.OpDelete}},
		kafka.Grant{Operations: []kadm.ACLOperation{kadm.OpIdempotentWrite}})
	settings := map[string]string{}
	for _, client := range []string{"producer.", "consumer.", "admin."} {
		maps.Copy(settings, user.Settings(client))
	}
	return settings
}

// both does something for java and for ours.
func (p *filePair) both(do func(who string)) {
	for _, who := range []string{"java", "ours"} {
		do(who)
	}
}

// name is that of a thing of one of them. Topics of both match the user's rights.
func (p *filePair) name(who, thing string) string { return p.e.Prefix + "." + who + "-" + thing }

func (p *filePair) file(who, thing string) string { return filepath.Join(p.e.Dir, who+"-"+thing) }

// ask gives an order to one of them.
func (p *filePair) ask(who, method, path, body string) (int, string) {
	p.e.t.Helper()
	if who == "ours" {
		return p.fleet.any().Ask(method, path, body)
	}
	for {
		status, answer, err := p.e.ask(p.e.Context(), method, p.java.URL()+path, body)
		p.e.Must(err)
		if status != http.StatusConflict {
			return status, answer
		}
		p.e.Pass(200 * time.Millisecond) // Connect rebalances
	}
}

func (p *filePair) put(who, name string, c Config) {
	p.e.t.Helper()
	if status, answer := p.ask(who, http.MethodPut, "/connectors/"+name+"/config", c.JSON()); status/100 != 2 {
		p.e.t.Fatalf("%s %s: %d %s", who, name, status, answer)
	}
}

// records reads a topic to its end: key, value and headers, in order, with who replaced.
func (p *filePair) records(who, topic string, skip ...string) []string {
	e := p.e
	e.t.Helper()
	client, err := e.Hub.Client(kgo.ConsumeTopics(topic))
	e.Must(err)
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(e.Context(), topic)
	e.Must(err)
	var n int64
	ends.Each(func(o kadm.ListedOffset) { n += max(0, o.Offset) })
	got := []string{}
	for int64(len(got)) < n {
		fetches := client.PollFetches(e.Context())
		e.Must(fetches.Err0())
		fetches.EachRecord(func(r *kgo.Record) {
			line := fmt.Sprintf("%q=%q", r.Key, r.Value)
			for _, h := range r.Headers {
				if !slices.Contains(skip, h.Key) {
					line += fmt.Sprintf(" %s=%q", h.Key, h.Value)
				}
			}
			got = append(got, strings.ReplaceAll(line, who+"-", "WHO-"))
		})
	}
	return got
}

// same waits until both give the same, and it is what it should be.
func (p *filePair) same(what string, get func(who string) any, right func(any) bool) {
	p.e.t.Helper()
	p.e.Until(40*time.Second, what, func() string {
		java, ours := get("java"), get("ours")
		if diff := cmp.Diff(java, ours); diff != "" {
			return "(-Connect +Barnabas):\n" + diff
		}
		if !right(java) {
			return fmt.Sprintf("both have %v", java)
		}
		return ""
	})
}

// offsets is the answer to GET offsets, sorted.
func (p *filePair) offsets(who, name string) any {
	status, answer := p.ask(who, http.MethodGet, "/connectors/"+name+"/offsets", "")
	if status != http.StatusOK {
		return answer
	}
	var got struct{ Offsets []json.RawMessage }
	p.e.Must(json.Unmarshal([]byte(answer), &got))
	var lines []string
	for _, o := range got.Offsets {
		lines = append(lines, strings.ReplaceAll(string(o), who+"-", "WHO-"))
	}
	slices.Sort(lines)
	return lines
}

func (p *filePair) content(who, thing string) any {
	text, err := os.ReadFile(p.file(who, thing))
	if err != nil {
		return err.Error()
	}
	return strings.Split(string(text), "\n")
}

func (p *filePair) append(who, thing, text string) {
	file, err := os.OpenFile(p.file(who, thing), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	p.e.Must(err)
	_, err = file.WriteString(text)
	p.e.Must(err)
	p.e.Must(file.Close())
}

// TestFileConnectorsFareAsKafkas runs file source → topic → file sink on Kafka Connect and on Barnabas and compares the topics'
// records, the files, the offsets and the dead letters. Then Barnabas takes Connect's internal topics over, and goes on where it was.
func TestFileConnectorsFareAsKafkas(t *testing.T) {
	e := New(t, 4*time.Minute)
	p := e.files()
	const text = "one\ntwo words\n\n{\"a\":1}\r\nthree\rfour\n\ttab \"quoted\" \\ \x01\nno end"
	formats := map[string]map[string]string{
		"text":  {"value.converter": stringConverter},
		"typed": {"value.converter": jsonConverter, "key.converter": jsonConverter},
		"plain": {"value.converter": jsonConverter, "value.converter.schemas.enable": "false"},
	}
	p.both(func(who string) {
		for format, converters := range formats {
			p.append(who, format+"-in", text)
			p.put(who, p.name(who, format+"-in"), Config{
				"connector.class": "FileStreamSource", "file": p.file(who, format+"-in"), "topic": p.name(who, format),
				"topic.creation.default.partitions": "1", "topic.creation.default.replication.factor": "1",
				"key.converter": stringConverter,
			}.With(converters))
			p.put(who, p.name(who, format+"-out"), Config{
				"connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector", "file": p.file(who, format+"-out"), "topics": p.name(who, format),
				"key.converter": stringConverter, "tasks.max": "2",
			}.With(converters))
		}
	})
	lines := func(n int) func(any) bool {
		return func(v any) bool { l, ok := v.([]string); return ok && len(l) == n }
	}
	for format := range formats {
		p.same("records of "+format, func(who string) any { return p.records(who, p.name(who, format)) }, lines(7))
		p.same("file of "+format, func(who string) any { return p.content(who, format+"-out") }, lines(8))
		p.same("offset of the source of "+format, func(who string) any { return p.offsets(who, p.name(who, format+"-in")) }, lines(1))
		p.same("offsets of the sink of "+format, func(who string) any { return p.offsets(who, p.name(who, format+"-out")) }, func(v any) bool {
			l, ok := v.([]string)
			return ok && len(l) == 1 && strings.Contains(l[0], `"kafka_offset":7`)
		})
	}
	p.letters()
	p.takeOver()
}

// letters compares what becomes of records that cannot be converted.
func (p *filePair) letters() {
	e := p.e
	e.t.Helper()
	client, err := e.Hub.Client()
	e.Must(err)
	defer client.Close()
	p.both(func(who string) {
		topic := e.Topic(e.Hub, who+"-dirty", 1)
		e.Topic(e.Hub, who+"-dirty2", 1)
		for i, value := range []string{`{"b":[1,2.50,null],"a":"x"}`, `{`, `"y"`, ``, `{"zeta":1,"alpha":2,"Omega":3}`} {
			record := &kgo.Record{Topic: topic, Key: []byte(fmt.Sprint(i)), Value: []byte(value), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("v")}}}
			e.Must(client.ProduceSync(e.Context(), record).FirstErr())
		}
		p.put(who, p.name(who, "dirty-out"), Config{
			"connector.class": "FileStreamSink", "file": p.file(who, "dirty-out"), "topics.regex": strings.ReplaceAll(p.name(who, "dirty.?"), ".o", `\.o`),
			"key.converter": stringConverter, "value.converter": jsonConverter, "value.converter.schemas.enable": "false",
			"errors.tolerance": "all", "errors.log.enable": "true", "errors.log.include.messages": "true",
			"errors.deadletterqueue.topic.name": p.name(who, "letters"), "errors.deadletterqueue.topic.replication.factor": "1",
			"errors.deadletterqueue.context.headers.enable": "true",
		})
	})
	p.same("file of what is not all JSON", func(who string) any { return p.content(who, "dirty-out") }, func(v any) bool { l, ok := v.([]string); return ok && len(l) == 5 })
	p.same("dead letters", func(who string) any {
		return p.records(who, p.name(who, "letters"), "__connect.errors.exception.stacktrace")
	},
		func(v any) bool {
			l, ok := v.([]string)
			return ok && len(l) == 1 && strings.Contains(l[0], "VALUE_CONVERTER")
		})
}

// takeOver ends Kafka Connect and starts Barnabas on its internal topics.
func (p *filePair) takeOver() {
	e := p.e
	e.t.Helper()
	e.Must(p.java.Process().Stop(40 * time.Second))
	for _, format := range []string{"text", "plain"} {
		p.append("java", format+"-in", " has come\nlast\n")
	}
	heirs := e.Fleet(FleetOptions{Size: 1, Group: "java", Properties: e.fileClients()})
	heirs.Await(p.name("java", "text-in"), "RUNNING", 1, 30*time.Second)
	heirs.Await(p.name("java", "text-out"), "RUNNING", 2, 30*time.Second)
	for _, format := range []string{"text", "plain"} {
		e.Until(40*time.Second, "lines after the take-over", func() string {
			content, _ := p.content("java", format+"-out").([]string)
			want := append(slices.Clone(p.content("ours", format+"-out").([]string)[:7]), "no end has come", "last", "")
			return cmp.Diff(want, content)
		})
	}
	status := heirs.Do(http.MethodGet, "/connectors/"+p.name("java", "text-in")+"/offsets", "", http.StatusOK)
	if !strings.Contains(status, `"position":`) {
		e.t.Errorf("offsets: %s", status)
	}
}
