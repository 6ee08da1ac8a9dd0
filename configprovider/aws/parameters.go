package aws

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/configprovider/remote"
)

// atOnce is how many parameters AWS gives in one request.
const atOnce = 10

type parameters struct{ *account }

func openParameters(settings config.Settings) (configprovider.Provider, error) {
	a, err := openAccount(settings)
	if err != nil {
		return nil, err
	}
	return parameters{a}, nil
}

// Read reads parameters, decrypted: the name is the key, below the path if there is one. A key may end with a version or
// label of AWS: ${ssm:/orders:password:3}.
func (p parameters) Read(ctx context.Context, path string, keys []string) (configprovider.Data, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	d := configprovider.Data{Place: "the parameter store", Values: map[string]config.Secret{}, Failed: map[string]error{}, Versions: map[string]string{}, TTL: p.ttl}
	asked := map[string]string{} // key by name
	for _, key := range keys {
		name, ttl := split(key)
		if ttl > 0 {
			d.TTL = min(d.TTL, ttl)
		}
		if path != "" {
			name = strings.TrimSuffix(path, "/") + "/" + strings.TrimPrefix(name, "/")
		}
		name = p.prefix + name
		if err := p.may(name); err != nil {
			d.Failed[key] = err
			continue
		}
		asked[name] = key
	}
	c, err := p.config(ctx)
	if err != nil {
		return configprovider.Data{}, err
	}
	client := ssm.NewFromConfig(c)
	names := slices.Sorted(maps.Keys(asked))
	chunks := slices.Collect(slices.Chunk(slices.DeleteFunc(slices.Clone(names), selects), atOnce))
	for _, name := range names {
		if selects(name) { // answers do not all tell by which of them they were asked for
			chunks = append(chunks, []string{name})
		}
	}
	for _, some := range chunks {
		err := p.get(ctx, client, some, asked, d)
		if err == nil {
			continue
		}
		for _, name := range some { // one that may not be read keeps out the others
			if len(some) > 1 && !errors.As(err, new(*configprovider.UnavailableError)) {
				err = p.get(ctx, client, []string{name}, asked, d)
			}
			if err != nil {
				d.Failed[asked[name]] = err
			}
		}
	}
	return d, nil
}

// selects tells whether a name ends with a version or label.
func selects(name string) bool { return strings.Contains(name, ":") }

// may says whether a parameter may be read.
func (p parameters) may(name string) error {
	plain, selector, picks := strings.Cut(name, ":")
	if err := remote.Name(plain); err != nil {
		return err
	}
	if picks && (remote.Name(selector) != nil || strings.ContainsAny(selector, "/:")) {
		return errors.New("behind the name of a parameter there may be a version or a label")
	}
	return p.allowed.Check(plain)
}

// get reads some parameters into d; those that are not there are left out.
func (p parameters) get(ctx context.Context, client *ssm.Client, names []string, asked map[string]string, d configprovider.Data) error {
	out, err := client.GetParameters(ctx, &ssm.GetParametersInput{Names: names, WithDecryption: aws.Bool(true)})
	if err != nil {
		return p.wrong("AWS Systems Manager", err)
	}
	for _, one := range out.Parameters {
		name := aws.ToString(one.Name)
		if selects(names[0]) {
			name = names[0]
		}
		if key, ok := asked[name]; ok && one.Value != nil {
			d.Values[key], d.Versions[key] = config.NewSecret(*one.Value), strconv.FormatInt(one.Version, 10)
		}
	}
	return nil
}
