package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tenure-dev/tenure/domain"
)

// RouterConfig is what a router is made of. Publisher and Now are required.
type RouterConfig struct {
	// Publisher takes the messages that handlers could not take, to the topic poison-<handler>.
	Publisher message.Publisher
	Now       func() time.Time // the clock that durations are measured with
	// Retries is how many more times a message is tried that its handler has failed on; 5 when zero, none when negative.
	Retries int
	// Backoff is the pause before another try.
	Backoff Backoff
	// CloseTimeout is how long Close waits for handlers; 30 s when zero.
	CloseTimeout time.Duration
	Registerer   prometheus.Registerer // of the handlers' metrics; nil for none
	Logger       *slog.Logger          // nil drops
}

// NewRouter makes a watermill router for handlers of the bus's messages. Whatever a handler does, a message ends in one of three ways:
//   - it is done: what the handler returned is published, with the message's correlation and trace, and the message is acked;
//   - it is poison: the handler failed or panicked as often as Retries allows, or in a way that no other try mends. It is published
//     to poison-<handler> and acked, and those behind it go on;
//   - it is nacked, and comes again: the handler or the publisher answers CodeUnavailable, or the message's context has ended.
//
// Publishers stay open when handlers end: several handlers may share one, and whoever made it closes it.
func NewRouter(c RouterConfig) (*message.Router, error) {
	if c.Publisher == nil || c.Now == nil {
		return nil, errors.New("bus: Publisher and Now are required")
	}
	c.Retries, c.Backoff = max(cmp.Or(c.Retries, 5), 0), c.Backoff.orDefault()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	r, err := message.NewRouter(message.RouterConfig{CloseTimeout: c.CloseTimeout}, NewLogger(c.Logger))
	if err != nil {
		return nil, err
	}
	m, err := newMeters(c.Registerer)
	if err != nil {
		return nil, err
	}
	p := &poison{publisher: c.Publisher, meters: m, logger: c.Logger}
	r.AddMiddleware(accompany, p.collect, retry(c.Retries, c.Backoff), m.measure(c.Now), recovered)
	r.AddPublisherDecorators(func(to message.Publisher) (message.Publisher, error) { return outlet{to, p}, nil })
	return r, nil
}

// sourceKey is a message's own, in the context that its handler works under.
type sourceKey struct{}

// Traceparent is the W3C trace context of the message that ctx belongs to, or empty.
func Traceparent(ctx context.Context) string {
	if m := sourceOf(ctx); m != nil {
		return m.Metadata.Get(TraceparentKey)
	}
	return ""
}

func sourceOf(ctx context.Context) *message.Message {
	m, _ := ctx.Value(sourceKey{}).(*message.Message)
	return m
}

// Carry gives messages that a message has caused its correlation, its trace and its context, and names it as their cause. What they
// have already they keep. A router does so with what a handler returns; a handler that publishes by itself does it before.
func Carry(from *message.Message, caused ...*message.Message) {
	for _, m := range caused {
		for key, value := range map[string]string{CorrelationKey: cmp.Or(from.Metadata.Get(CorrelationKey), from.UUID),
			CausationKey: from.UUID, TraceparentKey: from.Metadata.Get(TraceparentKey)} {
			if m.Metadata.Get(key) == "" && value != "" {
				m.Metadata.Set(key, value)
			}
		}
		if m.Context() == context.Background() {
			m.SetContext(from.Context())
		}
	}
}

// accompany puts the message into its context, and carries on what belongs to it.
func accompany(h message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) ([]*message.Message, error) {
		m.SetContext(context.WithValue(m.Context(), sourceKey{}, m))
		caused, err := h(m)
		Carry(m, caused...)
		return caused, err
	}
}

// retry tries a handler again while that may help, under the context that the message came with.
func retry(retries int, b Backoff) message.HandlerMiddleware {
	return func(h message.HandlerFunc) message.HandlerFunc {
		return func(m *message.Message) ([]*message.Message, error) {
			came := m.Context()
			defer m.SetContext(came)
			for n := 0; ; n++ {
				m.SetContext(came)
				caused, err := h(m)
				if err == nil || n == retries || hopeless(err) || !b.pause(came, n) {
					return caused, err
				}
			}
		}
	}
}

// hopeless tells errors that are about the message itself: it would fail again.
func hopeless(err error) bool {
	code := domain.CodeOf(err)
	return code == domain.CodeInvalid || code == domain.CodeTooLarge
}

// recovered makes a handler's panic an error of it.
func recovered(h message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) (caused []*message.Message, err error) {
		defer func() {
			if p := recover(); p != nil {
				caused, err = nil, &domain.Error{Code: domain.CodeInternal, Message: "the handler panicked", Cause: fmt.Errorf("%v\n%s", p, debug.Stack())}
			}
		}()
		return h(m)
	}
}

// outlet publishes what a handler returned. What its publisher will never take makes the message poison that it comes from.
type outlet struct {
	message.Publisher
	poison *poison
}

func (o outlet) Publish(topic string, messages ...*message.Message) error {
	err := o.Publisher.Publish(topic, messages...)
	if !hopeless(err) {
		return err
	}
	from := sourceOf(messages[0].Context())
	if from == nil {
		return err
	}
	return o.poison.take(from, err)
}

// Close leaves the publisher open: other handlers may have it, too.
func (outlet) Close() error { return nil }
