// Package tenant is the rulebook of one tenant: requested, made on a plane, active or suspended, and removed.
//
// Two things move side by side. A change (onboarding, offboarding) takes the tenant's one change slot, and its saga's last
// command frees it. Suspension is a level: a set of causes with a revision of its own; the phase follows only what the
// plane has confirmed of the latest time that the set became empty or stopped being so.
package tenant

import (
	"cmp"
	"slices"

	"github.com/tenure-dev/tenure/domain"
)

// Phase is where a tenant stands in its life.
type Phase string

// The phases.
const (
	Absent     Phase = ""
	Waiting    Phase = "requested"
	Making     Phase = "provisioning"
	Active     Phase = "active"
	OnHold     Phase = "suspended"
	Leaving    Phase = "offboarding"
	Gone       Phase = "deleted"
	TurnedAway Phase = "rejected"
)

// The names of the sagas that a tenant's events start.
const (
	Onboarding  = "onboarding"
	Suspension  = "suspension"
	Resumption  = "resumption"
	Offboarding = "offboarding"
)

// Slot is the tenant's one running change.
type Slot struct {
	Change int64  // number, counted from 1
	Saga   string // sag_…
	Name   string // of the saga
}

// State is what a tenant's decisions rest on.
type State struct {
	Phase  Phase
	Org    string
	Slug   string
	Plane  string // empty until placed
	Offer  Offer
	Slot   Slot  // zero while no change runs
	Change int64 // the last change's number

	Causes   []Cause // sorted; never mutated in place
	Revision int64   // of the causes
	Level    int64   // the causes' revision when the set last became empty or stopped being so

	LeavingWanted bool // offboarding waits for the running change to end
}

// Lifecycle is the specification: which command is heard in which phase.
var Lifecycle = domain.Decider[Phase, State, Event]{
	Phase:  func(s State) Phase { return s.Phase },
	Phases: []Phase{Absent, Waiting, Making, Active, OnHold, Leaving, Gone, TurnedAway},
	Evolve: evolve,
	Rules: []rule{
		on(request, Absent),
		on(place, Waiting, Making),
		on(activate, Making).QuietIn(Active, OnHold),
		on(reject, Waiting, Making).QuietIn(TurnedAway, Gone),
		on(suspend, Waiting, Making, Active, OnHold, Leaving),
		on(resume, Waiting, Making, Active, OnHold, Leaving),
		on(confirmSuspended, Active, OnHold).QuietIn(Leaving, Gone),
		on(confirmResumed, Active, OnHold).QuietIn(Leaving, Gone),
		on(offboard, Waiting, Making, Active, OnHold).QuietIn(Leaving),
		on(remove, Leaving).QuietIn(Gone),
	},
}

// Events is the wire contract of what happened.
var Events = domain.Catalog{
	fact[Requested]("tenant.requested"),
	fact[Placed]("tenant.placed"),
	fact[Activated]("tenant.activated"),
	fact[Rejected]("tenant.rejected"),
	fact[CauseAdded]("tenant.suspension.cause.added"),
	fact[CauseCleared]("tenant.suspension.cause.cleared"),
	fact[SuspensionDue]("tenant.suspension.due"),
	fact[ResumptionDue]("tenant.resumption.due"),
	fact[Suspended]("tenant.suspended"),
	fact[Resumed]("tenant.resumed"),
	fact[OffboardingRequested]("tenant.offboarding.requested"),
	fact[OffboardingStarted]("tenant.offboarding.started"),
	fact[Deleted]("tenant.deleted"),
	fact[Noted]("tenant.noted"),
}

// Commands is the wire contract of what can be asked.
var Commands = domain.Catalog{
	domain.Fact[Request]("tenant.request"),
	domain.Fact[Place]("tenant.place"),
	domain.Fact[Activate]("tenant.activate"),
	domain.Fact[Reject]("tenant.reject"),
	domain.Fact[Suspend]("tenant.suspend"),
	domain.Fact[Resume]("tenant.resume"),
	domain.Fact[ConfirmSuspended]("tenant.confirmSuspended"),
	domain.Fact[ConfirmResumed]("tenant.confirmResumed"),
	domain.Fact[Offboard]("tenant.offboard"),
	domain.Fact[Delete]("tenant.delete"),
}

// Aggregate is the tenant as the Bus holds it.
var Aggregate = Lifecycle.Aggregate("tenant", Events, Commands, Noted{}, func(s State, id string) (string, string) { return s.Org, id })

func request(_ State, c Request) ([]Event, error) {
	switch {
	case !c.Org.Exists:
		return nil, domain.NotFound("orgId", "names no org")
	case !c.Tier.Exists:
		return nil, domain.NotFound("tierKey", "names no tier")
	case c.Tier.Deprecated:
		return nil, domain.Invalid("tierKey", "names a deprecated tier, which takes no new tenants")
	case c.SlugOwner.Holder != "":
		return nil, &domain.Error{Code: domain.CodeAlreadyExists, Field: "slug", Message: "is taken in this org"}
	case c.Placement.NoRegion:
		return nil, domain.NotFound("region", "has no data plane")
	case c.Placement.Full:
		return nil, &domain.Error{Code: domain.CodeCapacityExhausted, Field: "tierKey", Message: "needs more room than any data plane that fits has left"}
	}
	events := []Event{Requested{Org: c.OrgID, Slug: c.Slug, Name: cmp.Or(c.Name, c.Slug), Region: c.Region,
		Offer: c.Tier.Offer, Change: 1, Saga: sagaOf(Onboarding, c.Given, 0)}}
	if c.Org.Suspended { // a tenant that enters a suspended org takes on its cause
		events = append(events, CauseAdded{Cause: Cause{"org", c.OrgID}, Revision: 1})
	}
	return events, nil
}

func place(s State, c Place) ([]Event, error) {
	if err := s.running(c.Change); err != nil {
		return nil, err
	}
	if s.Plane == c.PlaneID {
		return nil, nil
	}
	return []Event{Placed{c.PlaneID}}, nil
}

// activate ends the onboarding. The plane was told of the causes as they were when it made the tenant; if the tenant should
// be otherwise by now, the saga that brings it about starts here.
func activate(s State, c Activate) ([]Event, error) {
	if err := s.running(c.Change); err != nil {
		return nil, err
	}
	if s.LeavingWanted { // the onboarding turns back
		return nil, domain.NotAllowed("activate", "waiting to be offboarded")
	}
	events := []Event{Activated{Change: c.Change, Suspended: c.Suspended}}
	if c.Suspended != (len(s.Causes) > 0) {
		events = append(events, s.due(c.Given, len(events)))
	}
	return events, nil
}

func reject(s State, c Reject) ([]Event, error) {
	if err := s.running(c.Change); err != nil {
		return nil, err
	}
	if s.LeavingWanted { // all has been undone, so nothing is left to remove
		return []Event{Deleted{c.Change}}, nil
	}
	return []Event{Rejected{c.Change, c.Code, c.Step}}, nil
}

func suspend(s State, c Suspend) ([]Event, error) {
	cause := c.Cause
	if cause == (Cause{}) {
		cause = Manual
	}
	if slices.Contains(s.Causes, cause) {
		return nil, nil
	}
	if len(s.Causes) >= 100 {
		return nil, &domain.Error{Code: domain.CodeQuotaExceeded, Field: "cause", Message: "would be one of more than 100"}
	}
	events := []Event{CauseAdded{cause, s.Revision + 1, c.Reason}}
	return s.level(events, c.Given), nil
}

func resume(s State, c Resume) ([]Event, error) {
	cause := c.Cause
	if cause == (Cause{}) {
		cause = Manual
	}
	if !slices.Contains(s.Causes, cause) {
		if len(s.Causes) > 0 {
			return nil, domain.NotFound("cause", "is not one of those for which the tenant is suspended")
		}
		return nil, nil
	}
	events := []Event{CauseCleared{cause, s.Revision + 1, c.Reason}}
	return s.level(events, c.Given), nil
}

// level adds the start of a saga if the events change the set of causes between empty and not empty while the tenant is
// on its plane for good. Before that the onboarding's end looks at the causes; after it nobody does.
func (s State) level(events []Event, g domain.Given) []Event {
	next := s
	for _, e := range events {
		next = evolve(next, e)
	}
	settled := s.Phase == Active || s.Phase == OnHold
	if settled && next.Level != s.Level {
		events = append(events, next.due(g, len(events)))
	}
	return events
}

// due is the event that starts the saga which brings the tenant's causes to its plane.
func (s State) due(g domain.Given, index int) Event {
	if len(s.Causes) > 0 {
		return SuspensionDue{s.Level, s.Plane, s.Org, sagaOf(Suspension, g, index)}
	}
	return ResumptionDue{s.Level, s.Plane, s.Org, sagaOf(Resumption, g, index)}
}

func confirmSuspended(s State, c ConfirmSuspended) ([]Event, error) {
	if c.Revision != s.Level || len(s.Causes) == 0 || s.Phase == OnHold { // the causes have changed since, or it is so already
		return nil, nil
	}
	return []Event{Suspended{c.Revision}}, nil
}

func confirmResumed(s State, c ConfirmResumed) ([]Event, error) {
	if c.Revision != s.Level || len(s.Causes) > 0 || s.Phase == Active {
		return nil, nil
	}
	return []Event{Resumed{c.Revision}}, nil
}

func offboard(s State, c Offboard) ([]Event, error) {
	if s.LeavingWanted {
		return nil, nil
	}
	asked := OffboardingRequested{Reason: c.Reason, TurnsBack: s.Slot.Saga}
	if s.Slot != (Slot{}) {
		return []Event{asked}, nil
	}
	return []Event{asked, OffboardingStarted{Org: s.Org, Slug: s.Slug, Plane: s.Plane, Offer: s.Offer,
		Change: s.Change + 1, Saga: sagaOf(Offboarding, c.Given, 1)}}, nil
}

func remove(s State, c Delete) ([]Event, error) {
	if err := s.running(c.Change); err != nil {
		return nil, err
	}
	return []Event{Deleted{c.Change}}, nil
}

// running refuses the command of a saga that is not the tenant's running change.
func (s State) running(change int64) error {
	if s.Slot.Change != change {
		return &domain.Error{Code: domain.CodeStale, Field: "change", Message: "is not the tenant's running one"}
	}
	return nil
}

func sagaOf(name string, g domain.Given, index int) string {
	return domain.SagaIDFor(name, domain.EventID(g.CommandID, g.Stream, index))
}

func evolve(s State, e Event) State {
	switch e := e.(type) {
	case Requested:
		return State{Phase: Waiting, Org: e.Org, Slug: e.Slug, Offer: e.Offer, Change: e.Change, Slot: Slot{e.Change, e.Saga, Onboarding}}
	case Placed:
		s.Phase, s.Plane = Making, e.Plane
	case Activated:
		s.Phase, s.Slot = Active, Slot{}
		if e.Suspended {
			s.Phase = OnHold
		}
	case Rejected:
		s.Phase, s.Slot = TurnedAway, Slot{}
	case CauseAdded:
		if len(s.Causes) == 0 {
			s.Level = e.Revision
		}
		s.Causes, s.Revision = with(s.Causes, e.Cause), e.Revision
	case CauseCleared:
		s.Causes, s.Revision = without(s.Causes, e.Cause), e.Revision
		if len(s.Causes) == 0 {
			s.Level = e.Revision
		}
	case SuspensionDue, ResumptionDue:
	case Suspended:
		s.Phase = OnHold
	case Resumed:
		s.Phase = Active
	case OffboardingRequested:
		s.LeavingWanted = true
	case OffboardingStarted:
		s.Phase, s.Change, s.Slot = Leaving, e.Change, Slot{e.Change, e.Saga, Offboarding}
	case Deleted:
		s.Phase, s.Slot = Gone, Slot{}
	case Noted:
	}
	return s
}

func with(causes []Cause, c Cause) []Cause {
	if slices.Contains(causes, c) {
		return causes
	}
	next := append(slices.Clone(causes), c)
	slices.SortFunc(next, func(a, b Cause) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Reference, b.Reference))
	})
	return next
}

func without(causes []Cause, c Cause) []Cause {
	return slices.DeleteFunc(slices.Clone(causes), func(other Cause) bool { return other == c })
}
