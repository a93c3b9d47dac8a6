package eventnode

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// scrape reads the metrics as Prometheus does.
func scrape(t *testing.T, registry *prometheus.Registry) map[string]string {
	t.Helper()
	server := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	answer, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s %v: %s", answer.Status, err, text)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "} "); ok && line[0] != '#' {
			found[name+"}"] = value
		} else if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && line[0] != '#' {
			found[name] = value
		}
	}
	return found
}

func TestMetricsTellWhatTheNodeDoes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(r.node.metrics); err != nil {
		t.Fatal(err)
	}
	before := scrape(t, registry)
	for _, s := range []step{
		appending("s", expectNoStream, "a", "b"), // written
		appending("s", expectNoStream, "a", "b"), // idempotent
		appending("s", 7, "c"),                   // at the wrong revision
		appending("t", unset, "c"),               // no sense
		tombstoning("gone", expectAny),
		appending("gone", expectAny, "d"), // refused
		subscribing("mine", ofStream("s")),
		hearing("mine", 3),
		subscribing("all", ofAll, fromEnd),
		hearing("all", 1),
	} {
		s(r)
	}
	after := scrape(t, registry)
	for name, want := range map[string]string{
		`tenure_node_appends_total{outcome="written"}`:                                                           "2", // with the node's own first event
		`tenure_node_appends_total{outcome="idempotent"}`:                                                        "1",
		`tenure_node_appends_total{outcome="wrong_version"}`:                                                     "1",
		`tenure_node_appends_total{outcome="refused"}`:                                                           "2",
		`tenure_node_appended_events_total`:                                                                      "3",
		`tenure_node_sync_seconds_count`:                                                                         "3",
		`tenure_node_sync_appends_sum`:                                                                           "3",
		`tenure_node_queue_appends`:                                                                              "0",
		`tenure_node_subscriptions{kind="stream",state="live"}`:                                                  "1",
		`tenure_node_subscriptions{kind="all",state="live"}`:                                                     "1",
		`tenure_node_subscriptions{kind="all",state="catching_up"}`:                                              "0",
		`tenure_node_connections`:                                                                                "1",
		`tenure_node_calls_total{code="OK",method="event_store.client.streams.Streams/Append"}`:                  "3",
		`tenure_node_calls_total{code="FAILED_PRECONDITION",method="event_store.client.streams.Streams/Append"}`: "1",
		`tenure_node_calls_total{code="INVALID_ARGUMENT",method="event_store.client.streams.Streams/Append"}`:    "1",
		`tenure_node_calls_total{code="OK",method="event_store.client.streams.Streams/Tombstone"}`:               "1",
	} {
		if after[name] != want {
			t.Errorf("%s is %q, want %q", name, after[name], want)
		}
	}
	for _, name := range []string{"tenure_node_last_position", "tenure_node_appended_bytes_total"} {
		if after[name] == before[name] || after[name] == "" {
			t.Errorf("%s stays at %q", name, after[name])
		}
	}
	if _, told := after["tenure_node_log_bytes"]; !told {
		t.Error("the log has no size")
	}
}

// A subscriber that does not read falls behind, which shows.
func TestMetricsTellOfTheSlowest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := &subscription{read: &read{all: true}}
	end := r.node.metrics.follow(s)
	s.progress.live.Store(true)
	s.progress.after.Store(r.node.ring.watermark.Load())
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(r.node.metrics)
	lag := func() string {
		m := scrape(t, registry)
		return m["tenure_node_subscription_lag_events"] + " " + m["tenure_node_subscriptions{kind=\"all\",state=\"live\"}"]
	}
	if got := lag(); got != "0 1" {
		t.Errorf("at the end: %s", got)
	}
	appending("s", expectAny, "a", "b", "c")(r)
	if got := lag(); got != "3 1" {
		t.Errorf("three events later: %s", got)
	}
	end()
	if got := lag(); got != "0 0" {
		t.Errorf("when it is gone: %s", got)
	}
}

// Whoever waits for a scavenge can watch it: that it runs, and what it has looked at and removed.
func TestMetricsTellHowFarAScavengeIs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(r.node.metrics)
	told := func() string {
		m := scrape(t, registry)
		return m["tenure_node_scavenge_running"] + " running, " + m["tenure_node_scavenged_events_total"] + " events removed"
	}
	appending("s", expectAny, "a", "b", "c")(r)
	setting("s", `{"$maxCount":1}`)(r)
	if got := told(); got != "0 running, 0 events removed" {
		t.Errorf("before: %s", got)
	}
	r.node.scavenges.now = &scavenge{id: "x", cancel: func() {}}
	if got := told(); got != "1 running, 0 events removed" {
		t.Errorf("while one runs: %s", got)
	}
	r.node.scavenges.now = nil
	if got := scavenging(r); got != "Started" {
		t.Fatal(got)
	}
	if got := told(); got != "0 running, 2 events removed" {
		t.Errorf("afterwards: %s", got)
	}
	m := scrape(t, registry)
	if m["tenure_node_scavenge_streams_total"] < "3" || m["tenure_node_scavenged_bytes_total"] == "0" { // s, $$s, $users, and its own
		t.Errorf("%s streams, %s bytes", m["tenure_node_scavenge_streams_total"], m["tenure_node_scavenged_bytes_total"])
	}
}

// A node that is closed leaves its registry, so another may be opened, and a scrape that is late finds no closed database.
func TestMetricsEndWithTheNode(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	for range 2 {
		node, err := Open(Options{Dir: t.TempDir(), Addr: "127.0.0.1:0", Now: newClock().now, Metrics: registry})
		if err != nil {
			t.Fatal(err)
		}
		if found := scrape(t, registry); found["tenure_node_log_bytes"] == "" {
			t.Error("it does not tell of itself")
		}
		if err := node.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		late := prometheus.NewPedanticRegistry()
		late.MustRegister(node.metrics)
		if found := scrape(t, late); found["tenure_node_log_bytes"] != "" || found["tenure_node_connections"] != "0" {
			t.Errorf("after its end: %v", found)
		}
	}
	if found := scrape(t, registry); len(found) > 0 {
		t.Errorf("it has left %v", found)
	}
}
