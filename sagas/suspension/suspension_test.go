package suspension

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/domain/tenant"
	"github.com/tenure-dev/tenure/sagas"
	"github.com/tenure-dev/tenure/sagas/sagastest"
)

var (
	suspending = Suspension.Definition()
	resuming   = Resumption.Definition()
	registry   = domain.NewRegistry(tenant.Events, tenant.Commands, plane.Events, plane.Commands)
	t0         = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

const (
	ten = "ten_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	org = "org_aaaaaaaaaaaaaaaaaaaaaaaaaa"
)

// play plays a script: see sagastest.Script.
func play(t *testing.T, definition *sagas.Definition, name string, triggers ...any) []string {
	t.Helper()
	return sagastest.Script{Registry: registry, Definition: definition, Begin: t0, Detail: detail}.Play(t, name, triggers...)
}

// detail says of an ask what it is for.
func detail(command any) string {
	if c, ok := command.(plane.Ask); ok {
		return fmt.Sprint(c.Kind, " change ", c.Change, " causes ", c.Causes)
	}
	return ""
}

var (
	meta    = domain.Meta{Stream: "tenant-" + ten, EventID: "e0", Org: org, Tenant: ten}
	suspend = sagas.Event{Event: tenant.SuspensionDue{Revision: 3, Plane: "p1", Org: org, Saga: "sag_x"}, Meta: meta}
	resume  = sagas.Event{Event: tenant.ResumptionDue{Revision: 4, Plane: "p1", Org: org, Saga: "sag_x"}, Meta: meta}
	leave   = sagas.Event{Event: tenant.OffboardingRequested{}, Meta: domain.Meta{Stream: meta.Stream, Revision: 9, EventID: "e9", Org: org, Tenant: ten}}
	of      = plane.Outcome{Tenant: ten, Org: org, Causes: 3}
	ok      = sagas.Accepted{Stream: "s", Revision: 1}
	silence = sagas.Silence{}
	due     = sagas.Due{}

	done       = outcome(plane.OperationSucceeded{Outcome: of, Attempts: 1})
	superseded = outcome(plane.OperationSuperseded{Outcome: of})
	withdrawn  = outcome(plane.OperationWithdrawn{Outcome: of})
)

func outcome(e any) sagas.Event {
	return sagas.Event{Event: e, Meta: domain.Meta{Stream: "plane-p1", Revision: 4, EventID: "e4", Org: org, Tenant: ten, Answers: &domain.Answers{}}}
}

func fails(class, code string) any {
	return outcome(plane.OperationFailed{Outcome: of, Attempts: 1, Class: class, Code: code})
}

func TestSuspensionAndResumption(t *testing.T) {
	for _, d := range []struct {
		definition    *sagas.Definition
		begin         any
		push, confirm string
	}{
		{suspending, suspend, "plane.ask suspend change 0 causes 3", "tenant.confirmSuspended"},
		{resuming, resume, "plane.ask resume change 0 causes 4", "tenant.confirmResumed"},
	} {
		// The plane itself may overtake the ask at once: its answer is among what the Bus appended.
		atOnce := sagas.Accepted{Stream: "plane-p1", Revision: 4, Events: []sagas.Event{{Event: plane.OperationSuperseded{Outcome: of}, Meta: domain.Meta{EventID: "e3", Tenant: ten, Org: org}}}}
		bad := []any{d.begin, ok}
		want := []string{d.push}
		for n := 2; n <= 10; n++ {
			bad, want = append(bad, fails("transient", "busy"), due), append(want, fmt.Sprintf("retry #%d", n), d.push)
		}
		for name, tc := range map[string]struct {
			when []any
			then []string
		}{
			"well":                {[]any{d.begin, ok, done, ok}, []string{d.push, d.confirm, "ended succeeded"}},
			"confirmed before":    {[]any{d.begin, ok, done, sagas.Quiet{}}, []string{d.push, d.confirm, "ended succeeded"}},
			"asked before":        {[]any{d.begin, sagas.Quiet{}, done, ok}, []string{d.push, d.confirm, "ended succeeded"}},
			"superseded":          {[]any{d.begin, ok, superseded}, []string{d.push, "ended superseded"}},
			"superseded at once":  {[]any{d.begin, atOnce}, []string{d.push, "ended superseded"}},
			"withdrawn":           {[]any{d.begin, ok, withdrawn}, []string{d.push, "ended superseded"}},
			"passing":             {[]any{d.begin, ok, fails("plane_down", "away"), due, ok, done, ok}, []string{d.push, "retry #2", d.push, d.confirm, "ended succeeded"}},
			"passing, run out":    {append(bad, fails("transient", "busy")), append(want, "attention busy")},
			"late":                {[]any{d.begin, ok, silence, done, ok}, []string{d.push, "attention late", d.confirm, "ended succeeded"}},
			"late and superseded": {[]any{d.begin, ok, silence, superseded}, []string{d.push, "attention late", "ended superseded"}},
			"a bug":               {[]any{d.begin, ok, fails("bug", "boom"), saga.Retried{}, sagas.Wake{}, ok, done, ok}, []string{d.push, "attention boom", d.push, d.confirm, "ended succeeded"}},
			"user":                {[]any{d.begin, ok, fails("user", "odd")}, []string{d.push, "attention odd"}},
			"refused":             {[]any{d.begin, sagas.Refused{Code: domain.CodeNotAllowed}}, []string{d.push, "attention not_allowed"}},
			"no way back":         {[]any{d.begin, ok, saga.Cancelled{}, leave, done, ok}, []string{d.push, d.confirm, "ended succeeded"}},
		} {
			t.Run(d.definition.Name+"/"+name, func(t *testing.T) {
				file := strings.NewReplacer(" ", "-", ",", "").Replace(name)
				if diff := cmp.Diff(tc.then, play(t, d.definition, file, tc.when...)); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			})
		}
	}
	sagastest.ReplayGolden(t, registry, "testdata", suspending, resuming)
}
