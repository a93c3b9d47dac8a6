package projections_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/tenure-dev/tenure/projections"
	"github.com/tenure-dev/tenure/projections/projectionstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestGroupOverMemory(t *testing.T) {
	projectionstest.TestStore(t, func(t *testing.T) projectionstest.Backend {
		m := projectionstest.NewMemory()
		return projectionstest.Backend{
			Open:     func() projections.Store { return m },
			Snapshot: func(t *projections.Table) (map[string]string, int64) { return m.Snapshot("live", t) },
		}
	})
}
