package mirror

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/connector/offsetrun"
)

// byRecord tells when MirrorMaker emits a sync at once, record by record (OffsetSyncWriter.PartitionState).
type byRecord struct{ upstream, downstream, last int64 }

func (b *byRecord) emits(up, down, lag int64) bool {
	emits := b.last == -1 || down-(b.last+1) >= lag || up-b.upstream != 1 || down < b.downstream
	if emits {
		b.last = down
	}
	b.upstream, b.downstream = up, down
	return emits
}

func TestSyncsAreThoseOfMirrorMaker(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		lag := int64(rng.IntN(5))
		if seed%3 == 0 {
			lag = 100
		}
		want, st := byRecord{-1, -1, -1}, syncState{upstream: -1, downstream: -1, last: -1}
		p := partition{"orders", 3}
		up, down := int64(rng.IntN(3)), int64(rng.IntN(1000))
		for range 30 {
			run := offsetrun.Run{Source: up, Target: down, Count: int64(1 + rng.IntN(300))}
			var all []OffsetSync
			for i := range run.Count {
				if want.emits(up+i, down+i, lag) {
					all = append(all, OffsetSync{"orders", 3, up + i, down + i})
				}
			}
			st.heard = nil
			st.run(p, run, lag)
			if len(all) <= 3 && !slices.Equal(all, st.heard) {
				t.Fatalf("seed %d: %+v with lag %d: syncs %v, MirrorMaker has %v", seed, run, lag, st.heard, all)
			}
			for _, s := range st.heard {
				if !slices.Contains(all, s) {
					t.Fatalf("seed %d: %+v with lag %d: MirrorMaker does not have %v", seed, run, lag, s)
				}
			}
			if n := len(all); n > 0 && st.heard[len(st.heard)-1] != all[n-1] {
				t.Fatalf("seed %d: the newest is %v, MirrorMaker has %v", seed, st.heard, all[n-1])
			}
			if st.last != want.last || st.upstream != want.upstream || st.downstream != want.downstream {
				t.Fatalf("seed %d: %+v, MirrorMaker has %+v", seed, st, want)
			}
			if newest := st.newest != nil; newest != (want.last != want.downstream) {
				t.Fatalf("seed %d: newest %v", seed, st.newest)
			}
			up, down = up+run.Count, down+run.Count
			switch rng.IntN(6) {
			case 0:
				up++ // a marker
			case 1:
				up += int64(rng.IntN(50))
			case 2:
				down += int64(rng.IntN(200))
			case 3:
				down = max(0, down-int64(rng.IntN(20)))
			}
		}
	}
}

func TestThinnedSyncsAreDenserTowardsTheEnd(t *testing.T) {
	t.Parallel()
	var all []OffsetSync
	for i := range int64(1000) {
		all = append(all, OffsetSync{"t", 0, 2 * i, i})
	}
	kept := thinned(all)
	if kept[len(kept)-1] != all[999] || len(kept) > 15 || !slices.IsSortedFunc(kept, func(a, b OffsetSync) int { return int(a.Upstream - b.Upstream) }) {
		t.Fatalf("kept %v", kept)
	}
	for behind := int64(1); behind < 900; behind++ {
		group := all[999].Upstream - behind
		i, _ := slices.BinarySearchFunc(kept, group, func(s OffsetSync, at int64) int { return int(s.Upstream - at) })
		if i < len(kept) && kept[i].Upstream == group {
			continue
		}
		if i == 0 || group-kept[i-1].Upstream > 3*behind {
			t.Errorf("a group %d behind the end has no sync near it: %v", behind, kept)
		}
	}
	back := []OffsetSync{{"t", 0, 10, 10}, {"t", 0, 20, 20}, {"t", 0, 5, 21}}
	if got := thinned(back); !slices.Equal(got, back[2:]) {
		t.Errorf("after going back: %v", got)
	}
}

// syncsOn reads the offset-syncs of a cluster.
func syncsOn(t *testing.T, c *kfake.Cluster, topic string) map[partition][][2]int64 {
	t.Helper()
	all := map[partition][][2]int64{}
	for id, records := range read(t, c, topic) {
		for _, r := range records {
			s, err := DecodeOffsetSync(r.Key, r.Value)
			if err != nil || id != 0 || len(r.Headers) > 0 {
				t.Errorf("record %+v of partition %d: error %v", r, id, err)
			}
			p := partition{s.Topic, s.Partition}
			all[p] = append(all[p], [2]int64{s.Upstream, s.Downstream})
		}
	}
	return all
}

func TestOffsetSyncsAreWrittenWhereTheyAreLookedFor(t *testing.T) {
	t.Parallel()
	for location, topic := range map[string]string{"source": "mm2-offset-syncs.B.internal", "target": "mm2-offset-syncs.A.internal"} {
		t.Run(location, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.config[keySyncsLocation], r.config[keyOffsetSyncsReplication], r.config["offset.lag.max"] = location, "1", "10"
			at := map[string]*kfake.Cluster{"source": r.source, "target": r.target}[location]
			r.createTopic(r.source, "orders", 2, nil)
			write(t, r.source, append(numbered("orders", 0, 0, 25), numbered("orders", 1, 0, 1)...)...)
			stop := r.run()
			p0, p1 := partition{"orders", 0}, partition{"orders", 1}
			eventually(t, "syncs of both ends", func() bool {
				if at.TopicInfo(topic) == nil {
					return false
				}
				got := syncsOn(t, at, topic)
				return len(got[p0]) > 0 && got[p0][len(got[p0])-1] == [2]int64{24, 24} && len(got[p1]) > 0
			})
			write(t, r.source, numbered("orders", 1, 1, 2)...)
			eventually(t, "a sync of the new end", func() bool {
				got := syncsOn(t, at, topic)[p1]
				return got[len(got)-1] == [2]int64{2, 2}
			})
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			got := syncsOn(t, at, topic)
			for _, want := range [][2]int64{{0, 0}, {11, 11}, {22, 22}} {
				if !slices.Contains(got[p0], want) {
					t.Errorf("no sync %v: %v", want, got[p0])
				}
			}
			info := at.TopicInfo(topic)
			if policy := info.Configs["cleanup.policy"]; policy == nil || *policy != "compact" || len(at.PartitionInfos(topic)) != 1 {
				t.Errorf("topic %+v", info)
			}
		})
	}
}

// TestTheTopicOfOffsetSyncsIsThereBeforeTheFirstRecord as with MirrorMaker: its reader need not wait for one.
func TestTheTopicOfOffsetSyncsIsThereBeforeTheFirstRecord(t *testing.T) {
	t.Parallel()
	for location, topic := range map[string]string{"source": "mm2-offset-syncs.B.internal", "target": "mm2-offset-syncs.A.internal"} {
		t.Run(location, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.config[keySyncsLocation], r.config[keyOffsetSyncsReplication] = location, "1"
			at := map[string]*kfake.Cluster{"source": r.source, "target": r.target}[location]
			r.createTopic(r.source, "orders", 1, nil)
			stop := r.run()
			eventually(t, topic, func() bool { return at.TopicInfo(topic) != nil })
			if err := stop(); err != nil || len(r.failed()) > 0 {
				t.Errorf("error %v, tasks %v", err, r.failed())
			}
		})
	}
}

func TestNoOffsetSyncsUnlessTheyAreEmitted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.config[keyEmitSyncs] = "false"
	r.createTopic(r.source, "orders", 1, nil)
	write(t, r.source, numbered("orders", 0, 0, 5)...)
	stop := r.run()
	r.waitEqual("orders", "A.orders")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*kfake.Cluster{r.source, r.target} {
		for _, topic := range []string{"mm2-offset-syncs.A.internal", "mm2-offset-syncs.B.internal"} {
			if c.TopicInfo(topic) != nil {
				t.Errorf("%s was made", topic)
			}
		}
	}
}

func TestTheCopyGoesOnWithoutOffsetSyncs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.source.ControlKey(int16(kmsg.CreateTopics), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r.source.KeepControl()
		create := req.(*kmsg.CreateTopicsRequest)                  //nolint:forcetypeassert // it is
		resp := create.ResponseKind().(*kmsg.CreateTopicsResponse) //nolint:forcetypeassert // it is
		topic := kmsg.NewCreateTopicsResponseTopic()
		topic.Topic, topic.ErrorCode = create.Topics[0].Topic, kerr.TopicAuthorizationFailed.Code
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
	if err := r.source.CreateTopic("orders", 1, nil); err != nil {
		t.Fatal(err)
	}
	write(t, r.source, numbered("orders", 0, 0, 5)...)
	stop := r.run()
	r.waitEqual("orders", "A.orders")
	eventually(t, "a warning", func() bool { return strings.Contains(r.logged(), "offset-syncs are not written") })
	write(t, r.source, numbered("orders", 0, 5, 5)...)
	r.waitEqual("orders", "A.orders")
	if err := stop(); err != nil || len(r.failed()) > 0 {
		t.Errorf("error %v, tasks %v", err, r.failed())
	}
	if !strings.Contains(r.logged(), "refuses User:source-admin") {
		t.Errorf("the log does not say who was refused:\n%s", r.logged())
	}
}
