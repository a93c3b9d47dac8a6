package sinks

import (
	"context"
	"sync"
	"time"
)

// downAfter is how many events must fail at their first try, without a success between them, until the receiver is held to
// be down: one event at a time is tried then. Fewer may be the events' own fault.
const downAfter = 10

// receiver is what is known of whom a sink sends to.
type receiver struct {
	mu          sync.Mutex
	failing     time.Time // the first failure since the last success
	lastSuccess time.Time
	lastFailure string
	missed      int           // events that have failed at their first try since the last success
	probes      int           // events that were tried in vain since the receiver is down
	back        chan struct{} // closed when all is tried at once
}

func newReceiver(failing *time.Time) *receiver {
	r := &receiver{back: make(chan struct{})}
	if failing != nil {
		r.failing = *failing
	}
	return r
}

// succeeded ends a run of failures.
func (f *flow) succeeded(ctx context.Context, now time.Time) {
	f.receiver.mu.Lock()
	defer f.receiver.mu.Unlock()
	f.receiver.lastSuccess = now
	f.anew(ctx, f.receiver.missed >= downAfter)
}

// resumed has everything tried, as somebody asks for it.
func (f *flow) resumed(ctx context.Context) {
	f.receiver.mu.Lock()
	defer f.receiver.mu.Unlock()
	f.anew(ctx, true)
}

// anew takes the receiver for sound; with all, what waits to be tried again is tried at once. It is called with the lock held.
func (f *flow) anew(ctx context.Context, all bool) {
	r := f.receiver
	r.failing = time.Time{}
	if all {
		f.r.Logger.InfoContext(ctx, "a sink's receiver is tried with all events again", "sink", f.Name)
		close(r.back)
		r.back = make(chan struct{})
		f.schedule.fast()
	}
	r.missed, r.probes = 0, 0
}

// failed counts a failure. since is the first one of the run, and back is closed when all is tried at once.
func (f *flow) failed(ctx context.Context, i *item, why failure, now time.Time) (since time.Time, back <-chan struct{}) {
	f.r.metrics.failed(f.Name)
	r := f.receiver
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failing.IsZero() {
		r.failing = now
	}
	r.lastFailure = why.code
	turn := i.turn
	if i.fresh {
		r.missed++
	}
	if i.fresh && r.missed == downAfter {
		f.r.Logger.WarnContext(ctx, "a sink's receiver takes nothing: one event at a time is tried", "sink", f.Name, "since", r.failing, "code", why.code)
		turn = f.schedule.slow()
	}
	if turn > 0 && r.missed >= downAfter {
		r.probes++
		f.later(ctx, wait{most: f.pauseAfter(r.probes, why.retryAfter)}, func() { f.schedule.probe(turn) })
	}
	return r.failing, r.back
}

// failingSince is the first failure since the last success, or zero.
func (f *flow) failingSince() time.Time {
	f.receiver.mu.Lock()
	defer f.receiver.mu.Unlock()
	return f.receiver.failing
}
