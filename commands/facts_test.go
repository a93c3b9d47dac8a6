package commands_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/commands/commandstest"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/org"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/domain/reservation"
	"github.com/tenure-dev/tenure/domain/tenant"
	"github.com/tenure-dev/tenure/domain/tier"
)

// house is the real aggregates and the real table of facts on a log in memory.
type house struct {
	*commands.Bus
	t   *testing.T
	log *commandstest.Log
}

func newHouse(t *testing.T) house {
	t.Helper()
	log := &commandstest.Log{}
	b, err := commands.New(commands.Config{Log: log, Facts: commands.Facts, HashKey: make([]byte, 32), Epoch: epoch,
		Aggregates: []domain.Aggregate{org.Aggregate, tier.Aggregate, tenant.Aggregate, plane.Aggregate, reservation.Aggregate},
		Now:        func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	return house{b, t, log}
}

func (h house) do(key string, c domain.Command) commands.Outcome {
	h.t.Helper()
	return do(h.t, h.Bus, by(key, c))
}

func (h house) org() string { h.t.Helper(); return h.do("org", org.Register{Slug: "acme"}).ID }
func (h house) tier() {
	h.t.Helper()
	h.do("tier", tier.Publish{TierKey: "gold", Terms: tier.Terms{Isolation: "silo", Quotas: domain.Units{"connections": 9}, Cost: domain.Units{"slots": 3}}})
}

func (h house) read(o commands.Outcome, want map[string]int64) {
	h.t.Helper()
	for _, e := range o.Events {
		if d := cmp.Diff(want, e.Read); d != "" {
			h.t.Errorf("%s was decided on (-want +got):\n%s", e.Type, d)
		}
	}
	for _, e := range h.log.Stream(o.Stream, o.Revision) {
		if d := cmp.Diff(want, e.Read); d != "" {
			h.t.Errorf("the log says of %s (-want +got):\n%s", e.Type, d)
		}
	}
}

func TestAnOrgKnowsItsParent(t *testing.T) {
	h := newHouse(t)
	nobody := domain.NewID(domain.OrgID, "a", "b", "c")
	refused(t, h.Bus, by("k1", org.Register{Slug: "part", ParentID: nobody}), domain.CodeNotFound, "parentId")
	parent := h.org()
	h.read(h.do("k2", org.Register{Slug: "part", ParentID: parent}), map[string]int64{"org-" + parent: 0})
	h.read(h.do("k3", org.Register{Slug: "whole"}), nil) // asks for no fact
}

func TestATenantIsRequestedOnFacts(t *testing.T) {
	h := newHouse(t)
	id := h.org()
	h.tier()
	request := tenant.Request{OrgID: id, Slug: "shop", TierKey: "gold"}

	nowhere := request
	nowhere.OrgID = domain.NewID(domain.OrgID, "a", "b", "c")
	refused(t, h.Bus, by("k1", nowhere), domain.CodeNotFound, "orgId")
	unknown := request
	unknown.TierKey = "lead"
	refused(t, h.Bus, by("k2", unknown), domain.CodeNotFound, "tierKey")

	slug := "reservation-" + reservation.SlugID(id, "shop")
	o := h.do("k3", request)
	h.read(o, map[string]int64{"org-" + id: 0, "tier-gold": 0, slug: domain.NoStream})
	got := o.Events[0].Payload.(tenant.Requested)
	offer := tenant.Offer{Key: "gold", Version: 1, Isolation: "silo", Limits: domain.Units{"connections": 9}, Cost: domain.Units{"slots": 3}}
	if d := cmp.Diff(offer, got.Offer); d != "" || len(o.Events) != 1 || got.Org != id {
		t.Errorf("%+v (offer -want +got):\n%s", o.Events, d)
	}

	h.do("hold", reservation.Hold{ID: reservation.SlugID(id, "shop"), Org: id, Holder: o.ID})
	refused(t, h.Bus, by("k4", request), domain.CodeAlreadyExists, "slug")
	h.do("free", reservation.Release{ID: reservation.SlugID(id, "shop"), Org: id, Holder: o.ID})
	h.do("v2", tier.Publish{TierKey: "gold", Terms: tier.Terms{Isolation: "pool"}})
	o = h.do("k5", request)
	h.read(o, map[string]int64{"org-" + id: 0, "tier-gold": 1, slug: 1})
	if offer := o.Events[0].Payload.(tenant.Requested).Offer; offer.Version != 2 || offer.Isolation != "pool" {
		t.Errorf("not the latest version but %+v", offer)
	}

	h.do("old", tier.Deprecate{TierKey: "gold"})
	refused(t, h.Bus, by("k6", request), domain.CodeInvalid, "tierKey")
}

func TestATenantOfASuspendedOrgTakesOnItsCause(t *testing.T) {
	h := newHouse(t)
	id := h.org()
	h.tier()
	h.do("stop", org.Suspend{OrgID: id})
	o := h.do("k", tenant.Request{OrgID: id, Slug: "shop", TierKey: "gold"})
	if len(o.Events) != 2 {
		t.Fatalf("%+v", o.Events)
	}
	if e, ok := o.Events[1].Payload.(tenant.CauseAdded); !ok || e.Cause != (tenant.Cause{Kind: "org", Reference: id}) || e.Revision != 1 {
		t.Errorf("%+v", o.Events[1].Payload)
	}
	h.do("go", org.Resume{OrgID: id})
	if o := h.do("k2", tenant.Request{OrgID: id, Slug: "shop", TierKey: "gold"}); len(o.Events) != 1 {
		t.Errorf("in an org that goes on: %+v", o.Events)
	}
}

func TestProvisioningTakesTheCausesFromTheTenant(t *testing.T) {
	h := newHouse(t)
	id := h.org()
	h.tier()
	pln := h.do("plane", plane.Register{}).ID
	h.do("token", plane.IssueJoinToken{PlaneID: pln, Hash: "x", Life: time.Hour})
	h.do("join", plane.Join{PlaneID: pln, Hash: "x", PublicKey: "key"})
	h.do("session", plane.OpenSession{PlaneID: pln, PublicKey: "key"})
	h.do("judge", plane.Judge{PlaneID: pln, Session: 1, State: plane.Online})

	for name, tc := range map[string]struct {
		before    func(tenant string)
		suspended bool
		causes    int64
	}{
		"none": {func(string) {}, false, 0},
		"one":  {func(ten string) { h.do("s"+ten, tenant.Suspend{TenantID: ten}) }, true, 1},
		"again": {func(ten string) {
			h.do("s"+ten, tenant.Suspend{TenantID: ten})
			h.do("r"+ten, tenant.Resume{TenantID: ten})
		}, false, 2},
		"two": {func(ten string) { // the level stays at the first
			h.do("s"+ten, tenant.Suspend{TenantID: ten})
			h.do("t"+ten, tenant.Suspend{TenantID: ten, Cause: tenant.Cause{Kind: "billing", Reference: "inv-1"}})
		}, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			h := h
			h.t = t
			requested := h.do(name, tenant.Request{OrgID: id, Slug: "shop", TierKey: "gold"})
			ten := requested.ID
			tc.before(ten)
			h.do("cap"+ten, plane.Reserve{PlaneID: pln, TenantID: ten, OrgID: id, Change: 1, Isolation: "silo", Cost: domain.Units{"slots": 3}})
			o := h.do("ask"+ten, plane.Ask{PlaneID: pln, TenantID: ten, OrgID: id, Kind: plane.Provision, Change: 1, Isolation: "silo"})
			asked := o.Events[len(o.Events)-1].Payload.(plane.OperationAsked)
			if asked.Desired.Suspended != tc.suspended || asked.Desired.Causes != tc.causes {
				t.Errorf("asked for %+v", asked.Desired)
			}
			stream := tenant.Aggregate.Stream(ten)
			h.read(o, map[string]int64{stream: int64(len(h.log.Stream(stream, 0))) - 1})
			end := h.do("end"+ten, plane.Ask{PlaneID: pln, TenantID: ten, OrgID: id, Kind: plane.Deprovision, Change: 1})
			h.read(end, nil) // no other kind asks for the fact
		})
	}
}
