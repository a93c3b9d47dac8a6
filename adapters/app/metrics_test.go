package app

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestTheAPIsListenerServesMetrics(t *testing.T) {
	registry := NewMetrics()
	tried := prometheus.NewCounter(prometheus.CounterOpts{Name: "tried_total", Help: "A part's own."})
	registry.MustRegister(tried)
	tried.Inc()
	answer := httptest.NewRecorder()
	mux(http.NotFoundHandler(), MetricsHandler(registry)).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{"\ntried_total 1\n", "\ngo_goroutines ", "\nprocess_cpu_seconds_total "} {
		if answer.Code != http.StatusOK || !strings.Contains(answer.Body.String(), want) {
			t.Errorf("code %d and no %q in\n%s", answer.Code, want, answer.Body)
		}
	}
}
