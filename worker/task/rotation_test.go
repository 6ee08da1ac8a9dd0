package task

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/connector"
)

// frame is a request or answer of Kafka's: its length, key and so many bytes.
func frame(key byte, n int) []byte {
	return append([]byte{0, 0, 0, byte(n + 2), 0, key}, make([]byte, n)...)
}

// wire returns a connection of a client and the broker's end of it.
func wire(t *testing.T) (*retiringConn, net.Conn) {
	t.Helper()
	client, broker := net.Pipe()
	of := new(connections)
	conn, err := of.dialer(func(context.Context, string, string) (net.Conn, error) { return client, nil })(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); broker.Close() })
	return conn.(*retiringConn), broker
}

func TestARetiredConnectionClosesBetweenAnAnswerAndTheNextRequest(t *testing.T) {
	t.Parallel()
	conn, broker := wire(t)
	const produce = 0
	go func() { // the broker takes two requests, and answers in pieces once it is told to
		_, _ = io.ReadFull(broker, make([]byte, 2*len(frame(produce, 10))))
	}()
	for range 2 {
		if _, err := conn.Write(frame(produce, 10)); err != nil {
			t.Fatal(err)
		}
	}
	conn.retire()
	third := make(chan error, 1)
	go func() {
		n, err := conn.Write(frame(produce, 10))
		if n != 0 {
			err = fmt.Errorf("%d bytes of a third request were written: %w", n, err)
		}
		third <- err
	}()
	answers := slices.Concat(frame(produce, 3), frame(produce, 200))
	for _, piece := range [][]byte{answers[:3], answers[3:8], answers[8:]} {
		select {
		case err := <-third:
			t.Fatalf("the third request did not wait for the answers: %v", err)
		default:
		}
		go broker.Write(piece) //nolint:errcheck // read below
		if _, err := io.ReadFull(conn, make([]byte, len(piece))); err != nil {
			t.Fatal(err)
		}
	}
	if err := wait(t, third, "end of the third request"); !errors.Is(err, errRetired) || !errors.Is(err, net.ErrClosed) || strings.Contains(err.Error(), "written") {
		t.Errorf("the third request: %v", err)
	}
	wait(t, conn.over, "closed connection")
	if open := conn.of.list(); len(open) > 0 {
		t.Errorf("%d connections are open", len(open))
	}
}

func TestALoginIsNotCutByARetirement(t *testing.T) {
	t.Parallel()
	conn, broker := wire(t)
	go io.Copy(io.Discard, broker) //nolint:errcheck // ends with the connection
	const metadata, apiVersions, handshake, authenticate = 3, 18, 17, 36
	for _, key := range []byte{apiVersions, handshake, authenticate} {
		if _, err := conn.Write(frame(key, 10)); err != nil {
			t.Fatalf("request %d of the login: %v", key, err)
		}
		conn.retire()
		go broker.Write(frame(key, 10)) //nolint:errcheck // read below
		if _, err := io.ReadFull(conn, make([]byte, len(frame(key, 10)))); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := conn.Write(frame(metadata, 10)); n != 0 || !errors.Is(err, errRetired) {
		t.Errorf("the first request: %d bytes, %v", n, err)
	}
}

func TestAWriteThatWaitsEndsWithItsDeadline(t *testing.T) {
	t.Parallel()
	conn, broker := wire(t)
	go io.Copy(io.Discard, broker) //nolint:errcheck // ends with the connection
	if _, err := conn.Write(frame(0, 10)); err != nil {
		t.Fatal(err)
	}
	conn.retire()
	second := make(chan error, 1)
	go func() {
		_, err := conn.Write(frame(0, 10))
		second <- err
	}()
	if err := conn.SetWriteDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := wait(t, second, "end of the write"); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the write: %v", err)
	}
}

// producing is a task that writes to a cluster of its test with a password in a file.
type producing struct {
	*testing.T
	cluster *kfake.Cluster
	runner  *Runner
	file    string

	mu    sync.Mutex
	dials map[net.Conn]bool // open
}

func (p *producing) password(password string) {
	p.Helper()
	if err := os.WriteFile(p.file, []byte("password="+password+"\n"), 0o600); err != nil {
		p.Fatal(err)
	}
}

func (p *producing) until(what string, condition func() bool) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), time.Minute)
	defer cancel()
	for !condition() {
		select {
		case <-ctx.Done():
			p.Fatalf("no %s; notes %v", what, p.runner.Progress("x")[0].Notes)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

type countedConn struct {
	net.Conn
	p *producing
}

func (c countedConn) Close() error {
	c.p.mu.Lock()
	delete(c.p.dials, c)
	c.p.mu.Unlock()
	return c.Conn.Close()
}

func (p *producing) open() (all []net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.dials {
		all = append(all, c)
	}
	return all
}

// produce starts the task, which writes records with growing numbers until stop is called; it returns how many were acknowledged.
func produce(t *testing.T) (p *producing, stop func() int) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.SeedTopics(2, "orders"), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "rw", "first"), kfake.Superuser("SCRAM-SHA-256", "admin", "admin"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	p = &producing{T: t, cluster: cluster, file: filepath.Join(t.TempDir(), "secret.properties"), dials: map[net.Conn]bool{}}
	p.password("first")
	acked, over := make(chan int, 1), make(chan struct{})
	started := make(chan struct{})
	r, ended, _ := runner(t, leased(), func(ctx context.Context, tc connector.TaskContext) error {
		client, err := tc.Clients.Open(ctx, connector.TargetProducer)
		if err != nil {
			return err
		}
		n := 0
		for {
			select {
			case <-over:
				acked <- n
				<-ctx.Done()
				return nil
			default:
			}
			err := client.ProduceSync(ctx, &kgo.Record{Topic: "orders", Value: fmt.Append(nil, n)}).FirstErr()
			if err != nil {
				return err
			}
			if n++; n == 10 {
				close(started)
			}
		}
	})
	p.runner = r
	resolver, err := configprovider.New(t.Context(), map[string]string{"config.providers": "file", "config.providers.file.class": "file"}, configprovider.Kinds(nil))
	if err != nil {
		t.Fatal(err)
	}
	r.o.Resolve = resolver.Resolve
	r.o.Worker = config.Settings{}
	r.o.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		counted := countedConn{c, p}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.dials[counted] = true
		return counted, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	rotated := make(chan error, 1)
	go func() { rotated <- r.Rotate(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-rotated
	})
	settings := map[string]string{
		"bootstrap.servers": strings.Join(cluster.ListenAddrs(), ","), "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-256",
		"sasl.jaas.config": `org.apache.kafka.common.security.scram.ScramLoginModule required username="rw" password="${file:` + p.file + `:password}";`,
	}
	written := map[string]string{}
	for key, value := range settings {
		written["target.cluster."+key] = value
	}
	r.Start(Run{ID: 1, Connector: "x", Config: written})
	select {
	case <-started:
	case e := <-ended:
		t.Fatalf("the task ended: %v", e.err)
	case <-time.After(time.Minute):
		t.Fatal("the task does not write")
	}
	return p, func() int {
		close(over)
		select {
		case n := <-acked:
			return n
		case e := <-ended:
			t.Fatalf("the task ended: %v", e.err)
			return 0
		}
	}
}

// broker sets the password that the cluster accepts.
func (p *producing) broker(password string) {
	p.Helper()
	admin := p.admin()
	defer admin.Close()
	altered, err := admin.AlterUserSCRAMs(p.Context(), nil, []kadm.UpsertSCRAM{{User: "rw", Mechanism: kadm.ScramSha256, Iterations: 4096, Password: password}})
	if err == nil {
		err = altered.Error()
	}
	if err != nil {
		p.Fatal(err)
	}
}

func (p *producing) admin(opts ...kgo.Opt) *kadm.Client {
	p.Helper()
	login := scram.Auth{User: "admin", Pass: "admin"}
	client, err := kadm.NewOptClient(append(opts, kgo.SeedBrokers(p.cluster.ListenAddrs()...), kgo.SASL(login.AsSha256Mechanism()))...)
	if err != nil {
		p.Fatal(err)
	}
	return client
}

func (p *producing) rotation() *secrets { return p.runner.all()[0].secrets }

func (p *producing) counts() (done, failed int64) {
	s := p.rotation()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done, s.failed
}

// written counts the records in the topic.
func (p *producing) written() (n int64) {
	p.Helper()
	admin := p.admin()
	defer admin.Close()
	ends, err := admin.ListEndOffsets(p.Context(), "orders")
	if err != nil {
		p.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n
}

func TestRunningClientsTakeANewPassword(t *testing.T) {
	t.Parallel()
	p, stop := produce(t)
	before := p.open()
	for i, password := range []string{"second", "third"} {
		p.broker(password)
		p.password(password)
		p.until("change "+password, func() bool { done, _ := p.counts(); return done == int64(i+1) })
	}
	now := p.open()
	for _, c := range before {
		if slices.Contains(now, c) {
			t.Error("a connection that logged in with an old password is still open")
		}
	}
	if notes := p.runner.Progress("x")[0].Notes; len(notes) > 0 {
		t.Errorf("notes: %v", notes)
	}
	p.until("writes over new connections", func() bool { return len(p.open()) > 0 })
	if n := stop(); int64(n) != p.written() {
		t.Errorf("%d records were acknowledged, the topic has %d", n, p.written())
	}
}

func TestAPasswordThatDoesNotWorkChangesNothing(t *testing.T) {
	t.Parallel()
	p, stop := produce(t)
	before := p.open()
	p.password("wrong")
	p.until("failure", func() bool { _, failed := p.counts(); return failed > 0 })
	notes := p.runner.Progress("x")[0].Notes
	if len(notes) != 1 || !notes[0].Degraded || !strings.Contains(notes[0].Text, "rotation failed: ${file:"+p.file+":password} version ") || !strings.Contains(notes[0].Text, "refused: ") {
		t.Errorf("notes: %v", notes)
	}
	now := p.open()
	for _, c := range before {
		if !slices.Contains(now, c) {
			t.Error("a connection was given up for a password that does not work")
		}
	}
	p.password("first")
	p.until("good order", func() bool { return len(p.runner.Progress("x")[0].Notes) == 0 })

	// The same value, written again, is no change.
	p.password("first")
	read := func() time.Time {
		p.runner.rotor.mu.Lock()
		defer p.runner.rotor.mu.Unlock()
		return p.runner.rotor.book["${file:"+p.file+":password}"].newest.at
	}
	since := time.Now()
	p.until("another look", func() bool { return read().After(since) })
	if done, _ := p.counts(); done != 0 {
		t.Errorf("%d changes", done)
	}
	now = p.open()
	for _, c := range before {
		if !slices.Contains(now, c) {
			t.Error("a connection was given up for a value that has not changed")
		}
	}
	if n := stop(); int64(n) != p.written() {
		t.Errorf("%d records were acknowledged, the topic has %d", n, p.written())
	}
}

func TestASettingThatClientsCannotTakeStartsTheRunAgain(t *testing.T) {
	t.Parallel()
	for reload, want := range map[string]bool{"": true, "RESTART": true, "none": false} {
		t.Run("config.action.reload="+reload, func(t *testing.T) {
			t.Parallel()
			started := make(chan struct{})
			r, _, _ := runner(t, leased(), func(ctx context.Context, _ connector.TaskContext) error {
				close(started)
				<-ctx.Done()
				return nil
			})
			resolver, err := configprovider.New(t.Context(), map[string]string{"config.providers": "file", "config.providers.file.class": "file"}, configprovider.Kinds(nil))
			if err != nil {
				t.Fatal(err)
			}
			again := make(chan Run, 10)
			r.o.Resolve, r.o.Hooks.Restart = resolver.Resolve, func(r Run) { again <- r }
			p := &producing{T: t, runner: r, file: filepath.Join(t.TempDir(), "f.properties")}
			p.password("first")
			ctx, cancel := context.WithCancel(t.Context())
			rotated := make(chan error, 1)
			go func() { rotated <- r.Rotate(ctx) }()
			t.Cleanup(func() {
				cancel()
				<-rotated
			})
			ref := "${file:" + p.file + ":password}"
			r.Start(Run{ID: 7, Connector: "x", Config: map[string]string{"topics": ref, "config.action.reload": reload}})
			wait(t, started, "start")
			p.password("second")
			if want {
				if run := wait(t, again, "restart"); run.ID != 7 {
					t.Errorf("restarted %v", run)
				}
			}
			looks := func() int64 {
				r.rotor.mu.Lock()
				defer r.rotor.mu.Unlock()
				return r.rotor.book[ref].newest.at.UnixNano()
			}
			since := time.Now().UnixNano()
			p.until("another look at the file", func() bool { return looks() > since })
			if len(again) > 0 {
				t.Errorf("restarted %d times more", len(again))
			}
		})
	}
}
