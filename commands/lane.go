package commands

import (
	"context"
	"reflect"
	"slices"
	"sync/atomic"

	"github.com/tenure-dev/tenure/domain"
)

// lane is the queue in front of one stream. It exists while something waits or is worked on, and one goroutine works on it.
type lane struct {
	stream    string
	aggregate *aggregate
	waiting   []*op
}

// op is one call in a lane: a command to decide, or a peek at the state.
type op struct {
	call      Call
	kind      *command
	command   reflect.Value // pointer to the Bus's own copy
	aggregate *aggregate
	stream    string
	target    string // the aggregate's id
	id        string // the command's
	hash      string // of the caller's input; empty for a saga's and the system's
	read      map[string]int64
	creates   bool // the target's id is derived from this very call, so its stream is most likely empty
	peek      bool

	gone  <-chan struct{} // closed when the caller waits no longer
	stage atomic.Int32
	done  chan struct{} // closed when out and err stand
	verdict
}

// verdict is what the lane has found for an op so far.
type verdict struct {
	out       Outcome
	err       error
	memo      *memo   // the command is remembered
	recorded  []Event // found in the log behind an append that held them
	state     any     // right behind recorded
	uncertain bool    // an append that held its events ended without an answer
}

const (
	queued int32 = iota
	begun
	abandoned
)

// queue puts an op into its stream's lane and waits until it is answered or ctx ends. An error means that o is not answered.
func (b *Bus) queue(ctx context.Context, o *op) error {
	o.gone, o.done = ctx.Done(), make(chan struct{})
	if err := b.enter(o); err != nil {
		return err
	}
	select {
	case <-o.done:
		return nil
	case <-ctx.Done():
	}
	if o.stage.CompareAndSwap(queued, abandoned) {
		return domain.Unavailable("the call ended before the command was begun", ctx.Err())
	}
	select {
	case <-o.done:
		return nil
	default:
		return domain.Unavailable("the call ended before the command was answered", ctx.Err())
	}
}

func (b *Bus) enter(o *op) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return stopping()
	}
	l := b.lanes[o.stream]
	if l == nil {
		l = &lane{stream: o.stream, aggregate: o.aggregate}
		b.lanes[o.stream] = l
		b.running.Add(1)
		go b.work(l)
	}
	if len(l.waiting) >= b.QueueLength {
		return domain.Unavailable("too many commands wait for the same object", nil)
	}
	l.waiting = append(l.waiting, o)
	return nil
}

// work serves a lane's calls, many at a time, until none waits.
func (b *Bus) work(l *lane) {
	defer b.running.Done()
	for {
		batch, more := b.next(l)
		if !more {
			return
		}
		t := &turn{Bus: b, lane: l, fold: b.cache.take(l.stream), pending: batch}
		t.serve()
		if t.fold != nil {
			b.cache.put(l.stream, t.fold)
		}
	}
}

// next takes the calls of one turn, leaving out those given up while they waited, and all of them once the Bus is closed. Without any waiting it ends the lane.
func (b *Bus) next(l *lane) (batch []*op, more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(l.waiting) == 0 {
		delete(b.lanes, l.stream)
		return nil, false
	}
	n := min(len(l.waiting), maxBatch)
	for _, o := range l.waiting[:n] {
		switch {
		case !o.stage.CompareAndSwap(queued, begun):
		case b.closed:
			o.fail(stopping())
		default:
			batch = append(batch, o)
		}
	}
	l.waiting = slices.Delete(l.waiting, 0, n)
	return batch, true
}

func stopping() error { return domain.Unavailable("the control plane is stopping", nil) }
