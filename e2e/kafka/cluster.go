package kafka

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// Cluster are several brokers, each of which is a controller, too. Topics get as
// many replicas as they ask for; min.insync.replicas is one less than there are
// brokers, up to 3.
type Cluster struct {
	Brokers []*Broker
}

// StartCluster makes a new, empty cluster of n brokers and returns when all of
// them serve requests. Each broker has the spec, a folder of its own in Dir, and
// what each, if it is not nil, changes.
func StartCluster(ctx context.Context, spec Spec, n int, each func(node int, s *Spec) error) (*Cluster, error) {
	install, err := Find()
	if err != nil {
		return nil, err
	}
	if err := install.prepare(); err != nil {
		return nil, err
	}
	c, id := &Cluster{}, clusterID()
	var voters []string
	for node := 1; node <= n; node++ {
		own := spec
		own.Name, own.Dir = fmt.Sprintf("%s-%d", spec.Name, node), filepath.Join(spec.Dir, fmt.Sprint(node))
		if each != nil {
			if err := each(node, &own); err != nil {
				return nil, err
			}
		}
		b, err := plan(own, install, node, id)
		if err != nil {
			return nil, err
		}
		c.Brokers, voters = append(c.Brokers, b), append(voters, b.voter())
	}
	// All at once: none serves before there is a quorum.
	g, ctx := errgroup.WithContext(ctx)
	for _, b := range c.Brokers {
		b.voters = voters
		g.Go(func() error {
			if err := os.MkdirAll(b.spec.Dir, 0o700); err != nil {
				return err
			}
			if err := b.write(); err != nil {
				return fmt.Errorf("start broker %s: %w", b.spec.Name, err)
			}
			return b.Run(ctx)
		})
	}
	if err := g.Wait(); err != nil {
		c.Kill()
		return nil, err
	}
	return c, nil
}

// Kill ends all brokers with SIGKILL.
func (c *Cluster) Kill() {
	for _, b := range c.Brokers {
		if b.process != nil {
			b.Kill()
		}
	}
}

// Addresses are what clients of a listener connect to, as bootstrap.servers has them.
func (c *Cluster) Addresses(listener string) string {
	all := make([]string, len(c.Brokers))
	for i, b := range c.Brokers {
		all[i] = b.Address(listener)
	}
	return strings.Join(all, ",")
}

// Plain are the options of a client of the listener PLAIN, which may do everything.
func (c *Cluster) Plain() []kgo.Opt {
	return []kgo.Opt{kgo.SeedBrokers(strings.Split(c.Addresses(Plain), ",")...), kgo.ClientID("harness")}
}

// Admin returns an admin client of the listener PLAIN. Close it.
func (c *Cluster) Admin() (*kadm.Client, error) {
	client, err := kgo.NewClient(c.Plain()...)
	if err != nil {
		return nil, fmt.Errorf("client of the cluster: %w", err)
	}
	return kadm.NewClient(client), nil
}
