package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/tenure-dev/tenure/adapters/eventnode"
)

func nodeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "node",
		Short: "Run the embedded event store",
		Long:  "Runs the embedded event store until it is told to stop. Prints one line, ready and its address, when it answers.",
		Args:  cobra.NoArgs,
		RunE:  runNode,
	}
	addData(c.Flags(), "directory; the events are in its directory log")
	c.Flags().String("node", "127.0.0.1:2113", "where to listen")
	return c
}

// nodeDir is where the embedded node keeps its events, under dev's --data as well as under node's.
func nodeDir(data string) string { return filepath.Join(data, "log") }

// nodeURL is how clients reach an embedded node.
func nodeURL(addr net.Addr) string { return "esdb://" + addr.String() + "?tls=false" }

func runNode(cmd *cobra.Command, _ []string) error {
	logger, err := loggerOf(cmd)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", text(cmd, "node"))
	if err != nil {
		return taken("--node: %s", err)
	}
	node, err := eventnode.Open(eventnode.Options{
		Dir: nodeDir(text(cmd, "data")), Listener: listener, Logger: logger, Now: time.Now,
	})
	if err != nil {
		_ = listener.Close()
		return taken("--data: %s", err)
	}
	served := make(chan error, 1)
	go func() { served <- node.Serve() }()
	fmt.Fprintln(cmd.OutOrStdout(), "ready", nodeURL(node.Addr()))
	select {
	case err = <-served:
	case <-cmd.Context().Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), 5*time.Second)
	defer cancel()
	if closed := node.Close(ctx); err == nil {
		err = closed
	}
	return err
}
