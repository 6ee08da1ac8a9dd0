package mirror

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"

	"barnabas/config"
	"barnabas/connector"
)

// heartbeatRig is a rig with a heartbeat connector.
func heartbeatRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.connector, r.task = &heartbeatConnector{first: 10 * time.Millisecond}, &heartbeatTask{}
	delete(r.config, keyTopics)
	delete(r.config, keyReplicationFactor)
	r.config["connector.class"], r.config[keyHeartbeatsReplicas], r.config["emit.heartbeats.interval.seconds"] = "MirrorHeartbeat", "1", "0"
	return r
}

func heartbeatsOn(t *testing.T, c *kfake.Cluster) []Heartbeat {
	t.Helper()
	var all []Heartbeat
	for id, records := range read(t, c, heartbeatsTopic) {
		for _, r := range records {
			h, err := DecodeHeartbeat(r.Key, r.Value)
			if err != nil || id != 0 || len(r.Headers) > 0 || r.At != h.Timestamp {
				t.Errorf("record %+v of partition %d: %+v, error %v", r, id, h, err)
			}
			all = append(all, h)
		}
	}
	return all
}

func TestHeartbeatsAreWrittenToTheTarget(t *testing.T) {
	t.Parallel()
	r := heartbeatRig(t)
	before := time.Now().UnixMilli()
	stop := r.run()
	eventually(t, "three heartbeats", func() bool { return end(r.target, heartbeatsTopic) >= 3 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for _, h := range heartbeatsOn(t, r.target) {
		if h.Source != "A" || h.Target != "B" || h.Timestamp < before {
			t.Errorf("heartbeat %+v", h)
		}
	}
	info := r.target.TopicInfo(heartbeatsTopic)
	if policy := info.Configs["cleanup.policy"]; len(r.target.PartitionInfos(heartbeatsTopic)) != 1 || policy == nil || *policy != "compact" {
		t.Errorf("topic %+v", info)
	}
	if r.source.TopicInfo(heartbeatsTopic) != nil {
		t.Error("heartbeats were written to the source")
	}
	want := map[string]string{`{"sourceClusterAlias":"A","targetClusterAlias":"B"}`: `{"offset":0}`}
	if diff := cmp.Diff(want, locked(r, func() map[string]string { return r.offsets })); diff != "" {
		t.Errorf("offsets (-want +got):\n%s", diff)
	}
	if errs := r.failed(); len(errs) > 0 {
		t.Errorf("tasks failed: %v", errs)
	}
}

func TestNoHeartbeatsUnlessTheyAreEmitted(t *testing.T) {
	t.Parallel()
	for key, value := range map[string]string{"emit.heartbeats.enabled": "false", "emit.heartbeats.interval.seconds": "-1"} {
		r := heartbeatRig(t)
		r.tasks = []map[string]string{{"left": "over"}}
		r.task = nothingTask{}
		r.config[key] = value
		stop := r.run()
		eventually(t, "no task", func() bool { return locked(r, func() int { return len(r.tasks) }) == 0 })
		if err := stop(); err != nil || r.target.TopicInfo(heartbeatsTopic) != nil {
			t.Errorf("%s=%s: error %v, topic %v", key, value, err, r.target.TopicInfo(heartbeatsTopic))
		}
	}
}

func TestTooManyReplicasFailTheHeartbeatConnector(t *testing.T) {
	t.Parallel()
	r := heartbeatRig(t)
	r.config[keyHeartbeatsReplicas] = "3"
	refuseReplicas(r.target)
	err := r.connector.Run(t.Context(), r.context(t.Context()))
	want := `create topic heartbeats: heartbeats.topic.replication.factor is 3, and the target cluster "B" has 1 brokers: set it to 1 or less`
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestOtherConnectorsAreNotRequiredToBeTransactional(t *testing.T) {
	t.Parallel()
	r := heartbeatRig(t)
	r.config["exactly.once.support"] = "required"
	for _, p := range []connector.Plugin{Heartbeats(), Checkpoints()} {
		infos := p.Keys.Infos(p.Class, config.Literal(r.config), p.Validate(r.config)...)
		if infos.ErrorCount != 1 {
			t.Errorf("%s: %d errors, want one", p.Class, infos.ErrorCount)
		}
	}
}
