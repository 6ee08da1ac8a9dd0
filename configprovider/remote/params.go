package remote

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"barnabas/config"
)

// Params reads the parameters of a provider. What is wrong is gathered; Err has all of it.
type Params struct {
	Settings config.Settings
	wrong    []error
}

// Find returns the first of the names that is set, and its setting: a parameter and its other spellings.
func (p *Params) Find(names ...string) (string, config.Setting) {
	for _, name := range names {
		if s, ok := p.Settings[name]; ok && strings.TrimSpace(s.Value.Reveal()) != "" {
			return name, s
		}
	}
	return names[0], config.Setting{}
}

// Text returns a parameter that is no secret, trimmed; empty if it is not set.
func (p *Params) Text(names ...string) string {
	_, s := p.Find(names...)
	return strings.TrimSpace(s.Value.Reveal())
}

// Secret returns a parameter that is one, trimmed as line ends in files want it.
func (p *Params) Secret(names ...string) config.Secret {
	_, s := p.Find(names...)
	return config.NewSecret(strings.TrimSpace(s.Value.Reveal()))
}

// Need notes that a parameter is missing.
func (p *Params) Need(name, why string) {
	p.wrong = append(p.wrong, fmt.Errorf("%s is missing: %s", name, why))
}

// Wrong notes that a parameter is not as it should be.
func (p *Params) Wrong(err error) { p.wrong = append(p.wrong, err) }

// Err is all that was wrong.
func (p *Params) Err() error { return errors.Join(p.wrong...) }

// OneOf returns a parameter that is one of a few words, whatever its case, or the first of them.
func (p *Params) OneOf(words []string, names ...string) string {
	name, s := p.Find(names...)
	value := strings.TrimSpace(s.Value.Reveal())
	if value == "" {
		return words[0]
	}
	for _, w := range words {
		if strings.EqualFold(w, value) {
			return w
		}
	}
	p.Wrong(fmt.Errorf("%s=%s: expected one of %s", name, s.Written, strings.Join(words, ", ")))
	return words[0]
}

// Flag returns a parameter that is true or false.
func (p *Params) Flag(otherwise bool, names ...string) bool {
	name, s := p.Find(names...)
	switch strings.ToLower(strings.TrimSpace(s.Value.Reveal())) {
	case "":
		return otherwise
	case "true":
		return true
	case "false":
		return false
	}
	p.Wrong(fmt.Errorf("%s=%s: expected true or false", name, s.Written))
	return otherwise
}

// Millis returns a parameter in milliseconds, within bounds.
func (p *Params) Millis(otherwise, least, most time.Duration, names ...string) time.Duration {
	name, s := p.Find(names...)
	value := strings.TrimSpace(s.Value.Reveal())
	if value == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < least.Milliseconds() || n > most.Milliseconds() {
		p.Wrong(fmt.Errorf("%s=%s: expected %d to %d milliseconds", name, s.Written, least.Milliseconds(), most.Milliseconds()))
		return otherwise
	}
	return time.Duration(n) * time.Millisecond
}

// The parameters that every remote provider has.
const (
	ParamTTL     = "secret.ttl.ms"
	ParamTimeout = "timeout.ms"
	ParamAllowed = "allowed.paths"
	ParamPlain   = "plaintext.allowed"
)

// TTL is how long what was read is good for.
func (p *Params) TTL(otherwise time.Duration) time.Duration {
	return p.Millis(otherwise, time.Second, 24*time.Hour, ParamTTL)
}

// Timeout of one request with all its tries.
func (p *Params) Timeout() time.Duration {
	return p.Millis(DefaultTimeout, 100*time.Millisecond, 30*time.Second, ParamTimeout)
}

// Address returns a parameter that is the address of a server, or nil. Plain http is for this machine, or for whoever
// says plaintext.allowed=true: tokens and secrets go over it.
func (p *Params) Address(otherwise string, names ...string) *url.URL {
	name, s := p.Find(names...)
	value := strings.TrimSpace(s.Value.Reveal())
	if value == "" {
		if value = otherwise; value == "" {
			return nil
		}
	}
	u, err := url.Parse(value)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		p.Wrong(fmt.Errorf("%s: expected an address such as https://host:port, without user, query or fragment", name))
	case u.Scheme == "http" && !loopback(u.Hostname()) && !p.Flag(false, ParamPlain):
		p.Wrong(fmt.Errorf("%s=%s: tokens and secrets would go over the network in plain text; use https, or set %s=true", name, u, ParamPlain))
	default:
		return u
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// TLS makes the settings of TLS of files in PEM: authorities to trust besides none of the system's, and a certificate to
// show. nil: nothing is set.
func (p *Params) TLS(ca, cert, key []string) *tls.Config {
	caName, caFile := p.Find(ca...)
	certName, certFile := p.Find(cert...)
	if caFile.Written == "" && certFile.Written == "" {
		return nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile.Written != "" {
		text, err := ReadFile(p.Text(ca...))
		c.RootCAs = x509.NewCertPool()
		if err != nil {
			p.Wrong(fmt.Errorf("%s=%s: %w", caName, caFile.Written, err))
		} else if !c.RootCAs.AppendCertsFromPEM([]byte(text.Reveal())) {
			p.Wrong(fmt.Errorf("%s=%s: no certificate in PEM in that file", caName, caFile.Written))
		}
	}
	if certFile.Written != "" {
		_, keyFile := p.Find(key...)
		if keyFile.Written == "" {
			p.Need(key[0], "the private key of the certificate of "+certName)
			return c
		}
		pair, err := tls.LoadX509KeyPair(p.Text(cert...), p.Text(key...))
		if err != nil {
			p.Wrong(fmt.Errorf("%s=%s: the certificate and its private key cannot be read", certName, certFile.Written))
			return c
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}

// maxFile bounds a file with a token, key or certificate.
const maxFile = 1 << 20

// ReadFile reads a small file with a credential, trimmed.
func ReadFile(path string) (config.Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return config.Secret{}, bare(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return config.Secret{}, errors.New("that is not a regular file")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return config.Secret{}, bare(err)
	case len(text) > maxFile:
		return config.Secret{}, fmt.Errorf("that file is longer than %d bytes", maxFile)
	}
	return config.NewSecret(strings.TrimSpace(string(text))), nil
}

// bare is an error of a file without its path, which whoever tells it tells too.
func bare(err error) error {
	var of *os.PathError
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

// errorText finds what a server says of an error: Vault's errors, Kubernetes' and SSM's message, Google's and Azure's
// error.message, OAuth's error_description.
func errorText(body []byte) string {
	var shape struct {
		Errors      []string        `json:"errors"`
		Message     string          `json:"message"`
		Description string          `json:"error_description"`
		Error       json.RawMessage `json:"error"`
	}
	if json.Unmarshal(body, &shape) != nil {
		return ""
	}
	var inner struct {
		Message string `json:"message"`
	}
	var word string
	if json.Unmarshal(shape.Error, &inner) != nil {
		_ = json.Unmarshal(shape.Error, &word) // neither: nothing is quoted
	}
	all := slices.DeleteFunc(append(shape.Errors, shape.Message, inner.Message, word, shape.Description), func(s string) bool { return strings.TrimSpace(s) == "" })
	return strings.Join(all, ": ")
}
