// Record asks the real Kafka Connect and MirrorMaker 2 what they answer and
// write, and keeps it in e2e/vectors, so that tests compare with them without
// starting Java. Run it by hand after a change of Kafka's version or of the
// scripts here, and review the difference:
//
//	go run ./e2e/record
//
// What changes from run to run (addresses, ids, times, keys, stack traces) is
// replaced by a fixed word, so an unchanged answer is an unchanged file.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"barnabas/e2e/kafka"
)

func main() {
	out := flag.String("out", "", "folder to write to; e2e/vectors if empty")
	only := flag.String("only", "", "what alone to record: rest, policies, topics, mirror or plugins; all if empty")
	keep := flag.String("dir", "", "folder for data and logs, kept; a temporary one if empty")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	ctx, cancelTime := context.WithTimeout(ctx, 10*time.Minute)
	defer cancelTime()
	if err := run(ctx, *out, *keep, *only); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

// recorder holds the clusters under record.
type recorder struct {
	dir, out       string
	source, target *kafka.Broker // the workers' topics live on target
	words          *strings.Replacer
}

func run(ctx context.Context, out, dir, only string) error {
	if out == "" {
		root, err := kafka.Root()
		if err != nil {
			return err
		}
		out = filepath.Join(root, "e2e", "vectors")
	}
	if dir == "" {
		temp, err := os.MkdirTemp("", "record")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temp) //nolint:errcheck // a temporary folder
		dir = temp
	}
	r := &recorder{dir: dir, out: out}
	defer func() {
		for _, b := range []*kafka.Broker{r.source, r.target} {
			if b != nil {
				b.Kill()
			}
		}
	}()
	if err := r.startBrokers(ctx); err != nil {
		return err
	}
	r.words = strings.NewReplacer(
		r.source.Bootstrap(), "source:9092", r.target.Bootstrap(), "target:9092",
		r.source.ClusterID(), "SOURCE-CLUSTER-ID", r.target.ClusterID(), "TARGET-CLUSTER-ID",
		dir, "/work")
	if err := r.fillSource(ctx); err != nil {
		return err
	}
	for _, part := range []struct {
		name   string
		record func(context.Context) error
	}{{"rest", r.recordRest}, {"policies", r.recordPolicies}, {"topics", r.recordTopics}, {"mirror", r.recordMirror}, {"plugins", r.recordPlugins}} {
		if only != "" && only != part.name {
			continue
		}
		if err := part.record(ctx); err != nil {
			return err
		}
	}
	return nil
}

// startBrokers starts the two clusters.
func (r *recorder) startBrokers(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	begin := func(name string, b **kafka.Broker) func() error {
		return func() error {
			dir := filepath.Join(r.dir, name)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			var err error
			*b, err = kafka.Start(ctx, kafka.Spec{Name: name, Dir: dir})
			return err
		}
	}
	g.Go(begin("source", &r.source))
	g.Go(begin("target", &r.target))
	return g.Wait()
}

// connect starts a worker of the group name on the target cluster. The caller
// kills it.
func (r *recorder) connect(ctx context.Context, name string, properties map[string]string) (*kafka.Connect, error) {
	dir := filepath.Join(r.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	all := map[string]string{"bootstrap.servers": r.target.Bootstrap(), "group.id": name, "offset.flush.interval.ms": "1000"}
	for k, v := range properties {
		all[k] = v
	}
	return kafka.StartConnect(ctx, kafka.ConnectSpec{Name: name, Dir: dir, Properties: all})
}

// write stores a vector as indented JSON.
func (r *recorder) write(name string, vector any) error {
	text, err := json.MarshalIndent(vector, "", " ")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return r.writeText(name, text)
}

func (r *recorder) writeText(name string, text []byte) error {
	if strings.Contains(string(text), "127.0.0.1:") {
		return errors.New("write " + name + ": an address of this run is left in it")
	}
	path := filepath.Join(r.out, name)
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil { //nolint:gosec // a file of the repository
		return fmt.Errorf("write %s: %w", name, err)
	}
	fmt.Println("wrote", path)
	return nil
}
