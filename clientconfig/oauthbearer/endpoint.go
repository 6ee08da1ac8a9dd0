package oauthbearer

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"barnabas/config"
)

// Endpoint is a token endpoint (RFC 6749) and how it is asked.
type Endpoint struct {
	URL string
	// Shown stands for the address in errors.
	Shown string
	// TLS is for https; nil trusts what the system trusts.
	TLS *tls.Config
	// ConnectTimeout bounds the time until there is a connection.
	ConnectTimeout time.Duration
	// ReadTimeout bounds the time from a request to the end of its answer, connecting included.
	ReadTimeout time.Duration
	// Backoff is the first wait between attempts, which doubles. All attempts together take BackoffMax at most, and the
	// last one its ReadTimeout besides (Kafka's Retry).
	Backoff, BackoffMax time.Duration
}

// form is a request: parameters in their order, as Kafka's formatters write them, encoded already.
type form struct {
	authorization config.Secret
	body          config.Secret
	secrets       []config.Secret // that no error may repeat
}

// ClientSecret returns the retriever of the grant client_credentials with a secret. encode says whether id, secret and
// scope are URL-encoded first, as RFC 6749, 2.3.1 asks and many servers do not (sasl.oauthbearer.header.urlencode).
func ClientSecret(e Endpoint, id, secret config.Secret, scope string, encode bool) Retriever {
	return e.retriever(func() (form, error) {
		i, s, sc := id.Reveal(), secret.Reveal(), scope
		if encode {
			i, s, sc = url.QueryEscape(i), url.QueryEscape(s), url.QueryEscape(sc)
		}
		body := "grant_type=client_credentials"
		if sc != "" {
			body += "&scope=" + sc
		}
		basic := base64.StdEncoding.EncodeToString([]byte(i + ":" + s))
		return form{
			authorization: config.NewSecret("Basic " + basic),
			body:          config.NewSecret(body),
			secrets:       []config.Secret{secret, config.NewSecret(basic)},
		}, nil
	})
}

// ClientAssertion returns the retriever of the grant client_credentials where a JWT proves the client (RFC 7523, 2.2).
func ClientAssertion(e Endpoint, id, scope string, assertion Assertion) Retriever {
	return e.retriever(func() (form, error) {
		jwt, err := assertion()
		if err != nil {
			return form{}, err
		}
		body := "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=" +
			url.QueryEscape(jwt.Reveal()) + "&grant_type=client_credentials"
		if id != "" {
			body += "&client_id=" + url.QueryEscape(id)
		}
		if scope != "" {
			body += "&scope=" + url.QueryEscape(scope)
		}
		return form{body: config.NewSecret(body), secrets: []config.Secret{jwt}}, nil
	})
}

// JWTBearer returns the retriever of the grant jwt-bearer (RFC 7523, 2.1).
func JWTBearer(e Endpoint, scope string, assertion Assertion) Retriever {
	return e.retriever(func() (form, error) {
		jwt, err := assertion()
		if err != nil {
			return form{}, err
		}
		body := "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=" + url.QueryEscape(jwt.Reveal())
		if scope != "" {
			body += "&scope=" + url.QueryEscape(scope)
		}
		return form{body: config.NewSecret(body), secrets: []config.Secret{jwt}}, nil
	})
}

// final is an answer that asking again does not better. Who refuses the client is the token endpoint in place of the
// broker; callers judge it alike.
type final struct{ error }

func (f final) Unwrap() []error { return []error{f.error, kerr.SaslAuthenticationFailed} }

// retriever asks until there is a token, an answer that is final, or no time left.
func (e Endpoint) retriever(request func() (form, error)) Retriever {
	client := &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: e.ConnectTimeout}).DialContext,
			TLSClientConfig: e.TLS, TLSHandshakeTimeout: e.ConnectTimeout,
			DisableKeepAlives: true, // one request in minutes or hours
		},
		// A redirect would lead from an address that is allowed to any other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context) (config.Secret, error) {
		asked, err := request()
		if err != nil {
			return config.Secret{}, err
		}
		end := time.Now().Add(e.BackoffMax)
		wait := e.Backoff
		for attempt := 1; ; attempt++ {
			token, err := e.ask(ctx, client, asked)
			if err == nil {
				return token, nil
			}
			left := time.Until(end)
			if _, is := errors.AsType[final](err); is || left <= 0 || ctx.Err() != nil {
				return config.Secret{}, fmt.Errorf("no token from %s after %d attempts: %w", e.Shown, attempt, err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(min(time.Duration(float64(wait)*(0.5+rand.Float64()/2)), left)):
			}
			wait = max(2*wait, time.Millisecond)
		}
	}
}

// unretryable are the statuses that HttpJwtRetriever takes as final.
var unretryable = []int{400, 401, 402, 403, 404, 405, 406, 407, 409, 410, 411, 412, 413, 414, 415, 501, 505}

// ask makes one request.
func (e Endpoint) ask(ctx context.Context, client *http.Client, asked form) (config.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, e.ReadTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, strings.NewReader(asked.body.Reveal()))
	if err != nil {
		return config.Secret{}, final{errors.New("the address is not a URL")}
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Cache-Control", "no-cache")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if a := asked.authorization.Reveal(); a != "" {
		req.Header.Set("Authorization", a)
	}
	answer, err := client.Do(req)
	if err != nil {
		return config.Secret{}, withoutURL(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxTokenBytes+1))
	switch {
	case err != nil:
		return config.Secret{}, withoutURL(err)
	case answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusCreated:
		err := fmt.Errorf("it answered %d%s", answer.StatusCode, reason(body, asked.secrets))
		if slices.Contains(unretryable, answer.StatusCode) || answer.StatusCode/100 == 3 {
			return config.Secret{}, final{err}
		}
		return config.Secret{}, err
	case len(body) > maxTokenBytes:
		return config.Secret{}, final{fmt.Errorf("it answered more than %d bytes", maxTokenBytes)}
	}
	var got struct {
		Access string `json:"access_token"`
		ID     string `json:"id_token"`
	}
	if json.Unmarshal(body, &got) != nil {
		return config.Secret{}, final{errors.New("its answer is not the JSON of RFC 6749")}
	}
	for _, token := range []string{got.Access, got.ID} {
		if !blank(token) {
			return config.NewSecret(strings.TrimSpace(token)), nil
		}
	}
	return config.Secret{}, final{errors.New("its answer has neither access_token nor id_token")}
}

// reason is what an error answer says about itself (RFC 6749, 5.2; errorCode is Okta's), without what was asked.
func reason(body []byte, secrets []config.Secret) string {
	var said struct {
		Error        string `json:"error"`
		Description  string `json:"error_description"`
		ErrorCode    string `json:"errorCode"`
		ErrorSummary string `json:"errorSummary"`
	}
	if json.Unmarshal(body, &said) != nil {
		return ""
	}
	var parts []string
	for _, part := range []string{said.Error, said.Description, said.ErrorCode, said.ErrorSummary} {
		for _, s := range secrets {
			for _, form := range []string{s.Reveal(), url.QueryEscape(s.Reveal())} {
				if form != "" {
					part = strings.ReplaceAll(part, form, config.Hidden)
				}
			}
		}
		if part != "" {
			parts = append(parts, printable(part))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}

// withoutURL drops the address, which the caller names as it may be shown.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		if u.Timeout() {
			return errors.New("it did not answer in time")
		}
		return u.Err
	}
	return err
}
