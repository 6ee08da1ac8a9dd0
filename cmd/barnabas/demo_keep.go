package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// keep leaves everything running until ctx ends, with a trickle of orders, and
// says what one can try.
func (d *demo) keep(ctx context.Context) error {
	for i, n := range d.nodes {
		if !n.dead {
			continue
		}
		_ = n.end()
		port, err := strconv.Atoi(n.url[strings.LastIndexByte(n.url, ':')+1:])
		if err != nil {
			return err
		}
		again, err := d.startNode(ctx, n.number, port)
		if err != nil {
			return fmt.Errorf("start worker %d again: %w", n.number, err)
		}
		d.nodes[i] = again
		d.say("   Worker %d is back.", n.number)
	}
	file := filepath.Join(d.dir, "payments.json")
	var second bytes.Buffer
	if err := writeJSON(&second, map[string]any{"name": "payments", "config": d.clusters.mirror("payments", "payments", 2, true)}); err != nil {
		return err
	}
	if err := os.WriteFile(file, second.Bytes(), 0o600); err != nil {
		return err
	}
	reader := filepath.Join(d.dir, "staging.properties")
	if err := os.WriteFile(reader, []byte(d.clusters.readerFile()), 0o600); err != nil {
		return err
	}
	url := d.nodes[0].url
	d.say("\nIt goes on until you press Ctrl-C. Kafka Connect's REST API is at %s; try:", url)
	d.say("   curl -s %s/connectors/orders/status", url)
	d.say("   curl -s -X PUT %s/connectors/orders/pause", url)
	d.say("   curl -s -H 'Content-Type: application/json' --data @%s %s/connectors", file, url)
	d.say("   barnabas workers list --url %s", url)
	d.say("   barnabas replication orders --url %s", url)
	d.say("   barnabas verify orders --url %s --target-config %s", url, reader)
	const trickle = 20
	return d.orders.stream(ctx, trickle)
}
