package mirror

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/connector"
)

// deleteAtSource deletes a topic of the source and waits until nobody copies it any more.
func (r *rig) deleteAtSource(topic string) {
	r.t.Helper()
	if err := r.source.DeleteTopic(topic); err != nil {
		r.t.Fatal(err)
	}
	eventually(r.t, "no task copies it any more", func() bool {
		return !strings.Contains(locked(r, func() string {
			all := ""
			for _, task := range r.tasks {
				all += task[keyTaskPartitions] + ","
			}
			return all
		}), topic+"-")
	})
}

func TestTopicDeletedAtTheSourceKeepsItsCopy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, topic := range []string{"orders", "orders-gone"} {
		r.createTopic(r.source, topic, 2, nil)
		write(t, r.source, numbered(topic, 0, 0, 10)...)
	}
	stop := r.run()
	r.waitEqual("orders", "A.orders")
	r.waitEqual("orders-gone", "A.orders-gone")
	r.deleteAtSource("orders-gone")
	write(t, r.source, numbered("orders", 1, 10, 10)...)
	r.waitEqual("orders", "A.orders")
	if n := end(r.target, "A.orders-gone"); n != 10 {
		t.Errorf("the copy has %d records", n)
	}
	if err := stop(); err != nil || len(r.failed()) > 0 {
		t.Errorf("failed: %v %v", err, r.failed())
	}
	if n := strings.Count(r.logged(), "topic was deleted at the source"); n != 1 || len(r.notes) > 0 {
		t.Errorf("told %d times, notes %v", n, r.notes)
	}
}

func TestMarkedDeletionIsShownUntilTheTopicIsBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.config[keyDeletionPolicy] = "mark"
	r.config["refresh.topics.interval.seconds"] = "1"
	r.createTopic(r.source, "orders", 1, nil)
	r.createTopic(r.source, "orders-gone", 1, nil)
	r.createTopic(r.source, "orders-cleaned", 1, nil)
	write(t, r.source, numbered("orders-gone", 0, 0, 10)...)
	stop := r.run()
	r.waitEqual("orders-gone", "A.orders-gone")
	eventually(t, "all are copied", func() bool { return r.target.TopicInfo("A.orders-cleaned") != nil })
	r.deleteAtSource("orders-gone")
	r.deleteAtSource("orders-cleaned")
	eventually(t, "both are marked", func() bool { return len(r.noted(aboutDeleted)) == 2 })
	n := r.noted(aboutDeleted)[0]
	if n.Topic != "orders-gone" || !n.Degraded || !strings.Contains(n.Text, "A.orders-gone") {
		t.Errorf("noted %+v", n)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	// A mark outlives the run, and keeps its time.
	locked(r, func() error { r.notes = nil; return nil })
	r.run()
	eventually(t, "they are still marked", func() bool { return len(r.noted(aboutDeleted)) == 2 })
	if again := r.noted(aboutDeleted)[0]; !again.Since.Equal(n.Since.Truncate(time.Millisecond)) {
		t.Errorf("since %v, was %v", again.Since, n.Since)
	}
	if err := r.target.DeleteTopic("A.orders-cleaned"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "without a copy there is no mark", func() bool { return len(r.noted(aboutDeleted)) == 1 })

	// Another topic of that name is no continuation.
	r.createTopic(r.source, "orders-gone", 1, nil)
	write(t, r.source, numbered("orders-gone", 0, 100, 5)...)
	eventually(t, "the task says that it is another", func() bool { return len(r.failed()) > 0 })
	if text := r.failed()[0].Error(); !strings.Contains(text, "topic orders-gone of the source was deleted and made anew") {
		t.Error(text)
	}
	eventually(t, "the mark is over", func() bool { return len(r.noted(aboutDeleted)) == 0 })
	if n := end(r.target, "A.orders-gone"); n != 10 {
		t.Errorf("the copy has %d records", n)
	}
}

func TestTopicThatMayNotBeSeenAnyMoreIsNotMarked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.source.ControlKey(int16(kmsg.Metadata), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.source.KeepControl()
		req, ok := k.(*kmsg.MetadataRequest)
		if !ok || len(req.Topics) != 1 || *req.Topics[0].Topic != "orders" {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		one := kmsg.NewMetadataResponseTopic()
		one.Topic, one.ErrorCode = req.Topics[0].Topic, kerr.TopicAuthorizationFailed.Code
		resp.Topics = append(resp.Topics, one)
		return resp, nil, true
	})
	cc := r.context(t.Context())
	p := &planner{
		Context: cc, s: settingsWith(t, nil), source: admin(t, r.source), target: admin(t, r.target), notes: newNotebook(r.logger(), nil),
		deleted: deletions{marks: true, at: map[string]time.Time{}},
	}
	for _, topic := range []string{"orders", "orders-gone"} {
		if err := p.watchDeletions(t.Context(), view{}, map[string]bool{topic: true}); err != nil {
			t.Fatal(err)
		}
	}
	if _, marked := p.deleted.at["orders"]; marked || len(p.deleted.at) != 1 {
		t.Errorf("marked: %v", p.deleted.at)
	}
	if text := r.logged(); !strings.Contains(text, "the source does not show it") {
		t.Errorf("not told:\n%s", text)
	}
}

// TestTaskWaitsForATopicThatHasVanished is without a planner that would take the partition away.
func TestTaskWaitsForATopicThatHasVanished(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.config["refresh.topics.enabled"] = "false"
	r.createTopic(r.source, "orders", 1, nil)
	r.createTopic(r.source, "orders-gone", 1, nil)
	r.maxTasks = 1
	write(t, r.source, numbered("orders-gone", 0, 0, 10)...)
	r.run()
	r.waitEqual("orders-gone", "A.orders-gone")
	if err := r.source.DeleteTopic("orders-gone"); err != nil {
		t.Fatal(err)
	}
	state := func() connector.PartitionProgress { return r.partitionProgress("orders-gone", 0) }
	eventually(t, "its state says so", func() bool {
		return state().State == stateDegraded && strings.Contains(state().Reason, "UNKNOWN_TOPIC")
	})
	write(t, r.source, numbered("orders", 0, 0, 10)...)
	r.waitEqual("orders", "A.orders")
	if len(r.failed()) > 0 {
		t.Errorf("failed: %v", r.failed())
	}
	r.createTopic(r.source, "orders-gone", 1, nil)
	write(t, r.source, numbered("orders-gone", 0, 100, 5)...)
	eventually(t, "the new one is not copied", func() bool {
		p := state()
		return p.State == stateStopped && strings.Contains(p.Reason, "made anew")
	})
	if n := end(r.target, "A.orders-gone"); n != 10 {
		t.Errorf("the copy has %d records", n)
	}
}

func TestDeletionPolicyIsValidated(t *testing.T) {
	t.Parallel()
	for value, wrong := range map[string]bool{"ignore": false, "mark": false, "": false, "${file:/x:y}": false, "delete": true, "Mark": true} {
		problems := validateSource(map[string]string{keyTopics: "a", keyDeletionPolicy: value})
		if (len(problems) > 0) != wrong {
			t.Errorf("%q: %v", value, problems)
		}
	}
}

// TestTaskThatBeganWithoutItsTopicKnowsAnotherOne is of a task that restarts between deletion and creation.
func TestTaskThatBeganWithoutItsTopicKnowsAnotherOne(t *testing.T) {
	t.Parallel()
	for _, restarts := range []bool{false, true} {
		r := newRig(t)
		r.createTopic(r.source, "orders", 1, nil)
		r.createTopic(r.target, "A.orders", 1, nil)
		r.config[keyTaskPartitions] = "orders-0"
		write(t, r.source, numbered("orders", 0, 0, 10)...)
		task := []map[string]string{r.config}
		r.setTasksRunning(task)
		r.waitEqual("orders", "A.orders")
		r.setTasksRunning(nil)
		if err := r.source.DeleteTopic("orders"); err != nil {
			t.Fatal(err)
		}
		r.mu.Lock()
		r.progress = map[int]connector.Progress{}
		r.mu.Unlock()
		r.setTasksRunning(task)
		eventually(t, "it has begun", func() bool { return r.partitionProgress("orders", 0).CopiedOffset == 10 })
		if restarts {
			r.setTasksRunning(nil)
		}
		r.createTopic(r.source, "orders", 1, nil)
		write(t, r.source, numbered("orders", 0, 100, 10)...)
		r.setTasksRunning(task)
		eventually(t, "the new topic is refused", func() bool {
			return len(r.failed()) > 0 && strings.Contains(r.failed()[0].Error(), "made anew")
		})
		if n := end(r.target, "A.orders"); n != 10 {
			t.Errorf("the copy has %d records", n)
		}
		r.setTasksRunning(nil)
	}
}
