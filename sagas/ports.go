package sagas

import (
	"context"
	"iter"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
)

// Log is the port to the sagas' own streams.
type Log interface {
	// Read yields a stream's events forwards from a revision to its present end; a missing stream is empty.
	Read(ctx context.Context, stream string, from int64) iter.Seq2[domain.Recorded, error]
	// Append writes events in one atomic step behind revision expected, or domain.NoStream. Its errors are CodeConflict, and
	// CodeUnavailable when the outcome is unknown. The same event ids at the same expected revision are appended once.
	Append(ctx context.Context, stream string, expected int64, events []domain.Proposed) error
}

// Source is the feed of the whole log.
type Source interface {
	// Follow yields every event behind a position in log order, and CaughtUp when it has met the head. It ends with ctx or
	// at an error, after which it may be followed again.
	Follow(ctx context.Context, after uint64) iter.Seq2[domain.Delivery, error]
}

// Commander is the Bus as the runner needs it.
type Commander interface {
	// Execute decides an ask's command. An error is coded; CodeUnavailable, CodeConflict, CodeLagging and the end of ctx are
	// no answers, and the same ask is sent again.
	Execute(ctx context.Context, ask Ask) (Outcome, error)
}

// Ask is one command on its way to the Bus.
type Ask struct {
	Command     domain.Command // by value
	CommandID   string         // derived; the same ask always has the same one
	Answers     domain.Answers // for the metadata of what it leads to
	Actor       string
	Correlation string
	Causation   string // event id of the fact that holds the intent
	Traceparent string
}

// Outcome is the Bus's answer to an ask that it did not refuse.
type Outcome struct {
	Stream   string
	Revision int64
	Events   []Event // that the command appended, now or when it was first sent
	Quiet    bool    // it changed nothing
}

// OpenStore tells which sagas are open: the rows of the projection OpenSaga.
type OpenStore interface {
	// Open gives the rows of all open sagas as of a position not before atLeast, and that position; it may wait for it.
	Open(ctx context.Context, atLeast uint64) (rows []OpenSaga, at uint64, err error)
}

// Cursors keeps the runner's place in the log. Losing it costs time, nothing else.
type Cursors interface {
	Load(ctx context.Context) (c Cursor, found bool, err error)
	Save(ctx context.Context, c Cursor) error
}

// Cursor is a place in the log with what was known there.
type Cursor struct {
	Epoch   domain.Epoch   `json:"epoch"`
	Commit  uint64         `json:"commit"`  // every trigger up to here has been reacted to
	Seen    uint64         `json:"seen"`    // the log had been read up to here
	Enabled map[string]int `json:"enabled"` // the versions of definitions that were switched on at Commit
}

// Snapshots reads what choosing steps choose from.
type Snapshots interface {
	Snapshot(ctx context.Context, w Wanted) (any, error)
}

// Wanted says for what a snapshot is read.
type Wanted struct {
	Saga, Step string // the definition's name and the step's
	Org        string
	Tenant     string
	Refusals   []saga.Refusal
}

// Planes tells whether a plane's agent could speak.
type Planes interface {
	// Resynced tells since when a plane is online and resynced; ok is false while it is not.
	Resynced(plane string) (since time.Time, ok bool)
}

// Lease makes one runner the leader.
type Lease interface {
	// Lead waits until it holds the lease and calls run with a context that ends when the lease is lost. It gives the lease
	// up when run returns, and returns its error.
	Lead(ctx context.Context, run func(ctx context.Context) error) error
}

// Clock is the time, so that tests can advance it.
type Clock interface {
	Now() time.Time
	After(d time.Duration) <-chan time.Time
}
