package postgres_test

import (
	"context"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/adapters/postgres"
	"github.com/tenure-dev/tenure/adapters/postgres/cluster"
	"github.com/tenure-dev/tenure/adapters/postgres/cluster/clustertest"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/projections"
	"github.com/tenure-dev/tenure/projections/projectionstest"
)

// A server that is stopped and started again while events come costs time and nothing else.
func TestAGroupOutlivesARestartOfPostgres(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "tenure-restart-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	start := func() *cluster.Cluster {
		c, err := cluster.Start(t.Context(), cluster.Options{Dir: dir, Name: "test"})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := start()
	t.Cleanup(func() { c.Stop(context.Background()) })
	db, err := postgres.Open(t.Context(), postgres.Options{URL: c.URL("postgres"), Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store := db.Store()
	defer store.Close(context.Background())
	log := projectionstest.NewLog(domain.NewRegistry(projectionstest.Catalog))
	tables := []*projections.Table{projectionstest.Shops(1, false), projectionstest.Orders()}
	g := projections.NewGroup(projections.Options{Owner: "test", Tables: tables, Registry: log.Registry, Log: log.Epoch, Source: log, Streams: log, Store: store,
		Clock: projectionstest.NewFast(), Expiry: 1000 * time.Hour, Batch: 7, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); g.Run(ctx) }()
	defer func() { cancel(); <-done }()
	reach := func() {
		t.Helper()
		wait, stop := context.WithTimeout(ctx, 2*time.Minute)
		defer stop()
		if err := g.WaitFor(wait, log.Head(), time.Hour*10_000); err != nil {
			t.Fatalf("%v; %+v", err, g.Status())
		}
	}
	for round := range uint64(2) {
		projectionstest.Populate(log, round, 100)
		reach()
		if err := c.Stop(ctx); err != nil {
			t.Fatal(err)
		}
		projectionstest.Populate(log, round+10, 300)
		c = start()
		projectionstest.Populate(log, round+20, 300)
		reach()
		for _, table := range tables {
			rows, at := snapshot(t, db, table)
			want := projectionstest.Fold(log, table, at)
			if len(rows) != len(want) {
				t.Errorf("%s has %d rows, not %d", table.Name, len(rows), len(want))
			}
			for k := range want {
				if rows[k] != want[k] {
					t.Errorf("%s %s is %q, not %q", table.Name, k, rows[k], want[k])
				}
			}
		}
	}
}

// The read side is a cache: a table that is lost is folded anew, up to the checkpoint, while the group runs.
func TestATableThatIsLostIsBuiltAgain(t *testing.T) {
	t.Parallel()
	db := open(t, clustertest.Database(t))
	store := db.Store()
	defer store.Close(context.Background())
	log := projectionstest.NewLog(domain.NewRegistry(projectionstest.Catalog))
	tables := []*projections.Table{projectionstest.Shops(1, false), projectionstest.Orders()}
	g := projections.NewGroup(projections.Options{Owner: "test", Tables: tables, Registry: log.Registry, Log: log.Epoch, Source: log, Streams: log, Store: store,
		Clock: projectionstest.NewFast(), Expiry: 1000 * time.Hour, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); g.Run(ctx) }()
	defer func() { cancel(); <-done }()
	for round := range uint64(2) {
		projectionstest.Populate(log, round, 100)
		wait, stop := context.WithTimeout(ctx, 2*time.Minute)
		defer stop()
		if err := g.WaitFor(wait, log.Head(), time.Hour*10_000); err != nil {
			t.Fatalf("%v; %+v", err, g.Status())
		}
		for _, table := range tables {
			rows, at := snapshot(t, db, table)
			if diff := cmp.Diff(projectionstest.Fold(log, table, at), rows); diff != "" {
				t.Errorf("%s (-fold +stored):\n%s", table.Name, diff)
			}
		}
		if round == 0 {
			if _, err := db.Pool.Exec(ctx, "drop table tenure.orders_v1_g1"); err != nil {
				t.Fatal(err)
			}
		}
	}
}
