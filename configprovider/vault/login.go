package vault

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/configprovider/remote"
)

// serviceAccount is where Kubernetes puts a pod's token.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount/token"

// login is how a token is come by.
type login struct {
	method string // token, approle, kubernetes, jwt
	mount  string
	role   string
	// credential, or the file that it is in, which is read at each login.
	credential config.Secret
	file       string
}

func readLogin(q *remote.Params) login {
	l := login{method: q.OneOf([]string{"token", "approle", "kubernetes", "jwt"}, paramMethod...), role: q.Text(paramRole...)}
	l.mount = strings.Trim(strings.TrimPrefix(strings.Trim(cmp.Or(q.Text(paramMount...), l.method), "/"), "auth/"), "/")
	credential := map[string][2][]string{
		"token": {paramToken, paramTokenFile}, "approle": {paramSecretID, paramSecretIn},
		"kubernetes": {paramJWT, paramJWTFile}, "jwt": {paramJWT, paramJWTFile},
	}[l.method]
	l.credential, l.file = q.Secret(credential[0]...), q.Text(credential[1]...)
	given := l.credential.Reveal() != ""
	switch {
	case given && l.file != "":
		q.Wrong(fmt.Errorf("%s and %s are both set: one is enough", credential[0][0], credential[1][0]))
	case l.method == "kubernetes" && !given && l.file == "":
		l.file = serviceAccount
	case l.method != "approle" && !given && l.file == "": // a role may need no secret
		q.Need(credential[0][0], "the method "+l.method+" logs in with it; or name a file in "+credential[1][0])
	}
	if l.role == "" && (l.method == "approle" || l.method == "kubernetes") {
		q.Need(paramRole[0], "the method "+l.method+" logs in with it")
	}
	if err := remote.Name(l.mount); err != nil {
		q.Wrong(fmt.Errorf("%s: %w", paramMount[0], err))
	}
	return l
}

// token is what requests are made with.
type token struct {
	value     config.Secret
	renewable bool
	length    time.Duration // 0: it does not end, or nobody knows
	since     time.Time
}

func (t token) held() bool { return t.value.Reveal() != "" }

// over says whether the token has ended by itself.
func (t token) over(now time.Time) bool { return t.length > 0 && !now.Before(t.since.Add(t.length)) }

// due is when to renew it: in the last third of its life. Zero: never.
func (t token) due() time.Time {
	if t.length <= 0 || !t.held() {
		return time.Time{}
	}
	return t.since.Add(t.length * 2 / 3)
}

// ask sends a request with the token, and once more with a new one if the token has been revoked or has ended.
func (p *provider) ask(ctx context.Context, method, path string, query url.Values, body []byte) (remote.Answer, error) {
	t, err := p.tokenFor(ctx, token{})
	if err != nil {
		return remote.Answer{}, err
	}
	a, err := p.send(ctx, method, path, query, body, t.value)
	if err != nil || a.Status != http.StatusForbidden {
		return a, err
	}
	// A token that is refused and one that may not do this look alike; only one of them may ask about itself.
	self, err := p.send(ctx, http.MethodGet, "auth/token/lookup-self", nil, nil, t.value)
	if err != nil || self.Status != http.StatusForbidden {
		return a, err
	}
	if t, err = p.tokenFor(ctx, t); err != nil {
		return remote.Answer{}, err
	}
	return p.send(ctx, method, path, query, body, t.value)
}

func (p *provider) send(ctx context.Context, method, path string, query url.Values, body []byte, with config.Secret) (remote.Answer, error) {
	r := remote.Request{Method: method, Path: "v1/" + path, Query: query, Body: body, Header: http.Header{"X-Vault-Request": {"true"}}}
	if v := with.Reveal(); v != "" {
		if strings.ContainsAny(v, "\r\n\x00") {
			return remote.Answer{}, errors.New("what is set as Vault's token is none")
		}
		r.Header.Set("X-Vault-Token", v)
		r.Hidden = append(r.Hidden, with)
	}
	if p.namespace != "" {
		r.Header.Set("X-Vault-Namespace", p.namespace)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return p.client.Do(ctx, r)
}

// tokenFor returns the token that is held, unless it is over or the one that was refused; then it logs in.
func (p *provider) tokenFor(ctx context.Context, refused token) (token, error) {
	if t, ok := p.held(refused); ok {
		return t, nil
	}
	p.logins.Lock()
	defer p.logins.Unlock()
	if t, ok := p.held(refused); ok { // another has logged in meanwhile
		return t, nil
	}
	if ctx.Err() != nil {
		return token{}, &configprovider.UnavailableError{Err: errors.New("no answer in time")}
	}
	t, err := p.logIn(ctx, refused)
	if err != nil {
		return token{}, err
	}
	p.mu.Lock()
	p.token = t
	p.mu.Unlock()
	p.look()
	return t, nil
}

func (p *provider) held(refused token) (token, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.token
	return t, t.held() && !t.over(time.Now()) && !(refused.held() && refused.value.Equal(t.value))
}

func (p *provider) logIn(ctx context.Context, refused token) (token, error) {
	credential := p.login.credential
	if p.login.file != "" {
		var err error
		if credential, err = remote.ReadFile(p.login.file); err != nil {
			return token{}, fmt.Errorf("the file with what to log in to Vault with: %w", err)
		}
	}
	if p.login.method == "token" {
		if refused.held() && refused.value.Equal(credential) {
			return token{}, errors.New("Vault refuses the token: it has been revoked, or has ended, and there is no other")
		}
		return p.lookUp(ctx, credential)
	}
	fields := map[string]string{"role": p.login.role, "jwt": credential.Reveal()}
	if p.login.method == "approle" {
		fields = map[string]string{"role_id": p.login.role, "secret_id": credential.Reveal()}
	}
	for name, value := range fields {
		if value == "" {
			delete(fields, name)
		}
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return token{}, errors.New("what is to log in to Vault cannot be written as JSON")
	}
	since := time.Now()
	a, err := p.send(ctx, http.MethodPost, "auth/"+remote.Escape(p.login.mount)+"/login", nil, body, config.Secret{})
	if err != nil {
		return token{}, err
	}
	t, ok := tokenOf(a.Body, since)
	if a.Status != http.StatusOK || !ok {
		return token{}, fmt.Errorf("Vault refuses the login by %s at auth/%s: %d%s", p.login.method, p.login.mount, a.Status, remote.Said(a.Body, credential, config.NewSecret(p.login.role)))
	}
	return t, nil
}

// tokenOf reads what a login or renewal answers.
func tokenOf(body []byte, since time.Time) (token, bool) {
	var answer struct {
		Auth *struct {
			Token     string `json:"client_token"`
			Length    int64  `json:"lease_duration"`
			Renewable bool   `json:"renewable"`
		} `json:"auth"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Auth == nil || answer.Auth.Token == "" {
		return token{}, false
	}
	return token{config.NewSecret(answer.Auth.Token), answer.Auth.Renewable, time.Duration(answer.Auth.Length) * time.Second, since}, true
}

// lookUp finds out how long a token that was given lives. A token need not be allowed to know.
func (p *provider) lookUp(ctx context.Context, given config.Secret) (token, error) {
	since := time.Now()
	a, err := p.send(ctx, http.MethodGet, "auth/token/lookup-self", nil, nil, given)
	if err != nil {
		return token{}, err
	}
	var answer struct {
		Data struct {
			TTL       int64 `json:"ttl"`
			Renewable bool  `json:"renewable"`
		} `json:"data"`
	}
	if a.Status == http.StatusOK && json.Unmarshal(a.Body, &answer) == nil {
		return token{given, answer.Data.Renewable, time.Duration(answer.Data.TTL) * time.Second, since}, nil
	}
	return token{value: given, since: since}, nil
}
