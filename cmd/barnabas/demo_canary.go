package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/clientconfig"
	"barnabas/config"
)

// canary looks for secrets in everything that passes by. It tells where one was,
// never what it was.
type canary struct {
	needles [][]byte
	longest int
	scanned atomic.Int64 // bytes

	mu    sync.Mutex
	found []string
}

func newCanary(secrets []config.Secret) *canary {
	c := &canary{}
	for _, s := range secrets {
		c.needles = append(c.needles, []byte(s.Reveal()))
		c.longest = max(c.longest, len(s.Reveal()))
	}
	return c
}

// scan looks at one piece that is whole.
func (c *canary) scan(where string, text []byte) {
	c.scanned.Add(int64(len(text)))
	for _, n := range c.needles {
		if bytes.Contains(text, n) {
			c.mu.Lock()
			if !slices.Contains(c.found, where) {
				c.found = append(c.found, where)
			}
			c.mu.Unlock()
		}
	}
}

// places returns where secrets were found.
func (c *canary) places() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.found)
}

// tap is a stream that is looked at, also where a secret is cut in two.
type tap struct {
	canary *canary
	where  string

	mu   sync.Mutex
	tail []byte
}

// Write looks at p; it never fails.
func (t *tap) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	joined := append(t.tail, p...)
	t.canary.scan(t.where, joined)
	t.canary.scanned.Add(-int64(len(joined) - len(p)))
	t.tail = slices.Clone(joined[max(0, len(joined)-t.canary.longest+1):])
	return len(p), nil
}

// tee writes to w what a tap looks at.
func (c *canary) tee(where string, w io.Writer) io.Writer {
	return io.MultiWriter(&tap{canary: c, where: where}, w)
}

// listener looks at everything that is sent to those who connect to l.
func (c *canary) listener(where string, l net.Listener) net.Listener {
	return &tappedListener{l, func() *tap { return &tap{canary: c, where: where} }}
}

type tappedListener struct {
	net.Listener
	tap func() *tap
}

func (l *tappedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &tappedConn{c, l.tap()}, nil
}

type tappedConn struct {
	net.Conn
	tap *tap
}

func (c *tappedConn) Write(p []byte) (int, error) {
	_, _ = c.tap.Write(p)
	return c.Conn.Write(p)
}

// topics looks at every record of the topics whose names begin with prefix, and
// returns how many there were.
func (c *canary) topics(ctx context.Context, who identity, cluster *kfake.Cluster, prefix string) (records int, err error) {
	cl, err := who.client(ctx, cluster, clientconfig.Admin)
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	all, err := kadm.NewClient(cl).ListEndOffsets(ctx)
	if err != nil {
		return 0, fmt.Errorf("look at the topics: %w", err)
	}
	from := map[string]map[int32]kgo.Offset{}
	ends := map[string]map[int32]int64{}
	all.Each(func(o kadm.ListedOffset) {
		if !strings.HasPrefix(o.Topic, prefix) || o.Offset == 0 {
			return
		}
		if from[o.Topic] == nil {
			from[o.Topic], ends[o.Topic] = map[int32]kgo.Offset{}, map[int32]int64{}
		}
		from[o.Topic][o.Partition], ends[o.Topic][o.Partition] = kgo.NewOffset().AtStart(), o.Offset
	})
	reader, err := who.client(ctx, cluster, clientconfig.Consumer, kgo.ConsumePartitions(from), kgo.KeepControlRecords())
	if err != nil {
		return 0, err
	}
	defer reader.Close()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for len(ends) > 0 && ctx.Err() == nil {
		reader.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			records++
			c.scan("topic "+r.Topic, slices.Concat(r.Key, []byte{0}, r.Value))
			if r.Offset+1 >= ends[r.Topic][r.Partition] {
				delete(ends[r.Topic], r.Partition)
				if len(ends[r.Topic]) == 0 {
					delete(ends, r.Topic)
				}
			}
		})
	}
	return records, ctx.Err()
}
