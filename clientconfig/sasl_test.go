package clientconfig

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
)

// login builds an admin client and talks to the cluster at address with it.
func login(t *testing.T, address string, written map[string]string) (*Client, error) {
	t.Helper()
	written["bootstrap.servers"] = address
	c, err := Build(config.Literal(written), Admin)
	if err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(append(c.Opts, kgo.Dialer(c.Dial))...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return c, cl.Ping(ctx)
}

func jaasFor(mechanism, user, password string) string {
	return fmt.Sprintf(`%s required username="%s" password="%s";`, mechanisms[mechanism], user, password)
}

func TestSASLLogsIn(t *testing.T) {
	t.Parallel()
	cert, err := tls.LoadX509KeyPair(store("server.pem"), store("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		for _, protocol := range []string{"SASL_PLAINTEXT", "SASL_SSL"} {
			t.Run(mechanism+" "+protocol, func(t *testing.T) {
				t.Parallel()
				opts := []kfake.Opt{kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser(mechanism, "orders-ro", `p"a\s,s=`)}
				if protocol == "SASL_SSL" {
					opts = append(opts, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}}))
				}
				cluster, err := kfake.NewCluster(opts...)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(cluster.Close)
				address := cluster.ListenAddrs()[0]
				settings := func(password string) map[string]string {
					return map[string]string{
						"security.protocol": protocol, "sasl.mechanism": mechanism,
						"sasl.jaas.config":    jaasFor(mechanism, "orders-ro", password),
						"ssl.truststore.type": "PEM", "ssl.truststore.location": store("ca.pem"),
					}
				}
				c, err := login(t, address, settings(`p\"a\\s,s=`))
				if err != nil {
					t.Fatal(err)
				}
				r := c.Report
				if r.Principal != "User:orders-ro" || r.Mechanism != mechanism || r.Protocol != protocol || c.User.Reveal() != "orders-ro" {
					t.Errorf("report %+v", r)
				}
				_, err = login(t, address, settings("canary-pass"))
				if err == nil || strings.Contains(err.Error(), "canary") {
					t.Errorf("wrong password: got error %v", err)
				}
			})
		}
	}
}

func TestLoginModulesAreRefusedByName(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mechanism, jaas, want string
	}{
		{"PLAIN", "com.sun.security.auth.module.JndiLoginModule required user.provider.url=\"ldap://x\";", "com.sun.security.auth.module.JndiLoginModule is not allowed"},
		{"SCRAM-SHA-256", "com.sun.security.auth.module.LdapLoginModule required;", "com.sun.security.auth.module.LdapLoginModule is not allowed"},
		{"PLAIN", "com.example.OwnLoginModule required username=a password=canary;", "login module com.example.OwnLoginModule is not supported"},
		{"PLAIN", scramModule + " required username=a password=canary;", "ScramLoginModule does not fit sasl.mechanism PLAIN"},
		{"SCRAM-SHA-512", plainModule + " required username=a password=canary;", "PlainLoginModule does not fit sasl.mechanism SCRAM-SHA-512"},
		{"PLAIN", "canary required username=a password=canary;", "not the name of a Java class"},
		{"PLAIN", `"" required username=a password=canary;`, "not the name of a Java class"},
		{"PLAIN", plainModule + " required username=a;", "username and password"},
		{"PLAIN", plainModule + " required password=canary;", "username and password"},
		{"PLAIN", plainModule + ` required username="" password=canary;`, "username and password"},
		{"PLAIN", jaasFor("PLAIN", "a", "canary") + jaasFor("PLAIN", "b", "canary"), "JAAS config property contains 2 login modules, should be 1 module"},
		{"PLAIN", plainModule + " required username=a password=canary canary2;", errJAASNoValue.Error()},
		{"PLAIN", plainModule + " required username=a password=canary", errJAASSemicolon.Error()},
		{"PLAIN", plainModule + " canary username=a;", errJAASFlag.Error()},
		{"PLAIN", "canary", errJAASNoFlag.Error()},
		{"PLAIN", "", errJAASEmpty.Error()},
	} {
		_, err := build(Admin, map[string]string{"security.protocol": "SASL_SSL", "sasl.mechanism": tt.mechanism, "sasl.jaas.config": tt.jaas})
		if err == nil || !strings.Contains(err.Error(), "sasl.jaas.config: ") || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s with %q: got error %v, want %q", tt.mechanism, tt.jaas, err, tt.want)
		}
	}
	_, err := build(Admin, map[string]string{"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"})
	if err == nil || !strings.Contains(err.Error(), "Could not find a 'KafkaClient' entry in the JAAS configuration") {
		t.Errorf("without sasl.jaas.config: got error %v", err)
	}
}

// TestPrincipalShowsReferencesNotTheirValues resolves user names in several ways.
func TestPrincipalShowsReferencesNotTheirValues(t *testing.T) {
	t.Parallel()
	full := jaasFor("PLAIN", "canary-user", "canary-pass")
	for _, tt := range []struct {
		written, resolved, want string
	}{
		{jaasFor("PLAIN", "orders", "${file:/k:pw}"), jaasFor("PLAIN", "orders", "canary-pass"), "User:orders"},
		{jaasFor("PLAIN", "${file:/k:user}", "${file:/k:pw}"), full, "User:${file:/k:user}"},
		{jaasFor("PLAIN", "svc-$<env:STAGE>", "x"), jaasFor("PLAIN", "svc-canary", "x"), "User:svc-$<env:STAGE>"},
		{"${file:/k:jaas}", full, "User:${file:/k:jaas}"},
		{plainModule + " required username=${file:/k:user} password=${file:/k:pw};", plainModule + " required username=canary-user password=canary-pass;", "User:${file:/k:user}"},
		{
			plainModule + ` required username="orders" password="${file:/k:pw}";`,
			plainModule + ` required username="orders" password="x" username="canary-other";`, "User:${file:/k:pw}",
		},
	} {
		settings := config.Literal(map[string]string{"bootstrap.servers": "a:1", "security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"})
		settings["sasl.jaas.config"] = config.Setting{Written: tt.written, Value: config.NewSecret(tt.resolved)}
		c, err := Build(settings, Admin)
		if err != nil {
			t.Fatalf("%q: %v", tt.written, err)
		}
		if c.Report.Principal != tt.want {
			t.Errorf("%q: principal %q, want %q", tt.written, c.Report.Principal, tt.want)
		}
	}
}

// TestNothingResolvedIsShown gives every key a secret value that came from a
// reference, right and wrong ones, and searches all that can be printed for it.
func TestNothingResolvedIsShown(t *testing.T) {
	t.Parallel()
	good := map[string]string{
		"bootstrap.servers": "canary:9092", "client.id": "canary", "client.rack": "canary", "transactional.id": "canary",
		"sasl.jaas.config": jaasFor("PLAIN", "canary-user", "canary-pass"),
	}
	for _, kind := range []Kind{Producer, Consumer, Admin} {
		for _, protocol := range []string{"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"} {
			base := config.Literal(map[string]string{"bootstrap.servers": "a:1", "security.protocol": protocol, "sasl.mechanism": "PLAIN"})
			all := config.Settings{}
			for key := range knownKeys {
				for _, value := range []string{"canary", good[key]} {
					one := config.Settings{key: {Written: "${file:/k:" + key + "}", Value: config.NewSecret(value)}}
					mustNotShow(t, base.Merge(one), kind)
					all = all.Merge(one)
				}
			}
			mustNotShow(t, all, kind)
			mustNotShow(t, all.Merge(base), kind)
		}
	}
	// Literal secrets are not shown either.
	literal := map[string]string{"security.protocol": "SSL"}
	for key, known := range knownKeys {
		if known.typ == passwordKey {
			literal[key] = "canary"
		}
	}
	for _, name := range []string{"keystore.jks", "keystore-openssl.p12", "keystore-encrypted.pem"} {
		literal["ssl.truststore.location"] = store("truststore.jks")
		literal["ssl.keystore.location"] = store(name)
		for _, typ := range []string{"JKS", "PEM"} {
			literal["ssl.keystore.type"], literal["ssl.truststore.type"] = typ, typ
			mustNotShow(t, config.Literal(literal), Admin)
			for _, inline := range []string{"ssl.keystore.key", "ssl.keystore.certificate.chain", "ssl.truststore.certificates"} {
				without := maps.Clone(literal)
				delete(without, inline)
				mustNotShow(t, config.Literal(without), Admin)
			}
		}
	}
}

func mustNotShow(t *testing.T, settings config.Settings, kind Kind) {
	t.Helper()
	c, err := Build(settings, kind)
	text := fmt.Sprintf("%v %+v %#v", err, err, Problems(err))
	if c != nil {
		text += fmt.Sprintf("%v %+v %#v %v %+v", c.Report, c.Report, c.Report, c.User, c)
	}
	if strings.Contains(text, "canary") {
		t.Errorf("%s with %v shows a secret: %s", kind, settings.Written(), text)
	}
}
