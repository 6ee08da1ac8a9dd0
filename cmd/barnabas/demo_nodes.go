package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"barnabas/configprovider"
)

// demoNode is a worker of the demonstration, with a plug that can be pulled.
type demoNode struct {
	*node
	plug   *plug
	number int
	log    *os.File
	stop   context.CancelFunc
	over   chan error
	dead   bool
}

// startNode starts worker number n; port 0 takes a free one.
func (d *demo) startNode(ctx context.Context, number, port int) (*demoNode, error) {
	written := d.clusters.workerFile(port)
	resolver, err := configprovider.New(ctx, written, configprovider.Kinds(nil))
	if err != nil {
		return nil, err
	}
	settings, _, err := resolver.Resolve(ctx, written)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(d.dir, fmt.Sprintf("worker-%d.log", number)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	levels, err := newLogLevels("DEBUG")
	if err != nil {
		return nil, err
	}
	var out io.Writer = d.canary.tee(fmt.Sprintf("the log of worker %d", number), log)
	logger, err := newLogger(out, "json", levels)
	if err != nil {
		return nil, err
	}
	p := newPlug()
	inner, err := newNode(nodeOptions{
		Settings: settings, Resolver: resolver, Log: logger, Levels: levels, Dialer: p.Dial, Crash: p.Crash,
		Wrap: func(l net.Listener) net.Listener { return d.canary.listener("a REST answer", p.Listen(l)) },
	})
	if err != nil {
		log.Close()
		return nil, err
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	n := &demoNode{node: inner, plug: p, number: number, log: log, stop: stop, over: make(chan error, 1)}
	go func() { n.over <- n.run(ctx) }()
	return n, nil
}

// kill ends a worker as if its machine had lost its power.
func (n *demoNode) kill() {
	n.dead = true
	n.plug.Pull()
}

// end ends a worker in good order, if it lives, and returns why it failed.
func (n *demoNode) end() error {
	n.stop()
	defer n.log.Close()
	select {
	case err := <-n.over:
		if n.dead {
			return nil // what a dead one says does not count
		}
		return err
	case <-time.After(30 * time.Second):
		n.plug.Pull()
		return fmt.Errorf("worker %d did not end", n.number)
	}
}
