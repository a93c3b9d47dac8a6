package postgres_test

import (
	"context"
	"io"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/tenure-dev/tenure/adapters/postgres"
	"github.com/tenure-dev/tenure/adapters/postgres/cluster/clustertest"
	"github.com/tenure-dev/tenure/projections"
	"github.com/tenure-dev/tenure/projections/projectionstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(clustertest.Wrap(m)) }

func TestGroupOverPostgres(t *testing.T) {
	projectionstest.TestStore(t, func(t *testing.T) projectionstest.Backend {
		db := open(t, clustertest.Database(t))
		return projectionstest.Backend{
			Open: func() projections.Store {
				s := db.Store()
				t.Cleanup(func() { s.Close(context.Background()) })
				return s
			},
			Snapshot: func(table *projections.Table) (map[string]string, int64) { return snapshot(t, db, table) },
			Outage: func() {
				_, err := db.Pool.Exec(t.Context(), `select pg_terminate_backend(pid) from pg_stat_activity
					where datname = current_database() and pid <> pg_backend_pid() and application_name = 'tenure projections'`)
				if err != nil {
					t.Error(err)
				}
			},
		}
	})
}

func open(t testing.TB, url string) *postgres.Database {
	t.Helper()
	db, err := postgres.Open(t.Context(), postgres.Options{URL: url, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// snapshot reads a table as a reader does, in the form in which Postgres sends it.
func snapshot(t testing.TB, db *postgres.Database, table *projections.Table) (rows map[string]string, at int64) {
	rows, at = map[string]string{}, projections.Nowhere
	err := db.Reader("live", []*projections.Table{table}).Read(t.Context(), func(s *postgres.Snapshot) error {
		if s.Begun {
			at = int64(s.Position.Commit)
		}
		all, err := s.Query(t.Context(), "select * from "+s.Table(table.Name), pgx.QueryResultFormats{pgx.BinaryFormatCode})
		if err != nil {
			return err
		}
		defer all.Close()
		for all.Next() {
			row, err := table.Decode(all.RawValues())
			if err != nil {
				return err
			}
			e, err := table.Encode(row)
			if err != nil {
				return err
			}
			rows[e.Key()] = string(e)
		}
		return all.Err()
	})
	if err != nil {
		t.Error(err)
	}
	return rows, at
}
