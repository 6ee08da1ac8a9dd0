package e2e

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"barnabas/e2e/kafka"
)

// TestKafkasMirrorClientUnderstandsOurTopics has Kafka's own MirrorClient and RemoteClusterUtils read what a dedicated
// MirrorMaker of ours has written to the target: programs that fail over with them work unchanged.
func TestKafkasMirrorClientUnderstandsOurTopics(t *testing.T) {
	t.Parallel()
	e := New(t, 3*time.Minute)
	p := e.pair(map[string]string{"emit.heartbeats.interval.seconds": "1", "emit.checkpoints.interval.seconds": "1", "refresh.groups.interval.seconds": "1"})
	p.Properties[p.back("enabled")] = "true"
	p.Properties[p.back("topics")] = e.Prefix + "[.]none"
	p.Properties[p.there("groups")] = e.Prefix + "-g"
	orders := e.Topic(e.Source, "orders", 1)
	e.numbers(e.Source, orders, 0, 0, 100)
	admin, err := e.Source.Admin()
	e.Must(err)
	defer admin.Close()
	read := kadm.Offsets{}
	read.AddOffset(orders, 0, 40, -1)
	e.Must(admin.CommitAllOffsets(t.Context(), e.Prefix+"-g", read))
	p.write()
	proc := p.start("mm")
	copied := p.east + "." + orders
	e.copied(e.Target, copied, span(0, 100))

	root, err := kafka.Root()
	e.Must(err)
	want := []string{
		"remote topic " + copied, "checkpoint topic " + p.east + ".checkpoints.internal", "heartbeat topic heartbeats", "heartbeat topic " + p.east + ".heartbeats",
		"upstream cluster " + p.east, "hops 1", "offset " + copied + "-0 40", "translated " + copied + "-0 40",
	}
	e.Until(90*time.Second, "what MirrorClient says", func() string {
		java := exec.CommandContext(t.Context(), "java", "-Xmx128M", "-XX:+UseSerialGC", "-cp", filepath.Join(root, ".cache", "kafka", kafka.Version, "libs", "*"),
			"testdata/Failover.java", e.Target.Bootstrap(), p.east, e.Prefix+"-g")
		var failed bytes.Buffer
		java.Stderr = &failed
		said, err := java.Output()
		if err != nil {
			return err.Error() + ": " + failed.String()
		}
		for _, line := range want {
			if !strings.Contains("\n"+string(said), "\n"+line+"\n") {
				return "no line " + line + " in\n" + string(said)
			}
		}
		return ""
	})
	e.Must(proc.Stop(30 * time.Second))
}
