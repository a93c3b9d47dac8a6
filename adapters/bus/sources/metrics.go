package sources

import "github.com/prometheus/client_golang/prometheus"

// metrics counts what became of messages.
type metrics struct{ took, turnedDown, setApart, missed *prometheus.CounterVec }

func newMetrics(to prometheus.Registerer, names []string) (*metrics, error) {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tenure_source_" + name, Help: help}, []string{"source"})
	}
	m := &metrics{
		took:       counter("accepted_total", "Commands that were carried out and answered, repeats among them."),
		turnedDown: counter("refused_total", "Commands that were refused."),
		setApart:   counter("parked_total", "Messages that were parked."),
		missed:     counter("failed_total", "Attempts that failed."),
	}
	for _, c := range []*prometheus.CounterVec{m.took, m.turnedDown, m.setApart, m.missed} {
		for _, name := range names {
			c.WithLabelValues(name)
		}
		if to == nil {
			continue
		}
		if err := to.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) accepted(source string) { m.took.WithLabelValues(source).Inc() }
func (m *metrics) refused(source string)  { m.turnedDown.WithLabelValues(source).Inc() }
func (m *metrics) parked(source string)   { m.setApart.WithLabelValues(source).Inc() }
func (m *metrics) failed(source string)   { m.missed.WithLabelValues(source).Inc() }
