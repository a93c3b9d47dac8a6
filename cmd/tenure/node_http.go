package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/tenure-dev/tenure/adapters/app"
	"github.com/tenure-dev/tenure/adapters/eventnode"
)

// nodeHTTP is what --http of the node serves; nothing where the flag is empty.
type nodeHTTP struct {
	listener net.Listener
	server   *http.Server
	metrics  *prometheus.Registry
}

func newNodeHTTP(cmd *cobra.Command, o eventnode.Options, metrics *prometheus.Registry) (*nodeHTTP, error) {
	address := text(cmd, "http")
	if address == "" {
		return &nodeHTTP{}, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, taken("--http: %s", err)
	}
	return &nodeHTTP{listener: l, metrics: metrics, server: &http.Server{TLSConfig: o.TLS, ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(o.Logger.With("part", "http").Handler(), slog.LevelDebug)}}, nil
}

// serve answers for a node until it is closed. If it ends by itself, failed gets why.
func (h *nodeHTTP) serve(node *eventnode.Node, failed chan<- error) {
	if h.server == nil {
		return
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", app.MetricsHandler(h.metrics))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-node.Done():
			http.Error(w, "the node has stopped", http.StatusServiceUnavailable)
		default:
			fmt.Fprintln(w, "ok")
		}
	})
	h.server.Handler = mux
	serve := h.server.Serve
	if h.server.TLSConfig != nil {
		serve = func(l net.Listener) error { return h.server.ServeTLS(l, "", "") }
	}
	go func() {
		if err := serve(h.listener); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}()
}

// Close ends everything at once.
func (h *nodeHTTP) Close() {
	if h.server != nil {
		_ = h.server.Close()
		_ = h.listener.Close() // the server has closed it, unless it never served
	}
}
