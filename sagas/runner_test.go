package sagas_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/sagas"
	"github.com/tenure-dev/tenure/sagas/sagastest"
)

// bench is one runner over ports that a test scripts.
type bench struct {
	*world
	mu     sync.Mutex
	asks   []sagas.Ask
	answer func(ask sagas.Ask) (sagas.Outcome, error) // nil leaves it to the world
	planes func(string) (time.Time, bool)
}

func newBench() *bench { return &bench{world: newWorld(script{seed: "0"}, &chaos{})} }

func (b *bench) Execute(ctx context.Context, ask sagas.Ask) (sagas.Outcome, error) {
	b.mu.Lock()
	b.asks = append(b.asks, ask)
	answer := b.answer
	b.mu.Unlock()
	if answer != nil {
		return answer(ask)
	}
	return b.world.Execute(ctx, ask)
}

func (b *bench) Resynced(plane string) (time.Time, bool) {
	if b.planes == nil {
		return time.Time{}, true
	}
	return b.planes(plane)
}

func (b *bench) sent() (kinds []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.asks {
		kinds = append(kinds, registry.NameOf(a.Command))
	}
	b.asks = nil
	return kinds
}

func (b *bench) config() sagas.Config {
	return sagas.Config{Definitions: []*sagas.Definition{onboarding.Definition(), suspension.Definition()}, Registry: registry,
		Epoch: domain.Epoch{Number: 1, ID: "e"}, Log: b.log, Source: b.log, Bus: b, Open: sagas.FoldedStore{Source: b.log}, Cursors: b.cursors,
		Snapshots: planes{"p1", "p2", "p3"}, Planes: b, Lease: &sagastest.Lease{}, Clock: clock{}}
}

// run starts a runner; stop ends it and gives its error.
func (b *bench) run(t *testing.T, change ...func(*sagas.Config)) (stop func() error) {
	t.Helper()
	c := b.config()
	for _, f := range change {
		f(&c)
	}
	r, err := sagas.NewRunner(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	synctest.Wait()
	return func() error { cancel(); return <-done }
}

func (b *bench) types(stream string) (all []string) {
	for _, e := range b.log.Stream(stream) {
		all = append(all, e.Type)
	}
	return all
}

func sagaOf(tenant string) string {
	name := "onboarding"
	if tenant[:3] == "sus" {
		name = "suspension"
	}
	return saga.Stream(name, domain.SagaIDFor(name, domain.DeriveUUID("start", tenant).String()))
}

func bubble(t *testing.T, f func(t *testing.T, b *bench)) {
	synctest.Test(t, func(t *testing.T) { f(t, newBench()) })
}

func TestNothingBeforeTheSwitchStartsASaga(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.request("sus0")
		stop := b.run(t)
		b.request("sus1")
		synctest.Wait()
		if got := b.types(sagaOf("sus0")); got != nil {
			t.Errorf("what came before the switch started a saga: %v", got)
		}
		if got := b.types(sagaOf("sus1")); len(got) == 0 {
			t.Error("what came after it did not")
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if got, want := b.types("sagadefinition-suspension"), []string{"saga.definition.enabled"}; !slices.Equal(got, want) {
			t.Errorf("switched on %v", got)
		}
	})
}

func TestEveryFactAndCommandNamesItsCause(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		stop := b.run(t)
		b.request("ten0")
		synctest.Wait()
		_ = stop()
		facts := b.log.Stream(sagaOf("ten0"))
		start := b.log.Stream("tenant-ten0")[0]
		for _, f := range facts {
			if f.Correlation != start.EventID || f.Tenant != "ten0" || f.Org != "org_x" || f.Actor != "saga" || f.Epoch.ID != "e" || f.Causation == "" {
				t.Errorf("%s has metadata %+v", f.Type, f.Meta)
			}
		}
		if facts[0].Causation != start.EventID {
			t.Errorf("started by %s", facts[0].Causation)
		}
		asked := facts[slices.IndexFunc(facts, func(e domain.Recorded) bool { return e.Type == "saga.asked" })]
		ask := b.asks[0]
		if ask.Causation != asked.EventID || ask.Correlation != start.EventID || ask.Answers.Command != ask.CommandID ||
			ask.Answers.Saga != domain.SagaIDFor("onboarding", start.EventID) ||
			ask.CommandID != domain.SagaCommandID(ask.Answers.Saga, "reserve", "", false, 1) {
			t.Errorf("asked as %+v", ask)
		}
	})
}

func TestALostCursorSendsOnlyWhatStandsUnanswered(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		stop := b.run(t)
		for _, tenant := range []string{"ten0", "ten1", "sus0"} {
			b.request(tenant)
		}
		synctest.Wait()
		_ = stop()
		b.sent()
		before := len(b.log.All())
		b.cursors.Lose()
		stop = b.run(t)
		if got, want := b.sent(), []string{"plane.operate", "plane.operate", "plane.operate"}; !slices.Equal(got, want) {
			t.Errorf("sent %v", got)
		}
		if after := len(b.log.All()); after != before {
			t.Errorf("%d events were appended", after-before)
		}
		_ = stop()
	})
}

func TestTheCursorIsKept(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		stop := b.run(t)
		b.request("sus0")
		synctest.Wait()
		time.Sleep(2 * time.Second)
		all := b.log.All()
		c, found, _ := b.cursors.Load(t.Context())
		if !found || c.Commit != all[len(all)-1].Commit || c.Enabled["suspension"] != 1 {
			t.Errorf("cursor %+v, the log ends at %d", c, all[len(all)-1].Commit)
		}
		_ = stop()
	})
}

func TestUnavailableIsNoAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		tries := 0
		b.answer = func(a sagas.Ask) (sagas.Outcome, error) {
			if tries++; tries < 5 {
				return sagas.Outcome{}, domain.Unavailable("away", nil)
			}
			return b.world.Execute(t.Context(), a)
		}
		stop := b.run(t)
		b.request("sus0")
		time.Sleep(time.Minute)
		_ = stop()
		ids := map[string]bool{}
		for _, a := range b.asks {
			ids[a.CommandID] = true
		}
		if len(b.asks) != 5 || len(ids) != 1 {
			t.Errorf("asked %d times under %d ids", len(b.asks), len(ids))
		}
		if got, want := b.types(sagaOf("sus0")), []string{"saga.started", "saga.asked", "saga.accepted"}; !slices.Equal(got, want) {
			t.Error(got)
		}
	})
}

func TestSilenceCountsOnlyWhileThePlaneCanSpeak(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		var mu sync.Mutex
		var since time.Time
		b.planes = func(string) (time.Time, bool) {
			mu.Lock()
			defer mu.Unlock()
			return since, !since.IsZero()
		}
		stop := b.run(t)
		b.request("ten0")
		time.Sleep(24 * time.Hour)
		late := func() bool { return slices.Contains(b.types(sagaOf("ten0")), "saga.timed.out") }
		if late() {
			t.Error("timed out while its plane was away")
		}
		mu.Lock()
		since = time.Now()
		mu.Unlock()
		time.Sleep(within - time.Second)
		if late() {
			t.Error("timed out before the agent had its time")
		}
		time.Sleep(within)
		if !late() {
			t.Error("never timed out")
		}
		_ = stop()
	})
}

func TestANewerReleaseStopsTheRunner(t *testing.T) {
	for name, event := range map[string]domain.Proposed{
		"an unknown event":        {Type: "tenant.teleported", Data: []byte(`{}`), Meta: domain.Meta{Rev: 1}.Encode()},
		"a newer revision":        {Type: "tenant.requested", Data: []byte(`{}`), Meta: domain.Meta{Rev: 2}.Encode()},
		"a newer definition":      {Type: "saga.definition.enabled", Data: []byte(`{"name":"onboarding","version":2}`), Meta: domain.Meta{Rev: 1}.Encode()},
		"a definition it has not": {Type: "saga.definition.enabled", Data: []byte(`{"name":"moving","version":1}`), Meta: domain.Meta{Rev: 1}.Encode()},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bench) {
				stop := b.run(t)
				event.ID = "x"
				stream := "tenant-x"
				if event.Type == "saga.definition.enabled" {
					stream = "sagadefinition-x"
				}
				if err := b.log.Append(t.Context(), stream, domain.NoStream, []domain.Proposed{event}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if err := stop(); !errors.Is(err, domain.ErrNewer) {
					t.Errorf("went on: %v", err)
				}
			})
		})
	}
}

func TestASagaOfAnUnknownVersionIsLeftAlone(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		stop := b.run(t)
		b.request("sus0")
		synctest.Wait()
		_ = stop()
		b.sent()
		second := suspension
		second.Version = 2
		stop = b.run(t, func(c *sagas.Config) { c.Definitions[1] = second.Definition() })
		if got := b.sent(); got != nil {
			t.Errorf("sent %v", got)
		}
		b.request("sus1")
		synctest.Wait()
		if got := b.sent(); len(got) != 1 {
			t.Errorf("version 2 sent %v", got)
		}
		_ = stop()
	})
}

func TestAPanickingDefinitionHarmsNoOther(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		bad := onboarding
		bad.Steps = slices.Clone(bad.Steps)
		bad.Steps[1].Do = func(p plan) domain.Command { panic("oh") }
		stop := b.run(t, func(c *sagas.Config) { c.Definitions[0] = bad.Definition() })
		b.request("ten0")
		b.request("sus0")
		synctest.Wait()
		want := []string{"saga.started", "saga.chosen", "saga.learned", "saga.attention.needed"}
		if d := cmp.Diff(want, b.types(sagaOf("ten0"))); d != "" {
			t.Error(d)
		}
		if got := b.types(sagaOf("sus0")); len(got) != 3 {
			t.Error(got)
		}
		_ = stop()
	})
}

func TestAnOperatorsWishIsFollowed(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.answer = func(a sagas.Ask) (sagas.Outcome, error) {
			if len(b.asks) == 1 {
				return sagas.Outcome{}, &domain.Error{Code: domain.CodeInternal, Message: "broken"}
			}
			return b.world.Execute(t.Context(), a)
		}
		stop := b.run(t)
		b.request("sus0")
		synctest.Wait()
		b.operate(sagaOf("sus0"), false)
		synctest.Wait()
		want := []string{"saga.started", "saga.asked", "saga.refused", "saga.attention.needed", "saga.retried", "saga.attention.cleared", "saga.asked", "saga.accepted"}
		if d := cmp.Diff(want, b.types(sagaOf("sus0"))); d != "" {
			t.Error(d)
		}
		_ = stop()
	})
}

// TestEventsBeforeASagasBeginningAreNotForIt has an abort before the start event and behind a kept cursor: a runner that takes
// over with the saga already open must not let it hear that.
func TestEventsBeforeASagasBeginningAreNotForIt(t *testing.T) {
	for _, after := range []bool{false, true} {
		bubble(t, func(t *testing.T, b *bench) {
			stop := b.run(t)
			time.Sleep(2 * time.Second)
			_ = stop()
			kept, _, _ := b.cursors.Load(t.Context())
			m := domain.Meta{Rev: 1, Tenant: "ten0"}
			abort := func(id string) {
				if err := b.log.Append(t.Context(), "org-"+id, domain.NoStream, []domain.Proposed{{ID: id, Type: "tenant.offboarding", Data: []byte(`{}`), Meta: m.Encode()}}); err != nil {
					t.Fatal(err)
				}
			}
			abort("before")
			b.request("ten0")
			stop = b.run(t)
			synctest.Wait()
			_ = stop()
			_ = b.cursors.Save(t.Context(), kept)
			if after {
				abort("after")
			}
			stop = b.run(t)
			_ = stop()
			turned := slices.ContainsFunc(b.log.Stream(sagaOf("ten0")), func(e domain.Recorded) bool {
				return e.Type == "saga.turned" && strings.Contains(string(e.Data), saga.CodeAborted)
			})
			if turned != after {
				t.Errorf("aborted afterwards %v, but turned %v: %v", after, turned, b.types(sagaOf("ten0")))
			}
		})
	}
}

func TestFoldedStoreFindsWhatIsOpen(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		stop := b.run(t)
		b.request("sus0")
		b.request("ten0")
		synctest.Wait()
		_ = stop()
		rows, at, err := sagas.FoldedStore{Source: b.log}.Open(t.Context(), 0)
		all := b.log.All()
		slices.SortFunc(rows, func(a, b sagas.OpenSaga) int { return strings.Compare(a.Tenant, b.Tenant) }) // either may have begun first
		if err != nil || at != all[len(all)-1].Commit || len(rows) != 2 || rows[0].Tenant != "sus0" || !slices.Equal(rows[1].Hears, []string{"tenant:ten0"}) {
			t.Errorf("%+v at %d: %v", rows, at, err)
		}
	})
}

func TestNewRunnerNamesWhatIsMissing(t *testing.T) {
	b := newBench()
	for name, change := range map[string]func(*sagas.Config){
		"no log":          func(c *sagas.Config) { c.Log = nil },
		"twice":           func(c *sagas.Config) { c.Definitions = append(c.Definitions, c.Definitions[0]) },
		"unknown message": func(c *sagas.Config) { c.Registry = domain.NewRegistry() },
	} {
		c := b.config()
		change(&c)
		if _, err := sagas.NewRunner(c); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
}

// TestOnlyTheSameFactsShareAnID lets two runners at one revision of a saga say other things: the log, which takes the same ids
// twice without looking at what they carry, must not take them for one append.
func TestOnlyTheSameFactsShareAnID(t *testing.T) {
	third := func(quiet bool) (id string) {
		bubble(t, func(t *testing.T, b *bench) {
			b.answer = func(a sagas.Ask) (sagas.Outcome, error) {
				return sagas.Outcome{Stream: "plane-p1", Quiet: quiet, Events: []sagas.Event{{Event: operationDue{}}}}, nil
			}
			stop := b.run(t)
			b.request("sus0")
			synctest.Wait()
			_ = stop()
			id = b.log.Stream(sagaOf("sus0"))[2].EventID
		})
		return id
	}
	if third(true) == third(false) {
		t.Error("quiet and accepted share an id")
	}
	if again := third(true); third(true) != again {
		t.Error("the same fact has two ids")
	}
}

// deaf is a source that has not come to the sagas' own facts yet.
type deaf struct{ sagas.Source }

func (d deaf) Follow(ctx context.Context, after uint64) iter.Seq2[domain.Delivery, error] {
	return func(yield func(domain.Delivery, error) bool) {
		for e, err := range d.Source.Follow(ctx, after) {
			if _, _, own := saga.SplitStream(e.Event.Stream); !own && !yield(e, err) {
				return
			}
		}
	}
}

// TestTheCursorWaitsForASagasFirstFact keeps a start event ahead of the cursor until the runner has read what it led to: else
// a store of open sagas that is as late as the cursor would not know the saga, and nobody would.
func TestTheCursorWaitsForASagasFirstFact(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		stop := b.run(t, func(c *sagas.Config) { c.Source = deaf{b.log} })
		b.request("sus0")
		time.Sleep(3 * time.Second)
		_ = stop()
		c, _, _ := b.cursors.Load(t.Context())
		if start := b.log.Stream("tenant-sus0")[0].Commit; c.Commit >= start || len(b.types(sagaOf("sus0"))) != 3 {
			t.Errorf("cursor at %d, the start event at %d", c.Commit, start)
		}
	})
}
