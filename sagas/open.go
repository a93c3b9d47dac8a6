package sagas

import (
	"context"
	"iter"
	"slices"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
)

// OpenSaga is one row of the projection of open sagas; its key is the stream's id, and it is gone when the saga has ended.
type OpenSaga struct {
	Name       string
	Saga       string
	Version    int64
	Org        string
	Tenant     string
	Hears      []string
	StartEvent string
	Started    uint64 // position of the saga's first fact
}

// OpenedBy is the row that a saga's first fact makes. No other fact changes it, and saga.Ended removes it.
func OpenedBy(e saga.Started, m domain.Meta) OpenSaga {
	return OpenSaga{e.Name, e.Saga, int64(e.Version), e.Org, e.Tenant, e.Hears, e.StartEvent, m.Commit}
}

// FoldOpen is the projection's fold over one saga's facts: the row, and whether it is still there.
func FoldOpen(row OpenSaga, there bool, fact saga.Event, m domain.Meta) (OpenSaga, bool) {
	switch e := fact.(type) {
	case saga.Started:
		return OpenedBy(e, m), true
	case saga.Ended:
		return OpenSaga{}, false
	}
	return row, there
}

// FoldedStore finds the open sagas by folding the log from its start to its head, without any table. It suits tests and
// small logs.
type FoldedStore struct{ Source Source }

// Open implements OpenStore.
func (s FoldedStore) Open(ctx context.Context, atLeast uint64) ([]OpenSaga, uint64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rows, at := map[string]OpenSaga{}, uint64(0)
	for d, err := range s.Source.Follow(ctx, 0) {
		if err != nil {
			return nil, 0, err
		}
		at = max(at, d.Commit)
		if d.Kind == domain.CaughtUp {
			return byStart(rows), max(at, atLeast), nil
		}
		if d.Kind != domain.DeliveredEvent {
			continue
		}
		at = max(at, d.Event.Commit)
		if d.Event.Type != startedName && d.Event.Type != endedName {
			continue
		}
		fact, err := ownFacts.DecodeRecorded(d.Event)
		if err != nil {
			return nil, 0, err
		}
		id := d.Event.ID()
		row, there := rows[id]
		if row, there = FoldOpen(row, there, fact.(saga.Event), d.Event.Meta); there {
			rows[id] = row
		} else {
			delete(rows, id)
		}
	}
	return nil, 0, context.Cause(ctx)
}

func byStart(rows map[string]OpenSaga) []OpenSaga {
	all := make([]OpenSaga, 0, len(rows))
	for _, r := range rows {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b OpenSaga) int {
		if a.Started < b.Started {
			return -1
		}
		return 1
	})
	return all
}

// ownFacts decodes what the runner itself must understand, whatever else the log holds.
var (
	ownFacts    = domain.NewRegistry(saga.Catalog, saga.Definitions)
	startedName = ownFacts.NameOf(saga.Started{})
	endedName   = ownFacts.NameOf(saga.Ended{})
)

// history reads a saga's facts behind a revision.
func history(ctx context.Context, log Log, stream string, after int64) iter.Seq2[fact, error] {
	return func(yield func(fact, error) bool) {
		for r, err := range log.Read(ctx, stream, after+1) {
			var f fact
			if err == nil {
				var e any
				if e, err = ownFacts.DecodeRecorded(r); err == nil {
					f = fact{e.(saga.Event), r.Meta}
				}
			}
			if !yield(f, err) || err != nil {
				return
			}
		}
	}
}

// fact is one fact with what the log knows of it.
type fact struct {
	saga.Event
	meta domain.Meta
}
