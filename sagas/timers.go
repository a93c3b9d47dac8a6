package sagas

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
)

// timers calls functions at their times, one goroutine for all. They are a cache of what the facts say is due.
type timers struct {
	ctx   context.Context
	clock Clock
	mu    sync.Mutex
	heap  timerHeap
	wake  chan struct{}
}

// timer is one call to come.
type timer struct {
	at    time.Time
	call  func()
	index int // in the heap; -1 outside
}

func newTimers(ctx context.Context, c Clock) *timers {
	return &timers{ctx: ctx, clock: c, wake: make(chan struct{}, 1)}
}

// set calls a timer's function at a time, instead of when it was set before.
func (t *timers) set(one *timer, at time.Time) {
	t.mu.Lock()
	one.at = at
	if one.index >= 0 {
		heap.Fix(&t.heap, one.index)
	} else {
		heap.Push(&t.heap, one)
	}
	first := one.index == 0
	t.mu.Unlock()
	if first {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// clear unsets a timer.
func (t *timers) clear(one *timer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if one.index >= 0 {
		heap.Remove(&t.heap, one.index)
	}
}

// run calls what is due until the context ends.
func (t *timers) run() {
	for {
		now := t.clock.Now()
		var due []*timer
		var next <-chan time.Time
		t.mu.Lock()
		for len(t.heap) > 0 && !t.heap[0].at.After(now) {
			due = append(due, heap.Pop(&t.heap).(*timer))
		}
		if len(due) == 0 && len(t.heap) > 0 {
			next = t.clock.After(t.heap[0].at.Sub(now))
		}
		t.mu.Unlock()
		for _, d := range due {
			d.call()
		}
		if len(due) > 0 {
			continue
		}
		select {
		case <-next:
		case <-t.wake:
		case <-t.ctx.Done():
			return
		}
	}
}

type timerHeap []*timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *timerHeap) Push(x any) {
	one := x.(*timer)
	one.index = len(*h)
	*h = append(*h, one)
}
func (h *timerHeap) Pop() any {
	last := len(*h) - 1
	one := (*h)[last]
	one.index = -1
	*h = (*h)[:last]
	return one
}

// maxAsking is the longest pause between two times that an unanswered ask is sent again; pauses grow with its age.
const maxAsking = 12 * time.Hour

// watch sets the saga's timer to the first moment at which something may be due.
func (t *term) watch(i *instance) {
	if !t.maySend() {
		return // the head wakes everybody
	}
	now := t.Clock.Now()
	var at time.Time
	first := func(c time.Time) {
		if !c.IsZero() && (at.IsZero() || c.Before(at)) {
			at = c
		}
	}
	if i.state.Due != nil && i.state.Attention == nil {
		first(i.state.Due.At)
	}
	if ask := i.state.Pending; ask != nil {
		within := time.Duration(ask.WithinMs) * time.Millisecond
		if i.state.Late && i.resend.IsZero() {
			i.resend = now.Add(max(within, time.Second, min(now.Sub(i.asked)/2, maxAsking)))
		}
		first(i.resend)
		if within > 0 && !i.state.Late {
			if deadline, runs := t.deadline(i, ask, within); runs {
				first(deadline)
			} else {
				first(now.Add(within)) // look again: the time cannot have run out before
			}
		}
	}
	if at.IsZero() {
		t.timers.clear(i.timer)
		return
	}
	t.timers.set(i.timer, at)
}

// deadline is when the silence after an ask has lasted too long: only time counts in which the runner was at the head and,
// for an operation, the plane's agent could speak. It runs anew after every outage, for agents report first.
func (t *term) deadline(i *instance, ask *saga.Asked, within time.Duration) (at time.Time, runs bool) {
	head := t.headSince.Load()
	if head == nil {
		return at, false
	}
	since := i.asked
	if head.After(since) {
		since = *head
	}
	if ask.Plane != "" && t.Planes != nil {
		online, ok := t.Planes.Resynced(ask.Plane)
		if !ok {
			return at, false
		}
		if online.After(since) {
			since = online
		}
	}
	return domain.Micro(since.Add(within)), true
}

// dueNow gives the trigger for what the saga's timer was set for.
func (t *term) dueNow(i *instance) any {
	now := domain.Micro(t.Clock.Now()) // as React sees it
	if due := i.state.Due; due != nil && i.state.Attention == nil && !now.Before(due.At) {
		return Due{}
	}
	if ask := i.state.Pending; ask != nil && ask.WithinMs > 0 && !i.state.Late {
		if at, runs := t.deadline(i, ask, time.Duration(ask.WithinMs)*time.Millisecond); runs && !now.Before(at) {
			return Silence{ask.CommandID}
		}
	}
	return Wake{}
}
