package kafka

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"barnabas/e2e/process"
)

// ConnectSpec describes a worker of the real Kafka Connect.
type ConnectSpec struct {
	Name string
	// Dir takes the worker's settings and log.
	Dir string
	// Properties are connect-distributed.properties; listeners, converters
	// and the names of the internal topics (of group.id) are filled in.
	Properties map[string]string
	// Env is added to this process's environment.
	Env []string
	// Heap is the most memory of the JVM's heap in MiB; 0 means 384.
	Heap int
	// JVM are more arguments of the JVM.
	JVM []string
	// Extensions puts Kafka's extension of the REST API (basic authentication) on
	// the class path.
	Extensions bool
	// Client asks whether the worker serves; nil is one without TLS settings.
	Client *http.Client
}

// Connect is a worker of the real Kafka Connect, with the connectors of
// MirrorMaker 2 and Kafka's two file connectors.
type Connect struct {
	url     string
	client  *http.Client
	process *process.Process
}

// StartConnect starts a worker and returns when it answers requests.
func StartConnect(ctx context.Context, spec ConnectSpec) (*Connect, error) {
	install, err := Find()
	if err != nil {
		return nil, err
	}
	addresses, err := FreePorts(1)
	if err != nil {
		return nil, err
	}
	properties := map[string]string{
		"listeners": "http://" + addresses[0], "rest.advertised.host.name": "127.0.0.1",
		"key.converter":   "org.apache.kafka.connect.converters.ByteArrayConverter",
		"value.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
		// The connectors are on the class path: no plugin.path.
		"plugin.discovery": "service_load",
	}
	for _, topic := range []string{"config", "offset", "status"} {
		properties[topic+".storage.topic"] = spec.Properties["group.id"] + "-" + topic
		properties[topic+".storage.replication.factor"] = "1"
	}
	maps.Copy(properties, spec.Properties)
	var text strings.Builder
	for _, k := range slices.Sorted(maps.Keys(properties)) {
		text.WriteString(k + "=" + strings.ReplaceAll(properties[k], `\`, `\\`) + "\n")
	}
	file := filepath.Join(spec.Dir, "connect.properties")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		return nil, fmt.Errorf("start connect %s: %w", spec.Name, err)
	}
	log4j, err := writeLog4j(spec.Dir, nil)
	if err != nil {
		return nil, err
	}
	heap := spec.Heap
	if heap == 0 {
		heap = 384
	}
	args := install.args(heap, log4j, "org.apache.kafka.connect.cli.ConnectDistributed", file)
	if spec.Extensions {
		if args, err = install.extended(args); err != nil {
			return nil, err
		}
	}
	p, err := process.Start(process.Spec{
		Name: "connect " + spec.Name,
		Path: install.java,
		Args: append(slices.Clone(spec.JVM), args...),
		Env:  append(os.Environ(), spec.Env...),
		Dir:  spec.Dir,
		Log:  filepath.Join(spec.Dir, "connect.log"),
	})
	if err != nil {
		return nil, err
	}
	url, _, _ := strings.Cut(properties["listeners"], ",")
	c := &Connect{url: url, client: spec.Client, process: p}
	if c.client == nil {
		c.client = http.DefaultClient
	}
	if err := c.serving(ctx); err != nil {
		p.Kill()
		return nil, fmt.Errorf("connect %s: %w\n%s", spec.Name, err, p.Tail(30))
	}
	return c, nil
}

// serving waits until the worker has joined its group and answers, if only that it
// wants to know who asks.
func (c *Connect) serving(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL()+"/health", nil)
		if err != nil {
			return err
		}
		res, err := c.client.Do(req)
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK || res.StatusCode == http.StatusUnauthorized {
				return nil
			}
			err = fmt.Errorf("health: %s", res.Status)
		}
		select {
		case <-c.process.Done():
			return fmt.Errorf("ended before it served: %w", c.process.Err())
		case <-ctx.Done():
			return fmt.Errorf("not serving: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// URL is the address of the REST API: the first listener.
func (c *Connect) URL() string { return c.url }

// Process is the worker's process.
func (c *Connect) Process() *process.Process { return c.process }
