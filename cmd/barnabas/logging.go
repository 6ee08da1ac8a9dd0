package main

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"barnabas/rest"
)

// logAttr names a logger: log.With(logAttr, "rest"). The attribute "connector" names
// one too, "connector.NAME", so that one connector alone can be made to talk.
const (
	logAttr       = "logger"
	connectorAttr = "connector"
	rootLogger    = "root"
)

// Loggers below root that always have a level of their own, so that one can see
// what there is to set.
var loggerNames = []string{"connector", "gossip", "rest", "worker"}

// levelNames are Log4j's, as the API has them; the loudest last.
var levelNames = []struct {
	name  string
	level slog.Level
}{
	{"OFF", math.MaxInt},
	{"FATAL", 12},
	{"ERROR", slog.LevelError},
	{"WARN", slog.LevelWarn},
	{"INFO", slog.LevelInfo},
	{"DEBUG", slog.LevelDebug},
	{"TRACE", -8},
	{"ALL", math.MinInt},
}

func parseLevel(name string) (slog.Level, bool) {
	for _, l := range levelNames {
		if strings.EqualFold(l.name, name) {
			return l.level, true
		}
	}
	return 0, false
}

// logLevels holds the level of each logger. It may be changed at any time.
type logLevels struct {
	mu  sync.RWMutex
	set map[string]setLevel
}

type setLevel struct {
	name     string // Log4j's
	level    slog.Level
	modified *int64 // ms since 1970; nil: as at the start
}

func newLogLevels(level string) (*logLevels, error) {
	parsed, ok := parseLevel(level)
	if !ok {
		return nil, usagef("--log-level is ERROR, WARN, INFO, DEBUG or TRACE, not %q", level)
	}
	l := &logLevels{set: map[string]setLevel{}}
	for _, name := range append([]string{rootLogger}, loggerNames...) {
		l.set[name] = setLevel{name: strings.ToUpper(level), level: parsed}
	}
	return l, nil
}

// of returns the level of a logger: its own, or that of the nearest above it.
func (l *logLevels) of(name string) slog.Level {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for name != "" {
		if s, ok := l.set[name]; ok {
			return s.level
		}
		name = name[:max(0, strings.LastIndexByte(name, '.'))]
	}
	return l.set[rootLogger].level
}

// api is how the REST API sees and changes the levels.
func (l *logLevels) api() *rest.Loggers {
	return &rest.Loggers{Levels: l.all, SetLevel: l.change}
}

func (l *logLevels) all() map[string]rest.LoggerLevel {
	l.mu.RLock()
	defer l.mu.RUnlock()
	levels := make(map[string]rest.LoggerLevel, len(l.set))
	for name, s := range l.set {
		levels[name] = rest.LoggerLevel{Level: s.name, LastModified: s.modified}
	}
	return levels
}

// maxLoggers bounds the names that can be given a level: there are never more
// loggers than connectors and parts of the program.
const maxLoggers = 10_000

// change sets the level of a logger and of those below it.
func (l *logLevels) change(name, level string) []string {
	parsed, ok := parseLevel(level)
	if !ok {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.set[name]; !known && len(l.set) >= maxLoggers {
		return nil
	}
	now := time.Now().UnixMilli()
	changed := map[string]bool{name: true}
	for other := range l.set {
		if name == rootLogger || strings.HasPrefix(other, name+".") {
			changed[other] = true
		}
	}
	maps.DeleteFunc(changed, func(other string, _ bool) bool { return l.set[other].name == strings.ToUpper(level) })
	for other := range changed {
		l.set[other] = setLevel{name: strings.ToUpper(level), level: parsed, modified: &now}
	}
	return slices.Sorted(maps.Keys(changed))
}

// newLogger returns the logger of the process. format is auto, text or json;
// auto is text on a terminal.
func newLogger(w io.Writer, format string, levels *logLevels) (*slog.Logger, error) {
	o := &slog.HandlerOptions{Level: slog.Level(math.MinInt), ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.LevelKey {
			if level, ok := a.Value.Any().(slog.Level); ok && level < slog.LevelDebug {
				return slog.String(slog.LevelKey, "TRACE")
			}
		}
		return a
	}}
	_, onTerminal := terminal(w)
	var next slog.Handler
	switch {
	case format == "json", format == "auto" && !onTerminal:
		next = slog.NewJSONHandler(w, o)
	case format == "text", format == "auto":
		next = slog.NewTextHandler(w, o)
	default:
		return nil, usagef("--log-format is auto, text or json, not %q", format)
	}
	return slog.New(&levelHandler{next: next, levels: levels, name: rootLogger}), nil
}

// levelHandler lets through what the level of its logger allows.
type levelHandler struct {
	next   slog.Handler
	levels *logLevels
	name   string // whose level counts
	logger string // the newest logAttr; a part of a part has only its own
}

// Enabled implements slog.Handler.
func (h *levelHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.levels.of(h.name)
}

// Handle implements slog.Handler.
func (h *levelHandler) Handle(ctx context.Context, r slog.Record) error {
	if h.logger != "" {
		r = r.Clone()
		r.AddAttrs(slog.String(logAttr, h.logger))
	}
	return h.next.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *levelHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	var others []slog.Attr
	for _, a := range attrs {
		switch a.Key {
		case logAttr:
			with.name, with.logger = a.Value.String(), a.Value.String()
			continue
		case connectorAttr:
			with.name = connectorAttr + "." + a.Value.String()
		}
		others = append(others, a)
	}
	with.next = h.next.WithAttrs(others)
	return &with
}

// WithGroup implements slog.Handler.
func (h *levelHandler) WithGroup(group string) slog.Handler {
	with := *h
	with.next = h.next.WithGroup(group)
	return &with
}
