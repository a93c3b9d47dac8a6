package readmodels_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/org"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/domain/tenant"
	"github.com/tenure-dev/tenure/domain/tier"
	"github.com/tenure-dev/tenure/projections"
	"github.com/tenure-dev/tenure/projections/projectionstest"
	"github.com/tenure-dev/tenure/projections/readmodels"
)

func TestEveryEventHasAHandlerOrIsIgnored(t *testing.T) {
	for _, table := range readmodels.All() {
		if missing := table.Unhandled(readmodels.Catalogs()...); len(missing) > 0 {
			t.Errorf("%s neither handles nor ignores %s", table.Name, strings.Join(missing, ", "))
		}
		if dead := table.Unfed(readmodels.Catalogs()...); len(dead) > 0 {
			t.Errorf("%s names %s, which is in no catalog", table.Name, strings.Join(dead, ", "))
		}
	}
}

// at is the time of the n-th event of a history.
func at(n int) time.Time { return time.Date(2026, 1, 2, 3, 4, 5, n*1000, time.UTC) }

// row folds one stream's history and gives one row.
func row[Row any](t *testing.T, table *projections.Table, stream, key string, history ...any) (r Row) {
	t.Helper()
	log := projectionstest.NewLog(domain.NewRegistry(readmodels.Catalogs()...))
	for _, e := range history {
		log.Append(stream, e)
	}
	s := table.NewState()
	for _, e := range log.Events() {
		event, err := log.Registry.DecodeRecorded(e)
		if err != nil {
			t.Fatal(err)
		}
		s.Apply(event, e.Meta)
	}
	if p := s.Parked(); len(p) > 0 {
		t.Fatalf("parked: %+v", p)
	}
	found, ok := s.Row(key)
	if !ok {
		t.Fatalf("there is no row %s", key)
	}
	return found.(Row)
}

var sealed = domain.Sealed{Subject: "org_a", Key: "k1", Text: []byte("x")}

func TestAnOrgsRow(t *testing.T) {
	got := row[readmodels.OrgRow](t, readmodels.Orgs.Table(), "org-org_a", "org_a",
		org.Registered{Name: "A", Slug: "a", Parent: "org_p"}, org.Renamed{Name: "B"}, org.Suspended{Reason: sealed}, org.Noted{})
	want := readmodels.OrgRow{ID: "org_a", Name: "B", Slug: "a", Phase: "suspended", Parent: "org_p", Revision: 3, CreatedAt: at(0), UpdatedAt: at(3)}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(domain.Sealed{})); diff != "" {
		t.Error(diff)
	}
}

func TestATiersRowAndItsVersions(t *testing.T) {
	one := tier.Terms{Name: "One", Isolation: "pool", Endpoint: "shared", Nodes: "shared", Features: []string{"sso"}, Cost: domain.Units{"slots": 1, "gb": 2}}
	two := one
	two.Name, two.Isolation = "Two", "silo"
	history := []any{tier.Published{Version: 1, Terms: one}, tier.Published{Version: 2, Terms: two}, tier.Deprecated{}}
	got := row[readmodels.TierRow](t, readmodels.Tiers.Table(), "tier-t", "t", history...)
	want := readmodels.TierRow{Key: "t", Version: 2, Name: "Two", Phase: "deprecated", Isolation: "silo", Endpoint: "shared", Nodes: "shared", Features: []string{"sso"},
		Cost: []readmodels.UnitAmount{{"gb", 2}, {"slots", 1}}, Revision: 2, CreatedAt: at(0), UpdatedAt: at(2)}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(domain.Sealed{})); diff != "" {
		t.Error(diff)
	}
	first := row[readmodels.TierVersionRow](t, readmodels.TierVersions.Table(), "tier-t", readmodels.TierVersionID("t", 1), history...)
	if first.Name != "One" || first.Isolation != "pool" || first.Tier != "t" || first.Version != 1 {
		t.Errorf("the first version is %+v", first)
	}
}

func TestATenantsRowThroughItsLife(t *testing.T) {
	offer := tenant.Offer{Key: "standard", Version: 3, Isolation: "pool", Limits: domain.Units{"connections": 5}, Cost: domain.Units{"slots": 1}}
	bill, manual := tenant.Cause{Kind: "billing", Reference: "i1"}, tenant.Manual
	history := []any{
		tenant.Requested{Org: "org_a", Slug: "s", Name: "S", Offer: offer, Change: 1, Saga: "sag_1"},
		tenant.Placed{Plane: "pln_1"},
		tenant.CauseAdded{Cause: manual, Revision: 1, Reason: sealed},
		tenant.CauseAdded{Cause: bill, Revision: 2},
		tenant.Activated{Change: 1, Suspended: true},
		tenant.CauseCleared{Cause: manual, Revision: 3},
		tenant.Noted{},
	}
	want := readmodels.TenantRow{ID: "ten_1", Org: "org_a", Slug: "s", Name: "S", Phase: "suspended", Plane: "pln_1", TierKey: "standard", TierVersion: 3, Isolation: "pool",
		Limits: []readmodels.UnitAmount{{"connections", 5}}, Cost: []readmodels.UnitAmount{{"slots", 1}}, Change: 1,
		Causes: []readmodels.CauseRow{{Kind: "billing", Reference: "i1"}}, CausesAt: 3, Revision: 6, CreatedAt: at(0), UpdatedAt: at(6)}
	got := row[readmodels.TenantRow](t, readmodels.Tenants.Table(), "tenant-ten_1", "ten_1", history...)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(domain.Sealed{})); diff != "" {
		t.Error(diff)
	}
	both := row[readmodels.TenantRow](t, readmodels.Tenants.Table(), "tenant-ten_1", "ten_1", history[:4]...)
	if diff := cmp.Diff([]readmodels.CauseRow{{Kind: "billing", Reference: "i1"}, {Kind: "manual", Reference: "operator", Reason: sealed}}, both.Causes,
		cmp.AllowUnexported(domain.Sealed{})); diff != "" || both.Saga != "sag_1" || both.Phase != "provisioning" {
		t.Errorf("while it is made: %+v\n%s", both, diff)
	}
	gone := row[readmodels.TenantRow](t, readmodels.Tenants.Table(), "tenant-ten_1", "ten_1", append(history,
		tenant.OffboardingStarted{Org: "org_a", Slug: "s", Plane: "pln_1", Offer: offer, Change: 2, Saga: "sag_2"}, tenant.Deleted{Change: 2})...)
	if gone.Phase != "deleted" || gone.Saga != "" || gone.Change != 2 {
		t.Errorf("in the end: %+v", gone)
	}
}

func TestAPlanesRowAndItsOperations(t *testing.T) {
	cost := domain.Units{"slots": 2}
	o := plane.Outcome{Operation: "op_1", Kind: plane.Provision, Tenant: "ten_1", Org: "org_a", Change: 1}
	void := plane.Outcome{Operation: "op_2", Kind: plane.Suspend, Tenant: "ten_1", Org: "org_a", Causes: 4}
	history := []any{
		plane.Registered{Registration: plane.Registration{Name: "P", Region: "eu", Account: "hosted", Labels: map[string]string{"b": "2", "a": "1"},
			Capacity: domain.Units{"slots": 10}, Isolations: []string{"pool"}}},
		plane.SessionOpened{Session: 1, Version: "v1", Driver: "postgres"},
		plane.AgentJudged{Session: 1, State: plane.Online},
		plane.CapacityReserved{Tenant: "ten_1", Cost: cost},
		plane.OperationAsked{Operation: "op_1", Order: 1, Kind: plane.Provision, Tenant: "ten_1", Desired: plane.Desired{Org: "org_a", Change: 1}, Saga: "sag_1"},
		plane.WithdrawalAsked{Operation: "op_1", Tenant: "ten_1"},
		plane.OperationFailed{Outcome: o, Attempts: 3, Class: "bug", Code: "broken"},
		plane.OperationSuperseded{Outcome: void},
		plane.CapacityReserved{Tenant: "ten_2", Cost: cost},
		plane.CapacityReleased{Tenant: "ten_1", Cost: cost},
		plane.Cordoned{Reason: sealed},
	}
	got := row[readmodels.PlaneRow](t, readmodels.Planes.Table(), "plane-pln_1", "pln_1", history...)
	want := readmodels.PlaneRow{ID: "pln_1", Name: "P", Region: "eu", Account: "hosted", Labels: []readmodels.Label{{"a", "1"}, {"b", "2"}}, Isolations: []string{"pool"},
		Capacity: []readmodels.UnitAmount{{"slots", 10}}, Used: []readmodels.UnitAmount{{"slots", 2}}, Phase: "cordoned", Reason: sealed, AgentState: "online",
		Session: 1, Version: "v1", Driver: "postgres", Revision: 10, CreatedAt: at(0), UpdatedAt: at(10)}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(domain.Sealed{})); diff != "" {
		t.Error(diff)
	}
	op := row[readmodels.OperationRow](t, readmodels.Operations.Table(), "plane-pln_1", "pln_1/op_1", history...)
	wantOp := readmodels.OperationRow{ID: "pln_1/op_1", Plane: "pln_1", Operation: "op_1", Order: 1, Kind: "provision", Tenant: "ten_1", Org: "org_a", Saga: "sag_1",
		State: "failed", Change: 1, Attempts: 3, Class: "bug", Code: "broken", AskedAt: at(4), AnsweredAt: at(6)}
	if diff := cmp.Diff(wantOp, op); diff != "" {
		t.Error(diff)
	}
	op = row[readmodels.OperationRow](t, readmodels.Operations.Table(), "plane-pln_1", "pln_1/op_2", history...)
	if op.State != "superseded" || op.Tenant != "ten_1" || op.Causes != 4 || op.Plane != "pln_1" {
		t.Errorf("an operation that was void at once: %+v", op)
	}
}

func TestASagasRowAndItsSteps(t *testing.T) {
	const stream, id = "saga-onboarding.sag_1", "sag_1"
	began := []any{
		saga.Started{Saga: id, Name: "onboarding", Version: 2, Org: "org_a", Tenant: "ten_1", Change: 1, Hears: []string{"tenant:ten_1"}},
		saga.Chosen{Step: "choose plane"},
		saga.Asked{Step: "reserve capacity", Attempt: 1},
		saga.Accepted{Step: "reserve capacity"},
		saga.Answered{Step: "reserve capacity"},
		saga.Asked{Step: "provision", Attempt: 1},
	}
	failed := append(began[:6:6],
		saga.Refused{Step: "provision", Code: "transient"},
		saga.RetryScheduled{Step: "provision", Attempt: 2},
		saga.Asked{Step: "provision", Attempt: 2},
		saga.TimedOut{Step: "provision"},
		saga.Turned{Step: "provision", Code: saga.CodeTimedOut},
		saga.Asked{Step: "provision", Undo: true, Attempt: 1},
		saga.AttentionNeeded{Step: "provision", Undo: true, Code: "late"},
		saga.Retried{},
	)
	ended := append(failed[:14:14],
		saga.AttentionCleared{},
		saga.Undone{Step: "provision"},
		saga.Asked{Step: saga.FailedStep, Attempt: 1},
		saga.Answered{Step: saga.FailedStep},
		saga.Ended{Outcome: saga.OutcomeFailed, Code: saga.CodeTimedOut, Step: "provision"},
	)
	base := readmodels.SagaRow{ID: id, Name: "onboarding", Version: 2, Tenant: "ten_1", Org: "org_a", Change: 1, StartedAt: at(0)}
	for _, c := range []struct {
		name    string
		history []any
		change  func(*readmodels.SagaRow)
	}{
		{"on its way", began, func(r *readmodels.SagaRow) { r.State, r.Step, r.Revision = "running", "provision", 5 }},
		{"turned back", failed[:12], func(r *readmodels.SagaRow) {
			r.State, r.Step, r.Code, r.Undoing, r.Revision = "undoing", "provision", "timed_out", true, 11
		}},
		{"stuck", failed, func(r *readmodels.SagaRow) {
			r.State, r.Step, r.Code, r.Undoing, r.Revision = "attention", "provision", "late", true, 13
		}},
		{"ended", ended, func(r *readmodels.SagaRow) {
			r.State, r.Code, r.Undoing, r.Revision, r.FinishedAt = "failed", "timed_out", true, 18, at(18)
		}},
	} {
		want := base
		c.change(&want)
		got := row[readmodels.SagaRow](t, readmodels.Sagas.Table(), stream, id, c.history...)
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(domain.Sealed{})); diff != "" {
			t.Errorf("%s:\n%s", c.name, diff)
		}
	}
	got := row[readmodels.StepRow](t, readmodels.SagaSteps.Table(), stream, id+"/provision", ended...)
	want := readmodels.StepRow{ID: id + "/provision", Saga: id, Name: "provision", Order: 5, State: "undone", Attempt: 1, StartedAt: at(5), FinishedAt: at(15), LastError: "late"}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(domain.Sealed{})); diff != "" {
		t.Error(diff)
	}
	open := row[readmodels.OpenSagaRow](t, readmodels.OpenSagas.Table(), stream, "onboarding.sag_1", failed...)
	if open.Saga != id || open.Name != "onboarding" || open.Hears[0] != "tenant:ten_1" {
		t.Errorf("the open saga is %+v", open)
	}
}
