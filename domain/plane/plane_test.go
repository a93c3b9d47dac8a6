package plane_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tenure-dev/tenure/domain"
	. "github.com/tenure-dev/tenure/domain/domaintest"
	"github.com/tenure-dev/tenure/domain/plane"
)

const (
	id   = "pln_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	org  = "org_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	one  = "ten_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	two  = "ten_baaaaaaaaaaaaaaaaaaaaaaaaa"
	hash = "5e884898"
	key  = "agent-key"
)

var (
	now     = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
	because = domain.Sealed{Subject: id, Key: "k1", Text: []byte("cipher")}
	limits  = domain.Units{"connections": 50}
	cost    = domain.Units{"slots": 4}
)

// command is what the Bus gives the n-th command.
func command(n int) domain.Given {
	return domain.Given{Now: now, CommandID: fmt.Sprintf("00000000-0000-4000-8000-%012d", n), Stream: "plane-" + id}
}

// op is the id of the operation that the n-th command asks.
func op(n int) string { return domain.OperationIDFor(command(n).CommandID) }

// A plane's life, an event at a time.
var (
	registered = plane.Registered{Registration: plane.Registration{Name: "eu-1", Region: "eu-west", Cloud: "aws", Account: "customer",
		Labels: map[string]string{"zone": "a"}, Capacity: domain.Units{"slots": 10, "gpus": 1}, Isolations: []string{"pool", "silo"}}}
	cordoned   = plane.Cordoned{Reason: because}
	uncordoned = plane.Uncordoned{Reason: because}
	issued     = plane.JoinTokenIssued{Hash: hash, ExpiresAt: now.Add(time.Hour)}
	joined     = plane.AgentJoined{PublicKey: key, Token: hash}
	session    = plane.SessionOpened{Session: 1, Version: "v1", Driver: "memory"}
	seen       = plane.AgentJudged{Session: 1, State: plane.Online}
	reserved   = plane.CapacityReserved{Tenant: one, Org: org, Change: 1, Cost: cost}
	released   = plane.CapacityReleased{Tenant: one, Org: org, Change: 1, Cost: cost}
	desired    = plane.Desired{Org: org, Isolation: "silo", Limits: limits, CredentialVersion: 1, Change: 1}
	provision  = plane.OperationAsked{Operation: op(1), Order: 1, Kind: plane.Provision, Tenant: one, Desired: desired}
)

// later is the n-th command's operation, of another order and kind, upon the tenant as provisioned.
func later(n int, order int64, kind plane.Kind, change func(*plane.Desired)) plane.OperationAsked {
	d := desired
	change(&d)
	return plane.OperationAsked{Operation: op(n), Order: order, Kind: kind, Tenant: one, Desired: d}
}

func held(causes int64) func(*plane.Desired) {
	return func(d *plane.Desired) { d.Suspended, d.Causes = true, causes }
}

func free(causes int64) func(*plane.Desired) { return func(d *plane.Desired) { d.Causes = causes } }

func gone(change int64) func(*plane.Desired) {
	return func(d *plane.Desired) { d.Change, d.Gone = change, true }
}

// outcome is what all answers to an operation say.
func outcome(a plane.OperationAsked) plane.Outcome {
	return plane.Outcome{Operation: a.Operation, Kind: a.Kind, Tenant: a.Tenant, Org: a.Desired.Org, Change: a.Desired.Change,
		Causes: a.Desired.Causes, Suspended: a.Desired.Suspended}
}

func succeeded(a plane.OperationAsked) plane.OperationSucceeded {
	return plane.OperationSucceeded{Outcome: outcome(a), Attempts: 1}
}

func withdrawal(a plane.OperationAsked) plane.WithdrawalAsked {
	return plane.WithdrawalAsked{Operation: a.Operation, Tenant: a.Tenant, Org: a.Desired.Org}
}

// Histories that lead somewhere.
var (
	suspending    = later(2, 2, plane.Suspend, held(3))
	deprovision   = later(3, 2, plane.Deprovision, gone(2))
	open          = Given(registered)
	invited       = open.And(issued)
	member        = invited.And(joined)
	connected     = member.And(session)
	online        = connected.And(seen)
	full          = online.And(plane.CapacityReserved{Tenant: two, Org: org, Change: 1, Cost: domain.Units{"slots": 7}})
	holding       = online.And(reserved)
	making        = holding.And(provision)
	made          = making.And(succeeded(provision))
	hushing       = made.And(suspending)
	removing      = made.And(deprovision)
	removed       = removing.And(succeeded(deprovision))
	again         = removing.And(released, plane.CapacityReserved{Tenant: one, Org: org, Change: 3, Cost: cost}, later(5, 3, plane.Provision, func(d *plane.Desired) { d.Change = 3 }))
	closed        = open.And(cordoned)
	closedMember  = member.And(cordoned)
	closedOnline  = online.And(cordoned)
	closedHolding = holding.And(cordoned)
	closedMaking  = making.And(cordoned)
)

// The commands.

func register(change func(*plane.Registration)) plane.Register {
	r := registered.Registration
	change(&r)
	return plane.Register{Given: command(9), PlaneID: id, Registration: r}
}

func join(hash, key string, late time.Duration) plane.Join {
	g := command(9)
	g.Now = now.Add(late)
	return plane.Join{Given: g, PlaneID: id, Hash: hash, PublicKey: key}
}

func openSession(key string) plane.OpenSession {
	return plane.OpenSession{Given: command(9), PlaneID: id, PublicKey: key, Version: "v1", Driver: "memory"}
}

func judge(session int64, state plane.AgentState) plane.Judge {
	return plane.Judge{Given: command(9), PlaneID: id, Session: session, State: state}
}

func report(session int64, n int, outcome string) plane.Report {
	return plane.Report{Given: command(9), PlaneID: id, Session: session, Operation: op(n), Outcome: outcome, Attempts: 1}
}

func unclaimed(session int64, tenants ...string) plane.ReportUnclaimed {
	return plane.ReportUnclaimed{Given: command(9), PlaneID: id, Session: session, Tenants: tenants}
}

func reserve(tenant string, change int64, isolation string, cost domain.Units) plane.Reserve {
	return plane.Reserve{Given: command(9), PlaneID: id, TenantID: tenant, OrgID: org, Change: change, Isolation: isolation, Cost: cost}
}

func release(tenant string, change int64) plane.Release {
	return plane.Release{Given: command(9), PlaneID: id, TenantID: tenant, Change: change}
}

func ask(n int, kind plane.Kind, change, causes int64) plane.Ask {
	c := plane.Ask{Given: command(n), PlaneID: id, TenantID: one, OrgID: org, Kind: kind, Change: change, Causes: causes}
	if kind == plane.Provision {
		c.Isolation, c.Limits = "silo", limits
	}
	return c
}

// born is an ask to provision a tenant that has causes already.
func born(n int, causes int64) plane.Ask {
	c := ask(n, plane.Provision, 1, 0)
	c.Tenant = plane.TenantFact{Suspended: true, Causes: causes}
	return c
}

var (
	issue      = plane.IssueJoinToken{Given: command(9), PlaneID: id, Hash: hash, Life: time.Hour}
	everything = register(func(*plane.Registration) {})
)

const (
	noSession = "is not the plane's current one"
	shut      = "is closed on this plane"
	badToken  = "is not a valid join token of this plane"
	badKey    = "is not that of this plane's agent"
)

var spec = Spec{
	Aggregate: plane.Aggregate,
	Reach:     map[string][]any{"open": {registered}, "cordoned": {registered, cordoned}},
	Examples: []any{
		registered, cordoned, uncordoned, issued, joined, session, seen, plane.TenantsUnclaimed{Session: 1, Tenants: []string{two}}, reserved, released,
		plane.OperationAsked{Operation: op(1), Order: 1, Kind: plane.Provision, Tenant: one, Saga: "sag_one", Command: "c1", Desired: complete},
		withdrawal(provision),
		plane.OperationSucceeded{Outcome: whole, Attempts: 2},
		plane.OperationFailed{Outcome: whole, Attempts: 2, Class: "transient", Code: "db_down"},
		plane.OperationWithdrawn{Outcome: whole}, plane.OperationSuperseded{Outcome: whole}, plane.Noted{},
		everything, plane.Cordon{PlaneID: id, Reason: because}, plane.Uncordon{PlaneID: id, Reason: because}, issue,
		join(hash, key, 0), openSession(key), judge(1, plane.Online),
		plane.Report{PlaneID: id, Session: 1, Operation: op(1), Outcome: "failed", Attempts: 2, Class: "transient", Code: "db_down"},
		unclaimed(1, two), reserve(one, 1, "silo", cost), release(one, 1),
		plane.Ask{PlaneID: id, TenantID: one, OrgID: org, Kind: plane.Provision, Change: 1, Causes: 2, Isolation: "silo", Limits: limits},
	},
	AlwaysChanges: map[string]string{
		"register":         "it is heard only where there is nothing",
		"issue join token": "each is another token",
		"open session":     "each is another session, which makes those before it void",
	},
	Cases: map[string]Case{
		// Registration and cordon.
		"a plane is registered": Given().When(everything).Then(registered),
		"what is left out has a default": Given().When(plane.Register{}).Then(plane.Registered{Registration: plane.Registration{
			Name: "plane", Region: "default", Account: "hosted", Capacity: domain.Units{"slots": 1000}, Isolations: []string{"bridge", "pool", "silo"}}}),
		"isolations are sorted and said once": Given().When(register(func(r *plane.Registration) { r.Isolations = []string{"silo", "pool", "silo"} })).Then(registered),
		"a plane is registered once":          open.When(everything).NotAllowed("register", "open", "absent"),
		"an open plane is cordoned":           open.When(plane.Cordon{Reason: because}).Then(cordoned),
		"cordoning twice is cordoning once":   closed.When(plane.Cordon{Reason: because}).Nothing(),
		"a cordoned plane is opened again":    closed.When(plane.Uncordon{Reason: because}).Then(uncordoned),
		"an open one needs no opening":        open.When(plane.Uncordon{Reason: because}).Nothing(),

		// Join tokens.
		"a join token is issued":                          open.When(issue).Then(issued),
		"a cordoned plane's agent may join too":           closed.When(issue).Then(issued),
		"a token that nobody drew":                        open.When(plane.IssueJoinToken{Life: time.Hour}).Refused(domain.CodeInvalid, "token", "must be drawn by the gateway"),
		"a token without a life":                          open.When(plane.IssueJoinToken{Hash: hash}).Refused(domain.CodeInvalid, "token", "must be drawn by the gateway"),
		"an agent joins with the token":                   invited.When(join(hash, key, 0)).Then(joined),
		"also with its last instant":                      invited.When(join(hash, key, time.Hour-1)).Then(joined),
		"also where new tenants are kept away":            invited.And(cordoned).When(join(hash, key, 0)).Then(joined),
		"an expired token is refused":                     invited.When(join(hash, key, time.Hour)).Refused(domain.CodeUnauthenticated, "token", "has expired"),
		"a wrong token is refused":                        invited.When(join("another", key, 0)).Refused(domain.CodeUnauthenticated, "token", badToken),
		"nobody joins without a token issued":             open.When(join(hash, key, 0)).Refused(domain.CodeUnauthenticated, "token", badToken),
		"the same key joins twice quietly":                member.When(join(hash, key, 0)).Nothing(),
		"also after the token would have expired":         member.When(join(hash, key, 2*time.Hour)).Nothing(),
		"another key does not reuse the token":            member.When(join(hash, "thief", 0)).Refused(domain.CodeUnauthenticated, "token", badToken),
		"a newer token takes the place of the older":      invited.And(plane.JoinTokenIssued{Hash: "newer", ExpiresAt: now.Add(time.Hour)}).When(join(hash, key, 0)).Refused(domain.CodeUnauthenticated, "token", badToken),
		"another agent joins with another token":          member.And(plane.JoinTokenIssued{Hash: "newer", ExpiresAt: now.Add(time.Hour)}).When(join("newer", "key2", 0)).Then(plane.AgentJoined{PublicKey: "key2", Token: "newer"}),
		"the first agent's join stays quiet till it does": member.And(plane.JoinTokenIssued{Hash: "newer", ExpiresAt: now.Add(time.Hour)}).When(join(hash, key, 0)).Nothing(),

		// Sessions and the gateway's opinion.
		"the agent opens a session":                 member.When(openSession(key)).Then(session),
		"the next one has the next number":          online.When(openSession(key)).Then(plane.SessionOpened{Session: 2, Version: "v1", Driver: "memory"}),
		"also on a cordoned plane":                  closedMember.When(openSession(key)).Then(session),
		"another key opens none":                    member.When(openSession("thief")).Refused(domain.CodeUnauthenticated, "publicKey", badKey),
		"nobody opens one where nobody has joined":  invited.When(openSession("")).Refused(domain.CodeUnauthenticated, "publicKey", badKey),
		"the first heartbeat makes the agent seen":  connected.When(judge(1, plane.Online)).Then(seen),
		"the same opinion again is nothing":         online.When(judge(1, plane.Online)).Nothing(),
		"a silent agent becomes unknown":            online.When(judge(1, plane.Unknown)).Then(plane.AgentJudged{Session: 1, State: plane.Unknown}),
		"a session's end is known":                  closedOnline.When(judge(1, plane.Offline)).Then(plane.AgentJudged{Session: 1, State: plane.Offline}),
		"a replaced session judges nothing":         online.And(plane.SessionOpened{Session: 2}).When(judge(1, plane.Offline)).Refused(domain.CodeStale, "session", noSession),
		"a session that is yet to come neither":     online.When(judge(2, plane.Offline)).Refused(domain.CodeStale, "session", noSession),
		"a new session is not online by the old":    online.And(plane.SessionOpened{Session: 2}).When(judge(2, plane.Online)).Then(plane.AgentJudged{Session: 2, State: plane.Online}),
		"tenants that the log does not know":        made.When(unclaimed(1, "x", one, two, "x")).Then(plane.TenantsUnclaimed{Session: 1, Tenants: []string{two, "x"}}),
		"those that it knows are no matter":         made.When(unclaimed(1, one)).Nothing(),
		"a tenant that is being removed is known":   removing.When(unclaimed(1, one)).Nothing(),
		"one that was removed and came back is not": removed.When(unclaimed(1, one)).Then(plane.TenantsUnclaimed{Session: 1, Tenants: []string{one}}),
		"a plane without tenants has none to claim": online.When(unclaimed(1)).Nothing(),
		"a cordoned plane's unclaimed are known":    closedOnline.When(unclaimed(1, two)).Then(plane.TenantsUnclaimed{Session: 1, Tenants: []string{two}}),
		"a replaced session lists none":             made.And(plane.SessionOpened{Session: 2}).When(unclaimed(1, two)).Refused(domain.CodeStale, "session", noSession),

		// The ledger.
		"capacity is reserved":                          online.When(reserve(one, 1, "silo", cost)).Then(reserved),
		"the same change reserves once":                 holding.When(reserve(one, 1, "silo", cost)).Nothing(),
		"also when it is cordoned by now":               closedHolding.When(reserve(one, 1, "silo", cost)).Nothing(),
		"another change does not reserve twice":         holding.When(reserve(one, 2, "silo", cost)).NotAllowed("reserve", "holding another change's reservation"),
		"a cordoned plane takes no new tenants":         closedOnline.When(reserve(one, 1, "silo", cost)).NotAllowed("reserve", "cordoned", "open"),
		"a plane that was never seen neither":           open.When(reserve(one, 1, "silo", cost)).NotAllowed("reserve", "agent never seen", "online", "awaiting-first-heartbeat"),
		"one whose agent has just come back takes them": connected.When(reserve(one, 1, "silo", cost)).Then(reserved),
		"one that fell silent neither":                  online.And(plane.AgentJudged{Session: 1, State: plane.Unknown}).When(reserve(one, 1, "silo", cost)).NotAllowed("reserve", "agent unknown", "online", "awaiting-first-heartbeat"),
		"an isolation that it has not":                  online.When(reserve(one, 1, "bridge", cost)).NotAllowed("reserve bridge", "not offering it", "pool", "silo"),
		"more than is left":                             full.When(reserve(one, 1, "silo", cost)).Refused(domain.CodeCapacityExhausted, "slots", "is exhausted on the plane"),
		"exactly what is left":                          full.When(reserve(one, 1, "silo", domain.Units{"slots": 3})).Then(plane.CapacityReserved{Tenant: one, Org: org, Change: 1, Cost: domain.Units{"slots": 3}}),
		"a unit that the plane has not":                 online.When(reserve(one, 1, "silo", domain.Units{"disks": 1})).Refused(domain.CodeCapacityExhausted, "disks", "is exhausted on the plane"),
		"none of a unit that it has not":                online.When(reserve(one, 1, "silo", domain.Units{"disks": 0})).Then(plane.CapacityReserved{Tenant: one, Org: org, Change: 1, Cost: domain.Units{"disks": 0}}),
		"the first unit by name is at fault":            online.When(reserve(one, 1, "silo", domain.Units{"slots": 11, "gpus": 2})).Refused(domain.CodeCapacityExhausted, "gpus", "is exhausted on the plane"),
		"a released room is free for others":            full.And(plane.CapacityReleased{Tenant: two, Org: org, Change: 1, Cost: domain.Units{"slots": 7}}).When(reserve(one, 1, "silo", cost)).Then(reserved),
		"a reservation is released":                     holding.When(release(one, 1)).Then(released),
		"a later change releases it too":                holding.When(release(one, 2)).Then(plane.CapacityReleased{Tenant: one, Org: org, Change: 2, Cost: cost}),
		"an older change does not":                      holding.When(release(one, 0)).Nothing(),
		"releasing twice is releasing once":             holding.And(released).When(release(one, 1)).Nothing(),
		"nothing held, nothing released":                holding.When(release(two, 1)).Nothing(),
		"a cordoned plane gives back":                   closedHolding.When(release(one, 1)).Then(released),

		// Asking.
		"a tenant is provisioned":                     holding.When(ask(1, plane.Provision, 1, 0)).Then(provision),
		"a tenant with causes is born suspended":      holding.When(born(1, 2)).Then(later(1, 1, plane.Provision, held(2))),
		"a cordoned plane keeps what it has promised": closedHolding.When(ask(1, plane.Provision, 1, 0)).Then(provision),
		"without a reservation it is not":             online.When(ask(1, plane.Provision, 1, 0)).NotAllowed("provision", "holding no reservation for this change"),
		"with another change's neither":               holding.When(ask(1, plane.Provision, 2, 0)).NotAllowed("provision", "holding no reservation for this change"),
		"the same ask again is quiet":                 making.When(ask(1, plane.Provision, 1, 0)).Nothing(),
		"also where it is cordoned by now":            closedMaking.When(ask(1, plane.Provision, 1, 0)).Nothing(),
		"also when it was answered":                   made.When(ask(1, plane.Provision, 1, 0)).Nothing(),
		"another attempt is another operation":        making.When(ask(4, plane.Provision, 1, 0)).Then(later(4, 2, plane.Provision, free(0))),
		"another attempt keeps the credential's version": holding.And(later(1, 1, plane.Provision, func(d *plane.Desired) { d.CredentialVersion = 2 })).
			When(ask(4, plane.Provision, 1, 0)).Then(later(4, 2, plane.Provision, func(d *plane.Desired) { d.CredentialVersion = 2 })),
		"a suspension keeps all else":                               made.When(ask(2, plane.Suspend, 0, 3)).Then(suspending),
		"also while the tenant is being made":                       making.When(ask(2, plane.Suspend, 0, 3)).Then(suspending),
		"another attempt at a suspension leaves the first one open": hushing.When(ask(4, plane.Suspend, 0, 3)).Then(later(4, 3, plane.Suspend, held(3))),
		"higher causes withdraw the suspension that is open":        hushing.When(ask(4, plane.Resume, 0, 4)).Then(withdrawal(suspending), later(4, 3, plane.Resume, free(4))),
		"a withdrawal is asked once":                                hushing.And(withdrawal(suspending)).When(ask(4, plane.Resume, 0, 4)).Then(later(4, 3, plane.Resume, free(4))),
		"lower causes are superseded at once": hushing.When(ask(4, plane.Resume, 0, 2)).Then(plane.OperationSuperseded{Outcome: plane.Outcome{
			Operation: op(4), Kind: plane.Resume, Tenant: one, Org: org, Change: 1, Causes: 2}}),
		"what was superseded is not asked again": hushing.And(plane.OperationSuperseded{Outcome: plane.Outcome{Operation: op(4), Kind: plane.Resume, Tenant: one, Org: org, Causes: 2}}).
			When(ask(4, plane.Resume, 0, 2)).Nothing(),
		"a tenant that is not there is not suspended": online.When(ask(2, plane.Suspend, 0, 3)).Then(plane.OperationSuperseded{Outcome: plane.Outcome{
			Operation: op(2), Kind: plane.Suspend, Tenant: one, Org: org, Causes: 3, Suspended: true}}),
		"one that is being removed neither": removing.When(ask(2, plane.Suspend, 0, 3)).Then(plane.OperationSuperseded{Outcome: plane.Outcome{
			Operation: op(2), Kind: plane.Suspend, Tenant: one, Org: org, Change: 2, Causes: 3, Suspended: true}}),
		"a tenant is removed":                                          made.When(ask(3, plane.Deprovision, 2, 0)).Then(deprovision),
		"removing withdraws what is open":                              hushing.When(ask(3, plane.Deprovision, 2, 0)).Then(withdrawal(suspending), later(3, 3, plane.Deprovision, func(d *plane.Desired) { held(3)(d); gone(2)(d) })),
		"undoing withdraws the provisioning":                           making.When(ask(3, plane.Deprovision, 1, 0)).Then(withdrawal(provision), later(3, 2, plane.Deprovision, gone(1))),
		"another attempt at removing leaves the first":                 removing.When(ask(4, plane.Deprovision, 2, 0)).Then(later(4, 3, plane.Deprovision, gone(2))),
		"removing again after it is gone is asked":                     removed.When(ask(4, plane.Deprovision, 2, 0)).Then(plane.OperationAsked{Operation: op(4), Order: 3, Kind: plane.Deprovision, Tenant: one, Desired: plane.Desired{Org: org, CredentialVersion: 1, Change: 2, Gone: true}}),
		"an older change does not remove again":                        removed.When(ask(4, plane.Deprovision, 1, 0)).Refused(domain.CodeStale, "change", shut),
		"a late provisioning after the removal is stale":               removed.When(ask(4, plane.Provision, 1, 0)).Refused(domain.CodeStale, "change", shut),
		"that of the removing change too":                              removed.When(ask(4, plane.Provision, 2, 0)).Refused(domain.CodeStale, "change", shut),
		"a late provisioning during the removal is stale":              removing.When(ask(4, plane.Provision, 1, 0)).Refused(domain.CodeStale, "change", shut),
		"that of the change that is undone too":                        making.And(withdrawal(provision), later(3, 2, plane.Deprovision, gone(1))).When(ask(4, plane.Provision, 1, 0)).Refused(domain.CodeStale, "change", shut),
		"what was never there is removed all the same":                 online.When(ask(3, plane.Deprovision, 1, 0)).Then(plane.OperationAsked{Operation: op(3), Order: 1, Kind: plane.Deprovision, Tenant: one, Desired: plane.Desired{Org: org, CredentialVersion: 1, Change: 1, Gone: true}}),
		"a late reservation after the removal is stale":                removed.And(released).When(reserve(one, 2, "silo", cost)).Refused(domain.CodeStale, "change", shut),
		"a late reservation during the removal is stale":               removing.And(released).When(reserve(one, 1, "silo", cost)).Refused(domain.CodeStale, "change", shut),
		"a tenant may come back with a later change":                   removed.And(released).When(reserve(one, 3, "silo", cost)).Then(plane.CapacityReserved{Tenant: one, Org: org, Change: 3, Cost: cost}),
		"what a later change made is not an older one's to remove":     again.When(ask(6, plane.Deprovision, 2, 0)).Refused(domain.CodeStale, "change", shut),
		"the removal before it does not take away what is desired now": again.When(report(1, 3, "done")).Then(succeeded(deprovision)),
		"nor what is asked of it then": again.And(succeeded(deprovision)).When(ask(6, plane.Suspend, 0, 3)).
			Then(later(6, 4, plane.Suspend, func(d *plane.Desired) { held(3)(d); d.Change = 3 })),
		"nobody speaks without a session": member.When(judge(0, plane.Online)).Refused(domain.CodeStale, "session", noSession),
		"a kind that there is not":        made.When(ask(4, "migrate", 1, 0)).Refused(domain.CodeInvalid, "kind", "must be provision, suspend, resume or deprovision"),

		// Answers.
		"it is really so": making.When(report(1, 1, "done")).Then(succeeded(provision)),
		"it is not": making.When(plane.Report{Session: 1, Operation: op(1), Outcome: "failed", Attempts: 3, Class: "quota", Code: "disk_full"}).
			Then(plane.OperationFailed{Outcome: outcome(provision), Attempts: 3, Class: "quota", Code: "disk_full"}),
		"it was never begun":                making.When(report(1, 1, "withdrawn")).Then(plane.OperationWithdrawn{Outcome: outcome(provision)}),
		"a later one made it void":          making.When(report(1, 1, "superseded")).Then(plane.OperationSuperseded{Outcome: outcome(provision)}),
		"a cordoned plane's agent answers":  closedMaking.When(report(1, 1, "done")).Then(succeeded(provision)),
		"a withdrawn one may be done still": hushing.And(withdrawal(suspending)).When(report(1, 2, "done")).Then(succeeded(suspending)),
		"it is gone":                        removing.When(report(1, 3, "done")).Then(succeeded(deprovision)),
		"a late answer is nothing":          made.When(report(1, 1, "failed")).Nothing(),
		"an answer to nothing neither":      online.When(report(1, 7, "done")).Nothing(),
		"a replaced session answers nothing": making.And(plane.SessionOpened{Session: 2}).When(report(1, 1, "done")).
			Refused(domain.CodeStale, "session", noSession),
	},
}

// complete and whole have every field set, for the wire.
var (
	complete = plane.Desired{Org: org, Isolation: "silo", Limits: limits, CredentialVersion: 1, Suspended: true, Change: 1, Causes: 2, Gone: true}
	whole    = plane.Outcome{Operation: op(1), Kind: plane.Suspend, Tenant: one, Org: org, Change: 1, Causes: 2, Suspended: true}
)

func TestSpecification(t *testing.T) { spec.Run(t) }

func TestInputIsRefusedByItsField(t *testing.T) {
	many := map[string]string{}
	for i := range 65 {
		many[fmt.Sprint(i)] = "x"
	}
	failed := func(class, code string) plane.Report {
		return plane.Report{PlaneID: id, Operation: op(1), Outcome: "failed", Class: class, Code: code}
	}
	CheckInputs(t, map[string]Input{
		"nothing at all":         Good(plane.Register{}),
		"all of it":              Good(everything),
		"long name":              Bad("name", register(func(r *plane.Registration) { r.Name = strings.Repeat("n", 201) })),
		"odd region":             Bad("region", register(func(r *plane.Registration) { r.Region = "EU" })),
		"odd cloud":              Bad("cloud", register(func(r *plane.Registration) { r.Cloud = "a b" })),
		"odd account":            Bad("account", register(func(r *plane.Registration) { r.Account = "ours" })),
		"odd isolation":          Bad("isolations", register(func(r *plane.Registration) { r.Isolations = []string{"pool", "moat"} })),
		"negative capacity":      Bad("capacity.slots", register(func(r *plane.Registration) { r.Capacity = domain.Units{"slots": -1} })),
		"odd unit":               Bad("capacity", register(func(r *plane.Registration) { r.Capacity = domain.Units{"Slots": 1} })),
		"too many labels":        Bad("labels", register(func(r *plane.Registration) { r.Labels = many })),
		"odd label":              Bad("labels", register(func(r *plane.Registration) { r.Labels = map[string]string{"": "x"} })),
		"odd label value":        Bad("labels.zone", register(func(r *plane.Registration) { r.Labels = map[string]string{"zone": "a b"} })),
		"cordon":                 Good(plane.Cordon{PlaneID: id, Reason: domain.Clear("maintenance")}),
		"cordon nothing":         Bad("planeId", plane.Cordon{}),
		"cordon at length":       Bad("reason", plane.Cordon{PlaneID: id, Reason: domain.Clear(strings.Repeat("r", 2001))}),
		"uncordon a tenant":      Bad("planeId", plane.Uncordon{PlaneID: one}),
		"uncordon with NUL":      Bad("reason", plane.Uncordon{PlaneID: id, Reason: domain.Clear("a\x00")}),
		"issue":                  Good(plane.IssueJoinToken{PlaneID: id}),
		"issue for nothing":      Bad("planeId", plane.IssueJoinToken{}),
		"join":                   Good(join(hash, key, 0)),
		"join without a token":   Bad("hash", join("", key, 0)),
		"join without a key":     Bad("publicKey", join(hash, "", 0)),
		"join with an odd key":   Bad("publicKey", join(hash, "a\nb", 0)),
		"join nothing":           Bad("planeId", plane.Join{}),
		"session":                Good(openSession(key)),
		"odd version":            Bad("version", plane.OpenSession{PlaneID: id, Version: "\x01"}),
		"long driver":            Bad("driver", plane.OpenSession{PlaneID: id, Driver: strings.Repeat("d", 101)}),
		"report":                 Good(report(1, 1, "done")),
		"report of a failure":    Good(failed("plane_down", "db_down")),
		"odd outcome":            Bad("outcome", report(1, 1, "lost")),
		"odd class":              Bad("class", failed("unlucky", "db_down")),
		"odd code":               Bad("class", failed("bug", "Oh no: passwords")),
		"report of no operation": Bad("operation", plane.Report{PlaneID: id, Outcome: "done"}),
		"unclaimed":              Good(unclaimed(1, "anything")),
		"too many unclaimed":     Bad("tenants", unclaimed(1, make([]string, 1001)...)),
		"odd unclaimed":          Bad("tenants", unclaimed(1, "\xff")),
	})
}

func TestAnOutcomeAnswersTheSagaThatAskedAndBelongsToTheTenant(t *testing.T) {
	asked := &domain.Answers{Saga: "sag_one", Command: command(1).CommandID}
	c := ask(1, plane.Provision, 1, 0)
	c.Answers = asked
	history := []any{registered, issued, joined, session, seen, reserved}
	events, err := plane.Aggregate.Decide(Fold(plane.Aggregate, history...), c)
	if err != nil || len(events) != 1 {
		t.Fatal(events, err)
	}
	want := provision
	want.Saga, want.Command = asked.Saga, asked.Command
	if diff := Diff([]any{want}, events); diff != "" {
		t.Fatalf("events (-want +got):\n%s", diff)
	}
	state := Fold(plane.Aggregate, append(history, events...)...)
	for _, outcome := range []string{"done", "failed", "withdrawn", "superseded"} {
		events, err := plane.Aggregate.Decide(state, report(1, 1, outcome))
		if err != nil || len(events) != 1 {
			t.Fatal(events, err)
		}
		if diff := Diff(asked, events[0].(domain.Answering).Answering()); diff != "" {
			t.Errorf("%s answers (-want +got):\n%s", outcome, diff)
		}
	}
	late := ask(2, plane.Suspend, 0, 3) // superseded at once, which is an answer too
	late.TenantID, late.Answers = two, asked
	if events, err = plane.Aggregate.Decide(state, late); err != nil || len(events) != 1 {
		t.Fatal(events, err)
	}
	if diff := Diff(asked, events[0].(domain.Answering).Answering()); diff != "" {
		t.Errorf("what is superseded at once answers (-want +got):\n%s", diff)
	}
	if got := succeeded(provision).Answering(); got != nil {
		t.Errorf("what no saga asked answers %v", got)
	}
	for _, x := range spec.Examples {
		if e, owned := x.(domain.Owned); owned {
			if o, ten := e.Owner(); o != org || ten != one {
				t.Errorf("%T belongs to %q, %q", e, o, ten)
			}
		}
	}
	if o, ten := plane.Aggregate.Owner(state, id); o != "" || ten != "" {
		t.Errorf("the plane itself belongs to %q, %q", o, ten)
	}
	CheckCreator(t, &plane.Register{}, "pln")
	CheckTargets(t, spec, id)
}

// TestAnyOrderOfCommandsKeepsTheBooks lets commands come in any order, of any age and more than once. Walk itself checks
// that evolving leaves older states as they were, and that the log folds to the same.
func TestAnyOrderOfCommandsKeepsTheBooks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		owed := map[string]bool{} // asked without an outcome
		tenant := rapid.SampledFrom([]string{one, two, "ten_caaaaaaaaaaaaaaaaaaaaaaaaa"})
		first := []any{everything, issue, join(hash, key, 0), openSession(key), judge(1, plane.Online)}
		Walk(t, plane.Aggregate, 60, func(t *rapid.T, state any) any {
			if len(first) > 0 {
				c := first[0]
				first = first[1:]
				return c
			}
			s := state.(plane.State)
			who, change := tenant.Draw(t, "tenant"), rapid.Int64Range(1, 3).Draw(t, "change")
			session := s.Agent.Session - int64(rapid.IntRange(0, 8).Draw(t, "age")/8)
			switch rapid.IntRange(0, 12).Draw(t, "command") {
			case 0, 1, 2:
				return reserve(who, change, "pool", domain.Units{"slots": rapid.Int64Range(0, 6).Draw(t, "slots")})
			case 3:
				return release(who, change)
			case 4, 5, 6, 7:
				kind := rapid.SampledFrom([]plane.Kind{plane.Provision, plane.Suspend, plane.Resume, plane.Deprovision}).Draw(t, "kind")
				c := ask(rapid.IntRange(1, 12).Draw(t, "command id"), kind, change, rapid.Int64Range(0, 4).Draw(t, "causes"))
				c.TenantID, c.Tenant.Causes, c.Tenant.Suspended = who, c.Causes, c.Causes%2 == 1
				return c
			case 8, 9, 10:
				c := report(session, 0, rapid.SampledFrom([]string{"done", "failed", "withdrawn", "superseded"}).Draw(t, "outcome"))
				if ops := s.Open(); len(ops) > 0 {
					c.Operation = rapid.SampledFrom(ops).Draw(t, "operation").ID
				}
				return c
			case 11:
				return rapid.SampledFrom([]any{plane.Cordon{}, plane.Uncordon{}, plane.Uncordon{}, openSession(key)}).Draw(t, "other")
			default:
				return judge(session, rapid.SampledFrom([]plane.AgentState{plane.Online, plane.Online, plane.Unknown}).Draw(t, "state"))
			}
		}, func(s Step) {
			before, after := s.Before.(plane.State), s.After.(plane.State)
			for _, e := range s.Events {
				switch e := e.(type) {
				case plane.OperationAsked:
					owed[e.Operation] = true
					if e.Order != before.Asked+1 || after.Asked != e.Order {
						t.Fatalf("order %d after %d", e.Order, before.Asked)
					}
				case plane.OperationSucceeded:
					delete(owed, e.Operation)
				case plane.OperationFailed:
					delete(owed, e.Operation)
				case plane.OperationWithdrawn:
					delete(owed, e.Operation)
				case plane.OperationSuperseded:
					delete(owed, e.Operation)
				}
			}
			balanced(t, after)
			operations(t, after, owed)
			switch s.Command.(type) {
			case plane.Reserve, plane.Release, plane.Ask, plane.Report, plane.Judge, plane.Join:
				if again, err := plane.Aggregate.Decide(after, s.Command); s.Err == nil && (len(again) > 0 || err != nil) {
					t.Fatalf("%#v once more led to %v, %v", s.Command, again, err)
				}
			}
		})
	})
}

// balanced checks that what is used is the sum of what is reserved, and never above capacity.
func balanced(t *rapid.T, s plane.State) {
	sum := map[string]int64{}
	for _, r := range s.Reservations.All() {
		for unit, n := range r.Cost {
			sum[unit] += n
		}
	}
	for unit, used := range s.Used.All() {
		if used != sum[unit] || used < 0 || used > s.Capacity[unit] || s.Free(unit) != s.Capacity[unit]-used {
			t.Fatalf("%d %s used, %d reserved, of %d", used, unit, sum[unit], s.Capacity[unit])
		}
		delete(sum, unit)
	}
	for unit, n := range sum {
		if n != 0 {
			t.Fatalf("%d %s reserved and none used", n, unit)
		}
	}
}

// operations checks that those are open that were asked and not answered, in order, and that they fit what is desired.
func operations(t *rapid.T, s plane.State, owed map[string]bool) {
	var last int64
	for _, o := range s.Open() {
		if !owed[o.ID] || o.Order <= last {
			t.Fatalf("%s of order %d is open after %d, and owed: %v", o.ID, o.Order, last, owed[o.ID])
		}
		last = o.Order
		d, known := s.Tenants.Get(o.Tenant)
		if o.Kind != plane.Deprovision && !o.Withdrawn && !known {
			t.Fatalf("%s is owed to a tenant of which nothing is desired", o.Kind)
		}
		if o.Kind != plane.Deprovision && !o.Withdrawn && d.Gone {
			t.Fatalf("%s is still wanted of a tenant that shall go", o.Kind)
		}
	}
	if n := s.Operations.Len(); n != len(owed) {
		t.Fatalf("%d open, %d owed", n, len(owed))
	}
}
