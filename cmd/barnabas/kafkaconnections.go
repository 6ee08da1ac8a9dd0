package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"barnabas/connection"
	"barnabas/rest"
	"barnabas/worker"
)

func (c *cli) connectionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "connections", Aliases: []string{"connection"}, Short: "Define Kafka connections, which connectors name in place of addresses and credentials",
		Long: `Kafka connections are named access paths to clusters. A connector's configuration says
source.connection=prod/orders-ro or target.connection=staging/orders-rw, and has neither
addresses nor credentials of its own. Connections name secrets by reference only.`,
		RunE: groupRun,
	}
	cmd.AddCommand(c.connectionsList(), c.connectionsGet(), c.connectionsPut(), c.connectionsDelete(), c.connectionsHistory(), c.connectionsRollback(), c.connectionsUses(),
		c.connectionsCheck())
	return cmd
}

func (c *cli) connectionsList() *cobra.Command {
	return &cobra.Command{
		Use: "list [ENVIRONMENT]", Short: "List the Kafka connections", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			all, err := client.KafkaConnections(cmd.Context())
			if err != nil {
				return c.wrong(err)
			}
			if len(args) > 0 {
				all = slices.DeleteFunc(all, func(k rest.ConnectionSummary) bool { return k.Environment != args[0] })
			}
			return c.show(all, func(t *table) {
				t.header("CONNECTION", "VERSION", "MODIFIED", "BY", "OWNER", "PLACEMENT", "USED BY")
				for _, k := range all {
					t.row(k.Environment+"/"+k.Name, strconv.FormatInt(k.Version, 10), k.Modified.At.Format(time.RFC3339), orDash(k.Modified.By),
						orDash(k.Owner.Team), orDash(k.Placement), orDash(strings.Join(k.UsedBy, " ")))
				}
			})
		},
	}
}

// connectionNamed makes a command about one connection, whose name the shell completes. least and most bound the versions behind it.
func (c *cli) connectionNamed(use, short string, least, most int, do func(ctx context.Context, client *rest.Client, name connection.Name, versions []int64) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.RangeArgs(1+least, 1+most), ValidArgsFunction: c.completeKafkaConnections,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := connection.ParseName(args[0])
			if err != nil {
				return usagef("%w", err)
			}
			var versions []int64
			for _, arg := range args[1:] {
				n, err := strconv.ParseInt(arg, 10, 64)
				if err != nil || n < 1 {
					return usagef("%q is no version: \"barnabas connections history %s\" lists them", arg, name)
				}
				versions = append(versions, n)
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			return c.wrong(do(cmd.Context(), client, name, versions))
		},
	}
}

func (c *cli) completeKafkaConnections(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.completions(cmd, func(ctx context.Context, client *rest.Client) ([]string, error) {
		all, err := client.KafkaConnections(ctx)
		names := make([]string, len(all))
		for i, k := range all {
			names[i] = k.Environment + "/" + k.Name
		}
		return names, err
	})
}

func (c *cli) connectionsGet() *cobra.Command {
	return c.connectionNamed("get ENVIRONMENT/NAME", "Show a Kafka connection, references as they are written", 0, 0,
		func(ctx context.Context, client *rest.Client, name connection.Name, _ []int64) error {
			k, err := client.KafkaConnection(ctx, name)
			if err != nil {
				return err
			}
			return c.show(k, func(t *table) { drawConnection(t, k) })
		})
}

func drawConnection(t *table, k worker.Connection) {
	t.text("%s/%s version %d, modified %s by %s", k.Environment, k.Name, k.Version, k.Modified.At.Format(time.RFC3339), by(k.Modified.By, k.Modified.Address))
	for _, line := range [][2]string{
		{"description", k.Description},
		{"owner", strings.TrimSpace(k.Owner.Team + " " + k.Owner.Contact)},
		{"security", k.Owner.Security},
		{"may read", strings.Join(k.Scope.Read, " ")},
		{"may write", strings.Join(k.Scope.Write, " ")},
		{"groups", k.Scope.Groups},
		{"quota", quotaOf(k.Quota)},
		{"placement", k.Placement},
		{"hosts", strings.Join(k.Hosts, " ")},
		{"used by", strings.Join(k.UsedBy, " ")},
	} {
		if line[1] != "" {
			t.text("%s: %s", line[0], line[1])
		}
	}
	t.header("KEY", "VALUE")
	for _, key := range slices.Sorted(maps.Keys(k.Config)) {
		t.row(key, k.Config[key])
	}
}

// quotaOf says what a quota bounds; empty: nothing.
func quotaOf(q connection.Quota) string {
	var parts []string
	for _, part := range []struct {
		rate int64
		what string
	}{{q.Read, "read"}, {q.Write, "written"}} {
		if part.rate > 0 {
			parts = append(parts, fmt.Sprintf("%d bytes/s %s", part.rate, part.what))
		}
	}
	return strings.Join(parts, ", ")
}

func (c *cli) connectionsPut() *cobra.Command {
	file := ""
	cmd := c.connectionNamed("put ENVIRONMENT/NAME -f FILE", "Create a Kafka connection, or change it", 0, 0,
		func(ctx context.Context, client *rest.Client, name connection.Name, _ []int64) error {
			spec, err := c.readConnection(name, file)
			if err != nil {
				return err
			}
			k, err := client.PutKafkaConnection(ctx, name, spec)
			if err != nil {
				return err
			}
			return c.show(k, func(t *table) { t.text("connection %s is version %d", name, k.Version) })
		})
	cmd.Long = `Create a Kafka connection, or make another version of it, from JSON or YAML; "-" reads
standard input. Its config holds settings of Kafka's clients, with references in place of
secrets: one that is written out is refused, naming its key.

What runs with the connection is changed like a rotated secret: the new credentials are
proved on fresh connections first, and if they do not work the former ones stay in use.
Other addresses, mechanisms or settings that clients cannot change start it again.`
	cmd.Example = `  barnabas connections put prod/orders-ro -f - <<'END'
  config:
    bootstrap.servers: kafka.prod:9093
    security.protocol: SASL_SSL
    sasl.mechanism: SCRAM-SHA-512
    sasl.jaas.config: org.apache.kafka.common.security.scram.ScramLoginModule required
      username="orders-ro" password="${file:/etc/kafka/secrets/orders.properties:password}";
  owner: {team: payments}
  scope: {read: ["orders-*"]}
  END`
	cmd.Flags().StringVarP(&file, "file", "f", "", "the connection; - is standard input")
	return cmd
}

// readConnection reads a connection as JSON or YAML. Errors hold nothing of its values.
func (c *cli) readConnection(name connection.Name, file string) (connection.Spec, error) {
	text, err := c.readTree(file)
	if err != nil {
		return connection.Spec{}, err
	}
	spec, err := connection.Decode(name, text)
	if err != nil {
		return spec, fmt.Errorf("%s: %w", file, err)
	}
	return spec, nil
}

// readTree reads a file of JSON or YAML as JSON. Errors hold nothing of its values.
func (c *cli) readTree(file string) ([]byte, error) {
	text, err := c.readFile(file)
	if err != nil {
		return nil, err
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if filepath.Ext(file) == ".json" && !json.Valid(text) {
		return nil, fmt.Errorf("%s: %w", file, jsonError(text))
	}
	var tree any
	if err := yaml.Unmarshal(text, &tree); err != nil { // JSON is YAML
		return nil, fmt.Errorf("%s: it is not YAML: %s", file, yamlPlace(err))
	}
	asJSON, err := treeJSON(tree)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return asJSON, nil
}

// treeJSON writes what YAML holds as JSON. Settings below config are texts, also where YAML reads numbers; so are times.
func treeJSON(tree any) ([]byte, error) {
	fields, _ := tree.(map[string]any)
	if settings, ok := fields["config"].(map[string]any); ok {
		for key, value := range settings {
			if _, isText := value.(string); !isText && value != nil {
				settings[key] = fmt.Sprint(value)
			}
		}
	}
	for key, value := range fields {
		if at, ok := value.(time.Time); ok { // start: 2027-01-31T12:00:00Z
			fields[key] = at.Format(time.RFC3339)
		}
	}
	asJSON, err := json.Marshal(tree)
	if err != nil {
		return nil, errors.New("its keys are to be texts")
	}
	return asJSON, nil
}

func (c *cli) connectionsDelete() *cobra.Command {
	cmd := c.connectionNamed("delete ENVIRONMENT/NAME", "Delete a Kafka connection that no connector names", 0, 0,
		func(ctx context.Context, client *rest.Client, name connection.Name, _ []int64) error {
			if err := client.DeleteKafkaConnection(ctx, name); err != nil {
				return err
			}
			fmt.Fprintf(c.stderr, "deleted %s\n", name)
			return nil
		})
	cmd.Long = `Delete a Kafka connection. One that connectors name is not deleted: they are told. Its
versions are kept: "barnabas connections rollback" brings it back.`
	return cmd
}

func (c *cli) connectionsHistory() *cobra.Command {
	return c.connectionNamed("history ENVIRONMENT/NAME [VERSION]", "Show who changed a Kafka connection, or one version of it", 0, 1,
		func(ctx context.Context, client *rest.Client, name connection.Name, versions []int64) error {
			h, err := client.KafkaConnectionHistory(ctx, name)
			if err != nil {
				return err
			}
			if len(versions) == 0 {
				return c.show(h, func(t *table) {
					t.header("VERSION", "AT", "WHAT", "BY")
					for _, v := range h.Versions {
						what := v.What
						if v.From != 0 {
							what += " to " + strconv.FormatInt(v.From, 10)
						}
						t.row(strconv.FormatInt(v.Number, 10), v.At.Format(time.RFC3339), what, by(v.By, v.Address))
					}
				})
			}
			i := slices.IndexFunc(h.Versions, func(v worker.ConnectionVersion) bool { return v.Number == versions[0] })
			if i < 0 {
				return fmt.Errorf("connection %s has no version %d", name, versions[0])
			}
			v := h.Versions[i]
			return c.show(v, func(t *table) {
				t.text("version %d, %s %s by %s", v.Number, v.What, v.At.Format(time.RFC3339), by(v.By, v.Address))
				if v.Spec != nil {
					drawConfig(t, v.Spec.Config)
				}
			})
		})
}

func (c *cli) connectionsRollback() *cobra.Command {
	return c.connectionNamed("rollback ENVIRONMENT/NAME VERSION", "Make an earlier version of a Kafka connection the present one", 1, 1,
		func(ctx context.Context, client *rest.Client, name connection.Name, versions []int64) error {
			k, err := client.RollbackKafkaConnection(ctx, name, versions[0])
			if err != nil {
				return err
			}
			return c.show(k, func(t *table) {
				t.text("connection %s rolled back to version %d, as version %d", name, versions[0], k.Version)
			})
		})
}

func (c *cli) connectionsUses() *cobra.Command {
	return c.connectionNamed("uses ENVIRONMENT/NAME", "Show what runs with a Kafka connection, and with which version", 0, 0,
		func(ctx context.Context, client *rest.Client, name connection.Name, _ []int64) error {
			u, err := client.KafkaConnectionUses(ctx, name)
			if err != nil {
				return err
			}
			return c.show(u, func(t *table) {
				t.text("%s version %d", name, u.Version)
				t.header("CONNECTOR", "TASK", "VERSION IN USE", "WORKER")
				for _, use := range u.Uses {
					t.row(use.Connector, unit(use.Task), strconv.FormatInt(use.Version, 10), use.WorkerID)
				}
				c.drawMissing(t, u.Missing)
			})
		})
}

func (c *cli) connectionsCheck() *cobra.Command {
	grant := ""
	cmd := c.connectionNamed("check ENVIRONMENT/NAME", "Try a Kafka connection, and compare its rights with its scope", 0, 0,
		func(ctx context.Context, client *rest.Client, name connection.Name, _ []int64) error {
			k, err := client.CheckKafkaConnection(ctx, name)
			if err != nil {
				return err
			}
			switch grant {
			case "":
				err = c.show(k, func(t *table) { drawCheck(t, k) })
			case "kafka-acls":
				fmt.Fprintln(c.stdout, strings.Join(k.Grant.KafkaACLs, "\n"))
			case "msk":
				err = writeJSON(c.stdout, k.Grant.MSKPolicy)
			case "json":
				err = writeJSON(c.stdout, k.Grant.Rights)
			default:
				return usagef("--grant is kafka-acls, msk or json, not %q", grant)
			}
			if err != nil {
				return err
			}
			connected := !slices.ContainsFunc(k.Steps, func(s worker.CheckStep) bool { return !s.OK && s.Step != "rights" })
			switch {
			case k.OK:
				return nil
			case connected:
				return errDifference
			}
			return errTold
		})
	cmd.Long = `Connect to the cluster of a Kafka connection as its clients do, from a worker that its
placement allows, and tell: are the brokers reached, does TLS work, as which principal do
they let it in, and what may that do. Rights are compared with the connection's scope:
what is present, what is missing, and what is broader. Nothing is changed.

ACLs are listed if the principal may do so (Describe on the cluster). Otherwise the brokers
are asked what it may do with what is there, which tells nothing about other names.

The minimal grant is printed as commands of kafka-acls, and with --grant as what is
asked for: kafka-acls, msk (a policy of AWS IAM), or json. Exits with 3 if rights are
missing or broader than the scope, with 1 if the connection does not work.`
	cmd.Flags().StringVar(&grant, "grant", "", "print only the minimal grant: kafka-acls, msk or json")
	return cmd
}

func drawCheck(t *table, k worker.ConnectionCheck) {
	t.header("STEP", "OK", "WHAT")
	for _, s := range k.Steps {
		ok := "yes"
		if !s.OK {
			ok = "NO"
		}
		t.row(s.Step, ok, s.Detail)
	}
	if len(k.Needs) > 0 {
		t.text("")
		t.header("STATE", "OPERATION", "RESOURCE", "TO", "BY")
		for _, f := range k.Needs {
			t.row(f.State, f.Operation, f.Resource.String(), f.Why, orDash(strings.Trim(strings.Join(append(slices.Clone(f.By), f.Note), "; "), "; ")))
		}
	}
	if len(k.Overbroad) > 0 {
		t.text("")
		t.text("beyond the scope:")
		t.header("OPERATION", "RESOURCE", "BY", "TAKEN AWAY BY")
		for _, e := range k.Overbroad {
			t.row(e.Operation, e.Resource.String(), e.By, orDash(e.Remove))
		}
	}
	if len(k.Grant.KafkaACLs) > 0 {
		t.text("")
		t.text("the minimal grant:")
		for _, command := range k.Grant.KafkaACLs {
			t.text("%s", command)
		}
	}
	if k.Grant.KafkaQuota != "" {
		t.text("")
		t.text("the quota, enforced by the workers, as Kafka's own:")
		t.text("%s", k.Grant.KafkaQuota)
	}
}
