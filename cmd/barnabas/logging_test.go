package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

func TestLevelsAreSetByLogger(t *testing.T) {
	t.Parallel()
	levels, err := newLogLevels("info")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	log, err := newLogger(&out, "auto", levels)
	if err != nil {
		t.Fatal(err)
	}
	api := levels.api()
	orders, payments := log.With(logAttr, "worker").With("connector", "orders"), log.With("connector", "payments")
	say := func() string {
		out.Reset()
		for name, l := range map[string]*slog.Logger{"root": log, "rest": log.With(logAttr, "rest"), "orders": orders, "payments": payments} {
			l.Debug("debug " + name)
			l.Info("info " + name)
			l.Warn("warn " + name)
		}
		var said []string
		for line := range strings.Lines(out.String()) {
			var record struct{ Msg string }
			if err := json.Unmarshal([]byte(line), &record); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			if !strings.HasPrefix(record.Msg, "warn") {
				said = append(said, record.Msg)
			}
		}
		slices.Sort(said)
		return strings.Join(said, ", ")
	}
	for _, step := range []struct {
		name, level string
		changed     []string
		want        string
	}{
		{"rest", "WARN", []string{"rest"}, "info orders, info payments, info root"},
		{"connector.orders", "DEBUG", []string{"connector.orders"}, "debug orders, info orders, info payments, info root"},
		{"connector", "ERROR", []string{"connector", "connector.orders"}, "info root"},
		{
			"root", "DEBUG",
			[]string{"connector", "connector.orders", "gossip", "rest", "root", "worker"},
			"debug orders, debug payments, debug rest, debug root, info orders, info payments, info rest, info root",
		},
	} {
		if changed := api.SetLevel(step.name, step.level); !slices.Equal(changed, step.changed) {
			t.Errorf("%s to %s changed %v, want %v", step.name, step.level, changed, step.changed)
		}
		if got := say(); got != step.want {
			t.Errorf("after %s to %s: %s, want %s", step.name, step.level, got, step.want)
		}
	}
	if got := api.Levels()["connector.orders"]; got.Level != "DEBUG" || got.LastModified == nil {
		t.Errorf("connector.orders: %+v", got)
	}
}

func TestAPartsPartIsLoggedOnce(t *testing.T) {
	t.Parallel()
	levels, _ := newLogLevels("INFO")
	var out bytes.Buffer
	log, _ := newLogger(&out, "json", levels)
	log.With(logAttr, "worker").With(logAttr, "gossip").Info("x")
	if got := out.String(); strings.Count(got, `"logger"`) != 1 || !strings.Contains(got, `"logger":"gossip"`) {
		t.Error(got)
	}
}
