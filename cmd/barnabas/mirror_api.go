package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sync/errgroup"

	"barnabas/config"
	"barnabas/connector/mirror/dedicated"
	"barnabas/rest"
)

// mirrorAPI is the internal REST API of the dedicated mode (KIP-710): below /SOURCE/TARGET the requests that workers send
// each other, as MirrorMaker has them, and besides what shows how a link does. Nothing can be changed through
// it, and no configuration can be read.
type mirrorAPI struct {
	maker     *mirrorMaker
	listeners []net.Listener
	url       string // advertised
	address   string // of url: host:port
	peer      rest.Handshake
	process   *prometheus.Registry
}

// openAPI opens the listeners of the file.
func (m *mirrorMaker) openAPI(ctx context.Context) (*mirrorAPI, error) {
	links := m.file.Links()
	written := m.file.Worker(links[0]) // the listeners are judged as a part of any worker's settings
	for key, text := range m.file.REST() {
		written[key] = text
	}
	if classes := written["rest.extension.classes"]; classes != "" { // MirrorMaker's MirrorRestServer loads none either
		m.log.Warn("the internal REST API has no extensions", "key", "rest.extension.classes", "value", classes)
		delete(written, "rest.extension.classes")
	}
	settings, _, err := m.resolve(ctx, written)
	if err != nil {
		return nil, err
	}
	file, problems, _ := config.ParseWorker(settings)
	if len(problems) > 0 {
		return nil, problemsError("listeners", problems)
	}
	a := &mirrorAPI{maker: m, process: prometheus.NewRegistry()}
	a.process.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var secure *listenerTLS
	if a.listeners, secure, err = openListeners("listeners", file.Listeners, file, m.log); err != nil {
		return nil, err
	}
	a.url = advertisedURL(file, a.listeners)
	a.address = strings.SplitN(a.url, "://", 2)[1]
	a.peer = secure.peer(file)
	return a, nil
}

// close closes the listeners of an API that does not run.
func (a *mirrorAPI) close() {
	if a != nil {
		closeAll(a.listeners)
	}
}

// urlOf is where the worker of a link is reached.
func (a *mirrorAPI) urlOf(l dedicated.Link) string {
	return a.url + pathOf(l)
}

func pathOf(l dedicated.Link) string {
	return "/" + url.PathEscape(l.Source) + "/" + url.PathEscape(l.Target)
}

// run serves the listeners until ctx ends.
func (a *mirrorAPI) run(ctx context.Context) error {
	server := &http.Server{
		Handler: a.handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 2 * time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10,
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range a.listeners {
		g.Go(func() error {
			a.maker.log.Info("serving the internal REST API", "address", l.Addr().String())
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve %s: %w", l.Addr(), err)
			}
			return nil
		})
	}
	g.Go(func() error {
		<-ctx.Done()
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := server.Shutdown(bound); err != nil {
			server.Close()
		}
		return nil
	})
	return g.Wait()
}

// handler routes requests to the links.
func (a *mirrorAPI) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(prometheus.GathererFunc(a.gather), promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	mux.HandleFunc("GET /health", a.health)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		for _, l := range a.maker.links {
			prefix := pathOf(l.Link)
			rest, ok := strings.CutPrefix(r.URL.EscapedPath(), prefix)
			if run := l.now.Load(); ok && run != nil && run.server != nil && served(r.Method, rest) {
				run.server.Handler().ServeHTTP(w, below(r, rest))
				return
			}
		}
		http.NotFound(w, r)
	})
	return mux
}

// below is r without the path of its link.
func below(r *http.Request, rest string) *http.Request {
	r = r.Clone(r.Context())
	r.URL.Path, _ = url.PathUnescape(rest) // a part of a path that has been parsed
	r.URL.RawPath = rest
	return r
}

// shown are the paths below a link that may be read: states and progress, no configurations.
var shown = regexp.MustCompile(`^/(health|connectors|connectors/[^/]+/(status|tasks/\d+/status|topics)|v1/workers|v1/replication/.*)$`)

// internalTasks is where the owner of a connector brings its plan; the request is signed.
var internalTasks = regexp.MustCompile(`^/connectors/[^/]+/tasks$`)

func served(method, path string) bool {
	return method == http.MethodGet && shown.MatchString(path) || method == http.MethodPost && internalTasks.MatchString(path)
}

// gather collects the metrics of the process and of all links, which carry the link as a label.
func (a *mirrorAPI) gather() ([]*dto.MetricFamily, error) {
	all := prometheus.Gatherers{a.process}
	for _, l := range a.maker.links {
		if run := l.now.Load(); run != nil {
			all = append(all, run.metrics)
		}
	}
	return all.Gather()
}

// health answers 200 if all links are healthy, and otherwise 503 with the first that is not.
func (a *mirrorAPI) health(w http.ResponseWriter, _ *http.Request) {
	for _, l := range a.maker.links {
		status, message := "starting", "The worker is being started."
		if run := l.now.Load(); run != nil {
			h := run.worker.Health()
			status, message = h.Status, h.Message
		}
		if status != "healthy" {
			http.Error(w, fmt.Sprintf("%s is %s: %s", l.Link, status, message), http.StatusServiceUnavailable)
			return
		}
	}
	_, _ = fmt.Fprintln(w, "healthy")
}
