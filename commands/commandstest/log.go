// Package commandstest has an exact in-memory double of the event log for tests of whatever works on commands.Log, and the
// contract that every implementation of that port passes.
package commandstest

import (
	"context"
	"encoding/json"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain"
)

// Fault is what a Log does to one append.
type Fault int

// The faults.
const (
	None     Fault = iota
	Before         // unavailable, nothing was written
	After          // unavailable, though the events were written
	Conflict       // a conflict that names the stream's true revision, nothing was written
)

// Log is an event log in memory, with EventStoreDB's rules for expected revisions and repeated event ids. The zero value is
// an empty log; the fields are set before its use.
type Log struct {
	// OnAppend may make an append fail; it is called outside of the log's lock.
	OnAppend func(stream string, expected int64, events []domain.Proposed) Fault
	// OnRead may make a read fail before its first event.
	OnRead func(stream string, from int64) error

	mu      sync.Mutex
	streams map[string][]domain.Recorded
	all     []domain.Recorded
	reads   int
	appends int
}

// Append implements commands.Log.
func (l *Log) Append(_ context.Context, stream string, expected int64, events []domain.Proposed) (commands.Appended, error) {
	fault := None
	if l.OnAppend != nil {
		fault = l.OnAppend(stream, expected, events)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.appends++
	current := int64(len(l.streams[stream])) - 1
	switch fault {
	case Before:
		return commands.Appended{}, domain.Unavailable("the log is away", nil)
	case Conflict:
		return commands.Appended{}, domain.Conflict(expected, current)
	}
	done, err := l.append(stream, expected, current, events)
	if fault == After {
		return commands.Appended{}, domain.Unavailable("the log is away", nil)
	}
	return done, err
}

func (l *Log) append(stream string, expected, current int64, events []domain.Proposed) (commands.Appended, error) {
	if expected < current && l.holds(stream, expected, events) {
		last := l.streams[stream][expected+int64(len(events))]
		return commands.Appended{Revision: last.Revision, Commit: last.Commit}, nil
	}
	if expected != current {
		return commands.Appended{}, domain.Conflict(expected, current)
	}
	if l.streams == nil {
		l.streams = map[string][]domain.Recorded{}
	}
	var done commands.Appended
	for i, e := range events {
		r := domain.Recorded{Data: slices.Clone(e.Data)}
		if err := domain.DecodeMeta(e.Meta, &r.Meta); err != nil {
			return commands.Appended{}, err
		}
		if !json.Valid(e.Data) {
			return commands.Appended{}, &domain.Error{Code: domain.CodeInternal, Message: "data is not JSON"}
		}
		r.Stream, r.Revision, r.Commit = stream, expected+1+int64(i), uint64(len(l.all)+1)*100
		r.EventID, r.Type, r.Created = e.ID, e.Type, time.Unix(0, 0).UTC().Add(time.Duration(len(l.all))*time.Microsecond)
		l.streams[stream], l.all = append(l.streams[stream], r), append(l.all, r)
		done = commands.Appended{Revision: r.Revision, Commit: r.Commit}
	}
	return done, nil
}

// holds tells whether the events' ids stand behind expected already.
func (l *Log) holds(stream string, expected int64, events []domain.Proposed) bool {
	there := l.streams[stream][expected+1:]
	if len(events) == 0 || len(events) > len(there) {
		return false
	}
	for i, e := range events {
		if there[i].EventID != e.ID {
			return false
		}
	}
	return true
}

// Read implements commands.Log.
func (l *Log) Read(_ context.Context, stream string, from int64) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		if l.OnRead != nil {
			if err := l.OnRead(stream, from); err != nil {
				yield(domain.Recorded{}, err)
				return
			}
		}
		for _, e := range l.Stream(stream, from) {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Stream gives a stream's events from a revision on, and counts as a read.
func (l *Log) Stream(stream string, from int64) []domain.Recorded {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	all := l.streams[stream]
	return slices.Clone(all[min(max(from, 0), int64(len(all))):])
}

// All gives every event in log order.
func (l *Log) All() []domain.Recorded {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

// Calls counts the reads and appends so far.
func (l *Log) Calls() (reads, appends int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reads, l.appends
}
