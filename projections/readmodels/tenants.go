package readmodels

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/tenant"
	"github.com/tenure-dev/tenure/projections"
)

// TenantRow is a tenant. Its revision is its stream's.
type TenantRow struct {
	ID           string
	Org          string
	Slug         string
	Name         string
	Phase        string
	Region       string // that was asked for; empty for any
	Plane        string // empty until placed
	TierKey      string
	TierVersion  int64
	Isolation    string
	Limits       []UnitAmount `db:",json"`
	Cost         []UnitAmount `db:",json"`
	Change       int64        // number of the last change
	Saga         string       // of the running change; empty when none runs
	Causes       []CauseRow   `db:",json"` // by kind and reference
	CausesAt     int64        // revision of the causes
	RejectedCode string
	RejectedStep string
	Revision     int64
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// CauseRow is one cause of a tenant's suspension.
type CauseRow struct {
	Kind      string        `json:"kind"`
	Reference string        `json:"reference"`
	Reason    domain.Sealed `json:"reason"`
}

// Tenants has one row a tenant, those that are deleted or were rejected too.
var Tenants = projections.Projection[TenantRow]{
	Name: "tenants", Version: 1,
	Indexes: [][]string{{"org", "id"}, {"plane", "id"}},
	After:   func(r *TenantRow, m domain.Meta) { r.Revision, r.UpdatedAt = m.Revision, m.RecordedAt },
	On: []projections.Handler[TenantRow]{
		projections.On(func(r *TenantRow, e tenant.Requested, m domain.Meta) {
			r.Org, r.Slug, r.Name, r.Region, r.Phase, r.CreatedAt = e.Org, e.Slug, e.Name, e.Region, string(tenant.Waiting), m.RecordedAt
			r.TierKey, r.TierVersion, r.Isolation = e.Offer.Key, e.Offer.Version, e.Offer.Isolation
			r.Limits, r.Cost = amounts(e.Offer.Limits), amounts(e.Offer.Cost)
			r.Change, r.Saga = e.Change, e.Saga
		}),
		projections.On(func(r *TenantRow, e tenant.Placed, m domain.Meta) { r.Phase, r.Plane = string(tenant.Making), e.Plane }),
		projections.On(func(r *TenantRow, e tenant.Activated, m domain.Meta) {
			if r.Phase, r.Saga = string(tenant.Active), ""; e.Suspended {
				r.Phase = string(tenant.OnHold)
			}
		}),
		projections.On(func(r *TenantRow, e tenant.Rejected, m domain.Meta) {
			r.Phase, r.Saga, r.RejectedCode, r.RejectedStep = string(tenant.TurnedAway), "", e.Code, e.Step
		}),
		projections.On(func(r *TenantRow, e tenant.CauseAdded, m domain.Meta) {
			r.CausesAt = e.Revision
			i, there := slices.BinarySearchFunc(r.Causes, e.Cause, CauseRow.compare)
			if !there {
				r.Causes = slices.Insert(r.Causes, i, CauseRow{e.Cause.Kind, e.Cause.Reference, e.Reason})
			}
		}),
		projections.On(func(r *TenantRow, e tenant.CauseCleared, m domain.Meta) {
			r.CausesAt = e.Revision
			r.Causes = slices.DeleteFunc(r.Causes, func(c CauseRow) bool { return c.compare(e.Cause) == 0 })
		}),
		projections.Touch[TenantRow, tenant.SuspensionDue](),
		projections.Touch[TenantRow, tenant.ResumptionDue](),
		projections.On(func(r *TenantRow, e tenant.Suspended, m domain.Meta) { r.Phase = string(tenant.OnHold) }),
		projections.On(func(r *TenantRow, e tenant.Resumed, m domain.Meta) { r.Phase = string(tenant.Active) }),
		projections.Touch[TenantRow, tenant.OffboardingRequested](),
		projections.On(func(r *TenantRow, e tenant.OffboardingStarted, m domain.Meta) {
			r.Phase, r.Change, r.Saga = string(tenant.Leaving), e.Change, e.Saga
		}),
		projections.On(func(r *TenantRow, e tenant.Deleted, m domain.Meta) { r.Phase, r.Saga = string(tenant.Gone), "" }),
		projections.Touch[TenantRow, tenant.Noted](),
	},
}

func (c CauseRow) compare(with tenant.Cause) int {
	return cmp.Or(cmp.Compare(c.Kind, with.Kind), cmp.Compare(c.Reference, with.Reference))
}

// TenantFilter says which tenants; empty fields do not ask.
type TenantFilter struct{ Org, Plane, Phase, Slug string }

// Tenants looks tenants up by id.
func (q Queries) Tenants(ctx context.Context, ids []string) ([]TenantRow, error) {
	return byKey[TenantRow](ctx, q, tenants, ids)
}

// PageOfTenants gives tenants by id.
func (q Queries) PageOfTenants(ctx context.Context, only TenantFilter, after string, limit int) ([]TenantRow, error) {
	var f filter
	f.where("org = $%d", only.Org)
	f.where("plane = $%d", only.Plane)
	f.where("phase = $%d", only.Phase)
	f.where("slug = $%d", only.Slug)
	f.where("id > $%d", after)
	tail, args := f.page("id", limit)
	return find[TenantRow](ctx, q, tenants, tail, args...)
}
