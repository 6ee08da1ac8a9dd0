// Package takeover makes the copy of a partition change hands exactly: Fence shuts the former owner out of
// the target, Reconcile then reads how far the target really is.
//
// The owner of a copy takes its producer id with a transactional id of its own and writes plain batches with
// it: no transaction, no commit, no delay for consumers that read committed. The transactional id is there
// for the day when somebody else has to go on.
//
// Easy to get wrong: a new epoch at the coordinator shuts nobody out of a partition. A partition's leader
// learns of an epoch only from what is written there under it, so an empty transaction is aborted in every
// partition; and the answer to EndTxn comes before its markers, so it takes another InitProducerID, which is
// not answered before they stand.
package takeover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	// ErrCannotFence says that the target does not let this principal fence: it may not use the
	// transactional id, or the brokers know no transactions. To write plainly may still work.
	ErrCannotFence = errors.New("cannot fence")
	// ErrSuperseded says that somebody else took the transactional id over meanwhile: theirs is the later
	// claim.
	ErrSuperseded = errors.New("superseded: the transactional id was taken over by another owner meanwhile")
)

// Identity is a producer id and its epoch.
type Identity struct {
	ProducerID int64
	Epoch      int16
}

// FenceOptions says whom to fence where.
type FenceOptions struct {
	Target          *kgo.Client
	TransactionalID string
	// Expect is the producer id that the former owner had; -1 if it is not known.
	Expect int64
	// Partitions are where the former owner may write, by topic: those of the copy, and that of the
	// offset runs. Without any, the transactional id is taken and nobody is shut out.
	Partitions map[string][]int32
	// TransactionTimeout is what the broker will allow a transaction of the new identity. 0: 60 s, Kafka's
	// default for producers, or as much less as the broker insists on.
	TransactionTimeout time.Duration
	// Timeout bounds everything. 0: 30 s.
	Timeout time.Duration
}

// Fenced is what Fence has done.
type Fenced struct {
	// Identity is for the new owner to write with.
	Identity Identity
	// Expected says that the former owner had the producer id that was expected: nothing that it has sent
	// or will send is accepted any more in any of the partitions but those Left. Otherwise (the
	// transactional id had expired, or it never wrote) nothing is known of it.
	Expected bool
	// Left are partitions that were left out, and why: they do not exist, or may not be written to.
	Left map[string]map[int32]error
}

// Bounds of a fence.
const (
	fenceTimeout         = 30 * time.Second
	transactionTimeout   = time.Minute
	lowestTransaction    = time.Second
	firstPause, maxPause = 5 * time.Millisecond, 500 * time.Millisecond
)

// Fence takes the transactional id over and shuts out whoever held it: when it returns without an error,
// every partition's leader has heard of the new epoch. On one broker it takes some 30 ms. After an error the
// former owner may or may not be shut out, and Fence can be called again.
func Fence(ctx context.Context, o FenceOptions) (Fenced, error) {
	if o.Timeout <= 0 {
		o.Timeout = fenceTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	f := fencing{FenceOptions: o, left: map[string]map[int32]error{}}
	fenced, err := f.run(ctx)
	if err != nil {
		return Fenced{}, fmt.Errorf("fence %s: %w", o.TransactionalID, err)
	}
	return fenced, nil
}

type fencing struct {
	FenceOptions

	left map[string]map[int32]error
}

func (f *fencing) run(ctx context.Context) (Fenced, error) {
	first, err := f.take(ctx)
	if err != nil {
		return Fenced{}, err
	}
	last := first
	added, err := f.add(ctx, first)
	if err != nil {
		return Fenced{}, err
	}
	if added {
		if err := f.abort(ctx, first); err != nil {
			return Fenced{}, err
		}
		// The epoch that EndTxn answers with (version 5) is of no use: only this answer waits for the markers.
		if last, err = f.take(ctx); err != nil {
			return Fenced{}, err
		}
	}
	// The markers carried the first id, whatever the second is (a last epoch brings another).
	return Fenced{Identity: last, Expected: f.Expect >= 0 && first.ProducerID == f.Expect, Left: f.left}, nil
}

// take asks for the transactional id's next epoch, until the coordinator is through with the last
// transaction.
func (f *fencing) take(ctx context.Context) (Identity, error) {
	timeout := f.TransactionTimeout
	if timeout <= 0 {
		timeout = transactionTimeout
	}
	var id Identity
	err := again(ctx, "InitProducerID", func() error {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID = &f.TransactionalID
		req.TransactionTimeoutMillis = int32(timeout / time.Millisecond)
		req.ProducerID, req.ProducerEpoch = -1, -1 // we hold none
		resp, err := req.RequestWith(ctx, f.Target)
		if err != nil {
			return err
		}
		err = kerr.ErrorForCode(resp.ErrorCode)
		if errors.Is(err, kerr.InvalidTransactionTimeout) && f.TransactionTimeout <= 0 && timeout/2 >= lowestTransaction {
			timeout /= 2 // transaction.max.timeout.ms
			return errAgain
		}
		id = Identity{resp.ProducerID, resp.ProducerEpoch}
		return err
	})
	return id, err
}

// add begins a transaction in all partitions that there are, and says whether there were any.
func (f *fencing) add(ctx context.Context, id Identity) (bool, error) {
	added := false
	err := again(ctx, "AddPartitionsToTxn", func() error {
		req := f.addRequest(id)
		if added = len(req.Topics) > 0; !added {
			return nil
		}
		resp, err := req.RequestWith(ctx, f.Target)
		if err != nil {
			return err
		}
		var failed error
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				switch err := kerr.ErrorForCode(p.ErrorCode); {
				case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.TopicAuthorizationFailed):
					f.leave(t.Topic, p.Partition, err)
					failed = errors.Join(failed, errAgain)
				case errors.Is(err, kerr.OperationNotAttempted): // because of another partition
					failed = errors.Join(failed, errAgain)
				case err != nil:
					// Of the whole request, and the same for all.
					return err
				}
			}
		}
		return failed
	})
	return added, err
}

// addRequest asks for all partitions that are not left out. kgo sends it as version 3 at most: higher ones
// are for brokers. A broker with transaction.version 2 takes it all the same.
func (f *fencing) addRequest(id Identity) *kmsg.AddPartitionsToTxnRequest {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = f.TransactionalID, id.ProducerID, id.Epoch
	for _, topic := range slices.Sorted(maps.Keys(f.Partitions)) {
		t := kmsg.NewAddPartitionsToTxnRequestTopic()
		t.Topic = topic
		for _, p := range f.Partitions[topic] {
			if f.left[topic][p] == nil {
				t.Partitions = append(t.Partitions, p)
			}
		}
		if len(t.Partitions) > 0 {
			req.Topics = append(req.Topics, t)
		}
	}
	return req
}

func (f *fencing) leave(topic string, partition int32, why error) {
	if f.left[topic] == nil {
		f.left[topic] = map[int32]error{}
	}
	f.left[topic][partition] = why
}

// abort ends the transaction. If that goes wrong, the next InitProducerID does it: it is refused with
// CONCURRENT_TRANSACTIONS, and the coordinator aborts what is open.
func (f *fencing) abort(ctx context.Context, id Identity) error {
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = f.TransactionalID, id.ProducerID, id.Epoch
	resp, err := req.RequestWith(ctx, f.Target)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	switch err := classify(err); {
	case errors.Is(err, ErrCannotFence), errors.Is(err, ErrSuperseded):
		return fmt.Errorf("EndTxn: %w", err)
	default:
		return nil
	}
}

// errAgain makes again try once more.
var errAgain = errors.New("not yet")

// again calls do until it succeeds, ctx ends or there is no hope.
func again(ctx context.Context, what string, do func() error) error {
	pause := firstPause
	for {
		err := classify(do())
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%s: %w", what, errors.Join(context.Cause(ctx), err))
		case !errors.Is(err, errAgain):
			return fmt.Errorf("%s: %w", what, err)
		}
		timer := time.NewTimer(time.Duration(float64(pause) * (0.5 + rand.Float64()))) //nolint:gosec // jitter
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%s: %w", what, errors.Join(context.Cause(ctx), err))
		}
		pause = min(2*pause, maxPause)
	}
}

// classify says of an answer what can be done about it: wrapped in ErrCannotFence, ErrSuperseded or errAgain,
// or as it is, which ends the fence. Errors that are no answers come from connections; kgo has tried again
// where that is sure to be harmless, and all requests here are.
func classify(err error) error {
	var ke *kerr.Error
	switch {
	case err == nil, errors.Is(err, errAgain):
		return err
	case errors.Is(err, kgo.ErrClientClosed):
		return err
	case !errors.As(err, &ke):
		if tooOld(err) {
			return fmt.Errorf("%w: the brokers know no transactions: %w", ErrCannotFence, err)
		}
		return fmt.Errorf("%w: %w", errAgain, err)
	}
	for _, no := range []*kerr.Error{
		kerr.TransactionalIDAuthorizationFailed, kerr.ClusterAuthorizationFailed, // of the principal
		kerr.UnsupportedVersion, // of the brokers
	} {
		if errors.Is(ke, no) {
			return fmt.Errorf("%w: %w", ErrCannotFence, err)
		}
	}
	for _, late := range []*kerr.Error{
		kerr.ProducerFenced, kerr.InvalidProducerEpoch, // another owner's epoch
		kerr.InvalidProducerIDMapping, // another owner's producer id
	} {
		if errors.Is(ke, late) {
			return fmt.Errorf("%w: %w", ErrSuperseded, err)
		}
	}
	// CONCURRENT_TRANSACTIONS until markers stand; COORDINATOR_* and NOT_COORDINATOR while it moves; the rest
	// of what Kafka calls retriable.
	if errors.Is(ke, kerr.ConcurrentTransactions) || ke.Retriable {
		return fmt.Errorf("%w: %w", errAgain, err)
	}
	return err
}

// tooOld recognises kgo's refusal to send what a broker has no version of; it has no value for it.
func tooOld(err error) bool {
	return strings.Contains(err.Error(), "broker is too old") || strings.Contains(err.Error(), "unknown request key")
}
