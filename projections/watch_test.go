package projections_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/projections"
	"github.com/tenure-dev/tenure/projections/projectionstest"
)

var watched = projections.Topic{Projection: "shops", Key: "a"}

// faulty fails or stalls commits as the test says from the moment it says.
type faulty struct {
	mu sync.Mutex
	do func(done bool) error
}

func (f *faulty) at(step string, done bool) error {
	f.mu.Lock()
	do := f.do
	f.mu.Unlock()
	if do == nil || step != "commit" {
		return nil
	}
	return do(done)
}

func (f *faulty) set(do func(done bool) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.do = do
}

// take reads n changes.
func take(t *testing.T, w *projections.Watcher, after uint64, n int) (got []string) {
	t.Helper()
	for c, err := range w.Changes(t.Context(), after) {
		if err != nil {
			t.Errorf("after %d changes: %v", len(got), err)
			return got
		}
		got = append(got, fmt.Sprint(c.Revision, " ", c.Row.(projectionstest.Shop).Name))
		if len(got) == n {
			break
		}
	}
	return got
}

func TestAWatchThatBeginsWhileABatchIsWrittenWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store, f := newLog(), projectionstest.NewMemory(), &faulty{}
		g, stop := run(log, projectionstest.Faults{Store: store, At: f.at}, "one", nil)
		defer stop()
		log.Append("shop-a", projectionstest.Opened{Name: "zero"})
		synctest.Wait()
		release := make(chan struct{})
		f.set(func(done bool) error {
			if !done {
				<-release
			}
			return nil
		})
		log.Append("shop-a", projectionstest.Renamed{Name: "one"})
		synctest.Wait() // it is folded, without anyone watching, and not written
		began := make(chan *projections.Watcher, 1)
		go func() {
			w, err := g.Watch(t.Context(), watched)
			if err != nil {
				t.Error(err)
			}
			began <- w
		}()
		synctest.Wait()
		if len(began) > 0 {
			t.Error("Watch returned, and nobody will tell of the change that is being written")
		}
		log.Append("shop-a", projectionstest.Renamed{Name: "two"})
		close(release)
		w := <-began
		_, at := store.Snapshot("live", projectionstest.Shops(1, false))
		if at < 117 {
			t.Errorf("the rows are at %d and lack what the watcher is not told of", at)
		}
		if diff := cmp.Diff([]string{"2 two"}, take(t, w, 117, 1)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestWatchersAreToldOnceOfACommitWhoseOutcomeWasUnknown(t *testing.T) {
	for _, fails := range []string{"before", "after"} {
		synctest.Test(t, func(t *testing.T) {
			log, store, f := newLog(), projectionstest.NewMemory(), &faulty{}
			g, stop := run(log, projectionstest.Faults{Store: store, At: f.at}, "one", nil)
			defer stop()
			log.Append("shop-a", projectionstest.Opened{Name: "zero"})
			synctest.Wait()
			w, err := g.Watch(t.Context(), watched)
			if err != nil {
				t.Fatal(err)
			}
			left := 2
			f.set(func(done bool) error {
				if done == (fails == "after") && left > 0 {
					left--
					return projectionstest.ErrCut
				}
				return nil
			})
			log.Append("shop-a", projectionstest.Renamed{Name: "one"})
			synctest.Wait()
			log.Append("shop-a", projectionstest.Renamed{Name: "two"})
			log.Append("shop-a", projectionstest.Cursed{}) // and of no change that was not made
			log.Append("shop-b", projectionstest.Opened{})
			if diff := cmp.Diff([]string{"1 one", "2 two"}, take(t, w, 0, 2)); diff != "" {
				t.Errorf("cut %s the commit: %s", fails, diff)
			}
			if err := g.WaitFor(t.Context(), log.Head(), time.Hour); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if p := g.Status().Parked; len(p) != 1 || p[0].Key != "a" || p[0].Revision != 3 {
				t.Errorf("cut %s the commit, parked are %+v", fails, p)
			}
		})
	}
}

func TestEveryTopicsLastChangeOfAnEventIsMarked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		g, stop := run(log, projectionstest.NewMemory(), "one", nil)
		defer stop()
		synctest.Wait()
		w, err := g.Watch(t.Context(), watched, projections.Topic{Projection: "orders", Key: "a/"}, projections.Topic{Projection: "orders", Key: "b/x"})
		if err != nil {
			t.Fatal(err)
		}
		log.Append("shop-a", projectionstest.Ordered{Order: "x"})
		log.Append("shop-b", projectionstest.Ordered{Order: "x"})
		log.Append("shop-b", projectionstest.Ordered{Order: "y"})
		log.Append("shop-a", projectionstest.Voided{Order: "x"})
		var got []string
		for c := range w.Changes(t.Context(), 0) {
			got = append(got, fmt.Sprint(c.Projection, " ", c.Key, " ", c.Gone, " ", c.Last))
			if c.Gone {
				break
			}
		}
		want := []string{"orders b/x false true", "shops a false false", "orders a/x true true"}
		if diff := cmp.Diff(want, got); diff != "" { // of position 0 nothing: that is where the reader said it stands
			t.Error(diff)
		}
	})
}

func TestAProcessThatDoesNotOwnTheGroupCannotWatchOrHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store := newLog(), projectionstest.NewMemory()
		_, stopFirst := run(log, store, "one", nil)
		defer stopFirst()
		synctest.Wait()
		second, stopSecond := run(log, store, "two", nil)
		defer stopSecond()
		synctest.Wait()
		if _, err := second.Watch(t.Context(), watched); domain.CodeOf(err) != domain.CodeUnavailable {
			t.Errorf("Watch gives %v", err)
		}
		if err := second.Heal(t.Context(), "shops", "a"); domain.CodeOf(err) != domain.CodeUnavailable {
			t.Errorf("Heal gives %v", err)
		}
	})
}

// counted counts the keys that are loaded.
type counted struct {
	projections.Store
	keys int
}

func (c *counted) Load(ctx context.Context, wanted []projections.Wanted) ([]projections.Loaded, error) {
	for _, w := range wanted {
		c.keys += len(w.Keys)
	}
	return c.Store.Load(ctx, wanted)
}

func TestRowsOfStreamsThatBeginInTheBatchAreNotLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store := newLog(), &counted{Store: projectionstest.NewMemory()}
		for i := range 100 {
			log.Append(fmt.Sprint("shop-", i), projectionstest.Ordered{Order: "x"})
			log.Append(fmt.Sprint("shop-", i), projectionstest.Paid{Order: "x"})
		}
		_, stop := run(log, store, "one", func(o *projections.Options) { o.Batch = 2 })
		defer stop()
		synctest.Wait()
		if store.keys > 0 {
			t.Errorf("%d keys were loaded that cannot be there", store.keys)
		}
	})
}
