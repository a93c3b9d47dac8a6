package view

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/projections/readmodels"
)

// Saga is a saga's row as the schema shows it. One that is watched brings its steps along.
type Saga struct {
	SagaRow
	steps []StepRow
	whole bool // steps are all of them
}

func showSaga(r SagaRow) *Saga { return &Saga{SagaRow: r} }

// Tenant is the one that it is about.
func (s *Saga) Tenant(ctx context.Context) (*Tenant, error) { return loadTenant(ctx, s.SagaRow.Tenant) }

// Org is whose tenant it is about.
func (s *Saga) Org(ctx context.Context) (*Org, error) { return loadOrg(ctx, s.SagaRow.Org) }

// Step is where it stands.
func (s *Saga) Step() *string { return orNull(s.SagaRow.Step) }

// Code is why it needs attention, has turned back or has failed.
func (s *Saga) Code() *string { return orNull(s.SagaRow.Code) }

// Steps are those that have begun.
func (s *Saga) Steps(ctx context.Context) ([]*SagaStep, error) {
	if s.whole {
		return *showSteps(s.steps), nil
	}
	all, err := load(ctx, func(j *joins) *table[[]StepRow] { return &j.steps }, s.ID, showSteps)
	if all == nil {
		return []*SagaStep{}, err
	}
	return *all, err
}

func showSteps(steps []StepRow) *[]*SagaStep {
	all := make([]*SagaStep, len(steps))
	for i, step := range steps {
		all[i] = &SagaStep{step}
	}
	return &all
}

// inOrder sorts steps as they began.
func inOrder(steps []StepRow) {
	slices.SortFunc(steps, func(a, b StepRow) int { return cmp.Compare(a.Order, b.Order) })
}

// SagaStep is one step of a saga.
type SagaStep struct{ StepRow }

// LastError is null if there was none.
func (s *SagaStep) LastError() *string { return orNull(s.StepRow.LastError) }

// SagaByID gives one saga, or nil.
func SagaByID(ctx context.Context, id string) (*Saga, error) {
	if err := domain.CheckID("id", domain.SagaID, id); err != nil {
		return nil, err
	}
	return loadSaga(ctx, id)
}

func sagasOf(j *joins) *table[SagaRow] { return &j.sagas }

var sagaList = list[SagaRow, Saga]{"sagas", 2, func(r SagaRow) []string {
	return []string{r.StartedAt.Format(time.RFC3339Nano), r.ID}
}, sagasOf, showSaga}

// Sagas gives a page of the sagas that the filter lets through, the one that started last first.
func Sagas(ctx context.Context, p Page, f SagaFilter) (*SagaConnection, error) {
	return sagaList.page(ctx, p, func(s Snapshot, after []string, limit int) ([]SagaRow, error) {
		place := SagaPlace{ID: after[1]}
		if place.ID != "" {
			at, err := time.Parse(time.RFC3339Nano, after[0])
			if err != nil {
				return nil, badCursor()
			}
			place.StartedAt = at
		}
		return s.PageOfSagas(ctx, f, place, limit)
	})
}

func loadSaga(ctx context.Context, id string) (*Saga, error) { return load(ctx, sagasOf, id, showSaga) }

// SagaPayload answers a mutation of a saga.
type SagaPayload struct {
	Answer
	ID string
}

// Saga is the saga as of the mutation or later.
func (p *SagaPayload) Saga(ctx context.Context) (*Saga, error) {
	if p.refused() {
		return nil, nil
	}
	return loadSaga(ctx, p.ID)
}

// Starting is a saga of which no more is known than what started it: it writes its first fact only after that event.
type Starting struct{ ID, Name, Tenant, Org string }

// sagaOr gives the saga or, while it has no row yet, what is known of it; nil if there is none at all.
func sagaOr(ctx context.Context, s Starting) (*Saga, error) {
	known, err := loadSaga(ctx, s.ID)
	if known != nil || err != nil || s.ID == "" {
		return known, err
	}
	return &Saga{whole: true, SagaRow: SagaRow{ID: s.ID, Name: s.Name, State: readmodels.SagaRunning, Tenant: s.Tenant, Org: s.Org, Revision: domain.NoStream}}, nil
}
