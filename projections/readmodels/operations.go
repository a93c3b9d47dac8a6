package readmodels

import (
	"context"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/projections"
)

// The states of an operation.
const (
	OperationAsked      = "asked"
	OperationWithdrawal = "withdrawal_asked" // no longer wanted, and not answered yet
	OperationSucceeded  = "succeeded"
	OperationFailed     = "failed"
	OperationWithdrawn  = "withdrawn"
	OperationSuperseded = "superseded"
)

// OperationRow is one operation asked of a data plane.
type OperationRow struct {
	ID         string // the plane's id, a slash and the operation's
	Plane      string
	Operation  string
	Order      int64 `db:"asked_order"` // in which it was asked of the plane, from 1; 0 if it was void at once
	Kind       string
	Tenant     string
	Org        string
	Saga       string // that asked, or empty
	State      string
	Change     int64
	Causes     int64
	Attempts   int64  // of the agent
	Class      string // of a failure
	Code       string // of a failure
	AskedAt    time.Time
	AnsweredAt time.Time `db:",null"`
}

// Operations has one row an operation.
var Operations = projections.Projection[OperationRow]{
	Name: "operations", Version: 1,
	Indexes: [][]string{{"tenant", "asked_at"}},
	On: []projections.Handler[OperationRow]{
		projections.OnKey(func(e plane.OperationAsked) string { return e.Operation }, func(r *OperationRow, e plane.OperationAsked, m domain.Meta) {
			r.Plane, r.Operation, r.Order, r.Kind, r.Tenant, r.Org, r.Saga = m.ID(), e.Operation, e.Order, string(e.Kind), e.Tenant, e.Desired.Org, e.Saga
			r.State, r.Change, r.Causes, r.AskedAt = OperationAsked, e.Desired.Change, e.Desired.Causes, m.RecordedAt
		}),
		projections.OnKey(func(e plane.WithdrawalAsked) string { return e.Operation }, func(r *OperationRow, e plane.WithdrawalAsked, m domain.Meta) {
			r.State = OperationWithdrawal
		}),
		projections.OnKey(func(e plane.OperationSucceeded) string { return e.Operation }, func(r *OperationRow, e plane.OperationSucceeded, m domain.Meta) {
			r.answered(OperationSucceeded, e.Outcome, m)
			r.Attempts = e.Attempts
		}),
		projections.OnKey(func(e plane.OperationFailed) string { return e.Operation }, func(r *OperationRow, e plane.OperationFailed, m domain.Meta) {
			r.answered(OperationFailed, e.Outcome, m)
			r.Attempts, r.Class, r.Code = e.Attempts, e.Class, e.Code
		}),
		projections.OnKey(func(e plane.OperationWithdrawn) string { return e.Operation }, func(r *OperationRow, e plane.OperationWithdrawn, m domain.Meta) {
			r.answered(OperationWithdrawn, e.Outcome, m)
		}),
		projections.OnKey(func(e plane.OperationSuperseded) string { return e.Operation }, func(r *OperationRow, e plane.OperationSuperseded, m domain.Meta) {
			r.answered(OperationSuperseded, e.Outcome, m)
		}),
		projections.Ignore[OperationRow, plane.Registered](),
		projections.Ignore[OperationRow, plane.Cordoned](),
		projections.Ignore[OperationRow, plane.Uncordoned](),
		projections.Ignore[OperationRow, plane.JoinTokenIssued](),
		projections.Ignore[OperationRow, plane.AgentJoined](),
		projections.Ignore[OperationRow, plane.SessionOpened](),
		projections.Ignore[OperationRow, plane.AgentJudged](),
		projections.Ignore[OperationRow, plane.TenantsUnclaimed](),
		projections.Ignore[OperationRow, plane.CapacityReserved](),
		projections.Ignore[OperationRow, plane.CapacityReleased](),
		projections.Ignore[OperationRow, plane.Noted](),
	},
}

// answered takes an outcome. One that was void at once has no row before it.
func (r *OperationRow) answered(state string, o plane.Outcome, m domain.Meta) {
	r.State, r.AnsweredAt = state, m.RecordedAt
	if r.Operation == "" {
		r.Plane, r.Operation, r.Kind, r.Tenant, r.Org = m.ID(), o.Operation, string(o.Kind), o.Tenant, o.Org
		r.Change, r.Causes, r.AskedAt = o.Change, o.Causes, m.RecordedAt
	}
}

// OperationsOf gives a tenant's operations on all planes, latest first.
func (q Queries) OperationsOf(ctx context.Context, tenant string, limit int) ([]OperationRow, error) {
	return find[OperationRow](ctx, q, operations, "where tenant = $1 order by asked_at desc, id desc limit $2", tenant, limit)
}

// PageOfOperations gives a plane's operations by id.
func (q Queries) PageOfOperations(ctx context.Context, plane, after string, limit int) ([]OperationRow, error) {
	var f filter
	f.add("id > $%d || '/' and id < $%[1]d || '0'", plane)
	f.where("id > $%d", after)
	tail, args := f.page("id", limit)
	return find[OperationRow](ctx, q, operations, tail, args...)
}
