// Package docker_test drives the compose cluster as a user does: make up, curl,
// a killed container, make down.
package docker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// cluster is what docker/up has started.
type cluster struct {
	t    *testing.T
	env  []string
	urls []string // REST of the workers
}

// up starts the cluster, or skips the test with what is missing for it.
func up(t *testing.T) *cluster {
	t.Helper()
	if os.Getenv("BARNABAS_DOCKER") == "" {
		t.Skip("it starts containers: make test runs it, or BARNABAS_DOCKER=1")
	}
	if out, err := exec.Command("offline/prepare", "--check").CombinedOutput(); err != nil {
		t.Skip(strings.TrimSpace(string(out)))
	}
	c := &cluster{t: t, env: append(os.Environ(), "COMPOSE_PROJECT_NAME=barnabastest", "REST_PORTS=", "PULL_TIMEOUT=120")}
	t.Cleanup(func() {
		if out, err := c.command(context.Background(), "./down").CombinedOutput(); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
	})
	var stdout, stderr bytes.Buffer
	cmd := c.command(t.Context(), "./up")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("up: %v\n%s%s", err, stdout.String(), stderr.String())
	}
	for line := range strings.Lines(stdout.String()) {
		line = strings.TrimSpace(line)
		if host, ok := strings.CutPrefix(line, "export "); ok {
			c.env = append(c.env, host)
		}
		if strings.HasPrefix(line, "http://") {
			c.urls = append(c.urls, line)
		}
	}
	if len(c.urls) != 3 {
		t.Fatalf("up printed %d addresses of workers:\n%s", len(c.urls), stdout.String())
	}
	return c
}

func (c *cluster) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = c.env
	cmd.WaitDelay = time.Minute
	return cmd
}

// docker runs the docker command and returns what it prints.
func (c *cluster) docker(stdin string, args ...string) string {
	c.t.Helper()
	cmd := c.command(c.t.Context(), "docker", args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("docker %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// containers gives the ids of a service's running containers.
func (c *cluster) containers(service string) []string {
	c.t.Helper()
	return strings.Fields(c.docker("", "ps", "-q", "--filter", "label=com.docker.compose.project=barnabastest", "--filter", "label=com.docker.compose.service="+service))
}

// admin runs a Kafka tool in the container of a cluster, as its admin.
func (c *cluster) admin(kafka, stdin, tool string) string {
	c.t.Helper()
	script := `set -e; umask 077
cat >/tmp/test.properties <<CONF
security.protocol=SASL_PLAINTEXT
sasl.mechanism=PLAIN
sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" password="$(sed -n 's/^admin=//p' /run/secrets/kafka)";
CONF
/opt/kafka/bin/` + tool + ` --bootstrap-server ` + kafka + `:9092 --command-config /tmp/test.properties`
	return c.docker(stdin, "exec", "-i", c.containers(kafka)[0], "/bin/sh", "-c", script)
}

// records gives the records of a topic, one a line with partition, time, key
// and value, sorted and each once.
func (c *cluster) records(kafka, topic string, atLeast int) []string {
	c.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		out := c.admin(kafka, "", fmt.Sprintf("kafka-console-consumer.sh --topic %s --from-beginning --timeout-ms 5000 --max-messages %d "+
			"--formatter-property print.partition=true --formatter-property print.timestamp=true --formatter-property print.key=true", topic, 10*atLeast))
		lines := slices.Compact(slices.Sorted(strings.Lines(out)))
		if len(lines) >= atLeast || time.Now().After(deadline) { // on a busy machine it may end before it has begun to read
			return lines
		}
	}
}

// call asks a worker and decodes its answer into v.
func (c *cluster) call(method, url, body string, v any) (status int, err error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && v != nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil || resp.StatusCode >= 400 {
		return resp.StatusCode, fmt.Errorf("%s %s: %d %s %w", method, url, resp.StatusCode, text, err)
	}
	return resp.StatusCode, nil
}

// until asks again and again until it is told nothing any more.
func (c *cluster) until(within time.Duration, what func() (missing string)) {
	c.t.Helper()
	began := time.Now()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		missing := what()
		if missing == "" {
			return
		}
		if time.Since(began) > within {
			for _, id := range strings.Fields(c.docker("", "ps", "-aq", "--filter", "label=com.docker.compose.service=worker")) {
				c.t.Log(c.docker("", "logs", "--tail", "20", id))
			}
			c.t.Fatalf("not within %v: %s", within, missing)
		}
		<-tick.C
	}
}

// workers waits until a worker counts n live ones.
func (c *cluster) workers(url string, n int) {
	c.t.Helper()
	c.until(30*time.Second, func() string {
		var workers []struct{ State string }
		if _, err := c.call("GET", url+"/v1/workers", "", &workers); err != nil {
			return err.Error()
		}
		alive := 0
		for _, w := range workers {
			if w.State == "alive" {
				alive++
			}
		}
		if alive != n {
			return fmt.Sprintf("%s counts %d live workers, want %d", url, alive, n)
		}
		return ""
	})
}

type status struct {
	Connector struct{ State string }
	Tasks     []struct {
		ID       int
		State    string
		WorkerID string `json:"worker_id"`
	}
}

// running waits until the connector's tasks run, none of them on the worker called not.
func (c *cluster) running(url, connector string, tasks int, not string) (s status) {
	c.t.Helper()
	c.until(time.Minute, func() string {
		s = status{}
		if _, err := c.call("GET", url+"/connectors/"+connector+"/status", "", &s); err != nil {
			return err.Error()
		}
		for _, task := range s.Tasks {
			if task.State != "RUNNING" || task.WorkerID == not {
				return fmt.Sprintf("tasks %+v", s.Tasks)
			}
		}
		if len(s.Tasks) != tasks || s.Connector.State != "RUNNING" {
			return fmt.Sprintf("status %+v", s)
		}
		return ""
	})
	return s
}

func TestComposeClusterReplicatesAndSurvivesAKilledWorker(t *testing.T) {
	c := up(t)
	for _, url := range c.urls {
		c.workers(url, 3)
	}
	example, err := os.ReadFile("examples/orders.json")
	if err != nil {
		t.Fatal(err)
	}
	if code, err := c.call("POST", c.urls[1]+"/connectors", string(example), nil); code != http.StatusCreated {
		t.Fatal(code, err)
	}
	s := c.running(c.urls[2], "orders", 3, "")

	// As many orders as setup.sh makes, equal in partition, time, key and value.
	source := c.records("source", "orders", 1000)
	if len(source) != 1000 {
		t.Fatalf("the source has %d orders", len(source))
	}
	c.equal(source)

	killed := s.Tasks[0].WorkerID
	id, _, _ := strings.Cut(killed, ":")
	c.docker("", "kill", id)
	var rest []string
	for _, url := range c.urls {
		if _, err := c.call("GET", url+"/", "", nil); err == nil {
			rest = append(rest, url)
		}
	}
	if len(rest) != 2 {
		t.Fatalf("%d workers answer after one was killed", len(rest))
	}
	c.urls = rest // the killed one comes back on another port
	c.running(rest[0], "orders", 3, killed)
	var more strings.Builder
	for i := range 500 {
		fmt.Fprintf(&more, "late-%d:after the kill\n", i)
	}
	c.admin("source", more.String(), "kafka-console-producer.sh --topic orders --reader-property parse.key=true --reader-property key.separator=:")
	c.equal(c.records("source", "orders", 1500))

	c.docker("", "start", id)
	c.workers(rest[0], 3)
	c.noSecrets()
	c.hardened()
}

// equal waits until the target has the records of the source. A killed worker's
// task may have copied some twice, so each counts once.
func (c *cluster) equal(source []string) {
	c.t.Helper()
	c.until(time.Minute, func() string {
		target := c.records("target", "source.orders", len(source))
		if !slices.Equal(source, target) {
			return fmt.Sprintf("the source has %d records and the target %d, or other ones", len(source), len(target))
		}
		return ""
	})
}

// noSecrets looks for the values of docker/secrets where they must not be: in
// logs, in the containers' settings, in REST answers, in the config topic.
func (c *cluster) noSecrets() {
	c.t.Helper()
	ids := strings.Fields(c.docker("", "ps", "-aq", "--filter", "label=com.docker.compose.project=barnabastest"))
	seen := map[string]string{
		"docker inspect":   c.docker("", append([]string{"inspect"}, ids...)...),
		"the config topic": c.admin("target", "", "kafka-console-consumer.sh --topic barnabas-configs --from-beginning --timeout-ms 3000 --formatter-property print.key=true"),
	}
	for _, id := range ids {
		out, err := c.command(c.t.Context(), "docker", "logs", id).CombinedOutput()
		if err != nil {
			c.t.Fatal(err)
		}
		seen["docker logs "+id] = string(out)
	}
	for _, path := range []string{"/connectors/orders", "/connectors/orders/tasks", "/connectors/orders/status", "/connectors?expand=info&expand=status"} {
		var answer json.RawMessage
		if _, err := c.call("GET", c.urls[0]+path, "", &answer); err != nil {
			c.t.Error(err)
		}
		seen["GET "+path] = string(answer)
	}
	values := 0
	for _, name := range []string{"source", "target", "gossip"} {
		text, err := os.ReadFile("secrets/" + name + ".properties")
		if err != nil {
			c.t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			if !ok || strings.HasPrefix(line, "#") {
				continue
			}
			values++
			for _, where := range slices.Sorted(maps.Keys(seen)) {
				if strings.Contains(seen[where], value) {
					c.t.Errorf("%s shows %s of %s.properties", where, key, name)
				}
			}
		}
	}
	if values != 6 {
		c.t.Errorf("looked for %d secrets, there are 6", values)
	}
}

// hardened checks that a worker's container is no more than it needs to be.
func (c *cluster) hardened() {
	c.t.Helper()
	got := strings.TrimSpace(c.docker("", "inspect", "-f", "{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}", c.containers("worker")[0]))
	if want := "65532:65532 true [ALL]"; got != want {
		c.t.Errorf("user, read-only root and dropped capabilities are %q, want %q", got, want)
	}
}
