package domain

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Given is what the Bus fills into every command after the hash of the caller's input is taken. Commands embed it untagged
// as json:"-", so that a stored command holds none of it.
type Given struct {
	Now       time.Time // UTC, to the µs
	CommandID string    // UUID
	Stream    string    // that the command is decided on
	Answers   *Answers  // set when a saga asked
}

// Give sets all of it; commands inherit it by embedding.
func (g *Given) Give(v Given) { *g = v }

// Command is what every command can say of itself.
type Command interface {
	// Target is the id of the aggregate that decides, without the category; empty for a command that creates one and
	// has not been given its id.
	Target() string
}

// Creator is a command that creates what it targets: the Bus derives the id and sets it through the pointer.
type Creator interface {
	Command
	IDPrefix() string
	SetID(id string)
}

// Owned is an event that says itself whose it is, where the aggregate's own owner is not: a plane's operation for a tenant.
type Owned interface{ Owner() (org, tenant string) }

// Rule is one row of a rulebook: a command, the phases in which it is heard, and those in which it is a harmless no-op.
type Rule[P ~string, S, E any] struct {
	command reflect.Type
	from    []P
	quiet   []P
	decide  func(S, any) ([]E, error)
}

// On makes a row: h decides command C in the phases from, and nowhere else.
func On[C any, P ~string, S, E any](h func(S, C) ([]E, error), from ...P) Rule[P, S, E] {
	return Rule[P, S, E]{command: reflect.TypeFor[C](), from: from,
		decide: func(s S, c any) ([]E, error) { return h(s, c.(C)) }}
}

// QuietIn names the phases in which the command changes nothing and succeeds.
func (r Rule[P, S, E]) QuietIn(phases ...P) Rule[P, S, E] { r.quiet = phases; return r }

// Decider is an aggregate as plain data: its phase, its evolution, its rulebook.
type Decider[P ~string, S, E any] struct {
	Phase  func(S) P
	Phases []P // all of them, in the order of a life, for the printed matrix
	Evolve func(S, E) S
	Rules  []Rule[P, S, E]
}

// Fold evolves the zero state through a history.
func (d Decider[P, S, E]) Fold(history ...E) (s S) {
	for _, e := range history {
		s = d.Evolve(s, e)
	}
	return s
}

// Decide gives the events that a command leads to: none if it is quiet, NotAllowed where it is not heard.
func (d Decider[P, S, E]) Decide(s S, command any) ([]E, error) {
	for _, r := range d.Rules {
		if r.command != reflect.TypeOf(command) {
			continue
		}
		switch phase := d.Phase(s); {
		case slices.Contains(r.quiet, phase):
			return nil, nil
		case slices.Contains(r.from, phase):
			return r.decide(s, command)
		default:
			return nil, NotAllowed(spaced(r.command.Name()), string(phase), texts(r.from)...)
		}
	}
	return nil, fmt.Errorf("no rule for %T", command)
}

// Aggregate is a decider with its types erased, as the Bus and the tests hold it.
type Aggregate struct {
	Category string // of its streams, such as tenant
	Events   Catalog
	Commands Catalog
	Zero     any // the state before the first event
	Noted    any // the event that remembers a caller's command which changed nothing
	Evolve   func(state, event any) any
	Decide   func(state, command any) ([]any, error)
	Phase    func(state any) string
	// Owner gives the org and tenant that a stream's events belong to; id is the aggregate's.
	Owner  func(state any, id string) (org, tenant string)
	Matrix string // the phase × command matrix, for people
}

// Stream is the stream of the aggregate with that id.
func (a Aggregate) Stream(id string) string { return a.Category + "-" + id }

// Aggregate erases the decider's types. noted is the zero value of the aggregate's own Noted event.
func (d Decider[P, S, E]) Aggregate(category string, events, commands Catalog, noted E, owner func(s S, id string) (org, tenant string)) Aggregate {
	var zero S
	return Aggregate{
		Category: category, Events: events, Commands: commands, Zero: zero, Noted: noted,
		Evolve: func(s, e any) any {
			if e, ours := e.(E); ours {
				return d.Evolve(s.(S), e)
			}
			return s
		},
		Decide: func(s, c any) ([]any, error) {
			events, err := d.Decide(s.(S), c)
			if err != nil {
				return nil, err
			}
			all := make([]any, len(events))
			for i, e := range events {
				all[i] = e
			}
			return all, nil
		},
		Phase:  func(s any) string { return string(d.Phase(s.(S))) },
		Owner:  func(s any, id string) (string, string) { return owner(s.(S), id) },
		Matrix: d.matrix(),
	}
}

// matrix prints which command is heard (x), quiet (-) or refused (.) in which phase.
func (d Decider[P, S, E]) matrix() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-28s", "")
	for _, p := range d.Phases {
		fmt.Fprintf(&b, " %-*s", max(len(named(p)), 1), named(p))
	}
	b.WriteByte('\n')
	for _, r := range d.Rules {
		fmt.Fprintf(&b, "%-28s", spaced(r.command.Name()))
		for _, p := range d.Phases {
			mark := "."
			if slices.Contains(r.from, p) {
				mark = "x"
			} else if slices.Contains(r.quiet, p) {
				mark = "-"
			}
			fmt.Fprintf(&b, " %-*s", len(named(p)), mark)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func named[P ~string](p P) string {
	if p == "" {
		return "absent"
	}
	return string(p)
}

func texts[P ~string](phases []P) []string {
	out := make([]string, len(phases))
	for i, p := range phases {
		out[i] = named(p)
	}
	return out
}

// spaced writes a Go name as words: RequestTenant becomes "request tenant".
func spaced(name string) string {
	var b strings.Builder
	for i, r := range name {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte(' ')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Answering is an event that answers an earlier ask, not the command that led to it: an operation's outcome. The Bus copies
// what it says into the metadata.
type Answering interface{ Answering() *Answers }
