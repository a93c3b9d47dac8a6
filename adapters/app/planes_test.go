package app

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/domain/tenant"
	"github.com/tenure-dev/tenure/sagas"
	"github.com/tenure-dev/tenure/sagas/onboarding"
)

// keeps makes planes that have been loaded, by id.
func keeps(all map[string]known) *planes {
	p := newPlanes(nil, func() uint64 { return 0 })
	p.known, p.loaded = all, true
	return p
}

func aPlane(change ...func(*known)) known {
	k := known{revision: 3, online: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	k.state = plane.State{Phase: plane.Open, Agent: plane.Agent{Session: 1, State: plane.Online}, Registration: plane.Registration{Region: "eu", Capacity: domain.Units{"slots": 2}, Isolations: []string{"pool"}}}
	for _, f := range change {
		f(&k)
	}
	return k
}

func full(k *known)     { k.state.Used = k.state.Used.With("slots", 2) }
func offline(k *known)  { k.online, k.state.Agent.State = time.Time{}, plane.Offline }
func cordoned(k *known) { k.state.Phase = plane.Closed }
func siloed(k *known)   { k.state.Isolations = []string{"silo"} }

func TestARequestLearnsOfThePlanes(t *testing.T) {
	for name, tc := range map[string]struct {
		planes map[string]known
		region string
		want   tenant.PlacementFact
	}{
		"none":                     {nil, "", tenant.PlacementFact{NoRegion: true}},
		"one with room":            {map[string]known{"p1": aPlane()}, "", tenant.PlacementFact{}},
		"in the region":            {map[string]known{"p1": aPlane()}, "eu", tenant.PlacementFact{}},
		"in another region":        {map[string]known{"p1": aPlane()}, "us", tenant.PlacementFact{NoRegion: true}},
		"full":                     {map[string]known{"p1": aPlane(full)}, "", tenant.PlacementFact{Full: true}},
		"one of two full":          {map[string]known{"p1": aPlane(full), "p2": aPlane()}, "", tenant.PlacementFact{}},
		"full, the other offline":  {map[string]known{"p1": aPlane(full), "p2": aPlane(offline)}, "", tenant.PlacementFact{Full: true}},
		"full, the other cordoned": {map[string]known{"p1": aPlane(full), "p2": aPlane(cordoned)}, "", tenant.PlacementFact{Full: true}},
		"nobody is online":         {map[string]known{"p1": aPlane(offline)}, "", tenant.PlacementFact{}},
		"another isolation":        {map[string]known{"p1": aPlane(siloed)}, "", tenant.PlacementFact{}},
	} {
		t.Run(name, func(t *testing.T) {
			c := tenant.Request{Region: tc.region, Tier: tenant.TierFact{Offer: tenant.Offer{Isolation: "pool", Cost: domain.Units{"slots": 1}}}}
			if err := keeps(tc.planes).fill(t.Context(), &c); err != nil || c.Placement != tc.want {
				t.Errorf("%+v, %v", c.Placement, err)
			}
		})
	}
	c, p := tenant.Request{}, keeps(nil)
	p.loaded = false
	if err := p.fill(t.Context(), &c); err != nil || c.Placement != (tenant.PlacementFact{}) {
		t.Errorf("before the planes are known: %+v, %v", c.Placement, err)
	}
}

func TestTheSnapshotThatPlacementChoosesFrom(t *testing.T) {
	p := keeps(map[string]known{"p2": aPlane(cordoned, full), "p1": aPlane(), "p3": aPlane(offline)})
	got, err := p.Snapshot(t.Context(), sagas.Wanted{})
	if err != nil {
		t.Fatal(err)
	}
	one := onboarding.Candidate{ID: "p1", Revision: 3, Region: "eu", Isolations: []string{"pool"}, Online: true, Capacity: domain.Units{"slots": 2}, Free: domain.Units{"slots": 2}}
	two, three := one, one
	two.ID, two.Cordoned, two.Free = "p2", true, domain.Units{"slots": 0}
	three.ID, three.Online = "p3", false
	if d := cmp.Diff([]onboarding.Candidate{one, two, three}, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.seen = func() uint64 { return 7 } // readers have been shown more than this
	if _, err := p.Snapshot(ctx, sagas.Wanted{}); err == nil {
		t.Error("a snapshot that is behind was given")
	}
	p.reach(7)
	if _, err := p.Snapshot(ctx, sagas.Wanted{}); err != nil {
		t.Error(err)
	}
}
