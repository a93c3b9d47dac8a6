package sagas_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/sagas"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// play folds triggers one after the other, each at a minute of its own, and writes every fact as one short line. A func
// among the triggers makes the next one from the state.
func play(t *testing.T, d *sagas.Definition, triggers ...any) (saga.State, []string) {
	t.Helper()
	var s saga.State
	var told []string
	now := t0
	for _, w := range triggers {
		now = now.Add(time.Minute)
		if f, ok := w.(func(saga.State) any); ok {
			w = f(s)
		}
		if own, ok := w.(saga.Event); ok {
			s = saga.Evolve(s, own)
			told = append(told, short(own))
			continue
		}
		for again := w; again != nil; {
			out := d.React(registry, s, sagas.Trigger{Now: now, What: again})
			for _, f := range out.Facts {
				s = saga.Evolve(s, f)
				told = append(told, short(f))
			}
			again = nil
			if out.Look != "" {
				again = sagas.Snapshot{Step: out.Look, Value: []string{"p1", "p2", "p3"}}
			}
		}
	}
	return s, told
}

func short(f saga.Event) string {
	undo := func(u bool) string {
		if u {
			return "undo "
		}
		return ""
	}
	switch f := f.(type) {
	case saga.Started:
		return "started"
	case saga.Chosen:
		return "chosen " + string(f.Choice)
	case saga.Learned:
		return "learned"
	case saga.Asked:
		return fmt.Sprintf("asked %s%s #%d", undo(f.Undo), f.Step, f.Attempt)
	case saga.Accepted:
		return "accepted " + undo(f.Undo) + f.Step
	case saga.Quiet:
		return "quiet " + undo(f.Undo) + f.Step
	case saga.Refused:
		return strings.TrimSpace("refused " + undo(f.Undo) + f.Step + " " + f.Code + " " + f.Class)
	case saga.Answered:
		return "answered " + f.Step
	case saga.Undone:
		return "undone " + f.Step
	case saga.TimedOut:
		return "timed out " + undo(f.Undo) + f.Step
	case saga.RetryScheduled:
		return fmt.Sprintf("retry %s%s #%d", undo(f.Undo), f.Step, f.Attempt)
	case saga.Waiting:
		return "waiting " + f.Step
	case saga.Turned:
		return strings.TrimSpace("turned " + f.Code + " " + f.To)
	case saga.AttentionNeeded:
		return "attention " + undo(f.Undo) + f.Step + " " + f.Code
	case saga.AttentionCleared:
		return "cleared"
	case saga.Ended:
		return strings.TrimSpace("ended " + f.Outcome + " " + f.Code)
	default:
		return strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", f), "saga."))
	}
}

const ten = "ten_aaaaaaaaaaaaaaaaaaaaaaaaaa"

func start(e any) any {
	return sagas.Event{Event: e, Meta: domain.Meta{Stream: "tenant-" + ten, EventID: "e0", Type: "x", Org: "org_x", Tenant: ten}}
}

// heard is an event born elsewhere.
func heard(e any) any {
	return sagas.Event{Event: e, Meta: domain.Meta{Stream: "tenant-" + ten, Revision: 7, EventID: "e7", Tenant: ten}}
}

// answer is an event that answers the pending ask.
func answer(e any) func(saga.State) any {
	return func(s saga.State) any {
		return sagas.Event{Event: e, Meta: domain.Meta{Stream: "plane-p1", Revision: 3, EventID: "e3",
			Answers: &domain.Answers{Saga: s.Started.Saga, Command: pending(s)}}}
	}
}

// late is an event that answers an ask of the past.
func late(step string, undo bool, attempt int, e any) func(saga.State) any {
	return func(s saga.State) any {
		return sagas.Event{Event: e, Meta: domain.Meta{EventID: "e9", Answers: &domain.Answers{Saga: s.Started.Saga,
			Command: domain.SagaCommandID(s.Started.Saga, step, "", undo, attempt)}}}
	}
}

func pending(s saga.State) string {
	if s.Pending == nil {
		return "none"
	}
	return s.Pending.CommandID
}

// accepted is the Bus's answer with the events that it appended.
func accepted(events ...any) func(saga.State) any {
	return func(s saga.State) any {
		a := sagas.Accepted{CommandID: pending(s), Stream: "s", Revision: 4}
		for _, e := range events {
			a.Events = append(a.Events, sagas.Event{Event: e, Meta: domain.Meta{EventID: "b1"}})
		}
		return a
	}
}

func quiet(s saga.State) any   { return sagas.Quiet{CommandID: pending(s)} }
func silence(s saga.State) any { return sagas.Silence{CommandID: pending(s)} }
func refused(code domain.Code) func(saga.State) any {
	return func(s saga.State) any { return sagas.Refused{CommandID: pending(s), Code: code} }
}
func due(saga.State) any  { return sagas.Due{} }
func wake(saga.State) any { return sagas.Wake{} }

func TestReact(t *testing.T) {
	done, down := operationDone{}, operationFailed{Class: saga.ClassTransient, Code: "busy"}
	begun := []any{start(requested{ten})}
	asking := append(begun, accepted(reserved{}), accepted(operationDue{}))
	at := func(before []any, more ...any) []any { return append(append([]any(nil), before...), more...) }
	said := []string{"started", `chosen "p1"`, "learned", "asked reserve #1", "accepted reserve", "answered reserve", "asked provision #1", "accepted provision"}
	suspending := []any{start(suspensionDue{ten, 1}), accepted(operationDue{})}
	suspended := []string{"started", "asked suspend #1", "accepted suspend"}

	for name, tc := range map[string]struct {
		saga *sagas.Definition
		when []any
		then []string // behind what stands in said or suspended, where when begins so
	}{
		"all goes well": {when: at(asking, answer(done), accepted(activated{})),
			then: []string{"answered provision", "asked succeeded #1", "accepted succeeded", "answered succeeded", "ended succeeded"}},
		"an answer's values are learned": {when: at(asking, answer(operationDone{Endpoint: "db"})),
			then: []string{"answered provision", "learned", "asked succeeded #1"}},
		"a repeated start is nothing":                         {when: at(asking, start(requested{ten}))},
		"a repeated answer is nothing":                        {when: at(asking, late("reserve", false, 1, reserved{}))},
		"an answer of another command is nothing":             {when: at(asking, late("provision", false, 2, done))},
		"an answer without a cue is nothing":                  {when: at(asking, answer(operationDue{}))},
		"an event of the pending ask's type heard by key too": {when: at(asking, heard(done))},
		"a quiet operation waits":                             {when: at(begun, accepted(reserved{}), quiet), then: []string{"-accepted provision", "quiet provision"}},
		"quiet again is nothing":                              {when: at(asking, quiet)},
		"a quiet ask counts as done": {when: at(begun, quiet),
			then: []string{"-accepted reserve", "-answered reserve", "-asked provision #1", "-accepted provision", "quiet reserve", "answered reserve", "asked provision #1"}},
		"a stale operation waits":                     {when: at(begun, accepted(reserved{}), refused(domain.CodeStale)), then: []string{"-accepted provision"}},
		"a refusal of what was accepted is no answer": {when: at(asking, refused(domain.CodeNotAllowed))},
		"a refused ask chooses again, without what was refused": {when: at(begun, accepted(reserveNo{})),
			then: []string{"-answered reserve", "-asked provision #1", "-accepted provision", "refused reserve refused", "turned refused choose plane", `chosen "p2"`, "learned", "asked reserve #2"}},
		"refused by the Bus": {when: at(begun, refused(domain.CodeCapacityExhausted)),
			then: []string{"-accepted reserve", "-answered reserve", "-asked provision #1", "-accepted provision", "refused reserve capacity_exhausted", "turned capacity_exhausted choose plane", `chosen "p2"`, "learned", "asked reserve #2"}},
		"refused too often it turns back, nothing to undo": {when: at(begun, refused("a"), refused("b"), refused("c"), accepted(rejected{})),
			then: []string{"-accepted reserve", "-answered reserve", "-asked provision #1", "-accepted provision",
				"refused reserve a", "turned a choose plane", `chosen "p2"`, "learned", "asked reserve #2",
				"refused reserve b", "turned b choose plane", `chosen "p3"`, "learned", "asked reserve #3",
				"refused reserve c", "turned c", "asked failed #1", "accepted failed", "answered failed", "ended failed c"}},
		"a failure for the user's sake undoes the step too": {when: at(asking, answer(operationFailed{Class: saga.ClassUser, Code: "name"}), answer(done), accepted(released{}), quiet),
			then: []string{"refused provision name user", "turned name", "asked undo provision #1", "undone provision", "asked undo reserve #1",
				"accepted undo reserve", "undone reserve", "asked failed #1", "quiet failed", "answered failed", "ended failed name"}},
		"a passing failure is attempted again, not before its time": {when: at(asking, answer(down), due),
			then: []string{"refused provision busy transient", "retry provision #2", "asked provision #2"}},
		"the old attempt's answer is history": {when: at(asking, answer(down), late("provision", false, 1, done)),
			then: []string{"refused provision busy transient", "retry provision #2"}},
		"passing failures run out": {when: at(asking, answer(down), due, answer(down), due, answer(down)),
			then: []string{"refused provision busy transient", "retry provision #2", "asked provision #2", "refused provision busy transient", "retry provision #3",
				"asked provision #3", "refused provision busy transient", "attention provision busy"}},
		"a retry clears attention and counts anew": {when: at(asking, answer(down), due, answer(down), due, answer(down), saga.Retried{}, wake, answer(down)),
			then: []string{"refused provision busy transient", "retry provision #2", "asked provision #2", "refused provision busy transient", "retry provision #3",
				"asked provision #3", "refused provision busy transient", "attention provision busy", "retried", "cleared", "asked provision #4",
				"refused provision busy transient", "retry provision #5"}},
		"a retry brings a scheduled attempt forward": {when: at(asking, answer(down), saga.Retried{}, wake),
			then: []string{"refused provision busy transient", "retry provision #2", "retried", "asked provision #2"}},
		"a bug needs attention": {when: at(asking, answer(operationFailed{Class: saga.ClassBug, Code: "boom"})),
			then: []string{"refused provision boom bug", "attention provision boom"}},
		"cancelled in attention": {when: at(asking, answer(operationFailed{Class: saga.ClassBug, Code: "boom"}), saga.Cancelled{}, wake),
			then: []string{"refused provision boom bug", "attention provision boom", "cancelled", "cleared", "turned cancelled", "asked undo provision #1"}},
		"silence undoes the uncertain step too": {when: at(asking, silence),
			then: []string{"timed out provision", "turned timed_out", "asked undo provision #1"}},
		"a late answer after silence is history": {when: at(asking, silence, late("provision", false, 1, done)),
			then: []string{"timed out provision", "turned timed_out", "asked undo provision #1"}},
		"a silent undo is asked on, late": {when: at(asking, silence, silence, silence, answer(done)),
			then: []string{"timed out provision", "turned timed_out", "asked undo provision #1", "timed out undo provision", "attention undo provision late",
				"cleared", "undone provision", "asked undo reserve #1"}},
		"a failing undo is attempted again": {when: at(asking, silence, answer(down), due),
			then: []string{"timed out provision", "turned timed_out", "asked undo provision #1", "refused undo provision busy transient", "retry undo provision #2", "asked undo provision #2"}},
		"a refused undo needs attention": {when: at(asking, silence, answer(done), refused(domain.CodeNotAllowed), saga.Retried{}, wake),
			then: []string{"timed out provision", "turned timed_out", "asked undo provision #1", "undone provision", "asked undo reserve #1",
				"refused undo reserve not_allowed", "attention undo reserve not_allowed", "retried", "cleared", "asked undo reserve #2"}},
		"abort turns back": {when: at(asking, heard(offboarding{})),
			then: []string{"turned aborted", "asked undo provision #1"}},
		"abort heard twice turns once": {when: at(asking, heard(offboarding{}), heard(offboarding{})),
			then: []string{"turned aborted", "asked undo provision #1"}},
		"abort while the last ask is on its way waits for its answer": {when: at(asking, answer(done), heard(offboarding{}), refused(domain.CodeNotAllowed)),
			then: []string{"answered provision", "asked succeeded #1", "refused succeeded not_allowed", "turned not_allowed", "asked undo provision #1"}},
		"a cancel too late": {when: at(asking, answer(done), saga.Cancelled{}, accepted(activated{})),
			then: []string{"answered provision", "asked succeeded #1", "cancelled", "accepted succeeded", "answered succeeded", "ended succeeded"}},
		"a cancel that waited for the last ask's answer": {when: at(asking, answer(done), saga.Cancelled{}, refused(domain.CodeInternal)),
			then: []string{"answered provision", "asked succeeded #1", "cancelled", "refused succeeded internal bug", "attention succeeded internal",
				"cleared", "turned cancelled", "asked undo provision #1"}},
		"a wish comes before the next trigger": {when: at(asking, saga.Cancelled{}, late("provision", false, 1, done)),
			then: []string{"cancelled", "turned cancelled", "asked undo provision #1"}},
		"a refused report of failure needs attention": {when: at(begun, heard(offboarding{}), quiet, refused(domain.CodeNotAllowed)),
			then: []string{"-accepted reserve", "-answered reserve", "-asked provision #1", "-accepted provision",
				"turned aborted", "asked undo reserve #1", "quiet undo reserve", "undone reserve", "asked failed #1", "refused failed not_allowed", "attention failed not_allowed"}},
		"a broken Bus needs attention": {when: at(begun, refused(domain.CodeInternal)),
			then: []string{"-accepted reserve", "-answered reserve", "-asked provision #1", "-accepted provision", "refused reserve internal bug", "attention reserve internal"}},
		"what ended hears nothing": {when: at(asking, answer(done), quiet, quiet, heard(offboarding{}), wake),
			then: []string{"answered provision", "asked succeeded #1", "quiet succeeded", "answered succeeded", "ended succeeded"}},

		"a declined start":          {saga: suspension.Definition(), when: []any{start(suspensionDue{ten, 0})}, then: []string{"-started", "-asked suspend #1", "-accepted suspend"}},
		"forward goes well":         {saga: suspension.Definition(), when: at(suspending, answer(done), quiet), then: []string{"answered suspend", "asked succeeded #1", "quiet succeeded", "answered succeeded", "ended succeeded"}},
		"forward is not aborted":    {saga: suspension.Definition(), when: at(suspending, heard(offboarding{}))},
		"forward late, asked again": {saga: suspension.Definition(), when: at(suspending, silence, saga.Retried{}, wake, quiet, answer(done)), then: []string{"timed out suspend", "attention suspend late", "retried", "cleared", "asked suspend #1", "answered suspend", "asked succeeded #1"}},
		"forward refused":           {saga: suspension.Definition(), when: at(suspending, answer(operationFailed{Class: saga.ClassUser, Code: "no"})), then: []string{"refused suspend no user", "attention suspend no"}},
		"overtaken":                 {saga: suspension.Definition(), when: at(suspending, answer(operationFailed{Code: "superseded"})), then: []string{"ended superseded"}},
		"forward, last ask refused": {saga: suspension.Definition(), when: at(suspending, answer(done), refused(domain.CodeNotAllowed)), then: []string{"answered suspend", "asked succeeded #1", "refused succeeded not_allowed", "attention succeeded not_allowed"}},
	} {
		t.Run(name, func(t *testing.T) {
			d, want := tc.saga, append([]string(nil), said...)
			if d == nil {
				d = onboarding.Definition()
			} else {
				want = append([]string(nil), suspended...)
			}
			for _, line := range tc.then {
				if gone, is := strings.CutPrefix(line, "-"); is {
					for i, w := range want {
						if w == gone {
							want = append(want[:i], want[i+1:]...)
							break
						}
					}
					continue
				}
				want = append(want, line)
			}
			_, got := play(t, d, tc.when...)
			if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("facts (-want +got):\n%s", d)
			}
		})
	}
}

func TestReactWaitsAndPartWayBack(t *testing.T) {
	s := sagas.Saga[plan]{Name: "moving", Version: 1,
		Start: sagas.StartsWith(func(e requested, _ domain.Meta) plan { return plan{Tenant: e.Tenant} }),
		Hears: sagas.ByTenant(func(p plan) string { return p.Tenant }),
		Steps: []sagas.Step[plan]{
			{Name: "choose", Choose: sagas.Choose(choosePlane)},
			{Name: "reserve", Do: func(p plan) domain.Command { return reserve{p.Plane, p.Tenant} }, Undo: func(p plan) domain.Command { return release{p.Plane, p.Tenant} }},
			{Name: "never", Only: func(plan) bool { return false }, Do: func(p plan) domain.Command { return confirm{} }},
			{Name: "grace", Wait: sagas.For(func(plan) time.Duration { return 90 * time.Second }), Until: sagas.When[offboarding]()},
			{Name: "provision", Else: sagas.Again("choose", 1), Operation: func(p plan) string { return p.Plane }, Fails: fails, Done: sagas.When[operationDone](),
				Do:   func(p plan) domain.Command { return operate{p.Plane, p.Tenant, "provision"} },
				Undo: func(p plan) domain.Command { return operate{p.Plane, p.Tenant, "deprovision"} }, Undone: sagas.When[operationDone]()},
		}}.Definition()
	_, got := play(t, s, start(requested{ten}), accepted(reserved{}), due, due, answer(operationFailed{Class: saga.ClassQuota, Code: "full"}),
		answer(operationDone{}), accepted(released{}), accepted(reserved{}), heard(offboarding{}), answer(operationFailed{Class: saga.ClassQuota, Code: "full"}))
	want := []string{"started", `chosen "p1"`, "learned", "asked reserve #1", "accepted reserve", "answered reserve", "waiting grace", "answered grace", "asked provision #1",
		"refused provision full quota", "turned full choose", "asked undo provision #1", "undone provision", "asked undo reserve #1", "accepted undo reserve", "undone reserve",
		`chosen "p2"`, "learned", "asked reserve #2", "accepted reserve", "answered reserve", "waiting grace", "answered grace", "asked provision #2",
		"refused provision full quota", "turned full", "asked undo provision #2"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("facts (-want +got):\n%s", d)
	}
}

func TestReactSurvivesAPanickingDefinition(t *testing.T) {
	panics := true
	s := sagas.Saga[plan]{Name: "shaky", Version: 1,
		Start: sagas.StartsWith(func(e requested, _ domain.Meta) plan { return plan{Tenant: e.Tenant} }),
		Steps: []sagas.Step[plan]{
			{Name: "one", Do: func(p plan) domain.Command { return confirm{p.Tenant} }},
			{Name: "two", Do: func(p plan) domain.Command {
				if panics {
					panic("oh")
				}
				return confirm{p.Tenant}
			}},
			{Name: "three", Do: func(p plan) domain.Command { return badCommand{p.Tenant} }},
		}}.Definition()
	mend := func(saga.State) any { panics = false; return saga.Retried{} }
	_, got := play(t, s, start(requested{ten}), quiet, mend, wake, quiet)
	want := []string{"started", "asked one #1", "quiet one", "answered one", "attention two panic", "retried", "cleared", "asked two #1", "quiet two", "answered two", "attention three panic"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("facts (-want +got):\n%s", d)
	}
}

func TestAContradictoryTableIsAMistakeInTheProgram(t *testing.T) {
	do := func(p plan) domain.Command { return confirm{} }
	for name, s := range map[string]sagas.Saga[plan]{
		"no name":            {Version: 1},
		"no version":         {Name: "abc"},
		"no keys":            {Name: "abc", Version: 1, Abort: sagas.When[offboarding]()},
		"a step of no kind":  {Name: "abc", Version: 1, Steps: []sagas.Step[plan]{{Name: "a"}}},
		"a name twice":       {Name: "abc", Version: 1, Steps: []sagas.Step[plan]{{Name: "a", Do: do}, {Name: "a", Do: do}}},
		"forward and undone": {Name: "abc", Version: 1, Steps: []sagas.Step[plan]{{Name: "a", Do: do, Undo: do, Forward: true}}},
		"else goes forward":  {Name: "abc", Version: 1, Steps: []sagas.Step[plan]{{Name: "a", Do: do, Else: sagas.Again("b", 1)}, {Name: "b", Do: do}}},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("was taken")
				}
			}()
			s.Definition()
		})
	}
}
