// Package tier is the rulebook of one tier: a versioned offer, whose id is its key.
package tier

import (
	"cmp"
	"maps"
	"slices"

	"github.com/tenure-dev/tenure/domain"
)

// Phase is where a tier stands in its life.
type Phase string

// The phases.
const (
	Absent   Phase = ""
	Offered  Phase = "published"
	Outdated Phase = "deprecated"
)

// State is what a tier's decisions, and those of others about it, rest on: its latest version.
type State struct {
	Phase   Phase
	Version int64
	Terms   Terms
}

// Lifecycle is the specification: which command is heard in which phase.
var Lifecycle = domain.Decider[Phase, State, Event]{
	Phase:  func(s State) Phase { return s.Phase },
	Phases: []Phase{Absent, Offered, Outdated},
	Evolve: evolve,
	Rules: []rule{
		on(publish, Absent, Offered, Outdated),
		on(deprecate, Offered).QuietIn(Outdated),
	},
}

// Events is the wire contract of what happened.
var Events = domain.Catalog{
	fact[Published]("tier.published"),
	fact[Deprecated]("tier.deprecated"),
	fact[Noted]("tier.noted"),
}

// Commands is the wire contract of what can be asked.
var Commands = domain.Catalog{
	domain.Fact[Publish]("tier.publish"),
	domain.Fact[Deprecate]("tier.deprecate"),
}

// Aggregate is the tier as the Bus holds it.
var Aggregate = Lifecycle.Aggregate("tier", Events, Commands, Noted{}, func(State, string) (string, string) { return "", "" })

// publish adds a version; the same terms again, while they are on offer, change nothing.
func publish(s State, c Publish) ([]Event, error) {
	t := c.Terms
	t.Name = cmp.Or(t.Name, c.TierKey)
	t.Isolation = cmp.Or(t.Isolation, "pool")
	t.Endpoint = cmp.Or(t.Endpoint, "shared")
	t.Nodes = cmp.Or(t.Nodes, "shared")
	if t.Cost == nil {
		t.Cost = domain.Units{"slots": 1}
	}
	t.Features = slices.Compact(slices.Sorted(slices.Values(t.Features)))
	if s.Phase == Offered && same(s.Terms, t) {
		return nil, nil
	}
	return []Event{Published{s.Version + 1, t}}, nil
}

func same(a, b Terms) bool {
	return a.Name == b.Name && a.Isolation == b.Isolation && a.Endpoint == b.Endpoint && a.Nodes == b.Nodes &&
		maps.Equal(a.Quotas, b.Quotas) && slices.Equal(a.Features, b.Features) && maps.Equal(a.Targets, b.Targets) && maps.Equal(a.Cost, b.Cost)
}

func deprecate(State, Deprecate) ([]Event, error) { return []Event{Deprecated{}}, nil }

func evolve(s State, e Event) State {
	switch e := e.(type) {
	case Published:
		return State{Offered, e.Version, e.Terms}
	case Deprecated:
		s.Phase = Outdated
	case Noted:
	}
	return s
}
