package clientconfig

import (
	"context"
	"fmt"
	"maps"
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
	plainModule    = "org.apache.kafka.common.security.plain.PlainLoginModule"
	scramModule    = "org.apache.kafka.common.security.scram.ScramLoginModule"
	kerberosModule = "com.sun.security.auth.module.Krb5LoginModule"
	oauthModule    = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"
)

// mechanisms are those that work, with the login module of each.
var mechanisms = map[string]string{
	"PLAIN":         plainModule,
	"SCRAM-SHA-256": scramModule,
	"SCRAM-SHA-512": scramModule,
	"OAUTHBEARER":   oauthModule,
	"GSSAPI":        kerberosModule,
	"AWS_MSK_IAM":   mskModule,
}

// dangerousModules made a client's configuration run code or read files and
// services in Java: CVE-2023-25194 and CVE-2025-27818. No module runs here but those of mechanisms; these
// are refused in words of their own, because who sends them may be an attacker.
var dangerousModules = []string{
	"com.sun.security.auth.module.JndiLoginModule",
	"com.sun.security.auth.module.LdapLoginModule",
	"com.sun.security.auth.module.KeyStoreLoginModule",
	"com.sun.security.auth.module.NTLoginModule",
	"com.sun.security.auth.module.UnixLoginModule",
}

// proof is what the settings of a mechanism come to.
type proof struct {
	mechanism sasl.Mechanism
	// user is the user name or what stands for it.
	user config.Secret
	// principal is whom the broker will see, as it may be shown.
	principal string
}

// sasl reads sasl.mechanism, sasl.jaas.config and what the mechanism calls for.
func (r *reader) sasl() (kgo.Opt, config.Secret) {
	const mechanismKey, jaasKey = "sasl.mechanism", "sasl.jaas.config"
	mechanism := r.text(mechanismKey, "GSSAPI")
	wantModule, works := mechanisms[mechanism]
	if !works {
		r.noMechanism(mechanismKey)
		r.has(jaasKey)
		return nil, config.Secret{}
	}
	r.report.Mechanism = mechanism
	if !r.has(jaasKey) {
		hint := ""
		if !r.has(mechanismKey) {
			hint = ", nor is sasl.mechanism, which is GSSAPI by default"
		}
		r.fail(jaasKey, "Could not find a 'KafkaClient' entry in the JAAS configuration: sasl.jaas.config is not set%s", hint)
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
	before := len(r.problems)
	var l proof
	switch mechanism {
	case "AWS_MSK_IAM":
		l = r.mskLogin(entry)
	case "GSSAPI":
		l = r.kerberosLogin(entry)
	case "OAUTHBEARER":
		l = r.oauthLogin(entry)
	default:
		l = r.passwordLogin(entry, mechanism)
	}
	if len(r.problems) > before {
		return nil, config.Secret{}
	}
	r.report.Principal = l.principal
	return kgo.SASL(r.live(l.mechanism)), l.user
}

// noMechanism says why a mechanism cannot be used.
func (r *reader) noMechanism(key string) {
	shown := r.written(key)
	use := strings.Join(slices.Sorted(maps.Keys(mechanisms)), ", ")
	r.fail(key, "unknown SASL mechanism %s; use one of %s", shown, use)
}

// passwordLogin reads a login with user name and password.
func (r *reader) passwordLogin(entry jaasEntry, mechanism string) proof {
	const jaasKey = "sasl.jaas.config"
	user, pass := entry.options["username"], entry.options["password"]
	if user == "" || pass == "" {
		r.fail(jaasKey, "the login module needs the options username and password, neither empty")
		return proof{}
	}
	token := strings.EqualFold(entry.options["tokenauth"], "true")
	return proof{
		mechanism: saslMechanism(mechanism, config.NewSecret(user), config.NewSecret(pass), token),
		user:      config.NewSecret(user),
		principal: "User:" + shownOption(r.settings[jaasKey].Written, "username", user),
	}
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
	case slices.Contains(slices.Collect(maps.Values(mechanisms)), module):
		return fmt.Sprintf("%s does not fit sasl.mechanism %s, which needs %s", module, mechanism, want)
	case className.MatchString(module):
		return fmt.Sprintf("login module %s is not supported; %s needs %s", module, mechanism, want)
	}
	return fmt.Sprintf("the login module is not the name of a Java class; %s needs %s", mechanism, want)
}

// shownOption returns what may be shown of an option of the JAAS text written, which is no secret by itself: the value
// where it was written literally, otherwise the reference that it comes from.
func shownOption(written, option, value string) string {
	refs := references(written)
	if len(refs) == 0 {
		return value
	}
	// References stand in for words while the written text is parsed, since they may be
	// unquoted there.
	word := func(i int) string { return fmt.Sprintf("_reference%d_", i) }
	i := -1
	text := reference.ReplaceAllStringFunc(written, func(string) string { i++; return word(i) })
	entry, err := jaasOf(text)
	name := entry.options[option]
	if err != nil || name == "" {
		return strings.Join(refs, " ")
	}
	shown := name
	for i := len(refs) - 1; i >= 0; i-- { // backwards, or word 1 would be found in word 10
		shown = strings.ReplaceAll(shown, word(i), refs[i])
	}
	if shown == name && name != value {
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
