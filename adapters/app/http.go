package app

import (
	"fmt"
	"net/http"

	"github.com/tenure-dev/tenure/graphql"
)

// mux serves the API, its explorer, the probes and the metrics.
func (s *System) mux(api, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/graphql", api)
	mux.Handle("/{$}", graphql.NewExplorer("/graphql"))
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch st := s.Group.Status(); {
		case s.Err() != nil:
			http.Error(w, "a part of the system has failed", http.StatusServiceUnavailable)
		case st.Err != nil || st.Building:
			http.Error(w, "the read side stands still", http.StatusServiceUnavailable)
		case st.Owner && !st.CaughtUp:
			http.Error(w, "the read side has not met the log's head", http.StatusServiceUnavailable)
		default:
			fmt.Fprintln(w, "ok")
		}
	})
	return mux
}
