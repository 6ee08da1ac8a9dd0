package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Version is the Kafka that everything is held against.
const Version = "4.3.1"

// Install is where the jars of Kafka and a Java to run them are.
type Install struct {
	java      string
	dir       string // .cache/kafka/VERSION of the repository
	classPath string
	prepare   func() error
}

// Find returns the install that `make kafka` made, or an error that says what
// is missing: the reason to skip a test with.
var Find = sync.OnceValues(find)

func find() (*Install, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	cache := filepath.Join(root, ".cache", "kafka")
	if said, err := os.ReadFile(filepath.Join(cache, "missing")); err == nil {
		return nil, errors.New(strings.TrimSpace(string(said)))
	}
	java, err := exec.LookPath("java")
	if err != nil {
		return nil, errors.New("no java: `make kafka` installs it as root")
	}
	dir := filepath.Join(cache, Version)
	jars, err := filepath.Glob(filepath.Join(dir, "libs", "*.jar"))
	if err != nil || len(jars) == 0 {
		return nil, fmt.Errorf("no jars of Kafka %s in .cache: `make kafka` fetches them", Version)
	}
	slices.Sort(jars)
	in := &Install{java: java, dir: dir, classPath: strings.Join(jars, ":")}
	in.prepare = sync.OnceValue(func() error {
		if err := in.format(); err != nil {
			return err
		}
		return in.archive()
	})
	return in, nil
}

// Root is the folder of the repository.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("find the repository: no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}

// args are the arguments that run a Java class with at most heap MiB. The
// cheapest collector and compiler are the fastest for a process of seconds.
func (in *Install) args(heap int, log4j, class string, rest ...string) []string {
	args := []string{
		fmt.Sprintf("-Xmx%dm", heap), "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
		"-Xshare:auto", "-Xlog:cds=off", "-Xlog:class+path=off", "-Djava.awt.headless=true", "-Dlog4j2.configurationFile=" + log4j,
	}
	if _, err := os.Stat(in.classes()); err == nil {
		args = append(args, "-XX:SharedArchiveFile="+in.classes())
	}
	return append(append(args, "-cp", in.classPath, class), rest...)
}

// extended puts Kafka's REST extensions behind the class path of args; in front of
// it the archive of classes would be of no use.
func (in *Install) extended(args []string) ([]string, error) {
	jars, err := filepath.Glob(filepath.Join(in.dir, "extensions", "*.jar"))
	if err != nil || len(jars) == 0 {
		return nil, fmt.Errorf("no REST extensions of Kafka %s in .cache: `make kafka` fetches them", Version)
	}
	args = slices.Clone(args)
	args[slices.Index(args, "-cp")+1] += ":" + strings.Join(jars, ":")
	return args, nil
}

// HasExtensions says whether the REST extensions of Kafka are there.
func HasExtensions() error {
	in, err := Find()
	if err != nil {
		return err
	}
	_, err = in.extended([]string{"-cp", ""})
	return err
}

// with are the arguments that run a Java class with the given options and no
// others, as the scripts of Kafka's distribution do.
func (in *Install) with(jvm []string, log4j, class string, rest ...string) []string {
	args := append(slices.Clone(jvm), "-Dlog4j2.configurationFile="+log4j, "-cp", in.classPath, class)
	return append(args, rest...)
}

// classes is the file with a broker's classes as the JVM wants them in memory
// (AppCDS). It halves the time to start.
func (in *Install) classes() string { return filepath.Join(in.dir, "classes.jsa") }

// bootstrap is the first metadata of a new cluster, the same for all clusters.
func (in *Install) bootstrap() string { return filepath.Join(in.dir, "bootstrap.checkpoint") }

// format runs Kafka's StorageTool once per install and keeps what it wrote, so
// that a new cluster costs no JVM besides its broker.
func (in *Install) format() error {
	if _, err := os.Stat(in.bootstrap()); err == nil {
		return nil
	}
	work, err := os.MkdirTemp(in.dir, "format")
	if err != nil {
		return fmt.Errorf("format storage: %w", err)
	}
	defer os.RemoveAll(work) //nolint:errcheck // what is left lies in a cache
	data := filepath.Join(work, "data")
	server := filepath.Join(work, "server.properties")
	text := "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:9\n" +
		"listeners=CONTROLLER://127.0.0.1:9,PLAINTEXT://127.0.0.1:10\ncontroller.listener.names=CONTROLLER\nlog.dirs=" + data + "\n"
	if err := os.WriteFile(server, []byte(text), 0o600); err != nil {
		return fmt.Errorf("format storage: %w", err)
	}
	log4j, err := writeLog4j(work, nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, in.java, in.args(128, log4j, "kafka.tools.StorageTool",
		"format", "-t", clusterID(), "-c", server)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("format storage: %w\n%s", err, out)
	}
	// Renamed, so that two test binaries at once do no harm.
	if err := os.Rename(filepath.Join(data, "bootstrap.checkpoint"), in.bootstrap()); err != nil {
		return fmt.Errorf("format storage: %w", err)
	}
	return nil
}

// archive runs a broker once per install and has its JVM keep the classes.
func (in *Install) archive() error {
	if _, err := os.Stat(in.classes()); err == nil {
		return nil
	}
	work, err := os.MkdirTemp(in.dir, "archive")
	if err != nil {
		return fmt.Errorf("archive classes: %w", err)
	}
	defer os.RemoveAll(work) //nolint:errcheck // what is left lies in a cache
	file := filepath.Join(work, "classes.jsa")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	b, err := start(ctx, Spec{Name: "archive", Dir: work, Listeners: []Listener{{Name: "CLIENT", SASL: true}}, ACLs: true}, in, "-XX:ArchiveClassesAtExit="+file)
	if err != nil {
		return fmt.Errorf("archive classes: %w", err)
	}
	if err := b.process.Stop(time.Minute); err != nil {
		return fmt.Errorf("archive classes: %w", err)
	}
	if err := os.Rename(file, in.classes()); err != nil {
		return fmt.Errorf("archive classes: %w\n%s", err, b.process.Tail(20))
	}
	return nil
}

// writeLog4j writes the logging settings of a Java process: warnings and a few
// loggers that say what a broker does, on standard output. more are levels of further loggers.
func writeLog4j(dir string, more map[string]string) (string, error) {
	text := `Configuration:
  Appenders:
    Console:
      name: STDOUT
      PatternLayout:
        pattern: "[%d] %p %m (%c)%n"
  Loggers:
    Root:
      level: WARN
      AppenderRef:
        - ref: STDOUT
    Logger:
      - name: kafka.server.KafkaRaftServer
        level: INFO
      - name: org.apache.kafka.connect.runtime
        level: INFO
      - name: org.apache.kafka.connect.runtime.isolation
        level: WARN
`
	for _, name := range slices.Sorted(maps.Keys(more)) {
		text += "      - name: " + name + "\n        level: " + more[name] + "\n"
	}
	path := filepath.Join(dir, "log4j2.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write logging settings: %w", err)
	}
	return path, nil
}
