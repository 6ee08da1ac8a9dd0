package mirror

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/connector"
)

// mishaps are those of task 0.
func (r *rig) mishaps() connector.Errors {
	return locked(r, func() connector.Errors { return r.progress[0].Errors })
}

func TestRecordsThatAreLeftOutAreCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.maxTasks = 1
	r.config["errors.tolerance"], r.config["errors.deadletterqueue.topic.name"] = "all", "letters"
	r.config["errors.deadletterqueue.topic.replication.factor"] = "1"
	r.createTopic(r.source, "orders", 1, nil)
	r.createTopic(r.target, "A.orders", 1, nil)
	write(t, r.source, numbered("orders", 0, 0, 3)...)
	h := r.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "A.orders", Err: kerr.InvalidRecord, Count: -1})
	r.run()
	eventually(t, "three records are left out", func() bool { return r.mishaps().Skipped == 3 })
	eventually(t, "three pointers are written", func() bool { return end(r.target, "letters") == 3 })
	h.Remove()
	write(t, r.source, numbered("orders", 0, 3, 2)...)
	eventually(t, "the copy goes on", func() bool { return end(r.target, "A.orders") == 2 })
	eventually(t, "the pointers are counted", func() bool { return r.mishaps().Letters == 3 })
	m := r.mishaps()
	if m.Failures != 3 || m.LettersFailed != 0 || time.Since(m.Last) > time.Minute {
		t.Errorf("%+v", m)
	}
}

func TestTroubleAndStopsAreCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.maxTasks = 1
	r.createTopic(r.source, "orders", 2, nil)
	r.createTopic(r.target, "A.orders", 2, nil)
	write(t, r.source, numbered("orders", 0, 0, 3)...)
	write(t, r.source, numbered("orders", 1, 0, 3)...)
	r.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "A.orders", Partitions: []int32{0}, Err: kerr.InvalidRecord, Count: -1})
	r.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "A.orders", Partitions: []int32{1}, Err: kerr.NotEnoughReplicas, Count: 1})
	r.run()
	eventually(t, "partition 1 is copied", func() bool { return end(r.target, "A.orders") == 3 })
	eventually(t, "both are counted", func() bool { m := r.mishaps(); return m.Failures == 1 && m.Retries >= 1 })
	if m := r.mishaps(); m.Skipped != 0 || m.Letters != 0 {
		t.Errorf("%+v", m)
	}
}
