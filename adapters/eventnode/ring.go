package eventnode

import (
	"sort"
	"sync"
	"sync/atomic"
)

// ring holds the last published events, so that live subscribers share one copy of what happens instead of reading it
// from the disk each on their own. Its watermark is the end of the log for all readers: what lies above may still be lost.
type ring struct {
	watermark atomic.Uint64 // position of the last record that is on disk

	mu        sync.RWMutex
	entries   []*event      // ascending by position
	bytes     int           // of the entries' frames
	floor     uint64        // every event above this position is in entries
	changed   chan struct{} // closed when entries are added
	maxEvents int
	maxBytes  int
}

func newRing(watermark uint64, maxEvents, maxBytes int) *ring {
	r := &ring{floor: watermark, changed: make(chan struct{}), maxEvents: maxEvents, maxBytes: maxBytes}
	r.watermark.Store(watermark)
	return r
}

// publish makes everything up to the watermark visible. Only the committer calls it, after the disk has all of it.
func (r *ring) publish(events []event, watermark uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range events {
		r.entries = append(r.entries, &events[i])
		r.bytes += len(events[i].frame)
	}
	drop := 0
	for drop < len(r.entries) && (len(r.entries)-drop > r.maxEvents || r.bytes > r.maxBytes) {
		r.bytes -= len(r.entries[drop].frame)
		r.floor = r.entries[drop].position
		r.entries[drop] = nil // the rest of the array may live on for a while
		drop++
	}
	r.entries = r.entries[drop:]
	r.watermark.Store(watermark)
	close(r.changed)
	r.changed = make(chan struct{})
}

// covers says whether no event after a position is missing.
func (r *ring) covers(after uint64) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return after >= r.floor
}

// after appends to buf the events after a position, as many as its capacity holds. It reports false if some of them are
// no longer there, and returns a channel that is closed when more come.
func (r *ring) after(position uint64, buf []*event) ([]*event, <-chan struct{}, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if position < r.floor {
		return buf, nil, false
	}
	from := len(r.entries)
	if from > 0 && r.entries[from-1].position > position {
		from = sort.Search(from, func(i int) bool { return r.entries[i].position > position })
	}
	n := min(len(r.entries)-from, cap(buf)-len(buf))
	return append(buf, r.entries[from:from+n]...), r.changed, true
}

// count is how many of its events come after a position.
func (r *ring) count(position uint64) int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.entries) - sort.Search(len(r.entries), func(i int) bool { return r.entries[i].position > position })
}
