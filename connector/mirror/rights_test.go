package mirror

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestATopicThatMayNotGrowAtTheTargetIsNotedAlone has the target refuse more partitions to one topic, for want of rights or by its policy.
func TestATopicThatMayNotGrowAtTheTargetIsNotedAlone(t *testing.T) {
	t.Parallel()
	for name, why := range map[string]*kerr.Error{"rights": kerr.TopicAuthorizationFailed, "policy": kerr.PolicyViolation, "cluster rights": kerr.ClusterAuthorizationFailed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.createTopic(r.source, "orders", 2, nil)
			r.createTopic(r.target, "A.orders", 1, nil)
			r.createTopic(r.source, "orders-new", 1, nil)
			for p := range int32(2) {
				write(t, r.source, numbered("orders", p, 0, 10)...)
			}
			write(t, r.source, numbered("orders-new", 0, 0, 10)...)
			fault := r.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreatePartitions}, Topic: "A.orders", Err: why, Count: -1})
			stop := r.run()
			eventually(t, "it is noted", func() bool { return len(r.noted(aboutTarget)) == 1 })
			n := r.noted(aboutTarget)[0]
			if !n.Degraded || !strings.Contains(n.Text, "A.orders is not copied, or not all") || !strings.Contains(n.Text, why.Message) {
				t.Errorf("%+v", n)
			}
			eventually(t, "the rest goes on", func() bool { return end(r.target, "A.orders-new") == 10 && end(r.target, "A.orders") == 10 })
			fault.Remove()
			eventually(t, "it is tried again", func() bool { return end(r.target, "A.orders") == 20 })
			eventually(t, "the note is over", func() bool { return len(r.noted(aboutTarget)) == 0 })
			if err := stop(); err != nil || len(r.failed()) > 0 {
				t.Errorf("%v, %v", err, r.failed())
			}
		})
	}
}

func TestATopicThatMayNotBeCreatedIsNotedAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, topic := range []string{"orders", "orders-no"} {
		r.createTopic(r.source, topic, 1, nil)
		write(t, r.source, numbered(topic, 0, 0, 10)...)
	}
	fault := r.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Topic: "A.orders-no", Err: kerr.TopicAuthorizationFailed, Count: -1})
	r.run()
	eventually(t, "it is noted with who was refused", func() bool {
		notes := r.noted(aboutTarget)
		return len(notes) == 1 && strings.Contains(notes[0].Text, `"B" refuses User:target-admin`)
	})
	eventually(t, "the other is copied", func() bool { return end(r.target, "A.orders") == 10 })
	fault.Remove()
	eventually(t, "it is tried again", func() bool { return end(r.target, "A.orders-no") == 10 && len(r.noted(aboutTarget)) == 0 })
}

func TestTheTargetsRefusalOfEverythingFailsTheConnector(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.createTopic(r.source, "orders", 1, nil)
	r.target.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Topic: "A.orders", Err: kerr.TopicAuthorizationFailed, Count: -1})
	err := r.connector.Run(t.Context(), r.context(t.Context()))
	if err == nil || !strings.Contains(err.Error(), `target cluster "B" refuses User:target-admin`) {
		t.Errorf("error %v", err)
	}
}

// TestATopicThatMayNotBeReadWaitsAlone refuses one topic of the source to a task that has another one: its fetches, or already the question
// where it begins.
func TestATopicThatMayNotBeReadWaitsAlone(t *testing.T) {
	t.Parallel()
	for name, refused := range map[string][]kmsg.Key{"Read": {kmsg.Fetch}, "Describe": {kmsg.Fetch, kmsg.ListOffsets}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.maxTasks = 1
			r.createTopic(r.source, "orders", 1, nil) // it has no record yet
			r.createTopic(r.source, "orders-no", 2, nil)
			write(t, r.source, numbered("orders-no", 1, 0, 10)...)
			fault := r.source.Fault(kfake.Fault{Keys: refused, Topic: "orders-no", Err: kerr.TopicAuthorizationFailed, Count: -1})
			stop := r.run()
			eventually(t, "its partitions say why they wait", func() bool {
				for p := range int32(2) {
					got := r.partitionProgress("orders-no", p)
					if got.State != stateDegraded || !strings.Contains(got.Reason, `"A" refuses User:source-consumer`) || !strings.Contains(got.Reason, "orders-no") {
						return false
					}
				}
				return true
			})
			write(t, r.source, numbered("orders", 0, 0, 10)...)
			eventually(t, "the other is copied", func() bool { return end(r.target, "A.orders") == 10 })
			fault.Remove()
			eventually(t, "it is copied as soon as it may be read", func() bool {
				return end(r.target, "A.orders-no") == 10 && r.partitionProgress("orders-no", 1).State == stateRunning
			})
			r.same("orders-no", "A.orders-no")
			r.same("orders", "A.orders")
			if err := stop(); err != nil || len(r.failed()) > 0 {
				t.Errorf("%v, %v", err, r.failed())
			}
		})
	}
}

// TestATopicThatIsAddedAndMayNotBeReadWaitsAlone has a task that runs be given one.
func TestATopicThatIsAddedAndMayNotBeReadWaitsAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.maxTasks = 1
	r.createTopic(r.source, "orders", 1, nil)
	fault := r.source.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets}, Topic: "orders-no", Err: kerr.TopicAuthorizationFailed, Count: -1})
	r.run()
	eventually(t, "the task copies", func() bool { return r.partitionProgress("orders", 0).CopiedOffset == 0 })
	r.createTopic(r.source, "orders-no", 1, nil)
	write(t, r.source, numbered("orders-no", 0, 0, 10)...)
	eventually(t, "what was added waits", func() bool { return r.partitionProgress("orders-no", 0).State == stateDegraded })
	write(t, r.source, numbered("orders", 0, 0, 10)...)
	eventually(t, "the other is copied", func() bool { return end(r.target, "A.orders") == 10 })
	fault.Remove()
	eventually(t, "it is copied as soon as it may be read", func() bool { return end(r.target, "A.orders-no") == 10 })
	r.same("orders-no", "A.orders-no")
	if len(r.failed()) > 0 {
		t.Error(r.failed())
	}
}
