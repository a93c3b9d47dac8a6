package projections_test

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/projections"
	"github.com/tenure-dev/tenure/projections/projectionstest"
)

// run starts a group in a synctest bubble; the function that it gives ends it.
func run(log *projectionstest.Log, store projections.Store, owner string, change func(*projections.Options)) (*projections.Group, func()) {
	o := projections.Options{Owner: owner, Tables: []*projections.Table{projectionstest.Shops(1, false), projectionstest.Orders()}, Registry: log.Registry, Log: log.Epoch,
		Source: log, Streams: log, Store: store, Clock: projectionstest.Real{}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if change != nil {
		change(&o)
	}
	g := projections.NewGroup(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); g.Run(ctx) }()
	return g, func() { cancel(); <-done }
}

func newLog() *projectionstest.Log {
	return projectionstest.NewLog(domain.NewRegistry(projectionstest.Catalog))
}

// A store whose steps of one process hang from some moment on, as if the process had been stopped.
func hanging(store projections.Store, hang <-chan struct{}, until <-chan struct{}) projections.Store {
	return stopped{store, hang, until}
}

type stopped struct {
	projections.Store
	hang, until <-chan struct{}
}

func (s stopped) stall() {
	select {
	case <-s.hang:
		<-s.until
	default:
	}
}

func (s stopped) Renew(ctx context.Context, l projections.Lease) (projections.Lease, error) {
	s.stall()
	return s.Store.Renew(ctx, l)
}

func (s stopped) Commit(ctx context.Context, c projections.Commit) ([]projections.Parked, error) {
	s.stall()
	return s.Store.Commit(ctx, c)
}

func (s stopped) Release(ctx context.Context, l projections.Lease) error {
	s.stall()
	return s.Store.Release(ctx, l)
}

func TestALeaseIsTakenOverWhenItHasNotBeenRenewedForItsExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store := newLog(), projectionstest.NewMemory()
		hang, until := make(chan struct{}), make(chan struct{})
		first, stopFirst := run(log, hanging(store, hang, until), "one", nil)
		synctest.Wait()
		second, stopSecond := run(log, store, "two", nil)
		defer stopSecond()
		defer stopFirst()
		time.Sleep(time.Minute) // in the bubble's time: six expiries
		if !first.Status().Owner || second.Status().Owner {
			t.Fatal("a lease that is renewed was taken over")
		}
		close(hang)
		began := time.Now()
		for !second.Status().Owner {
			time.Sleep(time.Second)
		}
		if took := time.Since(began); took < 7*time.Second || took > 15*time.Second {
			t.Errorf("the take-over took %v, the expiry is 10 s", took)
		}
		projectionstest.Populate(log, 1, 50)
		if err := second.WaitFor(t.Context(), log.Head(), time.Second); err != nil {
			t.Error(err)
		}
		close(until)
		synctest.Wait()
		time.Sleep(time.Second)
		if first.Status().Owner || !second.Status().Owner {
			t.Error("the first goes on under a lease that it has lost")
		}
	})
}

func TestALeaseThatIsReleasedIsTakenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store := newLog(), projectionstest.NewMemory()
		_, stopFirst := run(log, store, "one", nil)
		synctest.Wait()
		second, stopSecond := run(log, store, "two", nil)
		defer stopSecond()
		synctest.Wait()
		began := time.Now()
		stopFirst()
		synctest.Wait()
		if !second.Status().Owner || time.Since(began) > 0 {
			t.Errorf("after %v the second is %+v", time.Since(began), second.Status())
		}
	})
}

func TestAWaitPastItsBoundIsLagging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		g, stop := run(log, projectionstest.NewMemory(), "one", nil)
		defer stop()
		began := time.Now()
		err := g.WaitFor(t.Context(), 0, 2*time.Second)
		if domain.CodeOf(err) != domain.CodeLagging || time.Since(began) != 2*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if _, begun := g.Position(); begun {
			t.Error("there is a position before the first event")
		}
		log.Append("shop-a", projectionstest.Opened{})
		if err := g.WaitFor(t.Context(), 0, 2*time.Second); err != nil { // position 0 is a position like any other
			t.Error(err)
		}
	})
}

// However the log is cut into batches, whatever the cache holds and wherever the store fails, the rows are the pure fold.
func TestProjectingTwiceEqualsOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed, batch, cached := rapid.Uint64().Draw(rt, "seed"), rapid.IntRange(1, 40).Draw(rt, "batch"), rapid.IntRange(1, 20).Draw(rt, "cached")
		cuts := rapid.SliceOfN(rapid.IntRange(0, 25), 1, 5).Draw(rt, "cuts")
		synctest.Test(t, func(*testing.T) {
			log, store := newLog(), projectionstest.NewMemory()
			for i, cut := range cuts {
				projectionstest.Populate(log, seed+uint64(i), 40)
				at, _ := projectionstest.FailOnce(cut)
				g, stop := run(log, projectionstest.Faults{Store: store, At: at}, "one", func(o *projections.Options) { o.Batch, o.Cache = batch, cached })
				if err := g.WaitFor(context.Background(), log.Head(), time.Hour); err != nil {
					rt.Error(err)
				}
				stop()
			}
			for _, table := range []*projections.Table{projectionstest.Shops(1, false), projectionstest.Orders()} {
				rows, at := store.Snapshot("live", table)
				want := projectionstest.Fold(log, table, at)
				if len(want) != len(rows) {
					rt.Errorf("%s has %d rows, not %d", table.Name, len(rows), len(want))
				}
				for k := range want {
					if want[k] != rows[k] {
						rt.Errorf("%s %s: %q, want %q", table.Name, k, rows[k], want[k])
					}
				}
			}
		})
	})
}
