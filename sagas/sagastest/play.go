package sagastest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/sagas"
)

// Script plays triggers to a definition, for specifications that read as what was told and what the saga did.
type Script struct {
	Registry   *domain.Registry
	Definition *sagas.Definition
	Begin      time.Time                // of the first trigger; the others follow a minute apart
	Detail     func(command any) string // what a line says of a command besides its name; nil for nothing
}

// Play gives the triggers to the golden history of that name, and tells in short what the saga did. A trigger that is a
// fact stands in the history as it is; an answer without a command id answers the pending ask.
func (p Script) Play(t *testing.T, name string, triggers ...any) (told []string) {
	t.Helper()
	var all []sagas.Trigger
	for n, what := range triggers {
		all = append(all, sagas.Trigger{Now: p.Begin.Add(time.Duration(n) * time.Minute), What: what})
	}
	var s saga.State
	for _, trigger := range all {
		if own, ok := trigger.What.(saga.Event); ok {
			s = saga.Evolve(s, own)
			continue
		}
		trigger.What = filled(s, trigger.What)
		for _, f := range p.Definition.React(p.Registry, s, trigger).Facts {
			s = saga.Evolve(s, f)
			if line := p.line(t, f); line != "" {
				told = append(told, line)
			}
		}
	}
	Golden(t, p.Registry, p.Definition, "testdata", name, all...)
	return told
}

func filled(s saga.State, what any) any {
	pending := ""
	if s.Pending != nil {
		pending = s.Pending.CommandID
	}
	switch v := what.(type) {
	case sagas.Accepted:
		v.CommandID = pending
		return v
	case sagas.Quiet:
		v.CommandID = pending
		return v
	case sagas.Refused:
		v.CommandID = pending
		return v
	case sagas.Silence:
		v.CommandID = pending
		return v
	case sagas.Event:
		if v.Meta.Answers != nil {
			v.Meta.Answers = &domain.Answers{Saga: s.Started.Saga, Command: pending}
		}
		return v
	}
	return what
}

// line is a fact in short; empty for those that only keep the books.
func (p Script) line(t *testing.T, f saga.Event) string {
	t.Helper()
	switch f := f.(type) {
	case saga.Asked:
		c, err := p.Registry.Decode(f.Command, f.Rev, f.Body)
		if err != nil {
			t.Fatal(err)
		}
		what := f.Command
		if p.Detail != nil {
			if detail := p.Detail(c); detail != "" {
				what += " " + detail
			}
		}
		if f.Undo {
			return "undo: " + what
		}
		return what
	case saga.RetryScheduled:
		return fmt.Sprintf("retry #%d", f.Attempt)
	case saga.Turned:
		return strings.TrimSpace("turned " + f.Code + " " + f.To)
	case saga.AttentionNeeded:
		return "attention " + f.Code
	case saga.Ended:
		return strings.TrimSpace("ended " + f.Outcome + " " + f.Code)
	}
	return ""
}
