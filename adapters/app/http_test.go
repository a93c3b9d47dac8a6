package app

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
)

func TestTheReadyProbeAsksWhatTheSystemStandsOn(t *testing.T) {
	well := func(context.Context) error { return nil }
	for name, tc := range map[string]struct {
		checks []check
		code   int
		says   string
	}{
		"all is well":       {[]check{well, answers("the log", well)}, 200, "ok"},
		"a part has failed": {[]check{func(context.Context) error { return errors.New("a part has failed") }, well}, 503, "a part has failed"},
		"something refuses, and its address stays secret": {[]check{well, answers("the log", func(context.Context) error { return errors.New("10.0.0.7 refused") })},
			503, "the log does not answer"},
		"something hangs": {[]check{answers("the database", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })}, 503, "the database does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := httptest.NewRecorder()
				mux(http.NotFoundHandler(), http.NotFoundHandler(), tc.checks...).ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
				if got := strings.TrimSpace(w.Body.String()); w.Code != tc.code || got != tc.says {
					t.Errorf("%d %s", w.Code, got)
				}
			})
		})
	}
}
