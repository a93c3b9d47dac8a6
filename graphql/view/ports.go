package view

import (
	"context"
	"iter"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/sink"
	"github.com/tenure-dev/tenure/projections"
)

// Reads is the read side as of one position at a time.
type Reads interface {
	// Read runs f in one read transaction, which ends with f.
	Read(ctx context.Context, f func(s Snapshot) error) error
}

// Snapshot is one read transaction. It is used by one goroutine at a time. The look-ups give rows in any order, those that
// exist; the pages give up to limit rows in the order of their keys.
type Snapshot interface {
	// At is the position of the last event in the rows; false if there is none yet.
	At() (domain.Position, bool)

	Orgs(ctx context.Context, ids []string) ([]OrgRow, error)
	Tiers(ctx context.Context, keys []string) ([]TierRow, error)
	Tenants(ctx context.Context, ids []string) ([]TenantRow, error)
	Planes(ctx context.Context, ids []string) ([]PlaneRow, error)
	Sagas(ctx context.Context, ids []string) ([]SagaRow, error)
	// Steps gives the steps of all of those sagas.
	Steps(ctx context.Context, sagas []string) ([]StepRow, error)

	PageOfOrgs(ctx context.Context, parent, after string, limit int) ([]OrgRow, error)
	PageOfTiers(ctx context.Context, after string, limit int) ([]TierRow, error)
	PageOfTenants(ctx context.Context, f TenantFilter, after string, limit int) ([]TenantRow, error)
	PageOfPlanes(ctx context.Context, region, after string, limit int) ([]PlaneRow, error)
	PageOfSagas(ctx context.Context, f SagaFilter, after SagaPlace, limit int) ([]SagaRow, error)
}

// Live is the live group of projections as this process knows it.
type Live interface {
	// Position is how far the rows that readers see have come; false before the first event, and then only its epoch counts.
	Position() (domain.Position, bool)
	// WaitFor waits until those rows hold the event at a commit position; past the bound it is CodeLagging.
	WaitFor(ctx context.Context, commit uint64, bound time.Duration) error
	// Watch gives the changes of rows in log order: see projections.Watcher.
	Watch(ctx context.Context, topics ...projections.Topic) (Feed, error)
}

// Feed is the changes of watched rows: a projections.Watcher.
type Feed interface {
	Changes(ctx context.Context, after uint64) iter.Seq2[projections.Change, error]
	Close()
}

// Sealer is the port to the key store. The edge only opens.
type Sealer interface {
	// Open gives the text, or false when the subject's key is gone.
	Open(ctx context.Context, s domain.Sealed) (string, bool, error)
}

// SinkReader tells of the sinks that are configured. Its calls may run beside one another. What it gives holds every event
// that was appended to a sink's stream before the call.
type SinkReader interface {
	// Sinks gives all of them, in any order.
	Sinks(ctx context.Context) ([]SinkStatus, error)
	// Sink gives one, or false if none of that name is configured.
	Sink(ctx context.Context, name string) (SinkStatus, bool, error)
	// Parked gives up to limit parked events behind a place, in the order of stream and revision; the zero place is the start.
	Parked(ctx context.Context, name string, after sink.Place, limit int) ([]sink.Parked, error)
	// Deliveries gives up to limit deliveries with an id below before, or with any id if before is zero, the highest first.
	Deliveries(ctx context.Context, name string, before int64, limit int) ([]SinkDelivery, error)
}

// SinkStatus is how a sink stands.
type SinkStatus struct {
	Name             string
	Target           string // webhook, nats, kafka, amqp or postgres
	Phase            string // active, paused or disabled
	ParkedCount      int64
	OpenRedeliveries int64
	Revision         int64 // of its stream; domain.NoStream before its first event

	Running      bool          // whether this process sends; what follows is only known then
	Lag          uint64        // events that it wants and that are neither delivered nor parked
	Behind       time.Duration // age of the oldest of them
	InFlight     int64
	Held         int64      // streams
	LastSuccess  time.Time  // zero for none
	LastFailure  string     // its code; empty for none
	FailingSince time.Time  // zero if the last delivery succeeded
	Oldest       *SinkEvent // unresolved; nil if there is none or it is not known
}

// SinkEvent is an event of the log, by its place and its id.
type SinkEvent struct {
	sink.Place
	EventID string
}

// SinkDelivery is one attempt to deliver an event.
type SinkDelivery struct {
	ID            int64 // from 1; a later one has a higher id
	EventID, Type string
	Stream        string
	Revision      int64
	Attempt       int64 // from 1
	StartedAt     time.Time
	Took          time.Duration
	Outcome       string // delivered, failed or parked
	Code          string // a short word; empty when delivered
	Status        int64  // of HTTP; 0 for none
}
