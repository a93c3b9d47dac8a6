package bus

import (
	"cmp"
	"context"
	"math/rand/v2"
	"time"
)

func (b Backoff) orDefault() Backoff {
	return Backoff{cmp.Or(max(b.First, 0), 100*time.Millisecond), cmp.Or(max(b.Last, 0), 30*time.Second)}
}

// before is the pause before try n, from 0.
func (b Backoff) before(n int) time.Duration {
	d := b.Last
	if n < 32 && b.First<<n > 0 {
		d = min(b.First<<n, b.Last)
	}
	return d/2 + rand.N(d/2+1)
}

// pause waits before try n and reports false if ctx has ended first.
func (b Backoff) pause(ctx context.Context, n int) bool {
	t := time.NewTimer(b.before(n))
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
