package sinks

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts deliveries, and tells Prometheus what Status tells.
type metrics struct {
	r                       *Runner
	sent, refused, setApart *prometheus.CounterVec
	seconds                 *prometheus.HistogramVec
	dropped                 prometheus.Counter
	lag, behind, inFlight   *prometheus.Desc
	apart, held             *prometheus.Desc
}

func newMetrics(r *Runner) (*metrics, error) {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tenure_sink_" + name, Help: help}, []string{"sink"})
	}
	gauge := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("tenure_sink_"+name, help, []string{"sink"}, nil)
	}
	m := &metrics{r: r,
		sent:     counter("delivered_total", "Events delivered."),
		refused:  counter("failed_total", "Attempts that failed."),
		setApart: counter("parked_total", "Events parked after their last attempt."),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tenure_sink_delivery_seconds", Help: "How long an attempt took.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16)}, []string{"sink"}),
		dropped:  prometheus.NewCounter(prometheus.CounterOpts{Name: "tenure_sink_deliveries_dropped_total", Help: "Attempts that the log of deliveries does not hold."}),
		lag:      gauge("lag_events", "Events that are neither delivered nor parked."),
		behind:   gauge("lag_seconds", "Age of the oldest event that is neither delivered nor parked."),
		inFlight: gauge("in_flight", "Deliveries under way."),
		apart:    gauge("parked_events", "Events that are parked."),
		held:     gauge("held_streams", "Streams whose failing events are kept from holding up the others."),
	}
	for _, s := range r.Sinks {
		for _, c := range []*prometheus.CounterVec{m.sent, m.refused, m.setApart} {
			c.WithLabelValues(s.Name)
		}
	}
	if r.Metrics == nil {
		return m, nil
	}
	return m, r.Metrics.Register(m)
}

func (m *metrics) delivered(sink string) { m.sent.WithLabelValues(sink).Inc() }
func (m *metrics) failed(sink string)    { m.refused.WithLabelValues(sink).Inc() }
func (m *metrics) parked(sink string)    { m.setApart.WithLabelValues(sink).Inc() }
func (m *metrics) drop(n int)            { m.dropped.Add(float64(n)) }
func (m *metrics) took(sink string, d time.Duration) {
	m.seconds.WithLabelValues(sink).Observe(d.Seconds())
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, c := range []prometheus.Collector{m.sent, m.refused, m.setApart, m.seconds, m.dropped} {
		c.Describe(to)
	}
	to <- m.lag
	to <- m.behind
	to <- m.inFlight
	to <- m.apart
	to <- m.held
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{m.sent, m.refused, m.setApart, m.seconds, m.dropped} {
		c.Collect(to)
	}
	for _, c := range m.r.Sinks {
		s, _ := m.r.Status(c.Name)
		if !s.Running {
			continue
		}
		to <- prometheus.MustNewConstMetric(m.lag, prometheus.GaugeValue, float64(s.Lag), c.Name)
		to <- prometheus.MustNewConstMetric(m.behind, prometheus.GaugeValue, s.Behind.Seconds(), c.Name)
		to <- prometheus.MustNewConstMetric(m.inFlight, prometheus.GaugeValue, float64(s.InFlight), c.Name)
		to <- prometheus.MustNewConstMetric(m.apart, prometheus.GaugeValue, float64(s.Parked), c.Name)
		to <- prometheus.MustNewConstMetric(m.held, prometheus.GaugeValue, float64(s.Held), c.Name)
	}
}
