package sagas

import (
	"maps"
	"sync"

	"github.com/tenure-dev/tenure/domain"
)

// maxWaiting bounds the triggers that wait for their sagas before the follower pauses.
const maxWaiting = 8192

// tracker knows up to where every trigger has been reacted to, though sagas finish in any order.
type tracker struct {
	mu      sync.Mutex
	room    sync.Cond
	waiting int // jobs
	closed  bool

	open  []place // in log order; the first is never finished
	done  uint64  // everything up to here is finished
	seen  uint64
	saved uint64

	enabled  map[string]int // at done
	enabling []enabling     // behind done
	dirty    chan struct{}
}

type place struct {
	commit uint64
	claims int
}

type enabling struct {
	commit  uint64
	name    string
	version int
}

func newTracker(done, seen uint64, enabled map[string]int) *tracker {
	t := &tracker{done: done, seen: max(seen, done), saved: done, enabled: maps.Clone(enabled), dirty: make(chan struct{}, 1)}
	t.room.L = &t.mu
	return t
}

func (t *tracker) from() uint64 { return t.done }

// claim holds the cursor before a position, the last one claimed or a later one, until it is released.
func (t *tracker) claim(commit uint64) (release func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.open); n > 0 && t.open[n-1].commit == commit {
		t.open[n-1].claims++
	} else {
		t.open = append(t.open, place{commit, 1})
	}
	t.seen = max(t.seen, commit)
	return func() { t.release(commit) }
}

// claimJob is claim for what a worker will finish; it waits while too many are unfinished.
func (t *tracker) claimJob(commit uint64) (release func()) {
	t.mu.Lock()
	for t.waiting >= maxWaiting && !t.closed {
		t.room.Wait()
	}
	t.waiting++
	t.mu.Unlock()
	done := t.claim(commit)
	return func() {
		done()
		t.mu.Lock()
		t.waiting--
		t.room.Signal()
		t.mu.Unlock()
	}
}

// pass marks a position that needs nothing.
func (t *tracker) pass(commit uint64) { t.claim(commit)() }

func (t *tracker) release(commit uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := len(t.open) - 1; n >= 0; n-- {
		if t.open[n].commit == commit {
			t.open[n].claims--
			break
		}
	}
	finished := 0
	for finished < len(t.open) && t.open[finished].claims == 0 {
		t.done = t.open[finished].commit
		finished++
	}
	if finished == 0 {
		return
	}
	t.open = t.open[finished:]
	for len(t.enabling) > 0 && t.enabling[0].commit <= t.done {
		t.enabled[t.enabling[0].name] = t.enabling[0].version
		t.enabling = t.enabling[1:]
	}
	select {
	case t.dirty <- struct{}{}:
	default:
	}
}

// enable notes a definition switched on at a position.
func (t *tracker) enable(commit uint64, name string, version int) {
	t.mu.Lock()
	t.enabling = append(t.enabling, enabling{commit, name, version})
	t.mu.Unlock()
	t.pass(commit)
}

// cursor gives the cursor as it stands, and whether it differs from the last one given.
func (t *tracker) cursor(epoch domain.Epoch) (c Cursor, changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed = t.done != t.saved
	t.saved = t.done
	return Cursor{epoch, t.done, t.seen, maps.Clone(t.enabled)}, changed
}

func (t *tracker) unsaved() {
	t.mu.Lock()
	t.saved = 0
	t.mu.Unlock()
}

func (t *tracker) close() {
	t.mu.Lock()
	t.closed = true
	t.room.Broadcast()
	t.mu.Unlock()
}
