package aws

import (
	"context"
	"errors"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/configprovider/remote"
)

type secrets struct{ *account }

func openSecrets(settings config.Settings) (configprovider.Provider, error) {
	a, err := openAccount(settings)
	if err != nil {
		return nil, err
	}
	return secrets{a}, nil
}

// Read reads one secret, whose text is a JSON object; or, without a path, secrets as they are, each named by a key.
func (s secrets) Read(ctx context.Context, path string, keys []string) (configprovider.Data, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	d, err := remote.Texts{JSON: s.json, Allowed: s.allowed, Options: []string{"version", "stage"}, TTL: s.ttl, Split: split}.Read(path, keys, func(name string, options map[string]string) (config.Secret, string, error) {
		return s.get(ctx, s.prefix+name, options)
	})
	return d, err
}

func (s secrets) get(ctx context.Context, name string, options map[string]string) (config.Secret, string, error) {
	c, err := s.config(ctx)
	if err != nil {
		return config.Secret{}, "", err
	}
	input := &secretsmanager.GetSecretValueInput{SecretId: &name}
	if v := options["version"]; v != "" {
		input.VersionId = &v
	}
	if v := options["stage"]; v != "" {
		input.VersionStage = &v
	}
	out, err := secretsmanager.NewFromConfig(c).GetSecretValue(ctx, input)
	var missing *types.ResourceNotFoundException
	switch {
	case errors.As(err, &missing):
		return config.Secret{}, "", errors.New("AWS Secrets Manager has no such secret, or not that version of it")
	case err != nil:
		return config.Secret{}, "", s.wrong("AWS Secrets Manager", err)
	case out.SecretString != nil:
		return config.NewSecret(*out.SecretString), aws.ToString(out.VersionId), nil
	case !utf8.Valid(out.SecretBinary):
		return config.Secret{}, "", errors.New("that secret is no text")
	}
	return config.NewSecret(string(out.SecretBinary)), aws.ToString(out.VersionId), nil
}
