// Package offboarding is the saga that removes a tenant: from its plane first, then its capacity and its slug. None of it is
// ever undone.
package offboarding

import (
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/domain/reservation"
	"github.com/tenure-dev/tenure/domain/tenant"
	"github.com/tenure-dev/tenure/sagas"
)

// Plan is what the saga knows. Its JSON is stored.
type Plan struct {
	Tenant    string `json:"tenant"`
	Org       string `json:"org"`
	Slug      string `json:"slug"`
	Plane     string `json:"plane"`
	Isolation string `json:"isolation"`
	Change    int64  `json:"change"`
}

// Offboarding is the definition.
var Offboarding = sagas.Saga[Plan]{
	Name: tenant.Offboarding, Version: 1,
	Start: sagas.StartsWith(func(e tenant.OffboardingStarted, m domain.Meta) Plan {
		return Plan{m.ID(), e.Org, e.Slug, e.Plane, e.Offer.Isolation, e.Change}
	}),
	Hears:  sagas.ByTenant(func(p Plan) string { return p.Tenant }),
	Change: func(p Plan) int64 { return p.Change },
	Steps: []sagas.Step[Plan]{
		{Name: "deprovision", Forward: true, Within: 15 * time.Minute, Retry: sagas.Backoff(10, time.Second, time.Minute),
			Operation: func(p Plan) string { return p.Plane },
			Do: func(p Plan) domain.Command {
				return plane.Ask{PlaneID: p.Plane, TenantID: p.Tenant, OrgID: p.Org, Kind: plane.Deprovision, Change: p.Change, Isolation: p.Isolation}
			},
			Done:  sagas.When[plane.OperationSucceeded](),
			Fails: sagas.FailsWith(func(e plane.OperationFailed) (class, code string) { return e.Class, e.Code })},
		{Name: "release capacity", Forward: true, Within: 30 * time.Second,
			Do: func(p Plan) domain.Command {
				return plane.Release{PlaneID: p.Plane, TenantID: p.Tenant, Change: p.Change}
			}},
		{Name: "release slug", Forward: true, Within: 30 * time.Second,
			Do: func(p Plan) domain.Command {
				return reservation.Release{ID: reservation.SlugID(p.Org, p.Slug), Org: p.Org, Holder: p.Tenant}
			}},
	},
	Succeeded: func(p Plan) domain.Command { return tenant.Delete{TenantID: p.Tenant, Change: p.Change} },
}
