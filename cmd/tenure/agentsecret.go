package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tenure-dev/tenure/agent"
)

func agentSecretCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "secret TENANT",
		Short: "Print a tenant's connection URL, with its password",
		Args:  cobra.ExactArgs(1),
		RunE:  runAgentSecret,
	}
	addData(c.Flags(), "directory of an agent, or of tenure dev")
	return c
}

func runAgentSecret(cmd *cobra.Command, args []string) error {
	dir := agentDir(text(cmd, "data"))
	settings, err := agent.LoadSettings(dir)
	if err != nil {
		return err
	}
	logger := slog.New(slog.DiscardHandler) // the agent itself logs what its plane is like
	driver, err := openDriver(cmd.Context(), settings.Driver, dir, settings.DriverOptions, logger)
	if err != nil {
		return err
	}
	defer driver.Close()
	url, err := agent.Secret(cmd.Context(), dir, args[0], driver)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), url)
	return err
}

// agentDir is data, or the agent's directory in it if data is dev's.
func agentDir(data string) string {
	within := filepath.Join(data, "agent")
	if info, err := os.Stat(within); err == nil && info.IsDir() {
		return within
	}
	return data
}
