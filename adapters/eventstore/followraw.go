package eventstore

import (
	"context"
	"errors"
	"iter"
	"math"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/tenure-dev/tenure/domain"
)

// FollowRaw is Follow for events of any form, the message bus's among them: every event behind a position in log order, and
// then what is appended, without end. The event store's own streams are left out. It ends as Follow does.
func (l *Log) FollowRaw(ctx context.Context, after uint64) iter.Seq2[Raw, error] {
	return func(yield func(Raw, error) bool) {
		l.warnIfBeyondHead(ctx, after)
		at := after
		l.follow(ctx, subscriber{
			catchUp: func(ctx context.Context, yield func(Raw, error) bool) bool { return l.catchUpRaw(ctx, &at, yield) },
			open: func(ctx context.Context, c *esdb.Client) (*esdb.Subscription, error) {
				return c.SubscribeToAll(ctx, esdb.SubscribeToAllOptions{From: allFrom(at), MaxSearchWindow: 256,
					Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Regex: `^[^$]`}})
			},
			event: func(e *esdb.RecordedEvent) (isNew bool) {
				isNew, at = e.Position.Commit > at, max(at, e.Position.Commit)
				return isNew
			},
			checkpoint: func(commit uint64) { at = max(at, commit) },
		}, yield)
	}
}

// FollowStream delivers every event of a stream behind a revision, NoStream for its beginning, and then what is appended, without
// end. The stream need not exist. It ends with ctx, with Close, and with CodeNotFound once the stream is deleted for ever.
func (l *Log) FollowStream(ctx context.Context, stream string, after int64) iter.Seq2[Raw, error] {
	return func(yield func(Raw, error) bool) {
		at := after
		l.follow(ctx, subscriber{
			catchUp: func(context.Context, func(Raw, error) bool) bool { return true },
			open: func(ctx context.Context, c *esdb.Client) (*esdb.Subscription, error) {
				o := esdb.SubscribeToStreamOptions{From: esdb.Start{}}
				if at >= 0 {
					o.From = esdb.Revision(uint64(at))
				}
				return c.SubscribeToStream(ctx, stream, o)
			},
			event: func(e *esdb.RecordedEvent) (isNew bool) {
				revision := raw(e).Revision
				isNew, at = revision > at, max(at, revision)
				return isNew
			},
			checkpoint: func(uint64) {},
		}, yield)
	}
}

// catchUpRaw is catchUp for events of any form.
func (l *Log) catchUpRaw(ctx context.Context, at *uint64, yield func(Raw, error) bool) bool {
	read := func(ctx context.Context, after uint64, n int) (pageOf[Raw], error) {
		return allPage(ctx, l, esdb.ReadAllOptions{From: allFrom(after)}, n, after, func(e *esdb.RecordedEvent) (Raw, bool) {
			return raw(e), e.Position.Commit > after && !isSystem(e)
		})
	}
	for p, err := range pages(ctx, *at, math.MaxInt, read) {
		if err != nil {
			return true
		}
		for _, r := range p.events {
			if *at = r.Position; !yield(r, nil) {
				return false
			}
		}
		if *at = p.last; ctx.Err() != nil || l.feeds.base.Err() != nil {
			return true
		}
	}
	return true
}

// subscriber is one subscription's life over many connections: how it begins from where it is, and how an event moves it.
type subscriber struct {
	catchUp    func(ctx context.Context, yield func(Raw, error) bool) bool // false when the consumer has had enough
	open       func(context.Context, *esdb.Client) (*esdb.Subscription, error)
	event      func(*esdb.RecordedEvent) (isNew bool)
	checkpoint func(commit uint64)
}

// follow yields what a subscriber has not had yet, and subscribes again however often the connection breaks.
func (l *Log) follow(ctx context.Context, s subscriber, yield func(Raw, error) bool) {
	for failures := 0; ctx.Err() == nil && l.feeds.base.Err() == nil; failures++ {
		if !s.catchUp(ctx, yield) {
			return
		}
		came, err := l.followOnce(ctx, s, yield)
		switch {
		case err == nil || ctx.Err() != nil:
			return
		case domain.CodeOf(err) != domain.CodeUnavailable:
			yield(Raw{}, err)
			return
		}
		if came {
			failures = 0
		}
		l.logger.Info("a subscription ended and begins again", "error", err)
		l.feeds.counters.resubscribed.Add(1)
		if pause(ctx, l.feeds.pauses, failures) != nil {
			return
		}
	}
}

// followOnce gives nil when the consumer has had enough.
func (l *Log) followOnce(ctx context.Context, s subscriber, yield func(Raw, error) bool) (came bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.feeds.base, cancel)()
	held, sub, err := begin(ctx, l.feeds, s.open)
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
		switch {
		case m.CheckPointReached != nil:
			s.checkpoint(m.CheckPointReached.Commit)
		case m.EventAppeared != nil:
			came = true
			e := m.EventAppeared.OriginalEvent()
			if s.event(e) && !isSystem(e) && !yield(raw(e), nil) {
				return came, nil
			}
		}
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

// RawEvent reads the event of a stream at a revision, or its last one with End; found is false if there is none.
func (l *Log) RawEvent(ctx context.Context, stream string, revision int64) (r Raw, found bool, err error) {
	o := esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}
	if revision >= 0 {
		o.From = esdb.Revision(uint64(revision))
	}
	p, err := streamPage(ctx, l, stream, o, 1, func(e *esdb.RecordedEvent) (Raw, bool) { return raw(e), true })
	if err != nil || len(p.events) == 0 || revision >= 0 && p.events[0].Revision != revision {
		return Raw{}, false, err
	}
	return p.events[0], true, nil
}
