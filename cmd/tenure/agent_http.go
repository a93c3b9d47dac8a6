package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/tenure-dev/tenure/agent"
)

// newAgentHTTP serves the agent's probes until it is closed; nothing where --http is empty.
func newAgentHTTP(cmd *cobra.Command, a *agent.Agent, logger *slog.Logger) (*http.Server, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !a.Connected() {
			http.Error(w, "no session with the gateway is open", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(logger.With("part", "http").Handler(), slog.LevelDebug)}
	address := text(cmd, "http")
	if address == "" {
		return server, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, taken("--http: %s", err)
	}
	go func() { _ = server.Serve(l) }() // an agent goes on without its probes
	return server, nil
}
