package postgres_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/tenure-dev/tenure/adapters/postgres"
	"github.com/tenure-dev/tenure/adapters/postgres/cluster"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/domain/tenant"
	"github.com/tenure-dev/tenure/projections"
	"github.com/tenure-dev/tenure/projections/projectionstest"
	"github.com/tenure-dev/tenure/projections/readmodels"
)

// BenchmarkLive folds the history of many onboardings into all read models, as the live group does when it catches up, on a
// Postgres with its usual durability. Beside it in the same run: the same with one transaction for each event, which is what
// a projection without batches does.
func BenchmarkLive(b *testing.B) {
	dir, err := os.MkdirTemp("", "tenure-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	c, err := cluster.Start(b.Context(), cluster.Options{Dir: dir, Name: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Stop(context.Background()) })
	for range b.N {
		batched := projected(b, c.URL("postgres"), 8_000, 0)
		single := projected(b, c.URL("postgres"), 100, 1)
		b.ReportMetric(batched, "events/s")
		b.ReportMetric(single, "events/s-one-by-one")
		b.ReportMetric(batched/single, "ratio")
		b.ReportMetric(0, "ns/op")
	}
}

// projected gives the events per second at which a group makes the rows of that many onboardings.
func projected(b *testing.B, url string, onboardings, batch int) float64 {
	db, err := postgres.Open(b.Context(), postgres.Options{URL: url, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := db.Pool.Exec(b.Context(), "drop schema tenure cascade"); err != nil {
		b.Fatal(err)
	}
	db.Close()
	if db, err = postgres.Open(b.Context(), postgres.Options{URL: url, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}); err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	log := projectionstest.NewLog(domain.NewRegistry(append(readmodels.Catalogs(), saga.Definitions)...))
	for p := range 4 {
		log.Append(fmt.Sprintf("plane-pln_%d", p), plane.Registered{Registration: plane.Registration{Name: "p", Capacity: domain.Units{"slots": 1 << 40}}})
	}
	for n := range onboardings {
		onboard(log, n)
	}
	store := db.Store()
	g := projections.NewGroup(projections.Options{Owner: "bench", Tables: readmodels.All(), Registry: log.Registry, Log: log.Epoch, Source: log, Streams: log,
		Store: store, Clock: projectionstest.Real{}, Batch: batch, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	began := time.Now()
	go func() { defer close(done); g.Run(ctx) }()
	defer store.Close(context.Background())
	defer func() { cancel(); <-done }()
	if err := g.WaitFor(ctx, log.Head(), time.Hour); err != nil {
		b.Fatal(err)
	}
	return float64(len(log.Events())) / time.Since(began).Seconds()
}

// onboard appends what one onboarding leaves in the log, about as it is interleaved there with others.
func onboard(log *projectionstest.Log, n int) {
	ten := domain.NewID(domain.TenantID, "bench", "tenant", fmt.Sprint(n))
	sag := domain.NewID(domain.SagaID, "bench", "saga", fmt.Sprint(n))
	op := domain.NewID(domain.OperationID, "bench", "op", fmt.Sprint(n))
	org := domain.NewID(domain.OrgID, "bench", "org", fmt.Sprint(n%50))
	t, s, p := "tenant-"+ten, "saga-onboarding."+sag, fmt.Sprintf("plane-pln_%d", n%4)
	cost := domain.Units{"slots": 1}
	asked := func(step string) {
		log.Append(s, saga.Asked{Step: step, Attempt: 1, CommandID: ten, Command: "x.y", Rev: 1, Body: []byte(`{"tenantId":"` + ten + `","orgId":"` + org + `"}`)})
		log.Append(s, saga.Accepted{Step: step, CommandID: ten, Stream: t, Revision: 3})
	}
	answered := func(step string) {
		log.Append(s, saga.Answered{Step: step, CommandID: ten, Stream: p, Revision: 7, EventID: ten})
	}
	log.Append(t, tenant.Requested{Org: org, Slug: fmt.Sprint("slug-", n), Name: fmt.Sprint("Tenant ", n), Offer: tenant.Offer{Key: "standard", Version: 1, Isolation: "pool", Cost: cost}, Change: 1, Saga: sag})
	log.Append(s, saga.Started{Saga: sag, Name: "onboarding", Version: 1, Org: org, Tenant: ten, Change: 1, Hears: []string{"tenant:" + ten}, Plan: []byte(`{"tenant":"` + ten + `"}`)})
	asked("reserve slug")
	answered("reserve slug")
	log.Append(s, saga.Chosen{Step: "choose plane", Choice: []byte(`{"plane":"pln_1"}`), Reason: "spread"})
	log.Append(s, saga.Learned{Plan: []byte(`{"tenant":"` + ten + `","plane":"pln_1"}`)})
	asked("reserve capacity")
	log.Append(p, plane.CapacityReserved{Tenant: ten, Org: org, Change: 1, Cost: cost})
	answered("reserve capacity")
	asked("place")
	log.Append(t, tenant.Placed{Plane: "pln_1"})
	answered("place")
	asked("provision")
	log.Append(p, plane.OperationAsked{Operation: op, Order: int64(n), Kind: plane.Provision, Tenant: ten, Desired: plane.Desired{Org: org, Isolation: "pool", CredentialVersion: 1, Change: 1}, Saga: sag, Command: ten})
	log.Append(p, plane.OperationSucceeded{Outcome: plane.Outcome{Operation: op, Kind: plane.Provision, Tenant: ten, Org: org, Change: 1}, Attempts: 1})
	answered("provision")
	asked("succeeded")
	log.Append(t, tenant.Activated{Change: 1})
	answered("succeeded")
	log.Append(s, saga.Ended{Outcome: saga.OutcomeSucceeded})
}
