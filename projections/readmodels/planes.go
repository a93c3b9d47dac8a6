package readmodels

import (
	"context"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/projections"
)

// PlaneRow is a data plane with its agent and its capacity. Its revision is its stream's, that of its operations included.
type PlaneRow struct {
	ID         string
	Name       string
	Region     string
	Cloud      string
	Account    string
	Labels     []Label `db:",json"` // by key
	Isolations []string
	Capacity   []UnitAmount `db:",json"` // by unit
	Used       []UnitAmount `db:",json"` // reserved for tenants; units of which nothing is are left out
	Phase      string
	Reason     domain.Sealed // why it is cordoned
	AgentState string        // empty before the first session
	Session    int64
	Version    string // of the agent
	Driver     string
	Revision   int64
	CreatedAt  time.Time
	UpdatedAt  time.Time
}

// Planes has one row a data plane.
var Planes = projections.Projection[PlaneRow]{
	Name: "planes", Version: 1,
	After: func(r *PlaneRow, m domain.Meta) { r.Revision, r.UpdatedAt = m.Revision, m.RecordedAt },
	On: []projections.Handler[PlaneRow]{
		projections.On(func(r *PlaneRow, e plane.Registered, m domain.Meta) {
			r.Name, r.Region, r.Cloud, r.Account, r.Labels = e.Name, e.Region, e.Cloud, e.Account, labels(e.Labels)
			r.Isolations, r.Capacity, r.Phase, r.CreatedAt = e.Isolations, amounts(e.Capacity), string(plane.Open), m.RecordedAt
		}),
		projections.On(func(r *PlaneRow, e plane.Cordoned, m domain.Meta) { r.Phase, r.Reason = string(plane.Closed), e.Reason }),
		projections.On(func(r *PlaneRow, e plane.Uncordoned, m domain.Meta) {
			r.Phase, r.Reason = string(plane.Open), domain.Sealed{}
		}),
		projections.Touch[PlaneRow, plane.JoinTokenIssued](),
		projections.Touch[PlaneRow, plane.AgentJoined](),
		projections.On(func(r *PlaneRow, e plane.SessionOpened, m domain.Meta) {
			r.Session, r.Version, r.Driver, r.AgentState = e.Session, e.Version, e.Driver, string(plane.Awaiting)
		}),
		projections.On(func(r *PlaneRow, e plane.AgentJudged, m domain.Meta) { r.AgentState = string(e.State) }),
		projections.Touch[PlaneRow, plane.TenantsUnclaimed](),
		projections.On(func(r *PlaneRow, e plane.CapacityReserved, m domain.Meta) { r.Used = add(r.Used, e.Cost, 1) }),
		projections.On(func(r *PlaneRow, e plane.CapacityReleased, m domain.Meta) { r.Used = add(r.Used, e.Cost, -1) }),
		projections.Touch[PlaneRow, plane.OperationAsked](),
		projections.Touch[PlaneRow, plane.WithdrawalAsked](),
		projections.Touch[PlaneRow, plane.OperationSucceeded](),
		projections.Touch[PlaneRow, plane.OperationFailed](),
		projections.Touch[PlaneRow, plane.OperationWithdrawn](),
		projections.Touch[PlaneRow, plane.OperationSuperseded](),
		projections.Touch[PlaneRow, plane.Noted](),
	},
}

// Planes looks data planes up by id.
func (q Queries) Planes(ctx context.Context, ids []string) ([]PlaneRow, error) {
	return byKey[PlaneRow](ctx, q, planes, ids)
}

// PageOfPlanes gives data planes by id, those of a region alone if one is named.
func (q Queries) PageOfPlanes(ctx context.Context, region, after string, limit int) ([]PlaneRow, error) {
	var f filter
	f.where("region = $%d", region)
	f.where("id > $%d", after)
	tail, args := f.page("id", limit)
	return find[PlaneRow](ctx, q, planes, tail, args...)
}
