package main

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"barnabas/config"
)

func TestTablesAlign(t *testing.T) {
	t.Parallel()
	tb := &table{}
	tb.header("NAME", "LAG", "STATE")
	tb.row("orders", "1,234", "RUNNING")
	tb.row("zahlungen-€", "7", "FAILED")
	tb.text("2 connectors")
	var out bytes.Buffer
	if err := tb.write(&out); err != nil {
		t.Fatal(err)
	}
	want := "" +
		"NAME           LAG  STATE\n" +
		"orders       1,234  RUNNING\n" +
		"zahlungen-€      7  FAILED\n" +
		"2 connectors\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	out.Reset()
	tb.colour = true
	_ = tb.write(&out)
	if stripped := strings.NewReplacer("\x1b[1m", "", "\x1b[31m", "", "\x1b[32m", "", "\x1b[0m", "").Replace(out.String()); stripped != want {
		t.Errorf("colours change the layout:\n%q", out.String())
	}
	if !strings.Contains(out.String(), "\x1b[31mFAILED\x1b[0m") {
		t.Error("FAILED has no colour")
	}
}

func TestYAMLKeepsOrderAndTypes(t *testing.T) {
	t.Parallel()
	got, err := toYAML(struct {
		Name string            `json:"name"`
		On   string            `json:"on"`
		N    int               `json:"n"`
		M    map[string]string `json:"m"`
		None *string           `json:"none"`
	}{"x", "true", 3, map[string]string{"port": "8083"}, nil})
	if err != nil {
		t.Fatal(err)
	}
	if want := "name: x\non: \"true\"\nn: 3\nm:\n  port: \"8083\"\nnone: null\n"; string(got) != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestJSONShowsReferencesAsWritten(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := writeJSON(&out, map[string]string{"password": "$<file:/x:y>"}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "$<file:/x:y>") {
		t.Error(out.String())
	}
}

func TestConnectsErrorsFitOneLine(t *testing.T) {
	t.Parallel()
	got := oneLine("Connector configuration is invalid and contains the following 2 error(s):\nfirst\nsecond\n" +
		"You can also find the above list of errors at the endpoint `/connector-plugins/X/config/validate`")
	if want := "Connector configuration is invalid and contains the following 2 error(s): first; second"; got != want {
		t.Errorf("got %q", got)
	}
}

func TestAdvertisedURLIsReachable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, row := range []struct {
		name string
		file config.Worker
		want string
	}{
		{"a free port", config.Worker{Listeners: []config.Listener{{Scheme: "http", Host: "127.0.0.1"}}}, "http://" + l.Addr().String()},
		{"as the file says", config.Worker{Listeners: []config.Listener{{Scheme: "http", Host: "127.0.0.1", Port: 1}}, AdvertisedHost: "w1", AdvertisedPort: 80}, "http://w1:80"},
		{"all addresses", config.Worker{Listeners: []config.Listener{{Scheme: "http", Host: "0.0.0.0", Port: 1}}}, "http://" + net.JoinHostPort(ownHost(), "1")},
	} {
		if got := advertisedURL(row.file, []net.Listener{l}); got != row.want {
			t.Errorf("%s: got %s, want %s", row.name, got, row.want)
		}
	}
}

func TestCanaryFindsWhatIsCutInTwo(t *testing.T) {
	t.Parallel()
	c := newCanary([]config.Secret{config.NewSecret("canary-0123456789")})
	whole, cut := c.tee("the first log", new(bytes.Buffer)), c.tee("the second log", new(bytes.Buffer))
	_, _ = whole.Write([]byte("all is well"))
	if places := c.places(); len(places) > 0 {
		t.Errorf("found something in %v", places)
	}
	for _, piece := range []string{"password=can", "ary-0", "123", "456789 and on"} {
		_, _ = cut.Write([]byte(piece))
	}
	if diff := cmp.Diff([]string{"the second log"}, c.places()); diff != "" {
		t.Error(diff)
	}
	if n := c.scanned.Load(); n != int64(len("all is well"+"password=canary-0123456789 and on")) {
		t.Errorf("%d bytes counted", n)
	}
}

func TestPulledPlugCutsEverything(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := newPlug()
	served := p.Listen(l)
	accepted := make(chan error, 1)
	go func() {
		conn, err := served.Accept()
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		accepted <- err
	}()
	dialed, err := p.Dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p.Pull()
	p.Pull() // again is harmless
	if err := <-accepted; err == nil {
		t.Error("an accepted connection goes on")
	}
	if _, err := dialed.Read(make([]byte, 1)); err == nil {
		t.Error("a dialed connection goes on")
	}
	if _, err := served.Accept(); err == nil {
		t.Error("it listens on")
	}
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := p.Dial(t.Context(), "tcp", other.Addr().String()); !errors.Is(err, errPulled) {
		t.Errorf("it dials: %v", err)
	}
	select {
	case <-p.Crash:
	default:
		t.Error("nobody is told")
	}
}
