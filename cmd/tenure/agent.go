package main

import (
	"errors"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tenure-dev/tenure/agent"
)

func agentCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "agent",
		Short: "Run a data plane's agent",
		Long: "Runs a data plane's agent until it is told to stop. --join is needed once, with a token of createJoinToken; after that the\n" +
			"agent's directory knows the plane, and --gateway may be left out, too.",
		Args: cobra.NoArgs,
		RunE: runAgent,
	}
	addData(c.Flags(), "the agent's own directory")
	c.Flags().String("gateway", "", "address of the gateway, such as https://127.0.0.1:8443")
	c.Flags().String("join", "", "token with which to join")
	c.Flags().String("driver", "postgres", "what makes tenants: postgres or simulated")
	c.Flags().String("postgres", "", "with the postgres driver: URL of the data plane's server, as a superuser")
	c.Flags().String("vendor", "", "with the postgres driver: directory of the product's SQL files (default: an example)")
	c.Flags().String("http", "", "where to serve /livez and /readyz, which says whether a session with the gateway is open; nowhere when empty")
	c.Flags().String("advertise", "", "with the postgres driver: host:port that tenants are told (default: that of --postgres)")
	c.AddCommand(agentSecretCommand())
	return c
}

func runAgent(cmd *cobra.Command, _ []string) (err error) {
	if !cmd.Flags().Changed("data") {
		return usage("--data is missing: the agent's own directory")
	}
	logger, err := loggerOf(cmd)
	if err != nil {
		return err
	}
	dir, name := text(cmd, "data"), text(cmd, "driver")
	options := map[string]string{}
	if name == "postgres" {
		for _, o := range []string{optionPostgres, optionVendor, optionAdvertise} {
			if value := text(cmd, o); value != "" {
				options[o] = value
			}
		}
		if vendor := options[optionVendor]; vendor != "" { // agent secret may run elsewhere
			if options[optionVendor], err = filepath.Abs(vendor); err != nil {
				return err
			}
		}
	}
	driver, err := openDriver(cmd.Context(), name, dir, options, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, driver.Close()) }()
	a, err := agent.New(agent.Config{
		Dir: dir, GatewayURL: text(cmd, "gateway"), JoinToken: text(cmd, "join"),
		Driver: driver, DriverName: name, DriverOptions: options,
		Version: version(), Logger: logger,
	})
	if err != nil {
		return agentError(err)
	}
	web, err := newAgentHTTP(cmd, a, logger)
	if err != nil {
		return err
	}
	defer web.Close()
	return agentError(a.Run(cmd.Context()))
}

// agentError tells what the command line has wrong, or names that is taken, from what an agent meets later.
func agentError(err error) error {
	var e *agent.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code {
	case agent.CodeInvalid:
		return usage("%s", e)
	case agent.CodeConflict:
		return taken("--data: %s", e)
	default:
		return err
	}
}
