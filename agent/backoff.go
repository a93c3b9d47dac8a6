package agent

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is exponential with full jitter: the n-th delay is drawn evenly from zero to First·2ⁿ⁻¹, at most Max.
type Backoff struct {
	First, Max time.Duration
}

// Retry bounds how often the driver is called for one operation.
type Retry struct {
	Attempts int // all of them, the first one too
	Backoff
}

func (b Backoff) withDefaults(first, limit time.Duration) Backoff {
	if b.First <= 0 {
		b.First = first
	}
	if b.Max <= 0 {
		b.Max = limit
	}
	return b
}

func (b Backoff) delay(n int) time.Duration {
	bound := b.First
	for i := 1; i < n && bound < b.Max; i++ {
		bound *= 2
	}
	return rand.N(min(bound, b.Max)) + 1 //nolint:gosec // jitter is no secret
}

// pause waits, and says whether it waited to the end.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
