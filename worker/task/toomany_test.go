package task

import (
	"context"
	"errors"
	"strings"
	"testing"

	"barnabas/config"
	"barnabas/connector"
)

// greedy plans three tasks, whatever it may.
type greedy struct{}

func (greedy) Run(ctx context.Context, cc connector.Context) error {
	return cc.SetTasks(ctx, []map[string]string{{"n": "0"}, {"n": "1"}, {"n": "2"}})
}

func TestMoreTasksThanAllowedFailTheConnector(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		most, enforce string
		published     int
	}{{"2", "true", 0}, {"2", "false", 3}, {"3", "true", 3}} {
		t.Run(row.most+" "+row.enforce, func(t *testing.T) {
			t.Parallel()
			r, ended, log := runner(t, leased(), nil)
			published := make(chan int, 1)
			r.o.Publish = func(_ context.Context, _ string, _ int64, tasks []map[string]string) error {
				published <- len(tasks)
				return nil
			}
			r.o.Plugin = func(string) (connector.Plugin, error) {
				keys := config.NewDef(config.Key{Name: "tasks.max", Type: config.Int}, config.Key{Name: "tasks.max.enforce", Type: config.Boolean})
				return connector.Plugin{Keys: keys, NewConnector: func() connector.Connector { return greedy{} }}, nil
			}
			r.Start(Run{ID: 1, Connector: "c", Task: -1, Config: map[string]string{"tasks.max": row.most, "tasks.max.enforce": row.enforce}})
			err := wait(t, ended, "its end").err
			var final *FinalError
			if row.published == 0 {
				if !errors.As(err, &final) || !strings.HasPrefix(err.Error(), "The connector c has generated 3 tasks, which is greater than 2, ") {
					t.Errorf("%v", err)
				}
				return
			}
			if n := wait(t, published, "tasks"); n != row.published {
				t.Errorf("%d tasks published, want %d", n, row.published)
			}
			if told := strings.Contains(log.String(), "tasks=3 most=2"); told != (row.most == "2") {
				t.Errorf("log: %s", log.String())
			}
		})
	}
}
