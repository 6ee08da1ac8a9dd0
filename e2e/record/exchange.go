package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"barnabas/e2e/kafka"
)

// exchange is a request and what Connect answered.
type exchange struct {
	Name    string            `json:"name"`
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers,omitempty"`
	Body    string            `json:"body,omitempty"`
	Answer  answer            `json:"answer"`
}

type answer struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers,omitempty"`
	Body    string            `json:"body"`
}

// session talks to one worker and remembers what was said.
type session struct {
	r       *recorder
	connect *kafka.Connect
	said    []exchange
}

// send performs a request with a JSON body, if there is one, and records it.
func (s *session) send(ctx context.Context, name, method, path, body string) error {
	e := exchange{Name: name, Method: method, Path: path, Body: s.r.words.Replace(body)}
	if body != "" {
		e.Headers = map[string]string{"Content-Type": "application/json"}
	}
	res, text, err := s.ask(ctx, method, path, body)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	e.Answer = answer{Status: res.StatusCode, Body: s.normal(text)}
	for _, h := range []string{"Content-Type", "Location", "Allow"} {
		if v := res.Header.Get(h); v != "" {
			if e.Answer.Headers == nil {
				e.Answer.Headers = map[string]string{}
			}
			e.Answer.Headers[h] = s.normal(v)
		}
	}
	s.said = append(s.said, e)
	return nil
}

func (s *session) ask(ctx context.Context, method, path, body string) (*http.Response, string, error) {
	var sent io.Reader
	if body != "" {
		sent = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.connect.URL()+path, sent)
	if err != nil {
		return nil, "", err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, "", err
	}
	text, err := io.ReadAll(res.Body)
	return res, string(text), errors.Join(err, res.Body.Close())
}

var (
	stack        = regexp.MustCompile(`(\\n\\t(at|\.\.\.) [^"\\]*)+`)
	lastModified = regexp.MustCompile(`"last_modified":\d+`)
	sandglass    = regexp.MustCompile(`"(creation-timestamp|timestamp|discoverTimestamp)":\d+`)
	sessionKey   = regexp.MustCompile(`"key":"[A-Za-z0-9+/=]+"`)
)

// normal replaces what changes from run to run.
func (s *session) normal(text string) string {
	return s.r.normal(strings.ReplaceAll(strings.ReplaceAll(text, s.connect.URL(), "http://connect:8083"),
		strings.TrimPrefix(s.connect.URL(), "http://"), "connect:8083"))
}

func (r *recorder) normal(text string) string {
	text = r.words.Replace(text)
	text = stack.ReplaceAllString(text, `\n\tat STACK`)
	text = lastModified.ReplaceAllString(text, `"last_modified":0`)
	return sandglass.ReplaceAllString(text, `"$1":0`)
}

// await polls a connector's status, unrecorded, until it is as wanted.
func (s *session) await(ctx context.Context, name string, want func(status) bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		res, text, err := s.ask(ctx, http.MethodGet, "/connectors/"+name+"/status", "")
		if err != nil {
			return fmt.Errorf("await %s: %w", name, err)
		}
		var st status
		_ = json.Unmarshal([]byte(text), &st)
		st.missing = res.StatusCode == http.StatusNotFound
		if want(st) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("await %s: %w, last %s", name, ctx.Err(), text)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

type status struct {
	missing   bool
	Connector struct {
		State string `json:"state"`
	} `json:"connector"`
	Tasks []struct {
		State string `json:"state"`
	} `json:"tasks"`
}

// state wants a connector and n tasks in a state.
func state(want string, n int) func(status) bool {
	return func(s status) bool {
		if s.Connector.State != want || len(s.Tasks) != n {
			return false
		}
		for _, t := range s.Tasks {
			if t.State != want {
				return false
			}
		}
		return true
	}
}

func gone(s status) bool { return s.missing }
