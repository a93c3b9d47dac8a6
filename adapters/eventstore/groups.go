package eventstore

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/tenure-dev/tenure/domain"
)

// GroupSettings say how a group of competing consumers is served. Zero values are the event store's defaults.
type GroupSettings struct {
	FromStart  bool          // begin with the stream's first event, not with what is appended next
	MaxRetries int           // redeliveries before an event is parked; 10
	AckTimeout time.Duration // after which an unanswered event comes again; 30 s
}

// Nack says what becomes of an event that a consumer cannot take.
type Nack int

// What to do with it.
const (
	Retry = Nack(esdb.NackActionRetry) // deliver it again, until MaxRetries
	Park  = Nack(esdb.NackActionPark)  // set it aside
	Skip  = Nack(esdb.NackActionSkip)  // forget it
)

// Consumed is an event that a consumer has to answer, from any goroutine. An answer that fails with CodeUnavailable did not
// reach the event store: the event comes again.
type Consumed struct {
	Event   domain.Recorded
	Raw     Raw // the same event with its metadata as they are
	Retries int // deliveries before this one that the event store knows of
	Ack     func() error
	Nack    func(action Nack, reason string) error
}

// EnsureGroup creates a group of consumers on a stream and leaves one that exists as it is. There are no groups on the whole
// log: event stores lose events of those that are filtered.
func (l *Log) EnsureGroup(ctx context.Context, stream, group string, g GroupSettings) error {
	if err := checkGroup(stream, group); err != nil {
		return err
	}
	settings := esdb.SubscriptionSettingsDefault()
	if g.MaxRetries > 0 {
		settings.MaxRetryCount = int32(min(g.MaxRetries, 1<<30))
	}
	if g.AckTimeout > 0 {
		settings.MessageTimeout = int32(min(max(g.AckTimeout.Milliseconds(), 1), 1<<30))
	}
	options := esdb.PersistentStreamSubscriptionOptions{Settings: &settings, StartFrom: esdb.End{}, Deadline: &l.timeout}
	if g.FromStart {
		options.StartFrom = esdb.Start{}
	}
	_, err := do(ctx, l.feeds, func(ctx context.Context, c *esdb.Client) (struct{}, error) {
		return struct{}{}, c.CreatePersistentSubscription(ctx, stream, group, options)
	})
	var e *esdb.Error
	if errors.As(err, &e) && e.Code() == esdb.ErrorCodeResourceAlreadyExists {
		return nil
	}
	return coded(err)
}

// Consume delivers events of a group, at most buffer of them unanswered, without end: it subscribes again however often the
// connection breaks. Every event comes at least once, and not in order if some come again. It ends with ctx, with Close, and
// with CodeNotFound for a group that does not exist. Answer what came before ending it: an event without an answer comes again.
func (l *Log) Consume(ctx context.Context, stream, group string, buffer int) iter.Seq2[Consumed, error] {
	return func(yield func(Consumed, error) bool) {
		err := checkGroup(stream, group)
		if err == nil && (buffer < 1 || buffer > 1<<20) {
			err = domain.Invalid("buffer", "must be between 1 and %d", 1<<20)
		}
		if err != nil {
			yield(Consumed{}, err)
			return
		}
		for failures := 0; ctx.Err() == nil && l.feeds.base.Err() == nil; failures++ {
			came, err := l.consume(ctx, stream, group, buffer, yield)
			switch {
			case err == nil || ctx.Err() != nil:
				return
			case domain.CodeOf(err) != domain.CodeUnavailable:
				yield(Consumed{}, err)
				return
			}
			if came {
				failures = 0
			}
			l.logger.Info("a consumer was dropped and subscribes again", "stream", stream, "group", group, "error", err)
			l.feeds.counters.resubscribed.Add(1)
			if pause(ctx, l.feeds.pauses, failures) != nil {
				return
			}
		}
	}
}

func checkGroup(stream, group string) error {
	switch {
	case stream == "" || stream == "$all":
		return domain.Invalid("stream", "must be one stream: groups on the whole log lose events")
	case group == "":
		return domain.Invalid("group", "must not be empty")
	}
	return nil
}

// consume is one subscription's life. It gives nil when the caller has had enough.
func (l *Log) consume(ctx context.Context, stream, group string, buffer int, yield func(Consumed, error) bool) (came bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.feeds.base, cancel)()
	s, sub, err := begin(ctx, l.feeds, func(ctx context.Context, c *esdb.Client) (*esdb.PersistentSubscription, error) {
		return c.SubscribeToPersistentSubscription(ctx, stream, group, esdb.SubscribeToPersistentSubscriptionOptions{BufferSize: uint32(buffer)})
	})
	if isNotFound(err) {
		return false, &domain.Error{Code: domain.CodeNotFound, Field: "group", Message: "does not exist on this stream", Cause: err}
	}
	if err != nil {
		return false, err
	}
	defer s.release()
	c := &consumer{sub: sub}
	defer c.close(cancel)
	for {
		e, err := c.next()
		if err != nil {
			return came, err
		}
		came = true
		if !yield(e, nil) {
			return came, nil
		}
	}
}

// consumer lets answers be given from any goroutine: the client's own methods are not safe for that.
type consumer struct {
	sub    *esdb.PersistentSubscription
	mu     sync.Mutex // one answer, or the end, at a time
	closed bool
}

func (c *consumer) next() (e Consumed, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = domain.Unavailable("the subscription broke", &panicked{p})
		}
	}()
	m := c.sub.Recv()
	if m.EventAppeared == nil {
		err := errors.New("dropped")
		if m.SubscriptionDropped != nil && m.SubscriptionDropped.Error != nil {
			err = m.SubscriptionDropped.Error
		}
		return e, coded(err)
	}
	resolved := m.EventAppeared.Event
	original := resolved.OriginalEvent()
	return Consumed{Event: recorded(original), Raw: raw(original), Retries: m.EventAppeared.RetryCount,
		Ack: func() error { return c.answer(func() error { return c.sub.Ack(resolved) }) },
		Nack: func(action Nack, reason string) error {
			return c.answer(func() error { return c.sub.Nack(reason, esdb.NackAction(action), resolved) })
		}}, nil
}

func (c *consumer) answer(send func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return domain.Unavailable("the subscription that delivered the event has ended", nil)
	}
	if err := send(); err != nil {
		return domain.Unavailable("the answer did not reach the event store", err)
	}
	return nil
}

// close ends the subscription. Ending its ctx first frees an answer that waits for the connection.
func (c *consumer) close(cancel context.CancelFunc) {
	cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	_ = c.sub.Close()
}
