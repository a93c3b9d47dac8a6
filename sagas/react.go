package sagas

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
)

// Trigger is what React reacts to, and when. The moment is a value like the rest: it sets the due times of retries and waits.
type Trigger struct {
	Now  time.Time
	What any // Event, Accepted, Quiet, Refused, Silence, Due, Snapshot or Wake
}

type (
	// Event is an event of the log: the one that starts the saga, an answer, or one heard by key.
	Event struct {
		Event any
		Meta  domain.Meta
	}
	// Accepted is the Bus's answer to an ask: it appended these events.
	Accepted struct {
		CommandID string
		Stream    string
		Revision  int64 // of the last of them
		Events    []Event
	}
	// Quiet is the Bus's answer that the ask changes nothing.
	Quiet struct{ CommandID string }
	// Refused is the Bus's answer with no.
	Refused struct {
		CommandID string
		Code      domain.Code
		Message   string // public
	}
	// Silence says that an ask's time ran out while someone could have spoken.
	Silence struct{ CommandID string }
	// Due says that the moment may have come for which the saga waits.
	Due struct{}
	// Snapshot is what the runner read for a choosing step.
	Snapshot struct {
		Step  string
		Value any
	}
	// Wake gives a saga the occasion to follow an operator's wish.
	Wake struct{}
)

// Reaction is React's answer.
type Reaction struct {
	Facts []saga.Event
	// Look names the choosing step for which React needs a snapshot to go on: its Snapshot is then the trigger on the state
	// with these facts, and all facts are appended together.
	Look string
	// Panic is what the definition panicked with; the facts then say that the saga needs attention.
	Panic any
}

// React is the pure middle of every saga: definition, history and trigger give new facts, none if the trigger means nothing
// to the saga or is answered already. The registry encodes the commands that the facts hold.
func React(r *domain.Registry, d *Definition, history []saga.Event, t Trigger) Reaction {
	return d.React(r, saga.Lifecycle.Fold(history...), t)
}

// React is the same over a folded history.
func (d *Definition) React(r *domain.Registry, s saga.State, t Trigger) (out Reaction) {
	m := &reacting{Definition: d, registry: r, now: domain.Micro(t.Now), s: s, at: s.Step, undo: s.Undoing}
	defer func() {
		if out.Panic = recover(); out.Panic != nil {
			m.panicked(t.What)
		}
		out.Facts, out.Look = m.facts, m.look
	}()
	m.react(t.What)
	return
}

// reacting is one reaction in the making: every fact told is folded at once.
type reacting struct {
	*Definition
	registry *domain.Registry
	now      time.Time
	s        saga.State
	facts    []saga.Event
	look     string
	plan     any // decoded from s.Plan when first needed

	at   string // the step at work, for the case that it panics
	undo bool
}

func (m *reacting) tell(f saga.Event) {
	m.facts = append(m.facts, f)
	m.s = saga.Evolve(m.s, f)
}

func (m *reacting) react(trigger any) {
	if m.s.Phase() == saga.Over {
		return
	}
	if m.s.Phase() == saga.Absent {
		if e, ok := trigger.(Event); ok {
			m.begin(e)
		}
		return
	}
	if _, looked := trigger.(Snapshot); !looked {
		m.wishes()
	}
	if m.look != "" || m.s.Phase() == saga.Over {
		return
	}
	m.heed(trigger)
	if m.look == "" && m.s.Phase() != saga.Over {
		m.wishes() // one that had to wait for this answer
	}
}

func (m *reacting) heed(trigger any) {
	switch t := trigger.(type) {
	case Event:
		m.hear(t)
	case Accepted:
		m.accepted(t)
	case Quiet:
		m.quiet(t)
	case Refused:
		m.refused(t)
	case Silence:
		m.silence(t)
	case Due:
		m.due()
	case Snapshot:
		m.choose(t)
	case Wake:
	default:
		panic(fmt.Sprintf("unknown trigger %T", t))
	}
}

// panicked leaves a saga whose definition failed to an operator. An answer on which it failed counts as a failure, for the log
// will not repeat it: a retry is then a new attempt.
func (m *reacting) panicked(trigger any) {
	m.look = ""
	if m.s.Started.Name == "" || m.s.Ended != nil {
		return
	}
	id, event := "", ""
	switch t := trigger.(type) {
	case Event:
		if a := t.Meta.Answers; a != nil && a.Saga == m.s.Started.Saga {
			id, event = a.Command, t.Meta.EventID
		}
	case Accepted:
		id = t.CommandID
	}
	if m.pends(id) {
		m.at, m.undo = m.s.Pending.Step, m.s.Pending.Undo
		m.tell(saga.Refused{Step: m.at, Undo: m.undo, CommandID: id, Code: saga.CodePanic, Class: saga.ClassBug, EventID: event, Partial: true})
	}
	m.attention(m.at, m.undo, saga.CodePanic)
}

func (m *reacting) begin(e Event) {
	plan, ok := m.Definition.begin(e.Event, e.Meta)
	if !ok {
		return
	}
	m.plan = plan
	started := saga.Started{Saga: domain.SagaIDFor(m.Name, e.Meta.EventID), Name: m.Name, Version: m.Version, Org: e.Meta.Org,
		Tenant: e.Meta.Tenant, StartEvent: e.Meta.EventID, Begins: e.Meta.Type, Plan: encode(plan), Steps: m.stepNames()}
	if m.hears != nil {
		started.Hears = m.hears(plan)
	}
	if m.change != nil {
		started.Change = m.change(plan)
	}
	m.tell(started)
	m.forward(0)
}

// wishes follows what an operator asked for and nobody has done yet.
func (m *reacting) wishes() {
	if m.s.CancelWish && !m.s.Past && !m.concluding() {
		m.turn("", saga.CodeCancelled, "")
		return
	}
	if !m.s.RetryWish {
		return
	}
	step, undo := m.s.Step, m.s.Undoing
	if m.s.Attention != nil {
		step, undo = m.s.Attention.Step, m.s.Attention.Undo
	}
	switch {
	case m.s.Pending != nil: // unanswered: the same ask once more
		again := *m.s.Pending
		m.clear()
		m.tell(again)
	case m.s.Due != nil && m.s.Due.Wait:
		m.clear()
	default:
		m.clear()
		m.again(step, undo)
	}
}

func (m *reacting) learn(plan any) {
	m.plan = plan
	if b := encode(plan); string(b) != string(m.s.Plan) {
		m.tell(saga.Learned{Plan: b})
	}
}

func (m *reacting) know() any {
	if m.plan == nil {
		plan, err := m.decodePlan(m.s.Plan)
		if err != nil {
			panic(fmt.Errorf("plan: %w", err))
		}
		m.plan = plan
	}
	return m.plan
}

func (m *reacting) attention(step string, undo bool, code string) {
	if m.s.Attention == nil || *m.s.Attention != (saga.AttentionNeeded{Step: step, Undo: undo, Code: code}) {
		m.tell(saga.AttentionNeeded{Step: step, Undo: undo, Code: code})
	}
}

func (m *reacting) clear() {
	if m.s.Attention != nil {
		m.tell(saga.AttentionCleared{})
	}
}

func (m *reacting) end(e saga.Ended) {
	m.clear()
	m.tell(e)
}

func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func public(err error) string {
	var e *domain.Error
	if errors.As(err, &e) {
		return e.Public()
	}
	return ""
}
