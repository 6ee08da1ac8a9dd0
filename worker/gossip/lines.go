package gossip

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
)

// memberlist logs a line for each packet it cannot use, and some of them while
// it holds its lock. So lines only go into a bounded queue, and what is said
// at WARN is said once a minute a kind.
const (
	queuedLines = 128
	warnEvery   = time.Minute
	maxKinds    = 64 // of warnings remembered; memberlist has some 40 formats
)

// lines takes memberlist's log, and ours from inside its callbacks.
type lines struct {
	logger *slog.Logger
	queue  chan line
	lost   atomic.Int64
}

type line struct {
	level   slog.Level
	message string
	attrs   []any
}

func newLines(logger *slog.Logger) *lines {
	return &lines{logger: logger, queue: make(chan line, queuedLines)}
}

// Write takes a line of memberlist's: "[LEVEL] memberlist: text".
func (l *lines) Write(b []byte) (int, error) {
	text := string(bytes.TrimSpace(b))
	level := slog.LevelWarn
	if rest, ok := strings.CutPrefix(text, "["); ok {
		if tag, after, ok := strings.Cut(rest, "] "); ok {
			level, text = levelOf(tag), strings.TrimPrefix(after, "memberlist: ")
		}
	}
	switch {
	case badSecret(text):
		l.put(line{slog.LevelWarn, "a host that has another gossip.secret wants to join", []any{"err", text}})
	case strings.Contains(text, "with unacceptable label"):
		l.put(line{slog.LevelWarn, "a worker of another group.id wants to join", []any{"err", text}})
	default:
		l.put(line{level, kind(text), []any{"err", text}})
	}
	return len(b), nil
}

// levelOf maps memberlist's levels. Its errors are the network's, and it goes
// on after them: warnings.
func levelOf(tag string) slog.Level {
	switch tag {
	case "DEBUG":
		return slog.LevelDebug
	case "INFO":
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// kind gives what the lines of one of memberlist's formats begin with: the
// first two words, or one where the second is a node's name.
func kind(text string) string {
	words := strings.Fields(text)
	words = words[:min(2, len(words))]
	if len(words) == 2 && strings.Contains(words[1], "#") {
		words = words[:1]
	}
	return "memberlist: " + strings.TrimRight(strings.Join(words, " "), ":")
}

func (l *lines) put(n line) {
	select {
	case l.queue <- n:
	default:
		l.lost.Add(1)
	}
}

// conflict notes that two processes claim one name.
func (l *lines) conflict(name, one, other string) {
	l.put(line{slog.LevelWarn, "two workers with one name: give each its own rest.advertised.host.name and port", []any{"worker", name, "one", one, "other", other}})
}

// foreign notes a message that is none of ours.
func (l *lines) foreign(err error) {
	l.put(line{slog.LevelWarn, "message not understood", []any{"err", err}})
}

// unjoined notes that others were not found. While there are some it is no
// matter, nor while all start together; a worker that stays alone is one.
func (l *lines) unjoined(alone bool, failures []error) {
	level, message := slog.LevelDebug, "some addresses have no worker"
	if alone {
		level, message = slog.LevelWarn, "alone: no other worker found"
	}
	for _, err := range failures {
		if errors.Is(err, errSecret) {
			l.put(line{slog.LevelWarn, "not let in: gossip.secret differs", []any{"err", err}})
			return
		}
	}
	l.put(line{level, message, []any{"err", failures[0], "tried", len(failures)}})
}

// run writes the queue to the logger until ctx ends and the queue is empty.
func (l *lines) run(ctx context.Context) {
	type said struct {
		at   time.Time
		held int // since
	}
	warned := map[string]*said{}
	write := func(n line) {
		if n.level >= slog.LevelWarn {
			w := warned[n.message]
			if w != nil && time.Since(w.at) < warnEvery {
				w.held++
				return
			}
			if w != nil && w.held > 0 {
				n.attrs = append(n.attrs, "repeated", w.held)
			}
			if len(warned) >= maxKinds {
				clear(warned)
			}
			warned[n.message] = &said{at: time.Now()}
		}
		if lost := l.lost.Swap(0); lost > 0 {
			n.attrs = append(n.attrs, "lines_lost", lost)
		}
		l.logger.Log(context.WithoutCancel(ctx), n.level, n.message, n.attrs...)
	}
	for {
		select {
		case n := <-l.queue:
			write(n)
			continue
		case <-ctx.Done():
		}
		for {
			select {
			case n := <-l.queue:
				write(n)
			default:
				return
			}
		}
	}
}
