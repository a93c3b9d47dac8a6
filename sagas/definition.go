package sagas

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
)

// Definition is a Saga with its plan's type erased, as React and the runner hold it.
type Definition struct {
	Name    string
	Version int

	start       []starting[any]
	hears       func(plan any) []string
	abort       Cue
	superseded  Cue
	steps       []step
	succeeded   func(plan any) domain.Command
	failed      func(plan any, why Why) domain.Command
	change      func(plan any) int64
	decodePlan  func(json.RawMessage) (any, error)
	outsideCues []reflect.Type // event types that are heard by key
}

// step is a Step with its plan's type erased; a nil function is absent.
type step struct {
	name                  string
	only                  func(any) bool
	snapshot              func(json.RawMessage) (any, error)
	choose                func(p, snapshot any, past []Past) (Choice[any], error)
	wait                  func(p any, now time.Time) time.Time
	until                 Cue
	do, undo              func(any) domain.Command
	done, refused, undone Cue
	superseded            Cue
	fails                 Failing
	learns                hearing
	learn                 func(p, e any, m domain.Meta) any
	within                time.Duration
	retry                 Retry
	otherwise             Else
	forward, quietWaits   bool
	operation             func(any) string
}

// Definition erases the plan's type. It panics where the table contradicts itself: that is a mistake in the program.
func (s Saga[Plan]) Definition() *Definition {
	d := &Definition{Name: s.Name, Version: s.Version, abort: s.Abort, superseded: s.Superseded,
		decodePlan: func(b json.RawMessage) (any, error) {
			var p Plan
			err := json.Unmarshal(b, &p)
			return p, err
		}}
	for _, st := range s.Start.starts {
		d.start = append(d.start, starting[any]{st.hearing, func(e any, m domain.Meta) (any, bool) { return st.plan(e, m) }})
	}
	if s.Hears != nil {
		d.hears = func(p any) []string { return s.Hears(p.(Plan)) }
	}
	if s.Succeeded != nil {
		d.succeeded = func(p any) domain.Command { return s.Succeeded(p.(Plan)) }
	}
	if s.Failed != nil {
		d.failed = func(p any, why Why) domain.Command { return s.Failed(p.(Plan), why) }
	}
	if s.Change != nil {
		d.change = func(p any) int64 { return s.Change(p.(Plan)) }
	}
	for _, st := range s.Steps {
		d.steps = append(d.steps, st.erase())
	}
	d.hearOutside()
	if problem := d.contradiction(); problem != "" {
		panic(fmt.Sprintf("saga %s version %d: %s", d.Name, d.Version, problem))
	}
	return d
}

func (s Step[Plan]) erase() step {
	e := step{name: s.Name, until: s.Until, done: s.Done, refused: s.Refused, undone: s.Undone, superseded: s.Superseded,
		fails: s.Fails, learns: s.Learn.hearing, within: s.Within, retry: s.Retry, otherwise: s.Else, forward: s.Forward,
		quietWaits: s.QuietWaits || s.Operation != nil || s.Learn.learn != nil, snapshot: s.Choose.snapshot}
	if s.Only != nil {
		e.only = func(p any) bool { return s.Only(p.(Plan)) }
	}
	if s.Choose.choose != nil {
		e.choose = func(p, snapshot any, past []Past) (Choice[any], error) {
			c, err := s.Choose.choose(p.(Plan), snapshot, past)
			return Choice[any]{c.Plan, c.Chosen, c.Reason}, err
		}
	}
	if s.Wait != nil {
		e.wait = func(p any, now time.Time) time.Time { return s.Wait(p.(Plan), now) }
	}
	if s.Do != nil {
		e.do = func(p any) domain.Command { return s.Do(p.(Plan)) }
	}
	if s.Undo != nil {
		e.undo = func(p any) domain.Command { return s.Undo(p.(Plan)) }
	}
	if s.Learn.learn != nil {
		e.learn = func(p, ev any, m domain.Meta) any { return s.Learn.learn(p.(Plan), ev, m) }
	}
	if s.Operation != nil {
		e.operation = func(p any) string { return s.Operation(p.(Plan)) }
	}
	return e
}

func (d *Definition) hearOutside() {
	cues := []Cue{d.abort, d.superseded}
	for _, s := range d.steps {
		cues = append(cues, s.until)
	}
	for _, h := range AnyOf(cues...).hears {
		d.outsideCues = append(d.outsideCues, h.event)
	}
}

// contradiction says what is wrong with the table, or nothing.
func (d *Definition) contradiction() string {
	if err := domain.CheckSlug("name", d.Name); err != nil {
		return err.Error()
	}
	if d.Version < 1 {
		return "has no version"
	}
	if len(d.outsideCues) > 0 && d.hears == nil {
		return "has cues for outside events but hears no keys"
	}
	for i, s := range d.steps {
		kinds := 0
		for _, is := range []bool{s.choose != nil, s.wait != nil, s.do != nil} {
			if is {
				kinds++
			}
		}
		back := d.index(s.otherwise.Step)
		switch {
		case s.name == "" || s.name == saga.SucceededStep || s.name == saga.FailedStep:
			return fmt.Sprintf("step %d has no name of its own", i)
		case d.index(s.name) != i:
			return s.name + " stands twice"
		case kinds != 1:
			return s.name + " must either choose, wait or do"
		case s.otherwise.Step != "" && (back < 0 || back > i):
			return s.name + " tries again from a step that is not before it"
		case s.forward && s.undo != nil:
			return s.name + " is never undone, but has an undo"
		case s.undo == nil && !s.undone.empty():
			return s.name + " has nothing to undo, but a cue for it"
		}
	}
	return ""
}

func (d *Definition) index(name string) int {
	return slices.IndexFunc(d.steps, func(s step) bool { return s.name == name })
}

func (d *Definition) step(name string) *step {
	if i := d.index(name); i >= 0 {
		return &d.steps[i]
	}
	return nil
}

func (d *Definition) stepNames() []string {
	names := make([]string, len(d.steps))
	for i, s := range d.steps {
		names[i] = s.name
	}
	return names
}

// begin gives the plan with which an event starts the saga; ok is false if it does not.
func (d *Definition) begin(e any, m domain.Meta) (plan any, ok bool) {
	for _, s := range d.start {
		if s.hears(nil, e, m) {
			if plan, ok := s.plan(e, m); ok {
				return plan, true
			}
		}
	}
	return nil, false
}

// DecodeSnapshot decodes a stored snapshot of a choosing step, for the replay of golden histories.
func (d *Definition) DecodeSnapshot(step string, b json.RawMessage) (any, error) {
	if st := d.step(step); st != nil && st.snapshot != nil {
		return st.snapshot(b)
	}
	return nil, fmt.Errorf("%s has no choosing step %q", d.Name, step)
}
