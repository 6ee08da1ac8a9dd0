package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/connector/txn"
)

// How a transaction can fail. An error that is neither ErrFenced nor ErrUnknown
// means that nothing was or will be written; one can be both.
var (
	// ErrFenced says that another worker holds the transactional id now, or that Kafka has ended our
	// transaction: this one leads no more until it takes the lead again.
	ErrFenced = errors.New("fenced: the transactional id is held elsewhere")
	// ErrUnknown says that the entries may or may not stand in the topic: read it to its
	// end after the next Take, by whomever, to find out.
	ErrUnknown = errors.New("outcome unknown")
	// ErrNotTaken says that Append was called without a Take that still holds. Nothing was written.
	ErrNotTaken = errors.New("the transactional id has not been taken")
)

// Bounds of the leader's calls. An append must end before Kafka ends its transaction by itself.
const (
	transactionTimeout = 10 * time.Second
	appendTimeout      = 8 * time.Second
	abortTimeout       = 2 * time.Second
)

// LeaderOptions says where a Leader writes and as whom.
type LeaderOptions struct {
	Client          []kgo.Opt // brokers and security
	Topic           string    // the config topic
	TransactionalID string    // connect-cluster-<group.id>, as in Connect
}

// Leader writes the config topic in transactions, fenced by the transactional id.
//
// franz-go can recover a producer by taking a new epoch. A leader must not: each Take makes a fresh
// client, and after the first failure that might have cost us the id the client is thrown away, so that
// only another Take gives the right to write.
//
// Methods may be called from several goroutines; they wait for one another.
type Leader struct {
	options LeaderOptions
	turn    chan struct{} // holds a token while nobody uses client
	client  *kgo.Client   // nil: not taken, or lost
}

// NewLeader returns a leader that has not taken the lead. Its user ends with Resign.
func NewLeader(o LeaderOptions) *Leader {
	l := &Leader{options: o, turn: make(chan struct{}, 1)}
	l.turn <- struct{}{}
	return l
}

// Take takes the transactional id and fences whoever held it: an open transaction of theirs has been
// aborted, and nothing they send is accepted, when Take returns nil. It gives up after 10 s.
func (l *Leader) Take(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, transactionTimeout)
	defer cancel()
	if err := l.acquire(ctx); err != nil {
		return fmt.Errorf("take %s: %w", l.options.TransactionalID, err)
	}
	defer l.release()
	l.drop()
	opts := append(slices.Clone(l.options.Client),
		kgo.TransactionalID(l.options.TransactionalID),
		kgo.TransactionTimeout(transactionTimeout),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerLinger(0),
		kgo.MetadataMinAge(metadataAge),
	)
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("take %s: %w", l.options.TransactionalID, err)
	}
	// InitProducerID without an epoch of ours: this bumps the epoch and so fences.
	if _, _, err := client.ProducerID(ctx); err != nil {
		closeWithin(client)
		return fmt.Errorf("take %s: %w", l.options.TransactionalID, err)
	}
	l.client = client
	return nil
}

// Append writes entries in one transaction, in order, to partition 0, and returns the offset of the
// last one once it is committed. It gives up after 8 s; a transaction that could not be committed is
// aborted, by us or by Kafka. After ErrFenced or ErrUnknown, and after every failure but a refusal of
// the entries themselves (too large, say), the lead has to be taken again: Taken says so.
func (l *Leader) Append(ctx context.Context, entries []Entry) (int64, error) {
	if len(entries) == 0 {
		return -1, fmt.Errorf("append to %s: no entries", l.options.Topic)
	}
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	if err := l.acquire(ctx); err != nil {
		return -1, fmt.Errorf("append to %s: %w", l.options.Topic, err)
	}
	defer l.release()
	if l.client == nil {
		return -1, fmt.Errorf("append to %s: %w", l.options.Topic, ErrNotTaken)
	}
	last, err := l.transact(ctx, entries)
	if err != nil {
		return -1, fmt.Errorf("append to %s: %w", l.options.Topic, err)
	}
	return last, nil
}

func (l *Leader) transact(ctx context.Context, entries []Entry) (int64, error) {
	if err := l.client.BeginTransaction(); err != nil {
		l.drop()
		return -1, fenced(err)
	}
	records := make([]*kgo.Record, len(entries))
	for i, e := range entries {
		records[i] = &kgo.Record{Topic: l.options.Topic, Key: e.Key, Value: e.Value}
	}
	if err := produce(ctx, l.client, records); err != nil {
		// No commit has been sent, and nobody but us could: these entries will never be visible.
		if !l.abort(err) {
			l.drop()
		}
		return -1, fenced(err)
	}
	if err := txn.End(ctx, l.client, kgo.TryCommit); err != nil {
		// Even "fenced" says nothing about the outcome: the first try may have
		// committed, its answer may have been lost, and then another worker took over.
		l.drop()
		return -1, fmt.Errorf("commit: %w: %w", ErrUnknown, fenced(err))
	}
	return records[len(records)-1].Offset, nil
}

// abort ends a transaction whose entries were refused, and says whether this leader
// can go on: only if the refusal was about the entries and the abort was confirmed.
func (l *Leader) abort(cause error) (goesOn bool) {
	if isFenced(cause) {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), abortTimeout)
	defer cancel()
	if err := txn.End(ctx, l.client, kgo.TryAbort); err != nil {
		return false
	}
	return isRefusal(cause)
}

// Resign gives the lead up. The transactional id stays ours at the brokers until
// somebody takes it; nothing is written with it any more.
func (l *Leader) Resign() {
	<-l.turn
	defer l.release()
	l.drop()
}

// Taken says whether this leader may append: it has taken the lead and not found
// out that it lost it.
func (l *Leader) Taken() bool {
	<-l.turn
	defer l.release()
	return l.client != nil
}

func (l *Leader) acquire(ctx context.Context) error {
	select {
	case <-l.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *Leader) release() { l.turn <- struct{}{} }

func (l *Leader) drop() {
	if l.client != nil {
		closeWithin(l.client)
		l.client = nil
	}
}

// isFenced lists how Kafka says that a producer has lost its transactional id.
func isFenced(err error) bool {
	for _, fencing := range []error{
		kerr.ProducerFenced,
		kerr.InvalidProducerEpoch,     // the same, from a partition's leader
		kerr.InvalidProducerIDMapping, // the id has expired, and somebody may have taken it since
		kerr.InvalidTxnState,          // the coordinator has aborted our transaction, or somebody else's Take has
	} {
		if errors.Is(err, fencing) {
			return true
		}
	}
	return false
}

// fenced marks err if it says that the transactional id is lost.
func fenced(err error) error {
	if isFenced(err) {
		return fmt.Errorf("%w: %w", ErrFenced, err)
	}
	return err
}

// isRefusal says whether the broker refused the entries themselves, so that others may well be
// written by the same producer.
func isRefusal(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.InvalidRecord) ||
		errors.Is(err, kerr.RecordListTooLarge) || errors.Is(err, kerr.InvalidTimestamp)
}

// closeTimeout bounds the wait for a client to close: one whose InitProducerID was
// given up may take longer, and the next Take must not wait for it.
const closeTimeout = 2 * time.Second

// closeWithin closes client, and leaves it to itself if that takes too long.
func closeWithin(client *kgo.Client) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		client.Close()
	}()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
	}
}
