package tenant

import (
	"github.com/tenure-dev/tenure/domain"
)

// Event is one of the facts of a tenant's life.
//
//sumtype:decl
type Event interface{ isTenantEvent() }

type rule = domain.Rule[Phase, State, Event]

func on[C domain.Command](h func(State, C) ([]Event, error), from ...Phase) rule {
	return domain.On(h, from...)
}

func fact[E Event](name string, up ...domain.Upcast) domain.Entry { return domain.Fact[E](name, up...) }

// Cause is one reason, of possibly many, for which a tenant is suspended. It is cleared only by its own name.
type Cause struct {
	Kind      string `json:"kind"`      // such as manual, billing, org
	Reference string `json:"reference"` // such as an invoice's number or an org's id
}

// Manual is the operator's own cause, used where none is named.
var Manual = Cause{"manual", "operator"}

// Offer is the version of a tier that a tenant has, as it was when the tenant took it.
type Offer struct {
	Key       string       `json:"key"`
	Version   int64        `json:"version"`
	Isolation string       `json:"isolation"` // pool, bridge or silo
	Limits    domain.Units `json:"limits,omitempty"`
	Cost      domain.Units `json:"cost"`
}

// The events. Those with a Saga start one, and Saga is its id; those with a Change take the tenant's change slot.
type (
	// Requested begins a tenant's life and starts its onboarding.
	Requested struct {
		Org    string `json:"org"`
		Slug   string `json:"slug"`
		Name   string `json:"name"`
		Region string `json:"region,omitempty"` // empty: any
		Offer  Offer  `json:"offer"`
		Change int64  `json:"change"`
		Saga   string `json:"saga"`
	}
	// Placed says which plane the tenant is being made on.
	Placed struct {
		Plane string `json:"plane"`
	}
	// Activated ends the onboarding: the tenant is there. Suspended tells that the plane made it suspended.
	Activated struct {
		Change    int64 `json:"change"`
		Suspended bool  `json:"suspended,omitempty"`
	}
	// Rejected ends the onboarding without a tenant; all of it has been undone.
	Rejected struct {
		Change int64  `json:"change"`
		Code   string `json:"code"` // an error code
		Step   string `json:"step"` // of the onboarding
	}
	// CauseAdded adds a cause of suspension; Revision counts all changes of the causes.
	CauseAdded struct {
		Cause    Cause         `json:"cause"`
		Revision int64         `json:"revision"`
		Reason   domain.Sealed `json:"reason"`
	}
	// CauseCleared takes a cause away.
	CauseCleared struct {
		Cause    Cause         `json:"cause"`
		Revision int64         `json:"revision"`
		Reason   domain.Sealed `json:"reason"`
	}
	// SuspensionDue starts the saga that suspends the tenant on its plane: it has causes, and had none before.
	SuspensionDue struct {
		Revision int64  `json:"revision"`
		Plane    string `json:"plane"`
		Org      string `json:"org"`
		Saga     string `json:"saga"`
	}
	// ResumptionDue starts the saga that lets the tenant in again: it has no cause left.
	ResumptionDue struct {
		Revision int64  `json:"revision"`
		Plane    string `json:"plane"`
		Org      string `json:"org"`
		Saga     string `json:"saga"`
	}
	// Suspended says that the plane has confirmed it.
	Suspended struct {
		Revision int64 `json:"revision"`
	}
	// Resumed says that the plane has confirmed it.
	Resumed struct {
		Revision int64 `json:"revision"`
	}
	// OffboardingRequested says that the tenant shall go. TurnsBack is the running saga that is turned back first, if any.
	OffboardingRequested struct {
		Reason    domain.Sealed `json:"reason"`
		TurnsBack string        `json:"turnsBack,omitempty"`
	}
	// OffboardingStarted starts the saga that removes it.
	OffboardingStarted struct {
		Org    string `json:"org"`
		Slug   string `json:"slug"`
		Plane  string `json:"plane"`
		Offer  Offer  `json:"offer"`
		Change int64  `json:"change"`
		Saga   string `json:"saga"`
	}
	// Deleted ends the tenant's life: nothing of it is left on any plane.
	Deleted struct {
		Change int64 `json:"change"`
	}
	// Noted remembers a caller's command that changed nothing.
	Noted struct{}
)

func (Requested) isTenantEvent()            {}
func (Placed) isTenantEvent()               {}
func (Activated) isTenantEvent()            {}
func (Rejected) isTenantEvent()             {}
func (CauseAdded) isTenantEvent()           {}
func (CauseCleared) isTenantEvent()         {}
func (SuspensionDue) isTenantEvent()        {}
func (ResumptionDue) isTenantEvent()        {}
func (Suspended) isTenantEvent()            {}
func (Resumed) isTenantEvent()              {}
func (OffboardingRequested) isTenantEvent() {}
func (OffboardingStarted) isTenantEvent()   {}
func (Deleted) isTenantEvent()              {}
func (Noted) isTenantEvent()                {}

// StartedSaga is the id of the saga that an event starts or, for an offboarding that has to wait, turns back; or empty.
func StartedSaga(event any) string {
	switch e := event.(type) {
	case Requested:
		return e.Saga
	case SuspensionDue:
		return e.Saga
	case ResumptionDue:
		return e.Saga
	case OffboardingRequested:
		return e.TurnsBack
	case OffboardingStarted:
		return e.Saga
	}
	return ""
}

// The commands that callers send.
type (
	// Request asks for a tenant.
	Request struct {
		domain.Given `json:"-"`
		TenantID     string        `json:"tenantId,omitempty"` // derived by the Bus
		OrgID        string        `json:"orgId"`
		Slug         string        `json:"slug"`
		TierKey      string        `json:"tierKey"`
		Name         string        `json:"name,omitempty"`   // the slug if left out
		Region       string        `json:"region,omitempty"` // any if left out
		Org          OrgFact       `json:"-"`
		Tier         TierFact      `json:"-"`
		SlugOwner    SlugFact      `json:"-"`
		Placement    PlacementFact `json:"-"`
	}
	// Suspend adds a cause; without one it is Manual.
	Suspend struct {
		domain.Given `json:"-"`
		TenantID     string        `json:"tenantId"`
		Cause        Cause         `json:"cause"`
		Reason       domain.Sealed `json:"reason"`
	}
	// Resume clears a cause; without one it is Manual.
	Resume struct {
		domain.Given `json:"-"`
		TenantID     string        `json:"tenantId"`
		Cause        Cause         `json:"cause"`
		Reason       domain.Sealed `json:"reason"`
	}
	// Offboard asks for the tenant's end.
	Offboard struct {
		domain.Given `json:"-"`
		TenantID     string        `json:"tenantId"`
		Reason       domain.Sealed `json:"reason"`
	}
)

// The commands that sagas send.
type (
	// Place says which plane the onboarding has chosen.
	Place struct {
		domain.Given `json:"-"`
		TenantID     string `json:"tenantId"`
		Change       int64  `json:"change"`
		PlaneID      string `json:"planeId"`
	}
	// Activate ends the onboarding. Suspended is how the plane was told to make the tenant.
	Activate struct {
		domain.Given `json:"-"`
		TenantID     string `json:"tenantId"`
		Change       int64  `json:"change"`
		Suspended    bool   `json:"suspended,omitempty"`
	}
	// Reject ends the onboarding when all of it has been undone.
	Reject struct {
		domain.Given `json:"-"`
		TenantID     string `json:"tenantId"`
		Change       int64  `json:"change"`
		Code         string `json:"code"`
		Step         string `json:"step"`
	}
	// ConfirmSuspended says that the plane refuses the tenant as of that revision of the causes.
	ConfirmSuspended struct {
		domain.Given `json:"-"`
		TenantID     string `json:"tenantId"`
		Revision     int64  `json:"revision"`
	}
	// ConfirmResumed says that the plane lets the tenant in as of that revision of the causes.
	ConfirmResumed struct {
		domain.Given `json:"-"`
		TenantID     string `json:"tenantId"`
		Revision     int64  `json:"revision"`
	}
	// Delete ends the offboarding.
	Delete struct {
		domain.Given `json:"-"`
		TenantID     string `json:"tenantId"`
		Change       int64  `json:"change"`
	}
)

// What requesting a tenant needs to know of others.
type (
	// OrgFact is about the org.
	OrgFact struct{ Exists, Suspended bool }
	// TierFact is about the tier's latest version.
	TierFact struct {
		Exists, Deprecated bool
		Offer              Offer
	}
	// PlacementFact is what the planes' streams said when the command came; the onboarding looks again. Its zero value
	// refuses nothing.
	PlacementFact struct {
		NoRegion bool // no plane has been registered in the region, or anywhere if none was named
		Full     bool // planes fit, and none of them has room
	}
	// SlugFact is about the slug's reservation.
	SlugFact struct{ Holder string }
)

// Target is the tenant's id.
func (c Request) Target() string { return c.TenantID }

// IDPrefix is that of tenants.
func (c Request) IDPrefix() string { return domain.TenantID }

// SetID gives the command the id that the Bus derived.
func (c *Request) SetID(id string) { c.TenantID = id }

// Target is the tenant's id.
func (c Suspend) Target() string { return c.TenantID }

// Target is the tenant's id.
func (c Resume) Target() string { return c.TenantID }

// Target is the tenant's id.
func (c Offboard) Target() string { return c.TenantID }

// Target is the tenant's id.
func (c Place) Target() string { return c.TenantID }

// Target is the tenant's id.
func (c Activate) Target() string { return c.TenantID }

// Target is the tenant's id.
func (c Reject) Target() string { return c.TenantID }

// Target is the tenant's id.
func (c ConfirmSuspended) Target() string { return c.TenantID }

// Target is the tenant's id.
func (c ConfirmResumed) Target() string { return c.TenantID }

// Target is the tenant's id.
func (c Delete) Target() string { return c.TenantID }

const nameLimit = 200 // bytes

// Check refuses malformed input before anything is read.
func (c Request) Check() error {
	if err := domain.FirstError(
		domain.CheckID("orgId", domain.OrgID, c.OrgID),
		domain.CheckSlug("slug", c.Slug),
		domain.CheckSlug("tierKey", c.TierKey),
		domain.CheckText("name", c.Name, nameLimit),
	); err != nil || c.Region == "" {
		return err
	}
	return domain.CheckSlug("region", c.Region)
}

// Check refuses malformed input before anything is read.
func (c Suspend) Check() error { return checkCause(c.TenantID, c.Cause, c.Reason) }

// Check refuses malformed input before anything is read.
func (c Resume) Check() error { return checkCause(c.TenantID, c.Cause, c.Reason) }

// Check refuses malformed input before anything is read.
func (c Offboard) Check() error {
	return domain.FirstError(domain.CheckID("tenantId", domain.TenantID, c.TenantID), domain.CheckReason(c.Reason))
}

func checkCause(id string, c Cause, reason domain.Sealed) error {
	if err := domain.FirstError(domain.CheckID("tenantId", domain.TenantID, id), domain.CheckReason(reason)); err != nil {
		return err
	}
	if c == (Cause{}) {
		return nil
	}
	return domain.FirstError(domain.CheckSlug("cause.kind", c.Kind), domain.CheckReference("cause.reference", c.Reference))
}
