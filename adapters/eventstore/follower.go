package eventstore

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/tenure-dev/tenure/domain"
)

// follower is one consumer's life over many connections: how it begins from where it is, and how what comes moves it.
type follower[T any] struct {
	// catchUp, if there is one, gives what is there up to the log's present end, which is faster than a subscription and holds
	// no slot while the consumer works. It is false when the consumer has had enough. What goes wrong here, the subscription
	// that follows meets as well.
	catchUp func(ctx context.Context, give func(T) bool) bool
	open    func(context.Context, *esdb.Client) (*esdb.Subscription, error)
	// take moves the follower, and tells what the consumer gets, if anything. A message is an event, a checkpoint or caught up.
	take func(*esdb.SubscriptionEvent) (t T, gets bool)
}

// pagesUpToNow hands over page after page, and reports false as soon as that does.
func pagesUpToNow[E any](ctx context.Context, l *Log, all iter.Seq2[pageOf[E], error], hand func(pageOf[E]) bool) bool {
	for p, err := range all {
		if err != nil {
			return true
		}
		if !hand(p) {
			return false
		}
		if ctx.Err() != nil || l.feeds.base.Err() != nil {
			return true
		}
	}
	return true
}

// follow yields what the consumer has not had yet, and subscribes again however often the connection breaks.
func (f follower[T]) follow(ctx context.Context, l *Log, yield func(T, error) bool) {
	came := false // an event or a checkpoint, since the last pause
	give := func(t T) bool {
		came = true
		return yield(t, nil)
	}
	for failures := 0; ctx.Err() == nil && l.feeds.base.Err() == nil; failures++ {
		if f.catchUp != nil && !f.catchUp(ctx, give) {
			return
		}
		subscribed, err := f.once(ctx, l, yield)
		switch {
		case err == nil || ctx.Err() != nil:
			return
		case domain.CodeOf(err) != domain.CodeUnavailable:
			var none T
			yield(none, err)
			return
		}
		if came || subscribed {
			failures, came = 0, false
		}
		l.logger.Info("a subscription ended and begins again", "error", err)
		l.feeds.counters.resubscribed.Add(1)
		if pause(ctx, l.feeds.pauses, failures) != nil {
			return
		}
	}
}

// once follows one subscription. It gives nil when the consumer has had enough, and tells whether an event or a checkpoint came.
func (f follower[T]) once(ctx context.Context, l *Log, yield func(T, error) bool) (came bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.feeds.base, cancel)()
	held, sub, err := begin(ctx, l.feeds, f.open)
	if err != nil {
		return false, err
	}
	defer held.release()
	defer sub.Close()
	for {
		m, err := receive(sub)
		if err != nil {
			return came, err
		}
		if m.EventAppeared == nil && m.CheckPointReached == nil && m.CaughtUp == nil {
			continue
		}
		came = came || m.CaughtUp == nil
		if t, gets := f.take(m); gets && !yield(t, nil) {
			return came, nil
		}
	}
}

// begin begins a subscription, which holds a slot of the session until it is released. Only the beginning has a timeout; the
// caller ends ctx when it is given up.
func begin[S interface{ Close() error }](ctx context.Context, l *link, open func(context.Context, *esdb.Client) (S, error)) (*session, S, error) {
	var none S
	beginning, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	s, err := l.acquire(beginning)
	if err != nil {
		return nil, none, err
	}
	answers := make(chan answer[S], 1)
	go func() {
		hung := time.AfterFunc(l.timeout+grace, func() { l.retire(s, errors.New("a subscription hangs")) })
		defer hung.Stop()
		sub, err := guarded(ctx, s.client, open)
		l.judge(s, err)
		answers <- answer[S]{sub, err}
	}()
	select {
	case a := <-answers:
		if a.err != nil {
			s.release()
			return nil, none, coded(a.err)
		}
		return s, a.value, nil
	case <-beginning.Done():
		l.late(beginning)
		go func() { // the client may take its time to notice that the caller's ctx has ended
			if a := <-answers; a.err == nil {
				_ = a.value.Close()
			}
			s.release()
		}()
		return nil, none, domain.Unavailable("the event store did not begin the subscription in time", beginning.Err())
	}
}

// receive waits for a subscription's next message; a drop is an error.
func receive(sub *esdb.Subscription) (m *esdb.SubscriptionEvent, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = domain.Unavailable("the subscription broke", &panicked{p})
		}
	}()
	m = sub.Recv()
	if m.SubscriptionDropped == nil {
		return m, nil
	}
	if m.SubscriptionDropped.Error == nil {
		return nil, coded(errors.New("dropped"))
	}
	return nil, coded(m.SubscriptionDropped.Error)
}
