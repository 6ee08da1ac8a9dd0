package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/prometheus/client_golang/prometheus"
)

// described is a transport that checks every answer, and every request that was
// not refused, against openapi.yaml.
type described struct {
	t    *testing.T
	next http.RoundTripper
}

var description = sync.OnceValues(func() (routers.Router, error) {
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, err
	}
	return legacy.NewRouter(doc)
})

func (d *described) RoundTrip(req *http.Request) (*http.Response, error) {
	var sent []byte
	if req.Body != nil {
		sent, _ = io.ReadAll(req.Body)
		req.Body = io.NopCloser(bytes.NewReader(sent))
	}
	res, err := d.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	res.Body.Close()
	res.Body = io.NopCloser(bytes.NewReader(body))
	if err := checkDescribed(req, sent, res, body); err != nil {
		d.t.Errorf("%s %s answered %d %s\nwhich openapi.yaml does not describe: %v", req.Method, req.URL, res.StatusCode, body, err)
	}
	return res, nil
}

func checkDescribed(req *http.Request, sent []byte, res *http.Response, body []byte) error {
	if res.Header.Get(headerRequestID) == "" {
		return errors.New("no " + headerRequestID)
	}
	if req.Method == http.MethodHead || req.Method == http.MethodOptions {
		return nil
	}
	router, err := description()
	if err != nil {
		return err
	}
	path, err := cleanPath(strings.TrimPrefix(req.URL.EscapedPath(), "//"+req.URL.Host))
	if req.URL.Opaque != "" {
		path, err = cleanPath(strings.TrimPrefix(req.URL.Opaque, "//"+req.URL.Host))
	}
	known := req.Clone(context.Background())
	known.URL.Opaque, known.URL.Path, known.URL.RawPath, known.URL.Scheme, known.URL.Host = "", path, "", "", ""
	known.Body = io.NopCloser(bytes.NewReader(sent))
	var route *routers.Route
	var params map[string]string
	if err == nil {
		route, params, err = router.FindRoute(known)
	}
	if err != nil { // no such address: then the answer is an error, or it is missing in the description
		var e errorBody
		if res.StatusCode < 400 || json.Unmarshal(body, &e) != nil || e.Code != res.StatusCode || e.Message == "" {
			return fmt.Errorf("no route: %w", err)
		}
		return nil
	}
	in := &openapi3filter.RequestValidationInput{
		Request: known, PathParams: params, Route: route,
		Options: &openapi3filter.Options{IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	if res.StatusCode < 300 && len(sent) > 0 && slices.Contains([]string{"PUT", "POST", "PATCH"}, req.Method) && route.Operation.RequestBody != nil {
		if err := openapi3filter.ValidateRequest(context.Background(), in); err != nil {
			return fmt.Errorf("request: %w", err)
		}
	}
	if len(body) == 0 && res.StatusCode != http.StatusNoContent && res.StatusCode != http.StatusAccepted {
		return errors.New("no body")
	}
	return openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: res.StatusCode, Header: res.Header, Body: io.NopCloser(bytes.NewReader(body)), Options: in.Options,
	})
}

func TestDescriptionAndRoutesNameTheSameAddresses(t *testing.T) {
	t.Parallel()
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	described := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			described[method+" "+path] = true
		}
	}
	s := &Server{o: Options{Gatherer: prometheus.NewRegistry(), Loggers: &Loggers{}}}
	for _, rt := range connectRoutes(s) {
		name := rt.method + " " + template(rt.path)
		if !described[name] {
			t.Errorf("%s is served, but not in openapi.yaml", name)
		}
		delete(described, name)
	}
	for name := range described {
		t.Errorf("%s is in openapi.yaml, but not served", name)
	}
}

func TestOperationsHaveUniqueIds(t *testing.T) {
	t.Parallel()
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if other, twice := seen[op.OperationID]; twice || op.OperationID == "" {
				t.Errorf("%s %s has the operation id %q of %s", method, path, op.OperationID, other)
			}
			seen[op.OperationID] = method + " " + path
		}
	}
}
