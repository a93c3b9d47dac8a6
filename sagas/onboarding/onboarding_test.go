package onboarding

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/domain/reservation"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/domain/tenant"
	"github.com/tenure-dev/tenure/sagas"
	"github.com/tenure-dev/tenure/sagas/sagastest"
)

var (
	definition = Onboarding.Definition()
	registry   = domain.NewRegistry(tenant.Events, tenant.Commands, plane.Events, plane.Commands, reservation.Events, reservation.Commands)
	t0         = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

const (
	ten = "ten_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	org = "org_aaaaaaaaaaaaaaaaaaaaaaaaaa"
)

// play plays a script: see sagastest.Script.
func play(t *testing.T, name string, triggers ...any) []string {
	t.Helper()
	return sagastest.Script{Registry: registry, Definition: definition, Begin: t0, Detail: detail}.Play(t, name, triggers...)
}

// detail says of a command where it goes, and how the saga ends.
func detail(command any) string {
	switch c := command.(type) {
	case plane.Reserve:
		return c.PlaneID
	case plane.Release:
		return c.PlaneID
	case plane.Ask:
		return fmt.Sprint(c.PlaneID, " ", c.Kind)
	case tenant.Reject:
		return c.Code + " at " + c.Step
	case tenant.Activate:
		if c.Suspended {
			return "suspended"
		}
	}
	return ""
}

var (
	begin = sagas.Event{Event: tenant.Requested{Org: org, Slug: "shop", Name: "shop", Change: 1, Saga: "sag_x",
		Offer: tenant.Offer{Key: "gold", Version: 1, Isolation: "pool", Limits: domain.Units{"connections": 5}, Cost: domain.Units{"slots": 1}}},
		Meta: domain.Meta{Stream: "tenant-" + ten, EventID: "e0", Org: org, Tenant: ten}}
	leave = sagas.Event{Event: tenant.OffboardingRequested{TurnsBack: "sag_x"},
		Meta: domain.Meta{Stream: "tenant-" + ten, Revision: 9, EventID: "e9", Org: org, Tenant: ten}}
	ok      = sagas.Accepted{Stream: "s", Revision: 1}
	quiet   = sagas.Quiet{}
	silence = sagas.Silence{}
	due     = sagas.Due{}
)

func no(code domain.Code) any { return sagas.Refused{Code: code, Message: "no"} }

func outcome(e any) any {
	return sagas.Event{Event: e, Meta: domain.Meta{Stream: "plane-x", Revision: 4, EventID: "e4", Org: org, Tenant: ten, Answers: &domain.Answers{}}}
}

var (
	done          = outcome(plane.OperationSucceeded{Outcome: plane.Outcome{Tenant: ten, Org: org}, Attempts: 1})
	doneSuspended = outcome(plane.OperationSucceeded{Outcome: plane.Outcome{Tenant: ten, Org: org, Suspended: true}, Attempts: 1})
	withdrawn     = outcome(plane.OperationWithdrawn{Outcome: plane.Outcome{Tenant: ten, Org: org}})
)

func fails(class, code string) any {
	return outcome(plane.OperationFailed{Outcome: plane.Outcome{Tenant: ten, Org: org}, Attempts: 1, Class: class, Code: code})
}

func candidate(id string, free int64) Candidate {
	return Candidate{ID: id, Revision: 3, Region: "eu", Isolations: []string{"pool"}, Online: true, Capacity: domain.Units{"slots": 10}, Free: domain.Units{"slots": free}}
}

func look(planes ...Candidate) any { return sagas.Snapshot{Step: "choose plane", Value: planes} }

var (
	three = look(candidate("p1", 9), candidate("p2", 8), candidate("p3", 7))
	one   = look(candidate("p1", 9))
)

func TestOnboarding(t *testing.T) {
	then := func(parts ...any) (all []any) {
		for _, p := range parts {
			if more, ok := p.([]any); ok {
				all = append(all, more...)
			} else {
				all = append(all, p)
			}
		}
		return all
	}
	choosing := then(begin, ok)
	reserving := then(choosing, three)
	placing := then(reserving, ok)
	asking := then(placing, ok)
	provisioning := then(asking, ok)

	slug, reserve, place, provision := "reservation.hold", "plane.reserve p1", "tenant.place", "plane.ask p1 provision"
	deprovision, release, free := "undo: plane.ask p1 deprovision", "undo: plane.release p1", "undo: reservation.release"
	asked := []string{slug, reserve, place, provision}
	for name, tc := range map[string]struct {
		when []any
		then []string
	}{
		"well":                  {then(provisioning, done, ok), []string{slug, reserve, place, provision, "tenant.activate", "ended succeeded"}},
		"suspended meanwhile":   {then(provisioning, doneSuspended, ok), []string{slug, reserve, place, provision, "tenant.activate suspended", "ended succeeded"}},
		"all of it was so":      {then(begin, quiet, three, quiet, quiet, quiet, done, quiet), []string{slug, reserve, place, provision, "tenant.activate", "ended succeeded"}},
		"slug taken":            {then(begin, no(domain.CodeAlreadyExists), ok), []string{slug, "turned already_exists", "tenant.reject already_exists at reserve slug", "ended failed already_exists"}},
		"no plane":              {then(choosing, look(), ok, ok), []string{slug, "turned not_found", free, "tenant.reject not_found at choose plane", "ended failed not_found"}},
		"full":                  {then(choosing, look(candidate("p1", 0)), ok, ok), []string{slug, "turned capacity_exhausted", free, "tenant.reject capacity_exhausted at choose plane", "ended failed capacity_exhausted"}},
		"reserve refused":       {then(reserving, no(domain.CodeCapacityExhausted), three, ok), []string{slug, reserve, "turned capacity_exhausted choose plane", "plane.reserve p3", place}},
		"refused by all":        {then(reserving, no(domain.CodeNotAllowed), one, ok, ok), []string{slug, reserve, "turned not_allowed choose plane", "turned not_allowed", free, "tenant.reject not_allowed at choose plane", "ended failed not_allowed"}},
		"quota, another plane":  {then(provisioning, fails("quota", "disk"), ok, done, ok, three, ok, ok, ok, done, ok), then4(asked, "turned disk choose plane", deprovision, release, "plane.reserve p3", place, "plane.ask p3 provision", "tenant.activate", "ended succeeded")},
		"quota, no other plane": {then(provisioning, fails("quota", "disk"), ok, done, ok, one, ok, ok), then4(asked, "turned disk choose plane", deprovision, release, "turned disk", free, "tenant.reject disk at choose plane", "ended failed disk")},
		"user":                  {then(provisioning, fails("user", "name"), ok, done, ok, one, ok, ok), then4(asked, "turned name choose plane", deprovision, release, "turned name", free, "tenant.reject name at choose plane", "ended failed name")},
		"bug":                   {then(provisioning, fails("bug", "boom")), then4(asked, "attention boom")},
		"bug, tried again":      {then(provisioning, fails("bug", "boom"), saga.Retried{}, sagas.Wake{}, ok, done, ok), then4(asked, "attention boom", provision, "tenant.activate", "ended succeeded")},
		"bug, cancelled":        {then(provisioning, fails("bug", "boom"), saga.Cancelled{}, sagas.Wake{}, ok, done, ok, ok, ok), then4(asked, "attention boom", "turned cancelled", deprovision, release, free, "tenant.reject cancelled at ", "ended failed cancelled")},
		"passing":               {then(provisioning, fails("transient", "busy"), due, ok, done, ok), then4(asked, "retry #2", provision, "tenant.activate", "ended succeeded")},
		"passing, run out": {then(provisioning, fails("plane_down", "away"), due, fails("plane_down", "away"), due, fails("plane_down", "away"), due, fails("plane_down", "away"), due, fails("plane_down", "away")),
			then4(asked, "retry #2", provision, "retry #3", provision, "retry #4", provision, "retry #5", provision, "attention away")},
		"timed out":              {then(provisioning, silence, ok, done, ok, ok, ok), then4(asked, "turned timed_out", deprovision, release, free, "tenant.reject timed_out at provision", "ended failed timed_out")},
		"timed out at the slug":  {then(begin, silence, ok, ok), []string{slug, "turned timed_out", free, "tenant.reject timed_out at reserve slug", "ended failed timed_out"}},
		"timed out reserving":    {then(reserving, silence, ok, ok, ok), []string{slug, reserve, "turned timed_out", release, free, "tenant.reject timed_out at reserve capacity", "ended failed timed_out"}},
		"an undo that is silent": {then(provisioning, silence, silence), then4(asked, "turned timed_out", deprovision, "attention late")},
		"an undo that fails":     {then(provisioning, silence, fails("transient", "busy"), due, done, ok, ok, ok), then4(asked, "turned timed_out", deprovision, "retry #2", deprovision, release, free, "tenant.reject timed_out at provision", "ended failed timed_out")},
		"withdrawn":              {then(provisioning, withdrawn, ok, three), then4(asked, "turned withdrawn choose plane", release, "plane.reserve p3")},
		"leaving at the slug":    {then(begin, leave, ok, ok), []string{slug, "turned aborted", free, "tenant.reject aborted at ", "ended failed aborted"}},
		"leaving when reserving": {then(reserving, leave, ok, ok, ok), []string{slug, reserve, "turned aborted", release, free, "tenant.reject aborted at ", "ended failed aborted"}},
		"leaving when placing":   {then(placing, leave, ok, ok, ok), []string{slug, reserve, place, "turned aborted", release, free, "tenant.reject aborted at ", "ended failed aborted"}},
		"leaving when made":      {then(provisioning, leave, ok, done, ok, ok, ok), then4(asked, "turned aborted", deprovision, release, free, "tenant.reject aborted at ", "ended failed aborted")},
		"leaving, not accepted":  {then(asking, leave, ok, done, ok, ok, ok), then4(asked, "turned aborted", deprovision, release, free, "tenant.reject aborted at ", "ended failed aborted")},
		"leaving in attention":   {then(provisioning, fails("bug", "boom"), leave, ok, done, ok, ok, ok), then4(asked, "attention boom", "turned aborted", deprovision, release, free, "tenant.reject aborted at ", "ended failed aborted")},
		"leaving before a retry": {then(provisioning, fails("transient", "busy"), leave, ok, done, ok, ok, ok), then4(asked, "retry #2", "turned aborted", deprovision, release, free, "tenant.reject aborted at ", "ended failed aborted")},
		"leaving on another way": {then(provisioning, fails("quota", "disk"), leave, ok, done, ok, ok, ok), then4(asked, "turned disk choose plane", deprovision, "turned aborted", release, free, "tenant.reject aborted at ", "ended failed aborted")},
		"leaving at the end": {then(provisioning, done, leave, no(domain.CodeNotAllowed), ok, done, ok, ok, ok),
			then4(asked, "tenant.activate", "turned not_allowed", deprovision, release, free, "tenant.reject not_allowed at succeeded", "ended failed not_allowed")},
		"leaving too late": {then(provisioning, done, leave, ok), then4(asked, "tenant.activate", "ended succeeded")},
	} {
		t.Run(name, func(t *testing.T) {
			file := strings.NewReplacer(" ", "-", ",", "").Replace(name)
			if d := cmp.Diff(tc.then, play(t, file, tc.when...)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
	sagastest.ReplayGolden(t, registry, "testdata", definition)
}

func then4(before []string, more ...string) []string {
	return append(append([]string(nil), before...), more...)
}

func TestWhoIsChosen(t *testing.T) {
	with := func(id string, change func(*Candidate)) Candidate {
		c := candidate(id, 9)
		change(&c)
		return c
	}
	fits := candidate("p9", 1)
	for name, tc := range map[string]struct {
		plan   Plan
		planes []Candidate
		past   []sagas.Past
		want   string
		code   domain.Code
	}{
		"nobody":                 {code: domain.CodeNotFound},
		"nobody in the region":   {plan: Plan{Region: "us"}, planes: []Candidate{fits}, code: domain.CodeNotFound},
		"in the region":          {plan: Plan{Region: "us"}, planes: []Candidate{with("p1", func(c *Candidate) { c.Region = "us" }), candidate("p2", 10)}, want: "p1"},
		"any region":             {planes: []Candidate{fits}, want: "p9"},
		"another isolation":      {planes: []Candidate{with("p1", func(c *Candidate) { c.Isolations = []string{"silo", "bridge"} })}, code: domain.CodeNotFound},
		"its isolation":          {planes: []Candidate{with("p1", func(c *Candidate) { c.Isolations = []string{"silo"} }), fits}, want: "p9"},
		"cordoned":               {planes: []Candidate{with("p1", func(c *Candidate) { c.Cordoned = true }), fits}, want: "p9"},
		"only cordoned":          {planes: []Candidate{with("p1", func(c *Candidate) { c.Cordoned = true })}, code: domain.CodeNotFound},
		"offline":                {planes: []Candidate{with("p1", func(c *Candidate) { c.Online = false }), fits}, want: "p9"},
		"full":                   {planes: []Candidate{candidate("p1", 0)}, code: domain.CodeCapacityExhausted},
		"one of them full":       {planes: []Candidate{candidate("p1", 0), fits}, want: "p9"},
		"the last slot":          {planes: []Candidate{fits}, want: "p9"},
		"a unit that it lacks":   {plan: Plan{Offer: tenant.Offer{Cost: domain.Units{"gpus": 1}}}, planes: []Candidate{fits}, code: domain.CodeCapacityExhausted},
		"nothing of a unit":      {plan: Plan{Offer: tenant.Offer{Cost: domain.Units{"gpus": 0}}}, planes: []Candidate{fits}, want: "p9"},
		"refused before":         {planes: []Candidate{candidate("p1", 9), fits}, past: []sagas.Past{past("p1", "capacity_exhausted")}, want: "p9"},
		"refused by all":         {planes: []Candidate{fits}, past: []sagas.Past{past("p1", "not_allowed"), past("p9", "disk")}, code: "disk"},
		"refused, the rest full": {planes: []Candidate{candidate("p1", 0), fits}, past: []sagas.Past{past("p9", "disk")}, code: "disk"},
	} {
		t.Run(name, func(t *testing.T) {
			p := tc.plan
			p.Tenant, p.Offer.Isolation = ten, "pool"
			if p.Offer.Cost == nil {
				p.Offer.Cost = domain.Units{"slots": 1}
			}
			c, err := choose(p, tc.planes, tc.past)
			if domain.CodeOf(err) != tc.code || c.Plan.Plane != tc.want {
				t.Errorf("%q, %v", c.Plan.Plane, err)
			}
		})
	}
}

func past(id, code string) sagas.Past {
	b, _ := json.Marshal(chosen{id, 1})
	return sagas.Past{Chosen: b, Step: "reserve capacity", Code: code}
}

func TestTenantsAreSpreadOverTheBestThree(t *testing.T) {
	planes := []Candidate{candidate("p0", 2), candidate("p1", 9), candidate("p2", 5), candidate("p3", 8), candidate("p4", 7), candidate("p5", 1)}
	turned := []Candidate{planes[5], planes[3], planes[0], planes[4], planes[2], planes[1]}
	counts := map[string]int{}
	for n := range 3000 {
		p := Plan{Tenant: domain.ID(domain.TenantID, domain.DeriveUUID(fmt.Sprint(n))), Offer: tenant.Offer{Isolation: "pool", Cost: domain.Units{"slots": 1}}}
		c, err := choose(p, planes, nil)
		if err != nil {
			t.Fatal(err)
		}
		again, _ := choose(p, turned, nil)
		if c.Plan.Plane != again.Plan.Plane {
			t.Fatalf("%s then %s: the order of the snapshot decides", c.Plan.Plane, again.Plan.Plane)
		}
		counts[c.Plan.Plane]++
	}
	if len(counts) != 3 || min(counts["p1"], counts["p3"], counts["p4"]) < 900 {
		t.Errorf("spread as %v", counts)
	}
}

func TestTheScarcestUnitDecides(t *testing.T) {
	wide := Candidate{ID: "wide", Online: true, Isolations: []string{"pool"}, Capacity: domain.Units{"slots": 100, "gb": 100}, Free: domain.Units{"slots": 100, "gb": 3}}
	if got := room(wide, domain.Units{"slots": 1, "gb": 2}); got != 10 {
		t.Errorf("%d thousandths", got)
	}
	if got := room(wide, domain.Units{"gb": 4}); got >= 0 {
		t.Errorf("%d thousandths of what is not there", got)
	}
}
