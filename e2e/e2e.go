// Package e2e holds the harness of the end-to-end tests and the tests
// themselves: the compiled binary, as separate processes, against real Apache
// Kafka. The tests see the product as a user does: its command line, its files,
// its REST API, what it writes to Kafka.
//
// Easy to get wrong: the clusters are shared by all tests of the binary, so
// every test has a prefix of its own for topics, groups and users, and a test
// that stops a broker must not run beside others (no t.Parallel).
package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"barnabas/e2e/kafka"
	"barnabas/e2e/leak"
	"barnabas/e2e/proxy"
)

// Client is the listener that the product uses: SASL, with ACLs behind it.
const Client = "CLIENT"

// Faulty is like Client, on source and hub, through a proxy that one test at a
// time may break.
const Faulty = "FAULTY"

// clusters are the three of the normal case: what is copied from, what is
// copied to, and the one with the workers' internal topics.
type clusters struct {
	source, target, hub *kafka.Broker
	// sourceNet and hubNet stand in front of the listener Faulty.
	sourceNet, hubNet *proxy.Proxy
	dir               string
}

var shared struct {
	once sync.Once
	clusters
	err error
}

// start starts the clusters, all at once.
func start(ctx context.Context) (c clusters, err error) {
	if c.dir, err = os.MkdirTemp("", "e2e"); err != nil {
		return c, err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, b := range []struct {
		name   string
		broker **kafka.Broker
		net    **proxy.Proxy // nil: no listener Faulty
	}{{"source", &c.source, &c.sourceNet}, {"target", &c.target, nil}, {"hub", &c.hub, &c.hubNet}} {
		spec := kafka.Spec{
			Name: b.name, Dir: filepath.Join(c.dir, b.name), ACLs: true, SuperUsers: []string{"worker"},
			Listeners: []kafka.Listener{{Name: Client, SASL: true}},
		}
		if b.net != nil {
			behind, err := kafka.FreePorts(1)
			if err != nil {
				return c, err
			}
			if *b.net, err = proxy.Listen("127.0.0.1:0", behind[0]); err != nil {
				return c, err
			}
			spec.Listeners = append(spec.Listeners, kafka.Listener{Name: Faulty, SASL: true, Address: behind[0], Advertise: (*b.net).Address()})
		}
		g.Go(func() (err error) {
			if err := os.Mkdir(spec.Dir, 0o700); err != nil {
				return err
			}
			*b.broker, err = kafka.Start(ctx, spec)
			return err
		})
	}
	return c, g.Wait()
}

// stop ends the clusters and forgets their data.
func (c clusters) stop() error {
	for _, b := range []*kafka.Broker{c.source, c.target, c.hub} {
		if b != nil && b.Process() != nil {
			b.Kill()
		}
	}
	for _, p := range []*proxy.Proxy{c.sourceNet, c.hubNet} {
		if p != nil {
			p.Close()
		}
	}
	if c.dir == "" {
		return nil
	}
	return os.RemoveAll(c.dir)
}

// Main runs the tests and ends the shared clusters: for TestMain.
func Main(m *testing.M) int {
	code := m.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return max(code, 1)
	}
	return code
}

// binary builds the product once, or takes the one that $BARNABAS names.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("BARNABAS"); path != "" {
		return path, nil
	}
	root, err := kafka.Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, ".cache", "e2e", "barnabas")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/barnabas")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the binary: %w\n%s", err, out)
	}
	return path, nil
})

// Env is what one test works with.
type Env struct {
	t *testing.T
	// Prefix begins the names of everything that the test makes on the clusters.
	Prefix string
	// Seed makes the records; $E2E_SEED repeats a run.
	Seed uint64
	// Dir takes the test's files: secrets/ those with secrets, everything else
	// must be free of them.
	Dir string
	// Leak looks for the secrets of this test in all that the product writes.
	Leak *leak.Scanner
	// Client asks the workers; nil is one without certificates and users.
	Client *http.Client

	Source, Target, Hub *kafka.Broker
	// SourceNet and HubNet are what breaks the listener Faulty.
	SourceNet, HubNet *proxy.Proxy

	fleets []*Fleet
	stores string // password of the keystores, once there are some
}

// New prepares a test of at most limit, or skips it, saying what is missing.
// When the test is over, everything that the product has written is searched
// for the test's secrets.
func New(t *testing.T, limit time.Duration) *Env {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: needs brokers and minutes")
	}
	if _, err := kafka.Find(); err != nil {
		t.Skip(err)
	}
	shared.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		shared.clusters, shared.err = start(ctx)
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	if _, err := binary(); err != nil {
		t.Fatal(err)
	}
	e := &Env{
		t: t, Prefix: prefix(t.Name()), Seed: rand.Uint64(), Dir: directory(t), Leak: leak.New(), //nolint:gosec // no secret
		Source: shared.source, Target: shared.target, Hub: shared.hub, SourceNet: shared.sourceNet, HubNet: shared.hubNet,
	}
	if text := os.Getenv("E2E_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("E2E_SEED: %v", err)
		}
		e.Seed = seed
	}
	t.Logf("seed %d (E2E_SEED repeats it)", e.Seed)
	if err := os.Mkdir(filepath.Join(e.Dir, "secrets"), 0o700); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(limit, func() {
		panic(fmt.Sprintf("%s has taken more than %s", t.Name(), limit))
	})
	t.Cleanup(func() { watchdog.Stop() })
	// Registered first, so it runs after all else but while the brokers are up.
	t.Cleanup(e.searchForSecrets)
	return e
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// prefix is a name for topics and groups out of a test's name.
func prefix(test string) string {
	words := regexp.MustCompile(`[A-Z]+[a-z0-9]*`).FindAllString(strings.TrimPrefix(test, "Test"), 3)
	name := notInNames.ReplaceAllString(strings.ToLower(strings.Join(words, "-")), "-")
	return fmt.Sprintf("%s-%04x", name, rand.IntN(1<<16)) //nolint:gosec // no secret
}

// directory is the test's directory: a temporary one, or one that is kept, below $E2E_DIR.
func directory(t *testing.T) string {
	keep := os.Getenv("E2E_DIR")
	if keep == "" {
		return t.TempDir()
	}
	dir := filepath.Join(keep, t.Name())
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Context ends with the test.
func (e *Env) Context() context.Context { return e.t.Context() }

// Must fails the test on an error.
func (e *Env) Must(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

// Until waits for a condition, at most for limit, and says how long it took. The
// condition explains itself: an empty string means fulfilled.
func (e *Env) Until(limit time.Duration, what string, condition func() string) time.Duration {
	e.t.Helper()
	took, why := e.Within(limit, condition)
	if why != "" {
		e.t.Fatalf("%s: not within %s: %s", what, limit, why)
	}
	return took
}

// Within is Until for a condition that may stay unfulfilled: why says so then.
func (e *Env) Within(limit time.Duration, condition func() string) (took time.Duration, why string) {
	e.t.Helper()
	begin := time.Now()
	for {
		why = condition()
		if took = time.Since(begin); why == "" || took > limit {
			return took, why
		}
		select {
		case <-e.t.Context().Done():
			e.t.Fatal(e.t.Context().Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Pass lets a time go by, for what must hold for that long.
func (e *Env) Pass(d time.Duration) {
	e.t.Helper()
	select {
	case <-e.t.Context().Done():
		e.t.Fatal(e.t.Context().Err())
	case <-time.After(d):
	}
}

// Topic makes a topic, its name after the test's prefix, and returns the name.
func (e *Env) Topic(b *kafka.Broker, name string, partitions int32, configs ...string) string {
	e.t.Helper()
	admin, err := b.Admin()
	e.Must(err)
	defer admin.Close()
	settings := map[string]*string{}
	for i := 0; i < len(configs); i += 2 {
		settings[configs[i]] = &configs[i+1]
	}
	name = e.Prefix + "." + name
	_, err = admin.CreateTopic(e.Context(), partitions, 1, settings, name)
	e.Must(err)
	return name
}

// Identity is a user of a cluster, whose password lies in a file.
type Identity struct {
	Name, Password, File string
}

// Reference is how a config names the password.
func (i Identity) Reference() string { return "${file:" + i.File + ":password}" }

// Settings are client settings that log in as the identity, by reference.
func (i Identity) Settings(prefix string) map[string]string {
	return map[string]string{
		prefix + "security.protocol": "SASL_PLAINTEXT",
		prefix + "sasl.mechanism":    "SCRAM-SHA-256",
		prefix + "sasl.jaas.config":  fmt.Sprintf(`org.apache.kafka.common.security.scram.ScramLoginModule required username="%s" password="%s";`, i.Name, i.Reference()),
	}
}

// User makes a user with these rights and a password that nobody may see.
func (e *Env) User(b *kafka.Broker, name string, grants ...kafka.Grant) Identity {
	e.t.Helper()
	i := Identity{Name: e.Prefix + "-" + name, Password: e.Leak.Plant(name)}
	e.Must(b.AddUser(e.Context(), i.Name, i.Password))
	e.Must(b.Allow(e.Context(), i.Name, grants...))
	i.File = e.Secret(name+".properties", "username="+i.Name+"\npassword="+i.Password+"\n")
	return i
}

// Secret writes a file whose content is secret and returns its path.
func (e *Env) Secret(name, content string) string {
	e.t.Helper()
	path := filepath.Join(e.Dir, "secrets", name)
	e.Must(os.WriteFile(path, []byte(content), 0o600))
	return path
}

// The rights that a mirror connector needs on each side.

// ReadTopics are the rights to copy topics from a cluster.
func ReadTopics(topic string) []kafka.Grant {
	return []kafka.Grant{
		{Topic: topic, Operations: []kadm.ACLOperation{kadm.OpRead, kadm.OpDescribe, kadm.OpDescribeConfigs}},
		{Operations: []kadm.ACLOperation{kadm.OpDescribe}},
	}
}

// WriteTopics are the rights to make and fill copies on a cluster, under a fence
// and with offset runs.
func WriteTopics(topic string) []kafka.Grant {
	return []kafka.Grant{
		{Topic: topic, Operations: []kadm.ACLOperation{kadm.OpWrite, kadm.OpRead, kadm.OpCreate, kadm.OpDescribe, kadm.OpDescribeConfigs, kadm.OpAlterConfigs, kadm.OpAlter}},
		{Operations: []kadm.ACLOperation{kadm.OpDescribe, kadm.OpIdempotentWrite}},
		{Topic: "mm2-offset-runs.*", Operations: []kadm.ACLOperation{kadm.OpWrite, kadm.OpRead, kadm.OpCreate, kadm.OpDescribe, kadm.OpDescribeConfigs}},
		{TransactionalID: "*", Operations: []kadm.ACLOperation{kadm.OpWrite, kadm.OpDescribe}},
	}
}

// Plain are the options of a client of the harness.
func Plain(b *kafka.Broker) []kgo.Opt {
	return []kgo.Opt{kgo.SeedBrokers(b.Bootstrap()), kgo.ClientID("harness")}
}
