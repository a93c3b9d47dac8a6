package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/tenure-dev/tenure/adapters/app"
	"github.com/tenure-dev/tenure/adapters/postgres/cluster"
	"github.com/tenure-dev/tenure/projections"
)

func devCommand() *cobra.Command {
	var c app.DevConfig
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything in one process: event node, private Postgres, control plane, one agent",
		Long: `Runs everything in one process: event node, private Postgres, control plane, and one agent with the postgres driver.

Standard output gets two lines: the token, and "ready http://ADDR" when all of it answers. The operator's token is
TENURE_TOKEN; when unset it is made once and kept. Not for production: one machine, one token.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if c.Logger, err = loggerOf(cmd); err != nil {
				return err
			}
			if err := checkLoopback(cmd, "node", false); err != nil {
				return err
			}
			if c.Sinks, c.Sources, err = routesOf(cmd, c.Logger); err != nil {
				return err
			}
			c.Dir, c.Token, c.Version = text(cmd, "data"), tokenOf(cmd), version()
			return startError(app.Dev(cmd.Context(), c, cmd.OutOrStdout()))
		},
	}
	f := cmd.Flags()
	addData(f, "where everything is kept; same directory, same system after a restart")
	f.StringVar(&c.HTTP, "http", "127.0.0.1:8080", "where GraphQL (/graphql) and its explorer (/) are served")
	f.StringVar(&c.Node, "node", "127.0.0.1:2113", "where the embedded event node listens")
	addInsecure(f)
	f.StringVar(&c.Gateway, "gateway", "127.0.0.1:8443", "where agents connect")
	f.StringVar(&c.Postgres, "postgres", "", "a Postgres for the read side; a private one when empty")
	f.StringVar(&c.Driver, "driver", "postgres", "of the agent: postgres, or simulated")
	f.BoolVar(&c.Demo, "demo", false, "publish four tiers, register an org, onboard a tenant of each; nothing on a log that has an org")
	return cmd
}

// startError says in one line, with exit code 2, what has to be mended before a start.
func startError(err error) error {
	for _, mendable := range []error{app.ErrTaken, cluster.ErrRunning, cluster.ErrVersion, cluster.ErrNoBinaries, projections.ErrOtherLog} {
		if errors.Is(err, mendable) {
			return taken("%s", err)
		}
	}
	return err
}
