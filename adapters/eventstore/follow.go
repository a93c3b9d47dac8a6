package eventstore

import (
	"context"
	"fmt"
	"iter"
	"math"

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
		at := after
		f := follower[domain.Delivery]{
			catchUp: func(ctx context.Context, give func(domain.Delivery) bool) bool {
				return pagesUpToNow(ctx, l, l.pages(ctx, at, math.MaxInt), func(p page) bool {
					for _, e := range p.events {
						if at = e.Commit; !give(domain.Delivery{Kind: domain.DeliveredEvent, Event: e, Commit: at}) {
							return false
						}
					}
					if p.last <= at {
						return true
					}
					at = p.last
					return give(domain.Delivery{Kind: domain.Checkpoint, Commit: at})
				})
			},
			open: func(ctx context.Context, c *esdb.Client) (*esdb.Subscription, error) {
				return subscribeToAll(ctx, c, at)
			},
			take: func(m *esdb.SubscriptionEvent) (d domain.Delivery, isNew bool) {
				if m.CaughtUp != nil {
					return domain.Delivery{Kind: domain.CaughtUp, Commit: at}, true
				}
				if d = delivery(m); d.Commit <= at {
					return d, false
				}
				at = d.Commit
				return d, true
			},
		}
		f.follow(ctx, l, yield)
	}
}

// delivery is what an event or a checkpoint of a subscription is for those who follow our events.
func delivery(m *esdb.SubscriptionEvent) domain.Delivery {
	if m.EventAppeared == nil {
		return domain.Delivery{Kind: domain.Checkpoint, Commit: m.CheckPointReached.Commit}
	}
	e := m.EventAppeared.OriginalEvent()
	if isSystem(e) || domain.OfTheBus(e.StreamID) {
		return domain.Delivery{Kind: domain.Checkpoint, Commit: e.Position.Commit}
	}
	return domain.Delivery{Kind: domain.DeliveredEvent, Event: recorded(e), Commit: e.Position.Commit}
}

// Subscribe is Follow as projections call it.
func (l *Log) Subscribe(ctx context.Context, after uint64, fromStart bool) iter.Seq2[domain.Delivery, error] {
	if fromStart {
		after = 0
	}
	return l.Follow(ctx, after)
}

// FollowRaw is Follow for events of any form, the message bus's among them: every event behind a position in log order, and
// then what is appended, without end. The event store's own streams are left out. It ends as Follow does.
func (l *Log) FollowRaw(ctx context.Context, after uint64) iter.Seq2[Raw, error] {
	return func(yield func(Raw, error) bool) {
		l.warnIfBeyondHead(ctx, after)
		at := after
		read := func(ctx context.Context, after uint64, n int) (pageOf[Raw], error) {
			return allPage(ctx, l, esdb.ReadAllOptions{From: allFrom(after)}, n, after, func(e *esdb.RecordedEvent) (Raw, bool) {
				return raw(e), e.Position.Commit > after && !isSystem(e)
			})
		}
		f := follower[Raw]{
			catchUp: func(ctx context.Context, give func(Raw) bool) bool {
				return pagesUpToNow(ctx, l, pages(ctx, at, math.MaxInt, read), func(p pageOf[Raw]) bool {
					for _, r := range p.events {
						if at = r.Position; !give(r) {
							return false
						}
					}
					at = p.last
					return true
				})
			},
			open: func(ctx context.Context, c *esdb.Client) (*esdb.Subscription, error) {
				return subscribeToAll(ctx, c, at)
			},
			take: func(m *esdb.SubscriptionEvent) (r Raw, isNew bool) {
				switch {
				case m.CheckPointReached != nil:
					at = max(at, m.CheckPointReached.Commit)
				case m.EventAppeared != nil:
					e := m.EventAppeared.OriginalEvent()
					isNew, at = e.Position.Commit > at && !isSystem(e), max(at, e.Position.Commit)
					return raw(e), isNew
				}
				return r, false
			},
		}
		f.follow(ctx, l, yield)
	}
}

// FollowStream delivers every event of a stream behind a revision, NoStream for its beginning, and then what is appended, without
// end. The stream need not exist. It ends with ctx, with Close, and with CodeNotFound once the stream is deleted for ever.
func (l *Log) FollowStream(ctx context.Context, stream string, after int64) iter.Seq2[Raw, error] {
	return func(yield func(Raw, error) bool) {
		at := after
		f := follower[Raw]{
			open: func(ctx context.Context, c *esdb.Client) (*esdb.Subscription, error) {
				o := esdb.SubscribeToStreamOptions{From: esdb.Start{}}
				if at >= 0 {
					o.From = esdb.Revision(uint64(at))
				}
				return c.SubscribeToStream(ctx, stream, o)
			},
			take: func(m *esdb.SubscriptionEvent) (r Raw, isNew bool) {
				if m.EventAppeared == nil {
					return r, false
				}
				e := m.EventAppeared.OriginalEvent()
				r = raw(e)
				isNew, at = r.Revision > at && !isSystem(e), max(at, r.Revision)
				return r, isNew
			},
		}
		f.follow(ctx, l, yield)
	}
}

func subscribeToAll(ctx context.Context, c *esdb.Client, after uint64) (*esdb.Subscription, error) {
	return c.SubscribeToAll(ctx, esdb.SubscribeToAllOptions{From: allFrom(after), MaxSearchWindow: 256,
		Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Regex: `^[^$]`}})
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
