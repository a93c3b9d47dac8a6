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

// play plays a script: see sagastest.Script.
func play(t *testing.T, name string, triggers ...any) []string {
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
