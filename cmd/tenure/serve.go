package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/tenure-dev/tenure/adapters/app"
)

func serveCommand() *cobra.Command {
	var c app.Config
	var web, gateway string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the control plane on an event store and a Postgres of your own",
		Long:  "Runs the control plane on an event store and a Postgres of your own. The operator's token is TENURE_TOKEN.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			c.Token = tokenOf(cmd)
			switch {
			case c.EventStore == "":
				return usage("serve needs --eventstore")
			case c.Postgres == "":
				return usage("serve needs --postgres")
			case c.Token == "":
				return usage("serve needs TENURE_TOKEN")
			}
			if c.Logger, err = loggerOf(cmd); err != nil {
				return err
			}
			if c.Sinks, c.Sources, err = routesOf(cmd, c.Logger); err != nil {
				return err
			}
			if c.HTTP, err = net.Listen("tcp", web); err != nil {
				return taken("--http: %s", err)
			}
			defer c.HTTP.Close()
			if c.Gateway, err = net.Listen("tcp", gateway); err != nil {
				return taken("--gateway: %s", err)
			}
			defer c.Gateway.Close()
			host, _ := os.Hostname()
			c.KeyDir, c.Owner = filepath.Join(text(cmd, "data"), "keys"), fmt.Sprintf("%s-%d-%d", host, os.Getpid(), time.Now().UnixNano())
			return serve(cmd, c)
		},
	}
	f := cmd.Flags()
	addData(f, "where the key store is kept")
	f.StringVar(&web, "http", "127.0.0.1:8080", "where GraphQL (/graphql) and its explorer (/) are served")
	f.StringVar(&gateway, "gateway", "127.0.0.1:8443", "where agents connect")
	f.StringVar(&c.EventStore, "eventstore", "", "an esdb:// address")
	f.StringVar(&c.Postgres, "postgres", "", "a postgresql:// address for the read side")
	return cmd
}

func serve(cmd *cobra.Command, c app.Config) error {
	s, err := app.Start(cmd.Context(), c)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
		defer cancel()
		s.Stop(ctx)
	}()
	fmt.Fprintf(cmd.OutOrStdout(), "ready http://%s\n", c.HTTP.Addr())
	select {
	case <-cmd.Context().Done():
		return nil
	case <-s.Failed():
		return s.Err()
	}
}
