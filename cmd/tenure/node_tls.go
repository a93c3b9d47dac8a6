package main

import (
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tenure-dev/tenure/adapters/eventnode"
)

// addInsecure adds --insecure.
func addInsecure(flags *pflag.FlagSet) {
	flags.Bool("insecure", false, "let the event node listen, without TLS and users, where other machines may reach it")
}

// checkLoopback refuses an address that other machines may reach, unless what listens there is secure.
func checkLoopback(cmd *cobra.Command, flag string, secure bool) error {
	address := text(cmd, flag)
	if address == "" || secure || text(cmd, "insecure") == "true" {
		return nil
	}
	addr, err := net.ResolveTCPAddr("tcp", address)
	switch {
	case err != nil:
		return usage("--%s: %s", flag, err)
	case addr.IP.IsLoopback():
		return nil
	}
	instead := "give --tls-cert and --tls-key, or"
	if cmd.Flags().Lookup("tls-cert") == nil {
		instead = "give"
	}
	return usage("--%s: other machines may reach %s, and nothing there is encrypted or asks who calls: %s --insecure", flag, address, instead)
}

// nodeTLS is what --tls-cert and --tls-key ask for; nothing where neither is given.
func nodeTLS(cmd *cobra.Command, logger *slog.Logger) (*tls.Config, error) {
	cert, key := text(cmd, "tls-cert"), text(cmd, "tls-key")
	switch {
	case cert == "" && key == "":
		if text(cmd, "dev-users") == "true" {
			return nil, usage("--dev-users needs --tls-cert and --tls-key, as a node without them has no users")
		}
		return nil, nil
	case key == "":
		return nil, usage("--tls-key is missing: it goes together with --tls-cert")
	case cert == "":
		return nil, usage("--tls-cert is missing: it goes together with --tls-key")
	}
	config, err := eventnode.ServerTLS(cert, key, time.Now, logger)
	if err != nil {
		return nil, usage("--tls-cert, --tls-key: %s", err)
	}
	return config, nil
}
