package saga_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
)

const id = "sag_aaaaaaaaaaaaaaaaaaaaaaaaaa"

var (
	at     = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
	sealed = domain.Sealed{Subject: "org_aaaaaaaaaaaaaaaaaaaaaaaaaa", Key: "k1", Text: []byte("cipher")}
)

// examples has one message of every type at its current revision.
var examples = []any{
	saga.Started{Saga: id, Name: "onboarding", Version: 1, Org: "org_x", Tenant: "ten_x", Change: 1, Hears: []string{"tenant:ten_x"},
		StartEvent: "e0", Begins: "tenant.requested", Plan: json.RawMessage(`{"tenant":"ten_x"}`), Steps: []string{"reserve", "provision"}},
	saga.Chosen{Step: "choose plane", Choice: json.RawMessage(`"pln_x"`), Reason: "most room"},
	saga.Learned{Plan: json.RawMessage(`{"tenant":"ten_x","plane":"pln_x"}`)},
	saga.Asked{Step: "provision", Item: "i1", Undo: true, Attempt: 2, CommandID: "c1", Command: "plane.operate", Rev: 1,
		Body: json.RawMessage(`{"plane":"pln_x"}`), WithinMs: 900000, Plane: "pln_x", Forward: true},
	saga.Accepted{Step: "provision", Undo: true, CommandID: "c1", Stream: "plane-pln_x", Revision: 7},
	saga.Quiet{Step: "provision", Undo: true, CommandID: "c1"},
	saga.Refused{Step: "provision", Undo: true, CommandID: "c1", Code: "full", Class: saga.ClassQuota, Message: "no room", EventID: "e1", Partial: true},
	saga.Answered{Step: "provision", CommandID: "c1", Stream: "plane-pln_x", Revision: 8, EventID: "e1"},
	saga.Undone{Step: "provision", CommandID: "c1", Stream: "plane-pln_x", Revision: 8, EventID: "e1"},
	saga.TimedOut{Step: "provision", Undo: true, CommandID: "c1"},
	saga.RetryScheduled{Step: "provision", Undo: true, Attempt: 3, DueAt: at},
	saga.Waiting{Step: "grace", DueAt: at},
	saga.Turned{Step: "provision", Code: saga.CodeTimedOut, To: "choose plane"},
	saga.AttentionNeeded{Step: "provision", Undo: true, Code: saga.CodeLate},
	saga.AttentionCleared{},
	saga.Ended{Outcome: saga.OutcomeFailed, Code: saga.CodeTimedOut, Step: "provision"},
	saga.Retried{Reason: sealed},
	saga.Cancelled{Reason: sealed},
	saga.Noted{},
	saga.DefinitionEnabled{Name: "onboarding", Version: 1},
	saga.Retry{Saga: "onboarding." + id, Reason: sealed},
	saga.Cancel{Saga: "onboarding." + id, Reason: sealed},
}

var registry = domain.NewRegistry(saga.Catalog, saga.Commands, saga.Definitions)

// TestGolden keeps every revision of every message readable for ever: testdata/golden/<name>.<rev>.json is never edited.
func TestGolden(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range examples {
		name, rev, got, err := registry.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		seen[name] = true
		file := filepath.Join("testdata", "golden", name+"."+strconv.Itoa(rev)+".json")
		want, err := os.ReadFile(file)
		if os.IsNotExist(err) && os.Getenv("GOLDEN") == "write" {
			want = append(got, '\n')
			err = os.WriteFile(file, want, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if want = bytes.TrimSpace(want); !bytes.Equal(want, got) {
			t.Errorf("%s is written as\n%s\nbut stands in the log as\n%s", name, got, want)
		}
		back, err := registry.Decode(name, rev, want)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(m, back, cmp.AllowUnexported(domain.Sealed{})); d != "" {
			t.Errorf("%s decodes otherwise (-want +got):\n%s", name, d)
		}
	}
	files, _ := filepath.Glob("testdata/golden/*.json")
	for _, e := range registry.Entries() {
		if !seen[e.Name] {
			t.Errorf("%s has no example", e.Name)
		}
		for rev := 1; rev <= e.Revision; rev++ {
			if f := filepath.Join("testdata", "golden", e.Name+"."+strconv.Itoa(rev)+".json"); !slices.Contains(files, f) {
				t.Errorf("%s is missing", f)
			}
		}
	}
}

func TestMatrix(t *testing.T) {
	const file = "testdata/matrix.txt"
	if os.Getenv("GOLDEN") == "write" {
		if err := os.WriteFile(file, []byte(saga.Aggregate.Matrix), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), saga.Aggregate.Matrix); d != "" {
		t.Errorf("the matrix is another (GOLDEN=write writes it; -want +got):\n%s", d)
	}
}

func TestLifecycle(t *testing.T) {
	started := saga.Started{Name: "onboarding", Saga: id}
	ask := saga.Asked{Step: "one", CommandID: "c1", Attempt: 1}
	undo := saga.Asked{Step: "one", CommandID: "c2", Attempt: 1, Undo: true}
	needs := saga.AttentionNeeded{Step: "one", Code: "boom"}
	type given []saga.Event
	retried, cancelled := []saga.Event{saga.Retried{Reason: sealed}}, []saga.Event{saga.Cancelled{Reason: sealed}}
	for name, tc := range map[string]struct {
		given given
		when  any
		then  []saga.Event
		code  domain.Code
	}{
		"retry of no saga":                   {nil, saga.Retry{}, nil, domain.CodeNotAllowed},
		"retry while running":                {given{started, ask}, saga.Retry{}, nil, ""},
		"retry before a scheduled attempt":   {given{started, ask, saga.Refused{Step: "one"}, saga.RetryScheduled{Step: "one", Attempt: 2}}, saga.Retry{Reason: sealed}, retried, ""},
		"retry of a wait":                    {given{started, saga.Waiting{Step: "one"}}, saga.Retry{}, nil, ""},
		"retry while undoing":                {given{started, ask, saga.Turned{}, undo}, saga.Retry{}, nil, ""},
		"retry in attention":                 {given{started, ask, needs}, saga.Retry{Reason: sealed}, retried, ""},
		"retry twice in attention":           {given{started, ask, needs, saga.Retried{}}, saga.Retry{Reason: sealed}, nil, ""},
		"retry after the end":                {given{started, ask, saga.Ended{}}, saga.Retry{}, nil, domain.CodeNotAllowed},
		"cancel of no saga":                  {nil, saga.Cancel{}, nil, domain.CodeNotAllowed},
		"cancel while running":               {given{started, ask}, saga.Cancel{Reason: sealed}, cancelled, ""},
		"cancel twice":                       {given{started, ask, saga.Cancelled{}}, saga.Cancel{}, nil, ""},
		"cancel while undoing":               {given{started, ask, saga.Turned{}, undo}, saga.Cancel{}, nil, ""},
		"cancel while undoing part":          {given{started, ask, saga.Turned{To: "one"}, undo}, saga.Cancel{Reason: sealed}, cancelled, ""},
		"cancel in attention":                {given{started, ask, needs}, saga.Cancel{Reason: sealed}, cancelled, ""},
		"cancel of what is never undone":     {given{started, saga.Asked{Step: "one", Forward: true}}, saga.Cancel{}, nil, domain.CodeNotAllowed},
		"cancel after the end":               {given{started, ask, saga.Ended{}}, saga.Cancel{}, nil, domain.CodeNotAllowed},
		"cancel after a cancel was followed": {given{started, ask, saga.Cancelled{}, saga.Turned{}}, saga.Cancel{}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := saga.Lifecycle.Decide(saga.Lifecycle.Fold(tc.given...), tc.when)
			if domain.CodeOf(err) != tc.code {
				t.Fatalf("error %v, want code %q", err, tc.code)
			}
			if d := cmp.Diff(tc.then, got, cmp.AllowUnexported(domain.Sealed{})); d != "" {
				t.Errorf("events (-want +got):\n%s", d)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	for saga_, ok := range map[string]bool{"onboarding." + id: true, "tier-change." + id: true, "": false, id: false, "Onboarding." + id: false,
		"onboarding.sag_x": false, "." + id: false, "onboarding": false} {
		for _, c := range []interface{ Check() error }{saga.Retry{Saga: saga_}, saga.Cancel{Saga: saga_}} {
			if err := c.Check(); (err == nil) != ok || err != nil && domain.CodeOf(err) != domain.CodeInvalid {
				t.Errorf("Check of %q: %v", saga_, err)
			}
		}
	}
	long := domain.Clear(strings.Repeat("x", 2_001))
	for _, c := range []interface{ Check() error }{saga.Retry{Saga: "onboarding." + id, Reason: long}, saga.Cancel{Saga: "onboarding." + id, Reason: long}} {
		if err := c.Check(); domain.CodeOf(err) != domain.CodeInvalid {
			t.Errorf("a reason of 2,001 bytes: %v", err)
		}
	}
}

func TestNames(t *testing.T) {
	name, saga_, ok := saga.SplitStream(saga.Stream("tier-change", id))
	if name != "tier-change" || saga_ != id || !ok {
		t.Errorf("split into %q, %q, %v", name, saga_, ok)
	}
	if _, _, ok := saga.SplitStream("sagadefinition-onboarding"); ok {
		t.Error("a definition's stream is no saga's")
	}
	if got := saga.DefinitionStream("onboarding"); got != "sagadefinition-onboarding" {
		t.Error(got)
	}
	if org, tenant := saga.Aggregate.Owner(saga.State{Started: saga.Started{Org: "o", Tenant: "t"}}, ""); org != "o" || tenant != "t" {
		t.Errorf("owner is %q, %q", org, tenant)
	}
	if c := (saga.Cancel{Saga: "x"}); c.Target() != "x" || (saga.Retry{Saga: "y"}).Target() != "y" {
		t.Error("commands miss their target")
	}
}

// TestEvolveLeavesTheOldStateAlone lets the Bus fold tentatively: every fact on every state, and the old state as it was.
func TestEvolveLeavesTheOldStateAlone(t *testing.T) {
	var s saga.State
	for range 3 {
		for _, m := range examples {
			e, ok := m.(saga.Event)
			if !ok {
				continue
			}
			before, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			for _, other := range examples {
				if o, ok := other.(saga.Event); ok {
					saga.Evolve(s, o)
				}
			}
			after, _ := json.Marshal(s)
			if !bytes.Equal(before, after) {
				t.Fatalf("%s changed the state that it evolved from", reflect.TypeOf(e))
			}
			if _, ended := e.(saga.Ended); !ended {
				s = saga.Evolve(s, e)
			}
		}
	}
}
