package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tenure-dev/tenure/graphql"
)

// answering is how long what the system stands on may take to answer a probe.
const answering = 2 * time.Second

// check is one thing without which the system is not ready; its error is told to whoever asks.
type check func(context.Context) error

// mux serves the API, its explorer, the probes and the metrics.
func mux(api, metrics http.Handler, ready ...check) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/graphql", api)
	mux.Handle("/{$}", graphql.NewExplorer("/graphql"))
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), answering)
		defer cancel()
		for _, c := range ready {
			if err := c(ctx); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

// answers is a check that something else answers. What its failure says of addresses stays here.
func answers(what string, ask func(context.Context) error) check {
	return func(ctx context.Context) error {
		if ask(ctx) != nil {
			return errors.New(what + " does not answer")
		}
		return nil
	}
}

// standing checks the system's own parts.
func (s *System) standing(context.Context) error {
	switch st := s.Group.Status(); {
	case s.Err() != nil:
		return errors.New("a part of the system has failed")
	case st.Err != nil || st.Building:
		return errors.New("the read side stands still")
	case st.Owner && !st.CaughtUp:
		return errors.New("the read side has not met the log's head")
	}
	return nil
}
