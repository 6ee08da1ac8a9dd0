package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/connector/mirror"
	"barnabas/rest"
)

func (d *demo) prove(ctx context.Context) error {
	d.title("The proof: source and target, record by record")
	if err := d.endStream(); err != nil {
		return err
	}
	written := d.orders.written.Load()
	bar := d.progress("   comparing", "offsets")
	open := func(who identity, prod bool) func(extra ...kgo.Opt) (*kgo.Client, error) {
		cluster := d.clusters.staging
		if prod {
			cluster = d.clusters.prod
		}
		return func(extra ...kgo.Opt) (*kgo.Client, error) {
			return who.client(ctx, cluster, clientconfig.Consumer, extra...)
		}
	}
	report, err := mirror.Verify(ctx, mirror.VerifyOptions{
		Config: config.Literal(d.clusters.mirror(demoConnector, demoTopic, demoTasks, true)),
		Source: open(d.clusters.prodAdmin, true), Target: open(d.clusters.stagingAdmin, false), Wait: d.wait, Progress: bar.set, Digests: true,
	})
	bar.done()
	if err != nil {
		return err
	}
	t := report.Totals
	d.say("   prod     %12s records   digest %s", counted(t.Source), digestOf(report, true))
	d.say("   staging  %12s records   digest %s", counted(t.Target), digestOf(report, false))
	d.say("   missing %s, different %s, foreign %s, out of order %s; doubled %s",
		counted(t.Missing), counted(t.Different), counted(t.Extra), counted(t.OutOfOrder), counted(t.Doubled))
	if !report.Equal || t.Source != written || digestOf(report, true) != digestOf(report, false) {
		for _, p := range report.Partitions {
			d.say("   partition %d: %+v %s", p.Partition, p.VerifyCounts, p.Error)
		}
		return fmt.Errorf("source and target differ: %d orders were written, see above", written)
	}
	d.say("   equal")
	return nil
}

func (d *demo) lookForSecrets(ctx context.Context) error {
	d.title("The secrets: looked for in logs, REST answers and the workers' topics")
	for _, n := range d.nodes {
		if !n.dead {
			if err := d.askEverything(ctx, n.url); err != nil {
				return err
			}
		}
	}
	records, err := d.canary.topics(ctx, d.clusters.stagingAdmin, d.clusters.staging, demoInternal)
	if err != nil {
		return err
	}
	if places := d.canary.places(); len(places) > 0 {
		return fmt.Errorf("a secret was found in %s", strings.Join(places, ", "))
	}
	d.say("   %s of logs, answers and %s records of theirs: found nowhere", amount(float64(d.canary.scanned.Load())), counted(int64(records)))
	return nil
}

// askEverything has a worker answer all there is to ask; what it sends is looked
// at on its way.
func (d *demo) askEverything(ctx context.Context, url string) error {
	client, err := rest.NewClient(rest.ClientOptions{URLs: []string{url}, Timeout: 10 * time.Second})
	if err != nil {
		return err
	}
	_, err1 := client.Expanded(ctx)
	_, err2 := client.Config(ctx, demoConnector)
	_, err3 := client.Tasks(ctx, demoConnector)
	_, err4 := client.Replication(ctx, demoConnector)
	_, err5 := client.Offsets(ctx, demoConnector)
	_, err6 := client.Validate(ctx, d.clusters.mirror(demoConnector, demoTopic, demoTasks, true))
	_, err7 := client.Metrics(ctx)
	_, err8 := client.Workers(ctx)
	return errors.Join(err1, err2, err3, err4, err5, err6, err7, err8)
}

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
