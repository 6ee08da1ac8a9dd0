// Package kdc runs a real Kerberos server for tests: MIT's krb5kdc, as a child process on 127.0.0.1 with a
// realm of its own. It uses nothing of the product.
//
// Easy to get wrong: Java asks the DNS for the names in principals unless krb5.conf says otherwise, and a test's
// broker is at an address.
package kdc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"barnabas/e2e/kafka"
	"barnabas/e2e/process"
)

// Realm is that of every KDC here.
const Realm = "TEST.EXAMPLE"

// KDC is a Kerberos server.
type KDC struct {
	dir     string
	address string
	process *process.Process
}

// tools are the programs it is made of.
var tools = []string{"krb5kdc", "kdb5_util", "kadmin.local", "kinit"}

// Find returns an error that says what is missing: the reason to skip a test with.
var Find = sync.OnceValue(func() error {
	for _, tool := range tools {
		if _, err := path(tool); err != nil {
			return fmt.Errorf("no %s: Debian's krb5-kdc and krb5-user have it", tool)
		}
	}
	return nil
})

// path finds a program also where only root's PATH looks.
func path(tool string) (string, error) {
	if p, err := exec.LookPath(tool); err == nil {
		return p, nil
	}
	return exec.LookPath(filepath.Join("/usr/sbin", tool))
}

// Start makes a new realm in dir and returns when its server answers.
func Start(ctx context.Context, dir string) (*KDC, error) {
	ports, err := kafka.FreePorts(1)
	if err != nil {
		return nil, err
	}
	k := &KDC{dir: dir, address: ports[0]}
	_, port, err := net.SplitHostPort(k.address)
	if err != nil {
		return nil, fmt.Errorf("start the KDC: %w", err)
	}
	for name, text := range map[string]string{
		"krb5.conf": fmt.Sprintf("[libdefaults]\n default_realm = %[1]s\n dns_lookup_kdc = false\n dns_lookup_realm = false\n dns_canonicalize_hostname = false\n rdns = false\n"+
			" udp_preference_limit = 1\n[realms]\n %[1]s = {\n  kdc = %[2]s\n }\n[domain_realm]\n 127.0.0.1 = %[1]s\n", Realm, k.address),
		"kdc.conf": fmt.Sprintf("[kdcdefaults]\n kdc_listen = 127.0.0.1:%[2]s\n kdc_tcp_listen = 127.0.0.1:%[2]s\n[realms]\n %[1]s = {\n  database_name = %[3]s/principal\n"+
			"  key_stash_file = %[3]s/stash\n  acl_file = %[3]s/acl\n  max_life = 1h\n  max_renewable_life = 2h\n }\n", Realm, port, dir),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("start the KDC: %w", err)
		}
	}
	if err := k.run(ctx, "kdb5_util", "create", "-s", "-r", Realm, "-P", "master"); err != nil {
		return nil, err
	}
	server, err := path("krb5kdc")
	if err != nil {
		return nil, err
	}
	k.process, err = process.Start(process.Spec{Name: "KDC", Path: server, Args: []string{"-n"}, Env: k.env(), Dir: dir, Log: filepath.Join(dir, "kdc.log")})
	if err != nil {
		return nil, err
	}
	return k, k.answers(ctx)
}

func (k *KDC) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", k.address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-k.process.Done():
			return errors.New("the KDC ended before it answered:\n" + k.process.Tail(20))
		case <-ctx.Done():
			return fmt.Errorf("the KDC does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Conf is the path of the realm's krb5.conf.
func (k *KDC) Conf() string { return filepath.Join(k.dir, "krb5.conf") }

// Keytab makes a principal, or a new key for it, and returns the path of a keytab with that key alone.
func (k *KDC) Keytab(ctx context.Context, principal, file string) (string, error) {
	keytab := filepath.Join(k.dir, file)
	_ = os.Remove(keytab)
	// An existing principal is no error to kadmin.local, which says so and exits with 0.
	if err := k.run(ctx, "kadmin.local", "-q", "addprinc -randkey "+principal); err != nil {
		return "", err
	}
	return keytab, k.run(ctx, "kadmin.local", "-q", "ktadd -k "+keytab+" "+principal)
}

// Tickets logs principal in with its keytab, as kinit does, and returns the path of the ticket cache.
func (k *KDC) Tickets(ctx context.Context, principal, keytab, file string) (string, error) {
	cache := filepath.Join(k.dir, file)
	return cache, k.run(ctx, "kinit", "-c", "FILE:"+cache, "-k", "-t", keytab, principal)
}

// Kill ends the server.
func (k *KDC) Kill() { k.process.Kill() }

func (k *KDC) env() []string {
	return append(os.Environ(), "KRB5_CONFIG="+k.Conf(), "KRB5_KDC_PROFILE="+filepath.Join(k.dir, "kdc.conf"))
}

func (k *KDC) run(ctx context.Context, tool string, args ...string) error {
	program, err := path(tool)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Dir = k.env(), k.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", tool, err, out)
	}
	return nil
}
