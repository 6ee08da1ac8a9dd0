package task

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// KafkaLog passes the log of franz-go on. What it calls info is our debug, and a
// warning that repeats is shown once a minute: a broker that is down makes the
// client say so many times a second.
func KafkaLog(log *slog.Logger) kgo.Logger {
	return &kafkaLog{log: log, shown: map[string]time.Time{}}
}

type kafkaLog struct {
	log *slog.Logger

	mu    sync.Mutex
	shown map[string]time.Time // franz-go's messages are constants: few
}

func (k *kafkaLog) Level() kgo.LogLevel {
	switch {
	case k.log.Enabled(context.Background(), slog.LevelDebug):
		return kgo.LogLevelInfo
	case k.log.Enabled(context.Background(), slog.LevelWarn):
		return kgo.LogLevelWarn
	}
	return kgo.LogLevelError
}

func (k *kafkaLog) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	to := slog.LevelDebug
	if (level == kgo.LogLevelError || level == kgo.LogLevelWarn) && k.first(msg) {
		to = slog.LevelWarn
	}
	k.log.Log(context.Background(), to, msg, keyvals...)
}

// first says whether msg has not been shown in the last minute.
func (k *kafkaLog) first(msg string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if now.Sub(k.shown[msg]) < time.Minute {
		return false
	}
	k.shown[msg] = now
	return true
}
