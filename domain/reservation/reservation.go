// Package reservation is the rulebook of one unique value: who holds it. Uniqueness across streams is a stream named by the value.
package reservation

import "github.com/tenure-dev/tenure/domain"

// Phase tells whether the value is taken.
type Phase string

// The phases.
const (
	Absent Phase = ""
	Taken  Phase = "held"
	Free   Phase = "released"
)

// State is who holds the value.
type State struct {
	Phase  Phase
	Holder string
}

// Lifecycle is the specification: which command is heard in which phase.
var Lifecycle = domain.Decider[Phase, State, Event]{
	Phase:  func(s State) Phase { return s.Phase },
	Phases: []Phase{Absent, Taken, Free},
	Evolve: evolve,
	Rules: []rule{
		on(hold, Absent, Taken, Free),
		on(release, Taken).QuietIn(Absent, Free),
	},
}

// Events is the wire contract of what happened.
var Events = domain.Catalog{
	fact[Held]("reservation.held"),
	fact[Released]("reservation.released"),
	fact[Noted]("reservation.noted"),
}

// Commands is the wire contract of what can be asked.
var Commands = domain.Catalog{
	domain.Fact[Hold]("reservation.hold"),
	domain.Fact[Release]("reservation.release"),
}

// Aggregate is the reservation as the Bus holds it.
var Aggregate = Lifecycle.Aggregate("reservation", Events, Commands, Noted{}, func(State, string) (string, string) { return "", "" })

func hold(s State, c Hold) ([]Event, error) {
	switch {
	case s.Phase == Taken && s.Holder == c.Holder:
		return nil, nil
	case s.Phase == Taken:
		return nil, &domain.Error{Code: domain.CodeAlreadyExists, Field: Kind(c.ID), Message: "is taken"}
	}
	return []Event{Held{c.Org, c.Holder}}, nil
}

func release(s State, c Release) ([]Event, error) {
	if s.Holder != c.Holder {
		return nil, nil
	}
	return []Event{Released{c.Org, c.Holder}}, nil
}

func evolve(s State, e Event) State {
	switch e := e.(type) {
	case Held:
		return State{Taken, e.Holder}
	case Released:
		return State{Phase: Free}
	case Noted:
	}
	return s
}
