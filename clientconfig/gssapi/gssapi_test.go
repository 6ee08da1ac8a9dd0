package gssapi

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"go.uber.org/goleak"

	"barnabas/e2e/kdc"
)

// TestMain finds logins that were left renewing their tickets. The thread that starts children is the harness's.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("barnabas/e2e/process.init.func1.1"))
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "canary")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLoginFollowsItsKeytab replaces the key in the realm and in the file, as an operator does; the next login has the new one.
func TestLoginFollowsItsKeytab(t *testing.T) {
	t.Parallel()
	if err := kdc.Find(); err != nil {
		t.Skip(err)
	}
	realm, err := kdc.Start(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(realm.Kill)
	if _, err := realm.Keytab(t.Context(), "kafka/127.0.0.1", "kafka.keytab"); err != nil {
		t.Fatal(err)
	}
	keytab, err := realm.Keytab(t.Context(), "orders", "orders.keytab")
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(keytab)
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(Options{Conf: realm.Conf(), Principal: "orders@" + kdc.Realm, Keytab: keytab, Service: "kafka"})
	if err != nil {
		t.Fatal(err)
	}
	login := func() error {
		_, first, err := m.Authenticate(t.Context(), "127.0.0.1:9092")
		if err == nil && len(first) == 0 {
			t.Error("nothing to send")
		}
		return err
	}
	if err := login(); err != nil {
		t.Fatal(err)
	}
	if _, err := realm.Keytab(t.Context(), "orders", "orders.keytab"); err != nil {
		t.Fatal(err)
	}
	if err := login(); err != nil {
		t.Errorf("with the tickets at hand: %v", err)
	}
	m.Close()
	if err := login(); err != nil {
		t.Errorf("with the new key: %v", err)
	}
	m.Close()
	other, err := New(Options{Conf: realm.Conf(), Principal: "orders@" + kdc.Realm, Keytab: keytab, Service: "nobody"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := other.Authenticate(t.Context(), "127.0.0.1:9092"); !errors.Is(err, kerr.SaslAuthenticationFailed) {
		t.Errorf("for a service that the KDC does not know: %v", err)
	}
	other.Close()
	if err := os.WriteFile(keytab, old, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := login(); err == nil || !strings.HasPrefix(err.Error(), "SASL GSSAPI: ") {
		t.Errorf("with the old key: %v", err)
	}
	if _, err := New(Options{Conf: realm.Conf(), Principal: "other", Keytab: keytab}); err == nil || !strings.Contains(err.Error(), `no key for other@TEST.EXAMPLE; it has keys for ["orders@TEST.EXAMPLE"]`) {
		t.Errorf("another's keytab: %v", err)
	}
	m.Close()
}

func TestFilesThatAreNotWhatTheyShouldBeAreNamed(t *testing.T) {
	t.Parallel()
	conf := write(t, "[libdefaults]\n default_realm = A\n[realms]\n A = {\n kdc = 127.0.0.1:1\n }\n")
	for want, o := range map[string]Options{
		"no such file or directory":                                {Conf: "/nowhere"},
		"it is not a krb5.conf":                                    {Conf: write(t, "[libdefaults]\n clockskew = canary\n")},
		"a login with a keytab needs the principal":                {Conf: conf, Keytab: conf},
		"the keytab is damaged, or none":                           {Conf: conf, Keytab: conf, Principal: "a"},
		"read the keytab: no such file or directory":               {Conf: conf, Keytab: "/nowhere", Principal: "a"},
		"read the keytab: it is not a file":                        {Conf: conf, Keytab: t.TempDir(), Principal: "a"},
		"read the ticket cache: no such file or directory":         {Conf: conf, TicketCache: "/nowhere"},
		"the ticket cache is damaged, or has no ticket-granting t": {Conf: conf, TicketCache: conf},
	} {
		m, err := New(o)
		if err == nil {
			_, _, err = m.Authenticate(t.Context(), "127.0.0.1:9092")
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(strings.ReplaceAll(err.Error(), o.Conf, ""), "canary") {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
}

// FuzzFiles gives what anybody may have put into the files.
func FuzzFiles(f *testing.F) {
	f.Add([]byte("\x05\x02\x00\x00\x00\x30\x00\x01\x00\x01A\x00\x01a"))
	f.Add([]byte("\x05\x04\x00\x0c\x00\x01\x00\x08\xff\xff\xff\xff\x00\x00\x00\x00"))
	f.Add([]byte("\x05\x02\xff\xff\xff\xf0"))
	f.Fuzz(func(t *testing.T, data []byte) {
		conf := write(t, "[libdefaults]\n default_realm = A\n")
		file := write(t, string(data))
		for _, o := range []Options{{Conf: conf, Keytab: file, Principal: "a"}, {Conf: conf, TicketCache: file}, {Conf: file, TicketCache: file}} {
			if _, err := o.login(); err != nil && strings.Contains(strings.ReplaceAll(err.Error(), o.Conf, ""), "canary") {
				t.Error(err)
			}
		}
	})
}
