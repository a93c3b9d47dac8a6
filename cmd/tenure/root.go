package main

import (
	"context"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"
)

const rootHelp = `Tenure is a control plane for SaaS vendors.

Every flag may also be given by a variable, TENURE_ and its name in upper case with _ for -, and by a line "name: value" in
the file that --config names. A flag goes before its variable, the variable before the file. The bearer token has no flag:
it is TENURE_TOKEN, or token in the file. A variable with _FILE behind its name names a file with the value.

Standard output carries results only. Logs and errors go to standard error; an error is one line, tenure: CODE: message.

Exit codes:
  0  done
  1  failed: a fault of ours, a damaged log, or a disk that is full
  2  the command line or the configuration is wrong, or what it names is taken: a port, a directory
  3  unavailable: something that is needed is away; a change may or may not have been made
  4  not_found: what was named does not exist
  5  refused: every other code, such as not_allowed, conflict or unauthenticated`

// newRoot assembles the command line. Every command is in a file of its own.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "tenure",
		Short:         "A control plane for SaaS vendors",
		Long:          rootHelp,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().String("config", "", "file with settings, one name: value a line")
	root.PersistentFlags().String("log-level", "info", "debug, info, warn or error")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(devCommand(), serveCommand(), nodeCommand(), agentCommand(), logCommand(), healthCommand(), secretsCommand(), tokenCommand(),
		tenantsCommand(), sagasCommand(), planesCommand(), orgsCommand(), tiersCommand(), sinksCommand())
	return root
}

// run is the whole program, but for the process around it.
func run(ctx context.Context, args []string, env lookup, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	begun := false
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		begun = true
		return configure(cmd, env)
	}
	err := root.ExecuteContext(ctx)
	if err != nil && !begun {
		err = usage("%s", err) // cobra's own word on the arguments
	}
	return report(stderr, err)
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return usage("%s needs one of its commands: see %s --help", cmd.CommandPath(), cmd.CommandPath())
	}}
	c.AddCommand(commands...)
	return c
}

// version is this binary's, as the Go toolchain has stamped it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
