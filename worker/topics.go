package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/connector"
	"barnabas/worker/herder"
	"barnabas/worker/store"
	"barnabas/worker/task"
)

// topics are the three internal topics: what follows them, and what writes to
// all but the config topic.
type topics struct {
	config, status, offset *store.Log
	statuses               *store.Statuses
	offsets                *store.Offsets
	statusAppender         *store.Appender
	offsetAppender         *store.Appender
}

// workerClient returns the options of the worker's own Kafka clients. They are
// made from the top level of the worker file, as in Kafka Connect, and have nothing to do with those of the
// connectors. over are laid on top.
func (w *Worker) workerClient(what string, over ...config.Settings) ([]kgo.Opt, error) {
	return w.own.Options(what, ownSettings(w.o.File, what, over...))
}

func ownSettings(file config.Worker, what string, over ...config.Settings) config.Settings {
	return clientconfig.Own(file.Settings).Merge(over...).Merge(config.Literal(map[string]string{"client.id": clientID(file, what)}))
}

// clientID is that of one of the worker's own clients: the group, the worker's client.id if it has one, and what the client
// is for (ConnectUtils.clientIdBase).
func clientID(file config.Worker, what string) string {
	base := file.GroupID
	if own := strings.TrimSpace(file.Settings["client.id"].Written); own != "" {
		base += "-" + own
	}
	return base + "-" + what
}

// KafkaClient returns the options of a client that belongs to a worker itself, as those of the internal topics do. What
// says what for, in its client.id.
func (w *Worker) KafkaClient(what string) ([]kgo.Opt, error) { return w.workerClient(what) }

// KafkaClient returns the options of a client as a worker of a file would have it, which does not run here.
func KafkaClient(file config.Worker, what string) ([]kgo.Opt, error) {
	return task.NewOwnClients(nil, nil, slog.New(slog.DiscardHandler)).Options(what, ownSettings(file, what))
}

// prepareTimeout bounds the checks at start; a cluster that is not up yet is
// waited for, since workers and brokers are often started together.
const prepareTimeout = 2 * time.Minute

// newTopics creates and checks the internal topics and makes what reads and
// writes them.
func newTopics(ctx context.Context, w *Worker) (*topics, error) {
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	opts, err := w.workerClient("worker")
	if err != nil {
		return nil, err
	}
	if err := w.meetCluster(ctx, opts); err != nil {
		return nil, err
	}
	f := w.o.File
	warnings, err := store.Ensure(ctx, store.EnsureOptions{Client: opts},
		store.ConfigTopic(f.ConfigTopic.Name, int16(f.ConfigTopic.ReplicationFactor), f.ConfigTopic.Settings),
		store.OffsetTopic(f.OffsetTopic.Name, int32(f.OffsetTopic.Partitions), int16(f.OffsetTopic.ReplicationFactor), f.OffsetTopic.Settings),
		store.StatusTopic(f.StatusTopic.Name, int32(f.StatusTopic.Partitions), int16(f.StatusTopic.ReplicationFactor), f.StatusTopic.Settings))
	if err != nil {
		return nil, err
	}
	for _, warning := range warnings {
		w.log.Warn(warning)
	}
	t := &topics{statuses: store.NewStatuses(), offsets: store.NewOffsets()}
	t.config = store.NewLog(store.LogOptions{
		Client: opts, Topic: f.ConfigTopic.Name, ReadCommitted: true, Apply: w.applyConfig,
		CaughtUp: func(sentAt time.Time) {
			w.caughtUp.Store(true)
			w.tell(herder.ConfigEnd{SentAt: sentAt.Sub(w.base)})
		},
		Trouble: w.trouble(f.ConfigTopic.Name), Interval: min(500*time.Millisecond, f.Lease/8),
	})
	var ended atomic.Bool
	t.status = store.NewLog(store.LogOptions{
		Client: opts, Topic: f.StatusTopic.Name, Apply: w.applyStatus, Interval: -1, Trouble: w.trouble(f.StatusTopic.Name),
		CaughtUp: func(time.Time) {
			if !ended.Swap(true) {
				w.tell(herder.StatusEnd{})
			}
		},
	})
	t.offset = store.NewLog(store.LogOptions{
		Client: opts, Topic: f.OffsetTopic.Name, Interval: -1, Trouble: w.trouble(f.OffsetTopic.Name),
		// Transactional tasks may write their offsets here, and what they abort must not count.
		ReadCommitted: f.ExactlyOnceSource == exactlyOnceEnabled,
		Apply: func(r store.Record) {
			if err := t.offsets.Apply(r); err != nil {
				w.log.Warn("record of the offset topic skipped", "partition", r.Partition, "offset", r.Offset, "err", err)
			}
		},
	})
	t.statusAppender = store.NewAppender(store.AppenderOptions{Client: opts, Topic: f.StatusTopic.Name})
	t.offsetAppender = store.NewAppender(store.AppenderOptions{Client: opts, Topic: f.OffsetTopic.Name})
	w.leader = newLeaderWriter(w, store.NewLeader(store.LeaderOptions{
		Client: opts, Topic: f.ConfigTopic.Name, TransactionalID: "connect-cluster-" + f.GroupID,
	}))
	return t, nil
}

// meetCluster waits for the worker cluster's brokers, and refuses to share a
// group with workers of Kafka Connect.
func (w *Worker) meetCluster(ctx context.Context, opts []kgo.Opt) error {
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("make the worker's client: %w", err)
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	for tries := 0; ; tries++ {
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		err = w.meetOnce(attempt, admin)
		cancel()
		var refusal *Error
		if err == nil || errors.As(err, &refusal) {
			return err
		}
		if errors.Is(err, kerr.SaslAuthenticationFailed) || errors.Is(err, kerr.UnsupportedSaslMechanism) {
			return fmt.Errorf("log in at the workers' Kafka cluster (sasl.jaas.config of the worker file): %w", err)
		}
		level := slog.LevelDebug // brokers and workers are often started together
		if tries%30 == 3 {
			level = slog.LevelWarn
		}
		w.log.Log(ctx, level, "the Kafka cluster of the workers does not answer yet", "bootstrap", w.o.File.BootstrapServers, "err", err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("reach the Kafka cluster at %s: %w", strings.Join(w.o.File.BootstrapServers, ","), err)
		case <-time.After(time.Second):
		}
	}
}

func (w *Worker) meetOnce(ctx context.Context, admin *kadm.Client) error {
	meta, err := admin.BrokerMetadata(ctx)
	if err != nil {
		return err
	}
	w.clusterID.Store(&meta.Cluster)
	groups, err := admin.DescribeGroups(ctx, w.o.File.GroupID)
	if err != nil {
		return err
	}
	g := groups[w.o.File.GroupID]
	if errors.Is(g.Err, kerr.GroupAuthorizationFailed) {
		w.log.Warn("cannot see whether workers of Kafka Connect use this group: grant DESCRIBE on it", "group", w.o.File.GroupID)
		return nil
	}
	// Kafka 4 says so of a group that nobody has joined (KIP-1043).
	if g.Err != nil && !errors.Is(g.Err, kerr.GroupIDNotFound) {
		return fmt.Errorf("describe the group %s: %w", w.o.File.GroupID, g.Err)
	}
	if g.ProtocolType == "connect" && len(g.Members) > 0 {
		return &Error{ErrConflict, fmt.Sprintf("%d workers of Kafka Connect are members of the group %q: stop them before Barnabas takes over, or set another group.id "+
			"and other storage topics", len(g.Members), w.o.File.GroupID)}
	}
	return nil
}

func (t *topics) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, run := range []func(context.Context) error{
		t.config.Run, t.status.Run, t.offset.Run, t.statusAppender.Run, t.offsetAppender.Run,
	} {
		g.Go(func() error { return run(ctx) })
	}
	return g.Wait()
}

// trouble logs what keeps a topic from being read, not more than once a minute.
// The log goes on trying. It is called from that log's goroutine alone.
func (w *Worker) trouble(topic string) func(error) {
	var shown time.Time
	return func(err error) {
		level := slog.LevelDebug
		if time.Since(shown) > time.Minute {
			level = slog.LevelWarn
		}
		switch {
		case err != nil:
			if level == slog.LevelWarn {
				shown = time.Now()
			}
			w.log.Log(context.Background(), level, "internal topic cannot be read", "topic", topic, "err", err)
		case !shown.IsZero():
			shown = time.Time{}
			w.log.Info("internal topic can be read again", "topic", topic)
		}
	}
}

// offsets gives a connector's source offsets.
func (w *Worker) offsets(name string) connector.Offsets {
	t := w.topics
	return connector.Offsets{
		Load: func(ctx context.Context, partitions [][]byte) ([][]byte, error) {
			return t.offsets.Load(ctx, t.offset, name, partitions)
		},
		Save: func(ctx context.Context, offsets []connector.Offset) error {
			return bounded(ctx, w.o.File.OffsetFlushTimeout, func(ctx context.Context) error {
				return store.SaveOffsets(ctx, t.offsetAppender, name, offsets)
			})
		},
		Interval: w.o.File.OffsetFlushInterval,
	}
}

// errFlushTimeout is why saving offsets is given up. A task saves again after the next interval, as in Connect.
var errFlushTimeout = errors.New("offset.flush.timeout.ms is over")

// bounded gives save offset.flush.timeout.ms. Unlike Connect's, it does not include the wait for the records: these
// are acknowledged before their offsets are saved.
func bounded(ctx context.Context, timeout time.Duration, save func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errFlushTimeout)
	defer cancel()
	err := save(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errFlushTimeout) {
		return fmt.Errorf("%w: %w", errFlushTimeout, err)
	}
	return err
}
