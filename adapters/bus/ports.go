// Package bus is watermill over the event log: a publisher, an ordered subscriber with a durable place, a subscriber of competing
// consumers, and a router. What hands the log's events to others, and others' to us, is built on it; only adapters/app makes one.
//
// A topic is a stream of the log ("topic-orders", "tenant-ten_…"), "$ce-<category>" for all streams of a category, or "$all" for
// the whole log. Only streams of the categories topic and poison can be published to: the others belong to the kernel.
package bus

import (
	"context"
	"iter"
	"time"

	"github.com/tenure-dev/tenure/domain"
)

// AnyRevision is the expected revision of an append that takes the stream as it is.
const AnyRevision int64 = -2

// Event is an event of the log, of any form.
type Event struct {
	Stream   string
	Revision int64
	Position uint64 // of the commit, in $all
	ID       string // UUID, lower case
	Type     string
	JSON     bool // its content type is application/json
	Created  time.Time
	Data     []byte
	Metadata []byte // a JSON object, if it is one of ours
}

// Log is what the bus needs of the event log. Errors are coded: CodeUnavailable when the same call may be made again.
type Log interface {
	// Append writes one event behind revision expected, domain.NoStream or AnyRevision. The same id at the same expected revision
	// is appended once; with AnyRevision, the same id that the stream has as its first place. CodeConflict, CodeTooLarge.
	Append(ctx context.Context, expected int64, e Event) error
	// At gives the event of a stream at a revision; found is false if there is none.
	At(ctx context.Context, stream string, revision int64) (e Event, found bool, err error)
	// Last gives a stream's last event; found is false if there is none.
	Last(ctx context.Context, stream string) (e Event, found bool, err error)
	// Follow yields every event behind a position in log order, 0 for the log's start, and then what is appended, until ctx ends.
	// The event store's own streams are left out.
	Follow(ctx context.Context, after uint64) iter.Seq2[Event, error]
	// FollowStream is Follow of one stream behind a revision, domain.NoStream for its beginning.
	FollowStream(ctx context.Context, stream string, after int64) iter.Seq2[Event, error]
	// Epoch is the epoch that the log is in, the zero value for none.
	Epoch(ctx context.Context) (domain.Epoch, error)
}

// Groups are the event store's persistent subscriptions.
type Groups interface {
	// EnsureGroup creates a group on a stream, and leaves one that exists as it is.
	EnsureGroup(ctx context.Context, stream, group string, s GroupSettings) error
	// Consume yields a group's events, at most buffer of them unanswered, until ctx ends.
	Consume(ctx context.Context, stream, group string, buffer int) iter.Seq2[Consumed, error]
}

// GroupSettings say how a group is made. Zero values are the event store's defaults.
type GroupSettings struct {
	FromStart  bool          // begin with the stream's first event, not with what is appended next
	MaxRetries int           // redeliveries before an event is parked; 10
	AckTimeout time.Duration // after which an unanswered event comes again; 30 s
}

// Consumed is an event that its consumer answers, from any goroutine. An answer that fails did not arrive: the event comes again.
type Consumed struct {
	Event   Event
	Retries int // deliveries before this one
	Ack     func() error
	Retry   func(reason string) error // deliver it again, or park it when it has come too often
}

// Leases make one of several subscribers of one name the one that reads; the others wait.
type Leases interface {
	// Lead waits until it holds the lease of that name and calls run with a context that ends when the lease is lost. It gives the
	// lease up when run returns, and returns its error.
	Lead(ctx context.Context, name string, run func(ctx context.Context) error) error
}

// Backoff is how long to wait before trying again: First, doubled up to Last, with jitter down to the half.
type Backoff struct {
	First time.Duration // 100 ms when zero
	Last  time.Duration // 30 s when zero
}
