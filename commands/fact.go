package commands

import (
	"context"
	"reflect"

	"github.com/tenure-dev/tenure/domain"
)

// Fact is one row of the table of what commands may know of other aggregates: whose state, and what is made of it.
type Fact struct {
	command  reflect.Type
	category string
	ref      func(command any) string
	fill     func(pointer, state any, revision int64)
}

// NewFact makes a row. ref names the other aggregate's id, empty when this command needs none; from makes the fact of its
// folded state, read later than the command came; set puts it into the command. exists tells whether its stream has events,
// and revision is domain.NoStream if not. Rows of one command are filled in the order of the table, and ref sees the earlier ones.
func NewFact[C, S, F any](ref func(C) string, of domain.Aggregate, from func(state S, exists bool, revision int64) F, set func(*C, F)) Fact {
	return Fact{command: reflect.TypeFor[C](), category: of.Category,
		ref: func(c any) string { return ref(*c.(*C)) },
		fill: func(c, state any, revision int64) {
			set(c.(*C), from(state.(S), revision != domain.NoStream, revision))
		}}
}

// fillFacts reads what the command's rows name and notes the revisions that the decision will rest on.
func (b *Bus) fillFacts(ctx context.Context, o *op) error {
	for _, f := range o.kind.facts {
		id := f.ref(o.command.Interface())
		if id == "" {
			continue
		}
		stream := b.categories[f.category].Stream(id)
		state, revision, err := b.State(ctx, stream)
		if err != nil {
			return err
		}
		f.fill(o.command.Interface(), state, revision)
		if o.read == nil {
			o.read = map[string]int64{}
		}
		o.read[stream] = revision
	}
	if b.Fill != nil {
		return b.Fill(ctx, o.command.Interface())
	}
	return nil
}
