package plane_test

import (
	"testing"

	"github.com/tenure-dev/tenure/domain"
	. "github.com/tenure-dev/tenure/domain/domaintest"
	"github.com/tenure-dev/tenure/domain/plane"
)

// TestOddWords has the rows of what no well-behaved sender says, but a late copy of a command might.
func TestOddWords(t *testing.T) {
	byTwo := later(1, 1, plane.Provision, func(d *plane.Desired) { d.Change = 2 })
	failed := plane.OperationFailed{Outcome: outcome(provision), Attempts: 5, Class: "transient", Code: "busy"}
	for name, c := range map[string]Case{
		"nothing is answered before the first session":      open.When(report(0, 1, "done")).Refused(domain.CodeStale, "session", noSession),
		"nothing is unclaimed before the first session":     open.When(unclaimed(0, one)).Refused(domain.CodeStale, "session", noSession),
		"an older change does not make a later one its own": online.And(reserved, byTwo).When(ask(4, plane.Provision, 1, 0)).Refused(domain.CodeStale, "change", shut),
		"a failed attempt asked again is quiet":             making.And(failed).When(ask(1, plane.Provision, 1, 0)).Nothing(),
		"the next attempt has another id":                   making.And(failed).When(ask(4, plane.Provision, 1, 0)).Then(later(4, 2, plane.Provision, func(*plane.Desired) {})),
	} {
		t.Run(name, func(t *testing.T) { c.Check(t, plane.Aggregate) })
	}
}

// TestWhatAResyncIsMadeOf follows two tenants: open operations stand in the order of asking, and a confirmed removal alone
// takes a tenant out of what is desired.
func TestWhatAResyncIsMadeOf(t *testing.T) {
	other := ask(5, plane.Suspend, 0, 1)
	other.TenantID = two
	s, _ := Live(t, plane.Aggregate, hushing.And(plane.CapacityReserved{Tenant: two, Org: org, Change: 1, Cost: cost},
		plane.OperationAsked{Operation: op(6), Order: 3, Kind: plane.Provision, Tenant: two, Desired: desired}),
		other, ask(3, plane.Deprovision, 2, 0), report(1, 6, "failed"))
	state := s.(plane.State)
	var open []string
	for _, o := range state.Open() {
		open = append(open, string(o.Kind))
	}
	if diff := Diff([]string{"suspend", "suspend", "deprovision"}, open); diff != "" {
		t.Errorf("open (-want +got):\n%s", diff)
	}
	if diff := Diff([]string{one, two}, state.Tenants.Keys()); diff != "" {
		t.Errorf("desired (-want +got):\n%s", diff)
	}
	s, _ = Live(t, plane.Aggregate, Given(), everything)
	if n := len(s.(plane.State).Open()); n != 0 {
		t.Errorf("a new plane owes %d operations", n)
	}
}
