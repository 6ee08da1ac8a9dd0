package tolerance

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
	"barnabas/connector"
)

var keys = config.NewDef(config.Key{Name: keyTolerance, Default: new("none")}, config.Key{Name: keyLog, Type: config.Boolean, Default: new("false")},
	config.Key{Name: keyLogMessages, Type: config.Boolean, Default: new("false")})

func failure() Failure {
	return Failure{
		Stage: ValueConverter, Class: "a.Converter", Exception: "an.Exception", Message: "not that", Err: errors.New("not that: byte 3"),
		Record: &kgo.Record{Topic: "t", Partition: 1, Offset: 7, Timestamp: time.UnixMilli(5), Key: []byte("k"), Headers: []kgo.RecordHeader{{Key: "h"}}},
	}
}

func TestErrorsAreToldAndTolerated(t *testing.T) {
	t.Parallel()
	source := failure()
	source.Record, source.Where = nil, "SourceRecord{…}"
	for name, tt := range map[string]struct {
		settings  map[string]string
		failure   Failure
		tolerated bool
		line      string
	}{
		"default": {nil, failure(), false, ""},
		"all":     {map[string]string{keyTolerance: "all"}, failure(), true, ""},
		"log":     {map[string]string{keyLog: "true"}, failure(), false, "Error encountered in task x-2. Executing stage 'VALUE_CONVERTER' with class 'a.Converter'."},
		"messages": {
			map[string]string{keyLog: "true", keyLogMessages: "true", keyTolerance: "all"},
			failure(), true,
			"Error encountered in task x-2. Executing stage 'VALUE_CONVERTER' with class 'a.Converter', where consumed record is {topic='t', partition=1, offset=7, timestamp=5, timestampType=CreateTime}.",
		},
		"source": {
			map[string]string{keyLog: "true", keyLogMessages: "true"},
			source, false,
			"Error encountered in task x-2. Executing stage 'VALUE_CONVERTER' with class 'a.Converter', where source record is = SourceRecord{…}.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			values, problems := keys.Parse(config.Literal(tt.settings))
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			var out bytes.Buffer
			h := New(values, connector.TaskContext{Connector: "x", Task: 2, Log: slog.New(slog.NewTextHandler(&out, nil))}, nil)
			err := h.Failed(t.Context(), tt.failure)
			if (err == nil) != tt.tolerated {
				t.Errorf("got %v", err)
			}
			if err != nil && err.Error() != "Tolerance exceeded in error handler: not that: byte 3" {
				t.Errorf("got %v", err)
			}
			if !strings.Contains(out.String(), tt.line) || (out.Len() > 0) != (tt.line != "") {
				t.Errorf("log %q, want %q", out.String(), tt.line)
			}
			if c := h.Counts(); c.Failures != 1 || (c.Skipped == 1) != tt.tolerated || c.Last.IsZero() {
				t.Errorf("counts %+v", c)
			}
		})
	}
}

func TestLettersTellWhatHappened(t *testing.T) {
	t.Parallel()
	q := &Queue{connector: "x", task: 2}
	got := map[string]string{}
	var order []string
	for _, h := range q.headers(failure()) {
		name := strings.TrimPrefix(h.Key, "__connect.errors.")
		got[name] = string(h.Value)
		order = append(order, name)
	}
	want := map[string]string{
		"topic": "t", "partition": "1", "offset": "7", "connector.name": "x", "task.id": "2", "stage": "VALUE_CONVERTER", "class.name": "a.Converter",
		"exception.class.name": "an.Exception", "exception.message": "not that", "exception.stacktrace": "an.Exception: not that: byte 3\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if strings.Join(order[:3], " ") != "topic partition offset" {
		t.Errorf("in the order %v", order)
	}
}
