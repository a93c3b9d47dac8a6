package clustertest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/tenure-dev/tenure/adapters/postgres/cluster/clustertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(clustertest.Wrap(m)) }

func TestEachTestHasADatabaseOfItsOwn(t *testing.T) {
	for range 2 {
		t.Run("", func(t *testing.T) {
			conn, err := pgx.Connect(t.Context(), clustertest.Database(t))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			if _, err := conn.Exec(t.Context(), "create table same_name (n int)"); err != nil {
				t.Fatal(err)
			}
		})
	}
}
