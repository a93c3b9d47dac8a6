package broker

import (
	"context"
	"math/rand/v2"
	"time"
)

// Reconnecting is tried for ever, at these distances.
const (
	backoffFirst = 50 * time.Millisecond
	backoffMost  = 5 * time.Second
)

// backoff is how long to wait after so many failures in a row, the first counting 1: doubled each time, the upper half drawn.
func backoff(failures int) time.Duration {
	most := backoffMost
	if n := max(failures-1, 0); n < 7 {
		most = min(backoffFirst<<n, backoffMost)
	}
	return most/2 + rand.N(most/2)
}

// pause waits, and tells whether ctx let it.
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
