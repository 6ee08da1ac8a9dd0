package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"barnabas/e2e/kafka"
)

// lab is two clusters of one broker each, and a folder.
type lab struct {
	source, target *kafka.Broker
	dir            string
	self, binary   string // this program and the one that is measured
	pprof          string // folder for processor profiles of the product and of the bare loop, empty for none
	log            io.Writer

	sourceClient, targetClient *kgo.Client
	sourceBroker, targetBroker *kgo.Broker
	aliases                    int
}

// open starts the clusters. Brokers have the options of Kafka's distribution and
// its default of 1 GiB of heap, and keep records of any age.
func (l *lab) open(ctx context.Context) error {
	g, starting := errgroup.WithContext(ctx)
	for name, broker := range map[string]**kafka.Broker{"source": &l.source, "target": &l.target} {
		g.Go(func() error {
			b, err := kafka.Start(starting, kafka.Spec{
				Name: name, Dir: filepath.Join(l.dir, name), JVM: append([]string{"-Xms1G", "-Xmx1G"}, kafka.DistributionJVM()...),
				Properties: map[string]string{
					"num.network.threads": "3", "num.io.threads": "8", "log.segment.delete.delay.ms": "0", "log.retention.ms": "-1",
				},
			})
			if err != nil {
				return err
			}
			*broker = b
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var err error
	if l.sourceClient, l.sourceBroker, err = connect(ctx, l.source.Bootstrap()); err != nil {
		return err
	}
	l.targetClient, l.targetBroker, err = connect(ctx, l.target.Bootstrap())
	return err
}

// close ends the clusters. Nobody reads their data again.
func (l *lab) close() {
	for _, c := range []*kgo.Client{l.sourceClient, l.targetClient} {
		if c != nil {
			c.Close()
		}
	}
	for _, b := range []*kafka.Broker{l.source, l.target} {
		if b != nil {
			b.Kill()
		}
	}
}

func (l *lab) say(format string, args ...any) {
	fmt.Fprintf(l.log, "%s  %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}

// alias is a name of a cluster that nobody has used: the copies and internal
// topics of every run are its own.
func (l *lab) alias() string {
	l.aliases++
	return fmt.Sprintf("run%d", l.aliases)
}

// folder makes a folder for a run.
func (l *lab) folder(name string) (string, error) {
	dir := filepath.Join(l.dir, name)
	return dir, os.MkdirAll(dir, 0o700)
}

// create makes a topic, and waits until its partitions can be asked.
func (l *lab) create(ctx context.Context, client *kgo.Client, topic string, partitions int32) error {
	if _, err := kadm.NewClient(client).CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
		return fmt.Errorf("create %s: %w", topic, err)
	}
	// The controller answers before the broker leads the partitions.
	broker := client.Broker(brokerID)
	for {
		_, missing, err := ends(ctx, broker, topic, partitions, false)
		if err != nil || missing == 0 {
			return err
		}
		if err := rest(ctx, lookForLast); err != nil {
			return fmt.Errorf("create %s: %d partitions are without a leader: %w", topic, missing, err)
		}
	}
}

// clean deletes what a run has made: every topic of the target, and of the
// source all but those to be kept.
func (l *lab) clean(ctx context.Context, keep ...string) error {
	var failed []error
	for client, stay := range map[*kgo.Client][]string{l.targetClient: nil, l.sourceClient: keep} {
		admin := kadm.NewClient(client)
		topics, err := admin.ListTopics(ctx)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		names := slices.DeleteFunc(topics.Names(), func(t string) bool { return strings.HasPrefix(t, "__") || slices.Contains(stay, t) })
		if len(names) == 0 {
			continue
		}
		deleted, err := admin.DeleteTopics(ctx, names...)
		if err == nil {
			err = deleted.Error()
		}
		if err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
			failed = append(failed, err)
		}
	}
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("delete topics: %w", err)
	}
	return nil
}

// size is what a topic's logs take, in bytes.
func (l *lab) size(ctx context.Context, client *kgo.Client, topic string, partitions int32) (int64, error) {
	set := kadm.TopicsSet{}
	for p := range partitions {
		set.Add(topic, p)
	}
	dirs, err := kadm.NewClient(client).DescribeAllLogDirs(ctx, set)
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", topic, err)
	}
	var sum int64
	dirs.Each(func(d kadm.DescribedLogDir) { sum += d.Size() })
	return sum, nil
}
