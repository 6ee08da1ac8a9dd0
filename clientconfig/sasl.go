package clientconfig

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"barnabas/config"
)

const (
	plainModule = "org.apache.kafka.common.security.plain.PlainLoginModule"
	scramModule = "org.apache.kafka.common.security.scram.ScramLoginModule"
)

// mechanisms are those that work, with the login module of each.
var mechanisms = map[string]string{
	"PLAIN":         plainModule,
	"SCRAM-SHA-256": scramModule,
	"SCRAM-SHA-512": scramModule,
}

// dangerousModules made a client's configuration run code or read files and
// services in Java: CVE-2023-25194 and CVE-2025-27818. No module runs here but the two above; these
// are refused in words of their own, because who sends them may be an attacker.
var dangerousModules = []string{
	"com.sun.security.auth.module.JndiLoginModule",
	"com.sun.security.auth.module.LdapLoginModule",
	"com.sun.security.auth.module.KeyStoreLoginModule",
	"com.sun.security.auth.module.NTLoginModule",
	"com.sun.security.auth.module.UnixLoginModule",
}

// laterMechanisms are Kafka's that do not work here yet.
var laterMechanisms = []string{"GSSAPI", "OAUTHBEARER", "AWS_MSK_IAM"}

// sasl reads sasl.mechanism and sasl.jaas.config.
func (r *reader) sasl() (kgo.Opt, config.Secret) {
	const mechanismKey, jaasKey = "sasl.mechanism", "sasl.jaas.config"
	mechanism := r.text(mechanismKey, "GSSAPI")
	wantModule, works := mechanisms[mechanism]
	if !works {
		shown := r.written(mechanismKey)
		if !r.has(mechanismKey) {
			shown = "GSSAPI (Kafka's default where no mechanism is set)"
		}
		if mechanism == "GSSAPI" || slices.Contains(laterMechanisms, mechanism) {
			r.fail(mechanismKey, "not supported yet: %s; use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", shown)
		} else {
			r.fail(mechanismKey, "unknown SASL mechanism %s; use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", shown)
		}
		r.has(jaasKey)
		return nil, config.Secret{}
	}
	r.report.Mechanism = mechanism
	if !r.has(jaasKey) {
		r.fail(jaasKey, "Could not find a 'KafkaClient' entry in the JAAS configuration: sasl.jaas.config is not set")
		return nil, config.Secret{}
	}
	entry, err := jaasOf(r.text(jaasKey, ""))
	if err != nil {
		r.fail(jaasKey, "%v", err)
		return nil, config.Secret{}
	}
	if refusal := refuseModule(entry.module, wantModule, mechanism); refusal != "" {
		r.fail(jaasKey, "%s", refusal)
		return nil, config.Secret{}
	}
	user, pass := entry.options["username"], entry.options["password"]
	if user == "" || pass == "" {
		r.fail(jaasKey, "the login module needs the options username and password, neither empty")
		return nil, config.Secret{}
	}
	r.report.Principal = "User:" + shownUser(r.settings[jaasKey].Written, user)
	token := strings.EqualFold(entry.options["tokenauth"], "true")
	return kgo.SASL(saslMechanism(mechanism, config.NewSecret(user), config.NewSecret(pass), token)), config.NewSecret(user)
}

// className is a Java class with its package: what may be shown of a login
// module. Anything else in its place may be part of a secret.
var className = regexp.MustCompile(`^([a-z][a-z0-9_]{0,40}\.){1,12}[A-Z][A-Za-z0-9_$]{0,80}$`)

// refuseModule says why module cannot serve mechanism, or returns "".
func refuseModule(module, want, mechanism string) string {
	switch {
	case module == want:
		return ""
	case slices.Contains(dangerousModules, module):
		return fmt.Sprintf("%s is not allowed: it can run code or reach other services (CVE-2023-25194); %s needs %s", module, mechanism, want)
	case module == plainModule || module == scramModule:
		return fmt.Sprintf("%s does not fit sasl.mechanism %s, which needs %s", module, mechanism, want)
	case className.MatchString(module):
		return fmt.Sprintf("login module %s is not supported; %s needs %s", module, mechanism, want)
	}
	return fmt.Sprintf("the login module is not the name of a Java class; %s needs %s", mechanism, want)
}

// shownUser returns what may be shown of a user name: itself where it was
// written literally, otherwise the reference that it comes from.
func shownUser(written, user string) string {
	refs := references(written)
	if len(refs) == 0 {
		return user
	}
	// References stand in for words while the written text is parsed, since they may be
	// unquoted there.
	word := func(i int) string { return fmt.Sprintf("_reference%d_", i) }
	i := -1
	text := reference.ReplaceAllStringFunc(written, func(string) string { i++; return word(i) })
	entry, err := jaasOf(text)
	name := entry.options["username"]
	if err != nil || name == "" {
		return strings.Join(refs, " ")
	}
	shown := name
	for i := len(refs) - 1; i >= 0; i-- { // backwards, or word 1 would be found in word 10
		shown = strings.ReplaceAll(shown, word(i), refs[i])
	}
	if shown == name && name != user {
		// What a reference resolved to has changed the sense of the text around it.
		return strings.Join(refs, " ")
	}
	return shown
}

// saslMechanism makes the mechanism that proves user and password. Both stay
// hidden until a connection authenticates.
func saslMechanism(name string, user, pass config.Secret, token bool) sasl.Mechanism {
	scramAuth := func(context.Context) (scram.Auth, error) {
		return scram.Auth{User: user.Reveal(), Pass: pass.Reveal(), IsToken: token}, nil
	}
	switch name {
	case "SCRAM-SHA-256":
		return scram.Sha256(scramAuth)
	case "SCRAM-SHA-512":
		return scram.Sha512(scramAuth)
	}
	return plain.Plain(func(context.Context) (plain.Auth, error) {
		return plain.Auth{User: user.Reveal(), Pass: pass.Reveal()}, nil
	})
}
