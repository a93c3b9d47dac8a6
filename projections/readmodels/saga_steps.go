package readmodels

import (
	"context"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/projections"
)

// The states of a saga's step.
const (
	StepRunning = "running" // asked, and not answered yet
	StepWaiting = "waiting" // for a time, or for the next attempt
	StepDone    = "done"
	StepFailed  = "failed"  // refused, failed, or late
	StepUndoing = "undoing" // its compensation was asked, and is not answered yet
	StepUndone  = "undone"
)

// StepRow is one step of a saga, from when it began.
type StepRow struct {
	ID         string // the saga's id, a slash and the step's name
	Saga       string
	Name       string
	Order      int64 `db:"began_order"` // in which the saga's steps began
	State      string
	Attempt    int64 // in the present direction, from 1
	StartedAt  time.Time
	FinishedAt time.Time `db:",null"` // zero while it is not answered
	LastError  string    // code of the last refusal, failure or time-out
}

// SagaSteps has one row a step that has begun.
var SagaSteps = projections.Projection[StepRow]{
	Name: "saga_steps", Version: 1,
	Key: sagaKey,
	On: []projections.Handler[StepRow]{
		projections.OnKey(func(e saga.Chosen) string { return e.Step }, func(r *StepRow, e saga.Chosen, m domain.Meta) {
			r.begin(e.Step, StepDone, r.Attempt+1, m)
			r.FinishedAt, r.LastError = m.RecordedAt, ""
		}),
		projections.OnKey(func(e saga.Asked) string { return e.Step }, func(r *StepRow, e saga.Asked, m domain.Meta) {
			state := StepRunning
			if e.Undo {
				state = StepUndoing
			}
			r.begin(e.Step, state, int64(e.Attempt), m)
		}),
		projections.OnKey(func(e saga.Waiting) string { return e.Step }, func(r *StepRow, e saga.Waiting, m domain.Meta) {
			r.begin(e.Step, StepWaiting, r.Attempt+1, m)
		}),
		projections.OnKey(func(e saga.Refused) string { return e.Step }, func(r *StepRow, e saga.Refused, m domain.Meta) {
			r.begin(e.Step, StepFailed, max(r.Attempt, 1), m) // a choice that found nothing begins with its refusal
			r.FinishedAt, r.LastError = m.RecordedAt, e.Code
		}),
		projections.OnKey(func(e saga.Answered) string { return e.Step }, func(r *StepRow, e saga.Answered, m domain.Meta) {
			r.begin(e.Step, StepDone, r.Attempt, m)
			r.FinishedAt = m.RecordedAt
		}),
		projections.OnKey(func(e saga.Undone) string { return e.Step }, func(r *StepRow, e saga.Undone, m domain.Meta) {
			r.begin(e.Step, StepUndone, r.Attempt, m)
			r.FinishedAt = m.RecordedAt
		}),
		projections.OnKey(func(e saga.TimedOut) string { return e.Step }, func(r *StepRow, e saga.TimedOut, m domain.Meta) {
			r.begin(e.Step, StepFailed, r.Attempt, m)
			r.LastError = saga.CodeTimedOut
		}),
		projections.OnKey(func(e saga.RetryScheduled) string { return e.Step }, func(r *StepRow, e saga.RetryScheduled, m domain.Meta) {
			r.begin(e.Step, StepWaiting, r.Attempt, m)
		}),
		projections.OnKey(func(e saga.AttentionNeeded) string { return e.Step }, func(r *StepRow, e saga.AttentionNeeded, m domain.Meta) {
			r.begin(e.Step, StepFailed, r.Attempt, m)
			r.LastError = e.Code
		}),
		projections.Ignore[StepRow, saga.Started](),
		projections.Ignore[StepRow, saga.Learned](),
		projections.Ignore[StepRow, saga.Accepted](),
		projections.Ignore[StepRow, saga.Quiet](),
		projections.Ignore[StepRow, saga.Turned](),
		projections.Ignore[StepRow, saga.AttentionCleared](),
		projections.Ignore[StepRow, saga.Ended](),
		projections.Ignore[StepRow, saga.Retried](),
		projections.Ignore[StepRow, saga.Cancelled](),
		projections.Ignore[StepRow, saga.Noted](),
	},
}

// begin sets what every fact of a step says; the first one also when it began.
func (r *StepRow) begin(step, state string, attempt int64, m domain.Meta) {
	if r.Name == "" {
		r.Saga, r.Name, r.Order, r.StartedAt = sagaKey(m), step, m.Revision, m.RecordedAt
	}
	r.State, r.Attempt, r.FinishedAt = state, attempt, time.Time{}
}

// Steps gives the steps of all of those sagas.
func (q Queries) Steps(ctx context.Context, sagas []string) ([]StepRow, error) {
	for _, s := range sagas {
		if err := q.Parked(ctx, sagaSteps.Name, s); err != nil {
			return nil, err
		}
	}
	// What begins with an id and a slash stands together in the key's index, before the slash's successor.
	return find[StepRow](ctx, q, sagaSteps, `s join unnest($1::text[]) as of_saga(saga_id)
		on s.id > of_saga.saga_id || '/' and s.id < of_saga.saga_id || '0' order by s.saga, s.began_order`, sagas)
}
