package clientconfig

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"

	"barnabas/config"
	"barnabas/connector"
)

// oauth are the settings of a client with a token from url, and more.
func oauth(url string, more map[string]string) map[string]string {
	all := map[string]string{
		"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER", "sasl.jaas.config": oauthModule + " required;",
		"sasl.login.callback.handler.class": oauthHandler, "sasl.oauthbearer.token.endpoint.url": url, AllowedURLsKey: url,
		"sasl.oauthbearer.client.credentials.client.id": "orders", "sasl.oauthbearer.client.credentials.client.secret": "canary",
	}
	maps.Copy(all, more)
	return all
}

// first authenticates with what settings come to and returns the first message.
func first(t *testing.T, written map[string]string) (string, error) {
	t.Helper()
	c, err := build(Admin, written)
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(c.Opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	_, message, err := cl.OptValue(kgo.SASL).([]sasl.Mechanism)[0].Authenticate(t.Context(), "localhost:9092")
	return string(message), err
}

func TestOAuthSettingsAreJudged(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "key.pem")
	const url = "https://idp.example/token"
	none := map[string]string{"sasl.oauthbearer.client.credentials.client.id": "", "sasl.oauthbearer.client.credentials.client.secret": ""}
	for name, tt := range map[string]struct {
		settings map[string]string
		want     string // of the error, or of the principal
	}{
		"secret":                 {oauth(url, nil), "OAuth client orders of " + url},
		"older class":            {oauth(url, map[string]string{"sasl.login.callback.handler.class": oldOAuthHandler}), "OAuth client orders of"},
		"JAAS options":           {without(oauth(url, map[string]string{"sasl.jaas.config": oauthModule + ` required clientId="jaas" clientSecret="canary" scope="x" extension_logicalCluster="lkc";`}), none), "OAuth client jaas of"},
		"allowed among others":   {oauth(url, map[string]string{AllowedURLsKey: "https://a, " + url + ",https://b"}), "OAuth client orders"},
		"not allowed":            {oauth(url, map[string]string{AllowedURLsKey: "https://idp.example/"}), "the URL https://idp.example/token may not be accessed: whoever runs the worker can add it to " + AllowedURLsKey},
		"no list":                {without(oauth(url, nil), map[string]string{AllowedURLsKey: ""}), "may not be accessed"},
		"a local file":           {oauth("file:///etc/passwd", map[string]string{AllowedURLsKey: url}), "the URL file:///etc/passwd may not be accessed"},
		"another scheme":         {oauth("gopher://idp/x", nil), `only "http", "https", and "file" are possible`},
		"no URL":                 {oauth("canary", nil), "it is not a URL"},
		"none":                   {oauth("", nil), "value is required"},
		"file":                   {oauth("file:///run/token", nil), "the subject of the token in file:///run/token"},
		"file without file":      {oauth(url, map[string]string{"sasl.oauthbearer.jwt.retriever.class": oauthPackage + "FileJwtRetriever"}), "the URL must begin with file:"},
		"secret from a file":     {oauth("file:///run/token", map[string]string{"sasl.oauthbearer.jwt.retriever.class": oauthPackage + "ClientCredentialsJwtRetriever"}), "a token is asked for with http"},
		"own handler":            {oauth(url, map[string]string{"sasl.login.callback.handler.class": "com.example.Handler"}), "the class com.example.Handler is not supported"},
		"own retriever":          {oauth(url, map[string]string{"sasl.oauthbearer.jwt.retriever.class": "com.example.Retriever"}), "the class com.example.Retriever is not supported; it may be"},
		"own validator":          {oauth(url, map[string]string{"sasl.oauthbearer.jwt.validator.class": oauthPackage + "BrokerJwtValidator"}), "BrokerJwtValidator is not supported"},
		"own login":              {oauth(url, map[string]string{"sasl.login.class": "com.example.Login"}), "the class com.example.Login is not supported"},
		"no secret":              {without(oauth(url, nil), none), "client.id: it is not set, nor is the option clientId"},
		"window":                 {oauth(url, map[string]string{"sasl.login.refresh.window.factor": "0.4"}), "Value must be at least 0.5"},
		"backoff":                {oauth(url, map[string]string{"sasl.login.retry.backoff.ms": "20000"}), "it is less than sasl.login.retry.backoff.ms"},
		"extension":              {oauth(url, map[string]string{"sasl.jaas.config": oauthModule + ` required extension_auth="canary";`}), "does not make a SASL extension"},
		"truststore":             {oauth(url, map[string]string{"sasl.jaas.config": oauthModule + ` required ssl.truststore.location="/canary";`}), "the option ssl.truststore.location: read [hidden]: no such file"},
		"bearer":                 {without(oauth(url, map[string]string{"sasl.oauthbearer.jwt.retriever.class": oauthPackage + "JwtBearerJwtRetriever", "sasl.oauthbearer.assertion.private.key.file": key, AllowedFilesKey: key, "sasl.oauthbearer.assertion.claim.sub": "orders"}), none), "OAuth client orders of"},
		"key not allowed":        {oauth(url, map[string]string{"sasl.oauthbearer.assertion.claim.iss": "x", "sasl.oauthbearer.assertion.private.key.file": key}), "the file " + key + " may not be accessed"},
		"no key":                 {oauth(url, map[string]string{"sasl.oauthbearer.assertion.claim.iss": "x"}), "private.key.file value is required"},
		"assertion not allowed":  {oauth(url, map[string]string{"sasl.oauthbearer.assertion.file": "/etc/passwd"}), "the file /etc/passwd may not be accessed"},
		"assertion":              {without(oauth(url, map[string]string{"sasl.oauthbearer.assertion.file": "/run/a", AllowedFilesKey: "/run/a"}), none), "OAuth client named by an assertion of"},
		"algorithm":              {oauth(url, map[string]string{"sasl.oauthbearer.assertion.claim.iss": "x", "sasl.oauthbearer.assertion.algorithm": "none"}), "must be one of (case insensitive): ES256, RS256"},
		"unsigned":               {unsigned(`unsecuredLoginStringClaim_sub="orders"`), "User:orders"},
		"unsigned, other claim":  {unsigned(`unsecuredLoginStringClaim_azp="orders" unsecuredLoginPrincipalClaimName="azp"`), "User:orders"},
		"unsigned, nobody":       {unsigned(``), "needs the option unsecuredLoginStringClaim_sub"},
		"unsigned, reserved":     {unsigned(`unsecuredLoginStringClaim_sub="o" unsecuredLoginNumberClaim_exp="1"`), "Cannot explicitly set the 'exp' claim"},
		"unsigned, no number":    {unsigned(`unsecuredLoginStringClaim_sub="o" unsecuredLoginNumberClaim_n="canary"`), "is not a number"},
		"unsigned, wrong number": {unsigned(`unsecuredLoginStringClaim_sub="o" unsecuredLoginNumberClaim_n="NaN"`), "is not a number"},
		"unsigned, no lifetime":  {unsigned(`unsecuredLoginStringClaim_sub="o" unsecuredLoginLifetimeSeconds="canary"`), "is not a number of seconds"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := build(Admin, tt.settings)
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				got = c.Report.Principal
			}
			if !strings.Contains(got, tt.want) || strings.Contains(got, "canary") {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func unsigned(options string) map[string]string {
	return map[string]string{"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER", "sasl.jaas.config": oauthModule + " required " + options + ";"}
}

func without(settings, keys map[string]string) map[string]string {
	for key := range keys {
		delete(settings, key)
	}
	return settings
}

// TestGuardsAreTheWorkersAlone puts lists of what is allowed into a connector's own settings.
func TestGuardsAreTheWorkersAlone(t *testing.T) {
	t.Parallel()
	for _, worker := range []map[string]string{{}, {AllowedURLsKey: "https://other"}} {
		conn := map[string]string{"source.cluster.bootstrap.servers": "a:1"}
		for key, value := range oauth("https://evil/token", map[string]string{AllowedPathsKey: "/", KerberosKey: "/tmp/krb5.conf"}) {
			conn["source.cluster."+key], conn["consumer.override."+key] = value, value
		}
		layers := Layers(connector.SourceConsumer, config.Literal(worker), config.Literal(conn))
		for _, key := range workerOnly {
			if got := layers[key].Written; got != worker[key] {
				t.Errorf("%s is %q, the worker has %q", key, got, worker[key])
			}
		}
		if _, err := Build(layers, Consumer); err == nil || !strings.Contains(err.Error(), "may not be accessed") {
			t.Errorf("got %v", err)
		}
	}
}

func TestPathsOutsideTheAllowedOnesAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	outside, err := filepath.Abs(store("truststore.jks"))
	if err != nil {
		t.Fatal(err)
	}
	inside, link := filepath.Join(dir, "in", "t.jks"), filepath.Join(dir, "in", "link.jks")
	data, err := os.ReadFile(outside)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(inside), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(inside, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path, allowed string
		ok            bool
	}{
		{inside, filepath.Join(dir, "in"), true},
		{inside, "/nowhere," + inside, true},
		{inside, "/", true},
		{inside, filepath.Join(dir, "i"), false},
		{outside, filepath.Join(dir, "in"), false},
		{link, filepath.Join(dir, "in"), false},
		{filepath.Join(dir, "in") + "/../../../../../../../../../.." + outside, filepath.Join(dir, "in"), false},
		{inside, "", false},
		{inside, ".", false},
	} {
		_, err := build(Admin, map[string]string{"security.protocol": "SSL", "ssl.truststore.location": tt.path, AllowedPathsKey: tt.allowed})
		if (err == nil) != tt.ok || err != nil && !strings.Contains(err.Error(), "may not be accessed") {
			t.Errorf("%s with %q allowed: %v", tt.path, tt.allowed, err)
		}
	}
}

func TestUnsignedTokenIsKafkas(t *testing.T) {
	t.Parallel()
	message, err := first(t, unsigned(`unsecuredLoginStringClaim_sub="orders" unsecuredLoginNumberClaim_n="1.5" unsecuredLoginListClaim_scope="|a|b" unsecuredLoginExtension_traceId="7"`))
	if err != nil || !strings.HasPrefix(message, "n,,\x01auth=Bearer eyJhbGciOiJub25lIn0.") || !strings.HasSuffix(message, ".\x01traceId=7\x01\x01") {
		t.Errorf("got %q, %v", message, err)
	}
}

// TestNothingResolvedOfALoginIsShown has whole logins out of references, and each setting of OAUTHBEARER and Kerberos.
func TestNothingResolvedOfALoginIsShown(t *testing.T) {
	t.Parallel()
	for mechanism, texts := range map[string][]string{
		"OAUTHBEARER": {
			oauthModule + ` required clientId="canary" clientSecret="canary" scope="canary" extension_a="canary" ssl.truststore.location="/canary" ssl.truststore.password="canary";`,
			oauthModule + ` required unsecuredLoginStringClaim_sub="canary" unsecuredLoginNumberClaim_canary="x" canary="canary";`,
			oauthModule + ` required awsProfileName="canary"; `, oauthModule + ` required awscanary="canary";`,
		},
		"GSSAPI": {
			kerberosModule + ` required useKeyTab=true keyTab="/canary" principal="canary@CANARY" serviceName="canary";`,
			kerberosModule + ` required useTicketCache=true ticketCache="/canary" principal="canary";`,
		},
		"AWS_MSK_IAM": {
			mskModule + ` required awsRoleArn="canary" awsRoleAccessKeyId="canary" awsRoleSecretAccessKey="canary" awsRoleSessionToken="canary" awsStsRegion="canary";`,
			mskModule + ` required awsRoleArn="canary" awsWebIdentityTokenFile="/canary";`, mskModule + ` required awsAccessKeyId="canary" awsSecretAccessKey="canary";`,
		},
	} {
		for _, text := range texts {
			for _, handler := range []string{oauthHandler, unsecuredHandler, mskOAuthHandler, "canary"} {
				for _, url := range []string{"https://canary/", "file:///canary", "canary"} {
					settings := config.Literal(map[string]string{"bootstrap.servers": "a:1", "security.protocol": "SASL_SSL", "sasl.mechanism": mechanism, KerberosKey: "/nowhere"})
					secret := func(value string) config.Setting {
						return config.Setting{Written: "${file:/k:x}", Value: config.NewSecret(value)}
					}
					settings["sasl.jaas.config"] = secret(text)
					settings["sasl.oauthbearer.token.endpoint.url"], settings[AllowedURLsKey] = secret(url), config.Literal(map[string]string{"k": url})["k"]
					settings["sasl.login.callback.handler.class"] = secret(handler)
					mustNotShow(t, settings, Admin)
					for key := range knownKeys {
						if strings.HasPrefix(key, "sasl.oauthbearer.") || strings.HasPrefix(key, "sasl.kerberos.") || strings.HasPrefix(key, "sasl.login.") {
							settings[key] = secret("canary")
						}
					}
					mustNotShow(t, settings, Admin)
				}
			}
		}
	}
}
