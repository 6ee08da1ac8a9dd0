package herder

import "time"

// Timing holds every duration that the protocol's safety or its bounds rest on.
// The worker and the simulator use the same values; nothing else decides on time.
type Timing struct {
	// Lease is how long a worker may act for its tasks on one reading of the config topic that reached
	// its end, counted from the moment the reading was asked for (worker.lease.ms).
	Lease time.Duration
	// Margin is added by whoever waits for somebody else's lease: drift of two
	// monotonic clocks over a lease, and a request that was just being sent.
	Margin time.Duration
	// Grace bounds an orderly stop (task.shutdown.graceful.timeout.ms).
	Grace time.Duration
	// LeaderLease is how long after its last sign in the log a leader that gossip has lost still counts as
	// leading. Shorter than Lease: a new leader is kept safe by fencing, not by waiting.
	LeaderLease time.Duration
	// LeaderSilence is the same for a leader that gossip still sees: it lives, but
	// cannot write.
	LeaderSilence time.Duration
	// Renew is the time between two signs of a leader.
	Renew time.Duration
	// StandStep separates the candidates: the one of rank k stands k steps later.
	StandStep time.Duration
	// Settle is how long a worker that has just started waits for the members named
	// in the log to show up in gossip, before it takes them for gone.
	Settle time.Duration
	// Retry is the time after which an announcement that was not read back is made
	// again.
	Retry time.Duration
	// Weigh is how long after tasks have changed their weights the leader looks whether the balance suffers.
	Weigh time.Duration
	// Delay is how long the tasks of a departed worker wait for its return
	// (scheduled.rebalance.max.delay.ms; Kafka's default is 5 minutes, ours 0).
	Delay time.Duration
}

// DefaultTiming gives the bounds of the product: a killed worker's plain tasks
// run again in under 8 seconds.
func DefaultTiming() Timing {
	return Timing{
		Lease:         4 * time.Second,
		Margin:        300 * time.Millisecond,
		Grace:         5 * time.Second,
		LeaderLease:   1500 * time.Millisecond,
		LeaderSilence: 12 * time.Second,
		Renew:         400 * time.Millisecond,
		StandStep:     300 * time.Millisecond,
		Settle:        time.Second,
		Retry:         2 * time.Second,
		Weigh:         30 * time.Second,
	}
}
