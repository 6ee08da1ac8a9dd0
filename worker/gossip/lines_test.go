package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
)

// logged gives what an operator sees of memberlist's lines.
func logged(lines ...string) *logBuffer {
	out := &logBuffer{}
	l := newLines(slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	for _, line := range lines {
		_, _ = fmt.Fprintln(l, line)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	l.run(ctx)
	return out
}

func TestMemberlistsLevelsAreKept(t *testing.T) {
	t.Parallel()
	out := logged("[DEBUG] memberlist: one two three", "[INFO] memberlist: Suspect a:1#1 has failed", "[ERR] memberlist: Push/Pull with a:1#1 failed: EOF", "Err: odd")
	for _, want := range []string{`level=DEBUG msg="memberlist: one two" err="one two three"`, `level=INFO msg="memberlist: Suspect"`, `level=WARN msg="memberlist: Push/Pull with"`, `level=WARN msg="memberlist: Err: odd"`} {
		if out.count(want) != 1 {
			t.Errorf("%s is not in\n%s", want, out)
		}
	}
}

func TestRepeatedWarningsAreSaidOnce(t *testing.T) {
	t.Parallel()
	var lines []string
	for i := range 50 {
		lines = append(lines, fmt.Sprintf("[ERR] memberlist: Decrypt packet failed: No installed keys could decrypt the message from=10.0.0.%d", i))
		lines = append(lines, fmt.Sprintf("[WARN] memberlist: Got ping for unexpected node 'n%d'", i))
	}
	out := logged(lines...)
	if n := out.count("another gossip.secret"); n != 1 {
		t.Errorf("another secret: %d lines", n)
	}
	if n := out.count("Got ping"); n != 1 {
		t.Errorf("pings: %d lines", n)
	}
}

func TestLoggingNeverBlocks(t *testing.T) {
	t.Parallel()
	lines := make([]string, 2*queuedLines)
	for i := range lines {
		lines[i] = "[INFO] memberlist: said before anybody reads"
	}
	if out := logged(lines...); out.count("lines_lost=128") != 1 || out.count("said") != queuedLines {
		t.Errorf("%d lines", out.count("said"))
	}
}
