// Package azure reads secrets from Azure Key Vault over its REST API, logged in with a client secret, with workload identity or as the machine
// (managed identity). Each of these is one request; azidentity brings MSAL with its caches and browser logins for them.
//
// Easy to get wrong: a token for one vault is good for every vault that the identity may read. So a vault that is not named
// in the worker's file is never asked, whatever a reference says: it would be sent that token.
package azure

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/configprovider/remote"
)

const (
	// defaultTTL is how long what was read is good for. Each look is charged for.
	defaultTTL = time.Minute
	apiVersion = "7.4"
)

// The parameters, by Confluent's names first, then by those of Lenses.
var (
	paramVault  = []string{"vault.url"}
	paramType   = []string{"credential.type"}
	paramMethod = []string{"azure.auth.method"}
	paramTenant = []string{"tenant.id", "azure.tenant.id"}
	paramClient = []string{"client.id", "azure.client.id"}
	paramSecret = []string{"client.secret", "azure.secret.id"}
	paramPrefix = []string{"secret.prefix"}
	paramJSON   = []string{"use.json"}
	paramLogin  = []string{"authority.host"}
)

// Kind is the provider ${azure:secret:key}. environ is where Azure's own variables are looked for, in the form of os.Environ.
func Kind(environ []string) configprovider.Kind {
	return configprovider.Kind{
		Name: "azure-key-vault",
		Classes: []string{
			"io.confluent.csid.config.provider.azure.KeyVaultConfigProvider", "com.github.jcustenborder.kafka.config.azure.KeyVaultConfigProvider",
			"io.lenses.connect.secrets.providers.AzureSecretProvider",
		},
		Params: slices.Concat(paramVault, paramType, paramMethod, paramTenant, paramClient, paramSecret, paramPrefix, paramJSON, paramLogin,
			[]string{remote.ParamTTL, remote.ParamTimeout, remote.ParamAllowed, remote.ParamPlain}),
		Open: func(params config.Settings) (configprovider.Provider, error) { return open(params, environ) },
	}
}

type provider struct {
	vaults []*url.URL // the first is the one of references that name none
	to     map[string]*remote.Client
	texts  remote.Texts
	prefix string
	logins *logins
}

func open(params config.Settings, environ []string) (configprovider.Provider, error) {
	q := &remote.Params{Settings: params}
	p := &provider{
		to: map[string]*remote.Client{}, prefix: q.Text(paramPrefix...),
		texts: remote.Texts{JSON: q.Flag(true, paramJSON...), Allowed: q.Allowed(), Options: []string{"version"}, TTL: q.TTL(defaultTTL)},
	}
	timeout := q.Timeout()
	p.logins = readLogins(q, environ, timeout)
	for one := range strings.SplitSeq(q.Text(paramVault...), ",") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		if !strings.Contains(one, "://") {
			one = "https://" + one
		}
		u := (&remote.Params{Settings: config.Settings{paramVault[0]: {Written: one, Value: config.NewSecret(one)}, remote.ParamPlain: params[remote.ParamPlain]}}).Address("", paramVault...)
		if u == nil || strings.Trim(u.Path, "/") != "" {
			q.Wrong(fmt.Errorf("%s: expected addresses such as https://NAME.vault.azure.net, separated by commas", paramVault[0]))
			continue
		}
		p.vaults = append(p.vaults, u)
		p.to[strings.ToLower(u.Host)] = remote.New(remote.Options{Name: "Azure Key Vault", Base: u, Timeout: timeout})
	}
	if len(p.vaults) == 0 {
		q.Need(paramVault[0], "the vaults that references may name, such as https://NAME.vault.azure.net, separated by commas")
	}
	return p, q.Err()
}

// Read reads one secret, whose text is a JSON object; or, without a path, secrets as they are, each named by a key; or, where the
// path is a vault, as in Lenses' provider, likewise of that.
func (p *provider) Read(ctx context.Context, written string, keys []string) (configprovider.Data, error) {
	vault := p.vaults[0]
	if at := strings.TrimSuffix(strings.TrimPrefix(written, "https://"), "/"); strings.Contains(at, ".") {
		i := slices.IndexFunc(p.vaults, func(u *url.URL) bool { return strings.EqualFold(u.Host, at) })
		if i < 0 {
			return configprovider.Data{}, fmt.Errorf("that vault is none of %s of the provider", paramVault[0])
		}
		vault, written = p.vaults[i], ""
	}
	return p.texts.Read(written, keys, func(name string, options map[string]string) (config.Secret, string, error) {
		return p.get(ctx, vault, p.prefix+name, options["version"])
	})
}

var (
	secret  = regexp.MustCompile(`^[0-9A-Za-z-]{1,127}$`)
	version = regexp.MustCompile(`^[0-9A-Za-z]{0,64}$`)
)

func (p *provider) get(ctx context.Context, vault *url.URL, name, which string) (config.Secret, string, error) {
	if !secret.MatchString(name) || !version.MatchString(which) {
		return config.Secret{}, "", errors.New("that is no name of a secret of Azure Key Vault, or no version")
	}
	resource := resourceOf(vault)
	token, err := p.logins.token(ctx, resource, config.Secret{})
	if err != nil {
		return config.Secret{}, "", err
	}
	ask := func() (remote.Answer, error) {
		return p.to[strings.ToLower(vault.Host)].Do(ctx, remote.Request{
			Path: path.Join("secrets", name, which), Query: url.Values{"api-version": {apiVersion}}, Hidden: []config.Secret{token},
			Header: http.Header{"Authorization": {"Bearer " + token.Reveal()}},
		})
	}
	a, err := ask()
	if err == nil && a.Status == http.StatusUnauthorized { // revoked before its time
		if token, err = p.logins.token(ctx, resource, token); err == nil {
			a, err = ask()
		}
	}
	switch {
	case err != nil:
		return config.Secret{}, "", err
	case a.Status == http.StatusNotFound:
		return config.Secret{}, "", errors.New("Azure Key Vault has no such secret, or not that version of it")
	case a.Status != http.StatusOK:
		return config.Secret{}, "", fmt.Errorf("Azure Key Vault answers %d%s", a.Status, remote.Said(a.Body, token))
	}
	var answer struct {
		Value *string `json:"value"`
		ID    string  `json:"id"`
	}
	if json.Unmarshal(a.Body, &answer) != nil || answer.Value == nil {
		return config.Secret{}, "", errors.New("what Azure Key Vault answers is no secret")
	}
	return config.NewSecret(*answer.Value), path.Base(answer.ID), nil
}

// resourceOf is what a token for a vault is for: https://vault.azure.net, or that of another cloud.
func resourceOf(vault *url.URL) string {
	_, domain, ok := strings.Cut(vault.Hostname(), ".")
	if !ok || !strings.HasPrefix(domain, "vault.") && !strings.HasPrefix(domain, "managedhsm.") {
		domain = "vault.azure.net"
	}
	return "https://" + cmp.Or(domain, "vault.azure.net")
}
