// Package gcp reads secrets from Google Cloud's Secret Manager: one request of its REST API, with credentials by Google's own
// golang.org/x/oauth2/google. The full client library brings gRPC for the same.
//
// Easy to get wrong: an error of a token endpoint holds its whole answer. Only its code and description are quoted.
package gcp

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/configprovider/remote"
)

const (
	// defaultTTL is how long what was read is good for. Each look is charged for.
	defaultTTL = time.Minute
	scope      = "https://www.googleapis.com/auth/cloud-platform"
	server     = "https://secretmanager.googleapis.com"
)

// The parameters, by Confluent's names.
var (
	paramProject  = []string{"project.id"}
	paramWhere    = []string{"credential.location"}
	paramFile     = []string{"credential.file"}
	paramInline   = []string{"credential.inline"}
	paramJSON     = []string{"use.json"}
	paramLocation = []string{"location"}
	paramEndpoint = []string{"endpoint"}
)

// Kind is the provider ${gcp:secret:key}.
func Kind() configprovider.Kind {
	return configprovider.Kind{
		Name: "gcp-secret-manager",
		Classes: []string{
			"io.confluent.csid.config.provider.gcloud.SecretManagerConfigProvider", "com.github.jcustenborder.kafka.config.gcloud.SecretManagerConfigProvider",
		},
		Params: slices.Concat(paramProject, paramWhere, paramFile, paramInline, paramJSON, paramLocation, paramEndpoint, []string{remote.ParamTTL, remote.ParamTimeout, remote.ParamAllowed, remote.ParamPlain}),
		Open:   open,
	}
}

type provider struct {
	client   *remote.Client
	texts    remote.Texts
	project  string
	location string // of regional secrets; empty: global ones
	// credentials in JSON, or the file that they are in; neither: the machine's.
	inline config.Secret
	file   string
	login  *http.Client

	mu    sync.Mutex
	found *google.Credentials
}

var (
	word    = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
	project = regexp.MustCompile(`^[a-z0-9][a-z0-9.:-]{0,63}$`)
	secret  = regexp.MustCompile(`^(projects/([a-z0-9][a-z0-9.:-]{0,63})/secrets/)?([A-Za-z0-9_-]{1,255})$`)
	version = regexp.MustCompile(`^([0-9]{1,18}|[A-Za-z][A-Za-z0-9_-]{0,62})$`)
)

func open(settings config.Settings) (configprovider.Provider, error) {
	q := &remote.Params{Settings: settings}
	p := &provider{
		texts:   remote.Texts{JSON: q.Flag(true, paramJSON...), Allowed: q.Allowed(), Options: []string{"version", "projectid"}, TTL: q.TTL(defaultTTL)},
		project: q.Text(paramProject...), location: q.Text(paramLocation...), inline: q.Secret(paramInline...), file: q.Text(paramFile...),
	}
	inline := p.inline.Reveal() != ""
	switch where := q.OneOf([]string{"", "ApplicationDefault", "File", "Inline"}, paramWhere...); {
	case where == "ApplicationDefault":
		p.inline, p.file = config.Secret{}, "" // what is set besides has no meaning then
	case where == "File" && p.file == "":
		q.Need(paramFile[0], "the file with the credentials")
	case where == "Inline" && !inline:
		q.Need(paramInline[0], "the credentials")
	case where == "File":
		p.inline = config.Secret{}
	case where == "Inline":
		p.file = ""
	case inline && p.file != "":
		q.Wrong(fmt.Errorf("%s and %s are both set: one is enough", paramFile[0], paramInline[0]))
	}
	if p.location != "" && !word.MatchString(p.location) {
		q.Wrong(fmt.Errorf("%s: that is no location of Google Cloud", paramLocation[0]))
	}
	if p.project != "" && !project.MatchString(p.project) {
		q.Wrong(fmt.Errorf("%s: that is no id or number of a project", paramProject[0]))
	}
	usual := server
	if p.location != "" {
		usual = "https://secretmanager." + p.location + ".rep.googleapis.com"
	}
	base, timeout := q.Address(usual, paramEndpoint...), q.Timeout()
	if err := q.Err(); err != nil {
		return nil, err
	}
	p.client = remote.New(remote.Options{Name: "Google's Secret Manager", Base: base, Timeout: timeout})
	p.login = &http.Client{Timeout: timeout}
	return p, nil
}

// Read reads one secret, whose text is a JSON object; or, without a path, secrets as they are, each named by a key.
func (p *provider) Read(ctx context.Context, path string, keys []string) (configprovider.Data, error) {
	return p.texts.Read(path, keys, func(name string, options map[string]string) (config.Secret, string, error) {
		return p.get(ctx, name, options)
	})
}

func (p *provider) get(ctx context.Context, name string, options map[string]string) (config.Secret, string, error) {
	m := secret.FindStringSubmatch(name)
	which := options["version"]
	if which == "" {
		which = "latest"
	}
	if m == nil || !version.MatchString(which) || options["projectid"] != "" && !project.MatchString(options["projectid"]) {
		return config.Secret{}, "", errors.New("that is neither NAME nor projects/PROJECT/secrets/NAME, with a version if there is one")
	}
	token, of, err := p.token()
	if err != nil {
		return config.Secret{}, "", err
	}
	for _, one := range []string{p.project, options["projectid"], m[2]} { // what the reference says counts most
		if one != "" {
			of = one
		}
	}
	if of == "" {
		return config.Secret{}, "", fmt.Errorf("the project is not known: neither %s nor the credentials tell it", paramProject[0])
	}
	place := "v1/projects/" + url.PathEscape(of)
	if p.location != "" {
		place += "/locations/" + p.location
	}
	a, err := p.client.Do(ctx, remote.Request{
		Path: place + "/secrets/" + m[3] + "/versions/" + which + ":access", Hidden: []config.Secret{token},
		Header: http.Header{"Authorization": {"Bearer " + token.Reveal()}},
	})
	switch {
	case err != nil:
		return config.Secret{}, "", err
	case a.Status == http.StatusNotFound:
		return config.Secret{}, "", errors.New("Google's Secret Manager has no such secret, or not that version of it")
	case a.Status != http.StatusOK:
		return config.Secret{}, "", fmt.Errorf("Google's Secret Manager answers %d%s", a.Status, remote.Said(a.Body, token))
	}
	return read(a.Body)
}

// read takes the text out of an answer, whole as its checksum says.
func read(body []byte) (config.Secret, string, error) {
	var answer struct {
		Name    string `json:"name"`
		Payload struct {
			Data string `json:"data"`
			CRC  string `json:"dataCrc32c"`
		} `json:"payload"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Name == "" {
		return config.Secret{}, "", errors.New("what Google's Secret Manager answers is no version of a secret")
	}
	text, err := base64.StdEncoding.DecodeString(answer.Payload.Data)
	if err != nil || !utf8.Valid(text) {
		return config.Secret{}, "", errors.New("that secret is no text")
	}
	if sum := strconv.FormatUint(uint64(crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli))), 10); answer.Payload.CRC != "" && answer.Payload.CRC != sum {
		return config.Secret{}, "", &configprovider.UnavailableError{Err: errors.New("what Google's Secret Manager answers was damaged on its way")}
	}
	return config.NewSecret(string(text)), path.Base(answer.Name), nil
}

// token returns what requests are made with, and the project that the credentials belong to, if they tell.
func (p *provider) token() (config.Secret, string, error) {
	c, err := p.credentials()
	if err != nil {
		return config.Secret{}, "", err
	}
	t, err := c.TokenSource.Token()
	var refused *oauth2.RetrieveError
	switch {
	case errors.As(err, &refused):
		said := fmt.Errorf("Google refuses the credentials: %s", strings.TrimPrefix(remote.Said(refused.Body, p.inline), ": "))
		if refused.Response != nil && (refused.Response.StatusCode >= 500 || refused.Response.StatusCode == http.StatusTooManyRequests) {
			return config.Secret{}, "", &configprovider.UnavailableError{Err: said}
		}
		return config.Secret{}, "", said
	case err != nil:
		return config.Secret{}, "", &configprovider.UnavailableError{Err: fmt.Errorf("no token of Google: %s", remote.Quote(remote.Reason(err).Error(), p.inline))}
	}
	return config.NewSecret(t.AccessToken), c.ProjectID, nil
}

// kinds are the credentials that may be given.
var kinds = []google.CredentialsType{google.ServiceAccount, google.AuthorizedUser, google.ExternalAccount, google.ImpersonatedServiceAccount}

func (p *provider) credentials() (*google.Credentials, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found != nil {
		return p.found, nil
	}
	// The context lives as long as the credentials; what bounds a request is the client's timeout.
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, p.login)
	given := p.inline
	if p.file != "" {
		var err error
		if given, err = remote.ReadFile(p.file); err != nil {
			return nil, fmt.Errorf("%s: %w", paramFile[0], err)
		}
	}
	if given.Reveal() == "" {
		c, err := google.FindDefaultCredentials(ctx, scope)
		if err != nil {
			return nil, fmt.Errorf("the machine has no credentials of Google: set %s, or $GOOGLE_APPLICATION_CREDENTIALS", paramFile[0])
		}
		p.found = c
		return c, nil
	}
	var of struct {
		Type google.CredentialsType `json:"type"`
	}
	if json.Unmarshal([]byte(given.Reveal()), &of) != nil || !slices.Contains(kinds, of.Type) {
		return nil, errors.New("the credentials of Google are no JSON of a service account, an external account, an impersonation or a user")
	}
	c, err := google.CredentialsFromJSONWithType(ctx, []byte(given.Reveal()), of.Type, scope)
	if err != nil {
		return nil, fmt.Errorf("the credentials of Google cannot be read as those of type %s", of.Type)
	}
	p.found = c
	return c, nil
}
