package domaintest

import (
	"pgregory.net/rapid"

	"github.com/tenure-dev/tenure/domain"
)

// Step is one command of a walk and what it led to.
type Step struct {
	Before, After any
	Command       any
	Events        []any
	Err           error
}

// Walk decides up to steps commands that draw gives, one after another, and hands each step to check. It fails if an error
// has no code, if what was emitted does not come through the wire as it was, or if an older state has changed meanwhile.
func Walk(t *rapid.T, a domain.Aggregate, steps int, draw func(t *rapid.T, state any) any, check func(Step)) (history []any) {
	r := domain.NewRegistry(a.Events)
	state := a.Zero
	read := a.Zero // the same through the wire
	states, lengths := []any{state}, []int{0}
	for range rapid.IntRange(1, steps).Draw(t, "steps") {
		s := Step{Before: state, Command: draw(t, state)}
		if s.Events, s.Err = a.Decide(state, s.Command); s.Err != nil {
			if domain.CodeOf(s.Err) == domain.CodeInternal || len(s.Events) > 0 {
				t.Fatalf("%T: %v, with %d events", s.Command, s.Err, len(s.Events))
			}
		}
		for _, e := range s.Events {
			name, rev, data, err := r.Encode(e)
			if err != nil {
				t.Fatal(err)
			}
			back, err := r.Decode(name, rev, data)
			if err != nil {
				t.Fatal(err)
			}
			state, read, history = a.Evolve(state, e), a.Evolve(read, back), append(history, e)
		}
		s.After = state
		check(s)
		states, lengths = append(states, state), append(lengths, len(history))
	}
	if diff := Diff(state, read); diff != "" {
		t.Fatalf("the fold of what stands in the log is another (-memory +log):\n%s", diff)
	}
	i := rapid.IntRange(0, len(states)-1).Draw(t, "an older state")
	if diff := Diff(Fold(a, history[:lengths[i]]...), states[i]); diff != "" {
		t.Fatalf("an older state has changed since (-as it was +as it is):\n%s", diff)
	}
	return history
}
