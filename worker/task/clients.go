package task

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/connector"
)

// clients makes and closes the Kafka clients of one run.
type clients struct {
	runner   *Runner
	run      *running
	settings config.Settings
	log      *slog.Logger

	mu     sync.Mutex
	opened []*kgo.Client
	told   map[connector.Role]bool
}

func (c *clients) api() connector.Clients {
	return connector.Clients{Open: c.open, Principal: c.principal}
}

func (c *clients) build(role connector.Role) (*clientconfig.Client, error) {
	settings := clientconfig.Layers(role, c.runner.o.Worker, c.settings)
	if _, ok := settings["client.id"]; !ok {
		id := fmt.Sprintf("connector-%s-%s-%d|%s", clientconfig.RoleKind(role), c.run.Connector, max(c.run.Task, 0), role)
		settings = settings.Merge(config.Literal(map[string]string{"client.id": id}))
	}
	return clientconfig.Build(settings, clientconfig.RoleKind(role))
}

func (c *clients) open(_ context.Context, role connector.Role, extra ...kgo.Opt) (*kgo.Client, error) {
	built, err := c.build(role)
	if err != nil {
		return nil, fmt.Errorf("settings of the %s client: %w", role, err)
	}
	c.tell(role, built.Report)
	dial := built.Dial
	if c.runner.o.Dialer != nil {
		dial = built.DialWith(c.runner.o.Dialer)
	}
	opts := append(built.Opts, kgo.Dialer(c.run.guard.dialer(dial)), kgo.WithLogger(KafkaLog(c.log.With("client", string(role)))))
	cl, err := kgo.NewClient(append(opts, extra...)...)
	if err != nil {
		return nil, fmt.Errorf("make the %s client: %w", role, err)
	}
	c.mu.Lock()
	c.opened = append(c.opened, cl)
	c.mu.Unlock()
	return cl, nil
}

// tell logs once what of a client's settings was not taken as written.
func (c *clients) tell(role connector.Role, r clientconfig.Report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told[role] {
		return
	}
	if c.told == nil {
		c.told = map[connector.Role]bool{}
	}
	c.told[role] = true
	for _, u := range r.Unknown {
		c.log.Warn("unknown client setting", "client", string(role), "key", u.Key, "nearest", u.Nearest)
	}
	for _, a := range r.Adapted {
		c.log.Info("client setting adapted", "client", string(role), "key", a.Key, "reason", a.Message)
	}
	for _, m := range r.Meaningless {
		c.log.Info("client setting without meaning here", "client", string(role), "key", m.Key, "reason", m.Message)
	}
}

func (c *clients) principal(role connector.Role) string {
	built, err := c.build(role)
	if err != nil {
		return "an unknown principal"
	}
	return identity(built.Report)
}

// close closes every client of the run. Its connections have been cut if its time
// was over, so this cannot hang on a broker.
func (c *clients) close() {
	c.mu.Lock()
	opened := c.opened
	c.opened = nil
	c.mu.Unlock()
	for _, cl := range opened {
		cl.Close()
	}
}
