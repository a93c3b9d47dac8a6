package readmodels

import (
	"context"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/projections"
)

// OpenSagaRow is a saga that has not ended: what a runner needs to take it up. Its history is its stream.
type OpenSagaRow struct {
	ID         string // of its stream: <name>.<sag_…>
	Name       string
	Saga       string
	Version    int64
	Org        string
	Tenant     string
	Hears      []string
	StartEvent string
	Started    int64 // commit position of its first fact
}

// OpenSagas has one row an open saga. Only its first and its last fact matter.
var OpenSagas = projections.Projection[OpenSagaRow]{
	Name: "open_sagas", Version: 1,
	On: []projections.Handler[OpenSagaRow]{
		projections.On(func(r *OpenSagaRow, e saga.Started, m domain.Meta) {
			r.Name, r.Saga, r.Version, r.Org, r.Tenant = e.Name, e.Saga, int64(e.Version), e.Org, e.Tenant
			r.Hears, r.StartEvent, r.Started = e.Hears, e.StartEvent, int64(m.Commit)
		}),
		projections.Gone[OpenSagaRow, saga.Ended](),
		projections.Ignore[OpenSagaRow, saga.Chosen](),
		projections.Ignore[OpenSagaRow, saga.Learned](),
		projections.Ignore[OpenSagaRow, saga.Asked](),
		projections.Ignore[OpenSagaRow, saga.Accepted](),
		projections.Ignore[OpenSagaRow, saga.Quiet](),
		projections.Ignore[OpenSagaRow, saga.Refused](),
		projections.Ignore[OpenSagaRow, saga.Answered](),
		projections.Ignore[OpenSagaRow, saga.Undone](),
		projections.Ignore[OpenSagaRow, saga.TimedOut](),
		projections.Ignore[OpenSagaRow, saga.RetryScheduled](),
		projections.Ignore[OpenSagaRow, saga.Waiting](),
		projections.Ignore[OpenSagaRow, saga.Turned](),
		projections.Ignore[OpenSagaRow, saga.AttentionNeeded](),
		projections.Ignore[OpenSagaRow, saga.AttentionCleared](),
		projections.Ignore[OpenSagaRow, saga.Retried](),
		projections.Ignore[OpenSagaRow, saga.Cancelled](),
		projections.Ignore[OpenSagaRow, saga.Noted](),
	},
}

// OpenSagas gives every open saga in the order in which they started.
func (q Queries) OpenSagas(ctx context.Context) ([]OpenSagaRow, error) {
	return find[OpenSagaRow](ctx, q, openSagas, "order by started")
}
