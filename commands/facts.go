package commands

import (
	"github.com/tenure-dev/tenure/domain/org"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/domain/reservation"
	"github.com/tenure-dev/tenure/domain/tenant"
	"github.com/tenure-dev/tenure/domain/tier"
)

// Facts is the table of what commands know of other aggregates, one pure row each.
var Facts = []Fact{
	NewFact(
		func(c org.Register) string { return c.ParentID }, org.Aggregate,
		func(_ org.State, exists bool, _ int64) org.ParentFact { return org.ParentFact{Exists: exists} },
		func(c *org.Register, f org.ParentFact) { c.Parent = f }),
	NewFact(
		func(c tenant.Request) string { return c.OrgID }, org.Aggregate,
		func(s org.State, exists bool, _ int64) tenant.OrgFact {
			return tenant.OrgFact{Exists: exists, Suspended: s.Phase == org.OnHold}
		},
		func(c *tenant.Request, f tenant.OrgFact) { c.Org = f }),
	NewFact(
		func(c tenant.Request) string { return c.TierKey }, tier.Aggregate,
		func(s tier.State, exists bool, _ int64) tenant.TierFact {
			return tenant.TierFact{Exists: exists, Deprecated: s.Phase == tier.Outdated, Offer: tenant.Offer{
				Version: s.Version, Isolation: s.Terms.Isolation, Limits: s.Terms.Quotas, Cost: s.Terms.Cost}}
		},
		func(c *tenant.Request, f tenant.TierFact) { f.Offer.Key = c.TierKey; c.Tier = f }),
	NewFact(
		func(c tenant.Request) string { return reservation.SlugID(c.OrgID, c.Slug) }, reservation.Aggregate,
		func(s reservation.State, _ bool, _ int64) tenant.SlugFact { return tenant.SlugFact{Holder: s.Holder} },
		func(c *tenant.Request, f tenant.SlugFact) { c.SlugOwner = f }),
	NewFact(
		func(c plane.Ask) string {
			if c.Kind != plane.Provision {
				return ""
			}
			return c.TenantID
		}, tenant.Aggregate,
		func(s tenant.State, _ bool, _ int64) plane.TenantFact {
			return plane.TenantFact{Suspended: len(s.Causes) > 0, Causes: s.Level}
		},
		func(c *plane.Ask, f plane.TenantFact) { c.Tenant = f }),
}
