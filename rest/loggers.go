package rest

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	"barnabas/worker"
)

// logLevels are Log4j's, which Connect takes.
var logLevels = []string{"OFF", "FATAL", "ERROR", "WARN", "INFO", "DEBUG", "TRACE", "ALL"}

func (s *Server) listLoggers(context.Context, *request) (answer, error) {
	levels := s.o.Loggers.Levels()
	if levels == nil {
		levels = map[string]LoggerLevel{}
	}
	return ok(levels)
}

func (s *Server) getLogger(_ context.Context, r *request) (answer, error) {
	name := r.param("logger")
	level, found := s.o.Loggers.Levels()[name]
	if !found {
		return answer{}, fail(http.StatusNotFound, "Logger %s not found.", name)
	}
	return ok(level)
}

// setLogger sets a level here, or with scope=cluster on all live workers
// (KIP-976). An unknown scope means here, as in Connect.
func (s *Server) setLogger(ctx context.Context, r *request) (answer, error) {
	fields, err := readStrings(r.body)
	if err != nil {
		return answer{}, err
	}
	if fields == nil {
		return answer{}, fail(http.StatusInternalServerError, "The request has no level.")
	}
	if fields["level"] == nil {
		return answer{}, fail(http.StatusBadRequest, "Desired 'level' parameter was not specified in request.")
	}
	level := strings.ToUpper(*fields["level"])
	if !slices.Contains(logLevels, level) {
		return answer{}, fail(http.StatusNotFound, "invalid log level '%s'.", *fields["level"])
	}
	name := r.param("logger")
	if strings.EqualFold(r.query.Get("scope"), "cluster") {
		if err := s.setLoggerEverywhere(ctx, r, name, level); err != nil {
			return answer{}, err
		}
		return empty(http.StatusNoContent)
	}
	return ok(orEmpty(s.o.Loggers.SetLevel(name, level)))
}

// setLoggerEverywhere asks every live worker. Connect writes a record that
// workers follow, and does not tell who did not; this names them.
func (s *Server) setLoggerEverywhere(ctx context.Context, r *request, name, level string) error {
	if err := s.health(); err != nil {
		return err // it does not know the others yet
	}
	s.o.Loggers.SetLevel(name, level)
	failed := s.askPeers(ctx, r, s.livePeers(), func(ctx context.Context, c *Client, _ worker.Member) error {
		_, err := c.SetLogger(ctx, name, level)
		return err
	})
	if len(failed) > 0 {
		return fail(http.StatusServiceUnavailable, "The level is set, but not on %s.", strings.Join(slices.Sorted(maps.Keys(failed)), ", "))
	}
	return nil
}
