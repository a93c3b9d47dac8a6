package sagas

import (
	"fmt"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
)

// Where a saga goes: forward, back, or to an operator.

// finish ends an ask well, in whichever direction.
func (m *reacting) finish(ask saga.Asked, told saga.Answered, by *Event) {
	if ask.Undo {
		m.undone(saga.Undone(told))
		return
	}
	m.done(told, by)
}

func (m *reacting) done(told saga.Answered, by *Event) {
	m.clear()
	m.tell(told)
	switch told.Step {
	case saga.SucceededStep:
		m.end(saga.Ended{Outcome: saga.OutcomeSucceeded})
		return
	case saga.FailedStep:
		m.end(saga.Ended{Outcome: saga.OutcomeFailed, Code: m.s.Turned.Code, Step: m.s.Turned.Step})
		return
	}
	i := m.index(told.Step)
	if st := m.steps[i]; by != nil && st.learn != nil && st.learns.hears(nil, by.Event, by.Meta) {
		m.at = st.name
		m.learn(st.learn(m.know(), by.Event, by.Meta))
	}
	m.forward(i + 1)
}

func (m *reacting) undone(told saga.Undone) {
	m.clear()
	m.tell(told)
	m.back()
}

// refuse takes a no: try again later, try another way, turn back, or need attention.
func (m *reacting) refuse(r saga.Refused) {
	if m.s.Attention != nil {
		m.clear()
	}
	m.tell(r)
	st, did := m.step(r.Step), m.s.Of(r.Step)
	passing := r.Class == saga.ClassTransient || r.Class == saga.ClassPlaneDown
	switch {
	case st != nil && passing && did.Failures < st.attempts(r.Undo):
		next := did.Attempts + 1
		if r.Undo {
			next = did.Undos + 1
		}
		m.tell(saga.RetryScheduled{Step: r.Step, Undo: r.Undo, Attempt: next,
			DueAt: domain.Micro(m.now.Add(st.pause(r.Undo, did.Failures, r.CommandID)))})
	case passing || r.Class == saga.ClassBug || r.Undo || r.Step == saga.FailedStep || m.s.Past:
		m.attention(r.Step, r.Undo, r.Code)
	case st != nil && did.Tried < st.otherwise.Times:
		m.turn(r.Step, r.Code, st.otherwise.Step)
	default:
		m.turn(r.Step, r.Code, "")
	}
}

// forward goes on with the i-th step, or with the last ask.
func (m *reacting) forward(i int) {
	for ; i < len(m.steps); i++ {
		st := &m.steps[i]
		m.at, m.undo = st.name, false
		if st.only != nil && !st.only(m.know()) {
			continue
		}
		switch {
		case st.choose != nil:
			m.look = st.name
		case st.wait != nil:
			until := domain.Micro(st.wait(m.know(), m.now))
			m.tell(saga.Waiting{Step: st.name, DueAt: until})
			m.due()
		default:
			m.ask(st, false)
		}
		return
	}
	m.at, m.undo = saga.SucceededStep, false
	if m.succeeded == nil {
		m.end(saga.Ended{Outcome: saga.OutcomeSucceeded})
		return
	}
	m.askLast(saga.SucceededStep, m.succeeded(m.know()))
}

// turn goes back: all the way, or down to the step that is tried again.
func (m *reacting) turn(step, code, to string) {
	m.clear()
	m.tell(saga.Turned{Step: step, Code: code, To: to})
	if m.s.Pending == nil && m.s.Due == nil { // else an undo is already on its way
		m.back()
	}
}

// back undoes the last step that is or may be done; when none is left it tries again, or reports the failure.
func (m *reacting) back() {
	downTo := m.index(m.s.To)
	for i := len(m.steps) - 1; i >= 0 && i > downTo; i-- {
		if st := &m.steps[i]; st.undo != nil && m.s.Of(st.name).Touched {
			m.at, m.undo = st.name, true
			m.ask(st, true)
			return
		}
	}
	if downTo >= 0 {
		m.forward(downTo)
		return
	}
	m.at, m.undo = saga.FailedStep, true
	if m.failed == nil {
		m.end(saga.Ended{Outcome: saga.OutcomeFailed, Code: m.s.Turned.Code, Step: m.s.Turned.Step})
		return
	}
	m.askLast(saga.FailedStep, m.failed(m.know(), Why{m.s.Turned.Step, m.s.Turned.Code}))
}

// again asks for an answered step anew, under a new attempt.
func (m *reacting) again(step string, undo bool) {
	m.at, m.undo = step, undo
	switch st := m.step(step); {
	case step == saga.SucceededStep:
		m.forward(len(m.steps))
	case step == saga.FailedStep:
		m.back()
	case st == nil:
		m.attention(step, undo, saga.CodePanic)
	case undo:
		m.ask(st, true)
	default:
		m.forward(m.index(step))
	}
}

func (m *reacting) ask(st *step, undo bool) {
	make := st.do
	attempt := m.s.Of(st.name).Attempts + 1
	if undo {
		make, attempt = st.undo, m.s.Of(st.name).Undos+1
	}
	asked := saga.Asked{Step: st.name, Undo: undo, Attempt: attempt, WithinMs: st.within.Milliseconds(), Forward: st.forward}
	if st.operation != nil {
		asked.Plane = st.operation(m.know())
	}
	m.send(asked, make(m.know()))
}

func (m *reacting) askLast(step string, c domain.Command) {
	m.send(saga.Asked{Step: step, Attempt: m.s.Of(step).Attempts + 1}, c)
}

func (m *reacting) send(asked saga.Asked, c domain.Command) {
	name, rev, body, err := m.registry.Encode(c)
	if err != nil {
		panic(fmt.Errorf("command of %s: %w", asked.Step, err))
	}
	asked.CommandID = domain.SagaCommandID(m.s.Started.Saga, asked.Step, asked.Item, asked.Undo, asked.Attempt)
	asked.Command, asked.Rev, asked.Body = name, rev, body
	m.tell(asked)
}

// choose makes the choice for which the snapshot was read, then goes on.
func (m *reacting) choose(t Snapshot) {
	st := m.step(t.Step)
	if st == nil || st.choose == nil {
		return
	}
	m.at, m.undo = st.name, false
	c, err := st.choose(m.know(), t.Value, m.past(st.name))
	if err != nil {
		m.refuse(saga.Refused{Step: st.name, Code: string(domain.CodeOf(err)), Message: public(err)})
		return
	}
	m.tell(saga.Chosen{Step: st.name, Choice: encode(c.Chosen), Reason: c.Reason})
	m.learn(c.Plan)
	m.forward(m.index(st.name) + 1)
}

// past gives the refusals that followed earlier choices of a step.
func (m *reacting) past(step string) (past []Past) {
	for _, r := range m.s.Refusals {
		for _, c := range r.Chosen {
			if c.Step == step {
				past = append(past, Past{c.Choice, r.Step, r.Code})
			}
		}
	}
	return past
}
