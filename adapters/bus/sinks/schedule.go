package sinks

import (
	"sync"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/sink"
)

// item is one event that is to be delivered.
type item struct {
	event    domain.Recorded
	before   sink.Place  // the last event read before it
	again    *redelivery // nil for what was read from the log in its order
	attempts int
	era      int       // the schedule's when it was last tried
	fresh    bool      // it was not tried in this era before
	turn     int       // the schedule's in which it is tried alone, as the receiver is down; else 0
	first    time.Time // of the first attempt
	resolved bool
	aside    bool // of a held stream: the window takes it for resolved
}

// lane holds a stream's unresolved items, oldest first. Only the first of them is under way.
type lane struct{ items []*item }

// schedule says what is delivered next: strictly in order within a stream, streams side by side. It knows how far the log
// has been read and up to where everything is resolved.
type schedule struct {
	mu     sync.Mutex
	change sync.Cond
	lanes  map[string]*lane
	ready  []*lane // have something to do now

	size   int     // of the window
	window []*item // unresolved and read from the log, in its order; the first is never resolved
	seen   sink.Place
	read   time.Time // recordedAt of the last event read
	dirty  bool      // the cursor moved past an event that is not quiet
	fresh  int       // events passed since the cursor was last taken
	moved  chan struct{}
	many   chan struct{}

	held  map[string]*held
	stuck map[*lane]struct{} // whose first item has failed
	aside int                // unresolved items that the window does not hold

	resolved uint64 // items of the log
	busy     int
	gate     bool // deliveries may begin
	down     bool // the receiver takes nothing: one item at a time is tried
	probing  bool // that one is under way, or it is too early for the next
	turn     int  // counts them
	era      int  // begins, from 1, whenever the receiver is back
	closed   bool
}

// manyEvents passed wake a write of the cursor before its time.
const manyEvents = 1000

func newSchedule(size int, seen sink.Place) *schedule {
	s := &schedule{lanes: map[string]*lane{}, held: map[string]*held{}, stuck: map[*lane]struct{}{}, size: size, seen: seen, era: 1, moved: make(chan struct{}, 1), many: make(chan struct{}, 1)}
	s.change.L = &s.mu
	return s
}

// pass goes by an event that is none of the sink's.
func (s *schedule) pass(e *domain.Recorded) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saw(e)
	if len(s.window) == 0 && !quiet(e.Stream) {
		s.step(1)
	}
}

// saw notes the last event read. A cursor never names an event of a cursor: those do not last.
func (s *schedule) saw(e *domain.Recorded) {
	s.read = e.RecordedAt
	if category, _ := domain.SplitStream(e.Stream); category != sink.CursorCategory {
		s.seen = sink.Place{Stream: e.Stream, Revision: e.Revision}
	}
}

// add takes an event of the log; it waits while the window is full, and is false once the schedule is closed.
func (s *schedule) add(e domain.Recorded) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.held[e.Stream] == nil && len(s.window) >= s.size && !s.closed {
		if !s.hold() {
			s.change.Wait()
		}
	}
	if s.closed {
		return false
	}
	if h := s.held[e.Stream]; h != nil {
		h.until = e.Commit
		s.saw(&e)
		if len(s.window) == 0 {
			s.step(1)
		}
		if s.lanes[e.Stream] == nil {
			s.change.Broadcast() // it is read again at once
		}
		return true
	}
	i := &item{event: e, before: s.seen}
	s.saw(&e)
	s.window = append(s.window, i)
	s.push(i)
	return true
}

// addAgain takes an event of a redelivery.
func (s *schedule) addAgain(i *item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.push(i)
}

func (s *schedule) push(i *item) {
	l := s.lanes[i.event.Stream]
	if l == nil {
		l = &lane{}
		s.lanes[i.event.Stream] = l
	}
	l.items = append(l.items, i)
	if len(l.items) == 1 {
		s.ready = append(s.ready, l)
		s.change.Broadcast()
	}
}

// next waits for a lane whose first item may be delivered; both are nil once the schedule is closed.
func (s *schedule) next() (*lane, *item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for (len(s.ready) == 0 || !s.gate || s.down && s.probing) && !s.closed {
		s.change.Wait()
	}
	if s.closed {
		return nil, nil
	}
	l := s.ready[0]
	s.ready[0] = nil
	s.ready = s.ready[1:]
	s.busy++
	i := l.items[0]
	i.fresh, i.era, i.turn = i.era != s.era, s.era, 0
	if s.down {
		s.probing = true
		s.turn++
		i.turn = s.turn
	}
	return l, i
}

// rest ends what a worker did with a lane without an outcome; wake puts it in line again.
func (s *schedule) rest(l *lane) {
	s.mu.Lock()
	s.busy--
	s.stuck[l] = struct{}{}
	s.mu.Unlock()
	s.change.Broadcast() // it may be held now
}

func (s *schedule) wake(l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = append(s.ready, l)
	s.change.Broadcast()
}

// done resolves a lane's first item, and lets the next one follow.
func (s *schedule) done(l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy--
	delete(s.stuck, l)
	i := l.items[0]
	l.items[0] = nil
	l.items = l.items[1:]
	if len(l.items) > 0 {
		s.ready = append(s.ready, l)
	} else {
		delete(s.lanes, i.event.Stream)
	}
	switch {
	case i.aside:
		s.aside--
		s.resolved++
		s.step(1)
		s.letGo(i.event.Stream)
	case i.again == nil:
		i.resolved = true
		s.resolved++
		s.trim()
	}
	s.change.Broadcast()
}

func (s *schedule) trim() {
	n := 0
	for n < len(s.window) && s.window[n].resolved {
		s.window[n] = nil
		n++
	}
	if n > 0 {
		s.window = s.window[n:]
		s.step(n)
	}
}

// step counts events that the cursor has passed.
func (s *schedule) step(n int) {
	s.dirty = true
	if s.fresh += n; s.fresh >= manyEvents {
		signal(s.many)
	}
	signal(s.moved)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// cursor gives the last event before which nothing is unresolved but in held streams, where those stand, and whether any of it
// moved since it was last taken.
func (s *schedule) cursor() (at sink.Place, apart []sink.Place, moved bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, apart, moved = s.seen, s.places(), s.dirty
	if len(s.window) > 0 {
		at = s.window[0].before
	}
	s.dirty, s.fresh = false, 0
	select {
	case <-s.many:
	default:
	}
	return at, apart, moved
}

// unsaved takes back that the cursor was taken.
func (s *schedule) unsaved() {
	s.mu.Lock()
	s.dirty = true
	s.mu.Unlock()
	signal(s.moved)
}

func (s *schedule) open(gate bool) {
	s.mu.Lock()
	s.gate = gate
	s.mu.Unlock()
	s.change.Broadcast()
}

// slow lets one item at a time be tried; probe ends a turn and lets the next begin; fast ends it all.
func (s *schedule) slow() (turn int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn++
	s.down, s.probing = true, true
	return s.turn
}

func (s *schedule) probe(turn int) {
	s.mu.Lock()
	s.probing = s.probing && s.turn != turn
	s.mu.Unlock()
	s.change.Broadcast()
}

func (s *schedule) fast() {
	s.mu.Lock()
	s.down = false
	s.era++
	s.mu.Unlock()
	s.change.Broadcast()
}

func (s *schedule) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.change.Broadcast()
}

// progress is what Status tells of a schedule.
type progress struct {
	waiting, busy int
	held          int // streams
	resolved      uint64
	oldest        *item
	read          time.Time
}

func (s *schedule) progress() progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := progress{busy: s.busy, resolved: s.resolved, read: s.read, waiting: s.aside, held: len(s.held)}
	for _, i := range s.window {
		if !i.resolved {
			p.waiting++
		}
	}
	if len(s.window) > 0 {
		p.oldest = s.window[0]
	}
	for stream := range s.held {
		if l := s.lanes[stream]; l != nil && l.items[0].aside && (p.oldest == nil || l.items[0].event.Commit < p.oldest.event.Commit) {
			p.oldest = l.items[0]
		}
	}
	return p
}
