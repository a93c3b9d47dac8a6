package sinks_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tenure-dev/tenure/adapters/bus/sinks"
	"github.com/tenure-dev/tenure/domain"
)

func TestOneProcessDeliversAndTheNextGoesOnWhereItStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, one, two := newWorld(), &target{}, &target{}
		w.put("tenant-a", "tenant.renamed", "{}")
		_, stopOne := w.start(t, nil, sinks.Sink{Config: config("billing"), Publisher: one})
		r, stopTwo := w.start(t, nil, sinks.Sink{Config: config("billing"), Publisher: two})
		if s, ok := r.Status("billing"); !ok || s.Running {
			t.Errorf("without the lease: %+v, %v", s, ok)
		}
		stopOne()
		w.put("tenant-a", "tenant.renamed", "{}")
		synctest.Wait()
		same(t, "by the first", []string{"tenant-a/0"}, one.taken())
		same(t, "by the second", []string{"tenant-a/1"}, two.taken())
		stopTwo()
	})
}

// deaf is a log of deliveries that is down.
type deaf struct{}

func (deaf) Record(context.Context, []sinks.Delivery) error { return errors.New("down") }

func TestALogOfDeliveriesThatIsDownDelaysNothingAndIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, to, metrics := newWorld(), &target{}, prometheus.NewRegistry()
		w.put("tenant-a", "tenant.renamed", "{}")
		r, err := sinks.New(sinks.Options{Sinks: []sinks.Sink{{Config: config("billing"), Publisher: to}}, Log: w, Commands: w, Lease: w, Clock: w,
			Jitter: func(most time.Duration) time.Duration { return most }, Epoch: domain.Epoch{Number: 1, ID: "a"}, Deliveries: deaf{}, Metrics: metrics})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		same(t, "delivered", []string{"tenant-a/0"}, to.taken())
		families, err := metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]float64{}
		for _, f := range families {
			values[f.GetName()] = f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
		}
		same(t, "metrics", map[string]float64{"tenure_sink_delivered_total": 1, "tenure_sink_failed_total": 0, "tenure_sink_parked_total": 0,
			"tenure_sink_deliveries_dropped_total": 1, "tenure_sink_lag_events": 0, "tenure_sink_lag_seconds": 0, "tenure_sink_in_flight": 0, "tenure_sink_parked_events": 0,
			"tenure_sink_held_streams": 0, "tenure_sink_delivery_seconds": 0}, values)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
