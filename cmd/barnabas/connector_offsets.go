package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"barnabas/rest"
	"barnabas/worker"
)

func (c *cli) connectorsOffsets() *cobra.Command {
	cmd := &cobra.Command{Use: "offsets", Short: "Show how far a connector has saved its progress, or set it", RunE: groupRun}
	cmd.AddCommand(c.offsetsGet(), c.offsetsAlter(), c.offsetsReset())
	return cmd
}

func (c *cli) connectorsTopics() *cobra.Command {
	var reset bool
	cmd := c.named("topics NAME", "Show the topics that a connector has written to", func(ctx context.Context, client *rest.Client, name string, _ []string) error {
		if _, err := client.Connector(ctx, name); err != nil {
			return err // the list of one that is not there is empty
		}
		if reset {
			if err := client.ResetTopics(ctx, name); err != nil {
				return err
			}
			fmt.Fprintf(c.stdout, "topics of connector %s forgotten\n", name)
			return nil
		}
		topics, err := client.ActiveTopics(ctx, name)
		if err != nil {
			return err
		}
		return c.show(map[string]any{"topics": topics}, func(t *table) {
			t.header("TOPIC")
			for _, topic := range topics {
				t.row(topic)
			}
		})
	})
	cmd.Flags().BoolVar(&reset, "reset", false, "forget them: the list begins anew")
	return cmd
}

func (c *cli) offsetsGet() *cobra.Command {
	return c.named("get NAME", "Show the saved offsets of a connector", func(ctx context.Context, client *rest.Client, name string, _ []string) error {
		offsets, err := client.Offsets(ctx, name)
		if err != nil {
			return err
		}
		return c.show(map[string]any{"offsets": offsets}, func(t *table) {
			t.header("PARTITION", "OFFSET")
			for _, o := range offsets {
				t.row(string(o.Partition), string(o.Offset))
			}
		})
	})
}

func (c *cli) offsetsAlter() *cobra.Command {
	var file string
	cmd := c.named("alter NAME -f FILE", "Set saved offsets of a stopped connector",
		func(ctx context.Context, client *rest.Client, name string, _ []string) error {
			offsets, err := c.readOffsets(file)
			if err != nil {
				return err
			}
			done, err := client.AlterOffsets(ctx, name, offsets)
			if err != nil {
				return err
			}
			return c.show(map[string]string{"message": done}, func(t *table) { t.text("%s", done) })
		})
	cmd.Long = `Set saved offsets of a stopped connector from a file in the shape that "get" shows with
--output json; an offset of null deletes one. "-" reads standard input. Partitions that
are not named stay as they are. When the connector is resumed it goes on from there.

The offset of a mirror is that of the last record copied: the next one is copied first.`
	cmd.Example = `  barnabas connectors stop orders
  echo '{"offsets":[{"partition":{"cluster":"A","partition":0,"topic":"orders"},"offset":{"offset":41}}]}' |
    barnabas connectors offsets alter orders -f -
  barnabas connectors resume orders`
	cmd.Flags().StringVarP(&file, "file", "f", "", "the `file`, or - for standard input")
	return cmd
}

func (c *cli) readOffsets(file string) ([]worker.OffsetEntry, error) {
	text, err := c.readFile(file)
	if err != nil {
		return nil, err
	}
	var written struct {
		Offsets []worker.OffsetEntry `json:"offsets"`
	}
	if err := json.Unmarshal(text, &written); err != nil || len(written.Offsets) == 0 {
		return nil, fmt.Errorf(`%s: it has to hold {"offsets":[{"partition":{…},"offset":{…}}, …]}, as "barnabas connectors offsets get NAME -o json" shows`, file)
	}
	return written.Offsets, nil
}

func (c *cli) offsetsReset() *cobra.Command {
	return c.named("reset NAME", "Delete all saved offsets of a stopped connector: it begins anew",
		func(ctx context.Context, client *rest.Client, name string, _ []string) error {
			done, err := client.ResetOffsets(ctx, name)
			if err != nil {
				return err
			}
			return c.show(map[string]string{"message": done}, func(t *table) { t.text("%s", done) })
		})
}
