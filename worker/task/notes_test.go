package task

import (
	"context"
	"slices"
	"testing"
	"time"

	"barnabas/config"
	"barnabas/connector"
)

// planning is a connector that does what its test says.
type planning func(ctx context.Context, cc connector.Context) error

func (p planning) Run(ctx context.Context, cc connector.Context) error { return p(ctx, cc) }

func TestNotesOfAConnectorAreThoseOfItsNewestRun(t *testing.T) {
	t.Parallel()
	r, _, _ := runner(t, leased(), nil)
	told := make(chan string, 2)
	r.o.Plugin = func(string) (connector.Plugin, error) {
		keys := config.NewDef(config.Key{Name: "tasks.max", Type: config.Int, Default: new("1")})
		return connector.Plugin{Keys: keys, NewConnector: func() connector.Connector {
			return planning(func(ctx context.Context, cc connector.Context) error {
				text := cc.Settings["text"].Written
				cc.Report([]connector.Note{{About: "topic-acls", Text: text, Since: time.Unix(1, 0)}})
				err := cc.Offsets.Save(ctx, nil) // is there
				told <- text
				<-ctx.Done()
				return err
			})
		}}, nil
	}
	for id, text := range []string{"first", "second"} {
		r.Start(Run{ID: int64(id + 1), Connector: "m", Task: -1, Config: map[string]string{"text": text}})
		wait(t, told, "its note")
	}
	if notes := r.Notes("m"); len(notes) != 1 || notes[0].Text != "second" {
		t.Errorf("notes: %v", notes)
	}
	if notes := r.Notes("other"); notes != nil {
		t.Errorf("notes of another connector: %v", notes)
	}
	const want = "{about=topic-acls,connector=m} 1"
	if lines := scrape(t, r, "barnabas_replication_notes"); !slices.Equal(lines, []string{want}) {
		t.Errorf("metrics: %q, want %q", lines, want)
	}
}

func TestNotesOfTasksAreCounted(t *testing.T) {
	t.Parallel()
	told := make(chan string, 1)
	r, _, _ := runner(t, leased(), func(ctx context.Context, tc connector.TaskContext) error {
		tc.Report(connector.Progress{Notes: []connector.Note{{About: "groups", Text: "one"}, {About: "groups", Text: "another"}}})
		told <- ""
		<-ctx.Done()
		return nil
	})
	r.Start(Run{ID: 1, Connector: "m"})
	wait(t, told, "its notes")
	const want = "{about=groups,connector=m} 2"
	if lines := scrape(t, r, "barnabas_replication_notes"); !slices.Equal(lines, []string{want}) {
		t.Errorf("metrics: %q, want %q", lines, want)
	}
}
