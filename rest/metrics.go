package rest

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts requests by route template, never by path: a label holds no
// connector's name.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	forwards *prometheus.CounterVec

	connections prometheus.Gauge
	cut         *prometheus.CounterVec
}

// newMetrics registers the metrics; a nil r leaves them unregistered.
func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "barnabas_rest_requests_total", Help: "REST requests answered.",
		}, []string{"route", "method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "barnabas_rest_request_duration_seconds", Help: "Time to answer a REST request.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10, 30, 60},
		}, []string{"route", "method"}),
		forwards: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "barnabas_rest_forwards_total",
			Help: "Attempts to have another worker perform a request: taken, refused (it could not either), unreached, uncertain (sent, no answer).",
		}, []string{"outcome"}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "barnabas_rest_connections", Help: "Connections to the REST API that are open.",
		}),
		cut: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "barnabas_rest_connections_cut_total",
			Help: "Connections closed because there were too many: refused (a new one), displaced (one that has long been without a request).",
		}, []string{"reason"}),
	}
	if r != nil {
		r.MustRegister(m.requests, m.duration, m.forwards, m.connections, m.cut)
	}
	return m
}

var knownMethods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

// observe counts a request. route is echo's template, empty if none matched.
func (m *metrics) observe(route, method string, code int, took time.Duration) {
	if route == "" {
		route = "unknown"
	}
	if !slices.Contains(knownMethods, method) {
		method = "other"
	}
	route = template(route)
	m.requests.WithLabelValues(route, method, strconv.Itoa(code)).Inc()
	m.duration.WithLabelValues(route, method).Observe(took.Seconds())
}

// template writes echo's ":name" as "{name}", which openapi.yaml uses.
func template(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if name, ok := strings.CutPrefix(p, ":"); ok {
			parts[i] = "{" + name + "}"
		}
	}
	return strings.Join(parts, "/")
}
