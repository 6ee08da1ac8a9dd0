package main

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
)

// raceDetector says that the test was built with it.
var raceDetector = false

// Not parallel to others, as the next one: a whole cluster in one process wants the
// processor for itself.
func TestDemoProvesThatNothingIsMissing(t *testing.T) {
	if testing.Short() {
		t.Skip("the demonstration takes half a minute")
	}
	if raceDetector {
		t.Skip("with the race detector a cluster of three in one process is too slow for its own time limits; package e2e runs it with the binary")
	}
	var out bytes.Buffer
	dir := t.TempDir()
	code := run(t.Context(), process{
		args: []string{"demo", "--records", "20000", "--rate", "2000", "--dir", dir}, stdin: strings.NewReader(""), stdout: &out, stderr: &out,
	})
	if code != exitDone {
		t.Fatalf("it ended with %d:\n%s", code, out.String())
	}
	for _, want := range []string{
		`FAILED, as it should be: .*User:connect.*TOPIC_AUTHORIZATION_FAILED`, `password="\$<file:.*shop-rw\.properties:password>"`,
		`prod got [\d,]+ orders, staging none`, `is gone without a good-bye`, `its work goes on elsewhere after`,
		`missing 0, different 0, foreign 0, out of order 0; doubled 0`, `found nowhere`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("it does not say %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "canary-") {
		t.Error("it shows a password")
	}
}

// TestDemoFailsOnADifference changes the target behind the demonstration's back:
// a proof that cannot fail proves nothing.
func TestDemoFailsOnADifference(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := startDemoClusters(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	d := &demo{cli: &cli{process: process{stdout: io.Discard, stderr: io.Discard}}, clusters: c, endStream: func() error { return nil }}
	if d.orders, err = newOrders(ctx, c, demoTopic, demoPartitions); err != nil {
		t.Fatal(err)
	}
	defer d.orders.client.Close()
	if err := d.orders.load(ctx, 100, func(int64, int64) {}); err != nil {
		t.Fatal(err)
	}
	d.wait = time.Nanosecond
	if err := d.prove(ctx); err == nil || !strings.Contains(err.Error(), "differ") {
		t.Errorf("nothing was copied, and the proof says: %v", err)
	}
}

func TestDemoFindsALeak(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := startDemoClusters(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	d := &demo{cli: &cli{process: process{stdout: io.Discard, stderr: io.Discard}}, clusters: c, canary: newCanary(c.secrets())}
	leak, err := newOrders(ctx, &demoClusters{prod: c.staging, prodAdmin: c.stagingAdmin}, demoInternal+"configs", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer leak.client.Close()
	if err := d.lookForSecrets(ctx); err != nil {
		t.Fatal(err)
	}
	if err := writeLeak(ctx, leak, c.writer.password); err != nil {
		t.Fatal(err)
	}
	if err := d.lookForSecrets(ctx); err == nil || !strings.Contains(err.Error(), "topic "+demoInternal+"configs") || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v", err)
	}
}

func TestInterruptedDemoTidiesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out := &stopWriter{at: "Three workers", stop: cancel}
	code := run(ctx, process{args: []string{"demo", "--records", "1000", "--rate", "100"}, stdin: strings.NewReader(""), stdout: out, stderr: out})
	if code != exitFailed || !strings.Contains(out.text.String(), "barnabas: interrupted") {
		t.Errorf("it ended with %d:\n%s", code, out.text.String())
	}
}

// stopWriter stops something when a text is written.
type stopWriter struct {
	at   string
	stop func()

	mu   sync.Mutex
	text bytes.Buffer
}

func (w *stopWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p)
	if strings.Contains(w.text.String(), w.at) {
		w.stop()
	}
	return len(p), nil
}

func writeLeak(ctx context.Context, o *orders, secret config.Secret) error {
	o.client.Produce(ctx, &kgo.Record{Topic: o.topic, Value: []byte("password=" + secret.Reveal())}, nil)
	return o.flush(ctx)
}
