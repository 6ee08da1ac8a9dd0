package azure

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/configprovider/remote"
)

// The ways to log in.
const (
	bySecret    = "client secret"
	byWorkload  = "workload identity"
	byAppHost   = "managed identity (App Service)"
	byMachine   = "managed identity"
	authority   = "https://login.microsoftonline.com"
	machines    = "http://169.254.169.254" // Azure's instance metadata, on every machine of it
	jwtBearer   = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	beforeEnd   = 5 * time.Minute // of a token's life another is taken
	minLifetime = time.Minute
)

// logins keeps a token for each resource.
type logins struct {
	by             string
	tenant, client string
	secret         config.Secret
	file           string // with the token of a workload, read at each login
	header         config.Secret
	to             *remote.Client

	gate sync.Mutex // one login at a time
	mu   sync.Mutex
	held map[string]token
}

type token struct {
	value config.Secret
	until time.Time
}

var (
	tenant = regexp.MustCompile(`^[0-9A-Za-z.-]{1,253}$`)
	client = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)
)

// readLogins finds the way to log in: what is set, or else what Azure's DefaultAzureCredential finds on a machine without a person.
func readLogins(q *remote.Params, environ []string, timeout time.Duration) *logins {
	env := map[string]string{}
	for _, variable := range environ {
		if name, value, ok := strings.Cut(variable, "="); ok {
			env[name] = value
		}
	}
	kind := q.OneOf([]string{"", "DefaultAzure", "ClientSecret"}, paramType...)
	method := q.OneOf([]string{"", "default", "credentials"}, paramMethod...)
	l := &logins{tenant: q.Text(paramTenant...), client: q.Text(paramClient...), secret: q.Secret(paramSecret...), held: map[string]token{}}
	l.by = bySecret
	if given := l.secret.Reveal() != ""; kind == "DefaultAzure" || method == "default" || kind == "" && method == "" && !given {
		l.fromMachine(env)
	} else {
		for name, value := range map[string]string{paramTenant[0]: l.tenant, paramClient[0]: l.client, paramSecret[0]: l.secret.Reveal()} {
			if value == "" {
				q.Need(name, "a client secret is logged in with by it")
			}
		}
	}
	if l.tenant != "" && !tenant.MatchString(l.tenant) || l.client != "" && !client.MatchString(l.client) {
		q.Wrong(fmt.Errorf("%s or %s: that is no id", paramTenant[0], paramClient[0]))
	}
	at := q.Address(cmp.Or(env["AZURE_AUTHORITY_HOST"], authority), paramLogin...)
	if l.by == byMachine || l.by == byAppHost {
		where := machines
		if l.by == byAppHost {
			where = env["IDENTITY_ENDPOINT"]
		}
		u, err := url.Parse(where) // plain http, but never beyond the machine
		if err != nil || u.Host == "" {
			q.Wrong(errors.New("$IDENTITY_ENDPOINT is no address"))
			return l
		}
		at = u
	}
	if at != nil {
		l.to = remote.New(remote.Options{Name: "the login of Azure", Base: at, Timeout: timeout, Direct: l.by == byMachine || l.by == byAppHost})
	}
	return l
}

// fromMachine takes the way that the environment offers.
func (l *logins) fromMachine(env map[string]string) {
	l.tenant, l.client = cmp.Or(l.tenant, env["AZURE_TENANT_ID"]), cmp.Or(l.client, env["AZURE_CLIENT_ID"])
	switch complete := l.tenant != "" && l.client != ""; {
	case complete && env["AZURE_CLIENT_SECRET"] != "":
		l.by, l.secret = bySecret, config.NewSecret(env["AZURE_CLIENT_SECRET"])
	case complete && env["AZURE_FEDERATED_TOKEN_FILE"] != "":
		l.by, l.file = byWorkload, env["AZURE_FEDERATED_TOKEN_FILE"]
	case env["IDENTITY_ENDPOINT"] != "" && env["IDENTITY_HEADER"] != "":
		l.by, l.header = byAppHost, config.NewSecret(env["IDENTITY_HEADER"])
	default:
		l.by = byMachine
	}
}

// token returns one for a resource, another than the one that was refused.
func (l *logins) token(ctx context.Context, resource string, refused config.Secret) (config.Secret, error) {
	l.gate.Lock()
	defer l.gate.Unlock()
	if ctx.Err() != nil {
		return config.Secret{}, &configprovider.UnavailableError{Err: errors.New("no answer in time")}
	}
	l.mu.Lock()
	t, ok := l.held[resource]
	l.mu.Unlock()
	if ok && time.Now().Before(t.until) && !(refused.Reveal() != "" && t.value.Equal(refused)) {
		return t.value, nil
	}
	r, err := l.request(resource)
	if err != nil {
		return config.Secret{}, err
	}
	began := time.Now()
	a, err := l.to.Do(ctx, r)
	if err != nil {
		return config.Secret{}, err
	}
	var answer struct {
		Token string      `json:"access_token"`
		Life  json.Number `json:"expires_in"`
		Until json.Number `json:"expires_on"`
	}
	if a.Status != http.StatusOK || json.Unmarshal(a.Body, &answer) != nil || answer.Token == "" {
		return config.Secret{}, fmt.Errorf("Azure refuses the login by %s: %d%s", l.by, a.Status, remote.Said(a.Body, r.Hidden...))
	}
	life := minLifetime
	if n, err := answer.Life.Int64(); err == nil {
		life = time.Duration(n) * time.Second
	} else if at, err := answer.Until.Int64(); err == nil {
		life = time.Until(time.Unix(at, 0))
	}
	t = token{config.NewSecret(answer.Token), began.Add(max(life-beforeEnd, life/2, minLifetime))}
	l.mu.Lock()
	l.held[resource] = t
	l.mu.Unlock()
	return t.value, nil
}

// request is the one that logs in.
func (l *logins) request(resource string) (remote.Request, error) {
	switch l.by {
	case byMachine, byAppHost:
		r := remote.Request{Path: "metadata/identity/oauth2/token", Query: url.Values{"api-version": {"2018-02-01"}, "resource": {resource}}, Header: http.Header{"Metadata": {"true"}}}
		if l.by == byAppHost {
			r.Path, r.Header, r.Hidden = "", http.Header{"X-Identity-Header": {l.header.Reveal()}}, []config.Secret{l.header}
			r.Query.Set("api-version", "2019-08-01")
		}
		if l.client != "" {
			r.Query.Set("client_id", l.client)
		}
		return r, nil
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {l.client}, "scope": {resource + "/.default"}}
	hidden := l.secret
	if l.by == byWorkload {
		var err error
		if hidden, err = remote.ReadFile(l.file); err != nil {
			return remote.Request{}, fmt.Errorf("the file with the token of the workload: %w", err)
		}
		form.Set("client_assertion_type", jwtBearer)
		form.Set("client_assertion", hidden.Reveal())
	} else {
		form.Set("client_secret", hidden.Reveal())
	}
	return remote.Request{
		Method: http.MethodPost, Path: url.PathEscape(l.tenant) + "/oauth2/v2.0/token", Body: []byte(form.Encode()), Hidden: []config.Secret{hidden},
		Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
	}, nil
}
