// Package domaintest is what the specifications of aggregates share: given, when, then as values, the suite that every
// rulebook passes, and the golden files that keep the wire readable for ever. Tests alone import it.
package domaintest

import (
	"cmp"
	"errors"
	"reflect"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tenure-dev/tenure/domain"
)

// Case is one row of a specification: given a history, when a command comes, then exactly these events or this error.
type Case struct {
	given   []any
	when    any
	then    []any
	refused *domain.Error
	said    bool // what shall happen
}

// Given begins a row with what has happened.
func Given(history ...any) Case { return Case{given: history} }

// And gives the row with more history.
func (c Case) And(history ...any) Case {
	c.given = append(c.given[:len(c.given):len(c.given)], history...)
	return c
}

// When names the command.
func (c Case) When(command any) Case { c.when = command; return c }

// Then says which events the command leads to, all of them and in that order.
func (c Case) Then(events ...any) Case { c.then, c.said = events, true; return c }

// Nothing says that the command succeeds and changes nothing.
func (c Case) Nothing() Case { c.said = true; return c }

// Refused says with which error the command is refused.
func (c Case) Refused(code domain.Code, field, message string) Case {
	c.refused, c.said = &domain.Error{Code: code, Field: field, Message: message}, true
	return c
}

// NotAllowed says that the command is refused because of where the aggregate stands; allowed is where it is heard.
func (c Case) NotAllowed(command, while string, allowed ...string) Case {
	c.refused, c.said = domain.NotAllowed(command, while, allowed...), true
	return c
}

// Quiet tells whether the row says that nothing happens.
func (c Case) Quiet() bool { return c.said && c.refused == nil && len(c.then) == 0 }

// Check decides the row and fails with what differs. It also checks what holds of every decision: deciding leaves the state
// alone and gives the same again, and what it emits folds.
func (c Case) Check(t testing.TB, a domain.Aggregate) {
	t.Helper()
	if c.when == nil || !c.said {
		t.Fatal("the row names no command, or not what it leads to")
	}
	state := Fold(a, c.given...)
	got, err := a.Decide(state, c.when)
	if diff := Diff(c.refused, uncaused(t, err)); diff != "" {
		t.Fatalf("%T in phase %q: error (-want +got):\n%s", c.when, a.Phase(state), diff)
	}
	if diff := Diff(c.then, got); diff != "" {
		t.Fatalf("%T in phase %q: events (-want +got):\n%s", c.when, a.Phase(state), diff)
	}
	again, _ := a.Decide(state, c.when)
	if diff := Diff(got, again); diff != "" {
		t.Errorf("%T decided again leads to something else (-first +again):\n%s", c.when, diff)
	}
	for _, e := range got {
		a.Evolve(state, e)
	}
	if diff := Diff(Fold(a, c.given...), state); diff != "" {
		t.Errorf("%T changed the state that it was decided on (-before +after):\n%s", c.when, diff)
	}
}

// uncaused is a decision's error without its cause; an uncoded one fails the test.
func uncaused(t testing.TB, err error) *domain.Error {
	t.Helper()
	var coded *domain.Error
	if err == nil {
		return nil
	}
	if !errors.As(err, &coded) {
		t.Fatalf("the error has no code: %v", err)
	}
	e := *coded
	e.Cause = nil
	return &e
}

// Fold evolves the aggregate's zero state through a history.
func Fold(a domain.Aggregate, history ...any) any {
	state := a.Zero
	for _, e := range history {
		state = a.Evolve(state, e)
	}
	return state
}

// Diff compares messages and states by what they hold: empty and absent are one, persistent maps are compared as maps.
func Diff(want, got any) string {
	return gocmp.Diff(want, got, gocmp.Exporter(func(reflect.Type) bool { return true }), cmpopts.EquateEmpty(), persistent)
}

// persistent shows a domain.Map as a plain map: its inner form depends on the order of what came in.
var persistent = gocmp.FilterPath(func(p gocmp.Path) bool {
	t := p.Last().Type()
	return t != nil && strings.HasPrefix(t.Name(), "Map[") && t.PkgPath() == reflect.TypeFor[domain.Meta]().PkgPath()
}, gocmp.Transformer("plain", func(m any) map[string]any {
	v, plain := reflect.ValueOf(m), map[string]any{}
	for _, k := range v.MethodByName("Keys").Call(nil)[0].Interface().([]string) {
		plain[k] = v.MethodByName("Get").Call([]reflect.Value{reflect.ValueOf(k)})[0].Interface()
	}
	return plain
}))

// phaseName is a phase as people read it.
func phaseName(phase string) string { return cmp.Or(phase, "absent") }

// words writes a Go name as the rulebook prints it: RequestTenant becomes "request tenant".
func words(name string) string {
	var b strings.Builder
	for i, r := range name {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte(' ')
		}
		b.WriteString(strings.ToLower(string(r)))
	}
	return b.String()
}

// Live decides commands one after another, each on what the ones before led to, and gives the state and all that happened.
// None may be refused.
func Live(t testing.TB, a domain.Aggregate, given Case, commands ...any) (state any, events []any) {
	t.Helper()
	state = Fold(a, given.given...)
	for i, c := range commands {
		got, err := a.Decide(state, c)
		if err != nil {
			t.Fatalf("command %d, %T in phase %q: %v", i, c, a.Phase(state), err)
		}
		for _, e := range got {
			state = a.Evolve(state, e)
		}
		events = append(events, got...)
	}
	return state, events
}
