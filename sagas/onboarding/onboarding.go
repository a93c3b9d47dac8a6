// Package onboarding is the saga that makes a requested tenant real: its slug is reserved, a plane chosen, capacity taken,
// the tenant provisioned and activated. What cannot be is undone, and the tenant rejected.
package onboarding

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
	Tenant    string       `json:"tenant"`
	Org       string       `json:"org"`
	Slug      string       `json:"slug"`
	Region    string       `json:"region,omitempty"`
	Offer     tenant.Offer `json:"offer"`
	Change    int64        `json:"change"`
	Plane     string       `json:"plane,omitempty"`     // once chosen
	Suspended bool         `json:"suspended,omitempty"` // as the plane was told to make it
}

// Onboarding is the definition.
var Onboarding = sagas.Saga[Plan]{
	Name: tenant.Onboarding, Version: 1,
	Start: sagas.StartsWith(func(e tenant.Requested, m domain.Meta) Plan {
		return Plan{Tenant: m.ID(), Org: e.Org, Slug: e.Slug, Region: e.Region, Offer: e.Offer, Change: e.Change}
	}),
	Hears:  sagas.ByTenant(func(p Plan) string { return p.Tenant }),
	Abort:  sagas.When[tenant.OffboardingRequested](),
	Change: func(p Plan) int64 { return p.Change },
	Steps: []sagas.Step[Plan]{
		{Name: "reserve slug", Within: 30 * time.Second,
			Do: func(p Plan) domain.Command {
				return reservation.Hold{ID: reservation.SlugID(p.Org, p.Slug), Org: p.Org, Holder: p.Tenant}
			},
			Undo: func(p Plan) domain.Command {
				return reservation.Release{ID: reservation.SlugID(p.Org, p.Slug), Org: p.Org, Holder: p.Tenant}
			}},
		{Name: "choose plane", Choose: sagas.Choose(choose)},
		{Name: "reserve capacity", Within: 30 * time.Second, Else: sagas.Again("choose plane", 5),
			Do: func(p Plan) domain.Command {
				return plane.Reserve{PlaneID: p.Plane, TenantID: p.Tenant, OrgID: p.Org, Change: p.Change, Isolation: p.Offer.Isolation, Cost: p.Offer.Cost}
			},
			Undo: func(p Plan) domain.Command {
				return plane.Release{PlaneID: p.Plane, TenantID: p.Tenant, Change: p.Change}
			}},
		{Name: "place", Within: 30 * time.Second,
			Do: func(p Plan) domain.Command {
				return tenant.Place{TenantID: p.Tenant, Change: p.Change, PlaneID: p.Plane}
			}},
		{Name: "provision", Within: 15 * time.Minute, Retry: sagas.Backoff(5, time.Second, time.Minute), Else: sagas.Again("choose plane", 2),
			Operation: func(p Plan) string { return p.Plane },
			Do: func(p Plan) domain.Command {
				return plane.Ask{PlaneID: p.Plane, TenantID: p.Tenant, OrgID: p.Org, Kind: plane.Provision, Change: p.Change,
					Isolation: p.Offer.Isolation, Limits: p.Offer.Limits}
			},
			Done:    sagas.When[plane.OperationSucceeded](),
			Refused: sagas.WithCode(func(plane.OperationWithdrawn) string { return "withdrawn" }),
			Fails:   sagas.FailsWith(func(e plane.OperationFailed) (class, code string) { return e.Class, e.Code }),
			Learn: sagas.Learns(func(p Plan, e plane.OperationSucceeded, _ domain.Meta) Plan {
				p.Suspended = e.Suspended
				return p
			}),
			Undo: func(p Plan) domain.Command {
				return plane.Ask{PlaneID: p.Plane, TenantID: p.Tenant, OrgID: p.Org, Kind: plane.Deprovision, Change: p.Change, Isolation: p.Offer.Isolation}
			},
			Undone: sagas.When[plane.OperationSucceeded]()},
	},
	Succeeded: func(p Plan) domain.Command {
		return tenant.Activate{TenantID: p.Tenant, Change: p.Change, Suspended: p.Suspended}
	},
	Failed: func(p Plan, why sagas.Why) domain.Command {
		return tenant.Reject{TenantID: p.Tenant, Change: p.Change, Code: why.Code, Step: why.Step}
	},
}
