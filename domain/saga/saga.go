package saga

import (
	"slices"
	"strings"

	"github.com/tenure-dev/tenure/domain"
)

// Phase is where a saga stands in its life.
type Phase string

// The phases of a saga.
const (
	Absent    Phase = ""
	Running   Phase = "running"
	Undoing   Phase = "undoing"
	Attention Phase = "attention" // waits for an operator, in either direction
	Over      Phase = "ended"
)

type rule = domain.Rule[Phase, State, Event]

func on[C any](h func(State, C) ([]Event, error), from ...Phase) rule {
	return domain.On[C, Phase, State, Event](h, from...)
}

// Lifecycle is the specification: which of an operator's commands is heard in which phase.
var Lifecycle = domain.Decider[Phase, State, Event]{
	Phase:  func(s State) Phase { return s.Phase() },
	Phases: []Phase{Absent, Running, Undoing, Attention, Over},
	Evolve: Evolve,
	Rules: []rule{
		on(retry, Running, Undoing, Attention),
		on(cancel, Running, Undoing, Attention),
	},
}

// Aggregate is the saga as the Bus holds it; the id is <name>.<sag_…>.
var Aggregate = Lifecycle.Aggregate(Category, Catalog, Commands, Noted{}, func(s State, _ string) (org, tenant string) {
	return s.Started.Org, s.Started.Tenant
})

// retry is heard where something can be asked again; elsewhere it changes nothing.
func retry(s State, c Retry) ([]Event, error) {
	if s.RetryWish || s.Attention == nil && (s.Due == nil || s.Due.Wait) {
		return nil, nil
	}
	return []Event{Retried{Reason: c.Reason}}, nil
}

// cancel is refused once a step was asked that is never undone; on the way back it changes nothing.
func cancel(s State, c Cancel) ([]Event, error) {
	switch {
	case s.Past:
		e := domain.NotAllowed("cancel", string(s.Phase()))
		e.Message = "cancel is not allowed: the saga has asked for what is never undone"
		return nil, e
	case s.CancelWish || s.Undoing && s.To == "":
		return nil, nil
	}
	return []Event{Cancelled{Reason: c.Reason}}, nil
}

// Stream is the stream of the saga with that name and id.
func Stream(name, saga string) string { return Category + "-" + name + "." + saga }

// SplitStream gives a saga stream's name and saga id; ok is false for any other stream.
func SplitStream(stream string) (name, saga string, ok bool) {
	category, id := domain.SplitStream(stream)
	if category != Category {
		return "", "", false
	}
	return SplitID(id)
}

// SplitID cuts <name>.<sag_…> in two; ok is false if it is not of that form.
func SplitID(id string) (name, saga string, ok bool) {
	dot := strings.LastIndexByte(id, '.')
	if dot < 1 || !domain.IsID(domain.SagaID, id[dot+1:]) {
		return "", "", false
	}
	return id[:dot], id[dot+1:], true
}

// DefinitionStream is the stream that switches the definitions of that name on.
func DefinitionStream(name string) string { return DefinitionCategory + "-" + name }

func checkSaga(id string) error {
	if id == "" {
		return domain.Invalid("saga", "must not be empty")
	}
	name, _, ok := SplitID(id)
	if !ok || domain.CheckSlug("saga", name) != nil {
		return domain.Invalid("saga", "must be a saga's name, a dot and its id")
	}
	return nil
}

// stepOf finds a step's progress, nil if it has not begun.
func (s State) stepOf(name string) *Progress {
	for i := range s.Steps {
		if s.Steps[i].Step == name {
			return &s.Steps[i]
		}
	}
	return nil
}

// Of gives a step's progress; the zero value but for its name if it has not begun.
func (s State) Of(step string) Progress {
	if p := s.stepOf(step); p != nil {
		return *p
	}
	return Progress{Step: step}
}

// with gives the state in which f has changed a step's progress; the old state keeps its own.
func (s State) with(step string, f func(*Progress)) State {
	s.Steps = slices.Clone(s.Steps)
	p := s.stepOf(step)
	if p == nil {
		s.Steps = append(s.Steps, Progress{Step: step})
		p = &s.Steps[len(s.Steps)-1]
	}
	f(p)
	return s
}
