package clientconfig

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
	"barnabas/connector"
)

// Clients makes Kafka clients under a connector's identity for a question that is asked beside its runs: out of the settings of the
// worker and the connector, both resolved. tcp opens connections; nil: the network does. Whoever asks calls close when it is
// answered, which closes all clients.
func Clients(worker, settings config.Settings, tcp DialFunc) (clients connector.Clients, closeAll func()) {
	build := func(role connector.Role) (*Client, error) {
		return Build(Layers(role, worker, settings), RoleKind(role))
	}
	var mu sync.Mutex
	var opened []*kgo.Client
	clients.Open = func(_ context.Context, role connector.Role, extra ...kgo.Opt) (*kgo.Client, error) {
		built, err := build(role)
		if err != nil {
			return nil, fmt.Errorf("settings of the %s client: %w", role, err)
		}
		dial := built.Dial
		if tcp != nil {
			dial = built.DialWith(tcp)
		}
		client, err := kgo.NewClient(append(append(slices.Clone(built.Opts), kgo.Dialer(dial)), extra...)...)
		if err != nil {
			return nil, fmt.Errorf("make the %s client: %w", role, err)
		}
		mu.Lock()
		defer mu.Unlock()
		opened = append(opened, client)
		return client, nil
	}
	clients.Principal = func(role connector.Role) string {
		built, err := build(role)
		if err != nil {
			return "an unknown principal"
		}
		return built.Report.Identity()
	}
	return clients, func() {
		mu.Lock()
		defer mu.Unlock()
		for _, client := range opened {
			client.Close()
		}
	}
}

// Identity is whom a broker sees and which references the credentials come from, for errors.
func (r Report) Identity() string {
	var refs []string
	for _, of := range r.References {
		refs = append(refs, of...)
	}
	if len(refs) == 0 {
		return r.Principal
	}
	slices.Sort(refs)
	return fmt.Sprintf("%s (credentials from %s)", r.Principal, strings.Join(slices.Compact(refs), ", "))
}

// Seen is whom a broker sees: User: and the SASL user name as it resolved. With TLS alone it is what the configuration tells of
// the certificate, which the broker's ssl.principal.mapping.rules may write otherwise.
func (c *Client) Seen() string {
	if user := c.User.Reveal(); user != "" {
		return "User:" + user
	}
	return c.Report.Principal
}
