package sagas

import (
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
)

// What each trigger means to a saga as it stands.

// hear takes an event as the answer to the pending ask, or as one heard by key; what is neither is just history.
func (m *reacting) hear(e Event) {
	if e.Meta.EventID == m.s.Started.StartEvent {
		return
	}
	if a := e.Meta.Answers; a != nil && a.Saga == m.s.Started.Saga {
		if m.s.Pending != nil && a.Command == m.s.Pending.CommandID {
			m.answer(e)
		}
		return
	}
	plan := m.know()
	switch {
	case m.superseded.heard(plan, e.Event, e.Meta):
		if !m.s.Undoing {
			m.end(saga.Ended{Outcome: saga.OutcomeSuperseded, Step: m.s.Step})
		}
	case m.abort.heard(plan, e.Event, e.Meta):
		if !m.s.Past && !m.concluding() && !(m.s.Undoing && m.s.To == "") {
			m.turn("", saga.CodeAborted, "")
		}
	case m.s.Due != nil && m.s.Due.Wait:
		if st := m.step(m.s.Due.Step); st != nil && st.until.heard(plan, e.Event, e.Meta) {
			m.done(saga.Answered{Step: st.name, Stream: e.Meta.Stream, Revision: e.Meta.Revision, EventID: e.Meta.EventID}, nil)
		}
	}
}

// concluding tells whether the last ask is on its way: its answer decides whether there is still something to turn back.
func (m *reacting) concluding() bool {
	return m.s.Pending != nil && m.s.Step == saga.SucceededStep
}

// answer takes an event that answers the pending ask; it tells whether a cue of the step heard it.
func (m *reacting) answer(e Event) bool {
	ask, st, plan := *m.s.Pending, m.step(m.s.Pending.Step), m.know()
	if st == nil {
		return false
	}
	told := saga.Answered{Step: st.name, CommandID: ask.CommandID, Stream: e.Meta.Stream, Revision: e.Meta.Revision, EventID: e.Meta.EventID}
	code, refused := st.refused.codeOf(plan, e.Event, e.Meta)
	switch {
	case ask.Undo && st.undone.heard(plan, e.Event, e.Meta):
		m.undone(saga.Undone(told))
	case !ask.Undo && st.superseded.heard(plan, e.Event, e.Meta):
		m.end(saga.Ended{Outcome: saga.OutcomeSuperseded, Step: st.name})
	case !ask.Undo && st.done.heard(plan, e.Event, e.Meta):
		m.done(told, &e)
	case !ask.Undo && refused:
		m.refuse(saga.Refused{Step: st.name, CommandID: ask.CommandID, Code: code, EventID: e.Meta.EventID})
	case st.fails.hears(plan, e.Event, e.Meta):
		class, code := st.fails.judge(e.Event)
		m.refuse(saga.Refused{Step: st.name, Undo: ask.Undo, CommandID: ask.CommandID, Code: code, Class: class,
			EventID: e.Meta.EventID, Partial: true})
	default:
		return false
	}
	return true
}

func (m *reacting) pends(commandID string) bool {
	return m.s.Pending != nil && m.s.Pending.CommandID == commandID
}

func (m *reacting) accepted(t Accepted) {
	if !m.pends(t.CommandID) {
		return
	}
	ask, st := *m.s.Pending, m.step(m.s.Pending.Step)
	if !m.s.Accepted {
		m.tell(saga.Accepted{Step: ask.Step, Undo: ask.Undo, CommandID: ask.CommandID, Stream: t.Stream, Revision: t.Revision})
	}
	for _, e := range t.Events {
		if m.answer(e) {
			return
		}
	}
	if st == nil || ask.Undo && st.undone.empty() || !ask.Undo && st.done.empty() {
		told := saga.Answered{Step: ask.Step, CommandID: ask.CommandID, Stream: t.Stream, Revision: t.Revision}
		var last *Event
		if n := len(t.Events); n > 0 {
			last = &t.Events[n-1]
			told.EventID = last.Meta.EventID
		}
		m.finish(ask, told, last)
	}
}

// quiet counts as done unless the answer is an event that is yet to come.
func (m *reacting) quiet(t Quiet) {
	if !m.pends(t.CommandID) {
		return
	}
	ask, st := *m.s.Pending, m.step(m.s.Pending.Step)
	waits := m.s.Accepted
	if st != nil && !waits {
		cue := st.done
		if ask.Undo {
			cue = st.undone
		}
		waits = st.quietWaits && !cue.empty()
	}
	if !m.s.Accepted {
		m.tell(saga.Quiet{Step: ask.Step, Undo: ask.Undo, CommandID: ask.CommandID})
	}
	if !waits {
		m.finish(ask, saga.Answered{Step: ask.Step, CommandID: ask.CommandID}, nil)
	}
}

// refused takes the Bus's no. On an ask that it has taken before, and as stale on an operation, it is no answer: the event is.
func (m *reacting) refused(t Refused) {
	if !m.pends(t.CommandID) || m.s.Accepted || t.Code == domain.CodeStale && m.s.Pending.Plane != "" {
		return
	}
	r := saga.Refused{Step: m.s.Pending.Step, Undo: m.s.Pending.Undo, CommandID: t.CommandID, Code: string(t.Code), Message: t.Message}
	if t.Code == domain.CodeInternal {
		r.Class, r.Partial = saga.ClassBug, true
	}
	m.refuse(r)
}

// silence turns back, undoing the uncertain step too; what is never undone is asked on, and needs attention.
func (m *reacting) silence(t Silence) {
	if !m.pends(t.CommandID) || m.s.Late {
		return
	}
	ask, st := *m.s.Pending, m.step(m.s.Pending.Step)
	m.tell(saga.TimedOut{Step: ask.Step, Undo: ask.Undo, CommandID: ask.CommandID})
	if st == nil || ask.Undo || m.s.Past {
		m.attention(ask.Step, ask.Undo, saga.CodeLate)
		return
	}
	m.turn(ask.Step, saga.CodeTimedOut, "")
}

func (m *reacting) due() {
	switch due := m.s.Due; {
	case due == nil || m.now.Before(due.At):
	case due.Wait:
		m.done(saga.Answered{Step: due.Step}, nil)
	default:
		m.again(due.Step, due.Undo)
	}
}
