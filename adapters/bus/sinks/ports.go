// Package sinks sends chosen events of the log to other systems as CloudEvents: at least once, and in order within each
// stream. adapters/app builds it from configuration; it sees a target only as a watermill Publisher.
package sinks

import (
	"context"
	"iter"
	"time"

	"github.com/tenure-dev/tenure/domain"
)

// Log is the port to the event log. Every call bounds its own time, Follow and ReadAll apart.
type Log interface {
	// Follow yields every event behind a position in log order, then what is appended. It ends with ctx or at an error,
	// after which it may be followed again.
	Follow(ctx context.Context, after uint64) iter.Seq2[domain.Delivery, error]
	// ReadAll yields at most limit events behind a position, 0 for the log's start, to the log's present end.
	ReadAll(ctx context.Context, after uint64, limit int) iter.Seq2[domain.Recorded, error]
	// Read yields a stream's events forwards from a revision to its present end; a missing stream is empty.
	Read(ctx context.Context, stream string, from int64) iter.Seq2[domain.Recorded, error]
	// ReadBackwards yields at most limit events of a stream from a revision, or from -1 for its end, down.
	ReadBackwards(ctx context.Context, stream string, from int64, limit int) iter.Seq2[domain.Recorded, error]
	// Append writes events behind revision expected, or domain.NoStream. CodeConflict says that another one writes;
	// CodeUnavailable that the outcome is unknown. The same event ids at the same expected revision are appended once.
	Append(ctx context.Context, stream string, expected int64, events []domain.Proposed) error
	// Head is the position of the log's last event.
	Head(ctx context.Context) (uint64, error)
}

// Commander is the Bus as the runtime needs it.
type Commander interface {
	// Execute decides a command under a derived id and gives the revision that the stream then has, domain.NoStream for an
	// empty one. CodeUnavailable and CodeConflict are no answers: the same call is made again.
	Execute(ctx context.Context, command domain.Command, commandID string) (revision int64, err error)
}

// Opener opens sealed text; ok is false when the subject's key is gone.
type Opener interface {
	Open(ctx context.Context, s domain.Sealed) (text string, ok bool, err error)
}

// Lease makes one process the one that runs the sinks.
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

// Deliveries keeps the log of deliveries.
type Deliveries interface {
	// Record keeps a batch. What fails is dropped and counted: a delivery never waits for it.
	Record(ctx context.Context, batch []Delivery) error
}

// The outcomes of a delivery.
const (
	OutcomeDelivered = "delivered"
	OutcomeFailed    = "failed" // it is attempted again
	OutcomeParked    = "parked" // it was the last attempt
)

// Delivery is one attempt.
type Delivery struct {
	Sink, EventID, Type, Stream string
	Revision                    int64
	Attempt                     int // from 1
	Started                     time.Time
	Took                        time.Duration
	Outcome                     string
	Code                        string // a short word, empty when delivered
	Status                      int    // of HTTP, 0 for none
}
