package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"barnabas/config"
	"barnabas/rest"
)

// client returns a client for the cluster that the common flags name.
func (c *cli) client() (*rest.Client, error) {
	o := rest.ClientOptions{URLs: c.addresses(), User: c.or(c.user, "BARNABAS_USER"), Retry: -1, Warn: func(text string) { fmt.Fprintln(c.stderr, "warning: "+text) }}
	if o.User != "" {
		if name, _, ok := strings.Cut(o.User, ":"); ok {
			return nil, usagef("--user takes a name; give the password of %q in $BARNABAS_PASSWORD, where no list of processes shows it", name)
		}
		password, err := c.password(o.User)
		if err != nil {
			return nil, err
		}
		o.Password = password
	}
	if token := c.getenv("BARNABAS_TOKEN"); token != "" && o.User == "" {
		o.Token = config.NewSecret(strings.TrimSpace(token))
	}
	var err error
	if o.TLS, err = c.tlsConfig(); err != nil {
		return nil, err
	}
	client, err := rest.NewClient(o)
	if err != nil {
		return nil, usagef("--url: %w", err)
	}
	return client, nil
}

// tlsConfig is how https addresses are reached; nil: as the system does.
func (c *cli) tlsConfig() (*tls.Config, error) {
	cacert, cert, key := c.or(c.cacert, "BARNABAS_CACERT"), c.or(c.cert, "BARNABAS_CERT"), c.or(c.key, "BARNABAS_KEY")
	if cacert == "" && cert == "" && key == "" {
		return nil, nil //nolint:nilnil // none is needed
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if cacert != "" {
		pem, err := os.ReadFile(cacert)
		if err != nil {
			return nil, fmt.Errorf("--cacert: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--cacert: %s holds no certificate in PEM", cacert)
		}
	}
	switch {
	case key != "" && cert == "":
		return nil, usagef("--key needs --cert, the certificate that belongs to it")
	case cert != "":
		pair, err := tls.LoadX509KeyPair(cert, cmp.Or(key, cert))
		if err != nil {
			return nil, fmt.Errorf("--cert %s, --key %s: %w", cert, cmp.Or(key, cert), err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// or is the value of a flag, or that of a variable of the environment.
func (c *cli) or(flag, variable string) string { return cmp.Or(flag, c.getenv(variable)) }

func (c *cli) addresses() []string {
	if len(c.urls) > 0 {
		return c.urls
	}
	if env := c.getenv("BARNABAS_URL"); env != "" {
		return strings.Split(env, ",")
	}
	return []string{rest.DefaultURL}
}

// password takes the password of --user from the environment, or asks for it.
func (c *cli) password(user string) (config.Secret, error) {
	if p := c.getenv("BARNABAS_PASSWORD"); p != "" {
		return config.NewSecret(p), nil
	}
	in, ok := c.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return config.Secret{}, usagef("--user %s needs a password: set $BARNABAS_PASSWORD", user)
	}
	fmt.Fprintf(c.stderr, "Password of %s: ", user)
	typed, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(c.stderr)
	return config.NewSecret(string(typed)), err
}

// wrong completes an error of the REST client with what to do.
func (c *cli) wrong(err error) error {
	var status *rest.StatusError
	var network net.Error
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var remote *net.OpError // of an alert, whose own type crypto/tls keeps to itself
	switch {
	case err == nil:
		return nil
	case errors.As(err, &status):
		switch status.Status {
		case 400:
			if strings.HasPrefix(status.Message, "HTTP 400") && strings.HasPrefix(status.URL, "http:") {
				return fmt.Errorf("%s speaks https, or is no worker: try https:// in its address: %w", status.URL, err)
			}
		case 401:
			return fmt.Errorf("%s wants to know who you are: use --user and $BARNABAS_PASSWORD, or $BARNABAS_TOKEN: %w", status.URL, err)
		case 404:
			if strings.HasPrefix(status.Message, "HTTP 404") {
				return fmt.Errorf("%s is no worker, or one too old for this command: %w", status.URL, err)
			}
		}
		if c.debug {
			return fmt.Errorf("%w (%d from %s, request %s)", err, status.Status, status.URL, status.RequestID)
		}
		return err
	case errors.As(err, &unknown):
		return fmt.Errorf("the certificate of %s is not trusted (%s): name its authority with --cacert or $BARNABAS_CACERT", strings.Join(c.addresses(), ", "), unknown.Error())
	case errors.As(err, &host):
		return fmt.Errorf("the certificate of %s is for another host: %s", strings.Join(c.addresses(), ", "), host.Error())
	case errors.As(err, &remote) && remote.Op == "remote error":
		return fmt.Errorf("%s ended the TLS handshake (%s): if it asks for a certificate, give one it trusts with --cert and --key", strings.Join(c.addresses(), ", "), cause(err))
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Errorf("%s speaks http, not https: %w", strings.Join(c.addresses(), ", "), err)
	case errors.Is(err, syscall.ECONNREFUSED), errors.As(err, &dns), errors.As(err, &network):
		return fmt.Errorf("no worker answers at %s (%s): start one with \"barnabas worker FILE\", or name another with --url or $BARNABAS_URL",
			strings.Join(c.addresses(), ", "), cause(err))
	}
	return err
}

// cause is the innermost of err.
func cause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// about completes an error about a connector: an unknown one has perhaps a known
// name that is near.
func (c *cli) about(ctx context.Context, client *rest.Client, name string, err error) error {
	if !rest.IsNotFound(err) {
		return c.wrong(err)
	}
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	names, listErr := client.Connectors(ctx)
	if listErr != nil {
		return c.wrong(err)
	}
	for _, n := range names {
		if n == name {
			return c.wrong(err) // it is something below the connector that is not there
		}
	}
	hint := "there is none"
	if near := config.Nearest(name, names); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	} else if len(names) > 0 {
		hint = `see "barnabas connectors list"`
	}
	return fmt.Errorf("there is no connector %q; %s", name, hint)
}

// completionTimeout bounds what the shell waits for when it completes a name.
const completionTimeout = 2 * time.Second

// completeConnectors completes the first argument with the names of connectors.
func (c *cli) completeConnectors(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.completions(cmd, func(ctx context.Context, client *rest.Client) ([]string, error) { return client.Connectors(ctx) })
}

func (c *cli) completions(cmd *cobra.Command, ask func(context.Context, *rest.Client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	client, err := c.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	names, err := ask(ctx, client)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
