package projections

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/tenure-dev/tenure/domain"
)

// Topic is a row to watch, or with a key that ends in a slash every row below a stream.
type Topic struct{ Projection, Key string }

// Change is a row as of after one event that touched it.
type Change struct {
	Topic           // of the row: never with a slash at its end
	Row      any    // of the projection's Row type; the row as it last was, or nil, when Gone
	Gone     bool   // the event removed it
	Commit   uint64 // of the event
	Revision int64  // of the event
	Event    string // its wire name
	Last     bool   // no other watched row was touched by the same event after this one
}

// Watcher gives the changes of its topics in log order, none left out, each after the transaction that holds it.
//
// To show the current row first: Watch, then read the row in one read transaction, then take Changes after that
// transaction's position. Watch returns only when the checkpoint has reached every event whose changes might have been
// missed, so such a transaction has all of them; later ones all come.
type Watcher struct {
	hub    *hub
	topics []Topic
	after  int64

	mu     sync.Mutex
	queue  []Change
	failed error
	wake   chan struct{}
}

// Changes ends with ctx, or with an error: CodeUnavailable when the consumer was too slow, the row was parked or the group
// moved to another process. The consumer then begins again from the current row. It may be called once. A reader that found
// no event yet gives 0: the log's first event, at 0, is of no watched stream.
func (w *Watcher) Changes(ctx context.Context, after uint64) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		defer w.Close()
		for {
			w.mu.Lock()
			queue, err := w.queue, w.failed
			w.queue = nil
			w.mu.Unlock()
			for _, c := range queue {
				if c.Commit > after && !yield(c, nil) {
					return
				}
			}
			if err != nil {
				yield(Change{}, err)
				return
			}
			select {
			case <-w.wake:
			case <-ctx.Done():
				return
			}
		}
	}
}

// Close ends the watch. Changes does it too.
func (w *Watcher) Close() { w.hub.remove(w) }

func (w *Watcher) push(all []Change, bound int) (kept bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue)+len(all) > bound {
		w.failed = domain.Unavailable("the watcher was too slow and has been cut off", nil)
	} else {
		w.queue = append(w.queue, all...)
	}
	w.signal()
	return w.failed == nil
}

func (w *Watcher) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = err
	}
	w.signal()
}

func (w *Watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Watch begins to watch rows. It is CodeUnavailable in a process that does not own the group.
func (g *Group) Watch(ctx context.Context, topics ...Topic) (*Watcher, error) {
	w := g.hub.add(topics)
	if w == nil {
		return nil, domain.Unavailable("the read side is kept by another process, or is starting", nil)
	}
	if err := g.progress.wait(ctx, w.after, nil); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// hub knows the watchers and collects for them what a batch changes.
type hub struct {
	bound int

	mu       sync.Mutex
	live     bool // this process folds
	watchers map[Topic]map[*Watcher]bool
	at       int64 // the position that every change up to has been published
	folding  int64 // the position that the batch being folded leads to; its changes may not have been collected for a new watcher
}

func newHub(bound int) *hub {
	return &hub{bound: bound, watchers: map[Topic]map[*Watcher]bool{}, at: Nowhere, folding: Nowhere}
}

func (h *hub) add(topics []Topic) *Watcher {
	w := &Watcher{hub: h, topics: topics, wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.live {
		return nil
	}
	for _, t := range topics {
		if h.watchers[t] == nil {
			h.watchers[t] = map[*Watcher]bool{}
		}
		h.watchers[t][w] = true
	}
	w.after = max(h.at, h.folding)
	return w
}

func (h *hub) remove(w *Watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forget(w)
}

func (h *hub) forget(w *Watcher) {
	for _, t := range w.topics {
		delete(h.watchers[t], w)
		if len(h.watchers[t]) == 0 {
			delete(h.watchers, t)
		}
	}
}

// begin says that a batch that leads to a position is about to be folded, and gives what collects its changes: nil if
// nobody watches.
func (h *hub) begin(to int64) *collector {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.folding = to
	if len(h.watchers) == 0 {
		return nil
	}
	c := &collector{wanted: make(map[Topic]bool, len(h.watchers))}
	for t := range h.watchers {
		c.wanted[t] = true
	}
	return c
}

// publish hands a committed batch's changes to the watchers.
func (h *hub) publish(c *collector, to int64, parked []Parked) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = max(h.at, to)
	if c != nil {
		h.hand(c.inOrder(parked))
	}
	for _, p := range parked {
		for t, all := range h.watchers {
			if t.Projection != p.Projection || !below(p.Key, strings.TrimSuffix(t.Key, "/")) && !below(strings.TrimSuffix(t.Key, "/"), p.Key) {
				continue
			}
			for w := range all {
				w.fail(domain.Unavailable("the row is parked until it is healed", nil))
				h.forget(w)
			}
		}
	}
}

func (h *hub) hand(changes []Change) {
	batches := map[*Watcher][]Change{}
	for _, c := range changes {
		for _, t := range c.topics() {
			for w := range h.watchers[t] {
				mine := batches[w]
				if n := len(mine); n > 0 && mine[n-1].Commit == c.Commit {
					mine[n-1].Last = false
				}
				c.Last = true
				batches[w] = append(mine, c)
			}
		}
	}
	for w, mine := range batches {
		if !w.push(mine, h.bound) {
			h.forget(w)
		}
	}
}

// open begins with the store at a position: this process folds what follows.
func (h *hub) open(at int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.live, h.at, h.folding = true, at, at
}

// close ends every watch: the changes that follow may be folded elsewhere.
func (h *hub) close(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, all := range h.watchers {
		for w := range all {
			w.fail(err)
		}
	}
	clear(h.watchers)
	h.live = false
}

// topics are the row's own and that of all rows below its stream.
func (c Change) topics() []Topic {
	if i := strings.IndexByte(c.Key, '/'); i >= 0 {
		return []Topic{c.Topic, {c.Projection, c.Key[:i+1]}}
	}
	return []Topic{c.Topic}
}

// collector gathers the changes of one batch, table by table.
type collector struct {
	wanted  map[Topic]bool
	changes []Change
}

func (c *collector) saw(t *Table, own, key string, before, row unsafe.Pointer, m *domain.Meta) {
	topic := Topic{t.Name, key}
	if !c.wanted[topic] && !c.wanted[Topic{t.Name, own + "/"}] {
		return
	}
	change := Change{Topic: topic, Gone: row == nil, Commit: m.Commit, Revision: m.Revision, Event: m.Type}
	if row == nil {
		row = before
	}
	change.Row = t.box(row)
	if n := len(c.changes); n > 0 && c.changes[n-1].Commit == m.Commit && c.changes[n-1].Topic == topic {
		c.changes[n-1] = change // several handlers of one event are one change
		return
	}
	c.changes = append(c.changes, change)
}

// inOrder gives the changes in log order, without those that were parked before they reached the store.
func (c *collector) inOrder(parked []Parked) []Change {
	slices.SortStableFunc(c.changes, func(a, b Change) int { return cmp.Compare(a.Commit, b.Commit) })
	kept := c.changes[:0]
	for _, change := range c.changes {
		lost := false
		for _, p := range parked {
			lost = lost || p.Projection == change.Projection && below(p.Key, change.Key) && change.Commit >= p.Commit
		}
		if !lost {
			kept = append(kept, change)
		}
	}
	return kept
}
