package postgres_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/tenure-dev/tenure/adapters/postgres"
	"github.com/tenure-dev/tenure/adapters/postgres/cluster/clustertest"
)

func attempt(sink string, revision int64) postgres.Delivery {
	return postgres.Delivery{Sink: sink, EventID: fmt.Sprint("e", revision), Type: "tenant.requested", Stream: "tenant-ten_a", Revision: revision, Attempt: 2,
		Started: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), Took: 1500 * time.Microsecond, Outcome: "failed", Code: "http_503", Status: 503}
}

// What a sink has tried is there page by page, the latest first, as it was recorded.
func TestDeliveriesAreKept(t *testing.T) {
	d := postgres.Deliveries{DB: open(t, clustertest.Database(t))}
	record(t, &d, attempt("a", 1), attempt("b", 7), attempt("a", 2))
	record(t, &d, attempt("a", 3))
	page := recent(t, &d, "a", 0, 2)
	if len(page) != 2 || page[0].Revision != 3 || page[1].Revision != 2 {
		t.Fatalf("the first page is %v", page)
	}
	rest := recent(t, &d, "a", page[1].ID, 2)
	if len(rest) != 1 {
		t.Fatalf("the second page is %v", rest)
	}
	want := attempt("a", 1)
	want.ID = rest[0].ID
	if !reflect.DeepEqual(rest[0], want) {
		t.Errorf("kept is\n%v, recorded was\n%v", rest[0], want)
	}
}

// Of each sink the latest are kept, however much another one has tried.
func TestOldDeliveriesAreDeleted(t *testing.T) {
	d := postgres.Deliveries{DB: open(t, clustertest.Database(t)), Keep: 20}
	record(t, &d, attempt("quiet", 1))
	for n := range int64(10) {
		var batch []postgres.Delivery
		for i := range int64(10) {
			batch = append(batch, attempt("loud", 10*n+i))
		}
		record(t, &d, batch...)
	}
	if loud := recent(t, &d, "loud", 0, 1000); len(loud) < 20 || len(loud) > 40 || loud[0].Revision != 99 {
		t.Errorf("%d of the loud sink's are kept", len(loud))
	}
	if len(recent(t, &d, "quiet", 0, 10)) != 1 {
		t.Error("the quiet sink's attempt is gone")
	}
}

func record(t *testing.T, d *postgres.Deliveries, batch ...postgres.Delivery) {
	t.Helper()
	if err := d.Record(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
}

func recent(t *testing.T, d *postgres.Deliveries, sink string, before int64, limit int) []postgres.Delivery {
	t.Helper()
	found, err := d.Recent(t.Context(), sink, before, limit)
	if err != nil {
		t.Fatal(err)
	}
	return found
}
