package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/e2e/kafka"
)

// run runs a command of the product, whose output is searched for secrets, and
// returns what it printed and its exit code.
func (e *Env) run(env []string, args ...string) (out string, code int) {
	e.t.Helper()
	path, err := binary()
	e.Must(err)
	ctx, cancel := context.WithTimeout(e.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Env = e.Dir, append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + e.Dir}, env...)
	text, err := cmd.CombinedOutput()
	e.Leak.Scan("command", strings.Join(args, " "), text)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		e.t.Fatalf("%s: %v", args, err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

func TestCommandLineDrivesARealCluster(t *testing.T) {
	t.Parallel()
	e := New(t, 2*time.Minute)
	f := e.Fleet(FleetOptions{Size: 2})
	topic := e.Topic(e.Source, "orders", 2)
	e.Write([]string{topic}, 2, 1000)
	copied := "src." + topic
	source, target := e.User(e.Source, "ro", ReadTopics(topic)...), e.User(e.Target, "rw", WriteTopics(copied)...)
	name := e.Prefix
	file := filepath.Join(e.Dir, "connector.json")
	e.Must(os.WriteFile(file, []byte(`{"name":"`+name+`","config":`+e.Mirror(source, target, topic, 2).JSON()+`}`), 0o600))
	env := []string{"BARNABAS_URL=" + f.Workers[1].URL()}
	for _, step := range []struct {
		args  string
		code  int
		shows []string
		await string
		tasks int
	}{
		{args: "health"},
		{args: "workers list", shows: []string{f.Workers[0].ID, f.Workers[1].ID}},
		{args: "plugins list", shows: []string{"MirrorSourceConnector"}},
		{args: "connectors validate -f " + file},
		{args: "connectors create -f " + file, await: "RUNNING", tasks: 2},
		{args: "connectors create -f " + file, code: 1, shows: []string{"already exists"}},
		{args: "connectors list", shows: []string{name, "RUNNING"}},
		{args: "connectors status " + name, shows: []string{"RUNNING", f.Workers[0].ID}},
		{args: "tasks list " + name},
		{args: "connectors pause " + name, await: "PAUSED", tasks: 2},
		{args: "connectors resume " + name, await: "RUNNING", tasks: 2},
		{args: "verify " + name},
		{args: "connectors restart " + name, await: "RUNNING", tasks: 2},
		{args: "replication " + name, shows: []string{topic}},
		{args: "connectors config " + name + " -o json", shows: []string{source.File + ":password}"}},
		{args: "connectors status nobody", code: 1, shows: []string{"nobody"}},
		{args: "connectors frobnicate", code: 2, shows: []string{"frobnicate"}},
		{args: "connectors stop " + name, await: "STOPPED"},
	} {
		out, code := e.run(env, strings.Fields(step.args)...)
		if code != step.code {
			t.Fatalf("barnabas %s: exit code %d, want %d\n%s", step.args, code, step.code, out)
		}
		for _, want := range step.shows {
			if !strings.Contains(out, want) {
				t.Errorf("barnabas %s does not show %q:\n%s", step.args, want, out)
			}
		}
		if step.await != "" {
			f.Await(name, step.await, step.tasks, 20*time.Second)
		}
	}
	if report := e.Copied(map[string]string{topic: copied}, 30*time.Second); !report.Equal() {
		t.Errorf("source and target differ: %s", report)
	}
	// A record that nobody copied.
	client, err := e.Target.Client()
	e.Must(err)
	defer client.Close()
	e.Must(client.ProduceSync(t.Context(), &kgo.Record{Topic: copied, Value: []byte("forged")}).FirstErr())
	if out, code := e.run(env, "verify", name, "--wait", "1s"); code != 3 {
		t.Errorf("verify of a forged copy: exit code %d, want 3\n%s", code, out)
	}
	if out, code := e.run(env, "connectors", "delete", name); code != 0 {
		t.Errorf("delete: exit code %d\n%s", code, out)
	}
	if out, code := e.run(env, "health", "--url", "http://127.0.0.1:1"); code != 1 || strings.Count(strings.TrimSpace(out), "\n") > 0 {
		t.Errorf("health of nobody: exit code %d, want 1 and one line:\n%s", code, out)
	}
}

func TestWorkerSaysInOneLineWhyItDoesNotStart(t *testing.T) {
	t.Parallel()
	e := New(t, time.Minute)
	const plain = "group.id=g\nconfig.storage.topic=a\noffset.storage.topic=b\nstatus.storage.topic=c\nlisteners=http://127.0.0.1:0\n" +
		"key.converter=org.apache.kafka.connect.converters.ByteArrayConverter\nvalue.converter=org.apache.kafka.connect.converters.ByteArrayConverter\n"
	many := e.Topic(e.Hub, "many", 3, "cleanup.policy", "compact")
	deleted := e.Topic(e.Hub, "deleted", 1, "cleanup.policy", "delete")
	bootstrap := "bootstrap.servers=" + e.Hub.Bootstrap() + "\n"
	storage := func(config string) string {
		p := e.Prefix
		return strings.NewReplacer("=a\n", "="+config+"\n", "=b\n", "="+p+"-b\n", "=c\n", "="+p+"-c\n").Replace(plain) + bootstrap +
			"config.storage.replication.factor=1\noffset.storage.replication.factor=1\nstatus.storage.replication.factor=1\ngossip.bind=127.0.0.1:0\n"
	}
	for _, row := range []struct{ name, file, want string }{
		{"no brokers", plain, "bootstrap.servers"},
		{"bad number", plain + bootstrap + "offset.flush.interval.ms=soon\n", "offset.flush.interval.ms"},
		{"missing key of a reference", plain + bootstrap + "config.providers=file\nconfig.providers.file.class=org.apache.kafka.common.config.provider.FileConfigProvider\n" +
			"sasl.jaas.config=${file:" + e.Secret("empty.properties", "x=y\n") + ":password}\n", "password"},
		{"config topic of three partitions", storage(many), many},
		{"config topic that deletes", storage(deleted), deleted},
	} {
		file := filepath.Join(e.Dir, strings.ReplaceAll(row.name, " ", "-")+".properties")
		e.Must(os.WriteFile(file, []byte(row.file), 0o600))
		out, code := e.run(nil, "worker", file, "--log-level", "ERROR", "--log-format", "text")
		last := strings.TrimSpace(out)
		last = last[strings.LastIndexByte(last, '\n')+1:]
		if code == 0 || !strings.Contains(last, row.want) {
			t.Errorf("%s: exit code %d, last line %q, want one that names %q", row.name, code, last, row.want)
		}
	}
}

// script runs a shell script in the repository's folder and kills what it
// leaves behind.
func script(t *testing.T, limit time.Duration, env []string, name string, args ...string) (string, error) {
	t.Helper()
	root, err := kafka.Root()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	group := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel, cmd.WaitDelay = group, 5*time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	if cmd.Process != nil {
		_ = group()
	}
	return out.String(), err
}

func TestMakeDemoProvesThatNothingIsMissing(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: takes a minute")
	}
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("no make")
	}
	if out, err := script(t, 3*time.Minute, nil, "make", "build"); err != nil {
		t.Fatalf("make build: %v\n%s", err, out)
	}
	begin := time.Now()
	out, err := script(t, 2*time.Minute, nil, "make", "demo")
	took := time.Since(begin)
	t.Logf("make demo took %s\n%s", took, out)
	if err != nil {
		t.Fatalf("make demo: %v\n%s", err, out)
	}
	if took > time.Minute {
		t.Errorf("make demo took %s, want under a minute after the build", took)
	}
}

// tour is what README.md tells a newcomer to paste: all fenced blocks of the
// language sh below the heading that speaks of a tour, up to the next of its rank.
func tour(readme string) []string {
	var lines []string
	inside, fenced := false, false
	for line := range strings.Lines(readme) {
		line = strings.TrimRight(line, "\n")
		switch {
		case !fenced && strings.HasPrefix(line, "## "):
			inside = strings.Contains(strings.ToLower(line), "tour")
		case inside && strings.HasPrefix(line, "```"):
			fenced = !fenced && line == "```sh"
		case fenced:
			lines = append(lines, line)
		}
	}
	return lines
}

func TestReadmesTourWorksAsPasted(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: takes a minute")
	}
	root, err := kafka.Root()
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	lines := tour(string(readme))
	if len(lines) < 5 {
		t.Fatalf("README.md has no tour: a heading of the second rank with that word, and blocks ```sh below it; found %q", lines)
	}
	text := strings.Join(lines, "\n")
	if strings.Contains(text, "make up") && os.Getenv("BARNABAS_DOCKER") == "" {
		t.Skip("the tour starts containers: make test runs it, or BARNABAS_DOCKER=1")
	}
	// A shell that gets the lines as a person's would, and stops at the first
	// that fails; -v shows each before its output.
	file := filepath.Join(t.TempDir(), "tour.sh")
	if err := os.WriteFile(file, []byte("set -v\n"+text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	out, err := script(t, 5*time.Minute, nil, "bash", "-e", "-o", "pipefail", file)
	t.Logf("the tour took %s\n%s", time.Since(begin), out)
	if err != nil {
		t.Errorf("the tour failed: %v", err)
	}
}
