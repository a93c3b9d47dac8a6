package sagas

import (
	"fmt"
	"reflect"

	"github.com/tenure-dev/tenure/domain"
)

// Cue names the events that mean something to a saga or a step. The zero value hears nothing.
type Cue struct{ hears []hearing }

// hearing is one event type, which of its events count, and the code that each carries.
type hearing struct {
	event reflect.Type
	match func(plan, e any, m domain.Meta) bool // nil for all
	code  func(e any) string                    // nil for none
}

func hear[E any](match func(plan, e any, m domain.Meta) bool) hearing {
	return hearing{event: reflect.TypeFor[E](), match: match}
}

func (h hearing) hears(plan, e any, m domain.Meta) bool {
	return h.event != nil && h.event == reflect.TypeOf(e) && (h.match == nil || h.match(plan, e, m))
}

// When hears the events E for which all predicates hold.
func When[E any](predicates ...func(e E, m domain.Meta) bool) Cue {
	if len(predicates) == 0 {
		return Cue{[]hearing{hear[E](nil)}}
	}
	return Cue{[]hearing{hear[E](func(_, e any, m domain.Meta) bool {
		for _, p := range predicates {
			if !p(e.(E), m) {
				return false
			}
		}
		return true
	})}}
}

// WhenPlan hears the events E that match the saga's plan.
func WhenPlan[Plan, E any](match func(p Plan, e E, m domain.Meta) bool) Cue {
	return Cue{[]hearing{hear[E](func(p, e any, m domain.Meta) bool { return match(p.(Plan), e.(E), m) })}}
}

// WithCode hears the events E, each with the code of a refusal.
func WithCode[E any](code func(E) string) Cue {
	h := hear[E](nil)
	h.code = func(e any) string { return code(e.(E)) }
	return Cue{[]hearing{h}}
}

// AnyOf hears what any of the cues hears.
func AnyOf(cues ...Cue) (all Cue) {
	for _, c := range cues {
		all.hears = append(all.hears, c.hears...)
	}
	return all
}

func (c Cue) empty() bool { return len(c.hears) == 0 }

func (c Cue) heard(plan, e any, m domain.Meta) bool {
	_, ok := c.codeOf(plan, e, m)
	return ok
}

// codeOf gives the code that a heard event carries, "refused" if its cue names none.
func (c Cue) codeOf(plan, e any, m domain.Meta) (string, bool) {
	for _, h := range c.hears {
		if h.hears(plan, e, m) {
			if h.code != nil {
				return h.code(e), true
			}
			return "refused", true
		}
	}
	return "", false
}

// Failing reads an agent's failed outcomes.
type Failing struct {
	hearing
	judge func(e any) (class, code string)
}

// FailsWith reads the class and the code of the failures E; the classes stand in package saga. An empty class is a plain
// refusal.
func FailsWith[E any](judge func(e E) (class, code string)) Failing {
	return Failing{hear[E](nil), func(e any) (string, string) { return judge(e.(E)) }}
}

func wrongSnapshot[S any](got any) string {
	return fmt.Sprintf("snapshot is a %T, not a %s", got, reflect.TypeFor[S]())
}
