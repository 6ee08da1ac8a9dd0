package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// prints are all the ways in which something may end in text.
func prints(t *testing.T, v any) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%10.3s", "%p"} {
		out[verb] = fmt.Sprintf(verb, v)
	}
	if text, err := json.Marshal(v); err == nil {
		out["json"] = string(text)
	}
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"slog text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"slog json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var b bytes.Buffer
		slog.New(handler(&b)).Info("m", "v", v, slog.Group("g", "v", v))
		out[name] = b.String()
	}
	out["error"] = fmt.Errorf("wrapped: %v", v).Error()
	return out
}

func TestNoWayOfPrintingRevealsAResolvedValue(t *testing.T) {
	t.Parallel()
	const canary = "canary-hunter2"
	secret := NewSecret(canary)
	setting := Setting{Written: "${file:/s:k}", Value: secret}
	settings := Settings{"topics": setting, "n": setting, "p": setting, "sasl.jaas.config": setting}
	values, _ := NewDef(Key{Name: "topics", Type: List}, Key{Name: "n"}, Key{Name: "p", Type: Password}, Key{Name: "sasl.jaas.config", Type: Password}).Parse(settings)
	type holder struct {
		S  Secret
		P  *Secret
		V  Setting
		M  Settings
		X  Values
		in Settings
	}
	worker, _, _ := ParseWorker(settings)
	for name, v := range map[string]any{
		"Secret": secret, "*Secret": &secret, "[]Secret": []Secret{secret}, "map": map[string]Secret{"a": secret}, "Setting": setting, "*Setting": &setting,
		"Settings": settings, "Values": values, "Value": values.Value("topics"), "[]Value": []Value{values.Value("n")},
		"holder": holder{secret, &secret, setting, settings, values, settings}, "*holder": &holder{secret, &secret, setting, settings, values, settings},
		"Worker": worker, "*Worker": &worker,
	} {
		for way, text := range prints(t, v) {
			if strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) || strings.Contains(text, fmt.Sprintf("%X", canary)) {
				t.Errorf("%s by %s holds the value: %s", name, way, text)
			}
		}
	}
	if got := fmt.Sprint(settings); !strings.Contains(got, "${file:/s:k}") {
		t.Errorf("printed settings do not show references: %s", got)
	}
}

func TestPrintedSettingsHideLiteralSecrets(t *testing.T) {
	t.Parallel()
	s := Literal(map[string]string{
		"producer.override.sasl.jaas.config": `org.x.PlainLoginModule required username="u" password="canary";`,
		"ssl.keystore.password":              "canary", "a.secret": "canary", "url": "jdbc:x?user=u&password=canary", "topics": "orders",
	})
	for way, text := range prints(t, s) {
		if strings.Contains(text, "canary") {
			t.Errorf("by %s: %s", way, text)
		}
	}
	if got := fmt.Sprint(s); !strings.Contains(got, "topics:orders") {
		t.Errorf("what is no secret is hidden: %s", got)
	}
}

func TestLiteralSecretsAreTold(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		key, written string
		password     bool
		want         bool
	}{
		{"anything", "hunter2", true, true},
		{"anything", "${file:/s:k}", true, false},
		{"anything", " $<env:K> ", true, false},
		{"anything", "x${file:/s:k}", true, true},
		{"anything", "", true, false},
		{"topics", "orders", false, false},
		{"ssl.key.password", "hunter2", false, true},
		{"producer.override.ssl.truststore.password", "hunter2", false, true},
		{"ssl.truststore.certificates", "-----BEGIN CERTIFICATE-----", true, false},
		{"sasl.oauthbearer.client.credentials.client.secret", "hunter2", false, true},
		{"sasl.oauthbearer.token.endpoint.url", "https://x/token", false, false},
		{"password.encoder.iterations", "4096", false, false},
		{"sasl.jaas.config", `a.B required username="u" password="hunter2";`, true, true},
		{"sasl.jaas.config", `a.B required username="u" password='hunter2';`, true, true},
		{"sasl.jaas.config", `a.B required username="u" password=hunter2;`, true, true},
		{"sasl.jaas.config", `a.B required username="u" password = "hunt\"er2";`, true, true},
		{"sasl.jaas.config", `a.B required username="u" password="${file:/s:p}";`, true, false},
		{"sasl.jaas.config", `a.B required username="$<env:U>" password="$<file:/s:p>";`, true, false},
		{"sasl.jaas.config", `a.B required username="u" password="${file:/s:p}x";`, true, true},
		{"sasl.jaas.config", `a.B required clientId="c" clientSecret="hunter2";`, true, true},
		{"sasl.jaas.config", `com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true keyTab="/k" storeKey=true;`, true, false},
		{"sasl.jaas.config", `software.amazon.msk.auth.iam.IAMLoginModule required;`, true, false},
		{"sasl.jaas.config", `hunter2`, true, true},
		{"sasl.jaas.config", `${file:/s:jaas}`, true, false},
		{"x", `a.B required password="hunter2";`, false, true},
	} {
		if got := LiteralSecret(row.key, row.written, row.password); got != row.want {
			t.Errorf("%s=%s (password %v): got %v", row.key, row.written, row.password, got)
		}
	}
}
