package view

import (
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/projections/readmodels"
)

// What the read models keep.
type (
	OrgRow       = readmodels.OrgRow
	TierRow      = readmodels.TierRow
	TenantRow    = readmodels.TenantRow
	CauseRow     = readmodels.CauseRow
	PlaneRow     = readmodels.PlaneRow
	SagaRow      = readmodels.SagaRow
	StepRow      = readmodels.StepRow
	UnitAmount   = readmodels.UnitAmount
	Label        = readmodels.Label
	TenantFilter = readmodels.TenantFilter
	SagaFilter   = readmodels.SagaFilter
	SagaPlace    = readmodels.SagaPlace
)

// Rows is a Snapshot of the read models in Postgres.
type Rows struct {
	readmodels.Queries
	Position domain.Position // of the last event in the rows
	Begun    bool            // there was one; otherwise Position says nothing
}

// At implements Snapshot.
func (r Rows) At() (domain.Position, bool) { return r.Position, r.Begun }

var _ Snapshot = Rows{}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
