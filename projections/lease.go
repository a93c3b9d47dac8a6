package projections

import (
	"context"
	"time"
)

// acquire waits until the lease is free and takes it. A lease is free when it is nobody's, when it is our own from an
// earlier run, or when it has not been renewed while we watched it for its whole expiry: by our clock alone, so that no two
// machines need agree on the time.
func (g *Group) acquire(ctx context.Context) (Lease, error) {
	var seen Lease
	var since time.Time
	for {
		l, err := g.opts.Store.Lease(ctx, g.opts.Name)
		if err != nil {
			return Lease{}, err
		}
		now := g.opts.Clock.Now()
		if since.IsZero() || l != seen {
			seen, since = l, now
		}
		if l.Owner == "" || l.Owner == g.opts.Owner || now.Sub(since) >= g.opts.Expiry {
			return g.opts.Store.Acquire(ctx, l, g.opts.Owner)
		}
		select {
		case <-g.opts.Clock.After(g.opts.Expiry / 8):
		case <-g.freed:
		case <-ctx.Done():
			return Lease{}, ctx.Err()
		}
	}
}

// backoff waits between tries: 50 ms, doubling up to 5 s.
type backoff struct {
	clock Clock
	next  time.Duration
}

func newBackoff(c Clock) *backoff { return &backoff{c, firstWait} }

const (
	firstWait = 50 * time.Millisecond
	lastWait  = 5 * time.Second
)

func (b *backoff) reset() { b.next = firstWait }

// wait is false when ctx has ended.
func (b *backoff) wait(ctx context.Context) bool {
	d := b.next
	b.next = min(2*d, lastWait)
	select {
	case <-b.clock.After(d):
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
