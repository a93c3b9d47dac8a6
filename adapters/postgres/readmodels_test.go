package postgres_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/adapters/postgres"
	"github.com/tenure-dev/tenure/adapters/postgres/cluster/clustertest"
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

// readSide runs the live group of all read models over a log that holds some history.
func readSide(t *testing.T) (*postgres.Reader, *projectionstest.Log, *projections.Group) {
	t.Helper()
	log := projectionstest.NewLog(domain.NewRegistry(readmodels.Catalogs()...))
	for o := range 3 {
		log.Append(fmt.Sprintf("org-org_%d", o), org.Registered{Name: fmt.Sprint("Org ", o), Parent: map[bool]string{true: "org_0"}[o > 0]})
	}
	for _, key := range []string{"basic", "pro"} {
		log.Append("tier-"+key, tier.Published{Version: 1, Terms: tier.Terms{Name: key, Isolation: "pool", Cost: domain.Units{"slots": 1}}})
		log.Append("tier-"+key, tier.Published{Version: 2, Terms: tier.Terms{Name: key, Isolation: "silo", Features: []string{"sso", "audit"}}})
	}
	for p := range 2 {
		s := fmt.Sprintf("plane-pln_%d", p)
		log.Append(s, plane.Registered{Registration: plane.Registration{Name: "p", Region: fmt.Sprint("r", p), Capacity: domain.Units{"slots": 9}, Isolations: []string{"pool"}}})
		log.Append(s, plane.OperationAsked{Operation: "op_1", Order: 1, Kind: plane.Provision, Tenant: "ten_1"})
		log.Append(s, plane.OperationAsked{Operation: "op_2", Order: 2, Kind: plane.Provision, Tenant: "ten_2"})
	}
	for n := range 7 {
		s := fmt.Sprintf("tenant-ten_%d", n)
		log.Append(s, tenant.Requested{Org: fmt.Sprint("org_", n%2), Slug: fmt.Sprint("slug-", n), Offer: tenant.Offer{Key: "pro", Version: 2}})
		if n > 3 {
			log.Append(s, tenant.Placed{Plane: "pln_1"})
		}
	}
	for n := range 5 {
		s := fmt.Sprintf("saga-onboarding.sag_%d", n)
		log.Append(s, saga.Started{Saga: fmt.Sprint("sag_", n), Name: "onboarding", Version: 1, Tenant: fmt.Sprint("ten_", n%2), Hears: []string{"a", "b"}})
		log.Append(s, saga.Asked{Step: "reserve slug", Attempt: 1})
		log.Append(s, saga.Answered{Step: "reserve slug"})
		log.Append(s, saga.Asked{Step: "choose plane", Attempt: 1})
		if n == 3 {
			log.Append(s, saga.Ended{Outcome: saga.OutcomeSucceeded})
		}
	}
	db := open(t, clustertest.Database(t))
	store := db.Store()
	g := projections.NewGroup(projections.Options{Owner: "test", Tables: readmodels.All(), Registry: log.Registry, Log: log.Epoch, Source: log, Streams: log,
		Store: store, Clock: projectionstest.NewFast(), Expiry: time.Hour, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); g.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done; store.Close(context.Background()) })
	wait, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	if err := g.WaitFor(wait, log.Head(), time.Hour*10_000); err != nil {
		t.Fatal(err)
	}
	return db.Reader("live", readmodels.All()), log, g
}

func TestTheReadModelsAnswerTheirQueries(t *testing.T) {
	t.Parallel()
	reader, log, _ := readSide(t)
	ctx := t.Context()
	err := reader.Read(ctx, func(s *postgres.Snapshot) error {
		if !s.Begun || s.Position != (domain.Position{Epoch: log.Epoch, Commit: log.Head()}) {
			t.Errorf("the position is %v", s.Position)
		}
		q := readmodels.Queries{Snapshot: s}
		for _, c := range []struct {
			name string
			ask  func() ([]string, error)
			want []string
		}{
			{"orgs", ids(q.Orgs, func(r readmodels.OrgRow) string { return r.Name }, "org_1", "org_9"), []string{"Org 1"}},
			{"orgs of a parent", page(func() ([]readmodels.OrgRow, error) { return q.PageOfOrgs(ctx, "org_0", "org_1", 9) }, func(r readmodels.OrgRow) string { return r.ID }), []string{"org_2"}},
			{"all orgs, two of them", page(func() ([]readmodels.OrgRow, error) { return q.PageOfOrgs(ctx, "", "", 2) }, func(r readmodels.OrgRow) string { return r.ID }), []string{"org_0", "org_1"}},
			{"tiers", ids(q.Tiers, func(r readmodels.TierRow) string { return fmt.Sprint(r.Key, r.Version, r.Isolation, r.Features) }, "pro"), []string{"pro2silo[sso audit]"}},
			{"tiers by key", page(func() ([]readmodels.TierRow, error) { return q.PageOfTiers(ctx, "basic", 9) }, func(r readmodels.TierRow) string { return r.Key }), []string{"pro"}},
			{"a version of a tier", ids(q.TierVersions, func(r readmodels.TierVersionRow) string { return fmt.Sprint(r.Tier, r.Version, r.Isolation) }, readmodels.TierVersionID("pro", 1)), []string{"pro1pool"}},
			{"a tier's versions", page(func() ([]readmodels.TierVersionRow, error) { return q.PageOfTierVersions(ctx, "pro", 0, 9) }, func(r readmodels.TierVersionRow) string { return r.ID }), []string{"pro/2", "pro/1"}},
			{"a tier's versions before one", page(func() ([]readmodels.TierVersionRow, error) { return q.PageOfTierVersions(ctx, "pro", 2, 9) }, func(r readmodels.TierVersionRow) string { return r.ID }), []string{"pro/1"}},
			{"tenants", ids(q.Tenants, func(r readmodels.TenantRow) string { return r.Slug }, "ten_3"), []string{"slug-3"}},
			{"tenants of an org on a plane", page(func() ([]readmodels.TenantRow, error) {
				return q.PageOfTenants(ctx, readmodels.TenantFilter{Org: "org_0", Plane: "pln_1", Phase: "provisioning"}, "ten_4", 9)
			}, func(r readmodels.TenantRow) string { return r.ID }), []string{"ten_6"}},
			{"tenants of a slug", page(func() ([]readmodels.TenantRow, error) {
				return q.PageOfTenants(ctx, readmodels.TenantFilter{Slug: "slug-2"}, "", 9)
			}, func(r readmodels.TenantRow) string { return r.ID }), []string{"ten_2"}},
			{"planes", ids(q.Planes, func(r readmodels.PlaneRow) string { return r.Region + fmt.Sprint(r.Revision) }, "pln_1"), []string{"r12"}},
			{"planes of a region", page(func() ([]readmodels.PlaneRow, error) { return q.PageOfPlanes(ctx, "r0", "", 9) }, func(r readmodels.PlaneRow) string { return r.ID }), []string{"pln_0"}},
			{"a tenant's operations", page(func() ([]readmodels.OperationRow, error) { return q.OperationsOf(ctx, "ten_1", 9) }, func(r readmodels.OperationRow) string { return r.ID }), []string{"pln_1/op_1", "pln_0/op_1"}},
			{"a plane's operations", page(func() ([]readmodels.OperationRow, error) { return q.PageOfOperations(ctx, "pln_0", "pln_0/op_1", 9) }, func(r readmodels.OperationRow) string { return r.ID }), []string{"pln_0/op_2"}},
			{"sagas", ids(q.Sagas, func(r readmodels.SagaRow) string { return r.State }, "sag_3"), []string{"succeeded"}},
			{"sagas of a tenant, latest first", page(func() ([]readmodels.SagaRow, error) {
				return q.PageOfSagas(ctx, readmodels.SagaFilter{Tenant: "ten_0", State: "running", Name: "onboarding"}, readmodels.SagaPlace{}, 2)
			}, func(r readmodels.SagaRow) string { return r.ID }), []string{"sag_4", "sag_2"}},
			{"steps", page(func() ([]readmodels.StepRow, error) { return q.Steps(ctx, []string{"sag_2", "sag_0", "sag_x"}) }, func(r readmodels.StepRow) string { return r.ID + " " + r.State }),
				[]string{"sag_0/reserve slug done", "sag_0/choose plane running", "sag_2/reserve slug done", "sag_2/choose plane running"}},
			{"open sagas", page(func() ([]readmodels.OpenSagaRow, error) { return q.OpenSagas(ctx) }, func(r readmodels.OpenSagaRow) string { return r.ID + fmt.Sprint(r.Hears) }),
				[]string{"onboarding.sag_0[a b]", "onboarding.sag_1[a b]", "onboarding.sag_2[a b]", "onboarding.sag_4[a b]"}},
		} {
			got, err := c.ask()
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.name, diff)
			}
		}
		all, err := q.PageOfSagas(ctx, readmodels.SagaFilter{}, readmodels.SagaPlace{}, 9)
		if err != nil {
			return err
		}
		rest, err := q.PageOfSagas(ctx, readmodels.SagaFilter{}, readmodels.SagaPlace{StartedAt: all[1].StartedAt, ID: all[1].ID}, 9)
		if diff := cmp.Diff(all[2:], rest); diff != "" {
			t.Errorf("the second page (-want +got):\n%s", diff)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func ids[Row any](look func(context.Context, []string) ([]Row, error), show func(Row) string, keys ...string) func() ([]string, error) {
	return page(func() ([]Row, error) { return look(context.Background(), keys) }, show)
}

func page[Row any](ask func() ([]Row, error), show func(Row) string) func() ([]string, error) {
	return func() (all []string, err error) {
		rows, err := ask()
		for _, r := range rows {
			all = append(all, show(r))
		}
		return all, err
	}
}

func TestReadingWhatIsParkedSaysSo(t *testing.T) {
	t.Parallel()
	reader, log, g := readSide(t)
	at := log.AppendRaw("tenant-ten_2", "tenant.placed", 1, []byte(`{"plane":7}`))
	at = max(at, log.Append("tenant-ten_3", tenant.Placed{Plane: "pln_0"}))
	if err := g.WaitFor(t.Context(), at, time.Hour*10_000); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]domain.Code{"ten_2": domain.CodeUnavailable, "ten_3": ""} {
		err := reader.Read(t.Context(), func(s *postgres.Snapshot) error {
			_, err := (readmodels.Queries{Snapshot: s}).Tenants(t.Context(), []string{id})
			return err
		})
		if domain.CodeOf(err) != want {
			t.Errorf("reading %s gives %v", id, err)
		}
	}
}

func TestAReaderOfAnotherVersionIsTurnedAway(t *testing.T) {
	t.Parallel()
	db := open(t, clustertest.Database(t))
	log := projectionstest.NewLog(domain.NewRegistry(projectionstest.Catalog))
	log.Append("shop-a", projectionstest.Opened{Name: "A"})
	read := func(version int) error {
		return db.Reader("live", []*projections.Table{projectionstest.Shops(version, false)}).Read(t.Context(), func(*postgres.Snapshot) error { return nil })
	}
	if err := read(2); domain.CodeOf(err) != domain.CodeUnavailable {
		t.Errorf("before anything is built reading gives %v", err)
	}
	store := db.Store()
	defer store.Close(context.Background())
	g := projections.NewGroup(projections.Options{Owner: "test", Tables: []*projections.Table{projectionstest.Shops(2, false)}, Registry: log.Registry, Log: log.Epoch,
		Source: log, Streams: log, Store: store, Clock: projectionstest.NewFast(), Expiry: time.Hour, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); g.Run(ctx) }()
	defer func() { cancel(); <-done }()
	if err := g.WaitFor(t.Context(), log.Head(), time.Hour*10_000); err != nil {
		t.Fatal(err)
	}
	if err := read(2); err != nil {
		t.Errorf("its own version: %v", err)
	}
	if err := read(1); domain.CodeOf(err) != domain.CodeUnavailable {
		t.Errorf("an older release gets %v", err)
	}
}

func TestSeveralProcessesMayOpenAnEmptyDatabaseAtOnce(t *testing.T) {
	t.Parallel()
	url := clustertest.Database(t)
	errs := make(chan error)
	for range 6 {
		go func() {
			db, err := postgres.Open(context.Background(), postgres.Options{URL: url, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
			if err == nil {
				db.Close()
			}
			errs <- err
		}()
	}
	for range 6 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
