package projectionstest

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/tenure-dev/tenure/domain"
)

// Log is a log in memory: a projections.Source and projections.Streams.
type Log struct {
	Registry *domain.Registry
	Epoch    domain.Epoch

	mu     sync.Mutex
	events []domain.Recorded
	last   map[string]int64
	grown  chan struct{}
	broken error
}

// NewLog begins an empty log over the events of a registry.
func NewLog(r *domain.Registry) *Log {
	return &Log{Registry: r, Epoch: domain.Epoch{Number: 1, ID: "test"}, last: map[string]int64{}, grown: make(chan struct{})}
}

// Append adds one event and gives its commit position. Positions rise with gaps, as an event store's do.
func (l *Log) Append(stream string, event any) uint64 {
	name, rev, data, err := l.Registry.Encode(event)
	if err != nil {
		panic(err)
	}
	return l.AppendRaw(stream, name, rev, data)
}

// AppendRaw adds an event as it would be on the wire, whatever it says.
func (l *Log) AppendRaw(stream, name string, rev int, data []byte) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	revision, known := l.last[stream]
	if known {
		revision++
	}
	l.last[stream] = revision
	n := len(l.events)
	at := time.Date(2026, 1, 2, 3, 4, 5, n*1000, time.UTC)
	l.events = append(l.events, domain.Recorded{Data: data, Meta: domain.Meta{Stream: stream, Revision: revision, Commit: uint64(n) * 117,
		EventID: domain.EventID("test", stream, n), Type: name, Rev: rev, Created: at, RecordedAt: at, Epoch: l.Epoch}})
	close(l.grown)
	l.grown = make(chan struct{})
	return uint64(n) * 117
}

// Head is the position of the last event.
func (l *Log) Head() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(max(len(l.events)-1, 0)) * 117
}

// Events gives all of them.
func (l *Log) Events() []domain.Recorded {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.events
}

// Break ends every subscription with an error, now and later, until it is broken with nil.
func (l *Log) Break(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = err
	close(l.grown)
	l.grown = make(chan struct{})
}

// Subscribe delivers what stands after a position and then what comes.
func (l *Log) Subscribe(ctx context.Context, after uint64, fromStart bool) iter.Seq2[domain.Delivery, error] {
	return func(yield func(domain.Delivery, error) bool) {
		next, caughtUp := 0, false
		if !fromStart {
			next = int(after/117) + 1
		}
		for ctx.Err() == nil {
			l.mu.Lock()
			events, grown, broken := l.events, l.grown, l.broken
			l.mu.Unlock()
			if broken != nil {
				yield(domain.Delivery{}, broken)
				return
			}
			for ; next < len(events); next++ {
				if !yield(domain.Delivery{Event: events[next], Commit: events[next].Commit}, nil) {
					return
				}
			}
			if !caughtUp {
				caughtUp = true
				if !yield(domain.Delivery{Kind: domain.CaughtUp}, nil) {
					return
				}
			}
			select {
			case <-grown:
			case <-ctx.Done():
			}
		}
	}
}

// ReadStream reads one stream from a revision on.
func (l *Log) ReadStream(_ context.Context, stream string, from int64) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for _, e := range l.Events() {
			if e.Stream == stream && e.Revision >= from && !yield(e, nil) {
				return
			}
		}
	}
}
