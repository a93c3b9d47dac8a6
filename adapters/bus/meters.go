package bus

import (
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
)

// meters count what handlers do.
type meters struct {
	handled, failed, poisoned *prometheus.CounterVec
	seconds                   *prometheus.HistogramVec
}

func newMeters(to prometheus.Registerer) (*meters, error) {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"handler"})
	}
	m := &meters{
		handled:  counter("tenure_bus_handled_total", "Tries of messages that their handler has done."),
		failed:   counter("tenure_bus_failed_total", "Tries of messages that their handler has failed on."),
		poisoned: counter("tenure_bus_poisoned_total", "Messages that went to a poison stream."),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tenure_bus_handler_seconds",
			Help: "How long a handler took for one try of a message.", Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10)}, []string{"handler"}),
	}
	if to == nil {
		return m, nil
	}
	return m, errors.Join(to.Register(m.handled), to.Register(m.failed), to.Register(m.poisoned), to.Register(m.seconds))
}

// measure counts every try of a message.
func (m *meters) measure(now func() time.Time) message.HandlerMiddleware {
	return func(h message.HandlerFunc) message.HandlerFunc {
		return func(got *message.Message) ([]*message.Message, error) {
			handler, began := message.HandlerNameFromCtx(got.Context()), now()
			caused, err := h(got)
			m.seconds.WithLabelValues(handler).Observe(now().Sub(began).Seconds())
			if err != nil {
				m.failed.WithLabelValues(handler).Inc()
			} else {
				m.handled.WithLabelValues(handler).Inc()
			}
			return caused, err
		}
	}
}
