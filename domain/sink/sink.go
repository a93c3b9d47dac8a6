// Package sink is the rulebook of one sink: what was decided about sending events to another system, whose name is its id.
package sink

import (
	"slices"
	"time"

	"github.com/tenure-dev/tenure/domain"
)

// Category is that of the sinks' streams: sink-<name>.
const Category = "sink"

// CursorCategory is that of the streams which keep how far a sink has come: sinkcursor-<name>.
const CursorCategory = "sinkcursor"

// Phase is where a sink stands.
type Phase string

// The phases. A sink whose stream is empty is active.
const (
	Active  Phase = "active"
	Halted  Phase = "paused"
	Stopped Phase = "disabled"
)

// State is what a sink's decisions rest on.
type State struct {
	Phase  Phase              // empty for Active
	Parked domain.Map[Parked] // by event id
	Open   []RedeliveryRequested
}

// maxOpen bounds the redeliveries that wait.
const maxOpen = 100

// Lifecycle is the specification: which command is heard in which phase.
var Lifecycle = domain.Decider[Phase, State, Event]{
	Phase: func(s State) Phase {
		if s.Phase == "" {
			return Active
		}
		return s.Phase
	},
	Phases: []Phase{Active, Halted, Stopped},
	Evolve: evolve,
	Rules: []rule{
		on(pause, Active).QuietIn(Halted),
		on(resume, Halted, Stopped).QuietIn(Active),
		on(requestRedelivery, Active, Halted, Stopped),
		// What was under way when the sink was paused or disabled may still end.
		on(park, Active, Halted, Stopped),
		on(deliver, Active, Halted, Stopped),
		on(disable, Active, Halted).QuietIn(Stopped),
		on(finishRedelivery, Active, Halted, Stopped),
	},
}

// Events is the wire contract of what happened.
var Events = domain.Catalog{
	fact[Parked]("sink.parked"),
	fact[Delivered]("sink.delivered"),
	fact[Paused]("sink.paused"),
	fact[Resumed]("sink.resumed"),
	fact[Disabled]("sink.disabled"),
	fact[RedeliveryRequested]("sink.redelivery.requested"),
	fact[RedeliveryFinished]("sink.redelivery.finished"),
	fact[Noted]("sink.noted"),
}

// Commands is the wire contract of what can be asked.
var Commands = domain.Catalog{
	domain.Fact[Pause]("sink.pause"),
	domain.Fact[Resume]("sink.resume"),
	domain.Fact[RequestRedelivery]("sink.requestRedelivery"),
	domain.Fact[Park]("sink.park"),
	domain.Fact[Deliver]("sink.deliver"),
	domain.Fact[Disable]("sink.disable"),
	domain.Fact[FinishRedelivery]("sink.finishRedelivery"),
}

// Cursors is the wire contract of the streams sinkcursor-<name>.
var Cursors = domain.Catalog{domain.Fact[CursorMoved]("sinkcursor.moved")}

// CursorMoved says that every event up to this one has been delivered, parked or is none of the sink's, but those of the held
// streams from the place on that it gives for each. A cursor that names itself marks where a sink began that wants nothing older.
type CursorMoved struct {
	Place
	Held         []Place    `json:"held,omitempty"`         // the first event of each held stream that is neither delivered nor parked
	FailingSince *time.Time `json:"failingSince,omitempty"` // the first failure since the last success
}

// Aggregate is the sink as the Bus holds it.
var Aggregate = Lifecycle.Aggregate(Category, Events, Commands, Noted{}, func(State, string) (string, string) { return "", "" })

// CursorStream is the stream of a sink's cursor.
func CursorStream(name string) string { return CursorCategory + "-" + name }

func pause(_ State, c Pause) ([]Event, error) { return []Event{Paused{c.Reason}}, nil }

func resume(_ State, c Resume) ([]Event, error) { return []Event{Resumed{c.Reason}}, nil }

// requestRedelivery changes nothing where the same is open already, or where nothing is parked.
func requestRedelivery(s State, c RequestRedelivery) ([]Event, error) {
	if c.Scope == ScopeParked && s.Parked.Len() == 0 {
		return nil, nil
	}
	e := RedeliveryRequested{c.CommandID, c.Scope, c.From, c.To}
	if slices.ContainsFunc(s.Open, func(o RedeliveryRequested) bool { return sameReach(o, e) }) {
		return nil, nil
	}
	if len(s.Open) >= maxOpen {
		return nil, &domain.Error{Code: domain.CodeQuotaExceeded, Message: "a sink has at most 100 open redeliveries"}
	}
	return []Event{e}, nil
}

func sameReach(a, b RedeliveryRequested) bool {
	same := func(a, b *Place) bool { return a == b || a != nil && b != nil && *a == *b }
	return a.Scope == b.Scope && same(a.From, b.From) && same(a.To, b.To)
}

func park(s State, c Park) ([]Event, error) {
	if _, is := s.Parked.Get(c.EventID); is {
		return nil, nil
	}
	return []Event{Parked{c.Place, c.EventID, c.Attempts, c.Code}}, nil
}

func deliver(s State, c Deliver) ([]Event, error) {
	if _, is := s.Parked.Get(c.EventID); !is {
		return nil, nil
	}
	return []Event{Delivered{c.EventID}}, nil
}

func disable(_ State, c Disable) ([]Event, error) {
	return []Event{Disabled{c.Why, domain.Micro(c.Since), c.Code}}, nil
}

func finishRedelivery(s State, c FinishRedelivery) ([]Event, error) {
	if !slices.ContainsFunc(s.Open, func(o RedeliveryRequested) bool { return o.ID == c.ID }) {
		return nil, nil
	}
	return []Event{RedeliveryFinished{c.ID, c.Delivered, c.Parked}}, nil
}

func evolve(s State, e Event) State {
	switch e := e.(type) {
	case Parked:
		s.Parked = s.Parked.With(e.EventID, e)
	case Delivered:
		s.Parked = s.Parked.Without(e.EventID)
	case Paused:
		s.Phase = Halted
	case Resumed:
		s.Phase = Active
	case Disabled:
		s.Phase = Stopped
	case RedeliveryRequested:
		s.Open = append(slices.Clone(s.Open), e)
	case RedeliveryFinished:
		s.Open = slices.DeleteFunc(slices.Clone(s.Open), func(o RedeliveryRequested) bool { return o.ID == e.ID })
	case Noted:
	}
	return s
}
