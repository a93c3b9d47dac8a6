// Package suspension holds the two sagas that bring a tenant's causes of suspension to its plane: one when there are causes
// and were none, one when none is left. Neither takes the tenant's change slot; a later one supersedes an earlier.
package suspension

import (
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/domain/tenant"
	"github.com/tenure-dev/tenure/sagas"
)

// Plan is what the sagas know. Its JSON is stored.
type Plan struct {
	Tenant   string `json:"tenant"`
	Org      string `json:"org"`
	Plane    string `json:"plane"`
	Revision int64  `json:"revision"` // of the causes
}

// Suspension refuses the tenant on its plane, and then counts it as suspended.
var Suspension = sagas.Saga[Plan]{
	Name: tenant.Suspension, Version: 1,
	Start: sagas.StartsWith(func(e tenant.SuspensionDue, m domain.Meta) Plan { return Plan{m.ID(), e.Org, e.Plane, e.Revision} }),
	Hears: sagas.ByTenant(func(p Plan) string { return p.Tenant }),
	Steps: []sagas.Step[Plan]{push("suspend", plane.Suspend)},
	Succeeded: func(p Plan) domain.Command {
		return tenant.ConfirmSuspended{TenantID: p.Tenant, Revision: p.Revision}
	},
}

// Resumption lets the tenant in again, and then counts it as active.
var Resumption = sagas.Saga[Plan]{
	Name: tenant.Resumption, Version: 1,
	Start: sagas.StartsWith(func(e tenant.ResumptionDue, m domain.Meta) Plan { return Plan{m.ID(), e.Org, e.Plane, e.Revision} }),
	Hears: sagas.ByTenant(func(p Plan) string { return p.Tenant }),
	Steps: []sagas.Step[Plan]{push("resume", plane.Resume)},
	Succeeded: func(p Plan) domain.Command {
		return tenant.ConfirmResumed{TenantID: p.Tenant, Revision: p.Revision}
	},
}

// push asks the plane until it has answered: a level is never undone, only overtaken.
func push(name string, kind plane.Kind) sagas.Step[Plan] {
	return sagas.Step[Plan]{Name: name, Forward: true, Within: 5 * time.Minute, Retry: sagas.Backoff(10, time.Second, time.Minute),
		Operation: func(p Plan) string { return p.Plane },
		Do: func(p Plan) domain.Command {
			return plane.Ask{PlaneID: p.Plane, TenantID: p.Tenant, OrgID: p.Org, Kind: kind, Causes: p.Revision}
		},
		Done:       sagas.When[plane.OperationSucceeded](),
		Superseded: sagas.AnyOf(sagas.When[plane.OperationSuperseded](), sagas.When[plane.OperationWithdrawn]()),
		Fails:      sagas.FailsWith(func(e plane.OperationFailed) (class, code string) { return e.Class, e.Code }),
	}
}
