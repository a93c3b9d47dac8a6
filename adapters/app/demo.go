package app

import (
	"context"

	"github.com/tenure-dev/tenure/adapters/postgres"
	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/org"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/domain/tenant"
	"github.com/tenure-dev/tenure/domain/tier"
	"github.com/tenure-dev/tenure/projections/readmodels"
)

// demoTiers are the four that the demo publishes, and of each of which it onboards a tenant.
var demoTiers = []struct {
	key, slug string
	terms     tier.Terms
}{
	{"standard", "acme-trial", tier.Terms{Name: "Standard", Isolation: "pool",
		Quotas: domain.Units{"connections": 10}, Cost: domain.Units{"slots": 1}}},
	{"business", "acme-shop", tier.Terms{Name: "Business", Isolation: "bridge",
		Quotas: domain.Units{"connections": 20}, Cost: domain.Units{"slots": 2}}},
	{"premium", "acme-main", tier.Terms{Name: "Premium", Isolation: "silo",
		Quotas: domain.Units{"connections": 40}, Cost: domain.Units{"slots": 10}}},
	{"enterprise", "acme-global", tier.Terms{Name: "Enterprise", Isolation: "silo", Endpoint: "dedicated", Nodes: "reserved",
		Quotas: domain.Units{"connections": 80}, Cost: domain.Units{"slots": 40}}},
}

// demoActor is who the demo's commands come from.
const demoActor = "demo"

// demo publishes the tiers, registers an org and requests its tenants. On a log that has an org of somebody else's it does
// nothing; on its own it goes on where a crash has left it. It gives the ids of the tenants.
func (s *System) demo(ctx context.Context) (tenants []string, err error) {
	ours := domain.NewID(domain.OrgID, demoActor, "org.register", "acme")
	state, _, err := s.Bus.State(ctx, org.Aggregate.Stream(ours))
	if err != nil {
		return nil, err
	}
	if state.(org.State).Phase == org.Absent {
		some, err := s.hasOrg(ctx)
		if err != nil || some {
			return nil, err
		}
		for _, t := range demoTiers {
			if _, err := s.Bus.Execute(ctx, commands.Call{Actor: demoActor, Key: t.key, Command: tier.Publish{TierKey: t.key, Terms: t.terms}}); err != nil {
				return nil, err
			}
		}
		if _, err := s.Bus.Execute(ctx, commands.Call{Actor: demoActor, Key: "acme", Command: org.Register{Name: "Acme", Slug: "acme"}}); err != nil {
			return nil, err
		}
	}
	for _, t := range demoTiers {
		id := domain.NewID(domain.TenantID, demoActor, "tenant.request", t.slug)
		state, _, err := s.Bus.State(ctx, tenant.Aggregate.Stream(id))
		if err != nil {
			return nil, err
		}
		if state.(tenant.State).Phase == tenant.Absent {
			if _, err := s.Bus.Execute(ctx, commands.Call{Actor: demoActor, Key: t.slug,
				Command: tenant.Request{OrgID: ours, Slug: t.slug, TierKey: t.key}}); err != nil {
				return nil, err
			}
		}
		tenants = append(tenants, id)
	}
	return tenants, nil
}

func (s *System) hasOrg(ctx context.Context) (some bool, err error) {
	err = s.Reader.Read(ctx, func(r *postgres.Snapshot) error {
		page, err := readmodels.Queries{Snapshot: r}.PageOfOrgs(ctx, "", "", 1)
		some = len(page) > 0
		return err
	})
	return some, err
}

// planeOnline tells whether readers see that plane's agent online in a session after the given one.
func (s *System) planeOnline(ctx context.Context, id string, after int64) (online bool, err error) {
	err = s.Reader.Read(ctx, func(r *postgres.Snapshot) error {
		rows, err := readmodels.Queries{Snapshot: r}.Planes(ctx, []string{id})
		online = len(rows) == 1 && rows[0].Session > after && rows[0].AgentState == string(plane.Online)
		return err
	})
	return online, err
}

// settled tells whether readers see none of those tenants on its way.
func (s *System) settled(ctx context.Context, ids []string) (settled bool, err error) {
	err = s.Reader.Read(ctx, func(r *postgres.Snapshot) error {
		rows, err := readmodels.Queries{Snapshot: r}.Tenants(ctx, ids)
		settled = len(rows) == len(ids)
		for _, t := range rows {
			settled = settled && t.Phase != string(tenant.Waiting) && t.Phase != string(tenant.Making)
		}
		return err
	})
	return settled, err
}
