package clientconfig

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"barnabas/clientconfig/mskiam"
	"barnabas/clientconfig/oauthbearer"
	"barnabas/config"
)

const (
	mskModule       = "software.amazon.msk.auth.iam.IAMLoginModule"
	mskHandler      = "software.amazon.msk.auth.iam.IAMClientCallbackHandler"
	mskOAuthHandler = "software.amazon.msk.auth.iam.IAMOAuthBearerLoginCallbackHandler"
)

// mskOptions are those of the login module: Amazon's (MSKCredentialProvider of aws-msk-iam-auth 2.3.5), then ours.
var mskOptions = []string{
	"awsProfileName", "awsRoleArn", "awsRoleExternalId", "awsRoleAccessKeyId", "awsRoleSecretAccessKey", "awsRoleSessionName",
	"awsRoleSessionToken", "awsStsRegion", "awsAddDefaultProviders", "awsDebugCreds", "awsShouldUseFips", "awsMaxRetries", "awsMaxBackOffTimeMs",
	"awsAccessKeyId", "awsSecretAccessKey", "awsSessionToken", "awsWebIdentityTokenFile", "awsRegion",
}

// mskLogin reads a login with IAM.
func (r *reader) mskLogin(entry jaasEntry) proof {
	r.class("sasl.client.callback.handler.class", "", mskHandler)
	signer, principal := r.mskSigner(entry)
	if signer == nil {
		return proof{}
	}
	return proof{mechanism: signer.Mechanism(), principal: principal}
}

// mskTokenLogin reads the same for OAUTHBEARER, whose tokens MSK takes as well.
func (r *reader) mskTokenLogin(entry jaasEntry, l *oauthbearer.Login) proof {
	signer, principal := r.mskSigner(entry)
	if signer == nil {
		return proof{}
	}
	l.Opaque, l.TTL, l.Retrieve = true, mskiam.TokenLifetime, signer.Token
	return proof{mechanism: l.Mechanism(), principal: principal}
}

// mskSigner reads whose credentials sign, and how that may be shown.
func (r *reader) mskSigner(entry jaasEntry) (*mskiam.Signer, string) {
	const jaasKey = "sasl.jaas.config"
	before := len(r.problems)
	for _, option := range slices.Sorted(maps.Keys(entry.options)) {
		if strings.HasPrefix(option, "aws") && !slices.Contains(mskOptions, option) {
			// Its name is not shown: in a text that has gone wrong it may be a piece of a secret.
			hint := "its options are " + strings.Join(mskOptions, ", ")
			if near := config.Nearest(option, mskOptions); near != "" {
				hint = "is it meant to be " + near + "?"
			}
			r.fail(jaasKey, "the login module is given an option aws… that it does not have; %s", hint)
		}
	}
	of := func(option string) string { return javaTrim(entry.options[option]) }
	o := mskiam.Options{
		Profile: of("awsProfileName"), Role: of("awsRoleArn"), SessionName: of("awsRoleSessionName"), ExternalID: of("awsRoleExternalId"),
		WebIdentityFile: of("awsWebIdentityTokenFile"), Region: of("awsRegion"), STSRegion: of("awsStsRegion"), FIPS: of("awsShouldUseFips") == "true",
		Attempts: 1 + r.mskNumber(of, "awsMaxRetries", 3, 20), MaxBackoff: time.Duration(r.mskNumber(of, "awsMaxBackOffTimeMs", 5000, 60_000)) * time.Millisecond,
		Timeout: time.Minute,
	}
	o.Keys = r.mskKeys(of, o.Role != "")
	for option, region := range map[string]string{"awsRegion": o.Region, "awsStsRegion": o.STSRegion} {
		if region != "" && region != "aws-global" && !mskiam.Region(region) {
			r.fail(jaasKey, "the option %s is not the name of a region", option)
		}
	}
	written := r.settings[jaasKey].Written
	if o.WebIdentityFile != "" {
		r.allowedPath(jaasKey, o.WebIdentityFile, shownOption(written, "awsWebIdentityTokenFile", o.WebIdentityFile))
		if o.Role == "" {
			r.fail(jaasKey, "the option awsWebIdentityTokenFile needs awsRoleArn: the role that it is for")
		}
	}
	if o.Profile != "" && o.Role != "" {
		r.adapt(jaasKey, "awsProfileName is used and awsRoleArn is not, as in Java")
	}
	if of("awsDebugCreds") == "true" {
		r.adapt(jaasKey, "awsDebugCreds does nothing: the report says whose credentials are used")
	}
	if len(r.problems) > before {
		return nil, ""
	}
	switch {
	case o.Profile != "":
		return mskiam.New(o), "AWS profile " + shownOption(written, "awsProfileName", o.Profile)
	case o.Role != "":
		return mskiam.New(o), "IAM role " + shownOption(written, "awsRoleArn", o.Role)
	case o.Keys.ID.Reveal() != "":
		return mskiam.New(o), "the owner of an AWS access key"
	}
	r.adapt(jaasKey, "no option names credentials: those of the worker's machine are used")
	return mskiam.New(o), "the AWS identity of the worker"
}

// mskKeys reads an access key: that which assumes the role, or that which signs.
func (r *reader) mskKeys(of func(string) string, role bool) mskiam.Keys {
	names := []string{"awsAccessKeyId", "awsSecretAccessKey", "awsSessionToken"}
	if others := []string{"awsRoleAccessKeyId", "awsRoleSecretAccessKey", "awsRoleSessionToken"}; role && of(others[0])+of(others[1]) != "" {
		names = others
	}
	id, secret := of(names[0]), of(names[1])
	if (id == "") != (secret == "") {
		r.fail("sasl.jaas.config", "the options %s and %s belong together", names[0], names[1])
	}
	return mskiam.Keys{ID: config.NewSecret(id), Secret: config.NewSecret(secret), Session: config.NewSecret(of(names[2]))}
}

func (r *reader) mskNumber(of func(string) string, option string, def, most int) int {
	text := of(option)
	if text == "" {
		return def
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		r.fail("sasl.jaas.config", "the option %s is not a number", option)
		return def
	}
	return min(n, most)
}
