package mskiam

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"

	"barnabas/config"
)

// The keys of Amazon's documentation.
const (
	keyID  = "AKIAIOSFODNN7EXAMPLE"
	secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

func lines(t *testing.T, file string, into func([]byte)) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, scan := 0, bufio.NewScanner(f)
	for ; scan.Scan(); n++ {
		into(scan.Bytes())
	}
	if scan.Err() != nil || n < 6 {
		t.Fatalf("%s has %d lines: %v", file, n, scan.Err())
	}
}

// at reads the time and the lifetime that a vector was signed with.
func at(t *testing.T, date, lifetime string) (time.Time, time.Duration) {
	t.Helper()
	signed, err := time.Parse("20060102T150405Z", date)
	if err != nil {
		t.Fatal(err)
	}
	seconds, err := strconv.Atoi(lifetime)
	if err != nil {
		t.Fatal(err)
	}
	return signed, time.Duration(seconds) * time.Second
}

// TestPayloadIsThatOfAmazonsLibrary replays what Amazon's library for Java signs (testdata/Msk.java).
func TestPayloadIsThatOfAmazonsLibrary(t *testing.T) {
	t.Parallel()
	lines(t, "msk.jsonl", func(line []byte) {
		var want struct {
			Session string
			Payload map[string]string
		}
		if err := json.Unmarshal(line, &want); err != nil {
			t.Fatal(err)
		}
		host := want.Payload["host"]
		region := regionOf(host)
		if host == "broker.example" {
			region = "eu-west-1" // AWS_REGION of the vectors
		}
		date, lifetime := at(t, want.Payload["x-amz-date"], want.Payload["x-amz-expires"])
		got, err := signed(t.Context(), aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret, SessionToken: want.Session}, host, region, "agent/1 (x; y)", date, lifetime)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.Payload, got); diff != "" {
			t.Errorf("%s, session %q (-Java +here):\n%s", host, want.Session, diff)
		}
	})
}

// TestTokenIsThatOfAmazonsLibrary replays what Amazon's library for Python makes (testdata/tokens.py).
func TestTokenIsThatOfAmazonsLibrary(t *testing.T) {
	t.Parallel()
	parse := func(token string) *url.URL {
		text, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(string(text))
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	lines(t, "tokens.jsonl", func(line []byte) {
		var want struct{ Region, Session, Token string }
		if err := json.Unmarshal(line, &want); err != nil {
			t.Fatal(err)
		}
		theirs := parse(want.Token)
		query := theirs.Query()
		date, lifetime := at(t, query.Get("X-Amz-Date"), query.Get("X-Amz-Expires"))
		got, err := token(t.Context(), aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret, SessionToken: want.Session}, want.Region, query.Get("User-Agent"), date, lifetime)
		if err != nil {
			t.Fatal(err)
		}
		ours := parse(got.Reveal())
		if diff := cmp.Diff(query, ours.Query()); diff != "" || theirs.Host != ours.Host || theirs.Path != ours.Path || theirs.Scheme != ours.Scheme {
			t.Errorf("%s, session %q: %s (-Python +here):\n%s", want.Region, want.Session, ours.Host, diff)
		}
	})
}

func TestRegionIsInTheBrokersName(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"b-1.x.c2.kafka.eu-central-1.amazonaws.com": "eu-central-1", "B-1.X.C2.KAFKA.EU-CENTRAL-1.AMAZONAWS.COM": "eu-central-1",
		"b-1.my-cluster-1.x.c2.kafka.cn-northwest-1.amazonaws.com.cn": "cn-northwest-1", "kafka.us-iso-east-1.c2s.ic.gov": "us-iso-east-1",
		"127.0.0.1": "", "broker.example": "", "eu-central-1.amazonaws.com.evil.example": "", "x.amazonaws.com": "", "": "",
	} {
		if got := regionOf(host); got != want {
			t.Errorf("%q: region %q, want %q", host, got, want)
		}
	}
}

// tokenService answers like AWS's STS, with keys that name the role.
type tokenService struct {
	*httptest.Server
	mu      sync.Mutex
	asked   []url.Values
	signers []string
	fail    int
}

func newTokenService(t *testing.T) *tokenService {
	s := &tokenService{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked, s.signers = append(s.asked, r.Form), append(s.signers, r.Header.Get("Authorization"))
		if s.fail > 0 {
			s.fail--
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		if strings.HasSuffix(r.Form.Get("RoleArn"), "forbidden") {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `<ErrorResponse><Error><Code>AccessDenied</Code><Message>not authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>`)
			return
		}
		action := r.Form.Get("Action")
		fmt.Fprintf(w, `<%[1]sResponse><%[1]sResult><Credentials><AccessKeyId>KEY-OF-%[2]s</AccessKeyId><SecretAccessKey>canary</SecretAccessKey>`+
			`<SessionToken>canary</SessionToken><Expiration>%[3]s</Expiration></Credentials></%[1]sResult></%[1]sResponse>`,
			action, r.Form.Get("RoleArn"), time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *tokenService) options(o Options) Options {
	o.Attempts, o.MaxBackoff, o.Timeout, o.endpoint = 3, time.Millisecond, time.Minute, s.URL
	return o
}

// authenticate returns what is sent to a broker in Ireland.
func authenticate(t *testing.T, s *Signer) (map[string]string, error) {
	t.Helper()
	_, first, err := s.Mechanism().Authenticate(t.Context(), "b-1.x.c2.kafka.eu-west-1.amazonaws.com:9098")
	if err != nil {
		return nil, err
	}
	var sent map[string]string
	if err := json.Unmarshal(first, &sent); err != nil {
		t.Fatal(err)
	}
	return sent, nil
}

// TestEachConnectionHasItsRole logs in with two roles at once, by the web identity of one pod and by keys.
func TestEachConnectionHasItsRole(t *testing.T) {
	t.Parallel()
	service := newTokenService(t)
	identity := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(identity, []byte("projected-1"), 0o600); err != nil {
		t.Fatal(err)
	}
	orders := New(service.options(Options{Role: "arn:aws:iam::1:role/orders", WebIdentityFile: identity, SessionName: "s1"}))
	stock := New(service.options(Options{Role: "arn:aws:iam::1:role/stock", WebIdentityFile: identity}))
	keys := New(service.options(Options{
		Role: "arn:aws:iam::1:role/keys", ExternalID: "ext", STSRegion: "eu-west-1",
		Keys: Keys{ID: config.NewSecret(keyID), Secret: config.NewSecret(secret)},
	}))
	for range 2 {
		for signer, role := range map[*Signer]string{orders: "orders", stock: "stock", keys: "keys"} {
			sent, err := authenticate(t, signer)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(sent["x-amz-credential"], "KEY-OF-arn:aws:iam::1:role/"+role+"/") || !strings.HasSuffix(sent["x-amz-credential"], "/eu-west-1/kafka-cluster/aws4_request") {
				t.Errorf("%s signs as %s", role, sent["x-amz-credential"])
			}
		}
	}
	service.mu.Lock()
	defer service.mu.Unlock()
	if len(service.asked) != 3 {
		t.Errorf("%d requests for credentials, want one for each role", len(service.asked))
	}
	for i, form := range service.asked {
		switch form.Get("RoleArn") {
		case "arn:aws:iam::1:role/keys":
			if form.Get("Action") != "AssumeRole" || form.Get("ExternalId") != "ext" || form.Get("RoleSessionName") != "barnabas" || !strings.Contains(service.signers[i], keyID) || !strings.Contains(service.signers[i], "/eu-west-1/sts/") {
				t.Errorf("asked %v as %s", form, service.signers[i])
			}
		default:
			if form.Get("Action") != "AssumeRoleWithWebIdentity" || form.Get("WebIdentityToken") != "projected-1" || service.signers[i] != "" {
				t.Errorf("asked %v as %s", form, service.signers[i])
			}
		}
	}
}

func TestCredentialsThatCannotBeHadAreNamed(t *testing.T) {
	t.Parallel()
	service := newTokenService(t)
	service.fail = 2
	own := Keys{ID: config.NewSecret(keyID), Secret: config.NewSecret(secret), Session: config.NewSecret("canary")}
	if _, err := authenticate(t, New(service.options(Options{Role: "arn:aws:iam::1:role/a", Keys: own}))); err != nil {
		t.Errorf("after two failures: %v", err)
	}
	for want, o := range map[string]Options{
		"SASL AWS_MSK_IAM: no credentials of role arn:aws:iam::1:role/forbidden": {Role: "arn:aws:iam::1:role/forbidden", Keys: own},
		"no such file": {Role: "arn:aws:iam::1:role/a", WebIdentityFile: "/nowhere"},
		"settings of AWS for profile no-such-profile": {Profile: "no-such-profile"},
	} {
		_, err := authenticate(t, New(service.options(o)))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), secret) {
			t.Errorf("%v: %v, want %q", o, err, want)
		}
		if errors.Is(err, kerr.SaslAuthenticationFailed) != strings.Contains(want, "forbidden") {
			t.Errorf("%v: taken for a refusal, or not: %v", o, err)
		}
	}
	s := New(service.options(Options{Keys: own}))
	if _, _, err := s.Mechanism().Authenticate(t.Context(), "no-port"); err == nil {
		t.Error("an address without a port is taken")
	}
	sent, err := authenticate(t, s)
	if err != nil || !strings.HasPrefix(sent["x-amz-credential"], keyID+"/") || sent["x-amz-security-token"] != "canary" {
		t.Errorf("with keys: %v, %v", sent, err)
	}
}

// TestProfileIsOfTheSharedFiles has a profile in a file that the environment names, as the machine's own credentials.
func TestProfileIsOfTheSharedFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte("[orders]\naws_access_key_id = OF-PROFILE\naws_secret_access_key = x\nregion = eu-north-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	t.Setenv("AWS_ACCESS_KEY_ID", "OF-THE-MACHINE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "y")
	t.Setenv("AWS_REGION", "")
	for want, o := range map[string]Options{
		"OF-PROFILE/": {Profile: "orders", Timeout: time.Minute}, "OF-THE-MACHINE/": {Timeout: time.Minute},
	} {
		sent, err := authenticate(t, New(o))
		if err != nil || !strings.HasPrefix(sent["x-amz-credential"], want) {
			t.Errorf("%v: %v, %v, want %s", o, sent, err, want)
		}
	}
	got, err := New(Options{Profile: "orders", Timeout: time.Minute}).Token(t.Context())
	if text, _ := base64.RawURLEncoding.DecodeString(got.Reveal()); err != nil || !strings.HasPrefix(string(text), "https://kafka.eu-north-1.amazonaws.com/?") {
		t.Errorf("token: %s, %v", text, err)
	}
	if _, _, err := New(Options{Timeout: time.Minute}).Mechanism().Authenticate(t.Context(), "broker.example:9098"); err == nil || !strings.Contains(err.Error(), "awsRegion") {
		t.Errorf("without a region: %v", err)
	}
}
