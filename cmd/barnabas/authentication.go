package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/rest/auth"
)

// Names of Kafka Connect's basic authentication.
const (
	loginContext        = "KafkaConnect"
	propertyLoginModule = "org.apache.kafka.connect.rest.basic.auth.extension.PropertyFileLoginModule"
	loginConfigKey      = "java.security.auth.login.config"
)

// logins are the ways to say who uses the REST API. Without any, everybody may.
type logins struct {
	passwords    *auth.Passwords
	tokens       *auth.Tokens
	certificates *auth.Certificates
}

func (l logins) asked() bool { return l.passwords != nil || l.tokens != nil || l.certificates != nil }

// newLogins makes what the settings of a worker say about who may use its REST API.
func newLogins(file config.Worker, environ []string, log *slog.Logger, metrics prometheus.Registerer) (l logins, err error) {
	var files []auth.File
	for _, method := range file.RestAuthentication {
		switch method {
		case "basic":
			files = append(files, auth.File{Key: "rest.authentication.basic.file", Path: file.BasicFile, Format: auth.Htpasswd})
		case "oidc":
			if l.tokens, err = auth.NewTokens(auth.TokenOptions{
				Issuer: file.OIDCIssuer, Audience: file.OIDCAudience, UserClaim: file.OIDCUserClaim, GroupsClaim: file.OIDCGroupsClaim, Metrics: metrics,
			}); err != nil {
				return l, fmt.Errorf("rest.authentication=oidc: %w", err)
			}
		case "mtls":
			if l.certificates, err = auth.NewCertificates(file.PrincipalRules); err != nil {
				return l, fmt.Errorf("ssl.principal.mapping.rules: %w", err)
			}
		}
	}
	if len(file.RestExtensions) > 0 {
		more, err := loginFiles(cmp.Or(file.LoginConfig, loginConfig(environ)))
		if err != nil {
			return l, fmt.Errorf("rest.extension.classes: %w", err)
		}
		files = append(files, more...)
	}
	if len(files) > 0 {
		l.passwords, err = auth.New(auth.Options{Files: files, Log: log, Metrics: metrics})
	}
	return l, err
}

// errNoCertificates is a setting that would let nobody in.
var errNoCertificates = errors.New("rest.authentication=mtls, and no listener asks for certificates: it takes an https listener with ssl.client.auth=required, or requested, and a truststore")

// loginConfig is the JAAS file that the variables of a JVM's environment name: those that the scripts of Kafka and the JVM
// itself read, in the order in which one stands over the other.
func loginConfig(environ []string) string {
	p := process{environ: environ}
	for _, variable := range []string{"KAFKA_OPTS", "JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS"} {
		path := ""
		for option := range strings.FieldsSeq(p.getenv(variable)) {
			if value, ok := strings.CutPrefix(option, "-D"+loginConfigKey+"="); ok {
				path = strings.Trim(strings.TrimPrefix(value, "="), `"'`) // "==" is that file and no other
			}
		}
		if path != "" {
			return path
		}
	}
	return ""
}

// loginFiles are the files of users that the login context of Kafka Connect names.
func loginFiles(path string) ([]auth.File, error) {
	if path == "" {
		return nil, fmt.Errorf("basic authentication needs a JAAS file: set %s, here or in $KAFKA_OPTS as -D%s=FILE", loginConfigKey, loginConfigKey)
	}
	path = strings.TrimPrefix(path, "file:") // Java takes an address, too
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", loginConfigKey, err)
	}
	contexts, err := clientconfig.ParseLoginFile(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", loginConfigKey, path, err)
	}
	files, err := modulesFiles(contexts[loginContext])
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", loginConfigKey, path, err)
	}
	return files, nil
}

func modulesFiles(modules []clientconfig.LoginModule) ([]auth.File, error) {
	if len(modules) == 0 {
		return nil, fmt.Errorf("there is no login context %s in it", loginContext)
	}
	var files []auth.File
	for _, m := range modules {
		if m.Class != propertyLoginModule {
			return nil, fmt.Errorf("its login module %s cannot be loaded; there is %s here, or rest.authentication=basic", m.Class, propertyLoginModule)
		}
		users := strings.TrimSpace(m.Options["file"].Reveal())
		if users == "" {
			return nil, errors.New("Property Credentials file must be specified: file=\"…\"") //nolint:revive,staticcheck // capitals as Kafka has them
		}
		files = append(files, auth.File{Key: "PropertyFileLoginModule", Path: users, Format: auth.Properties})
	}
	return files, nil
}

// warnOpen warns when everybody on the network may use the REST API, or may read the passwords of those who may.
func (n *node) warnOpen() {
	if slices.Equal(n.file.RestAuthentication, []string{"none"}) { // told so in so many words
		return
	}
	asked := len(n.file.RestAuthentication) > 0 || len(n.file.RestExtensions) > 0
	for i, opened := range [][]net.Listener{n.listeners, n.admin} {
		schemes := [][]config.Listener{n.file.Listeners, n.file.AdminListeners}[i]
		for j, l := range opened {
			a, ok := l.Addr().(*net.TCPAddr)
			switch {
			case !ok || a.IP.IsLoopback():
			case !asked:
				n.o.Log.Warn("everybody who reaches this address may change connectors: set rest.authentication, listen on loopback, or say rest.authentication=none",
					"address", a.String())
			case schemes[j].Scheme == "http":
				n.o.Log.Warn("passwords cross the network in the clear: use an https:// listener", "address", a.String())
			}
		}
	}
}
