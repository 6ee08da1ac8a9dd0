package rest

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"
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

// setLogger sets a level here, or with scope=cluster on all workers, by a record that
// the leader writes (KIP-976). An unknown scope means here, as in Connect.
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
		if err := s.ready(ctx, r, time.Now().Add(s.o.ForwardTimeout)); err != nil {
			return answer{}, err
		}
		if err := s.w.SetLoggerLevel(ctx, name, *fields["level"]); err != nil {
			return answer{}, err
		}
		return empty(http.StatusNoContent)
	}
	before := s.o.Loggers.Levels()
	changed := slices.DeleteFunc(slices.Clone(s.o.Loggers.SetLevel(name, level)), func(n string) bool { return before[n].Level == level })
	return ok(orEmpty(changed))
}
