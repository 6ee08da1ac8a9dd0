package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"barnabas/config"
)

// The exit codes, as everything that scripts rely on, are fixed.
const (
	exitDone       = 0
	exitFailed     = 1
	exitUsage      = 2
	exitDifference = 3 // verify, and a failover plan that meets a precondition that does not hold
)

// process is what the program gets from the system.
type process struct {
	args           []string
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// getenv returns a variable of the environment; of one given twice the last counts.
func (p process) getenv(name string) string {
	value := ""
	for _, v := range p.environ {
		if rest, ok := strings.CutPrefix(v, name+"="); ok {
			value = rest
		}
	}
	return value
}

// usageError is a mistake in the command line itself.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// errDifference ends a comparison that has told what differs.
var errDifference = errors.New("source and target differ")

// errTold ends a command that has told by itself what failed.
var errTold = errors.New("failed")

// run executes one command line and returns the exit code.
func run(ctx context.Context, p process) int {
	c := &cli{process: p}
	root := c.root()
	root.SetArgs(p.args)
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	err := root.ExecuteContext(ctx)
	var usage *usageError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errDifference):
		return exitDifference
	case errors.Is(err, errTold):
		return exitFailed
	}
	fmt.Fprintf(p.stderr, "barnabas: %s\n", oneLine(err.Error()))
	if c.debug {
		for err := err; err != nil; err = errors.Unwrap(err) {
			fmt.Fprintf(p.stderr, "  %T\n", err)
		}
	}
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// oneLine makes one line of an error, as Connect's answers may have several.
func oneLine(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	if len(lines) > 1 && strings.HasPrefix(lines[len(lines)-1], "You can also find the above list of errors") {
		lines = lines[:len(lines)-1]
	}
	if len(lines) > 1 && strings.HasSuffix(lines[0], ":") {
		lines[1] = lines[0] + " " + lines[1]
		lines = lines[1:]
	}
	return strings.Join(lines, "; ")
}

// cli holds the common flags.
type cli struct {
	process
	urls   []string
	user   string
	cacert string
	cert   string
	key    string
	output string
	debug  bool
}

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "barnabas",
		Short: "Replicates topics between Kafka clusters, under each connector's own identity",
		Long: `Barnabas replicates topics between Kafka clusters. Workers gossip to form a
cluster, keep their state in Kafka Connect's internal topics and speak its
REST API; connectors are MirrorMaker 2's, with their settings.

Try "barnabas demo" first: it needs nothing else.`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          groupRun,
	}
	root.SetVersionTemplate(fmt.Sprintf("barnabas {{.Version}} (%s)\n", commit))
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w: see %q", err, cmd.CommandPath()+" --help")
	})
	flags := root.PersistentFlags()
	flags.StringSliceVar(&c.urls, "url", nil, `addresses of workers, any of the cluster (default $BARNABAS_URL, else "http://localhost:8083")`)
	flags.StringVar(&c.user, "user", "", "user for the REST API (default $BARNABAS_USER); the password is $BARNABAS_PASSWORD, or asked for. Without, $BARNABAS_TOKEN is a bearer token")
	flags.StringVar(&c.cacert, "cacert", "", "PEM `file` of the authorities to trust for https (default $BARNABAS_CACERT)")
	flags.StringVar(&c.cert, "cert", "", "PEM `file` of the certificate to show to https (default $BARNABAS_CERT)")
	flags.StringVar(&c.key, "key", "", "PEM `file` of its key (default $BARNABAS_KEY; without, it is in the file of --cert)")
	flags.StringVarP(&c.output, "output", "o", "table", "table, json or yaml")
	flags.BoolVar(&c.debug, "debug", false, "tell more about errors")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if !slices.Contains([]string{"table", "json", "yaml"}, c.output) {
			return usagef("--output is table, json or yaml, not %q", c.output)
		}
		return nil
	}
	root.AddCommand(
		c.workerCommand(), c.mirrorCommand(), c.importCommand(), c.demoCommand(), c.verifyCommand(), c.healthCommand(),
		c.connectorsCommand(), c.tasksCommand(), c.pluginsCommand(), c.workersCommand(), c.loggersCommand(), c.replicationCommand(),
		c.offsetsCommand(), c.failoverCommand(), c.secretsCommand(), c.connectionsCommand(), c.appsCommand(),
		c.applyCommand(), c.diffCommand(), c.exportCommand(),
		c.bundleCommand(), c.rolesCommand(), c.whoamiCommand(), c.canCommand(), c.auditCommand(), c.evidenceCommand(),
	)
	strict(root)
	return root
}

// strict makes mistakes in arguments usage errors, in every command below cmd.
func strict(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usagef("%w: usage: %s", err, cmd.UseLine())
			}
			return nil
		}
	} else if cmd.HasSubCommands() {
		cmd.Args = cobra.ArbitraryArgs // groupRun judges them
	}
	for _, sub := range cmd.Commands() {
		strict(sub)
	}
}

// groupRun is what a command does that only has others below it.
func groupRun(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	hint := "there are " + strings.Join(names, ", ")
	if near := config.Nearest(args[0], names); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return usagef("%s has no command %q; %s", cmd.CommandPath(), args[0], hint)
}

// terminal says whether w is a terminal, and how wide.
func terminal(w io.Writer) (width int, ok bool) {
	f, isFile := w.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 {
		width = 80
	}
	return width, true
}

// coloured says whether w is to get colours (see no-color.org).
func (c *cli) coloured(w io.Writer) bool {
	_, ok := terminal(w)
	return ok && c.getenv("NO_COLOR") == "" && c.getenv("TERM") != "dumb"
}
