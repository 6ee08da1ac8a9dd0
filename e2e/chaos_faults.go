package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"barnabas/e2e/kafka"
	"barnabas/e2e/process"
	"barnabas/e2e/proxy"
)

// brokerFaults take one broker away at a time, or move leaders.
func (s *side) brokerFaults() []fault {
	away := func(take func(context.Context, *kafka.Broker) error) func(context.Context, *rand.Rand) error {
		return func(ctx context.Context, r *rand.Rand) error {
			b := s.cluster.Brokers[r.IntN(len(s.cluster.Brokers))]
			if err := take(ctx, b); err != nil {
				return err
			}
			pause(ctx, between(r, 0, 5*time.Second))
			mend, cancel := mending(ctx, 2*time.Minute)
			defer cancel()
			if err := b.Run(mend); err != nil {
				return err
			}
			return s.inSync(mend)
		}
	}
	moves := fault{"leaders moved", s.moveLeaders}
	return []fault{
		{"broker killed", away(func(_ context.Context, b *kafka.Broker) error { b.Kill(); return nil })},
		{"broker stopped", away(func(_ context.Context, b *kafka.Broker) error { return b.Stop() })},
		{"broker frozen", func(ctx context.Context, r *rand.Rand) error {
			b := s.cluster.Brokers[r.IntN(len(s.cluster.Brokers))]
			if err := freeze(ctx, b.Process(), between(r, time.Second, 8*time.Second)); err != nil {
				return err
			}
			mend, cancel := mending(ctx, 2*time.Minute)
			defer cancel()
			return s.inSync(mend)
		}},
		moves, moves, moves,
	}
}

// freeze stops a process for a time.
func freeze(ctx context.Context, p *process.Process, d time.Duration) error {
	mend, cancel := mending(ctx, 10*time.Second)
	defer cancel()
	if err := p.Freeze(mend); err != nil {
		return err
	}
	pause(ctx, d)
	return p.Thaw()
}

// inSync waits until all replicas of all partitions have what they should have.
func (s *side) inSync(ctx context.Context) error {
	admin, err := s.cluster.Admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	for {
		behind := "metadata"
		topics, err := admin.ListTopicsWithInternal(ctx)
		if err == nil {
			behind = ""
			topics.EachPartition(func(p kadm.PartitionDetail) {
				if len(p.ISR) < len(p.Replicas) || p.Leader < 0 {
					behind = fmt.Sprintf("%s/%d of leader %d: %v of %v", p.Topic, p.Partition, p.Leader, p.ISR, p.Replicas)
				}
			})
		}
		if behind == "" {
			return nil
		}
		if pause(ctx, 200*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("replicas of the %s are not in sync: %s: %w", s.name, behind, ctx.Err())
		}
	}
}

// moveLeaders gives about half of all partitions, transaction coordinators
// among them, another leader.
func (s *side) moveLeaders(ctx context.Context, r *rand.Rand) error {
	ctx, cancel := mending(ctx, 30*time.Second)
	defer cancel()
	admin, err := s.cluster.Admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	topics, err := admin.ListTopicsWithInternal(ctx)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	order, moved := kadm.AlterPartitionAssignmentsReq{}, kadm.TopicsSet{}
	for _, name := range slices.Sorted(maps.Keys(topics)) {
		for _, id := range slices.Sorted(maps.Keys(topics[name].Partitions)) {
			if p := topics[name].Partitions[id]; r.IntN(2) == 0 && len(p.Replicas) > 1 {
				order.Assign(name, id, append(slices.Clone(p.Replicas[1:]), p.Replicas[0]))
				moved.Add(name, id)
			}
		}
	}
	if len(order) == 0 {
		return nil
	}
	// What is refused for one partition is only a leader that stays.
	if _, err := admin.AlterPartitionAssignments(ctx, order); err != nil {
		return fmt.Errorf("change the order of replicas: %w", err)
	}
	if _, err := admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, moved); err != nil {
		return fmt.Errorf("elect leaders: %w", err)
	}
	return nil
}

// networkFaults break what lies between the product and the brokers.
func networkFaults(sides ...*side) []fault {
	// Either one broker, or all of a cluster.
	some := func(r *rand.Rand) []*proxy.Proxy {
		all := sides[r.IntN(len(sides))].proxies
		if r.IntN(3) == 0 {
			return all
		}
		i := r.IntN(len(all))
		return all[i : i+1]
	}
	during := func(low, high time.Duration, harm func(*proxy.Proxy, *rand.Rand)) func(context.Context, *rand.Rand) error {
		return func(ctx context.Context, r *rand.Rand) error {
			hit := some(r)
			for _, p := range hit {
				harm(p, r)
			}
			pause(ctx, between(r, low, high))
			for _, p := range hit {
				p.Heal()
			}
			return nil
		}
	}
	return []fault{
		{"connections cut", func(ctx context.Context, r *rand.Rand) error {
			hit := some(r)
			for range 1 + r.IntN(20) {
				for _, p := range hit {
					p.Cut()
				}
				pause(ctx, between(r, 5*time.Millisecond, 300*time.Millisecond))
			}
			return nil
		}},
		{"connections slow", during(time.Second, 6*time.Second, func(p *proxy.Proxy, r *rand.Rand) {
			p.Latency(between(r, 5*time.Millisecond, 400*time.Millisecond))
			if r.IntN(2) == 0 {
				p.Bandwidth(20_000 + r.IntN(200_000))
			}
		})},
		{"connections silent", during(time.Second, 10*time.Second, func(p *proxy.Proxy, _ *rand.Rand) { p.Silence() })},
		{"connections silent, then cut", func(ctx context.Context, r *rand.Rand) error {
			// What was on the way may have arrived; its answer never does.
			hit := some(r)
			for _, p := range hit {
				p.Silence()
			}
			pause(ctx, between(r, 100*time.Millisecond, 3*time.Second))
			for _, p := range hit {
				p.Cut()
				p.Heal()
			}
			return nil
		}},
		{"connections refused", during(500*time.Millisecond, 5*time.Second, func(p *proxy.Proxy, _ *rand.Rand) { p.Refuse() })},
	}
}

// hubFaults cut the workers off from their own cluster.
func hubFaults(hub *proxy.Proxy) []fault {
	return []fault{
		{"silent", func(ctx context.Context, r *rand.Rand) error {
			hub.Silence()
			pause(ctx, between(r, time.Second, 7*time.Second))
			hub.Heal()
			pause(ctx, between(r, 15*time.Second, 40*time.Second))
			return nil
		}},
		{"cut", func(ctx context.Context, r *rand.Rand) error {
			hub.Cut()
			pause(ctx, between(r, 3*time.Second, 10*time.Second))
			return nil
		}},
	}
}

// quotaFaults throttle the connectors' principals.
func (s *side) quotaFaults() []fault {
	set := func(key string, low, high float64) func(context.Context, *rand.Rand) error {
		return func(ctx context.Context, r *rand.Rand) error {
			value := low + r.Float64()*(high-low)
			err := s.quota(ctx, kadm.AlterClientQuotaOp{Key: key, Value: value})
			pause(ctx, between(r, 2*time.Second, 8*time.Second))
			mend, cancel := mending(ctx, time.Minute)
			defer cancel()
			for mend.Err() == nil {
				// A cluster that is just without a controller takes it later.
				if err = s.quota(mend, kadm.AlterClientQuotaOp{Key: key, Remove: true}); err == nil {
					break
				}
			}
			return err
		}
	}
	return []fault{
		{"quota of bytes written", set("producer_byte_rate", 5_000, 100_000)},
		{"quota of bytes read", set("consumer_byte_rate", 5_000, 100_000)},
		{"quota of requests", set("request_percentage", 0.5, 5)},
	}
}

func (s *side) quota(ctx context.Context, op kadm.AlterClientQuotaOp) error {
	ctx, cancel := mending(ctx, 20*time.Second)
	defer cancel()
	admin, err := s.cluster.Admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	var entries []kadm.AlterClientQuotaEntry
	for _, user := range s.users {
		entries = append(entries, kadm.AlterClientQuotaEntry{
			Entity: kadm.ClientQuotaEntity{{Type: "user", Name: &user}}, Ops: []kadm.AlterClientQuotaOp{op},
		})
	}
	altered, err := admin.AlterClientQuotas(ctx, entries)
	for _, a := range altered {
		if err == nil {
			err = a.Err
		}
	}
	if err != nil {
		return fmt.Errorf("quota of %s: %w", strings.Join(s.users, ", "), err)
	}
	return nil
}

// workerFaults take one worker of the fleet away at a time. The frozen ones wake
// up before, while and after others take their tasks over.
func (f *Fleet) workerFaults() []fault {
	any := func(r *rand.Rand) (*Worker, error) {
		w := f.Workers[r.IntN(len(f.Workers))]
		if !w.Running() {
			return nil, fmt.Errorf("%s ended by itself: %w\n%s", w.Name, w.proc.Err(), w.proc.Tail(40))
		}
		return w, nil
	}
	again := func(ctx context.Context, r *rand.Rand, w *Worker) error {
		pause(ctx, between(r, 0, 6*time.Second))
		if err := w.spawn(); err != nil {
			return err
		}
		pause(ctx, between(r, 0, 10*time.Second))
		return nil
	}
	frozen := fault{"worker frozen", func(ctx context.Context, r *rand.Rand) error {
		w, err := any(r)
		if err != nil {
			return err
		}
		if err := freeze(ctx, w.proc, between(r, 2*time.Second, 10*time.Second)); err != nil {
			return err
		}
		pause(ctx, between(r, 0, 6*time.Second))
		return nil
	}}
	killed := fault{"worker killed", func(ctx context.Context, r *rand.Rand) error {
		w, err := any(r)
		if err != nil {
			return err
		}
		w.Kill()
		return again(ctx, r, w)
	}}
	return []fault{
		frozen, frozen, killed, killed,
		{"worker frozen, then killed", func(ctx context.Context, r *rand.Rand) error {
			w, err := any(r)
			if err != nil {
				return err
			}
			mend, cancel := mending(ctx, 10*time.Second)
			defer cancel()
			if err := w.proc.Freeze(mend); err != nil {
				return err
			}
			pause(ctx, between(r, time.Second, 6*time.Second))
			w.Kill()
			return again(ctx, r, w)
		}},
		{"worker stopped", func(ctx context.Context, r *rand.Rand) error {
			w, err := any(r)
			if err != nil {
				return err
			}
			if err := w.proc.Stop(time.Minute); err != nil {
				return err
			}
			return again(ctx, r, w)
		}},
	}
}
