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
	"syscall"
	"testing"
	"time"

	"barnabas/e2e/kafka"
)

// failed waits until a connector or one of its tasks has FAILED and returns the
// traces.
func (f *Fleet) failed(name string, limit time.Duration) string {
	f.e.t.Helper()
	trace := ""
	f.e.Until(limit, name+" to fail", func() string {
		s, _ := f.Status(name)
		trace = ""
		for _, t := range append([]TaskStatus{s.Connector}, s.Tasks...) {
			if t.State == "FAILED" {
				trace += t.Trace
			}
		}
		if trace == "" {
			return fmt.Sprintf("%+v", s)
		}
		return ""
	})
	return trace
}

func TestWrongPasswordFailsAloneAndRestartHeals(t *testing.T) {
	t.Parallel()
	e := New(t, 2*time.Minute)
	f := e.Fleet(FleetOptions{Size: 1})
	good := copying(e, f, "good", 2, 1)
	topic := e.Topic(e.Source, "bad", 2)
	topics := map[string]string{topic: "src." + topic}
	for from, to := range good {
		topics[from] = to
	}
	e.Write([]string{topic}, 2, 100)
	source, target := e.User(e.Source, "ro", ReadTopics(topic)...), e.User(e.Target, "rw", WriteTopics("src."+topic)...)
	wrong := e.Leak.Plant("wrong password")
	right, err := os.ReadFile(source.File)
	e.Must(err)
	e.Must(os.WriteFile(source.File, []byte("password="+wrong+"\n"), 0o600))
	name := e.Prefix + "-bad"
	f.Create(name, e.Mirror(source, target, topic, 1))
	trace := f.failed(name, 30*time.Second)
	t.Logf("trace: %s", trace)
	for _, want := range []string{source.Name, source.Reference()} {
		if !strings.Contains(trace, want) {
			t.Errorf("the trace does not name %q:\n%s", want, trace)
		}
	}
	// Secrets in the answer are found by the search at the end.
	f.Await(e.Prefix+"-good", "RUNNING", 1, 5*time.Second)
	sources, _ := names(good)
	e.Write(sources, 2, 100)

	e.Must(os.WriteFile(source.File, right, 0o600))
	f.Do(http.MethodPost, "/connectors/"+name+"/restart?includeTasks=true&onlyFailed=true", "", http.StatusAccepted)
	f.Await(name, "RUNNING", 1, 20*time.Second)
	if report := e.Copied(topics, 30*time.Second); !report.Equal() {
		t.Errorf("source and target differ: %s", report)
	}
	f.Pages(name, e.Prefix+"-good")
}

func TestConnectorRunsAsTheWorkersPrincipalUnlessItOverrides(t *testing.T) {
	t.Parallel()
	e := New(t, 2*time.Minute)
	// The workers' default user for targets, who has no right there.
	worker := e.User(e.Target, "default")
	defaults := Config{}
	maps.Copy(defaults, worker.Settings("producer."))
	maps.Copy(defaults, worker.Settings("admin."))
	f := e.Fleet(FleetOptions{Size: 1, Properties: defaults})
	topic := e.Topic(e.Source, "orders", 2)
	e.Write([]string{topic}, 2, 100)
	source, target := e.User(e.Source, "ro", ReadTopics(topic)...), e.User(e.Target, "rw", WriteTopics("src."+topic)...)
	override := e.Mirror(source, target, topic, 1)
	plain := Config{}
	for k, v := range override {
		if strings.HasPrefix(k, "producer.override.") || strings.HasPrefix(k, "admin.override.") ||
			strings.HasPrefix(k, "target.cluster.s") {
			continue
		}
		plain[k] = v
	}
	// The copy exists, so that only the right to write is in question.
	admin, err := e.Target.Admin()
	e.Must(err)
	defer admin.Close()
	_, err = admin.CreateTopic(t.Context(), 2, 1, nil, "src."+topic)
	e.Must(err)

	f.Create(e.Prefix, plain)
	trace := f.failed(e.Prefix, 30*time.Second)
	t.Logf("trace: %s", trace)
	if !strings.Contains(trace, worker.Name) || !strings.Contains(strings.ToLower(trace), "authoriz") {
		t.Errorf("the trace does not say that %s is not authorized:\n%s", worker.Name, trace)
	}
	f.Do(http.MethodPut, "/connectors/"+e.Prefix+"/config", override.JSON(), http.StatusOK)
	f.Await(e.Prefix, "RUNNING", 1, 20*time.Second)
	if report := e.Copied(map[string]string{topic: "src." + topic}, 30*time.Second); !report.Equal() || report.Source != 100 {
		t.Errorf("source and target differ: %s", report)
	}
	f.Pages(e.Prefix)
}

// exchange is an entry of e2e/vectors.
type exchange struct {
	Name, Method, Path, Body string
	Answer                   struct {
		Status int
		Body   string
	}
}

func vectors(t *testing.T, file string) []exchange {
	t.Helper()
	root, err := kafka.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "e2e", "vectors", file))
	if err != nil {
		t.Fatal(err)
	}
	var all []exchange
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestPoliciesRefuseOverridesAsConnectDoes(t *testing.T) {
	t.Parallel()
	e := New(t, 2*time.Minute)
	for _, policy := range []string{"None", "Principal"} {
		f := e.Fleet(FleetOptions{Size: 1, Group: strings.ToLower(policy), Properties: map[string]string{"connector.client.config.override.policy": policy}})
		compared := 0
		for _, x := range vectors(t, "policy-"+policy+".json") {
			// File connectors are not there yet, and a definition's words are compared elsewhere.
			if strings.Contains(x.Body, "FileStream") || !strings.HasPrefix(x.Name, "create") && x.Method != http.MethodPost {
				continue
			}
			body := strings.NewReplacer("source:9092", e.Source.Address(Client), "target:9092", e.Target.Address(Client)).Replace(x.Body)
			status, answer := f.any().Ask(x.Method, x.Path, body)
			if status != x.Answer.Status {
				t.Errorf("policy %s, %s: %d %s, Connect answers %d %s", policy, x.Name, status, answer, x.Answer.Status, x.Answer.Body)
			}
			if status >= 400 && lines(answer) != lines(x.Answer.Body) {
				t.Errorf("policy %s, %s:\n%s, Connect answers\n%s", policy, x.Name, answer, x.Answer.Body)
			}
			if status < 300 {
				f.Do(http.MethodDelete, "/connectors/x", "", http.StatusNoContent)
				e.Until(10*time.Second, "deletion", func() string {
					if _, ok := f.Status("x"); ok {
						return "still there"
					}
					return ""
				})
			}
			compared++
		}
		if compared < 8 {
			t.Errorf("policy %s: %d answers compared, want at least 8", policy, compared)
		}
	}
}

// lines sorts the lines of an error's message: Connect has them in the order of
// a Java map.
func lines(answer string) string {
	var body struct {
		Code    int `json:"error_code"`
		Message string
	}
	if json.Unmarshal([]byte(answer), &body) != nil {
		return answer
	}
	all := strings.Split(body.Message, "\n")
	slices.Sort(all)
	return fmt.Sprint(body.Code, strings.Join(all, "\n"))
}

// Secrets through every provider and both spellings, with all there is to log,
// gossip in the clear and captured, and a dump of all goroutines at the end.
func TestSecretsOfEveryProviderStaySecret(t *testing.T) {
	t.Parallel()
	e := New(t, 2*time.Minute)
	topic := e.Topic(e.Source, "orders", 1)
	e.Write([]string{topic}, 1, 50)
	source, target := e.User(e.Source, "ro", ReadTopics(topic)...), e.User(e.Target, "rw", WriteTopics("src."+topic)...)
	e.Secret("directory-password", target.Password)
	secrets := filepath.Join(e.Dir, "secrets")
	f := e.Fleet(FleetOptions{
		Size: 2, GossipProxy: true, LogLevel: "TRACE",
		Properties: map[string]string{
			"config.providers":                         "file,dir,env",
			"config.providers.dir.class":               "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
			"config.providers.env.class":               "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
			"config.providers.dir.param.allowed.paths": secrets,
		},
		Env: []string{"SOURCE_PASSWORD=" + source.Password},
	})
	jaas := `org.apache.kafka.common.security.scram.ScramLoginModule required username="%s" password="%s";`
	config := e.Mirror(source, target, topic, 1)
	for k := range config {
		if strings.HasSuffix(k, "sasl.jaas.config") {
			config[k] = fmt.Sprintf(jaas, target.Name, "$<dir:"+secrets+":directory-password>")
		}
	}
	config["source.cluster.sasl.jaas.config"] = fmt.Sprintf(jaas, source.Name, "${env:SOURCE_PASSWORD}")
	f.Create(e.Prefix, config)
	f.Await(e.Prefix, "RUNNING", 1, 30*time.Second)
	if report := e.Copied(map[string]string{topic: "src." + topic}, 30*time.Second); !report.Equal() {
		t.Errorf("source and target differ: %s", report)
	}
	got := f.Do(http.MethodGet, "/connectors/"+e.Prefix+"/config", "", http.StatusOK)
	if !strings.Contains(got, "env:SOURCE_PASSWORD}") || !strings.Contains(got, ":directory-password") {
		t.Errorf("the config does not show the references as written: %s", got)
	}
	f.Do(http.MethodPut, "/connector-plugins/MirrorSourceConnector/config/validate", config.With(map[string]string{"name": "v", "tasks.max": "x"}).JSON(), http.StatusOK)
	f.Do(http.MethodPost, "/connectors/"+e.Prefix+"/restart?includeTasks=true", "", http.StatusAccepted)
	f.Await(e.Prefix, "RUNNING", 1, 20*time.Second)
	f.Pages(e.Prefix)
	for _, w := range f.Workers {
		e.Must(syscall.Kill(w.proc.PID(), syscall.SIGQUIT))
		<-w.proc.Done()
		if !strings.Contains(w.proc.Tail(100_000), "goroutine ") {
			t.Errorf("%s: no dump of goroutines in its log", w.Name)
		}
	}
	for _, kind := range []string{"gossip", "answer"} {
		if e.Leak.Scanned()[kind] == 0 {
			t.Errorf("nothing of the kind %q was searched", kind)
		}
	}
}
