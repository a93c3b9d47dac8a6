package graphql_test

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/reservation"
	"github.com/tenure-dev/tenure/domain/sink"
	"github.com/tenure-dev/tenure/graphql/view"
	"github.com/tenure-dev/tenure/projections"
	"github.com/tenure-dev/tenure/projections/projectionstest"
	"github.com/tenure-dev/tenure/projections/readmodels"
)

// readSide is the live group with all read models over a store in memory, whose snapshots answer as the queries in Postgres do.
type readSide struct {
	*projections.Group
	clock  *projectionstest.Clock
	store  *projectionstest.Memory
	tables map[string]*projections.Table

	queries atomic.Int64 // asked of snapshots
	open    atomic.Int64 // snapshots
	broken  atomic.Value // error of every Read, an errBox
	opens   atomic.Int64 // Reads begun
	panics  atomic.Bool  // every query
}

type errBox struct{ error }

func newReadSide(t *testing.T, l *tailedLog) *readSide {
	t.Helper()
	r := &readSide{clock: projectionstest.NewClock(), store: projectionstest.NewMemory(), tables: map[string]*projections.Table{}}
	for _, table := range readmodels.All() {
		r.tables[table.Name] = table
	}
	r.Group = projections.NewGroup(projections.Options{Owner: "test", Tables: readmodels.All(), Log: epoch, Source: l, Streams: l, Store: r.store,
		Registry: domain.NewRegistry(append(readmodels.Catalogs(), reservation.Events, sink.Events)...), Clock: r.clock, Buffer: buffer,
		Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	for { // until it is live
		w, err := r.Group.Watch(ctx, projections.Topic{Projection: "orgs", Key: "none"})
		if err == nil {
			w.Close()
			break
		}
		runtime.Gosched()
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if n := r.open.Load(); n != 0 {
			t.Errorf("%d snapshots were left open", n)
		}
	})
	return r
}

// buffer is how many changes wait for one subscriber.
const buffer = 16

func (r *readSide) Watch(ctx context.Context, topics ...projections.Topic) (view.Feed, error) {
	return r.Group.Watch(ctx, topics...)
}

func (r *readSide) Read(ctx context.Context, f func(view.Snapshot) error) error {
	r.opens.Add(1)
	if err, ok := r.broken.Load().(errBox); ok && err.error != nil {
		return err.error
	}
	r.open.Add(1)
	defer r.open.Add(-1)
	s := &snapshot{side: r}
	for settled := false; !settled; { // until all tables are as of one position
		s.rows = map[string][]any{}
		settled = true
		for i, t := range readmodels.All() {
			rows, at := r.store.Snapshot("live", t)
			settled = settled && (i == 0 || at == s.at)
			s.at = at
			for _, encoded := range rows {
				row, err := t.Decode(projections.Encoded(encoded).Fields())
				if err != nil {
					return err
				}
				s.rows[t.Name] = append(s.rows[t.Name], row)
			}
		}
	}
	return f(s)
}

// snapshot is the read models as of one position.
type snapshot struct {
	side *readSide
	at   int64
	rows map[string][]any
	busy sync.Mutex
}

func (s *snapshot) At() (domain.Position, bool) {
	return domain.Position{Epoch: epoch, Commit: uint64(max(s.at, 0))}, s.at != projections.Nowhere
}

// selected gives rows of a table in an order, up to a limit.
func selected[Row any](s *snapshot, table string, keep func(Row) bool, order func(a, b Row) int, limit int) ([]Row, error) {
	if !s.busy.TryLock() {
		panic("two queries at once in one transaction")
	}
	defer s.busy.Unlock()
	if s.side.panics.Load() {
		panic("hunter2")
	}
	s.side.queries.Add(1)
	var all []Row
	for _, r := range s.rows[table] {
		if row := r.(Row); keep(row) {
			all = append(all, row)
		}
	}
	slices.SortFunc(all, order)
	return all[:min(len(all), limit)], nil
}

const all = 1 << 30

func (s *snapshot) Orgs(_ context.Context, ids []string) ([]view.OrgRow, error) {
	return selected(s, "orgs", func(r view.OrgRow) bool { return slices.Contains(ids, r.ID) }, byOrg, all)
}
func (s *snapshot) Tiers(_ context.Context, keys []string) ([]view.TierRow, error) {
	return selected(s, "tiers", func(r view.TierRow) bool { return slices.Contains(keys, r.Key) }, byTier, all)
}
func (s *snapshot) Tenants(_ context.Context, ids []string) ([]view.TenantRow, error) {
	return selected(s, "tenants", func(r view.TenantRow) bool { return slices.Contains(ids, r.ID) }, byTenant, all)
}
func (s *snapshot) Planes(_ context.Context, ids []string) ([]view.PlaneRow, error) {
	return selected(s, "planes", func(r view.PlaneRow) bool { return slices.Contains(ids, r.ID) }, byPlane, all)
}
func (s *snapshot) Sagas(_ context.Context, ids []string) ([]view.SagaRow, error) {
	return selected(s, "sagas", func(r view.SagaRow) bool { return slices.Contains(ids, r.ID) }, bySaga, all)
}
func (s *snapshot) Steps(_ context.Context, sagas []string) ([]view.StepRow, error) {
	return selected(s, "saga_steps", func(r view.StepRow) bool { return slices.Contains(sagas, r.Saga) },
		func(a, b view.StepRow) int { return cmp.Compare(b.ID, a.ID) }, all)
}
func (s *snapshot) PageOfOrgs(_ context.Context, parent, after string, limit int) ([]view.OrgRow, error) {
	return selected(s, "orgs", func(r view.OrgRow) bool { return fits(parent, r.Parent) && r.ID > after }, byOrg, limit)
}
func (s *snapshot) PageOfTiers(_ context.Context, after string, limit int) ([]view.TierRow, error) {
	return selected(s, "tiers", func(r view.TierRow) bool { return r.Key > after }, byTier, limit)
}
func (s *snapshot) PageOfTenants(_ context.Context, f view.TenantFilter, after string, limit int) ([]view.TenantRow, error) {
	return selected(s, "tenants", func(r view.TenantRow) bool {
		return fits(f.Org, r.Org) && fits(f.Plane, r.Plane) && fits(f.Phase, r.Phase) && fits(f.Slug, r.Slug) && r.ID > after
	}, byTenant, limit)
}
func (s *snapshot) PageOfPlanes(_ context.Context, region, after string, limit int) ([]view.PlaneRow, error) {
	return selected(s, "planes", func(r view.PlaneRow) bool { return fits(region, r.Region) && r.ID > after }, byPlane, limit)
}
func (s *snapshot) PageOfSagas(_ context.Context, f view.SagaFilter, after view.SagaPlace, limit int) ([]view.SagaRow, error) {
	return selected(s, "sagas", func(r view.SagaRow) bool {
		return fits(f.Tenant, r.Tenant) && fits(f.State, r.State) && fits(f.Name, r.Name) &&
			(after.ID == "" || bySaga(r, view.SagaRow{ID: after.ID, StartedAt: after.StartedAt}) > 0)
	}, bySaga, limit)
}

func fits(want, is string) bool        { return want == "" || want == is }
func byOrg(a, b view.OrgRow) int       { return cmp.Compare(a.ID, b.ID) }
func byTier(a, b view.TierRow) int     { return cmp.Compare(a.Key, b.Key) }
func byTenant(a, b view.TenantRow) int { return cmp.Compare(a.ID, b.ID) }
func byPlane(a, b view.PlaneRow) int   { return cmp.Compare(a.ID, b.ID) }
func bySaga(a, b view.SagaRow) int {
	return cmp.Or(b.StartedAt.Compare(a.StartedAt), cmp.Compare(b.ID, a.ID))
}

// Subscribe implements projections.Source. While the log is held, nothing is delivered.
func (l *tailedLog) Subscribe(ctx context.Context, after uint64, fromStart bool) iter.Seq2[domain.Delivery, error] {
	return func(yield func(domain.Delivery, error) bool) {
		told := false
		for ctx.Err() == nil {
			grown, held := l.state()
			if !held {
				for _, e := range l.All() {
					if !fromStart && e.Commit <= after {
						continue
					}
					if !yield(domain.Delivery{Event: e, Commit: e.Commit}, nil) {
						return
					}
					after, fromStart = e.Commit, false
				}
				if !told && !yield(domain.Delivery{Kind: domain.CaughtUp}, nil) {
					return
				}
				told = true
			}
			select {
			case <-grown:
			case <-ctx.Done():
			}
		}
	}
}

// ReadStream implements projections.Streams.
func (l *tailedLog) ReadStream(ctx context.Context, stream string, from int64) iter.Seq2[domain.Recorded, error] {
	return l.Read(ctx, stream, from)
}
