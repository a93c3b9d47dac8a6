package tenant_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	. "github.com/tenure-dev/tenure/domain/domaintest"
	"github.com/tenure-dev/tenure/domain/tenant"
)

// TestLives tells longer stories: several sagas' words in odd orders, and where the tenant ends up.
func TestLives(t *testing.T) {
	manual := tenant.Cause{}
	for name, life := range map[string]struct {
		given    Case
		commands []any
		phase    tenant.Phase
		causes   []tenant.Cause
		level    int64
	}{
		"two causes are cleared one by one, and the plane confirms each level": {active,
			[]any{suspend(unpaid), confirmSuspended(1), suspend(manual), resume(unpaid), resume(manual), confirmResumed(4)},
			tenant.Active, nil, 4},
		"a tenant with one of two causes left stays suspended": {active,
			[]any{suspend(unpaid), suspend(manual), confirmSuspended(1), resume(manual)},
			tenant.OnHold, []tenant.Cause{unpaid}, 1},
		"suspended and resumed before the plane spoke; it speaks in order": {active,
			[]any{suspend(unpaid), resume(unpaid), confirmSuspended(1), confirmResumed(2)}, tenant.Active, nil, 2},
		"suspended and resumed before the plane spoke; it speaks out of order": {active,
			[]any{suspend(unpaid), resume(unpaid), confirmResumed(2), confirmSuspended(1)}, tenant.Active, nil, 2},
		"suspended, resumed, suspended; the last word of the plane is an old one": {active,
			[]any{suspend(unpaid), resume(unpaid), suspend(unpaid), confirmSuspended(3), confirmResumed(2), confirmSuspended(1)},
			tenant.OnHold, []tenant.Cause{unpaid}, 3},
		"resumed, suspended, resumed; the last word of the plane is an old one": {suspended,
			[]any{resume(unpaid), suspend(unpaid), resume(unpaid), confirmResumed(4), confirmSuspended(3), confirmResumed(2)},
			tenant.Active, nil, 4},
		"suspended while it is made, by a plane that knew": {waiting,
			[]any{suspend(unpaid), place(1, planeA), activate(1, true)}, tenant.OnHold, []tenant.Cause{unpaid}, 1},
		"suspended while it is made, by a plane that did not know": {waiting,
			[]any{place(1, planeA), suspend(unpaid), activate(1, false), confirmSuspended(1)}, tenant.OnHold, []tenant.Cause{unpaid}, 1},
		"suspended and resumed while it is made, by a plane that knew the first only": {making,
			[]any{suspend(unpaid), resume(unpaid), activate(1, true), confirmResumed(2)}, tenant.Active, nil, 2},
		"born in a suspended org, and let in by the org's name alone": {Given(requested, tenant.CauseAdded{Cause: held, Revision: 1}),
			[]any{place(1, planeA), activate(1, true), suspend(manual), resume(manual), resume(held), confirmResumed(4)}, tenant.Active, nil, 4},
		"offboarded while it is made": {waiting,
			[]any{place(1, planeA), offboard, reject(1), reject(1)}, tenant.Gone, nil, 0},
		"offboarded while a suspension is on its way": {active,
			[]any{suspend(unpaid), offboard, confirmSuspended(1), resume(unpaid), confirmResumed(2), remove(2), confirmResumed(2)}, tenant.Gone, nil, 2},
		"every saga's last command comes twice": {waiting,
			[]any{place(1, planeA), activate(1, false), activate(1, false), suspend(unpaid), confirmSuspended(1), confirmSuspended(1),
				offboard, remove(2), remove(2)}, tenant.Gone, []tenant.Cause{unpaid}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			end, _ := Live(t, tenant.Aggregate, life.given, life.commands...)
			s := end.(tenant.State)
			if s.Phase != life.phase || s.Level != life.level || Diff(life.causes, s.Causes) != "" {
				t.Errorf("ends %s at level %d with causes %v; want %s at %d with %v", s.Phase, s.Level, s.Causes, life.phase, life.level, life.causes)
			}
		})
	}
}

// TestAConfirmationMustSayWhatTheCausesSay: a revision alone does not suspend a tenant without causes, nor let in one with.
func TestAConfirmationMustSayWhatTheCausesSay(t *testing.T) {
	active.When(confirmSuspended(0)).Nothing().Check(t, tenant.Aggregate)
	unpaying.And(cleared(unpaid, 2), resumptionDue(2, 1)).When(confirmSuspended(2)).Nothing().Check(t, tenant.Aggregate)
	suspended.When(confirmResumed(1)).Nothing().Check(t, tenant.Aggregate)
}

func TestAnyOrderOfCommandsKeepsATenantWhole(t *testing.T) {
	living := []tenant.Phase{tenant.Waiting, tenant.Making, tenant.Leaving}
	over := []tenant.Phase{tenant.Gone, tenant.TurnedAway}
	rapid.Check(t, func(t *rapid.T) {
		var due any // the last event that started a saga of the causes
		Walk(t, tenant.Aggregate, 40, draw, func(step Step) {
			before, after := step.Before.(tenant.State), step.After.(tenant.State)
			fail := func(why string) {
				t.Helper()
				t.Fatalf("%s\n%#v led to %#v\nfrom %+v\nto   %+v", why, step.Command, step.Events, before, after)
			}
			for _, e := range step.Events {
				switch e := e.(type) {
				case tenant.SuspensionDue:
					if due = e; len(after.Causes) == 0 || e.Revision != after.Level || e.Plane == "" {
						fail("a suspension without causes, of another level, or nowhere")
					}
				case tenant.ResumptionDue:
					if due = e; len(after.Causes) > 0 || e.Revision != after.Level || e.Plane == "" {
						fail("a resumption with causes, of another level, or nowhere")
					}
				case tenant.Activated, tenant.Rejected:
					if before.LeavingWanted {
						fail("a tenant that shall go came to stay")
					}
				}
			}
			if (after.Slot != tenant.Slot{}) != slices.Contains(living, after.Phase) {
				fail("the change slot is taken while a change runs, and only then")
			}
			if after.Slot != (tenant.Slot{}) && after.Slot.Change != after.Change || after.Change < before.Change || after.Change > before.Change+1 {
				fail("changes count up by one, and the slot has the last")
			}
			if before.Slot != (tenant.Slot{}) && after.Slot != (tenant.Slot{}) && before.Slot != after.Slot {
				fail("a change took the slot of another")
			}
			if flipped := (len(before.Causes) > 0) != (len(after.Causes) > 0); flipped != (before.Level != after.Level) {
				fail("the level moves when the causes begin or end, and only then")
			}
			if moved := len(before.Causes) != len(after.Causes); moved != (after.Revision == before.Revision+1) || !moved && after.Revision != before.Revision {
				fail("the revision counts every change of the causes")
			}
			if after.Level > after.Revision || after.Level < before.Level {
				fail("the level is the revision at some time")
			}
			if !slices.IsSortedFunc(after.Causes, func(a, b tenant.Cause) int {
				return slices.Compare([]string{a.Kind, a.Reference}, []string{b.Kind, b.Reference})
			}) ||
				len(slices.Compact(slices.Clone(after.Causes))) != len(after.Causes) {
				fail("the causes are a sorted set")
			}
			switch after.Phase {
			case tenant.OnHold:
				if d, on := due.(tenant.ResumptionDue); len(after.Causes) == 0 && (!on || d.Revision != after.Level) {
					fail("suspended without a cause, and nobody is on the way to let it in")
				}
			case tenant.Active:
				if d, on := due.(tenant.SuspensionDue); len(after.Causes) > 0 && (!on || d.Revision != after.Level) {
					fail("active with a cause, and nobody is on the way to suspend it")
				}
			}
			if before.Phase != tenant.Absent && (after.Org != before.Org || after.Slug != before.Slug) {
				fail("a tenant keeps its org and slug")
			}
			if slices.Contains(over, before.Phase) && len(step.Events) > 0 {
				fail("something happened after the end")
			}
			if before.LeavingWanted && !after.LeavingWanted {
				fail("the wish to go was forgotten")
			}
		})
	})
}

// draw gives a command: mostly one that the running sagas would send, sometimes a late or odd one.
func draw(t *rapid.T, state any) any {
	s := state.(tenant.State)
	number := func(right int64) int64 {
		if rapid.IntRange(0, 4).Draw(t, "odd") == 0 {
			return rapid.Int64Range(0, 5).Draw(t, "number")
		}
		return right
	}
	cause := rapid.SampledFrom([]tenant.Cause{{}, unpaid, held, tenant.Manual}).Draw(t, "cause")
	plane := rapid.SampledFrom([]string{planeA, planeB}).Draw(t, "plane")
	yes := rapid.Bool().Draw(t, "suspended")
	switch rapid.IntRange(0, 13).Draw(t, "command") {
	case 0:
		return request(func(c *tenant.Request) { c.Org.Suspended = yes })
	case 1, 2:
		return place(number(s.Slot.Change), plane)
	case 3:
		return activate(number(s.Slot.Change), yes)
	case 4:
		return reject(number(s.Slot.Change))
	case 5, 6:
		return suspend(cause)
	case 7, 8:
		return resume(cause)
	case 9, 10:
		return confirmSuspended(number(s.Level))
	case 11:
		return confirmResumed(number(s.Level))
	case 12:
		return offboard
	default:
		return remove(number(s.Slot.Change))
	}
}
