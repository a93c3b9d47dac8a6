package domaintest

import (
	"errors"
	"reflect"
	"testing"

	"github.com/tenure-dev/tenure/domain"
)

// Input is a command as it comes, and whether it is refused before anything is read.
type Input struct {
	command Checked
	field   string // for which it is refused
}

// Checked is a command that knows malformed input.
type Checked interface{ Check() error }

// Good is input that is not refused.
func Good(c Checked) Input { return Input{c, ""} }

// Bad is input that is refused as invalid, naming the field.
func Bad(field string, c Checked) Input { return Input{c, field} }

// CheckInputs checks each command's input.
func CheckInputs(t *testing.T, inputs map[string]Input) {
	for name, in := range inputs {
		t.Run(name, func(t *testing.T) {
			err := in.command.Check()
			if in.field == "" {
				if err != nil {
					t.Fatalf("%T is refused: %v", in.command, err)
				}
				return
			}
			var e *domain.Error
			if !errors.As(err, &e) || e.Code != domain.CodeInvalid || e.Field != in.field || e.Message == "" {
				t.Fatalf("%T: %#v, want invalid %s", in.command, err, in.field)
			}
		})
	}
}

// CheckCreator checks that a command which creates something takes the id that the Bus derives.
func CheckCreator(t testing.TB, c domain.Creator, prefix string) {
	t.Helper()
	if c.Target() != "" || c.IDPrefix() != prefix {
		t.Errorf("%T targets %q with prefix %q before it has an id", c, c.Target(), c.IDPrefix())
	}
	id := domain.ID(prefix, domain.DeriveUUID("any"))
	if c.SetID(id); c.Target() != id {
		t.Errorf("%T targets %q, not the id that it was given", c, c.Target())
	}
}

// CheckTargets checks that each command among the examples targets the aggregate with that id, and takes what the Bus gives.
func CheckTargets(t testing.TB, s Spec, id string) {
	t.Helper()
	for _, x := range s.Examples {
		c, is := x.(domain.Command)
		if !is {
			continue
		}
		if c.Target() != id {
			t.Errorf("%T targets %q, not %q", x, c.Target(), id)
		}
		given := domain.Given{CommandID: "c", Stream: "s"}
		p := reflect.New(reflect.TypeOf(x))
		p.Interface().(interface{ Give(domain.Given) }).Give(given)
		if got := p.Elem().FieldByName("Given").Interface(); got != given {
			t.Errorf("%T was given %+v and has %+v", x, given, got)
		}
	}
}
