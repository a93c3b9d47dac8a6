package tier

import (
	"slices"

	"github.com/tenure-dev/tenure/domain"
)

// Event is one of the facts of a tier's life.
//
//sumtype:decl
type Event interface{ isTierEvent() }

type rule = domain.Rule[Phase, State, Event]

func on[C domain.Command](h func(State, C) ([]Event, error), from ...Phase) rule {
	return domain.On(h, from...)
}

func fact[E Event](name string, up ...domain.Upcast) domain.Entry { return domain.Fact[E](name, up...) }

// Terms is all that one version of a tier promises and costs.
type Terms struct {
	Name      string       `json:"name"`
	Isolation string       `json:"isolation"`         // pool, bridge or silo
	Endpoint  string       `json:"endpoint"`          // shared or dedicated
	Nodes     string       `json:"nodes"`             // shared, dedicated or reserved
	Quotas    domain.Units `json:"quotas,omitempty"`  // limits on the tenant; "connections" is enforced by the plane
	Features  []string     `json:"features"`          // keys
	Targets   domain.Units `json:"targets,omitempty"` // service level targets, such as availability-ppm
	Cost      domain.Units `json:"cost"`              // what a tenant of it takes of a plane's capacity
}

// The events.
type (
	// Published adds version Version, counted from 1.
	Published struct {
		Version int64 `json:"version"`
		Terms
	}
	// Deprecated ends new tenants of the tier until another version is published; those that are there stay.
	Deprecated struct{}
	// Noted remembers a caller's command that changed nothing.
	Noted struct{}
)

func (Published) isTierEvent()  {}
func (Deprecated) isTierEvent() {}
func (Noted) isTierEvent()      {}

// The commands.
type (
	// Publish appends a version. What is left out has a default: the name is the key, isolation pool, endpoint and nodes
	// shared, and the cost one slot.
	Publish struct {
		domain.Given `json:"-"`
		TierKey      string `json:"tierKey"`
		Terms
	}
	// Deprecate ends new tenants of the tier.
	Deprecate struct {
		domain.Given `json:"-"`
		TierKey      string `json:"tierKey"`
	}
)

// Target is the tier's key.
func (c Publish) Target() string { return c.TierKey }

// Target is the tier's key.
func (c Deprecate) Target() string { return c.TierKey }

// Check refuses malformed input before anything is read.
func (c Publish) Check() error {
	if err := domain.FirstError(
		domain.CheckSlug("tierKey", c.TierKey),
		domain.CheckText("name", c.Name, 200),
		oneOf("isolation", c.Isolation, "", "pool", "bridge", "silo"),
		oneOf("endpoint", c.Endpoint, "", "shared", "dedicated"),
		oneOf("nodes", c.Nodes, "", "shared", "dedicated", "reserved"),
		domain.CheckUnits("quotas", c.Quotas),
		domain.CheckUnits("targets", c.Targets),
		domain.CheckUnits("cost", c.Cost),
	); err != nil {
		return err
	}
	if n, limited := c.Quotas["connections"]; limited && (n < 1 || n > 10_000) {
		return domain.Invalid("quotas.connections", "must be from 1 to 10000")
	}
	if len(c.Features) > 100 {
		return domain.Invalid("features", "must not be more than 100")
	}
	for _, f := range c.Features {
		if err := domain.CheckSlug("features", f); err != nil {
			return err
		}
	}
	return nil
}

// Check refuses malformed input before anything is read.
func (c Deprecate) Check() error { return domain.CheckSlug("tierKey", c.TierKey) }

func oneOf(field, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return domain.Invalid(field, "must be one of %v", allowed[1:])
}
