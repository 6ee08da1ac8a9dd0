package e2e

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"
)

// A connector that is refused comes back by itself when it is not refused any more; one whose error no restart mends is
// left alone; and what a killed worker ran is shown as lost as soon as the others know.
func TestWhatFailedHealsByItselfAndTheLostIsShown(t *testing.T) {
	t.Parallel()
	e := New(t, 3*time.Minute)
	f := e.Fleet(FleetOptions{Size: 2, Properties: Config{
		"auto.restart.backoff.initial.ms": "500", "auto.restart.backoff.max.ms": "2000", "scheduled.rebalance.max.delay.ms": "600000",
	}})
	topic := e.Topic(e.Source, "orders", 2)
	e.Write([]string{topic}, 2, 100)
	source, target := e.User(e.Source, "ro", ReadTopics(topic)...), e.User(e.Target, "rw", WriteTopics("src."+topic)...)
	right, err := os.ReadFile(source.File)
	e.Must(err)
	wrong := e.Leak.Plant("wrong password")
	e.Must(os.WriteFile(source.File, []byte("password="+wrong+"\n"), 0o600))
	heals, never := e.Prefix+"-heals", e.Prefix+"-never"
	f.Create(heals, e.Mirror(source, target, topic, 2))
	trace := f.failed(heals, 30*time.Second)
	e.Until(20*time.Second, "restarts", func() string {
		all, err := f.Workers[0].Restarts(heals)
		if err != nil || !strings.Contains(all, `"restarted"`) {
			return fmt.Sprintf("%s %v", all, err)
		}
		return ""
	})
	e.Must(os.WriteFile(source.File, right, 0o600))
	t.Logf("healed in %s; it had failed with: %s", f.Await(heals, "RUNNING", 2, 30*time.Second), trace)
	if report := e.Copied(map[string]string{topic: "src." + topic}, 30*time.Second); !report.Equal() {
		t.Errorf("source and target differ: %s", report)
	}

	final := e.Mirror(source, target, topic, 1)
	maps.Copy(final, Config{"consumer.auto.offset.reset": "none"})
	f.Create(never, final)
	f.failed(never, 30*time.Second)
	e.Until(10*time.Second, "no restart", func() string {
		all, err := f.Workers[1].Restarts(never)
		if err != nil || !strings.Contains(all, `"held":"final"`) || strings.Contains(all, `"restarted"`) {
			return fmt.Sprintf("%s %v", all, err)
		}
		return ""
	})

	s, _ := f.Status(heals)
	dead, began := f.ByID(s.Tasks[0].Worker), time.Now()
	dead.Kill()
	e.Until(15*time.Second, "the lost shown as lost", func() string {
		s, _ := f.Status(heals)
		lost := 0
		for _, task := range append([]TaskStatus{s.Connector}, s.Tasks...) {
			switch {
			case task.Worker != dead.ID:
			case task.State != "UNASSIGNED" || !strings.Contains(task.Trace, "is lost"):
				return fmt.Sprintf("%+v", s)
			default:
				lost++
			}
		}
		if lost == 0 {
			return fmt.Sprintf("nothing of %s is shown: %+v", dead.ID, s)
		}
		return ""
	})
	t.Logf("shown as lost %s after kill -9", time.Since(began))
}

// Restarts returns what a worker says of the failures of a connector.
func (w *Worker) Restarts(name string) (string, error) {
	status, text := w.Ask("GET", "/v1/connectors/"+name+"/status", "")
	if status != 200 {
		return text, fmt.Errorf("status %d", status)
	}
	return text, nil
}
