package offboarding

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/domain/reservation"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/domain/tenant"
	"github.com/tenure-dev/tenure/sagas"
	"github.com/tenure-dev/tenure/sagas/sagastest"
)

var (
	definition = Offboarding.Definition()
	registry   = domain.NewRegistry(tenant.Events, tenant.Commands, plane.Events, plane.Commands, reservation.Events, reservation.Commands)
	t0         = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

const (
	ten = "ten_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	org = "org_aaaaaaaaaaaaaaaaaaaaaaaaaa"
)

// play gives the triggers, a minute apart, to the golden history of that name, and tells in short what the saga did.
func play(t *testing.T, name string, triggers ...any) (told []string) {
	t.Helper()
	var all []sagas.Trigger
	for n, what := range triggers {
		all = append(all, sagas.Trigger{Now: t0.Add(time.Duration(n) * time.Minute), What: what})
	}
	var s saga.State
	for _, trigger := range all {
		if own, ok := trigger.What.(saga.Event); ok {
			s = saga.Evolve(s, own)
			continue
		}
		trigger.What = filled(s, trigger.What)
		for _, f := range definition.React(registry, s, trigger).Facts {
			s = saga.Evolve(s, f)
			if line := short(t, f); line != "" {
				told = append(told, line)
			}
		}
	}
	sagastest.Golden(t, registry, definition, "testdata", name, all...)
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

func short(t *testing.T, f saga.Event) string {
	t.Helper()
	switch f := f.(type) {
	case saga.Asked:
		c, err := registry.Decode(f.Command, f.Rev, f.Body)
		if err != nil {
			t.Fatal(err)
		}
		what := f.Command
		switch c := c.(type) {
		case plane.Ask:
			what += fmt.Sprint(" ", c.Kind, " change ", c.Change, " causes ", c.Causes)
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

var (
	begin = sagas.Event{Event: tenant.OffboardingStarted{Org: org, Slug: "shop", Plane: "p1", Offer: tenant.Offer{Isolation: "silo"}, Change: 2, Saga: "sag_x"},
		Meta: domain.Meta{Stream: "tenant-" + ten, EventID: "e0", Org: org, Tenant: ten}}
	leave = sagas.Event{Event: tenant.OffboardingRequested{},
		Meta: domain.Meta{Stream: "tenant-" + ten, Revision: 9, EventID: "e9", Org: org, Tenant: ten}}
	of      = plane.Outcome{Tenant: ten, Org: org, Change: 2}
	ok      = sagas.Accepted{Stream: "s", Revision: 1}
	quiet   = sagas.Quiet{}
	silence = sagas.Silence{}
	due     = sagas.Due{}
	done    = outcome(plane.OperationSucceeded{Outcome: of, Attempts: 1})
)

func outcome(e any) any {
	return sagas.Event{Event: e, Meta: domain.Meta{Stream: "plane-p1", Revision: 4, EventID: "e4", Org: org, Tenant: ten, Answers: &domain.Answers{}}}
}

func fails(class, code string) any {
	return outcome(plane.OperationFailed{Outcome: of, Attempts: 1, Class: class, Code: code})
}

func TestOffboarding(t *testing.T) {
	remove, capacity, slug, end := "plane.ask deprovision change 2 causes 0", "plane.release", "reservation.release", "tenant.delete"
	rest := []string{capacity, slug, end, "ended succeeded"}
	then := func(before ...string) []string { return append(before, rest...) }
	for name, tc := range map[string]struct {
		when []any
		then []string
	}{
		"well":             {[]any{begin, ok, done, ok, ok, ok}, then(remove)},
		"all of it was so": {[]any{begin, quiet, done, quiet, quiet, quiet}, then(remove)},
		"passing":          {[]any{begin, ok, fails("transient", "busy"), due, ok, done, ok, ok, ok}, then(remove, "retry #2", remove)},
		"late":             {[]any{begin, ok, silence, done, ok, ok, ok}, then(remove, "attention late")},
		"late, asked again": {[]any{begin, ok, silence, saga.Retried{}, sagas.Wake{}, quiet, done, ok, ok, ok},
			then(remove, "attention late", remove)},
		"a bug":                {[]any{begin, ok, fails("bug", "boom"), saga.Retried{}, sagas.Wake{}, ok, done, ok, ok, ok}, then(remove, "attention boom", remove)},
		"user":                 {[]any{begin, ok, fails("user", "odd")}, []string{remove, "attention odd"}},
		"quota":                {[]any{begin, ok, fails("quota", "odd")}, []string{remove, "attention odd"}},
		"refused":              {[]any{begin, sagas.Refused{Code: domain.CodeNotFound}}, []string{remove, "attention not_found"}},
		"no way back":          {[]any{begin, ok, saga.Cancelled{}, leave, done, ok, ok, ok}, then(remove)},
		"no way back later":    {[]any{begin, ok, done, saga.Cancelled{}, sagas.Wake{}, ok, silence, leave, ok, ok}, []string{remove, capacity, slug, "attention late", end, "ended succeeded"}},
		"slug refused":         {[]any{begin, ok, done, ok, sagas.Refused{Code: domain.CodeNotAllowed}, saga.Retried{}, sagas.Wake{}, ok, ok}, []string{remove, capacity, slug, "attention not_allowed", slug, end, "ended succeeded"}},
		"the deletion refused": {[]any{begin, ok, done, ok, ok, sagas.Refused{Code: domain.CodeStale}}, []string{remove, capacity, slug, end, "attention stale"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := strings.NewReplacer(" ", "-", ",", "").Replace(name)
			got := play(t, file, tc.when...)
			if d := cmp.Diff(tc.then, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			for _, line := range got {
				if strings.HasPrefix(line, "undo") || strings.HasPrefix(line, "turned") {
					t.Errorf("an offboarding went back: %s", line)
				}
			}
		})
	}
	sagastest.ReplayGolden(t, registry, "testdata", definition)
}
