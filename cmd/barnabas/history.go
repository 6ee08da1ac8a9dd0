package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"barnabas/rest"
)

// versioned makes a command about versions of one connector's configuration.
func (c *cli) versioned(use, short string, least, most int, do func(ctx context.Context, client *rest.Client, name string, versions []int64) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.RangeArgs(1+least, 1+most), ValidArgsFunction: c.completeConnectors,
		RunE: func(cmd *cobra.Command, args []string) error {
			var versions []int64
			for _, arg := range args[1:] {
				n, err := strconv.ParseInt(arg, 10, 64)
				if err != nil || n < 1 {
					return usagef("%q is no version: \"barnabas connectors history %s\" lists them", arg, args[0])
				}
				versions = append(versions, n)
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			err = do(cmd.Context(), client, args[0], versions)
			return c.wrong(err)
		},
	}
}

func (c *cli) connectorsHistory() *cobra.Command {
	cmd := c.versioned("history NAME [VERSION]", "Show who changed the configuration of a connector, or one version of it", 0, 1,
		func(ctx context.Context, client *rest.Client, name string, versions []int64) error {
			if len(versions) == 1 {
				v, err := client.ConfigVersion(ctx, name, versions[0])
				if err != nil {
					return err
				}
				return c.show(v, func(t *table) {
					t.text("version %d, %s %s by %s", v.Version, v.What, v.At.Format(time.RFC3339), by(v.User, v.Address))
					drawConfig(t, v.Config)
				})
			}
			h, err := client.History(ctx, name)
			if err != nil {
				return err
			}
			return c.show(h, func(t *table) {
				t.header("VERSION", "AT", "WHAT", "BY", "CHANGED")
				for _, v := range h.Versions {
					what := v.What
					if v.From != 0 {
						what += " to " + strconv.FormatInt(v.From, 10)
					}
					t.row(strconv.FormatInt(v.Version, 10), v.At.Format(time.RFC3339), what, by(v.User, v.Address), strings.Join(v.Changed, " "))
				}
			})
		})
	cmd.Long = `Show the versions of a connector's configuration that are kept (config.history.versions
of the workers), the newest first; also of a deleted connector. References to secrets
are kept as references. Secrets written out are not kept and show as [hidden].
"found" is a change that was made by Kafka Connect.`
	return cmd
}

func by(user, address string) string {
	switch {
	case user == "":
		return "?"
	case address == "":
		return user
	}
	return user + " at " + address
}

func (c *cli) connectorsDiff() *cobra.Command {
	cmd := c.versioned("diff NAME [FROM [TO]]", "Show how two versions of a connector's configuration differ", 0, 2,
		func(ctx context.Context, client *rest.Client, name string, versions []int64) error {
			from, to := int64(0), int64(0)
			if len(versions) > 0 {
				from = versions[0]
			}
			if len(versions) > 1 {
				to = versions[1]
			}
			d, err := client.Diff(ctx, name, from, to)
			if err != nil {
				return err
			}
			return c.show(d, func(t *table) {
				if len(d.Changes) == 0 {
					t.text("Versions %d and %d are the same.", d.From, d.To)
					return
				}
				t.header("KEY", "VERSION "+strconv.FormatInt(d.From, 10), "VERSION "+strconv.FormatInt(d.To, 10))
				for _, change := range d.Changes {
					t.row(change.Key, set(change.Before), set(change.After))
				}
			})
		})
	cmd.Long = `Show how version TO of a connector's configuration differs from version FROM: by
default the newest from the one before it. A secret written out that was replaced by
another one shows as [hidden] twice.`
	return cmd
}

func set(value *string) string {
	if value == nil {
		return "-"
	}
	return *value
}

func (c *cli) connectorsRollback() *cobra.Command {
	cmd := c.versioned("rollback NAME VERSION", "Make an earlier version of a connector's configuration the present one", 1, 1,
		func(ctx context.Context, client *rest.Client, name string, versions []int64) error {
			info, err := client.Rollback(ctx, name, versions[0])
			if err != nil {
				return err
			}
			return c.show(info, func(t *table) { t.text("connector %s rolled back to version %d", info.Name, versions[0]) })
		})
	cmd.Long = `Make an earlier version of a connector's configuration the present one, as a new
version. A deleted connector is created again. Secrets written out are not kept in the
history: the present ones stay, and if there are none the roll-back is refused.`
	return cmd
}
