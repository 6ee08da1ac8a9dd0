package aws

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"barnabas/configprovider"
	"barnabas/e2e/kafka"
	"barnabas/e2e/process"
)

// moto starts the emulator of AWS that .ci/clients fetches from PyPI, and returns its address.
func moto(t *testing.T) string {
	t.Helper()
	python, err := filepath.Abs("../../.cache/clients/moto/bin/python")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(python), "..", "pins")); err != nil {
		t.Skip("no moto in .cache/clients: `make clients` fetches it")
	}
	ports, err := kafka.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(ports[0], ":")
	p, err := process.Start(process.Spec{Name: "moto", Path: python, Args: []string{"-m", "moto.server", "-H", host, "-p", port}, Log: filepath.Join(t.TempDir(), "moto.log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ports[0]+"/moto-api/data.json", nil)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			return "http://" + ports[0]
		}
		select {
		case <-p.Done():
			t.Fatalf("moto has ended:\n%s", p.Tail(20))
		case <-ctx.Done():
			t.Fatalf("moto does not answer:\n%s", p.Tail(20))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func resolver(t *testing.T, url string, extra map[string]string) *configprovider.Resolver {
	t.Helper()
	r, err := tryResolver(t, url, extra)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tryResolver makes one with the provider aws, and ssm with the same parameters.
func tryResolver(t *testing.T, url string, extra map[string]string) (*configprovider.Resolver, error) {
	t.Helper()
	worker := map[string]string{
		"config.providers":           "aws,ssm",
		"config.providers.aws.class": "com.amazonaws.kafka.config.providers.SecretsManagerConfigProvider",
		"config.providers.ssm.class": "com.amazonaws.kafka.config.providers.SsmParamStoreConfigProvider",
	}
	params := map[string]string{"region": "eu-central-1", "endpoint": url, "aws.access.key": "AKIACANARY", "aws.secret.key": "canary-key"}
	maps.Copy(params, extra)
	for k, v := range params {
		worker["config.providers.aws.param."+k], worker["config.providers.ssm.param."+k] = v, v
	}
	return configprovider.New(t.Context(), worker, Kinds())
}

// api is Amazon's own client, with which a test makes secrets.
func api(url string) aws.Config {
	return aws.Config{Region: "eu-central-1", BaseEndpoint: &url, Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")}
}

// cases are references, and what they are or why not.
func cases(t *testing.T, r *configprovider.Resolver, all map[string]string) {
	t.Helper()
	for ref, want := range all {
		settings, uses, err := r.Resolve(t.Context(), map[string]string{"k": ref})
		if err != nil {
			if reason, wrong := strings.CutPrefix(want, "!"); !wrong || !strings.Contains(err.Error(), reason) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%s: %v, want %q", ref, err, want)
			}
			continue
		}
		got := settings["k"].Value.Reveal()
		if uses[0].Version == "" || uses[0].TTL <= 0 {
			t.Errorf("%s: version %q, good for %s", ref, uses[0].Version, uses[0].TTL)
		}
		if got != want {
			t.Errorf("%s is %q, want %q", ref, got, want)
		}
	}
}

func TestSecretsOfSecretsManagerAreRead(t *testing.T) {
	t.Parallel()
	url := moto(t)
	sm := secretsmanager.NewFromConfig(api(url))
	create := func(name string, text *string, binary []byte) {
		t.Helper()
		if _, err := sm.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: &name, SecretString: text, SecretBinary: binary}); err != nil {
			t.Fatal(err)
		}
	}
	create("prod/orders", aws.String(`{"user":"u","password":"canary-1","port":5432}`), nil)
	create("plain", aws.String("canary-whole"), nil)
	create("binary", nil, []byte(`{"key":"canary-b"}`))
	create("bytes", nil, []byte{0xff, 0xfe})
	out, err := sm.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{SecretId: aws.String("prod/orders"), SecretString: aws.String(`{"user":"u","password":"canary-2"}`)})
	if err != nil {
		t.Fatal(err)
	}
	r := resolver(t, url, nil)
	cases(t, r, map[string]string{
		"${aws:prod/orders:password}":                                "canary-2",
		"${aws:prod/orders?stage=AWSPREVIOUS:password}":              "canary-1",
		"${aws:prod/orders?stage=AWSPREVIOUS:port}":                  "5432",
		"${aws:prod/orders?version=" + *out.VersionId + ":password}": "canary-2",
		"${aws:prod/orders:user?ttl=300000}":                         "u",
		"${aws:plain}":                                               "canary-whole",
		"${aws:binary:key}":                                          "canary-b",
		"${aws:plain:password}":                                      "!no JSON object",
		"${aws:bytes}":                                               "!no text",
		"${aws:prod/orders:pasword}":                                 `!it has "password"`,
		"${aws:none:x}":                                              "!no such secret",
		"${aws:none}":                                                "!no such secret",
		"${aws:../x:y}":                                              "!no empty part",
		"${aws:prod/orders?x=y:password}":                            "!version=…, stage=…",
	})
	_, uses, err := r.Resolve(t.Context(), map[string]string{"k": "${aws:prod/orders:password}"})
	if err != nil || uses[0].Version != *out.VersionId || uses[0].TTL != defaultTTL {
		t.Errorf("%+v %v, want version %s", uses, err, *out.VersionId)
	}
	cases(t, resolver(t, url, map[string]string{"secret.prefix": "prod/", "use.json": "false", "allowed.paths": "orders"}), map[string]string{
		"${aws:orders:orders}": `{"user":"u","password":"canary-2"}`, "${aws:plain}": "!outside allowed.paths",
	})
}

func TestParametersOfSystemsManagerAreRead(t *testing.T) {
	t.Parallel()
	url := moto(t)
	client := ssm.NewFromConfig(api(url))
	for _, value := range []string{"canary-1", "canary-2"} {
		_, err := client.PutParameter(t.Context(), &ssm.PutParameterInput{Name: aws.String("/msk/orders/password"), Value: &value, Type: types.ParameterTypeSecureString, Overwrite: aws.Bool(true)})
		if err != nil {
			t.Fatal(err)
		}
	}
	many := map[string]string{}
	for _, c := range "abcdefghijklm" {
		name := "/many/" + string(c)
		if _, err := client.PutParameter(t.Context(), &ssm.PutParameterInput{Name: &name, Value: aws.String("v" + string(c)), Type: types.ParameterTypeString}); err != nil {
			t.Fatal(err)
		}
		many[string(c)] = "${ssm:" + name + "}"
	}
	r := resolver(t, url, nil)
	cases(t, r, map[string]string{
		"${ssm:/msk/orders/password}":   "canary-2",
		"${ssm:/msk/orders:password}":   "canary-2",
		"${ssm:/msk/orders/:password}":  "canary-2",
		"${ssm:/msk/orders:password:1}": "canary-1",
		"${ssm:/msk/orders:none}":       "!has no key",
		"${ssm:/msk/../x}":              "!no empty part",
	})
	settings, uses, err := r.Resolve(t.Context(), many)
	if err != nil || len(settings) != 13 || settings["m"].Value.Reveal() != "vm" || uses[0].Version != "1" {
		t.Errorf("%v %v %v: more than one request holds", settings, uses, err)
	}
}

func TestWhatAWSRefusesIsToldFromWhatItCannotAnswer(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]struct {
		status            int
		body              string
		want              string
		unavailable, gone bool
	}{
		"denied":    {400, `{"__type":"AccessDeniedException","Message":"User canary-key is not authorized"}`, "answers AccessDeniedException: User [hidden]", false, false},
		"throttled": {400, `{"__type":"ThrottlingException","message":"Rate exceeded"}`, "answers ThrottlingException", true, false},
		"trouble":   {500, `{"__type":"InternalServiceError","Message":"oh"}`, "answers InternalServiceError", true, false},
		"proxy":     {503, `<html>canary</html>`, "answers 503 Service Unavailable", true, false},
		"gone":      {0, "", "cannot be asked", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/x-amz-json-1.1")
				w.WriteHeader(one.status)
				_, _ = w.Write([]byte(one.body))
			}))
			defer s.Close()
			if one.gone {
				s.Close()
			}
			r := resolver(t, s.URL, nil)
			for _, ref := range []string{"${aws:a:b}", "${ssm:/a}"} {
				_, _, err := r.Resolve(t.Context(), map[string]string{"k": ref})
				failed, ok := err.(*configprovider.Error) //nolint:errorlint // not wrapped by Resolve
				if !ok || failed.Unavailable() != one.unavailable || !strings.Contains(err.Error(), one.want) || strings.Contains(err.Error(), "canary") {
					t.Errorf("%s: %v", ref, err)
				}
			}
		})
	}
}

func TestWhatIsSetWrongIsSaid(t *testing.T) {
	t.Parallel()
	for want, params := range map[string]map[string]string{
		"belong together":         {"aws.secret.key": ""},
		"NotFoundStrategy=ignore": {"NotFoundStrategy": "ignore"},
		"that is no region":       {"region": "x.example"},
		"plain text; use https":   {"endpoint": "http://aws.example"},
		"did you mean \"region\"": {"regoin": "x"},
	} {
		if _, err := tryResolver(t, "https://127.0.0.1:1", params); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%v: %v, want %q", params, err, want)
		}
	}
}
