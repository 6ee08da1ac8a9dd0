package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"barnabas/connector/mirror"
)

// digestOf is one digest of all partitions of one side.
func digestOf(r mirror.VerifyReport, source bool) string {
	h := sha256.New()
	for _, p := range r.Partitions {
		digest := p.TargetDigest
		if source {
			digest = p.SourceDigest
		}
		fmt.Fprintf(h, "%s-%d %s\n", p.Topic, p.Partition, digest)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

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
	second, err := json.MarshalIndent(map[string]any{"name": "payments", "config": d.clusters.mirror("payments", "payments", 2, true)}, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(d.dir, "payments.json")
	if err := os.WriteFile(file, append(second, '\n'), 0o600); err != nil {
		return err
	}
	url := d.nodes[0].url
	d.say("\nIt goes on until you press Ctrl-C. Kafka Connect's REST API is at %s; try:", url)
	d.say("   curl -s %s/connectors/orders/status", url)
	d.say("   curl -s -X PUT %s/connectors/orders/pause", url)
	d.say("   curl -s -H 'Content-Type: application/json' --data @%s %s/connectors", file, url)
	d.say("   barnabas workers list --url %s", url)
	d.say("   barnabas replication orders --url %s", url)
	const trickle = 20
	return d.orders.stream(ctx, trickle)
}
