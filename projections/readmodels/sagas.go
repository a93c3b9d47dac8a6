package readmodels

import (
	"context"
	"strings"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/projections"
)

// The states of a saga; an ended one has its outcome as its state.
const (
	SagaRunning   = string(saga.Running)
	SagaUndoing   = string(saga.Undoing)
	SagaAttention = string(saga.Attention)
)

// SagaRow is a saga. Its revision is its stream's.
type SagaRow struct {
	ID         string // sag_…
	Name       string // of its definition
	Version    int64  // of its definition
	State      string
	Undoing    bool // also while it needs attention
	Tenant     string
	Org        string
	Change     int64  // number of the tenant's change slot that it holds; 0 for none
	Step       string // that it stands at; empty before the first and after the end
	Code       string // why it needs attention, has turned back or has failed
	StartedAt  time.Time
	FinishedAt time.Time `db:",null"`
	Revision   int64
}

// Sagas has one row a saga, those that have ended too.
var Sagas = projections.Projection[SagaRow]{
	Name: "sagas", Version: 1,
	Key:     sagaKey,
	Indexes: [][]string{{"started_at", "id"}, {"tenant", "started_at", "id"}},
	After:   func(r *SagaRow, m domain.Meta) { r.Revision = m.Revision },
	On: []projections.Handler[SagaRow]{
		projections.On(func(r *SagaRow, e saga.Started, m domain.Meta) {
			r.Name, r.Version, r.Tenant, r.Org, r.Change = e.Name, int64(e.Version), e.Tenant, e.Org, e.Change
			r.State, r.StartedAt = SagaRunning, m.RecordedAt
		}),
		projections.On(func(r *SagaRow, e saga.Chosen, m domain.Meta) { r.stand(e.Step); r.forward() }),
		projections.Touch[SagaRow, saga.Learned](),
		projections.On(func(r *SagaRow, e saga.Asked, m domain.Meta) {
			if r.stand(e.Step); !e.Undo && e.Step != saga.FailedStep {
				r.forward()
			}
		}),
		projections.Touch[SagaRow, saga.Accepted](),
		projections.Touch[SagaRow, saga.Quiet](),
		projections.On(func(r *SagaRow, e saga.Refused, m domain.Meta) { r.stand(e.Step) }),
		projections.On(func(r *SagaRow, e saga.Answered, m domain.Meta) { r.stand(e.Step) }),
		projections.On(func(r *SagaRow, e saga.Undone, m domain.Meta) { r.stand(e.Step) }),
		projections.Touch[SagaRow, saga.TimedOut](),
		projections.On(func(r *SagaRow, e saga.RetryScheduled, m domain.Meta) { r.stand(e.Step) }),
		projections.On(func(r *SagaRow, e saga.Waiting, m domain.Meta) { r.stand(e.Step); r.forward() }),
		projections.On(func(r *SagaRow, e saga.Turned, m domain.Meta) { r.Undoing, r.Code = true, e.Code; r.goOn() }),
		projections.On(func(r *SagaRow, e saga.AttentionNeeded, m domain.Meta) { r.State, r.Code = SagaAttention, e.Code }),
		projections.On(func(r *SagaRow, e saga.AttentionCleared, m domain.Meta) {
			r.State, r.Code = "", ""
			r.goOn()
		}),
		projections.On(func(r *SagaRow, e saga.Ended, m domain.Meta) {
			r.State, r.Code, r.Step, r.FinishedAt = e.Outcome, e.Code, "", m.RecordedAt
		}),
		projections.Touch[SagaRow, saga.Retried](),
		projections.Touch[SagaRow, saga.Cancelled](),
		projections.Touch[SagaRow, saga.Noted](),
	},
}

// sagaKey is the saga's id, which stands behind the last dot of its stream's.
func sagaKey(m domain.Meta) string {
	id := m.ID()
	return id[strings.LastIndexByte(id, '.')+1:]
}

func (r *SagaRow) stand(step string) { r.Step = step }

// forward says that it no longer undoes.
func (r *SagaRow) forward() {
	if r.Undoing {
		r.Undoing, r.Code = false, ""
	}
	r.goOn()
}

// goOn gives the state that its direction says, unless it waits for a person.
func (r *SagaRow) goOn() {
	switch {
	case r.State == SagaAttention:
	case r.Undoing:
		r.State = SagaUndoing
	default:
		r.State = SagaRunning
	}
}

// SagaFilter says which sagas; empty fields do not ask.
type SagaFilter struct{ Tenant, State, Name string }

// SagaPlace is where a page of sagas begins: behind that one. The zero place is the list's start.
type SagaPlace struct {
	StartedAt time.Time
	ID        string
}

// Sagas looks sagas up by id.
func (q Queries) Sagas(ctx context.Context, ids []string) ([]SagaRow, error) {
	return byKey[SagaRow](ctx, q, allSagas, ids)
}

// PageOfSagas gives sagas, the one started last first.
func (q Queries) PageOfSagas(ctx context.Context, only SagaFilter, after SagaPlace, limit int) ([]SagaRow, error) {
	var f filter
	f.where("tenant = $%d", only.Tenant)
	f.where("state = $%d", only.State)
	f.where("name = $%d", only.Name)
	if after != (SagaPlace{}) {
		f.add("(started_at, id) < ($%d, $%d)", after.StartedAt, after.ID)
	}
	tail, args := f.page("started_at desc, id desc", limit)
	return find[SagaRow](ctx, q, allSagas, tail, args...)
}
