package view

import (
	"context"
	"slices"

	"github.com/tenure-dev/tenure/projections"
	"github.com/tenure-dev/tenure/projections/readmodels"
)

// TenantWatch follows one tenant through its changes.
type TenantWatch struct {
	id  string
	row TenantRow
}

// NewTenantWatch begins with nothing known of it.
func NewTenantWatch(id string) *TenantWatch { return &TenantWatch{id: id} }

// Topics are its row.
func (w *TenantWatch) Topics() []projections.Topic {
	return []projections.Topic{{Projection: readmodels.Tenants.Name, Key: w.id}}
}

// Read takes the tenant as it stands; false if it is not there.
func (w *TenantWatch) Read(ctx context.Context, s Snapshot) (bool, error) {
	rows, err := s.Tenants(ctx, []string{w.id})
	if len(rows) == 1 {
		w.row = rows[0]
	}
	return len(rows) == 1, err
}

// Apply takes its changed row.
func (w *TenantWatch) Apply(c projections.Change) { w.row = c.Row.(TenantRow) }

// Show gives the tenant. Something can always follow.
func (w *TenantWatch) Show() (*Tenant, bool) { return showTenant(w.row), false }

// SagaWatch follows one saga and its steps through their changes.
type SagaWatch struct {
	id    string
	row   SagaRow
	steps []StepRow
}

// NewSagaWatch begins with nothing known of it.
func NewSagaWatch(id string) *SagaWatch { return &SagaWatch{id: id} }

// Topics are its row and those of its steps.
func (w *SagaWatch) Topics() []projections.Topic {
	return []projections.Topic{{Projection: readmodels.Sagas.Name, Key: w.id}, {Projection: readmodels.SagaSteps.Name, Key: w.id + "/"}}
}

// Read takes the saga as it stands; false if it has not started.
func (w *SagaWatch) Read(ctx context.Context, s Snapshot) (bool, error) {
	rows, err := s.Sagas(ctx, []string{w.id})
	if len(rows) == 0 || err != nil {
		return false, err
	}
	w.row = rows[0]
	w.steps, err = s.Steps(ctx, []string{w.id})
	inOrder(w.steps)
	return true, err
}

// Apply takes its changed row, or that of a step.
func (w *SagaWatch) Apply(c projections.Change) {
	switch row := c.Row.(type) {
	case SagaRow:
		w.row = row
	case StepRow:
		w.steps = slices.Clone(w.steps) // earlier ones have been shown
		if i := slices.IndexFunc(w.steps, func(s StepRow) bool { return s.Name == row.Name }); i >= 0 {
			w.steps[i] = row
		} else {
			w.steps = append(w.steps, row)
		}
		inOrder(w.steps)
	}
}

// Show gives the saga with its steps. Nothing follows its end.
func (w *SagaWatch) Show() (*Saga, bool) {
	return &Saga{SagaRow: w.row, steps: w.steps, whole: true}, !w.row.FinishedAt.IsZero()
}
