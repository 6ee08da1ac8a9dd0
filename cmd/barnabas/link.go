package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/connector"
	"barnabas/rest"
)

// linkFlags say which mirror a command is about: one of a running cluster, whose workers then do the work, or one of a
// file, whose clusters are asked from here.
type linkFlags struct {
	verifyCommand // its file, workerFile, sourceFile, targetFile
}

func (l *linkFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&l.file, "file", "f", "", "ask the clusters from here, as the connector's configuration in a `file` says, or - for standard input")
	flags.StringVar(&l.workerFile, "worker-config", "", "with -f: worker `file` with the config providers and the defaults of the target")
	flags.StringVar(&l.sourceFile, "source-config", "", "with -f: client properties `file` for the source")
	flags.StringVar(&l.targetFile, "target-config", "", "with -f: client properties `file` for the target")
}

// remote says whether workers are asked.
func (l *linkFlags) remote(args []string) (bool, error) {
	switch {
	case l.file != "" && len(args) > 0:
		return false, usagef("name a connector, or give its configuration with -f, not both")
	case l.file == "" && (l.workerFile != "" || l.sourceFile != "" || l.targetFile != ""):
		return false, usagef("--worker-config, --source-config and --target-config go with -f: a connector of a running cluster has settings of its own")
	}
	return l.file == "", nil
}

// name is the connector that is meant: the one that is named, or the only one of kinds, the first of which has precedence.
func (l *linkFlags) name(ctx context.Context, client *rest.Client, args []string, kinds ...string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	all, err := client.Expanded(ctx)
	if err != nil {
		return "", l.wrong(err)
	}
	for _, kind := range kinds {
		var names []string
		for name, c := range all {
			class := c.Info.Config["connector.class"]
			class = strings.TrimSuffix(class[strings.LastIndex(class, ".")+1:], "Connector")
			if class == kind {
				names = append(names, name)
			}
		}
		if len(names) == 1 {
			return names[0], nil
		}
		if len(names) > 1 {
			return "", usagef("there are %d connectors that could be meant: name one", len(names))
		}
	}
	return "", fmt.Errorf("there is no %s connector: create one, or give a configuration with -f", kinds[0])
}

// local resolves the configuration of the file and makes clients.
func (l *linkFlags) local(ctx context.Context) (settings config.Settings, clients connector.Clients, closeAll func(), err error) {
	written, err := l.connector(ctx, nil)
	if err != nil {
		return nil, clients, nil, err
	}
	o, err := l.options(ctx, written)
	if err != nil {
		return nil, clients, nil, err
	}
	var opened []*kgo.Client
	open := func(role connector.Role, extra ...kgo.Opt) (*kgo.Client, error) {
		if role == connector.SourceAdmin || role == connector.SourceConsumer {
			return o.Source(extra...)
		}
		return o.Target(extra...)
	}
	clients.Open = func(_ context.Context, role connector.Role, extra ...kgo.Opt) (*kgo.Client, error) {
		client, err := open(role, extra...)
		if err == nil {
			opened = append(opened, client)
		}
		return client, err
	}
	principals, _ := clientconfig.Clients(nil, o.Config, nil)
	clients.Principal = principals.Principal
	return o.Config, clients, func() {
		for _, c := range opened {
			c.Close()
		}
	}, nil
}
