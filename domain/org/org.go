// Package org is the rulebook of one org: a customer of the vendor, perhaps a part of another, under which tenants live.
package org

import "github.com/tenure-dev/tenure/domain"

// Phase is where an org stands in its life.
type Phase string

// The phases.
const (
	Absent Phase = ""
	Active Phase = "active"
	OnHold Phase = "suspended"
)

// State is what an org's decisions rest on.
type State struct {
	Phase  Phase
	Name   string
	Slug   string
	Parent string
}

// Lifecycle is the specification: which command is heard in which phase.
var Lifecycle = domain.Decider[Phase, State, Event]{
	Phase:  func(s State) Phase { return s.Phase },
	Phases: []Phase{Absent, Active, OnHold},
	Evolve: evolve,
	Rules: []rule{
		on(register, Absent),
		on(rename, Active, OnHold),
		on(suspend, Active).QuietIn(OnHold),
		on(resume, OnHold).QuietIn(Active),
	},
}

// Events is the wire contract of what happened.
var Events = domain.Catalog{
	fact[Registered]("org.registered"),
	fact[Renamed]("org.renamed"),
	fact[Suspended]("org.suspended"),
	fact[Resumed]("org.resumed"),
	fact[Noted]("org.noted"),
}

// Commands is the wire contract of what can be asked.
var Commands = domain.Catalog{
	domain.Fact[Register]("org.register"),
	domain.Fact[Rename]("org.rename"),
	domain.Fact[Suspend]("org.suspend"),
	domain.Fact[Resume]("org.resume"),
}

// Aggregate is the org as the Bus holds it.
var Aggregate = Lifecycle.Aggregate("org", Events, Commands, Noted{}, func(_ State, id string) (string, string) { return id, "" })

func register(_ State, c Register) ([]Event, error) {
	if c.ParentID != "" && !c.Parent.Exists {
		return nil, domain.NotFound("parentId", "names no org")
	}
	name := c.Name
	if name == "" {
		name = c.Slug
	}
	return []Event{Registered{name, c.Slug, c.ParentID}}, nil
}

func rename(s State, c Rename) ([]Event, error) {
	if s.Name == c.Name {
		return nil, nil
	}
	return []Event{Renamed{c.Name}}, nil
}

func suspend(_ State, c Suspend) ([]Event, error) { return []Event{Suspended{c.Reason}}, nil }

func resume(_ State, c Resume) ([]Event, error) { return []Event{Resumed{c.Reason}}, nil }

func evolve(s State, e Event) State {
	switch e := e.(type) {
	case Registered:
		return State{Active, e.Name, e.Slug, e.Parent}
	case Renamed:
		s.Name = e.Name
	case Suspended:
		s.Phase = OnHold
	case Resumed:
		s.Phase = Active
	case Noted:
	}
	return s
}
