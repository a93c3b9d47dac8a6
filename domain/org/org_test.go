package org_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tenure-dev/tenure/domain"
	. "github.com/tenure-dev/tenure/domain/domaintest"
	"github.com/tenure-dev/tenure/domain/org"
)

const (
	id     = "org_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	parent = "org_baaaaaaaaaaaaaaaaaaaaaaaaa"
)

var (
	because    = domain.Sealed{Subject: id, Key: "k1", Text: []byte("cipher")}
	registered = org.Registered{Name: "Acme", Slug: "acme"}
	suspended  = org.Suspended{Reason: because}
	resumed    = org.Resumed{Reason: because}
)

var spec = Spec{
	Aggregate: org.Aggregate,
	Reach: map[string][]any{
		"active":    {registered},
		"suspended": {registered, suspended},
	},
	Examples: []any{
		org.Registered{Name: "Acme", Slug: "acme", Parent: parent}, org.Renamed{Name: "Acme & Sons"}, suspended, resumed, org.Noted{},
		org.Register{OrgID: id, Name: "Acme", Slug: "acme", ParentID: parent}, org.Rename{OrgID: id, Name: "Acme & Sons"},
		org.Suspend{OrgID: id, Reason: because}, org.Resume{OrgID: id, Reason: because},
	},
	AlwaysChanges: map[string]string{"register": "it is heard only where there is nothing"},
	Cases: map[string]Case{
		"an org is registered": Given().When(org.Register{OrgID: id, Name: "Acme", Slug: "acme"}).
			Then(org.Registered{Name: "Acme", Slug: "acme"}),
		"an org without a name is called by its slug": Given().When(org.Register{Slug: "acme"}).
			Then(org.Registered{Name: "acme", Slug: "acme"}),
		"an org may do without a slug": Given().When(org.Register{Name: "Acme"}).
			Then(org.Registered{Name: "Acme"}),
		"an org may be a part of another": Given().When(org.Register{Name: "Acme", ParentID: parent, Parent: org.ParentFact{Exists: true}}).
			Then(org.Registered{Name: "Acme", Parent: parent}),
		"a parent that is not there is refused": Given().When(org.Register{Name: "Acme", ParentID: parent}).
			Refused(domain.CodeNotFound, "parentId", "names no org"),
		"an org is registered once": Given(registered).When(org.Register{Name: "Acme"}).
			NotAllowed("register", "active", "absent"),

		"an org is renamed":                    Given(registered).When(org.Rename{Name: "B"}).Then(org.Renamed{Name: "B"}),
		"renaming to the same changes nothing": Given(registered).When(org.Rename{Name: "Acme"}).Nothing(),
		"the last name counts":                 Given(registered, org.Renamed{Name: "B"}).When(org.Rename{Name: "Acme"}).Then(org.Renamed{Name: "Acme"}),
		"a suspended org is renamed too":       Given(registered, suspended).When(org.Rename{Name: "B"}).Then(org.Renamed{Name: "B"}),

		"an active org is suspended":                Given(registered).When(org.Suspend{Reason: because}).Then(suspended),
		"suspending once more changes nothing":      Given(registered, suspended).When(org.Suspend{Reason: because}).Nothing(),
		"a suspended org is resumed":                Given(registered, suspended).When(org.Resume{Reason: because}).Then(resumed),
		"resuming what is active changes nothing":   Given(registered).When(org.Resume{}).Nothing(),
		"a resumed org can be suspended again":      Given(registered, suspended, resumed).When(org.Suspend{}).Then(org.Suspended{}),
		"an org that is not there is not resumed":   Given().When(org.Resume{}).NotAllowed("resume", "absent", "suspended"),
		"an org that is not there is not suspended": Given().When(org.Suspend{}).NotAllowed("suspend", "absent", "active"),
	},
}

func TestSpecification(t *testing.T) { spec.Run(t) }

func TestInputIsRefusedByItsField(t *testing.T) {
	long, secret := strings.Repeat("n", 201), domain.Clear(strings.Repeat("r", 2001))
	CheckInputs(t, map[string]Input{
		"neither name nor slug":    Bad("name", org.Register{}),
		"name alone":               Good(org.Register{Name: "Acme"}),
		"slug alone":               Good(org.Register{Slug: "acme"}),
		"odd slug":                 Bad("slug", org.Register{Slug: "Acme"}),
		"long name":                Bad("name", org.Register{Name: long}),
		"name of 200 bytes":        Good(org.Register{Name: long[1:]}),
		"NUL in a name":            Bad("name", org.Register{Name: "a\x00"}),
		"name not UTF-8":           Bad("name", org.Rename{OrgID: id, Name: "\xff"}),
		"odd parent":               Bad("parentId", org.Register{Name: "Acme", ParentID: "ten_aaaaaaaaaaaaaaaaaaaaaaaaaa"}),
		"parent":                   Good(org.Register{Name: "Acme", ParentID: parent}),
		"rename":                   Good(org.Rename{OrgID: id, Name: "Acme"}),
		"rename to nothing":        Bad("name", org.Rename{OrgID: id}),
		"rename of nothing":        Bad("orgId", org.Rename{Name: "Acme"}),
		"suspend":                  Good(org.Suspend{OrgID: id, Reason: domain.Clear("unpaid\nsince May")}),
		"suspend without a reason": Good(org.Suspend{OrgID: id}),
		"suspend nothing":          Bad("orgId", org.Suspend{}),
		"suspend at length":        Bad("reason", org.Suspend{OrgID: id, Reason: secret}),
		"resume":                   Good(org.Resume{OrgID: id}),
		"resume another thing":     Bad("orgId", org.Resume{OrgID: "pln_aaaaaaaaaaaaaaaaaaaaaaaaaa"}),
		"resume at length":         Bad("reason", org.Resume{OrgID: id, Reason: secret}),
	})
}

func TestAnOrgsEventsAreItsOwn(t *testing.T) {
	if o, ten := org.Aggregate.Owner(org.State{}, id); o != id || ten != "" {
		t.Errorf("owner is %q, %q", o, ten)
	}
	CheckCreator(t, &org.Register{}, "org")
	CheckTargets(t, spec, id)
}

func TestAnyOrderOfCommandsKeepsAnOrgWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"a", "b", "c"})
		Walk(t, org.Aggregate, 30, func(t *rapid.T, _ any) any {
			return rapid.OneOf(
				rapid.Map(name, func(n string) any { return org.Register{Name: n, Slug: "acme"} }),
				rapid.Map(name, func(n string) any { return org.Rename{Name: n} }),
				rapid.Just[any](org.Suspend{Reason: because}),
				rapid.Just[any](org.Resume{Reason: because}),
			).Draw(t, "command")
		}, func(s Step) {
			before, after := s.Before.(org.State), s.After.(org.State)
			if before.Phase != org.Absent && (after.Phase == org.Absent || after.Slug != before.Slug || after.Name == "") {
				t.Fatalf("%#v led from %+v to %+v", s.Command, before, after)
			}
			if len(s.Events) > 1 {
				t.Fatalf("%#v led to %d events", s.Command, len(s.Events))
			}
		})
	})
}
