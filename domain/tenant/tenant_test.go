package tenant_test

import (
	"strings"
	"testing"

	"github.com/tenure-dev/tenure/domain"
	. "github.com/tenure-dev/tenure/domain/domaintest"
	"github.com/tenure-dev/tenure/domain/tenant"
)

const (
	id     = "ten_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	org    = "org_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	planeA = "pln_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	planeB = "pln_baaaaaaaaaaaaaaaaaaaaaaaaa"
)

// given is what the Bus filled into the commands that the rows look at.
var given = domain.Given{CommandID: "5485b0c6-b5a6-5a6e-bf0c-f1112ee011ea", Stream: "tenant-" + id}

// saga is the id of the saga of that name which the command's index-th event starts.
func saga(name string, index int) string {
	return domain.SagaIDFor(name, domain.EventID(given.CommandID, given.Stream, index))
}

var (
	because = domain.Sealed{Subject: org, Key: "k1", Text: []byte("cipher")}
	offer   = tenant.Offer{Key: "premium", Version: 2, Isolation: "silo", Limits: domain.Units{"connections": 50}, Cost: domain.Units{"slots": 4}}
	unpaid  = tenant.Cause{Kind: "billing", Reference: "inv-7"}
	held    = tenant.Cause{Kind: "org", Reference: org}
)

// A tenant's life, an event at a time.
var (
	requested = tenant.Requested{Org: org, Slug: "crm", Name: "CRM", Region: "eu-west", Offer: offer, Change: 1, Saga: "sag_one"}
	placed    = tenant.Placed{Plane: planeA}
	activated = tenant.Activated{Change: 1}
	leaving   = tenant.OffboardingRequested{Reason: because}
	started   = tenant.OffboardingStarted{Org: org, Slug: "crm", Plane: planeA, Offer: offer, Change: 2, Saga: "sag_two"}
	turned    = tenant.OffboardingRequested{Reason: because, TurnsBack: "sag_one"}
	deleted   = tenant.Deleted{Change: 2}
	rejected  = tenant.Rejected{Change: 1, Code: "capacity_exhausted", Step: "reserve capacity"}
)

func added(c tenant.Cause, revision int64) tenant.CauseAdded {
	return tenant.CauseAdded{Cause: c, Revision: revision, Reason: because}
}

func cleared(c tenant.Cause, revision int64) tenant.CauseCleared {
	return tenant.CauseCleared{Cause: c, Revision: revision, Reason: because}
}

func suspensionDue(level int64, index int) tenant.SuspensionDue {
	return tenant.SuspensionDue{Revision: level, Plane: planeA, Org: org, Saga: saga("suspension", index)}
}

func resumptionDue(level int64, index int) tenant.ResumptionDue {
	return tenant.ResumptionDue{Revision: level, Plane: planeA, Org: org, Saga: saga("resumption", index)}
}

// Histories that lead somewhere.
var (
	waiting   = Given(requested)
	making    = waiting.And(placed)
	active    = making.And(activated)
	unpaying  = active.And(added(unpaid, 1), suspensionDue(1, 1))      // suspension asked for, not yet confirmed
	suspended = unpaying.And(tenant.Suspended{Revision: 1})            // for one cause
	doubly    = suspended.And(added(tenant.Manual, 2))                 // for two
	resuming  = suspended.And(cleared(unpaid, 2), resumptionDue(2, 1)) // resumption asked for, not yet confirmed
	parting   = active.And(leaving, started)                           // offboarding
	gone      = parting.And(deleted)
	refused   = waiting.And(rejected)
	turning   = making.And(turned) // an onboarding that is turned back
)

// The commands.
var (
	fits   = tenant.OrgFact{Exists: true}
	offers = tenant.TierFact{Exists: true, Offer: offer}
)

func request(change func(*tenant.Request)) tenant.Request {
	c := tenant.Request{Given: given, TenantID: id, OrgID: org, Slug: "crm", TierKey: "premium", Name: "CRM", Region: "eu-west", Org: fits, Tier: offers}
	if change != nil {
		change(&c)
	}
	return c
}

func place(change int64, plane string) tenant.Place {
	return tenant.Place{Given: given, TenantID: id, Change: change, PlaneID: plane}
}

func activate(change int64, suspended bool) tenant.Activate {
	return tenant.Activate{Given: given, TenantID: id, Change: change, Suspended: suspended}
}

func reject(change int64) tenant.Reject {
	return tenant.Reject{Given: given, TenantID: id, Change: change, Code: "capacity_exhausted", Step: "reserve capacity"}
}

func suspend(c tenant.Cause) tenant.Suspend {
	return tenant.Suspend{Given: given, TenantID: id, Cause: c, Reason: because}
}

func resume(c tenant.Cause) tenant.Resume {
	return tenant.Resume{Given: given, TenantID: id, Cause: c, Reason: because}
}

func confirmSuspended(revision int64) tenant.ConfirmSuspended {
	return tenant.ConfirmSuspended{Given: given, TenantID: id, Revision: revision}
}

func confirmResumed(revision int64) tenant.ConfirmResumed {
	return tenant.ConfirmResumed{Given: given, TenantID: id, Revision: revision}
}

func remove(change int64) tenant.Delete {
	return tenant.Delete{Given: given, TenantID: id, Change: change}
}

var offboard = tenant.Offboard{Given: given, TenantID: id, Reason: because}

// newlyRequested is what a request leads to.
func newlyRequested(change func(*tenant.Requested)) tenant.Requested {
	e := requested
	e.Saga = saga("onboarding", 0)
	if change != nil {
		change(&e)
	}
	return e
}

// newlyStarted is what starts an offboarding.
func newlyStarted() tenant.OffboardingStarted {
	e := started
	e.Saga = saga("offboarding", 1)
	return e
}

const stale = "is not the tenant's running one"

var spec = Spec{
	Aggregate: tenant.Aggregate,
	Reach: map[string][]any{
		"requested":    {requested},
		"provisioning": {requested, placed},
		"active":       {requested, placed, activated},
		"suspended":    {requested, placed, activated, added(unpaid, 1), suspensionDue(1, 1), tenant.Suspended{Revision: 1}},
		"offboarding":  {requested, placed, activated, leaving, started},
		"deleted":      {requested, placed, activated, leaving, started, deleted},
		"rejected":     {requested, rejected},
	},
	Examples: []any{
		requested, placed, tenant.Activated{Change: 1, Suspended: true}, rejected, added(unpaid, 1), cleared(unpaid, 2),
		suspensionDue(1, 1), resumptionDue(2, 1), tenant.Suspended{Revision: 1}, tenant.Resumed{Revision: 2}, turned, started, deleted, tenant.Noted{},
		tenant.Request{TenantID: id, OrgID: org, Slug: "crm", TierKey: "premium", Name: "CRM", Region: "eu-west"},
		tenant.Place{TenantID: id, Change: 1, PlaneID: planeA}, tenant.Activate{TenantID: id, Change: 1, Suspended: true},
		tenant.Reject{TenantID: id, Change: 1, Code: "capacity_exhausted", Step: "reserve capacity"},
		tenant.Suspend{TenantID: id, Cause: unpaid, Reason: because}, tenant.Resume{TenantID: id, Cause: unpaid, Reason: because},
		tenant.ConfirmSuspended{TenantID: id, Revision: 1}, tenant.ConfirmResumed{TenantID: id, Revision: 2},
		tenant.Offboard{TenantID: id, Reason: because}, tenant.Delete{TenantID: id, Change: 2},
	},
	AlwaysChanges: map[string]string{"request": "it is heard only where there is nothing"},
	Cases: map[string]Case{
		// Request.
		"a request starts the onboarding, which takes the change slot": Given().When(request(nil)).Then(newlyRequested(nil)),
		"a tenant without a name is called by its slug": Given().When(request(func(c *tenant.Request) { c.Name = "" })).
			Then(newlyRequested(func(e *tenant.Requested) { e.Name = "crm" })),
		"a tenant that names no region may be anywhere": Given().When(request(func(c *tenant.Request) { c.Region = "" })).
			Then(newlyRequested(func(e *tenant.Requested) { e.Region = "" })),
		"a tenant that enters a suspended org takes on its cause": Given().When(request(func(c *tenant.Request) { c.Org.Suspended = true })).
			Then(newlyRequested(nil), tenant.CauseAdded{Cause: held, Revision: 1}),
		"an org that is not there": Given().When(request(func(c *tenant.Request) { c.Org.Exists = false })).
			Refused(domain.CodeNotFound, "orgId", "names no org"),
		"a tier that is not there": Given().When(request(func(c *tenant.Request) { c.Tier.Exists = false })).
			Refused(domain.CodeNotFound, "tierKey", "names no tier"),
		"a deprecated tier takes no new tenants": Given().When(request(func(c *tenant.Request) { c.Tier.Deprecated = true })).
			Refused(domain.CodeInvalid, "tierKey", "names a deprecated tier, which takes no new tenants"),
		"a slug is taken once in an org": Given().When(request(func(c *tenant.Request) { c.SlugOwner.Holder = "ten_other" })).
			Refused(domain.CodeAlreadyExists, "slug", "is taken in this org"),
		"a region without a plane": Given().When(request(func(c *tenant.Request) { c.Placement.NoRegion = true })).
			Refused(domain.CodeNotFound, "region", "has no data plane"),
		"no plane that fits has room": Given().When(request(func(c *tenant.Request) { c.Placement.Full = true })).
			Refused(domain.CodeCapacityExhausted, "tierKey", "needs more room than any data plane that fits has left"),
		"the org is looked at before the tier, and the tier before the slug": Given().When(request(func(c *tenant.Request) {
			c.Org.Exists, c.Tier.Deprecated, c.SlugOwner.Holder, c.Placement.Full = false, true, "ten_other", true
		})).Refused(domain.CodeNotFound, "orgId", "names no org"),
		"a tenant is requested once": waiting.When(request(nil)).NotAllowed("request", "requested", "absent"),

		// Place.
		"the onboarding says where the tenant is made":         waiting.When(place(1, planeA)).Then(placed),
		"the same place again changes nothing":                 making.When(place(1, planeA)).Nothing(),
		"the onboarding may choose another plane":              making.When(place(1, planeB)).Then(tenant.Placed{Plane: planeB}),
		"another change does not place a requested tenant":     waiting.When(place(2, planeA)).Refused(domain.CodeStale, "change", stale),
		"another change does not place a tenant in the making": making.When(place(0, planeB)).Refused(domain.CodeStale, "change", stale),
		"an active tenant stays where it is":                   active.When(place(1, planeB)).NotAllowed("place", "active", "requested", "provisioning"),

		// Activate.
		"the onboarding's last command frees the slot":  making.When(activate(1, false)).Then(activated),
		"another change does not activate":              making.When(activate(2, false)).Refused(domain.CodeStale, "change", stale),
		"activating an active tenant changes nothing":   active.When(activate(1, false)).Nothing(),
		"activating a suspended tenant changes nothing": suspended.When(activate(1, false)).Nothing(),
		"a tenant that nobody placed is not activated":  waiting.When(activate(1, false)).NotAllowed("activate", "requested", "provisioning"),
		"a tenant that shall go is not activated":       turning.When(activate(1, false)).NotAllowed("activate", "waiting to be offboarded"),
		"a tenant made suspended is suspended at once":  making.And(added(unpaid, 1)).When(activate(1, true)).Then(tenant.Activated{Change: 1, Suspended: true}),
		"two causes make it no more suspended":          making.And(added(unpaid, 1), added(held, 2)).When(activate(1, true)).Then(tenant.Activated{Change: 1, Suspended: true}),
		"a cause that came too late for the plane is brought there": making.And(added(unpaid, 1)).When(activate(1, false)).
			Then(activated, suspensionDue(1, 1)),
		"the level that is brought is when the causes began": making.And(added(unpaid, 1), added(held, 2)).When(activate(1, false)).
			Then(activated, suspensionDue(1, 1)),
		"a cause that went too late for the plane is brought there": making.And(added(unpaid, 1), cleared(unpaid, 2)).When(activate(1, true)).
			Then(tenant.Activated{Change: 1, Suspended: true}, resumptionDue(2, 1)),
		"a cause that came and went is nothing": making.And(added(unpaid, 1), cleared(unpaid, 2)).When(activate(1, false)).Then(activated),
		"a cause that went and came again is the same to the plane": making.And(added(unpaid, 1), cleared(unpaid, 2), added(held, 3)).
			When(activate(1, true)).Then(tenant.Activated{Change: 1, Suspended: true}),

		// Reject.
		"an onboarding that was undone ends without a tenant":   waiting.When(reject(1)).Then(rejected),
		"also when it had a place":                              making.When(reject(1)).Then(rejected),
		"another change does not reject a requested tenant":     waiting.When(reject(2)).Refused(domain.CodeStale, "change", stale),
		"another change does not reject a tenant in the making": making.When(reject(2)).Refused(domain.CodeStale, "change", stale),
		"rejecting twice is rejecting once":                     refused.When(reject(1)).Nothing(),
		"rejecting what is deleted changes nothing":             turning.And(tenant.Deleted{Change: 1}).When(reject(1)).Nothing(),
		"a requested tenant that shall go is deleted instead":   waiting.And(turned).When(reject(1)).Then(tenant.Deleted{Change: 1}),
		"a placed tenant that shall go is deleted instead":      turning.When(reject(1)).Then(tenant.Deleted{Change: 1}),
		"another change does not delete it":                     turning.When(reject(2)).Refused(domain.CodeStale, "change", stale),
		"an active tenant is not rejected":                      active.When(reject(1)).NotAllowed("reject", "active", "requested", "provisioning"),

		// Suspend.
		"an active tenant's first cause starts its suspension": active.When(suspend(unpaid)).Then(added(unpaid, 1), suspensionDue(1, 1)),
		"a cause that is not named is the operator's":          active.When(suspend(tenant.Cause{})).Then(added(tenant.Manual, 1), suspensionDue(1, 1)),
		"a second cause adds up and starts nothing":            suspended.When(suspend(held)).Then(added(held, 2)),
		"also before the plane has confirmed the first":        unpaying.When(suspend(held)).Then(added(held, 2)),
		"the same cause again changes nothing":                 suspended.When(suspend(unpaid)).Nothing(),
		"the same kind with another reference is another cause": suspended.When(suspend(tenant.Cause{Kind: "billing", Reference: "inv-8"})).
			Then(added(tenant.Cause{Kind: "billing", Reference: "inv-8"}, 2)),
		"the operator's cause named and not named is one":         doubly.When(suspend(tenant.Cause{})).Nothing(),
		"a requested tenant keeps the cause for its activation":   waiting.When(suspend(unpaid)).Then(added(unpaid, 1)),
		"a tenant in the making keeps it too":                     making.When(suspend(unpaid)).Then(added(unpaid, 1)),
		"a tenant whose onboarding turns back keeps it too":       turning.When(suspend(unpaid)).Then(added(unpaid, 1)),
		"a leaving tenant keeps it, and nothing is started":       parting.When(suspend(unpaid)).Then(added(unpaid, 1)),
		"suspending before a resumption is confirmed starts anew": resuming.When(suspend(held)).Then(added(held, 3), suspensionDue(3, 1)),
		"a hundred causes are enough": active.And(causes(100)...).When(suspend(unpaid)).
			Refused(domain.CodeQuotaExceeded, "cause", "would be one of more than 100"),
		"one of the hundred again changes nothing": active.And(causes(100)...).When(suspend(cause(7))).Nothing(),
		"a deleted tenant is not suspended": gone.When(suspend(unpaid)).
			NotAllowed("suspend", "deleted", "requested", "provisioning", "active", "suspended", "offboarding"),

		// Resume.
		"the last cause's end starts the resumption":    suspended.When(resume(unpaid)).Then(cleared(unpaid, 2), resumptionDue(2, 1)),
		"one of two causes ends and nothing is started": doubly.When(resume(unpaid)).Then(cleared(unpaid, 3)),
		"the other one has to be named too":             doubly.And(cleared(unpaid, 3)).When(resume(tenant.Manual)).Then(cleared(tenant.Manual, 4), resumptionDue(4, 1)),
		"a cause that is not named is not cleared by another's name": suspended.When(resume(held)).
			Refused(domain.CodeNotFound, "cause", "is not one of those for which the tenant is suspended"),
		"the operator's is the one that is cleared without a name": suspended.When(resume(tenant.Cause{})).
			Refused(domain.CodeNotFound, "cause", "is not one of those for which the tenant is suspended"),
		"resuming what has no cause changes nothing":                    active.When(resume(unpaid)).Nothing(),
		"also while the resumption is on its way":                       resuming.When(resume(unpaid)).Nothing(),
		"also before it is made":                                        making.When(resume(unpaid)).Nothing(),
		"resuming before a suspension is confirmed starts the way back": unpaying.When(resume(unpaid)).Then(cleared(unpaid, 2), resumptionDue(2, 1)),
		"a requested tenant loses the cause and nothing is started":     waiting.And(added(unpaid, 1)).When(resume(unpaid)).Then(cleared(unpaid, 2)),
		"a tenant in the making too":                                    making.And(added(unpaid, 1)).When(resume(unpaid)).Then(cleared(unpaid, 2)),
		"a leaving tenant too":                                          suspended.And(leaving, started).When(resume(unpaid)).Then(cleared(unpaid, 2)),
		"a rejected tenant is not resumed": refused.When(resume(unpaid)).
			NotAllowed("resume", "rejected", "requested", "provisioning", "active", "suspended", "offboarding"),

		// Confirmations.
		"the phase follows the plane's word":                            unpaying.When(confirmSuspended(1)).Then(tenant.Suspended{Revision: 1}),
		"also with more causes by now":                                  unpaying.And(added(held, 2)).When(confirmSuspended(1)).Then(tenant.Suspended{Revision: 1}),
		"the revision of a cause that moved no level confirms nothing":  unpaying.And(added(held, 2)).When(confirmSuspended(2)).Nothing(),
		"confirming a suspension twice changes nothing":                 suspended.When(confirmSuspended(1)).Nothing(),
		"a suspension that was overtaken confirms nothing":              unpaying.And(cleared(unpaid, 2), resumptionDue(2, 1)).When(confirmSuspended(1)).Nothing(),
		"a suspension of an earlier level confirms nothing of this one": unpaying.And(cleared(unpaid, 2), resumptionDue(2, 1), added(held, 3), suspensionDue(3, 1)).When(confirmSuspended(1)).Nothing(),
		"a confirmation of what never was is nothing":                   active.When(confirmSuspended(7)).Nothing(),
		"a leaving tenant's suspension is nobody's business":            unpaying.And(leaving, started).When(confirmSuspended(1)).Nothing(),
		"a deleted one's neither":                                       gone.When(confirmSuspended(1)).Nothing(),
		"nothing is confirmed of a tenant in the making":                making.When(confirmSuspended(1)).NotAllowed("confirm suspended", "provisioning", "active", "suspended"),
		"a tenant is let in again on the plane's word":                  resuming.When(confirmResumed(2)).Then(tenant.Resumed{Revision: 2}),
		"confirming a resumption twice changes nothing":                 resuming.And(tenant.Resumed{Revision: 2}).When(confirmResumed(2)).Nothing(),
		"a resumption that was overtaken confirms nothing":              resuming.And(added(held, 3), suspensionDue(3, 1)).When(confirmResumed(2)).Nothing(),
		"a leaving tenant's resumption is nobody's business":            resuming.And(leaving, started).When(confirmResumed(2)).Nothing(),
		"a deleted one's resumption neither":                            gone.When(confirmResumed(1)).Nothing(),
		"a resumption of what was never confirmed suspended is one already": unpaying.And(cleared(unpaid, 2), resumptionDue(2, 1)).
			When(confirmResumed(2)).Nothing(),

		"an older resumption does not confirm a newer one": resuming.And(added(held, 3), suspensionDue(3, 1), cleared(held, 4), resumptionDue(4, 1)).
			When(confirmResumed(2)).Nothing(),
		"an older suspension does not confirm a newer one": unpaying.And(cleared(unpaid, 2), resumptionDue(2, 1), added(held, 3), suspensionDue(3, 1)).
			When(confirmSuspended(1)).Nothing(),

		// Offboard and delete.
		"an active tenant's offboarding starts at once":     active.When(offboard).Then(leaving, newlyStarted()),
		"a suspended one's too":                             suspended.When(offboard).Then(leaving, newlyStarted()),
		"a requested one's turns the onboarding back":       waiting.When(offboard).Then(turned),
		"that of one in the making too":                     making.When(offboard).Then(turned),
		"asking twice for the end changes nothing":          turning.When(offboard).Nothing(),
		"asking for the end of what leaves changes nothing": parting.When(offboard).Nothing(),
		"what is gone does not leave":                       gone.When(offboard).NotAllowed("offboard", "deleted", "requested", "provisioning", "active", "suspended"),
		"the offboarding's last command ends the life":      parting.When(remove(2)).Then(deleted),
		"the onboarding's number does not":                  parting.When(remove(1)).Refused(domain.CodeStale, "change", stale),
		"deleting twice is deleting once":                   gone.When(remove(2)).Nothing(),
		"deleting what was never offboarded":                active.When(remove(1)).NotAllowed("delete", "active", "offboarding"),
	},
}

func cause(n int) tenant.Cause {
	return tenant.Cause{Kind: "ticket", Reference: strings.Repeat("i", n+1)}
}

func causes(n int) (events []any) {
	for i := range n {
		events = append(events, tenant.CauseAdded{Cause: cause(i), Revision: int64(i + 1)})
	}
	return events
}

func TestSpecification(t *testing.T) { spec.Run(t) }

func TestInputIsRefusedByItsField(t *testing.T) {
	long := domain.Clear(strings.Repeat("r", 2001))
	CheckInputs(t, map[string]Input{
		"a request":                    Good(request(nil)),
		"no org":                       Bad("orgId", request(func(c *tenant.Request) { c.OrgID = "" })),
		"odd org":                      Bad("orgId", request(func(c *tenant.Request) { c.OrgID = id })),
		"no slug":                      Bad("slug", request(func(c *tenant.Request) { c.Slug = "" })),
		"odd slug":                     Bad("slug", request(func(c *tenant.Request) { c.Slug = "crm." })),
		"no tier":                      Bad("tierKey", request(func(c *tenant.Request) { c.TierKey = "" })),
		"long name":                    Bad("name", request(func(c *tenant.Request) { c.Name = strings.Repeat("n", 201) })),
		"NUL in a name":                Bad("name", request(func(c *tenant.Request) { c.Name = "\x00" })),
		"odd region":                   Bad("region", request(func(c *tenant.Request) { c.Region = "EU" })),
		"no region":                    Good(request(func(c *tenant.Request) { c.Region = "" })),
		"suspend":                      Good(suspend(unpaid)),
		"suspend without a cause":      Good(suspend(tenant.Cause{})),
		"suspend with half a cause":    Bad("cause.reference", suspend(tenant.Cause{Kind: "billing"})),
		"suspend with the other half":  Bad("cause.kind", suspend(tenant.Cause{Reference: "inv-7"})),
		"suspend for an odd kind":      Bad("cause.kind", suspend(tenant.Cause{Kind: "Billing", Reference: "inv-7"})),
		"suspend for an odd reference": Bad("cause.reference", suspend(tenant.Cause{Kind: "billing", Reference: "inv 7"})),
		"suspend nobody":               Bad("tenantId", tenant.Suspend{}),
		"suspend at length":            Bad("reason", tenant.Suspend{TenantID: id, Reason: long}),
		"resume":                       Good(resume(unpaid)),
		"resume an org":                Bad("tenantId", tenant.Resume{TenantID: org}),
		"resume with half a cause":     Bad("cause.reference", resume(tenant.Cause{Kind: "billing"})),
		"resume at length":             Bad("reason", tenant.Resume{TenantID: id, Reason: long}),
		"offboard":                     Good(offboard),
		"offboard nobody":              Bad("tenantId", tenant.Offboard{}),
		"offboard at length":           Bad("reason", tenant.Offboard{TenantID: id, Reason: long}),
		"NUL in a reason":              Bad("reason", tenant.Offboard{TenantID: id, Reason: domain.Clear("a\x00")}),
	})
}

func TestATenantsEventsAreItsOwnAndItsOrgs(t *testing.T) {
	if o, ten := tenant.Aggregate.Owner(tenant.State{Org: org}, id); o != org || ten != id {
		t.Errorf("owner is %q, %q", o, ten)
	}
	CheckCreator(t, &tenant.Request{}, "ten")
	CheckTargets(t, spec, id)
}

func TestStartedSagaIsWhatAnEventStartsOrTurnsBack(t *testing.T) {
	want := map[string]string{
		"tenant.requested": "sag_one", "tenant.offboarding.requested": "sag_one", "tenant.offboarding.started": "sag_two",
		"tenant.suspension.due": saga("suspension", 1), "tenant.resumption.due": saga("resumption", 1),
	}
	r := domain.NewRegistry(tenant.Events)
	for _, x := range spec.Examples {
		if got := tenant.StartedSaga(x); got != want[r.NameOf(x)] {
			t.Errorf("StartedSaga of %T is %q, want %q", x, got, want[r.NameOf(x)])
		}
	}
	if got := saga("suspension", 1); got != "sag_raappkh3djpkfepbrgq2zuapgm" {
		t.Errorf("the id of a saga is another: %s", got)
	}
}
