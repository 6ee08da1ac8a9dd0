// Package mskiam logs Kafka clients in to Amazon MSK with IAM (SASL AWS_MSK_IAM, or a signed token for
// OAUTHBEARER), each under a role of its own. It knows no settings: clientconfig reads and guards them.
//
// Easy to get wrong: credentials that are named and cannot be had are an error. Amazon's Java library falls back to what
// the machine has, and a connector would go on as the worker.
package mskiam

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/sasl"

	"barnabas/config"
)

// Options say whose credentials sign. With none of Profile, Role and Keys they are what the machine has: environment, web
// identity, container, instance.
type Options struct {
	// Profile of the shared configuration (~/.aws, or where the environment says).
	Profile string
	// Role is the ARN of a role to assume: with Keys, with the token in WebIdentityFile, or with what the machine has.
	Role, SessionName, ExternalID string
	Keys                          Keys
	WebIdentityFile               string
	// Region of the brokers, where their names do not tell.
	Region string
	// STSRegion is the one whose STS is asked; empty is the global one.
	STSRegion string
	FIPS      bool
	// Attempts and MaxBackoff bound how often and with which pauses AWS is asked for credentials; Timeout all of it.
	Attempts   int
	MaxBackoff time.Duration
	Timeout    time.Duration
	// endpoint stands for AWS in tests.
	endpoint string
}

// Keys are an access key; Session is for temporary ones.
type Keys struct{ ID, Secret, Session config.Secret }

func (k Keys) set() bool { return k.ID.Reveal() != "" }

// Signer has one set of credentials and renews it.
type Signer struct {
	o Options

	mu       sync.Mutex // guards what follows, not the credentials' own retrieval
	provider aws.CredentialsProvider
	region   string // the machine's, or the profile's
}

// New remembers. It reads and asks nothing.
func New(o Options) *Signer { return &Signer{o: o} }

// Mechanism is what a Kafka client authenticates with.
func (s *Signer) Mechanism() sasl.Mechanism { return mechanism{s} }

type mechanism struct{ signer *Signer }

func (mechanism) Name() string { return "AWS_MSK_IAM" }

// Authenticate signs the broker's name.
func (m mechanism) Authenticate(ctx context.Context, address string) (sasl.Session, []byte, error) {
	first, err := m.signer.payload(ctx, address)
	if err != nil {
		return nil, nil, fmt.Errorf("SASL AWS_MSK_IAM: %w", err)
	}
	return session{}, first, nil
}

type session struct{}

// Challenge takes the broker's answer, JSON with an id of the request.
func (session) Challenge(answer []byte) (done bool, write []byte, err error) {
	if len(answer) == 0 {
		return false, nil, errors.New("SASL AWS_MSK_IAM: the broker did not answer")
	}
	return true, nil, nil
}

const (
	service   = "kafka-cluster"
	action    = "kafka-cluster:Connect"
	userAgent = "barnabas"
	// expires is how long a signature counts: AWS4SignedPayloadGenerator's 15 minutes.
	expires = 15 * time.Minute
)

func (s *Signer) payload(ctx context.Context, address string) ([]byte, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("the broker's address: %w", err)
	}
	creds, region, err := s.credentials(ctx, regionOf(host))
	if err != nil {
		return nil, err
	}
	fields, err := signed(ctx, creds, host, region, userAgent, time.Now(), expires)
	if err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

// signed are the fields of the first message of AWS_MSK_IAM, version 2020_10_22.
func signed(ctx context.Context, creds aws.Credentials, host, region, agent string, now time.Time, lifetime time.Duration) (map[string]string, error) {
	query, err := presign(ctx, creds, host, region, now, lifetime)
	if err != nil {
		return nil, err
	}
	fields := map[string]string{"version": "2020_10_22", "host": host, "user-agent": agent}
	for key, values := range query {
		fields[strings.ToLower(key)] = values[0]
	}
	return fields, nil
}

// presign returns the parameters of a signed request to connect.
func presign(ctx context.Context, creds aws.Credentials, host, region string, now time.Time, lifetime time.Duration) (url.Values, error) {
	parameters := url.Values{"Action": {action}, "X-Amz-Expires": {fmt.Sprint(int(lifetime.Seconds()))}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, (&url.URL{Scheme: "https", Host: host, Path: "/", RawQuery: parameters.Encode()}).String(), nil)
	if err != nil {
		return nil, errors.New("the broker's name is none")
	}
	empty := sha256.Sum256(nil)
	address, _, err := v4.NewSigner().PresignHTTP(ctx, creds, req, hex.EncodeToString(empty[:]), service, region, now.UTC())
	if err != nil {
		return nil, errors.New("the request cannot be signed")
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("the request cannot be signed")
	}
	return u.Query(), nil
}

// Token returns the token of OAUTHBEARER that MSK takes (IAMOAuthBearerLoginCallbackHandler).
func (s *Signer) Token(ctx context.Context) (config.Secret, error) {
	creds, region, err := s.credentials(ctx, "")
	if err != nil {
		return config.Secret{}, err
	}
	return token(ctx, creds, region, userAgent, time.Now(), expires)
}

// TokenLifetime is how long a Token counts.
const TokenLifetime = expires

func token(ctx context.Context, creds aws.Credentials, region, agent string, now time.Time, lifetime time.Duration) (config.Secret, error) {
	host := "kafka." + region + ".amazonaws.com"
	query, err := presign(ctx, creds, host, region, now, lifetime)
	if err != nil {
		return config.Secret{}, err
	}
	query.Set("User-Agent", agent)
	return config.NewSecret(base64.RawURLEncoding.EncodeToString([]byte("https://" + host + "/?" + query.Encode()))), nil
}

// regionName is a region of AWS.
var regionName = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$`)

// Region tells whether name can be one of a region. Names become part of addresses.
func Region(name string) bool { return regionName.MatchString(name) }

// suffixes of brokers' names, after the region.
var suffixes = []string{".amazonaws.com", ".amazonaws.com.cn", ".c2s.ic.gov", ".sc2s.sgov.gov", ".amazonaws.eu", ".api.aws"}

// regionOf returns the region that a broker's name tells, or "".
func regionOf(host string) string {
	for _, suffix := range suffixes {
		if rest, ok := strings.CutSuffix(strings.ToLower(host), suffix); ok {
			if region := rest[strings.LastIndexByte(rest, '.')+1:]; Region(region) {
				return region
			}
		}
	}
	return ""
}

// credentials returns what signs now, and for which region.
func (s *Signer) credentials(ctx context.Context, region string) (aws.Credentials, string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	provider, machines, err := s.open(ctx)
	if err != nil {
		return aws.Credentials{}, "", err
	}
	for _, r := range []string{s.o.Region, region, machines} {
		if region = r; region != "" {
			break
		}
	}
	if !Region(region) {
		return aws.Credentials{}, "", errors.New("the region is not known: neither the broker's name tells it nor the option awsRegion")
	}
	creds, err := provider.Retrieve(ctx)
	if err != nil {
		if api, is := errors.AsType[smithy.APIError](err); is && api.ErrorFault() != smithy.FaultServer && status(err)/100 == 4 {
			return aws.Credentials{}, "", refusal{fmt.Errorf("no credentials of %s: %w", s.o, s.o.hide(err))}
		}
		return aws.Credentials{}, "", fmt.Errorf("no credentials of %s: %w", s.o, s.o.hide(err))
	}
	return creds, region, nil
}

// refusal is an error by which AWS refuses who asks, in place of the broker; callers judge it alike.
type refusal struct{ error }

func (r refusal) Unwrap() []error { return []error{r.error, kerr.SaslAuthenticationFailed} }

// status is the HTTP status of an answer of AWS, or 0.
func status(err error) int {
	if answer, is := errors.AsType[*awshttp.ResponseError](err); is {
		return answer.HTTPStatusCode()
	}
	return 0
}

// String says whose credentials the options name.
func (o Options) String() string {
	switch {
	case o.Profile != "":
		return "profile " + o.Profile
	case o.Role != "":
		return "role " + o.Role
	case o.Keys.set():
		return "the access key"
	}
	return "the machine"
}

// hide takes the secrets out of an error of the SDK.
func (o Options) hide(err error) error {
	text := err.Error()
	for _, s := range []config.Secret{o.Keys.ID, o.Keys.Secret, o.Keys.Session} {
		if v := s.Reveal(); v != "" {
			text = strings.ReplaceAll(text, v, config.Hidden)
		}
	}
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}

// open makes the provider of credentials at the first call.
func (s *Signer) open(ctx context.Context) (aws.CredentialsProvider, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.provider != nil {
		return s.provider, s.region, nil
	}
	o := s.o
	retryer := func() aws.Retryer {
		return retry.NewStandard(func(r *retry.StandardOptions) { r.MaxAttempts, r.MaxBackoff = max(1, o.Attempts), o.MaxBackoff })
	}
	load := []func(*awsconfig.LoadOptions) error{awsconfig.WithRetryer(retryer)}
	if o.Profile != "" {
		load = append(load, awsconfig.WithSharedConfigProfile(o.Profile))
	}
	if o.Keys.set() {
		load = append(load, awsconfig.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(o.Keys.ID.Reveal(), o.Keys.Secret.Reveal(), o.Keys.Session.Reveal())))
	}
	machine, err := awsconfig.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, "", fmt.Errorf("settings of AWS for %s: %w", o, o.hide(err))
	}
	provider := machine.Credentials
	if o.Role != "" && o.Profile == "" {
		provider = o.assume(machine)
	}
	if provider == nil {
		return nil, "", errors.New("no credentials: neither options of sasl.jaas.config name some nor does the machine have any")
	}
	s.provider = aws.NewCredentialsCache(provider, func(c *aws.CredentialsCacheOptions) {
		c.ExpiryWindow, c.ExpiryWindowJitterFrac = time.Minute, 0.5
	})
	s.region = machine.Region
	return s.provider, s.region, nil
}

// assume returns the credentials of the role.
func (o Options) assume(machine aws.Config) aws.CredentialsProvider {
	client := sts.NewFromConfig(machine, func(c *sts.Options) {
		if c.Region = o.STSRegion; c.Region == "" {
			c.Region = "aws-global"
		}
		if o.FIPS {
			c.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateEnabled
		}
		if o.endpoint != "" {
			c.BaseEndpoint = &o.endpoint
		}
	})
	name := o.SessionName
	if name == "" {
		name = "barnabas"
	}
	if o.WebIdentityFile != "" {
		return stscreds.NewWebIdentityRoleProvider(client, o.Role, stscreds.IdentityTokenFile(o.WebIdentityFile), func(w *stscreds.WebIdentityRoleOptions) {
			w.RoleSessionName = name
		})
	}
	return stscreds.NewAssumeRoleProvider(client, o.Role, func(a *stscreds.AssumeRoleOptions) {
		a.RoleSessionName = name
		if o.ExternalID != "" {
			a.ExternalID = &o.ExternalID
		}
	})
}
