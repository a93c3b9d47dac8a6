package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/tenure-dev/tenure/adapters/app"
	"github.com/tenure-dev/tenure/adapters/eventnode"
	"github.com/tenure-dev/tenure/domain"
)

func nodeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "node",
		Short: "Run the embedded event store",
		Long: `Runs the embedded event store until it is told to stop. Prints one line, ready and its address, when it answers.

With --tls-cert and --tls-key it speaks TLS and answers users only. The first start makes the user admin and prints a line
with its password; see tenure node users. Without them everybody may do everything, so it listens on loopback addresses
only, unless --insecure says otherwise.

With --http it serves /metrics, /livez and /readyz there, with the same certificate if there is one, to everybody.`,
		Args: cobra.NoArgs,
		RunE: runNode,
	}
	f := c.Flags()
	addData(f, "directory; the events are in its directory log")
	f.String("node", "127.0.0.1:2113", "where to listen")
	f.String("http", "", "where to serve /metrics, /livez and /readyz; nowhere when empty")
	f.String("tls-cert", "", "file with the certificate and what leads to its authority, PEM; read again when it changes")
	f.String("tls-key", "", "file with the certificate's key, PEM")
	f.Bool("dev-users", false, "let the first start make the users admin and ops with the password changeit")
	addInsecure(f)
	c.AddCommand(nodeUsersCommand())
	return c
}

// nodeDir is where the embedded node keeps its events, under dev's --data as well as under node's.
func nodeDir(data string) string { return filepath.Join(data, "log") }

// nodeURL is how clients reach an embedded node.
func nodeURL(addr net.Addr, secure bool) string { return fmt.Sprintf("esdb://%s?tls=%t", addr, secure) }

func runNode(cmd *cobra.Command, _ []string) error {
	logger, err := loggerOf(cmd)
	if err != nil {
		return err
	}
	o := eventnode.Options{Dir: nodeDir(text(cmd, "data")), Logger: logger, Now: time.Now}
	if o.TLS, err = nodeTLS(cmd, logger); err != nil {
		return err
	}
	for _, flag := range []string{"node", "http"} {
		if err := checkLoopback(cmd, flag, o.TLS != nil); err != nil {
			return err
		}
	}
	if o.Listener, err = net.Listen("tcp", text(cmd, "node")); err != nil {
		return taken("--node: %s", err)
	}
	defer o.Listener.Close()
	if o.TLS != nil {
		if o.Users, err = eventnode.OpenUsers(o.Dir, o.Now, logger); err != nil {
			return usersError(err)
		}
	}
	metrics := app.NewMetrics()
	o.Metrics = metrics
	failed := make(chan error, 2)
	web, err := newNodeHTTP(cmd, o, metrics)
	if err != nil {
		return err
	}
	defer web.Close()
	node, err := eventnode.Open(o)
	if err != nil {
		return dataError(err)
	}
	if err := firstUsers(cmd, o.Users); err != nil {
		return errors.Join(err, node.Close(cmd.Context()))
	}
	go func() { failed <- node.Serve() }()
	web.serve(node, failed)
	fmt.Fprintln(cmd.OutOrStdout(), "ready", nodeURL(node.Addr(), o.TLS != nil))
	select {
	case err = <-failed:
	case <-cmd.Context().Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), 5*time.Second)
	defer cancel()
	if closed := node.Close(ctx); err == nil {
		err = closed
	}
	return err
}

// dataError tells what stands in the way of using --data, another process or the path itself, from what is wrong inside: a
// damaged log is no mistake in the command line.
func dataError(err error) error {
	switch {
	case errors.Is(err, eventnode.ErrDirectory):
		return usage("--data: %s", err)
	case errors.Is(err, eventnode.ErrInUse):
		return taken("--data: %s", err)
	}
	return coded(domain.CodeInternal, "--data: %s", err)
}

// usersError is for the file with the users, which may be out of reach with all of --data.
func usersError(err error) error {
	if _, unusable := errors.AsType[*fs.PathError](err); unusable {
		return usage("--data: %s", err)
	}
	return err
}
