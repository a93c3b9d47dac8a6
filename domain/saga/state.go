package saga

import (
	"encoding/json"
	"slices"
	"time"
)

// State is what a saga's facts add up to. It needs no definition: which step comes next is React's to say.
type State struct {
	Started Started         // its Name is empty before the first fact
	Plan    json.RawMessage // as last learned
	Undoing bool
	To      string // undoing only down to this step, which is then tried again
	Turned  Turned // why it last turned
	Past    bool   // a step was asked that is never undone

	Step     string     // where it stands
	Steps    []Progress // in the order in which they began
	Pending  *Asked     // the ask that stands unanswered
	Accepted bool       // the Bus has taken the pending ask
	Late     bool       // the pending ask's time ran out
	Due      *Due       // what the saga waits for instead of an answer

	Chosen     []Chosen  // the last choice of each step
	Refusals   []Refusal // every refusal, oldest first
	Attention  *AttentionNeeded
	RetryWish  bool // an operator's, not yet followed
	CancelWish bool // the same
	Ended      *Ended
}

// Progress is what became of one step.
type Progress struct {
	Step     string
	Attempts int  // of doing it
	Undos    int  // attempts of undoing it
	Tried    int  // how often its refusal led back to an earlier step
	Failures int  // in a row, of a kind that is attempted again
	Touched  bool // it is done, or may be: it is undone when the saga turns
	Done     bool // its last attempt was answered
}

// Due is a moment that the saga waits for.
type Due struct {
	Step    string
	Undo    bool
	Attempt int // the one to come; 0 for a wait
	Wait    bool
	At      time.Time
}

// Refusal is one no, with the choices that stood when it came.
type Refusal struct {
	Refused
	Chosen []Chosen
}

// Phase is where the saga stands in its life.
func (s State) Phase() Phase {
	switch {
	case s.Ended != nil:
		return Over
	case s.Started.Name == "":
		return Absent
	case s.Attention != nil:
		return Attention
	case s.Undoing:
		return Undoing
	default:
		return Running
	}
}

// Evolve is the sagas' fold; it leaves the old state as it was.
func Evolve(s State, e Event) State {
	switch e := e.(type) {
	case Started:
		s.Started, s.Plan = e, e.Plan
	case Chosen:
		s.Chosen = slices.DeleteFunc(slices.Clone(s.Chosen), func(c Chosen) bool { return c.Step == e.Step })
		s.Chosen = append(s.Chosen, e)
		s = s.stand(e.Step).forward().with(e.Step, func(p *Progress) { p.Attempts++; p.Done = true })
	case Learned:
		s.Plan = e.Plan
	case Asked:
		taken := s.Accepted && s.Pending != nil && s.Pending.CommandID == e.CommandID // the same ask once more
		s = s.stand(e.Step)
		s.Accepted = taken
		s.Pending, s.Past, s.RetryWish = &e, s.Past || e.Forward && !e.Undo, false
		if !e.Undo && e.Step != FailedStep {
			s = s.forward()
		}
		s = s.with(e.Step, func(p *Progress) {
			if e.Undo {
				p.Undos = max(p.Undos, e.Attempt)
			} else {
				p.Attempts, p.Done = max(p.Attempts, e.Attempt), false
			}
		})
	case Accepted:
		s.Accepted = s.pends(e.CommandID)
	case Quiet:
		s.Accepted = s.pends(e.CommandID)
	case Refused:
		s = s.stand(e.Step).with(e.Step, func(p *Progress) {
			p.Touched = p.Touched || e.Partial && !e.Undo
			if e.Class == ClassTransient || e.Class == ClassPlaneDown {
				p.Failures++
			}
		})
		s.Refusals = append(slices.Clone(s.Refusals), Refusal{e, s.Chosen})
	case Answered:
		s = s.stand(e.Step).with(e.Step, func(p *Progress) { p.Touched, p.Done, p.Failures = true, true, 0 })
	case Undone:
		s = s.stand(e.Step).with(e.Step, func(p *Progress) { p.Touched, p.Done, p.Failures = false, false, 0 })
	case TimedOut:
		s.Late = true
	case RetryScheduled:
		s = s.stand(e.Step)
		s.Due = &Due{Step: e.Step, Undo: e.Undo, Attempt: e.Attempt, At: e.DueAt}
	case Waiting:
		s = s.stand(e.Step).forward().with(e.Step, func(p *Progress) { p.Attempts++ })
		s.Due = &Due{Step: e.Step, Wait: true, At: e.DueAt}
	case Turned:
		if s.Pending != nil && !s.Pending.Undo {
			s = s.with(s.Pending.Step, func(p *Progress) { p.Touched = true }) // in flight: who knows
			s.Pending = nil
		}
		if e.To != "" {
			s = s.with(e.Step, func(p *Progress) { p.Tried++; p.Failures = 0 })
		}
		if s.Due != nil && !s.Due.Undo {
			s.Due = nil
		}
		s.Undoing, s.To, s.Turned, s.CancelWish = true, e.To, e, false
	case AttentionNeeded:
		s.Attention = &e
	case AttentionCleared:
		if s.Attention != nil && s.stepOf(s.Attention.Step) != nil {
			s = s.with(s.Attention.Step, func(p *Progress) { p.Failures = 0 })
		}
		s.Attention, s.RetryWish = nil, false
	case Ended:
		s.Ended, s.Pending, s.Due, s.Attention, s.RetryWish, s.CancelWish = &e, nil, nil, nil, false, false
	case Retried:
		s.RetryWish = true
	case Cancelled:
		s.CancelWish = true
	case Noted:
	}
	return s
}

// stand is the state at a step with nothing pending and nothing due.
func (s State) stand(step string) State {
	s.Step, s.Pending, s.Accepted, s.Late, s.Due = step, nil, false, false, nil
	return s
}

// forward is the state that no longer undoes.
func (s State) forward() State { s.Undoing, s.To = false, ""; return s }

func (s State) pends(command string) bool {
	return s.Accepted || s.Pending != nil && s.Pending.CommandID == command
}
