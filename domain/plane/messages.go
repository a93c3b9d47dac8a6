package plane

import (
	"time"

	"github.com/tenure-dev/tenure/domain"
)

// Event is one of the facts of a data plane's life.
//
//sumtype:decl
type Event interface{ isPlaneEvent() }

type rule = domain.Rule[Phase, State, Event]

func on[C domain.Command](h func(State, C) ([]Event, error), from ...Phase) rule {
	return domain.On(h, from...)
}

func fact[E Event](name string, up ...domain.Upcast) domain.Entry { return domain.Fact[E](name, up...) }

// Kind is what an operation does to a tenant on the plane.
type Kind string

// The kinds of operations.
const (
	Provision   Kind = "provision"
	Suspend     Kind = "suspend"
	Resume      Kind = "resume"
	Deprovision Kind = "deprovision"
)

// Registration is what a plane is.
type Registration struct {
	Name       string            `json:"name"`
	Region     string            `json:"region"`
	Cloud      string            `json:"cloud,omitempty"`
	Account    string            `json:"account"` // hosted or customer
	Labels     map[string]string `json:"labels,omitempty"`
	Capacity   domain.Units      `json:"capacity"`
	Isolations []string          `json:"isolations"` // of pool, bridge, silo: what it can keep apart
}

// Desired is what the plane shall make of one tenant: all that an agent needs to know of it.
type Desired struct {
	Org               string       `json:"org"`
	Isolation         string       `json:"isolation"`
	Limits            domain.Units `json:"limits,omitempty"`
	CredentialVersion int64        `json:"credentialVersion"`
	Suspended         bool         `json:"suspended,omitempty"`
	Change            int64        `json:"change"` // number of the change that last touched it
	Causes            int64        `json:"causes"` // revision of the causes that Suspended follows
	Gone              bool         `json:"gone,omitempty"`
}

// Outcome is what all answers to an operation say.
type Outcome struct {
	Operation string `json:"operation"` // op_…
	Kind      Kind   `json:"kind"`
	Tenant    string `json:"tenant"`
	Org       string `json:"org"`
	Change    int64  `json:"change"`
	Causes    int64  `json:"causes"`
	Suspended bool   `json:"suspended,omitempty"`
	answers   *domain.Answers
}

// Owner says whose tenant it is about.
func (o Outcome) Owner() (org, tenant string) { return o.Org, o.Tenant }

// Answering is the saga's ask that the operation came from.
func (o Outcome) Answering() *domain.Answers { return o.answers }

// The events.
type (
	// Registered begins a plane's life.
	Registered struct{ Registration }
	// Cordoned keeps new tenants away; those that are there stay.
	Cordoned struct {
		Reason domain.Sealed `json:"reason"`
	}
	// Uncordoned lets new tenants come again.
	Uncordoned struct {
		Reason domain.Sealed `json:"reason"`
	}
	// JoinTokenIssued lets one agent join until it expires. The token itself is nowhere in the log.
	JoinTokenIssued struct {
		Hash      string    `json:"hash"` // SHA-256 of the token's secret, hex
		ExpiresAt time.Time `json:"expiresAt"`
	}
	// AgentJoined names the key with which the plane's agent signs from now on; the token is used up.
	AgentJoined struct {
		PublicKey string `json:"publicKey"` // Ed25519, base64url
		Token     string `json:"token"`     // hash of the one that it used
	}
	// SessionOpened begins session number Session; lower ones are void.
	SessionOpened struct {
		Session int64  `json:"session"`
		Version string `json:"version"`
		Driver  string `json:"driver"`
	}
	// AgentJudged says what the gateway thinks of the agent in that session.
	AgentJudged struct {
		Session int64      `json:"session"`
		State   AgentState `json:"state"`
	}
	// TenantsUnclaimed lists tenants that the plane has and the log does not know. They are kept until a person decides.
	TenantsUnclaimed struct {
		Session int64    `json:"session"`
		Tenants []string `json:"tenants"`
	}
	// CapacityReserved takes Cost out of the plane's capacity for a tenant.
	CapacityReserved struct {
		Tenant string       `json:"tenant"`
		Org    string       `json:"org"`
		Change int64        `json:"change"`
		Cost   domain.Units `json:"cost"`
	}
	// CapacityReleased gives it back.
	CapacityReleased struct {
		Tenant string       `json:"tenant"`
		Org    string       `json:"org"`
		Change int64        `json:"change"`
		Cost   domain.Units `json:"cost"`
	}
	// OperationAsked is owed by the agent until an outcome with the same operation id stands in the stream.
	OperationAsked struct {
		Operation string  `json:"operation"` // op_…, another writing of the ask's command id
		Order     int64   `json:"order"`     // in which it was asked of this plane, from 1
		Kind      Kind    `json:"kind"`
		Tenant    string  `json:"tenant"`
		Desired   Desired `json:"desired"`
		Saga      string  `json:"saga,omitempty"`    // that asked
		Command   string  `json:"command,omitempty"` // its command id
	}
	// WithdrawalAsked says that an operation is no longer wanted; an agent that has not begun it answers withdrawn.
	WithdrawalAsked struct {
		Operation string `json:"operation"`
		Tenant    string `json:"tenant"`
		Org       string `json:"org"`
	}
	// OperationSucceeded says that it is really so on the plane.
	OperationSucceeded struct {
		Outcome
		Attempts int64 `json:"attempts"`
	}
	// OperationFailed says why it is not, as far as the agent has tried.
	OperationFailed struct {
		Outcome
		Attempts int64  `json:"attempts"`
		Class    string `json:"class"` // user, quota, transient, plane_down or bug
		Code     string `json:"code"`  // the driver's short word
	}
	// OperationWithdrawn says that it was never begun.
	OperationWithdrawn struct{ Outcome }
	// OperationSuperseded says that a later revision of the causes, or the tenant's end, made it void.
	OperationSuperseded struct{ Outcome }
	// Noted remembers a caller's command that changed nothing.
	Noted struct{}
)

func (Registered) isPlaneEvent()          {}
func (Cordoned) isPlaneEvent()            {}
func (Uncordoned) isPlaneEvent()          {}
func (JoinTokenIssued) isPlaneEvent()     {}
func (AgentJoined) isPlaneEvent()         {}
func (SessionOpened) isPlaneEvent()       {}
func (AgentJudged) isPlaneEvent()         {}
func (TenantsUnclaimed) isPlaneEvent()    {}
func (CapacityReserved) isPlaneEvent()    {}
func (CapacityReleased) isPlaneEvent()    {}
func (OperationAsked) isPlaneEvent()      {}
func (WithdrawalAsked) isPlaneEvent()     {}
func (OperationSucceeded) isPlaneEvent()  {}
func (OperationFailed) isPlaneEvent()     {}
func (OperationWithdrawn) isPlaneEvent()  {}
func (OperationSuperseded) isPlaneEvent() {}
func (Noted) isPlaneEvent()               {}

// Owner says whose tenant it is about.
func (e CapacityReserved) Owner() (org, tenant string) { return e.Org, e.Tenant }

// Owner says whose tenant it is about.
func (e CapacityReleased) Owner() (org, tenant string) { return e.Org, e.Tenant }

// Owner says whose tenant it is about.
func (e OperationAsked) Owner() (org, tenant string) { return e.Desired.Org, e.Tenant }

// Owner says whose tenant it is about.
func (e WithdrawalAsked) Owner() (org, tenant string) { return e.Org, e.Tenant }

// The commands that callers send.
type (
	// Register creates a plane. What is left out has a default: name "plane", region "default", account hosted, a
	// capacity of 1000 slots, all three isolations.
	Register struct {
		domain.Given `json:"-"`
		PlaneID      string `json:"planeId,omitempty"` // derived by the Bus
		Registration
	}
	// Cordon keeps new tenants away.
	Cordon struct {
		domain.Given `json:"-"`
		PlaneID      string        `json:"planeId"`
		Reason       domain.Sealed `json:"reason"`
	}
	// Uncordon lets them come again.
	Uncordon struct {
		domain.Given `json:"-"`
		PlaneID      string        `json:"planeId"`
		Reason       domain.Sealed `json:"reason"`
	}
	// IssueJoinToken lets an agent join. The token is drawn by the caller of the Bus, is no part of the input, and a
	// repeat does not give it again.
	IssueJoinToken struct {
		domain.Given `json:"-"`
		PlaneID      string        `json:"planeId"`
		Hash         string        `json:"-"`
		Life         time.Duration `json:"-"` // from now
	}
)

// The commands that the gateway sends.
type (
	// Join makes an agent's key the plane's.
	Join struct {
		domain.Given `json:"-"`
		PlaneID      string `json:"planeId"`
		Hash         string `json:"hash"` // of the token's secret
		PublicKey    string `json:"publicKey"`
	}
	// OpenSession begins the next session for the agent that has the plane's key.
	OpenSession struct {
		domain.Given `json:"-"`
		PlaneID      string `json:"planeId"`
		PublicKey    string `json:"publicKey"`
		Version      string `json:"version"`
		Driver       string `json:"driver"`
	}
	// Judge says what the gateway thinks of the agent.
	Judge struct {
		domain.Given `json:"-"`
		PlaneID      string     `json:"planeId"`
		Session      int64      `json:"session"`
		State        AgentState `json:"state"`
	}
	// Report brings an operation's outcome.
	Report struct {
		domain.Given `json:"-"`
		PlaneID      string `json:"planeId"`
		Session      int64  `json:"session"`
		Operation    string `json:"operation"`
		Outcome      string `json:"outcome"` // done, failed, withdrawn or superseded
		Attempts     int64  `json:"attempts"`
		Class        string `json:"class,omitempty"`
		Code         string `json:"code,omitempty"`
	}
	// ReportUnclaimed brings tenants that the plane has and the log does not know.
	ReportUnclaimed struct {
		domain.Given `json:"-"`
		PlaneID      string   `json:"planeId"`
		Session      int64    `json:"session"`
		Tenants      []string `json:"tenants"`
	}
)

// The commands that sagas send.
type (
	// Reserve takes capacity for a tenant.
	Reserve struct {
		domain.Given `json:"-"`
		PlaneID      string       `json:"planeId"`
		TenantID     string       `json:"tenantId"`
		OrgID        string       `json:"orgId"`
		Change       int64        `json:"change"`
		Isolation    string       `json:"isolation"`
		Cost         domain.Units `json:"cost"`
	}
	// Release gives it back.
	Release struct {
		domain.Given `json:"-"`
		PlaneID      string `json:"planeId"`
		TenantID     string `json:"tenantId"`
		Change       int64  `json:"change"`
	}
	// Ask asks an operation of the plane's agent. Isolation and Limits are for provisioning, Causes for suspending and
	// resuming; provisioning takes the causes from the tenant itself.
	Ask struct {
		domain.Given `json:"-"`
		PlaneID      string       `json:"planeId"`
		TenantID     string       `json:"tenantId"`
		OrgID        string       `json:"orgId"`
		Kind         Kind         `json:"kind"`
		Change       int64        `json:"change,omitempty"`
		Causes       int64        `json:"causes,omitempty"`
		Isolation    string       `json:"isolation,omitempty"`
		Limits       domain.Units `json:"limits,omitempty"`
		Tenant       TenantFact   `json:"-"`
	}
	// TenantFact is what provisioning needs to know of the tenant.
	TenantFact struct {
		Suspended bool  // it has causes
		Causes    int64 // their revision
	}
)

// Target is the plane's id.
func (c Register) Target() string { return c.PlaneID }

// IDPrefix is that of planes.
func (c Register) IDPrefix() string { return domain.PlaneID }

// SetID gives the command the id that the Bus derived.
func (c *Register) SetID(id string) { c.PlaneID = id }

// Target is the plane's id.
func (c Cordon) Target() string { return c.PlaneID }

// Target is the plane's id.
func (c Uncordon) Target() string { return c.PlaneID }

// Target is the plane's id.
func (c IssueJoinToken) Target() string { return c.PlaneID }

// Target is the plane's id.
func (c Join) Target() string { return c.PlaneID }

// Target is the plane's id.
func (c OpenSession) Target() string { return c.PlaneID }

// Target is the plane's id.
func (c Judge) Target() string { return c.PlaneID }

// Target is the plane's id.
func (c Report) Target() string { return c.PlaneID }

// Target is the plane's id.
func (c ReportUnclaimed) Target() string { return c.PlaneID }

// Target is the plane's id.
func (c Reserve) Target() string { return c.PlaneID }

// Target is the plane's id.
func (c Release) Target() string { return c.PlaneID }

// Target is the plane's id.
func (c Ask) Target() string { return c.PlaneID }
