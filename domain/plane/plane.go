// Package plane is the rulebook of one data plane: its registration, its agent, its capacity ledger, and every operation
// asked of it. What the agent is owed is what this fold holds: open operations, and each tenant's desired state.
package plane

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/tenure-dev/tenure/domain"
)

// Phase is where a plane stands in its life.
type Phase string

// The phases.
const (
	Absent Phase = ""
	Open   Phase = "open"
	Closed Phase = "cordoned"
)

// AgentState is what the gateway thinks of a plane's agent.
type AgentState string

// The states of an agent; Never is before the first session.
const (
	Never    AgentState = ""
	Awaiting AgentState = "awaiting-first-heartbeat"
	Online   AgentState = "online"
	Unknown  AgentState = "unknown"
	Offline  AgentState = "offline"
)

var allIsolations = []string{"pool", "bridge", "silo"}

// State is what a plane's decisions rest on, and what its agent is owed.
type State struct {
	Phase Phase
	Registration
	Agent        Agent
	Used         domain.Map[int64]       // by unit
	Reservations domain.Map[Reservation] // by tenant
	Tenants      domain.Map[Desired]     // by tenant; without those that are gone and confirmed so
	Operations   domain.Map[Operation]   // the open ones, by id
	Settled      domain.Map[Settled]     // by tenant, for ever
	Asked        int64                   // operations so far
}

// Agent is the plane's agent as the log knows it.
type Agent struct {
	PublicKey    string
	TokenHash    string
	TokenExpires time.Time
	UsedToken    string // hash of the token with which it joined
	Session      int64
	State        AgentState
	Version      string
	Driver       string
}

// Present tells whether new tenants may come: the agent is online, or has just opened a session, as it does after every
// restart of the control plane.
func (a Agent) Present() bool { return a.State == Online || a.State == Awaiting }

// Reservation is one line of the capacity ledger.
type Reservation struct {
	Org    string
	Change int64
	Cost   domain.Units
}

// Operation is one that the agent has not answered.
type Operation struct {
	ID        string
	Order     int64 // in which it was asked, from 1
	Kind      Kind
	Tenant    string
	Desired   Desired
	Answers   *domain.Answers
	Withdrawn bool // no longer wanted
}

// Settled is what is remembered of a tenant when its operations are closed: anything older is stale.
type Settled struct {
	Change    int64  // the highest closed change number
	Operation string // the last closed operation
}

// Lifecycle is the specification: which command is heard in which phase.
var Lifecycle = domain.Decider[Phase, State, Event]{
	Phase:  func(s State) Phase { return s.Phase },
	Phases: []Phase{Absent, Open, Closed},
	Evolve: evolve,
	Rules: []rule{
		on(register, Absent),
		on(cordon, Open).QuietIn(Closed),
		on(uncordon, Closed).QuietIn(Open),
		on(issueJoinToken, Open, Closed),
		on(join, Open, Closed),
		on(openSession, Open, Closed),
		on(judge, Open, Closed),
		on(report, Open, Closed),
		on(reportUnclaimed, Open, Closed),
		on(reserve, Open, Closed),
		on(release, Open, Closed),
		on(ask, Open, Closed),
	},
}

// Events is the wire contract of what happened.
var Events = domain.Catalog{
	fact[Registered]("plane.registered"),
	fact[Cordoned]("plane.cordoned"),
	fact[Uncordoned]("plane.uncordoned"),
	fact[JoinTokenIssued]("plane.join.token.issued"),
	fact[AgentJoined]("plane.agent.joined"),
	fact[SessionOpened]("plane.session.opened"),
	fact[AgentJudged]("plane.agent.judged"),
	fact[TenantsUnclaimed]("plane.tenants.unclaimed"),
	fact[CapacityReserved]("plane.capacity.reserved"),
	fact[CapacityReleased]("plane.capacity.released"),
	fact[OperationAsked]("plane.operation.asked"),
	fact[WithdrawalAsked]("plane.operation.withdrawal.asked"),
	fact[OperationSucceeded]("plane.operation.succeeded"),
	fact[OperationFailed]("plane.operation.failed"),
	fact[OperationWithdrawn]("plane.operation.withdrawn"),
	fact[OperationSuperseded]("plane.operation.superseded"),
	fact[Noted]("plane.noted"),
}

// Commands is the wire contract of what can be asked.
var Commands = domain.Catalog{
	domain.Fact[Register]("plane.register"),
	domain.Fact[Cordon]("plane.cordon"),
	domain.Fact[Uncordon]("plane.uncordon"),
	domain.Fact[IssueJoinToken]("plane.issueJoinToken"),
	domain.Fact[Join]("plane.join"),
	domain.Fact[OpenSession]("plane.openSession"),
	domain.Fact[Judge]("plane.judge"),
	domain.Fact[Report]("plane.report"),
	domain.Fact[ReportUnclaimed]("plane.reportUnclaimed"),
	domain.Fact[Reserve]("plane.reserve"),
	domain.Fact[Release]("plane.release"),
	domain.Fact[Ask]("plane.ask"),
}

// Aggregate is the plane as the Bus holds it.
var Aggregate = Lifecycle.Aggregate("plane", Events, Commands, Noted{}, func(State, string) (string, string) { return "", "" })

func register(_ State, c Register) ([]Event, error) {
	r := c.Registration
	r.Name = cmp.Or(r.Name, "plane")
	r.Region = cmp.Or(r.Region, "default")
	r.Account = cmp.Or(r.Account, "hosted")
	if r.Capacity == nil {
		r.Capacity = domain.Units{"slots": 1000}
	}
	if len(r.Isolations) == 0 {
		r.Isolations = allIsolations
	}
	r.Isolations = slices.Compact(slices.Sorted(slices.Values(r.Isolations)))
	return []Event{Registered{r}}, nil
}

func cordon(_ State, c Cordon) ([]Event, error) { return []Event{Cordoned{c.Reason}}, nil }

func uncordon(_ State, c Uncordon) ([]Event, error) { return []Event{Uncordoned{c.Reason}}, nil }

func issueJoinToken(_ State, c IssueJoinToken) ([]Event, error) {
	if c.Hash == "" || c.Life <= 0 {
		return nil, domain.Invalid("token", "must be drawn by the gateway")
	}
	return []Event{JoinTokenIssued{c.Hash, c.Now.Add(c.Life)}}, nil
}

func join(s State, c Join) ([]Event, error) {
	switch {
	case s.Agent.UsedToken == c.Hash && s.Agent.PublicKey == c.PublicKey:
		return nil, nil
	case s.Agent.TokenHash == "" || s.Agent.TokenHash != c.Hash:
		return nil, &domain.Error{Code: domain.CodeUnauthenticated, Field: "token", Message: "is not a valid join token of this plane"}
	case !c.Now.Before(s.Agent.TokenExpires):
		return nil, &domain.Error{Code: domain.CodeUnauthenticated, Field: "token", Message: "has expired"}
	}
	return []Event{AgentJoined{c.PublicKey, c.Hash}}, nil
}

func openSession(s State, c OpenSession) ([]Event, error) {
	if s.Agent.PublicKey == "" || s.Agent.PublicKey != c.PublicKey {
		return nil, &domain.Error{Code: domain.CodeUnauthenticated, Field: "publicKey", Message: "is not that of this plane's agent"}
	}
	return []Event{SessionOpened{s.Agent.Session + 1, c.Version, c.Driver}}, nil
}

func judge(s State, c Judge) ([]Event, error) {
	if err := s.session(c.Session); err != nil {
		return nil, err
	}
	if s.Agent.State == c.State {
		return nil, nil
	}
	return []Event{AgentJudged{c.Session, c.State}}, nil
}

func report(s State, c Report) ([]Event, error) {
	if err := s.session(c.Session); err != nil {
		return nil, err
	}
	op, open := s.Operations.Get(c.Operation)
	if !open { // a late answer
		return nil, nil
	}
	o := op.outcome()
	switch c.Outcome {
	case "done":
		return []Event{OperationSucceeded{o, c.Attempts}}, nil
	case "failed":
		return []Event{OperationFailed{o, c.Attempts, c.Class, c.Code}}, nil
	case "withdrawn":
		return []Event{OperationWithdrawn{o}}, nil
	default:
		return []Event{OperationSuperseded{o}}, nil
	}
}

func reportUnclaimed(s State, c ReportUnclaimed) ([]Event, error) {
	if err := s.session(c.Session); err != nil {
		return nil, err
	}
	unknown := slices.DeleteFunc(slices.Sorted(slices.Values(c.Tenants)), func(t string) bool { _, known := s.Tenants.Get(t); return known })
	if len(unknown) == 0 {
		return nil, nil
	}
	return []Event{TenantsUnclaimed{c.Session, slices.Compact(unknown)}}, nil
}

func reserve(s State, c Reserve) ([]Event, error) {
	if r, held := s.Reservations.Get(c.TenantID); held {
		if r.Change == c.Change {
			return nil, nil
		}
		return nil, domain.NotAllowed("reserve", "holding another change's reservation")
	}
	switch {
	case c.Change <= s.over(c.TenantID):
		return nil, errOver()
	case s.Phase == Closed:
		return nil, domain.NotAllowed("reserve", string(Closed), string(Open))
	case !s.Agent.Present():
		return nil, domain.NotAllowed("reserve", "agent "+string(cmp.Or(s.Agent.State, "never seen")), string(Online), string(Awaiting))
	case !slices.Contains(s.Isolations, c.Isolation):
		return nil, domain.NotAllowed("reserve "+c.Isolation, "not offering it", s.Isolations...)
	}
	if unit := s.lacks(c.Cost); unit != "" {
		return nil, &domain.Error{Code: domain.CodeCapacityExhausted, Field: unit, Message: "is exhausted on the plane"}
	}
	return []Event{CapacityReserved{c.TenantID, c.OrgID, c.Change, c.Cost}}, nil
}

func release(s State, c Release) ([]Event, error) {
	r, held := s.Reservations.Get(c.TenantID)
	if !held || r.Change > c.Change {
		return nil, nil
	}
	return []Event{CapacityReleased{c.TenantID, r.Org, c.Change, r.Cost}}, nil
}

// ask adds an operation to what the agent owes. One that is open already, or was the last to be answered, is not added
// again: its outcome is on the way to whoever asked.
func ask(s State, c Ask) ([]Event, error) {
	id := domain.OperationIDFor(c.CommandID)
	settled, _ := s.Settled.Get(c.TenantID)
	if _, open := s.Operations.Get(id); open || settled.Operation == id {
		return nil, nil
	}
	desired, known := s.Tenants.Get(c.TenantID)
	op := Operation{ID: id, Kind: c.Kind, Tenant: c.TenantID, Answers: c.Answers}
	var also []Event
	switch c.Kind {
	case Provision:
		if c.Change <= s.over(c.TenantID) || c.Change < desired.Change {
			return nil, errOver()
		}
		if r, held := s.Reservations.Get(c.TenantID); !held || r.Change != c.Change {
			return nil, domain.NotAllowed("provision", "holding no reservation for this change")
		}
		op.Desired = Desired{Org: c.OrgID, Isolation: c.Isolation, Limits: c.Limits, CredentialVersion: max(1, desired.CredentialVersion),
			Suspended: c.Tenant.Suspended, Change: c.Change, Causes: c.Tenant.Causes}
	case Suspend, Resume:
		op.Desired = desired
		op.Desired.Org, op.Desired.Suspended, op.Desired.Causes = c.OrgID, c.Kind == Suspend, c.Causes
		if !known || desired.Gone || c.Causes < desired.Causes {
			return []Event{OperationSuperseded{op.outcome()}}, nil
		}
		also = s.withdraw(c.TenantID, func(o Operation) bool { return (o.Kind == Suspend || o.Kind == Resume) && o.Desired.Causes < c.Causes })
	case Deprovision:
		if c.Change < max(settled.Change, desired.Change) { // what a later change has made is not its to remove
			return nil, errOver()
		}
		op.Desired = desired
		op.Desired.Org, op.Desired.Isolation = c.OrgID, cmp.Or(desired.Isolation, c.Isolation)
		op.Desired.CredentialVersion = max(1, desired.CredentialVersion)
		op.Desired.Change, op.Desired.Gone = c.Change, true
		also = s.withdraw(c.TenantID, func(o Operation) bool { return o.Kind != Deprovision })
	default:
		return nil, domain.Invalid("kind", "must be provision, suspend, resume or deprovision")
	}
	asked := OperationAsked{Operation: id, Order: s.Asked + 1, Kind: c.Kind, Tenant: c.TenantID, Desired: op.Desired}
	if c.Answers != nil {
		asked.Saga, asked.Command = c.Answers.Saga, c.Answers.Command
	}
	return append(also, asked), nil
}

// withdraw says of a tenant's open operations which are no longer wanted.
func (s State) withdraw(tenant string, unwanted func(Operation) bool) (events []Event) {
	for _, op := range s.Open() {
		if op.Tenant == tenant && !op.Withdrawn && unwanted(op) {
			events = append(events, WithdrawalAsked{op.ID, tenant, op.Desired.Org})
		}
	}
	return events
}

// over is the highest change of a tenant that takes and makes nothing here any more: its removal is asked for or confirmed.
func (s State) over(tenant string) int64 {
	settled, _ := s.Settled.Get(tenant)
	if desired, _ := s.Tenants.Get(tenant); desired.Gone {
		return max(settled.Change, desired.Change)
	}
	return settled.Change
}

func errOver() error {
	return &domain.Error{Code: domain.CodeStale, Field: "change", Message: "is closed on this plane"}
}

// session refuses the words of an agent that another has replaced.
func (s State) session(n int64) error {
	if n < 1 || n != s.Agent.Session {
		return &domain.Error{Code: domain.CodeStale, Field: "session", Message: "is not the plane's current one"}
	}
	return nil
}

// Open lists the open operations in the order in which they were asked.
func (s State) Open() []Operation {
	ops := make([]Operation, 0, s.Operations.Len())
	for _, op := range s.Operations.All() {
		ops = append(ops, op)
	}
	slices.SortFunc(ops, func(a, b Operation) int { return cmp.Compare(a.Order, b.Order) })
	return ops
}

// Free is what is left of a unit; none of a unit that the plane does not have.
func (s State) Free(unit string) int64 {
	used, _ := s.Used.Get(unit)
	return s.Capacity[unit] - used
}

// HasRoom tells whether a tenant of that cost fits.
func (s State) HasRoom(cost domain.Units) bool { return s.lacks(cost) == "" }

// lacks names the first unit, by name, of which there is not enough left; empty if there is.
func (s State) lacks(cost domain.Units) string {
	for _, unit := range slices.Sorted(maps.Keys(cost)) {
		if cost[unit] > s.Free(unit) {
			return unit
		}
	}
	return ""
}

func (op Operation) outcome() Outcome {
	return Outcome{Operation: op.ID, Kind: op.Kind, Tenant: op.Tenant, Org: op.Desired.Org, Change: op.Desired.Change,
		Causes: op.Desired.Causes, Suspended: op.Desired.Suspended, answers: op.Answers}
}

func evolve(s State, e Event) State {
	switch e := e.(type) {
	case Registered:
		return State{Phase: Open, Registration: e.Registration}
	case Cordoned:
		s.Phase = Closed
	case Uncordoned:
		s.Phase = Open
	case JoinTokenIssued:
		s.Agent.TokenHash, s.Agent.TokenExpires = e.Hash, e.ExpiresAt
	case AgentJoined:
		s.Agent.PublicKey, s.Agent.UsedToken, s.Agent.TokenHash = e.PublicKey, e.Token, ""
	case SessionOpened:
		s.Agent.Session, s.Agent.State, s.Agent.Version, s.Agent.Driver = e.Session, Awaiting, e.Version, e.Driver
	case AgentJudged:
		s.Agent.State = e.State
	case TenantsUnclaimed:
	case CapacityReserved:
		s.Reservations = s.Reservations.With(e.Tenant, Reservation{e.Org, e.Change, e.Cost})
		s.Used = add(s.Used, e.Cost, 1)
	case CapacityReleased:
		s.Reservations = s.Reservations.Without(e.Tenant)
		s.Used = add(s.Used, e.Cost, -1)
	case OperationAsked:
		op := Operation{ID: e.Operation, Order: e.Order, Kind: e.Kind, Tenant: e.Tenant, Desired: e.Desired}
		if e.Command != "" {
			op.Answers = &domain.Answers{Saga: e.Saga, Command: e.Command}
		}
		s.Asked = e.Order
		s.Operations = s.Operations.With(e.Operation, op)
		s.Tenants = s.Tenants.With(e.Tenant, e.Desired)
	case WithdrawalAsked:
		if op, open := s.Operations.Get(e.Operation); open {
			op.Withdrawn = true
			s.Operations = s.Operations.With(e.Operation, op)
		}
	case OperationSucceeded:
		s = s.close(e.Outcome)
		if e.Kind == Deprovision {
			if d, _ := s.Tenants.Get(e.Tenant); d.Gone { // it has not come back since
				s.Tenants = s.Tenants.Without(e.Tenant)
			}
			s.Settled = s.Settled.With(e.Tenant, Settled{e.Change, e.Operation})
		}
	case OperationFailed:
		s = s.close(e.Outcome)
	case OperationWithdrawn:
		s = s.close(e.Outcome)
	case OperationSuperseded:
		s = s.close(e.Outcome)
	case Noted:
	}
	return s
}

func (s State) close(o Outcome) State {
	s.Operations = s.Operations.Without(o.Operation)
	settled, _ := s.Settled.Get(o.Tenant)
	settled.Operation = o.Operation
	s.Settled = s.Settled.With(o.Tenant, settled)
	return s
}

func add(used domain.Map[int64], cost domain.Units, sign int64) domain.Map[int64] {
	for unit, n := range cost {
		v, _ := used.Get(unit)
		used = used.With(unit, v+sign*n)
	}
	return used
}
