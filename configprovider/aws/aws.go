// Package aws reads secrets from AWS Secrets Manager and from the Parameter Store of AWS Systems Manager, with Amazon's own
// SDK: partitions, FIPS endpoints and the many ways to credentials are what it is for.
//
// Easy to get wrong: the SDK's errors hold whatever the service says and, of credentials, what the environment says. They
// are quoted in part, without the keys.
package aws

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/configprovider/remote"
)

// defaultTTL is how long what was read is good for. Each look is charged for.
const defaultTTL = time.Minute

// The parameters, by Amazon's names first, then by those of Confluent and Lenses.
var (
	paramRegion   = []string{"region", "aws.region"}
	paramEndpoint = []string{"endpoint", "endpoint.override", "aws.endpoint.override"}
	paramKey      = []string{"aws.access.key"}
	paramSecret   = []string{"aws.secret.key"}
	paramSession  = []string{"aws.session.token"}
	paramProfile  = []string{"aws.profile"}
	paramRole     = []string{"aws.role.arn"}
	paramExternal = []string{"aws.role.external.id"}
	paramMethod   = []string{"aws.auth.method"}
	paramMissing  = []string{"NotFoundStrategy"}
	paramPrefix   = []string{"secret.prefix"}
	paramJSON     = []string{"use.json"}
)

var params = slices.Concat(paramRegion, paramEndpoint, paramKey, paramSecret, paramSession, paramProfile, paramRole, paramExternal, paramMethod,
	paramMissing, paramPrefix, paramJSON, []string{remote.ParamTTL, remote.ParamTimeout, remote.ParamAllowed, remote.ParamPlain})

// Kinds are the providers ${aws:secret:key} and ${ssm:/path:name}.
func Kinds() []configprovider.Kind {
	return []configprovider.Kind{
		{
			Name: "aws-secrets-manager", Params: params, Open: openSecrets,
			Classes: []string{
				"com.amazonaws.kafka.config.providers.SecretsManagerConfigProvider",
				"io.confluent.csid.config.provider.aws.SecretsManagerConfigProvider",
				"com.github.jcustenborder.kafka.config.aws.SecretsManagerConfigProvider",
				"io.lenses.connect.secrets.providers.AWSSecretProvider",
			},
		},
		{Name: "aws-ssm", Params: params, Open: openParameters, Classes: []string{"com.amazonaws.kafka.config.providers.SsmParamStoreConfigProvider"}},
	}
}

// account is how AWS is reached, and what may be asked.
type account struct {
	region, endpoint string
	key              credentialsOf
	profile          string
	role, externalID string
	prefix           string
	json             bool
	ttl, timeout     time.Duration
	allowed          remote.Allowed
	mu               sync.Mutex
	loaded           *aws.Config
	attempts         int
	hidden           []config.Secret
}

type credentialsOf struct{ id, secret, session config.Secret }

func openAccount(settings config.Settings) (*account, error) {
	q := &remote.Params{Settings: settings}
	a := &account{
		region: q.Text(paramRegion...), key: credentialsOf{q.Secret(paramKey...), q.Secret(paramSecret...), q.Secret(paramSession...)},
		profile: q.Text(paramProfile...), role: q.Text(paramRole...), externalID: q.Text(paramExternal...), prefix: q.Text(paramPrefix...),
		json: q.Flag(true, paramJSON...), ttl: q.TTL(defaultTTL), timeout: q.Timeout(), allowed: q.Allowed(), attempts: 3,
	}
	a.hidden = []config.Secret{a.key.id, a.key.secret, a.key.session}
	if u := q.Address("", paramEndpoint...); u != nil {
		a.endpoint = u.String()
	}
	if a.region != "" && strings.Trim(a.region, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		q.Wrong(fmt.Errorf("%s: that is no region of AWS", paramRegion[0]))
	}
	id, secret := a.key.id.Reveal() != "", a.key.secret.Reveal() != ""
	if method := q.OneOf([]string{"", "default", "credentials"}, paramMethod...); method == "default" {
		a.key = credentialsOf{} // what is set besides has no meaning then, as in Lenses' provider
	} else if id != secret || method == "credentials" && !id {
		q.Wrong(fmt.Errorf("%s and %s belong together: both are needed", paramKey[0], paramSecret[0]))
	}
	if q.OneOf([]string{"fail", "ignore"}, paramMissing...) == "ignore" {
		q.Wrong(fmt.Errorf("%s=ignore: a secret that is missing always fails here; an empty password would be worse", paramMissing[0]))
	}
	return a, q.Err()
}

// config loads what the machine says of AWS, at the first request. A failure is tried again at the next.
func (a *account) config(ctx context.Context) (aws.Config, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.loaded != nil {
		return *a.loaded, nil
	}
	load := []func(*awsconfig.LoadOptions) error{awsconfig.WithRetryer(func() aws.Retryer {
		return retry.NewStandard(func(r *retry.StandardOptions) { r.MaxAttempts, r.MaxBackoff = a.attempts, time.Second })
	})}
	if a.region != "" {
		load = append(load, awsconfig.WithRegion(a.region))
	}
	if a.profile != "" {
		load = append(load, awsconfig.WithSharedConfigProfile(a.profile))
	}
	if a.key.id.Reveal() != "" {
		load = append(load, awsconfig.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(a.key.id.Reveal(), a.key.secret.Reveal(), a.key.session.Reveal())))
	}
	c, err := awsconfig.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return aws.Config{}, fmt.Errorf("settings of AWS: %s", remote.Quote(err.Error(), a.hidden...))
	}
	if c.Region == "" {
		return aws.Config{}, fmt.Errorf("the region is not known: neither %s nor the machine tells it", paramRegion[0])
	}
	if a.endpoint != "" {
		c.BaseEndpoint = &a.endpoint
	}
	if a.role != "" {
		role := stscreds.NewAssumeRoleProvider(sts.NewFromConfig(c), a.role, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = "barnabas"
			if a.externalID != "" {
				o.ExternalID = &a.externalID
			}
		})
		c.Credentials = aws.NewCredentialsCache(role, func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = time.Minute })
	}
	a.loaded = &c
	return c, nil
}

// wrong is an error of the SDK, as far as it is to be told. What AWS answered itself is final, unless it has trouble of its own.
func (a *account) wrong(what string, err error) error {
	var api smithy.APIError
	var answer *awshttp.ResponseError
	known := errors.As(err, &api) && api.ErrorCode() != "" && api.ErrorCode() != "UnknownError"
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return &configprovider.UnavailableError{Err: fmt.Errorf("%s gives no answer in time", what)}
	case !known && errors.As(err, &answer) && answer.HTTPStatusCode() > 0: // of something before it
		return &configprovider.UnavailableError{Err: fmt.Errorf("%s answers %d %s", what, answer.HTTPStatusCode(), http.StatusText(answer.HTTPStatusCode()))}
	case !known:
		return &configprovider.UnavailableError{Err: fmt.Errorf("%s cannot be asked: %s", what, remote.Quote(innermost(err).Error(), a.hidden...))}
	}
	said := fmt.Errorf("%s answers %s: %s", what, api.ErrorCode(), remote.Quote(api.ErrorMessage(), a.hidden...))
	if api.ErrorFault() == smithy.FaultServer || retry.IsErrorRetryables(retry.DefaultRetryables).IsErrorRetryable(err) == aws.TrueTernary {
		return &configprovider.UnavailableError{Err: said}
	}
	return said
}

// innermost leaves out what the SDK says of itself.
func innermost(err error) error {
	var op *smithy.OperationError
	for errors.As(err, &op) {
		err = op.Err
	}
	return remote.Reason(err)
}

// split takes a time to live off a key as Amazon's providers have it: "password?ttl=300000".
func split(key string) (name string, ttl time.Duration) {
	name, ms, ok := strings.Cut(key, "?ttl=")
	n, err := strconv.ParseInt(ms, 10, 32)
	if !ok || err != nil || n <= 0 {
		return key, 0
	}
	return name, time.Duration(n) * time.Millisecond
}
