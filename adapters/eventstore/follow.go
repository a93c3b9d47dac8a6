package eventstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/tenure-dev/tenure/domain"
)

// Follow delivers every event behind a position in log order, 0 for the log's start, and then what is appended, without end:
// none is skipped and none comes twice, however often the connection breaks. CaughtUp comes whenever the end of the log has
// been met; a Checkpoint when only events of the event store's own streams and the message bus's, which are left out, moved the
// position. It ends with ctx, with Close, and at the one error that trying again cannot mend: CodeInvalid for a position that
// is no event's.
func (l *Log) Follow(ctx context.Context, after uint64) iter.Seq2[domain.Delivery, error] {
	return func(yield func(domain.Delivery, error) bool) {
		l.warnIfBeyondHead(ctx, after)
		at, failures := after, 0
		for ctx.Err() == nil && l.feeds.base.Err() == nil {
			before := at
			if !l.catchUp(ctx, &at, yield) {
				return
			}
			err := l.subscription(ctx, &at, yield)
			switch code := domain.CodeOf(err); {
			case err == nil:
				return
			case code != domain.CodeUnavailable:
				yield(domain.Delivery{}, err)
				return
			case ctx.Err() != nil:
				return
			}
			if at > before {
				failures = 0
			}
			l.logger.Info("a subscription ended and begins again", "after", at, "error", err)
			l.feeds.counters.resubscribed.Add(1)
			if pause(ctx, l.feeds.pauses, failures) != nil {
				return
			}
			failures++
		}
	}
}

// Subscribe is Follow as projections call it.
func (l *Log) Subscribe(ctx context.Context, after uint64, fromStart bool) iter.Seq2[domain.Delivery, error] {
	if fromStart {
		after = 0
	}
	return l.Follow(ctx, after)
}

// catchUp reads by pages up to the log's present end, which is faster than a subscription and holds no slot while the consumer
// works. It reports false when the consumer has had enough. What goes wrong here, the subscription that follows meets as well.
func (l *Log) catchUp(ctx context.Context, at *uint64, yield func(domain.Delivery, error) bool) bool {
	for p, err := range l.pages(ctx, *at, math.MaxInt) {
		if err != nil {
			return true
		}
		for _, e := range p.events {
			*at = e.Commit
			if !yield(domain.Delivery{Kind: domain.DeliveredEvent, Event: e, Commit: e.Commit}, nil) {
				return false
			}
		}
		if p.last > *at {
			*at = p.last
			if !yield(domain.Delivery{Kind: domain.Checkpoint, Commit: p.last}, nil) {
				return false
			}
		}
		if ctx.Err() != nil || l.feeds.base.Err() != nil {
			return true
		}
	}
	return true
}

// subscription follows one subscription from *at on and moves *at. It gives nil when the consumer has had enough.
func (l *Log) subscription(ctx context.Context, at *uint64, yield func(domain.Delivery, error) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.feeds.base, cancel)()
	s, sub, err := l.subscribe(ctx, *at)
	if err != nil {
		return err
	}
	defer s.release()
	defer sub.Close()
	for {
		d, err := next(sub)
		if err != nil {
			return err
		}
		switch {
		case d.Kind == domain.CaughtUp:
			d.Commit = *at
		case d.Commit <= *at:
			continue
		}
		*at = d.Commit
		if !yield(d, nil) {
			return nil
		}
	}
}

func (l *Log) subscribe(ctx context.Context, after uint64) (*session, *esdb.Subscription, error) {
	return begin(ctx, l.feeds, func(ctx context.Context, c *esdb.Client) (*esdb.Subscription, error) {
		return c.SubscribeToAll(ctx, esdb.SubscribeToAllOptions{From: allFrom(after), MaxSearchWindow: 256,
			Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Regex: `^[^$]`}})
	})
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

// next waits for a subscription's next message.
func next(sub *esdb.Subscription) (domain.Delivery, error) {
	for {
		m, err := receive(sub)
		switch {
		case err != nil:
			return domain.Delivery{}, err
		case m.EventAppeared != nil:
			e := m.EventAppeared.OriginalEvent()
			if isSystem(e) || domain.OfTheBus(e.StreamID) {
				return domain.Delivery{Kind: domain.Checkpoint, Commit: e.Position.Commit}, nil
			}
			return domain.Delivery{Kind: domain.DeliveredEvent, Event: recorded(e), Commit: e.Position.Commit}, nil
		case m.CheckPointReached != nil:
			return domain.Delivery{Kind: domain.Checkpoint, Commit: m.CheckPointReached.Commit}, nil
		case m.CaughtUp != nil:
			return domain.Delivery{Kind: domain.CaughtUp}, nil
		}
	}
}

// warnIfBeyondHead says so when a position belongs to another log: the event store would deliver nothing up to it.
func (l *Log) warnIfBeyondHead(ctx context.Context, after uint64) {
	if after == 0 {
		return
	}
	if head, err := l.Head(ctx); err == nil && head < after {
		l.logger.Warn("a subscription begins beyond the log's end: is it another log?", "after", fmt.Sprint(after), "head", fmt.Sprint(head))
	}
}
