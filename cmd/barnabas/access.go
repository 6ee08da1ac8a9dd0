package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"barnabas/access"
	"barnabas/rest"
)

// asking makes a command that asks the cluster something.
func (c *cli) asking(use, short string, args cobra.PositionalArgs, do func(ctx context.Context, client *rest.Client, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			return c.wrong(do(cmd.Context(), client, args))
		},
	}
}

func (c *cli) rolesCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "roles", Short: "Show and change roles, which say who may do what", RunE: groupRun}
	ls := c.asking("list", "List the roles", cobra.NoArgs, func(ctx context.Context, client *rest.Client, _ []string) error {
		roles, err := client.Roles(ctx)
		if err != nil {
			return err
		}
		return c.show(roles, func(t *table) {
			t.header("NAME", "USERS", "GROUPS", "STATEMENTS", "EXPIRES", "FROM")
			for _, r := range roles {
				expires := ""
				if !r.Expires.IsZero() {
					expires = r.Expires.Format(time.RFC3339)
				}
				t.row(r.Name, strings.Join(r.Users, " "), strings.Join(r.Groups, " "), fmt.Sprint(len(r.Policy)), expires, cmp.Or(r.File, "REST"))
			}
		})
	})
	ls.Aliases = []string{"ls"}
	cmd.AddCommand(ls, c.asking("get NAME", "Show one role, as a file has it", cobra.ExactArgs(1), func(ctx context.Context, client *rest.Client, args []string) error {
		role, err := client.Role(ctx, args[0])
		if err != nil {
			return err
		}
		if c.output != "table" {
			return c.show(role, nil)
		}
		text, err := role.YAML()
		if err != nil {
			return err
		}
		_, err = c.stdout.Write(text)
		return err
	}))
	file := ""
	put := &cobra.Command{
		Use: "put -f FILE", Short: "Create or change a role over REST", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := c.readFile(file)
			if err != nil {
				return err
			}
			role, err := access.ParseRole(text)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			stored, err := client.PutRole(cmd.Context(), role)
			if err != nil {
				return c.wrong(err)
			}
			return c.show(stored, func(t *table) { t.text("role %s is version %d", stored.Name, stored.Version) })
		},
	}
	put.Long = `Create or change a role, from a file as workers read them from their access.roles.dir. It stands in
the config topic then, and is in force on all workers. A role that is in a file of the workers is
changed there. A change after which nobody could manage roles any more is refused.`
	put.Flags().StringVarP(&file, "file", "f", "", "the role, as YAML or JSON; - is standard input")
	cmd.AddCommand(put, c.asking("delete NAME", "Delete a role that was put over REST", cobra.ExactArgs(1), func(ctx context.Context, client *rest.Client, args []string) error {
		if err := client.DeleteRole(ctx, args[0]); err != nil {
			return err
		}
		fmt.Fprintf(c.stdout, "role %s deleted\n", args[0])
		return nil
	}))
	check := &cobra.Command{
		Use: "check FILE...", Short: "Tell what is wrong with files of roles", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, files []string) error {
			return c.checkRoles(files)
		},
	}
	check.Long = `Tell what is wrong with files of roles, before a worker reads them from its
access.roles.dir. It asks no worker.`
	cmd.AddCommand(check)
	return cmd
}

func (c *cli) checkRoles(files []string) error {
	var roles []access.Role
	broken := false
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		role, err := access.ParseRole(text)
		if err != nil {
			fmt.Fprintf(c.stderr, "%s: %s\n", file, oneLine(err.Error()))
			broken = true
			continue
		}
		role.Source = file
		roles = append(roles, role)
	}
	if _, err := access.NewRoles(roles...); err != nil {
		return err
	}
	if broken {
		return errTold
	}
	fmt.Fprintf(c.stdout, "%d roles, nothing wrong\n", len(roles))
	return nil
}

func (c *cli) whoamiCommand() *cobra.Command {
	return c.asking("whoami", "Show who the cluster takes you for", cobra.NoArgs, func(ctx context.Context, client *rest.Client, _ []string) error {
		who, err := client.Whoami(ctx)
		if err != nil {
			return err
		}
		return c.show(who, func(t *table) {
			t.header("USER", "GROUPS", "ROLES")
			t.row(who.User, strings.Join(who.Groups, " "), strings.Join(who.Roles, " "))
		})
	})
}

func (c *cli) canCommand() *cobra.Command {
	cmd := c.asking("can ACTION RESOURCE", "Ask whether you may do something, and why", cobra.ExactArgs(2), func(ctx context.Context, client *rest.Client, args []string) error {
		p, err := client.Can(ctx, args[0], args[1])
		if err != nil {
			return err
		}
		err = c.show(p, func(t *table) {
			yes := "no"
			if p.Allowed {
				yes = "yes"
			}
			t.text("%s: %s", yes, p.Reason)
		})
		if err == nil && !p.Allowed {
			return errTold
		}
		return err
	})
	cmd.Long = `Ask whether you may do something, and which statement of which role says so. The
exit code is 1 if you may not.`
	cmd.Example = "  barnabas can connect:PauseConnector connect:connector:orders"
	return cmd
}
