package bus

import (
	"context"
	"sync"
)

// place is an event's place in the log: by its stream and revision, which hold in every copy of the log, and by its position.
type place struct {
	stream   string
	revision int64
	id       string
	position uint64
}

func placeOf(e Event) place { return place{e.Stream, e.Revision, e.ID, e.Position} }

// ahead is how many times as many events may be done behind an unanswered one as may be unanswered.
const ahead = 64

// window is what a subscription has read and not yet passed. Each stream has a lane in which one event after the other is
// delivered; lanes go side by side. A place is passed when it and all before it are done.
type window struct {
	deliver func(Event) bool // until it is done; false when it was given up
	room    chan struct{}    // one for each event that is not done
	length  chan struct{}    // one for each event that is not passed
	moved   chan struct{}    // holds one when passed has moved

	mu      sync.Mutex
	order   []*passage // in log order
	lanes   map[string][]*passage
	passed  place
	done    int // events passed since the last call of progress
	skipped int // and events that were not for us
	running sync.WaitGroup
}

// passage is an event on its way through the window.
type passage struct {
	event   Event // dropped when done
	place   place
	done    bool
	skipped bool // it is not for us
}

func newWindow(limit int, deliver func(Event) bool) *window {
	return &window{deliver: deliver, room: make(chan struct{}, limit), length: make(chan struct{}, limit*ahead),
		moved: make(chan struct{}, 1), lanes: map[string][]*passage{}}
}

// add puts the next event of the log into its lane, and waits for room. It reports false when ctx has ended first.
func (w *window) add(ctx context.Context, e Event) bool {
	for _, limit := range []chan struct{}{w.length, w.room} {
		select {
		case limit <- struct{}{}:
		case <-ctx.Done():
			return false
		}
	}
	p := &passage{event: e, place: placeOf(e)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.order = append(w.order, p)
	lane, busy := w.lanes[e.Stream]
	w.lanes[e.Stream] = append(lane, p)
	if !busy {
		w.running.Go(func() { w.run(e.Stream) })
	}
	return true
}

// skip passes an event that is not for us.
func (w *window) skip(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.skipped++
	if n := len(w.order); n > 0 && w.order[n-1].skipped {
		w.order[n-1].place = placeOf(e)
	} else {
		w.order = append(w.order, &passage{place: placeOf(e), done: true, skipped: true})
	}
	w.pass()
}

// run delivers a lane's events until there are none, or one was given up.
func (w *window) run(stream string) {
	for p := w.first(stream); p != nil && w.deliver(p.event); p = w.next(stream) {
		continue
	}
}

func (w *window) first(stream string) *passage {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lanes[stream][0]
}

// next ends a lane's first event and gives the one behind it, nil for none.
func (w *window) next(stream string) *passage {
	w.mu.Lock()
	defer w.mu.Unlock()
	lane := w.lanes[stream]
	lane[0].done, lane[0].event = true, Event{}
	<-w.room
	w.pass()
	if len(lane) == 1 {
		delete(w.lanes, stream)
		return nil
	}
	w.lanes[stream] = lane[1:]
	return lane[1]
}

// pass moves over what is done. The caller holds mu.
func (w *window) pass() {
	n := 0
	for n < len(w.order) && w.order[n].done {
		p := w.order[n]
		w.passed = p.place
		if !p.skipped {
			w.done++
			<-w.length
		}
		w.order[n] = nil
		n++
	}
	if w.order = w.order[n:]; len(w.order) == 0 {
		w.order = nil
	}
	if n > 0 {
		select {
		case w.moved <- struct{}{}:
		default:
		}
	}
}

// unsaved counts what has been passed since the last call of progress.
func (w *window) unsaved() (done, skipped int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done, w.skipped
}

// progress gives the last place that has been passed, and whether anything has been since the last call.
func (w *window) progress() (at place, moved bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	moved = w.done+w.skipped > 0
	w.done, w.skipped = 0, 0
	return w.passed, moved
}

// unsave takes back a call of progress, whose place could not be saved.
func (w *window) unsave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done++
}
