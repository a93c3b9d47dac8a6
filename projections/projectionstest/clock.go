package projectionstest

import (
	"sync"
	"time"
)

// Clock stands still until it is advanced.
type Clock struct {
	mu      sync.Mutex
	now     time.Time
	waiting map[chan time.Time]time.Time
}

// NewClock begins in 2026.
func NewClock() *Clock {
	return &Clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), waiting: map[chan time.Time]time.Time{}}
}

// Now is the time as it was advanced to.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// After fires once the clock has been advanced by d.
func (c *Clock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan time.Time, 1)
	c.waiting[ch] = c.now.Add(d)
	return ch
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	for ch, at := range c.waiting {
		if !at.After(c.now) {
			ch <- c.now
			delete(c.waiting, ch)
		}
	}
}

// Fast is the machine's clock, a thousand times as fast: for tests of retries over real components.
type Fast struct{ began time.Time }

// NewFast begins now.
func NewFast() Fast { return Fast{time.Now()} }

// Now is how far it has run.
func (f Fast) Now() time.Time { return f.began.Add(1000 * time.Since(f.began)) }

// After waits a thousandth of d.
func (f Fast) After(d time.Duration) <-chan time.Time { return time.After(d / 1000) }

// Real is the machine's clock; within a testing/synctest bubble the bubble's.
type Real struct{}

// Now is the time.
func (Real) Now() time.Time { return time.Now() }

// After waits for d.
func (Real) After(d time.Duration) <-chan time.Time { return time.After(d) }
