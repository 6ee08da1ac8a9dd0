package clientconfig

import (
	"crypto"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"barnabas/clientconfig/oauthbearer"
	"barnabas/config"
)

// oauthPackage is where Kafka has the classes of OAUTHBEARER.
const oauthPackage = "org.apache.kafka.common.security.oauthbearer."

// Class names of Kafka 4.3.1 and before that sasl.login.callback.handler.class may have.
const (
	oauthHandler     = oauthPackage + "OAuthBearerLoginCallbackHandler"
	oldOAuthHandler  = oauthPackage + "secured.OAuthBearerLoginCallbackHandler"
	unsecuredHandler = oauthPackage + "internals.unsecured.OAuthBearerUnsecuredLoginCallbackHandler"
)

// oauthLogin reads the settings of OAUTHBEARER (KIP-768, KIP-1139), and which class gets the token.
func (r *reader) oauthLogin(entry jaasEntry) proof {
	handlers := []string{oauthHandler, oldOAuthHandler, unsecuredHandler, mskOAuthHandler}
	handler := r.class("sasl.login.callback.handler.class", unsecuredHandler, handlers...)
	r.class("sasl.login.class", "", oauthPackage+"internals.OAuthBearerRefreshingLogin")
	r.class("sasl.client.callback.handler.class", "", oauthPackage+"internals.OAuthBearerSaslClientCallbackHandler")
	l := &oauthbearer.Login{
		WindowFactor: r.double("sasl.login.refresh.window.factor", 0.8, 0.5, 1),
		WindowJitter: r.double("sasl.login.refresh.window.jitter", 0.05, 0, 0.25),
		MinPeriod:    time.Duration(r.number("sasl.login.refresh.min.period.seconds", 60, 0, 900)) * time.Second,
		Buffer:       time.Duration(r.number("sasl.login.refresh.buffer.seconds", 300, 0, 3600)) * time.Second,
	}
	switch handler {
	case unsecuredHandler:
		return r.unsecuredLogin(entry, l)
	case mskOAuthHandler:
		return r.mskTokenLogin(entry, l)
	case oauthHandler, oldOAuthHandler:
		return r.retrievedLogin(entry, l)
	}
	return proof{}
}

// class reads the name of a Java class that must be one of those whose work is done here.
func (r *reader) class(key, def string, known ...string) string {
	name := r.text(key, def)
	if name == def || slices.Contains(known, name) {
		return name
	}
	r.fail(key, "the class %s is not supported; it may be %s", r.written(key), strings.Join(known, " or "))
	return ""
}

// retrievedLogin reads a login whose token is retrieved: OAuthBearerLoginCallbackHandler.
func (r *reader) retrievedLogin(entry jaasEntry, l *oauthbearer.Login) proof {
	const retrieverKey = "sasl.oauthbearer.jwt.retriever.class"
	byDefault, byClient, byFile, byAssertion := oauthPackage+"DefaultJwtRetriever", oauthPackage+"ClientCredentialsJwtRetriever",
		oauthPackage+"FileJwtRetriever", oauthPackage+"JwtBearerJwtRetriever"
	retriever := r.class(retrieverKey, byDefault, byDefault, byClient, byFile, byAssertion)
	r.class("sasl.oauthbearer.jwt.validator.class", oauthPackage+"DefaultJwtValidator", oauthPackage+"DefaultJwtValidator", oauthPackage+"ClientJwtValidator")
	l.SubjectClaim = r.text("sasl.oauthbearer.sub.claim.name", "sub")
	if l.SubjectClaim == "" {
		r.invalid("sasl.oauthbearer.sub.claim.name", "String must be non-empty")
	}
	r.ignore("sasl.oauthbearer.scope.claim.name", "scopes are judged by the broker")
	r.ignore("sasl.oauthbearer.jwks.endpoint.url", "the broker checks who has signed the token")
	l.Extensions = r.extensions(entry, "extension_")

	endpoint := r.tokenEndpoint()
	if endpoint == nil {
		return proof{}
	}
	if retriever == byDefault {
		retriever = byClient
		if endpoint.Scheme == "file" {
			retriever = byFile
		}
	}
	switch {
	case retriever == byFile && endpoint.Scheme != "file":
		r.fail(tokenURLKey, "FileJwtRetriever reads a file: the URL must begin with file:")
		return proof{}
	case retriever != byFile && endpoint.Scheme == "file":
		r.fail(tokenURLKey, "a token is asked for with http or https")
		return proof{}
	case retriever == byFile:
		l.Retrieve = oauthbearer.File(endpoint.Path)
		return proof{mechanism: l.Mechanism(), principal: "the subject of the token in " + r.written(tokenURLKey)}
	}
	e, ok := r.oauthEndpoint(endpoint, entry)
	if !ok {
		return proof{}
	}
	if retriever == byAssertion {
		return r.bearerLogin(l, e)
	}
	return r.clientLogin(entry, l, e)
}

const tokenURLKey = "sasl.oauthbearer.token.endpoint.url"

// tokenEndpoint reads the address of tokens, which must be allowed.
func (r *reader) tokenEndpoint() *url.URL {
	if r.text(tokenURLKey, "") == "" {
		r.fail(tokenURLKey, "The OAuth configuration option %s value is required", tokenURLKey)
		return nil
	}
	u, err := url.Parse(r.text(tokenURLKey, ""))
	if err != nil || u.Host == "" && u.Scheme != "file" || u.Opaque != "" {
		r.fail(tokenURLKey, "it is not a URL")
		return nil
	}
	switch u.Scheme = strings.ToLower(u.Scheme); u.Scheme {
	case "http":
		r.adapt(tokenURLKey, "secrets and tokens cross the network unencrypted: use https")
	case "https", "file":
	default:
		r.fail(tokenURLKey, `only "http", "https", and "file" are possible`)
		return nil
	}
	if !r.allowedURL(tokenURLKey) {
		return nil
	}
	return u
}

// oauthEndpoint reads how a token endpoint is asked. Its TLS is set up by options of the login module, as in
// JaasOptionsUtils, and not by the client's own ssl.* settings.
func (r *reader) oauthEndpoint(u *url.URL, entry jaasEntry) (oauthbearer.Endpoint, bool) {
	e := oauthbearer.Endpoint{
		URL: u.String(), Shown: r.written(tokenURLKey),
		// Kafka's default is to wait as long as the network does.
		ConnectTimeout: r.millis("sasl.login.connect.timeout.ms", 10*time.Second, 0),
		Backoff:        r.millis("sasl.login.retry.backoff.ms", 100*time.Millisecond, 0),
		BackoffMax:     r.millis("sasl.login.retry.backoff.max.ms", 10*time.Second, 0),
	}
	e.ReadTimeout = e.ConnectTimeout + r.millis("sasl.login.read.timeout.ms", 10*time.Second, 0)
	if e.BackoffMax < e.Backoff {
		r.fail("sasl.login.retry.backoff.max.ms", "it is less than sasl.login.retry.backoff.ms")
	}
	if u.Scheme != "https" {
		return e, true
	}
	var ok bool
	e.TLS, ok = r.jaasTLS(entry, u.Hostname())
	return e, ok
}

// jaasTLS reads TLS settings among the options of a login module.
func (r *reader) jaasTLS(entry jaasEntry, host string) (*tls.Config, bool) {
	options := config.Settings{}
	for name, value := range entry.options {
		if strings.HasPrefix(name, "ssl.") {
			options[name] = config.Setting{Written: config.Hidden, Value: config.NewSecret(value)}
		}
	}
	inner := newReader(guarded(options, r.settings), r.kind)
	settings := inner.tls()
	for _, p := range inner.problems {
		r.fail("sasl.jaas.config", "the option %s: %s", p.Key, p.Message)
	}
	if len(inner.problems) > 0 {
		return nil, false
	}
	return settings.config(host), true
}

// clientLogin reads the grant client_credentials, with a secret or an assertion. Settings win over
// the options of the login module, as in ConfigOrJaas.
func (r *reader) clientLogin(entry jaasEntry, l *oauthbearer.Login, e oauthbearer.Endpoint) proof {
	const idKey, secretKey = "sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.credentials.client.secret"
	id, shown := r.oauthValue(idKey, "clientId", entry)
	scope, _ := r.oauthValue("sasl.oauthbearer.scope", "scope", entry)
	encode := r.boolean("sasl.oauthbearer.header.urlencode", false)
	if r.text("sasl.oauthbearer.assertion.file", "") != "" || r.has("sasl.oauthbearer.assertion.claim.iss") {
		assertion := r.assertion()
		l.Retrieve = oauthbearer.ClientAssertion(e, id, scope, assertion)
		if id == "" {
			shown = "named by an assertion"
		}
		r.has(secretKey)
	} else {
		secret, _ := r.oauthValue(secretKey, "clientSecret", entry)
		if id == "" {
			r.fail(idKey, "it is not set, nor is the option clientId of sasl.jaas.config")
		}
		if secret == "" {
			r.fail(secretKey, "it is not set, nor is the option clientSecret of sasl.jaas.config")
		}
		l.Retrieve = oauthbearer.ClientSecret(e, config.NewSecret(id), config.NewSecret(secret), scope, encode)
	}
	return proof{mechanism: l.Mechanism(), user: config.NewSecret(id), principal: fmt.Sprintf("OAuth client %s of %s", shown, e.Shown)}
}

// oauthValue reads a value from a setting or else from an option of the login module, with what may be shown of it.
func (r *reader) oauthValue(key, option string, entry jaasEntry) (value, shown string) {
	if r.has(key) {
		return javaTrim(r.text(key, "")), r.written(key)
	}
	value = javaTrim(entry.options[option])
	return value, shownOption(r.settings["sasl.jaas.config"].Written, option, entry.options[option])
}

// bearerLogin reads the grant jwt-bearer.
func (r *reader) bearerLogin(l *oauthbearer.Login, e oauthbearer.Endpoint) proof {
	l.Retrieve = oauthbearer.JWTBearer(e, r.text("sasl.oauthbearer.scope", ""), r.assertion())
	who := "named by an assertion"
	if key := "sasl.oauthbearer.assertion.claim.sub"; r.has(key) {
		who = r.written(key)
	}
	return proof{mechanism: l.Mechanism(), principal: fmt.Sprintf("OAuth client %s of %s", who, e.Shown)}
}

// assertion reads sasl.oauthbearer.assertion.*, as AssertionSupplierFactory does.
func (r *reader) assertion() oauthbearer.Assertion {
	const prefix = "sasl.oauthbearer.assertion."
	if key := prefix + "file"; r.text(key, "") != "" {
		r.allowedFile(key)
		for k := range r.settings {
			if strings.HasPrefix(k, prefix) && k != key {
				r.ignore(k, key+" holds the assertion")
			}
		}
		return oauthbearer.AssertionFile(r.text(key, ""))
	}
	s := oauthbearer.Signed{
		Algorithm:    strings.ToUpper(r.text(prefix+"algorithm", "RS256")),
		KeyFile:      r.text(prefix+"private.key.file", ""),
		TemplateFile: r.text(prefix+"template.file", ""),
		Claims:       map[string]any{},
		Expires:      time.Duration(r.number(prefix+"claim.exp.seconds", 300, 0, 86400)) * time.Second,
		NotBefore:    time.Duration(r.number(prefix+"claim.nbf.seconds", 60, 0, 3600)) * time.Second,
		ID:           r.boolean(prefix+"claim.jti.include", false),
	}
	if s.Algorithm != "RS256" && s.Algorithm != "ES256" {
		r.invalid(prefix+"algorithm", "String must be one of (case insensitive): ES256, RS256")
	}
	if s.KeyFile == "" {
		r.fail(prefix+"private.key.file", "The OAuth configuration option %sprivate.key.file value is required", prefix)
	} else {
		r.allowedFile(prefix + "private.key.file")
	}
	if s.TemplateFile != "" {
		r.allowedFile(prefix + "template.file")
	}
	for _, claim := range []string{"aud", "iss", "sub"} {
		if v := r.text(prefix+"claim."+claim, ""); v != "" {
			s.Claims[claim] = v
		}
	}
	pass := config.NewSecret(r.text(prefix+"private.key.passphrase", ""))
	s.ParseKey = func(text string) (crypto.PrivateKey, error) { return pemKey(text, pass.Reveal()) }
	return s.Assertion
}

// extensionName and extensionValue are what OAuthBearerClientInitialResponse takes.
var (
	extensionName  = regexp.MustCompile(`^[A-Za-z]+$`)
	extensionValue = regexp.MustCompile(`^[\x21-\x7E \t\r\n]+$`)
)

// extensions reads the SASL extensions among the options of the login module.
func (r *reader) extensions(entry jaasEntry, prefix string) map[string]string {
	found := map[string]string{}
	for _, option := range slices.Sorted(maps.Keys(entry.options)) {
		name, ok := strings.CutPrefix(option, prefix)
		if !ok {
			continue
		}
		if value := entry.options[option]; name == "auth" || !extensionName.MatchString(name) || !extensionValue.MatchString(value) {
			r.fail("sasl.jaas.config", "an option %s… does not make a SASL extension: its name is letters, not auth, and its value is printable", prefix)
			return nil
		}
		found[name] = entry.options[option]
	}
	return found
}

// unsecuredLogin reads the options of OAuthBearerUnsecuredLoginCallbackHandler, Kafka's default: a token that
// nobody has signed, for tests and for brokers that trust their network.
func (r *reader) unsecuredLogin(entry jaasEntry, l *oauthbearer.Login) proof {
	const prefix, jaasKey = "unsecuredLogin", "sasl.jaas.config"
	l.Extensions = r.extensions(entry, prefix+"Extension_")
	claims, lifetime := map[string]any{}, int64(3600)
	l.SubjectClaim = "sub"
	for _, option := range slices.Sorted(maps.Keys(entry.options)) {
		value := entry.options[option]
		rest, ok := strings.CutPrefix(option, prefix)
		kind, claim, isClaim := strings.Cut(rest, "Claim_")
		switch {
		case !ok || strings.HasPrefix(rest, "Extension_"):
		case rest == "LifetimeSeconds":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n < 1 || n > 1<<31 {
				r.fail(jaasKey, "the option %s is not a number of seconds", option)
			}
			lifetime = n
		case rest == "PrincipalClaimName" && !blankText(value):
			l.SubjectClaim = javaTrim(value)
		case isClaim && (claim == "iat" || claim == "exp"):
			r.fail(jaasKey, "Cannot explicitly set the '%s' claim", claim)
		case isClaim && kind == "String":
			claims[claim] = value
		case isClaim && kind == "Number":
			if n, err := strconv.ParseFloat(value, 64); err == nil {
				if number, err := json.Marshal(n); err == nil {
					claims[claim] = json.RawMessage(number)
					break
				}
			}
			r.fail(jaasKey, "the option %sNumberClaim_… is not a number", prefix)
		case isClaim && kind == "List":
			claims[claim] = listClaim(value)
		}
	}
	subject, _ := claims[l.SubjectClaim].(string)
	if blankText(subject) {
		r.fail(jaasKey, "the login module needs the option %sStringClaim_%s: whom the token is for. "+
			"For tokens of a server set sasl.login.callback.handler.class=%s", prefix, "sub", oauthHandler)
		return proof{}
	}
	for key := range r.settings {
		if strings.HasPrefix(key, "sasl.oauthbearer.") {
			r.ignore(key, "without sasl.login.callback.handler.class="+oauthHandler+" tokens are made here, unsigned")
		}
	}
	l.Retrieve = oauthbearer.Unsecured(claims, time.Duration(lifetime)*time.Second)
	r.adapt("sasl.mechanism", "the token is not signed: anybody who reaches the broker can make the same")
	return proof{
		mechanism: l.Mechanism(), user: config.NewSecret(subject),
		principal: "User:" + shownOption(r.settings[jaasKey].Written, prefix+"StringClaim_"+l.SubjectClaim, subject),
	}
}

func blankText(s string) bool { return strings.TrimSpace(s) == "" }

// listClaim splits a list whose first letter says by what.
func listClaim(value string) []string {
	if len(value) < 2 {
		return []string{}
	}
	first := []rune(value)[0]
	return strings.Split(strings.TrimPrefix(value, string(first)), string(first))
}
