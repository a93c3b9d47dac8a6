// Package sagastest has what tests of sagas need: an exact log in memory with its feed, a lease, a cursor, and the replay of
// golden histories.
package sagastest

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/sagas"
)

// Log is an event log in memory, with EventStoreDB's rules for expected revisions and repeated event ids. The zero value is
// an empty log. It implements sagas.Log and sagas.Source.
type Log struct {
	mu      sync.Mutex
	all     []domain.Recorded
	streams map[string][]int // indexes in all
	grown   chan struct{}    // closed at the next append
}

// Append implements sagas.Log.
func (l *Log) Append(_ context.Context, stream string, expected int64, events []domain.Proposed) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	there := l.streams[stream]
	current := int64(len(there)) - 1
	if expected != current {
		if l.holds(there, expected, events) {
			return nil
		}
		return domain.Conflict(expected, current)
	}
	if l.streams == nil {
		l.streams = map[string][]int{}
	}
	for i, e := range events {
		r := domain.Recorded{Data: slices.Clone(e.Data)}
		if err := domain.DecodeMeta(e.Meta, &r.Meta); err != nil {
			return err
		}
		r.Stream, r.Revision, r.EventID, r.Type = stream, expected+1+int64(i), e.ID, e.Type
		r.Commit, r.Created = uint64(len(l.all)+1)*10, time.Unix(int64(len(l.all)), 0).UTC()
		l.streams[stream] = append(l.streams[stream], len(l.all))
		l.all = append(l.all, r)
	}
	if l.grown != nil {
		close(l.grown)
		l.grown = nil
	}
	return nil
}

func (l *Log) holds(there []int, expected int64, events []domain.Proposed) bool {
	if expected < domain.NoStream || expected+int64(len(events)) >= int64(len(there)) {
		return false
	}
	for i, e := range events {
		if l.all[there[expected+1+int64(i)]].EventID != e.ID {
			return false
		}
	}
	return len(events) > 0
}

// Read implements sagas.Log.
func (l *Log) Read(_ context.Context, stream string, from int64) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for _, e := range l.Stream(stream) {
			if e.Revision >= from && !yield(e, nil) {
				return
			}
		}
	}
}

// Stream gives all events of a stream.
func (l *Log) Stream(stream string) []domain.Recorded {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []domain.Recorded
	for _, n := range l.streams[stream] {
		all = append(all, l.all[n])
	}
	return all
}

// All gives every event in log order.
func (l *Log) All() []domain.Recorded {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

// Follow implements sagas.Source.
func (l *Log) Follow(ctx context.Context, after uint64) iter.Seq2[domain.Delivery, error] {
	return func(yield func(domain.Delivery, error) bool) {
		next, caughtUp := 0, false
		for ctx.Err() == nil {
			l.mu.Lock()
			page := l.all[next:]
			next = len(l.all)
			if l.grown == nil {
				l.grown = make(chan struct{})
			}
			grown := l.grown
			l.mu.Unlock()
			for _, e := range page {
				if e.Commit > after && !yield(domain.Delivery{Kind: domain.DeliveredEvent, Event: e, Commit: e.Commit}, nil) {
					return
				}
			}
			if !caughtUp && len(page) == 0 {
				caughtUp = true
				if !yield(domain.Delivery{Kind: domain.CaughtUp}, nil) {
					return
				}
			}
			if len(page) > 0 {
				continue
			}
			select {
			case <-grown:
			case <-ctx.Done():
			}
		}
	}
}

// Lease is a lease among the runners of one process. The zero value is free.
type Lease struct{ held sync.Mutex }

// Lead implements sagas.Lease.
func (l *Lease) Lead(ctx context.Context, run func(context.Context) error) error {
	for !l.held.TryLock() {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
	defer l.held.Unlock()
	return run(ctx)
}

// NoLease lets everybody lead, which must do no harm.
type NoLease struct{}

// Lead implements sagas.Lease.
func (NoLease) Lead(ctx context.Context, run func(context.Context) error) error { return run(ctx) }

// Cursors keeps a cursor in memory. The zero value has none.
type Cursors struct {
	mu    sync.Mutex
	c     sagas.Cursor
	found bool
}

// Load implements sagas.Cursors.
func (k *Cursors) Load(context.Context) (sagas.Cursor, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.c, k.found, nil
}

// Save implements sagas.Cursors.
func (k *Cursors) Save(_ context.Context, c sagas.Cursor) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.c, k.found = c, true
	return nil
}

// Lose forgets the cursor.
func (k *Cursors) Lose() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.c, k.found = sagas.Cursor{}, false
}
