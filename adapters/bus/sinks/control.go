package sinks

import (
	"context"
	"sync"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/sink"
)

var sinkEvents = domain.NewRegistry(sink.Events)

// control is what has been decided about a sink, as far as it is known here.
type control struct {
	mu       sync.Mutex
	state    sink.State
	revision int64
	held     bool  // deliveries stop though the log does not say so yet
	until    int64 // the revision from which on the log's word counts again
	changed  chan struct{}
}

func newControl() *control { return &control{revision: domain.NoStream, changed: make(chan struct{})} }

// learn folds an event of the sink's stream that is new; resumed tells that deliveries may go on.
func (c *control) learn(e domain.Recorded) (resumed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.Revision <= c.revision {
		return false, nil
	}
	m, err := sinkEvents.DecodeRecorded(e)
	if err != nil {
		return false, err
	}
	c.state, c.revision = sink.Lifecycle.Evolve(c.state, m.(sink.Event)), e.Revision
	if c.held && c.until >= 0 && c.revision >= c.until {
		c.held = false
	}
	close(c.changed)
	c.changed = make(chan struct{})
	_, resumed = m.(sink.Resumed)
	return resumed, nil
}

// hold stops deliveries at once; release lets the log's word count from a revision on.
func (c *control) hold() {
	c.mu.Lock()
	c.held, c.until = true, -1
	c.mu.Unlock()
}

func (c *control) release(revision int64) {
	c.mu.Lock()
	c.until = revision
	c.held = c.held && c.revision < revision
	c.mu.Unlock()
}

// now gives the state, whether deliveries may begin, and what is closed at the next change.
func (c *control) now() (s sink.State, open bool, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state, !c.held && sink.Lifecycle.Phase(c.state) == sink.Active, c.changed
}

// heed sets the gate by what has been decided.
func (f *flow) heed() {
	_, open, _ := f.control.now()
	f.schedule.open(open)
}

// learn takes an event of the sink's own stream.
func (f *flow) learn(ctx context.Context, e domain.Recorded) error {
	resumed, err := f.control.learn(e)
	if err != nil {
		return err
	}
	if resumed {
		f.resumed(ctx)
	}
	f.heed()
	return nil
}

// steer follows the streams of all sinks.
func (t *term) steer(ctx context.Context, after uint64) error {
	return t.follow(ctx, after, func(e domain.Recorded) error {
		category, name := domain.SplitStream(e.Stream)
		if f := t.flows[name]; category == sink.Category && f != nil {
			return f.learn(ctx, e)
		}
		return nil
	})
}

// count notes an event that the sink has before it.
func (f *flow) count(e *domain.Recorded) {
	if f.counted.Add(1) == 1 {
		at := e.RecordedAt
		f.firstCounted.Store(&at)
	}
}

// count reads ahead of the sinks and counts what each of them has before it: one pass over the log for all of them.
func (t *term) count(ctx context.Context) error {
	first := t.head
	for _, f := range t.flows {
		first = min(first, f.start)
	}
	return t.follow(ctx, first, func(e domain.Recorded) error {
		for _, f := range t.flows {
			if e.Commit > f.start && f.filter.wants(&e) {
				f.count(&e)
			}
		}
		return nil
	})
}

// follow gives every event behind a position to f, however often the feed breaks, until ctx ends or f fails.
func (r *Runner) follow(ctx context.Context, after uint64, f func(domain.Recorded) error) error {
	for n := 0; ctx.Err() == nil; n++ {
		for d, err := range r.Log.Follow(ctx, after) {
			if err != nil {
				if ctx.Err() == nil {
					r.Logger.WarnContext(ctx, "the sinks' feed broke and is followed again", "error", err)
				}
				break
			}
			if d.Kind != domain.DeliveredEvent {
				continue
			}
			if err := f(d.Event); err != nil {
				return err
			}
			after, n = d.Commit, 0
		}
		if !r.sleep(ctx, pause(n)) {
			break
		}
	}
	return nil
}
