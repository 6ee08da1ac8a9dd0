package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/e2e/differences"
	"barnabas/e2e/kafka"
	"barnabas/e2e/process"
)

// contender is a replicator of the differential test: MirrorMaker 2 or Barnabas, with connectors through REST or dedicated. All
// copy the same topics of the source, each under aliases of its own, so that what is done once at the source shows in the
// copies of all.
type contender struct {
	e    *Env
	name string // jr, or, jd, od
	java bool
	mode string
	// east is the source, west the target. north is the source under another alias, for a link with other settings.
	east, north, west string
	// flush is offset.flush.interval.ms of the next start.
	flush string

	dir     string
	fleet   *Fleet         // of Barnabas through REST
	connect *kafka.Connect // of MirrorMaker through REST
	proc    *process.Process
	told    bool   // the connectors have been posted
	leave   func() // ends a member of one of its groups
}

// contenders are the four, MirrorMaker first in each mode.
func (e *Env) contenders() (all []*contender) {
	for _, c := range []*contender{
		{name: "jr", java: true, mode: differences.REST},
		{name: "or", mode: differences.REST},
		{name: "jd", java: true, mode: differences.Dedicated},
		{name: "od", mode: differences.Dedicated},
	} {
		c.e, c.dir, c.flush = e, filepath.Join(e.Dir, c.name), "1000"
		c.east, c.north, c.west = c.group("east"), c.group("north"), c.group("west")
		e.Must(os.Mkdir(c.dir, 0o700))
		if c.mode == differences.REST && !c.java {
			c.fleet = e.Prepare(FleetOptions{Size: 1, Group: c.name, Properties: map[string]string{"offset.flush.interval.ms": c.flush}})
		}
		e.t.Cleanup(c.kill)
		all = append(all, c)
	}
	return all
}

// group names a consumer group that only this contender looks after.
func (c *contender) group(name string) string {
	if rest, ok := strings.CutPrefix(name, console); ok {
		return console + c.group(rest)
	}
	return c.e.Prefix + "-" + c.name + "-" + name
}

// console begins the names of groups that MirrorMaker leaves out unless told otherwise.
const console = "console-consumer-"

// normal takes from a text what is the contender's own.
func (c *contender) normal(text string) string {
	return strings.NewReplacer(c.e.Prefix+"-"+c.name+"-", "", c.e.Prefix+".", "", `"`+c.e.Prefix+"-"+c.name+`"`, `"name"`).Replace(text)
}

// copies names the copy of a topic.
func (c *contender) copies(topic string) string { return c.east + "." + topic }

// link are the settings of the main link, which takes everything as it comes.
func (c *contender) link() Config {
	p := c.e.Prefix
	return Config{
		// The other names would be copied if nothing forbade it; what has come back over the other link would, too.
		"topics": fmt.Sprintf(`%[1]s[.].*,[.]%[1]s[.].*,__%[1]s[.].*,mm2-%[1]s[.].*,%[2]s[.]%[1]s[.].*`, p, c.west),
		"groups": c.group("g.*") + "," + c.group(console+".*"), "tasks.max": "2", "replication.factor": "1",
		"refresh.topics.interval.seconds": "1", "refresh.groups.interval.seconds": "1", "emit.heartbeats.interval.seconds": "1",
		"emit.checkpoints.interval.seconds": "1", "sync.group.offsets.enabled": "true", "sync.group.offsets.interval.seconds": "1",
		"sync.topic.configs.interval.seconds": "1", "sync.topic.acls.interval.seconds": "1", "sync.topic.acls.enabled": "true",
		"checkpoints.topic.replication.factor": "1", "heartbeats.topic.replication.factor": "1", "offset-syncs.topic.replication.factor": "1",
	}
}

// back are those of the link from west to east. It copies no heartbeats: those of four contenders would go round.
func (c *contender) back() Config {
	return c.link().With(map[string]string{"topics": fmt.Sprintf(`(%s[.])?%s[.]round`, c.east, c.e.Prefix), "heartbeats.replication.enabled": "false"})
}

// narrow are those of the link from north to west: with topics.exclude, without syncs, with offset-syncs on the target, and
// committed records only.
func (c *contender) narrow() Config {
	p := c.e.Prefix
	return c.link().With(map[string]string{
		"topics":         fmt.Sprintf(`%[1]s[.]a[.-].*,%[1]s[.]secret.*,%[1]s[.]transactions,%[1]s[.]settings,%[1]s[.]marker.*`, p),
		"topics.exclude": p + `[.]secret.*`, "sync.topic.configs.enabled": "false", "sync.topic.acls.enabled": "false", "heartbeats.replication.enabled": "false", "tasks.max": "1",
		"offset-syncs.topic.location": "target",
	})
}

// start starts the contender, for the first time or again, and returns when it has been told what to do.
func (c *contender) start(ctx context.Context) error {
	if c.mode == differences.Dedicated {
		return c.startDedicated()
	}
	if c.java {
		if err := c.startConnect(ctx); err != nil {
			return err
		}
	} else if err := c.startWorker(ctx); err != nil {
		return err
	}
	if c.told {
		return nil // they stand in the config topic
	}
	c.told = true
	for name, config := range c.connectors() {
		url := c.url() + "/connectors/" + c.e.Prefix + "-" + c.name + "-" + name + "/config"
		status, answer, err := c.e.ask(ctx, http.MethodPut, url, config.JSON())
		for err == nil && status == http.StatusConflict && ctx.Err() == nil { // Kafka Connect while it rebalances
			status, answer, err = c.e.ask(ctx, http.MethodPut, url, config.JSON())
		}
		if err != nil || status/100 != 2 {
			return fmt.Errorf("%s: connector %s: %d %s %w", c.name, name, status, answer, err)
		}
	}
	return nil
}

func (c *contender) startConnect(ctx context.Context) (err error) {
	c.connect, err = kafka.StartConnect(ctx, kafka.ConnectSpec{Name: c.name, Dir: c.dir, Properties: map[string]string{
		"bootstrap.servers": c.e.Hub.Bootstrap(), "group.id": c.e.Prefix + "-" + c.name, "offset.flush.interval.ms": c.flush, "offset.storage.partitions": "5",
		// One that was killed is waited for no longer than necessary.
		"scheduled.rebalance.max.delay.ms": "0", "session.timeout.ms": "6000", "heartbeat.interval.ms": "1000",
	}})
	if err == nil {
		c.proc = c.connect.Process()
	}
	return err
}

func (c *contender) startWorker(ctx context.Context) error {
	w := c.fleet.Workers[0]
	c.fleet.o.Properties["offset.flush.interval.ms"] = c.flush
	w.write()
	if err := w.spawn(); err != nil {
		return err
	}
	c.proc = w.proc
	return w.healthy(ctx)
}

// url is the address of the REST API.
func (c *contender) url() string {
	if c.java {
		return c.connect.URL()
	}
	return c.fleet.Workers[0].URL()
}

// connectors are what is posted through REST, the same for both.
func (c *contender) connectors() map[string]Config {
	const classes = "org.apache.kafka.connect.mirror."
	link := func(class, source, target string, from, to *kafka.Broker, settings Config) Config {
		return settings.With(map[string]string{
			"connector.class": classes + class, "source.cluster.alias": source, "target.cluster.alias": target,
			"source.cluster.bootstrap.servers": from.Bootstrap(), "target.cluster.bootstrap.servers": to.Bootstrap(),
			"producer.override.bootstrap.servers": to.Bootstrap(),
		})
	}
	e := c.e
	return map[string]Config{
		"source":     link("MirrorSourceConnector", c.east, c.west, e.Source, e.Target, c.link()),
		"checkpoint": link("MirrorCheckpointConnector", c.east, c.west, e.Source, e.Target, c.link()),
		"heartbeat":  link("MirrorHeartbeatConnector", c.east, c.west, e.Source, e.Target, c.link()),
		"back":       link("MirrorSourceConnector", c.west, c.east, e.Target, e.Source, c.back()),
		"narrow": link("MirrorSourceConnector", c.north, c.west, e.Source, e.Target, c.narrow()).
			With(map[string]string{"source.consumer.isolation.level": "read_committed"}),
		// Each of these is a setting of the worker in the dedicated mode, and so of all links.
		"underscores": link("MirrorSourceConnector", c.group("south"), c.group("other"), e.Source, e.Target, c.small("plain")).
			With(map[string]string{"replication.policy.separator": "__"}),
		"circle-there": link("MirrorSourceConnector", c.group("there"), c.group("back"), e.Source, e.Target, c.small("circle-"+c.name)).With(identity),
		"circle-back":  link("MirrorSourceConnector", c.group("back"), c.group("there"), e.Target, e.Source, c.small("circle-"+c.name)).With(identity),
	}
}

var identity = map[string]string{"replication.policy.class": "org.apache.kafka.connect.mirror.IdentityReplicationPolicy"}

// small are settings of a link of one topic.
func (c *contender) small(topic string) Config {
	return c.link().With(map[string]string{
		"topics": c.e.Prefix + "[.]" + topic, "heartbeats.replication.enabled": "false", "sync.topic.acls.enabled": "false", "tasks.max": "1",
	})
}

// properties are mm2.properties, the same for both.
func (c *contender) properties() map[string]string {
	p := map[string]string{
		"clusters": c.east + "," + c.north + "," + c.west, "offset.storage.partitions": "5",
		"offset.storage.replication.factor": "1", "status.storage.replication.factor": "1", "config.storage.replication.factor": "1",
		c.north + ".consumer.isolation.level": "read_committed",
	}
	for alias, b := range map[string]*kafka.Broker{c.east: c.e.Source, c.north: c.e.Source, c.west: c.e.Target} {
		p[alias+".bootstrap.servers"] = b.Bootstrap()
		for key, value := range map[string]string{
			"offset.flush.interval.ms": c.flush, "scheduled.rebalance.max.delay.ms": "0", "session.timeout.ms": "6000", "heartbeat.interval.ms": "1000",
		} {
			p[alias+"."+key] = value
		}
	}
	link := func(source, target string, settings Config) {
		for key, value := range settings {
			p[source+"->"+target+"."+key] = value
		}
	}
	on := map[string]string{"enabled": "true"}
	off := Config{"enabled": "false", "emit.heartbeats.enabled": "false"}
	link(c.east, c.west, c.link().With(on))
	link(c.west, c.east, c.back().With(on))
	link(c.north, c.west, c.narrow().With(on).With(map[string]string{"emit.heartbeats.enabled": "false", "emit.checkpoints.enabled": "false"}))
	for _, pair := range [][2]string{{c.west, c.north}, {c.east, c.north}, {c.north, c.east}} {
		link(pair[0], pair[1], off)
	}
	return p
}

func (c *contender) startDedicated() (err error) {
	if c.java {
		c.proc, err = kafka.StartMirrorMaker(kafka.MirrorMakerSpec{Name: c.name, Dir: c.dir, Properties: c.properties(), Heap: 512})
		return err
	}
	var text strings.Builder
	properties := c.properties()
	for _, k := range slices.Sorted(maps.Keys(properties)) {
		text.WriteString(k + "=" + strings.ReplaceAll(properties[k], `\`, `\\`) + "\n")
	}
	file := filepath.Join(c.dir, "mm2.properties")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		return err
	}
	path, err := binary()
	if err != nil {
		return err
	}
	c.proc, err = process.Start(process.Spec{
		Name: c.name, Path: path, Args: []string{"mirror", file, "--log-format", "text"}, Log: filepath.Join(c.dir, "barnabas.log"), Dir: c.dir,
		Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.dir},
	})
	return err
}

// internal are the records of the topic where the worker of the link from alias keeps its config, offset or status.
func (c *contender) internal(w world, kind, alias string) []*kgo.Record {
	if c.mode == differences.REST {
		return w.hub.records[c.e.Prefix+"-"+c.name+"-"+kind]
	}
	if kind != "status" {
		kind += "s"
	}
	return w.target.records["mm2-"+kind+"."+alias+".internal"]
}

// states are the states of the tasks of a connector, in order, as its status topic has them. It has one name through REST, and that
// of its class in the dedicated mode.
func (c *contender) states(w world, name, class, alias string) string {
	var states []string
	if c.mode == differences.REST {
		class = c.group(name)
	}
	for key, value := range latest(c.internal(w, "status", alias)) {
		if !strings.HasPrefix(key, "status-task-"+class+"-") {
			continue
		}
		var status struct{ State string }
		if json.Unmarshal([]byte(value), &status) == nil {
			states = append(states, status.State)
		}
	}
	slices.Sort(states)
	return strings.Join(states, ", ")
}

// stop ends the contender as an administrator would.
func (c *contender) stop() error { return c.proc.Stop(time.Minute) }

// kill ends it at once. When the test has failed, its log is shown.
func (c *contender) kill() {
	if c.proc == nil {
		return
	}
	if c.proc.Running() {
		c.proc.Kill()
	}
	if c.e.t.Context().Err() != nil && c.e.t.Failed() && c.fleet == nil {
		c.e.t.Logf("log of %s:\n%s", c.name, c.proc.Tail(30))
	}
}
