package domaintest

import (
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/tenure-dev/tenure/domain"
)

// Spec is the specification of one aggregate.
type Spec struct {
	Aggregate domain.Aggregate
	// Reach has a history that leads to each phase, the absent one left out.
	Reach map[string][]any
	// Examples has one event and one command of every type, with every field that is on the wire set.
	Examples []any
	// Cases are the rows, each under a name that states the rule.
	Cases map[string]Case
	// AlwaysChanges names the commands, in words, that never succeed without an event, and why.
	AlwaysChanges map[string]string
}

// Run runs every row, checks that no cell of the matrix is without one, and keeps matrix, diagram and wire in testdata.
func (s Spec) Run(t *testing.T) {
	a := s.Aggregate
	t.Run("rows", func(t *testing.T) {
		for name, c := range s.Cases {
			t.Run(name, func(t *testing.T) { c.Check(t, a) })
		}
	})
	t.Run("matrix", func(t *testing.T) { Printed(t, filepath.Join("testdata", "matrix.txt"), a.Matrix) })
	t.Run("every cell has a row", s.cells)
	t.Run("every event happens", s.happens)
	t.Run("diagram", func(t *testing.T) { Printed(t, filepath.Join("testdata", "diagram.mmd"), s.diagram(t)) })
	t.Run("wire", func(t *testing.T) { Wire(t, s.Examples, a.Events, a.Commands) })
	t.Run("complete", func(t *testing.T) { complete(t, a) })
}

// cells checks that each phase × command has a row that says what the golden matrix says, and generates the refused ones.
func (s Spec) cells(t *testing.T) {
	m := s.matrix(t)
	for _, p := range m.Phases {
		if got := phaseName(s.Aggregate.Phase(Fold(s.Aggregate, s.Reach[p]...))); got != p {
			t.Fatalf("the history that shall reach %q reaches %q", p, got)
		}
	}
	heard, quiet, somewhere := map[[2]string]bool{}, map[[2]string]bool{}, map[string]bool{}
	for name, c := range s.Cases {
		command, phase := commandName(c.when), s.phase(c)
		cell := [2]string{command, phase}
		switch m.Mark(command, phase) {
		case Heard:
			heard[cell] = true
		case Quiet:
			quiet[cell] = true
			if !c.Quiet() {
				t.Errorf("row %q: %s is quiet in phase %q", name, command, phase)
			}
		case Refused:
			if c.refused == nil || c.refused.Code != domain.CodeNotAllowed {
				t.Errorf("row %q: %s is not heard in phase %q", name, command, phase)
			}
		default:
			t.Errorf("row %q: the matrix has no cell for %s in phase %q", name, command, phase)
		}
		somewhere[command] = somewhere[command] || c.Quiet()
	}
	samples := map[string]any{}
	for _, e := range s.Aggregate.Commands {
		for _, x := range s.Examples {
			if reflect.TypeOf(x) == e.Type {
				samples[commandName(x)] = x
			}
		}
	}
	for _, command := range m.Commands {
		sample := samples[command]
		if sample == nil {
			t.Fatalf("%s has no example", command)
		}
		for _, p := range m.Phases {
			cell := [2]string{command, p}
			switch mark := m.Mark(command, p); {
			case mark == Heard && !heard[cell], mark == Quiet && !quiet[cell]:
				t.Errorf("no row for %s in phase %q", command, p)
			case mark == Refused:
				allowed := m.HeardIn(command)
				Given(s.Reach[p]...).When(sample).NotAllowed(command, p, allowed...).Check(t, s.Aggregate)
			case mark == Quiet:
				Given(s.Reach[p]...).When(sample).Nothing().Check(t, s.Aggregate)
			}
		}
		if why, always := s.AlwaysChanges[command]; always == somewhere[command] {
			t.Errorf("%s: has it a row in which nothing happens (%v), or does it always change something (%s)?", command, somewhere[command], why)
		}
	}
}

// happens checks that rows lead to every event but Noted, which is the Bus's own.
func (s Spec) happens(t *testing.T) {
	happened := map[reflect.Type]bool{reflect.TypeOf(s.Aggregate.Noted): true}
	for _, c := range s.Cases {
		for _, e := range c.then {
			happened[reflect.TypeOf(e)] = true
		}
	}
	for _, e := range s.Aggregate.Events {
		if !happened[e.Type] {
			t.Errorf("no row leads to %s", e.Name)
		}
	}
	state := Fold(s.Aggregate, s.Cases[anyOf(s.Cases)].given...)
	if diff := Diff(state, s.Aggregate.Evolve(state, s.Aggregate.Noted)); diff != "" {
		t.Errorf("noting a command changed the state (-before +after):\n%s", diff)
	}
}

// diagram draws which rows lead from one phase to another.
func (s Spec) diagram(t *testing.T) string {
	edges := map[edge]bool{}
	for _, c := range s.Cases {
		from := s.phase(c)
		to := s.phase(c.And(c.then...))
		if from != to {
			edges[edge{from, to, commandName(c.when)}] = true
		}
	}
	return s.matrix(t).diagram(edges)
}

func (s Spec) matrix(t *testing.T) Matrix {
	m, err := ParseMatrix(s.Aggregate.Matrix)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (s Spec) phase(c Case) string {
	return phaseName(s.Aggregate.Phase(Fold(s.Aggregate, c.given...)))
}

func commandName(command any) string { return words(reflect.TypeOf(command).Name()) }

func anyOf(cases map[string]Case) string {
	names := make([]string, 0, len(cases))
	for n := range cases {
		names = append(names, n)
	}
	if len(names) == 0 {
		panic("the specification has no rows")
	}
	return slices.Min(names)
}
