package e2e

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// TestAnswersAreAsDescribed has schemathesis make requests from openapi.json, right ones and wrong ones, for a worker whose
// connector copies meanwhile: no answer is other than described, and none is a failure of the server.
func TestAnswersAreAsDescribed(t *testing.T) {
	e := New(t, 5*time.Minute)
	cache, pins := e.installed()
	f := e.Fleet(FleetOptions{Size: 1, Properties: e.fileClients()})
	lines := filepath.Join(e.Dir, "lines.txt")
	e.Must(os.WriteFile(lines, []byte("one\n"), 0o600))
	config := Config{
		"connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector", "tasks.max": "1", "file": lines,
		"topic": e.Topic(e.Hub, "described", 1), "key.converter": stringConverter, "value.converter": stringConverter,
	}
	if status, text := f.any().Ask(http.MethodPut, "/connectors/orders/config", config.JSON()); status != http.StatusCreated {
		t.Fatal(status, text)
	}
	ctx, cancel := context.WithTimeout(e.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(cache, "schemathesis", "bin", "st"), "run", f.any().URL()+"/openapi.json",
		"--url", f.any().URL(), "--seed", strconv.FormatUint(e.Seed%(1<<32), 10), "--max-examples", "15", "--phases", "examples,coverage,fuzzing",
		"--continue-on-failure", "--no-shrink", "--request-timeout", "60", "--suppress-health-check", "all",
		// Much that is valid JSON is still no configuration, and Connect takes much that is none.
		"--exclude-checks", "not_a_server_error,positive_data_acceptance,negative_data_rejection")
	cmd.Dir = e.Dir // it keeps what it found there
	cmd.Env = append(os.Environ(), "SCHEMATHESIS_HOOKS=checks", "PYTHONPATH="+pins, "PYTHONDONTWRITEBYTECODE=1", "NO_COLOR=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
	made := regexp.MustCompile(`(\d+) generated`).FindSubmatch(out.Bytes())
	tested := regexp.MustCompile(`Tested: (\d+)`).FindSubmatch(out.Bytes())
	if made == nil || tested == nil {
		t.Fatalf("no count of requests:\n%s", out.Bytes())
	}
	t.Logf("%s operations, %s requests", tested[1], made[1])
	if !f.any().Running() {
		t.Error("the worker has ended")
	}
}
