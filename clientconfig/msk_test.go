package clientconfig

import (
	"strings"
	"testing"
)

func TestMSKOptionsAreJudged(t *testing.T) {
	t.Parallel()
	const role = "arn:aws:iam::1:role/orders"
	for options, want := range map[string]string{
		``:                        "the AWS identity of the worker",
		`awsProfileName="orders"`: "AWS profile orders",
		`awsRoleArn="` + role + `" awsStsRegion="eu-west-1"`:                                                                 "IAM role " + role,
		`awsRoleArn="` + role + `" awsRoleAccessKeyId="canary" awsRoleSecretAccessKey="canary" awsRoleSessionToken="canary"`: "IAM role " + role,
		`awsRoleArn="` + role + `" awsWebIdentityTokenFile="/run/token"`:                                                     "IAM role " + role,
		`awsAccessKeyId="canary" awsSecretAccessKey="canary"`:                                                                "the owner of an AWS access key",
		`awsAccessKeyId="canary"`:                                 "the options awsAccessKeyId and awsSecretAccessKey belong together",
		`awsRoleArn="a" awsRoleSecretAccessKey="canary"`:          "the options awsRoleAccessKeyId and awsRoleSecretAccessKey belong together",
		`awsWebIdentityTokenFile="/run/token"`:                    "needs awsRoleArn",
		`awsStsRegion="x.evil.example/#"`:                         "the option awsStsRegion is not the name of a region",
		`awsRegion="canary.com"`:                                  "the option awsRegion is not the name of a region",
		`awsMaxRetries="canary"`:                                  "the option awsMaxRetries is not a number",
		`awsRolArn="canary"`:                                      "that it does not have; is it meant to be awsRoleArn?",
		`awsProfileName="orders" awsRoleArn="a" awsMaxRetries=""`: "AWS profile orders",
	} {
		for _, settings := range []map[string]string{
			{"sasl.mechanism": "AWS_MSK_IAM", "sasl.jaas.config": mskModule + " required " + options + ";", "sasl.client.callback.handler.class": mskHandler},
			{"sasl.mechanism": "OAUTHBEARER", "sasl.jaas.config": oauthModule + " required " + options + ";", "sasl.login.callback.handler.class": mskOAuthHandler},
		} {
			settings["security.protocol"] = "SASL_SSL"
			c, err := build(Admin, settings)
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				got = c.Report.Principal
			}
			if !strings.Contains(got, want) || strings.Contains(got, "canary") {
				t.Errorf("%s with %s: %q, want %q", settings["sasl.mechanism"], options, got, want)
			}
		}
	}
	_, err := build(Admin, map[string]string{
		"security.protocol": "SASL_SSL", "sasl.mechanism": "AWS_MSK_IAM", AllowedPathsKey: "/srv",
		"sasl.jaas.config": mskModule + ` required awsRoleArn="a" awsWebIdentityTokenFile="/run/token";`,
	})
	if err == nil || !strings.Contains(err.Error(), "the file /run/token may not be accessed") {
		t.Errorf("got %v", err)
	}
}

func TestMSKSignsForTheBroker(t *testing.T) {
	t.Parallel()
	keys := ` required awsAccessKeyId="AKID" awsSecretAccessKey="canary" awsRegion="eu-west-1";`
	message, err := first(t, map[string]string{"security.protocol": "SASL_SSL", "sasl.mechanism": "AWS_MSK_IAM", "sasl.jaas.config": mskModule + keys})
	if err != nil || !strings.Contains(message, `"host":"localhost"`) || !strings.Contains(message, "/eu-west-1/kafka-cluster/aws4_request") || strings.Contains(message, "canary") {
		t.Errorf("AWS_MSK_IAM: %s, %v", message, err)
	}
	message, err = first(t, map[string]string{
		"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER", "sasl.jaas.config": oauthModule + keys, "sasl.login.callback.handler.class": mskOAuthHandler,
	})
	if err != nil || !strings.HasPrefix(message, "n,,\x01auth=Bearer aHR0cHM6Ly9rYWZrYS5ldS13ZXN0LTEuYW1hem9uYXdzLmNvbS8_") {
		t.Errorf("OAUTHBEARER: %s, %v", message, err)
	}
}
