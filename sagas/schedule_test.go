package sagas_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/sagas"
	"github.com/tenure-dev/tenure/sagas/sagastest"
)

// schedule is one run of a world, and what of it rapid draws.
type schedule struct {
	seed    int
	tenants int
	kills   []int // writes that each life of a runner gets
	twice   bool
	lost    int // per cent of starts that have lost the cursor
	away    int // per cent of calls that are not answered
	runners int // at once
	aborts  bool
	planted func(*sagas.Ask)
}

func draw(t *rapid.T) schedule {
	return schedule{
		seed:    rapid.IntRange(0, 1<<30).Draw(t, "seed"),
		tenants: rapid.IntRange(1, 5).Draw(t, "tenants"),
		kills:   rapid.SliceOfN(rapid.IntRange(1, 12), 0, 12).Draw(t, "kills"),
		twice:   rapid.Bool().Draw(t, "twice"),
		lost:    rapid.SampledFrom([]int{0, 30, 100}).Draw(t, "lost"),
		away:    rapid.SampledFrom([]int{0, 10, 30}).Draw(t, "away"),
		runners: rapid.SampledFrom([]int{1, 1, 2}).Draw(t, "runners"),
		aborts:  rapid.IntRange(0, 3).Draw(t, "aborts") == 0,
	}
}

// run plays a schedule to its end and gives each tenant's outcome and the rules that were broken.
func (s schedule) run(t *testing.T) (ends map[string]string, broken []string) {
	synctest.Test(t, func(t *testing.T) {
		chance := rand.New(rand.NewPCG(uint64(s.seed), 1))
		w := newWorld(script{seed: fmt.Sprint(s.seed)}, &chaos{kills: s.kills, twice: s.twice, planted: s.planted,
			unanswer: func() int {
				if chance.IntN(100) < s.away {
					return 1 + chance.IntN(2)
				}
				return 0
			},
			forget: func() bool { return chance.IntN(100) < s.lost }})
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for _, p := range []string{"p1", "p2", "p3"} {
			all.Go(func() { w.agent(ctx, p) })
		}
		all.Go(func() { w.operator(ctx) })
		lease := sagas.Lease(&sagastest.Lease{})
		if s.runners > 1 {
			lease = sagastest.NoLease{} // both are active, which must do no harm
		}
		for range s.runners {
			all.Go(func() { w.live(ctx, lease) })
		}
		var tenants []string
		w.awaitEnabled(ctx)
		for n := range s.tenants {
			tenant := fmt.Sprintf("ten%d", n)
			if n%4 == 3 {
				tenant = fmt.Sprintf("sus%d", n)
			}
			tenants = append(tenants, tenant)
			w.request(tenant)
			if s.aborts {
				after := time.Duration(w.script.of("abort", tenant)) * 5 * time.Millisecond
				all.Go(func() {
					select {
					case <-time.After(after):
						w.offboard(tenant)
					case <-ctx.Done():
					}
				})
			}
		}
		w.awaitEnds(ctx, len(tenants))
		ends = w.judge(tenants)
		cancel()
		all.Wait()
		broken = w.broken
	})
	return ends, broken
}

// awaitEnabled waits until the runner has switched its definitions on: nothing before that starts a saga.
func (w *world) awaitEnabled(ctx context.Context) {
	w.await(ctx, "saga.definition.enabled", 2)
}

func (w *world) awaitEnds(ctx context.Context, n int) { w.await(ctx, "saga.ended", n) }

func (w *world) await(ctx context.Context, event string, n int) {
	ctx, cancel := context.WithTimeout(ctx, 3*365*24*time.Hour)
	defer cancel()
	for d := range w.log.Follow(ctx, 0) {
		if d.Kind == domain.DeliveredEvent && d.Event.Type == event {
			if n--; n == 0 {
				return
			}
		}
	}
	w.breaks("%d more %s never came", n, event)
}

// judge checks the rules that hold at the end of every schedule.
func (w *world) judge(tenants []string) map[string]string {
	for _, r := range w.log.All() {
		if name, _, ok := saga.SplitStream(r.Stream); ok && r.Type == "saga.ended" {
			if history := w.log.Stream(r.Stream); history[len(history)-1].EventID != r.EventID {
				w.breaks("a saga %s went on after its end", name)
			}
		}
	}
	w.mu.Lock()
	for op, n := range w.effects {
		if n != 1 {
			w.broken = append(w.broken, fmt.Sprintf("operation %s took effect %d times", op, n))
		}
	}
	w.mu.Unlock()
	ends := map[string]string{}
	made := map[string]map[string]int{} // tenant → kind → operations that took effect
	held := map[string]int{}
	for _, p := range []string{"p1", "p2", "p3"} {
		history := w.history("plane-" + p)
		l := w.ledger(history)
		if len(l.open) > 0 {
			w.breaks("plane %s has operations left: %v", p, l.open)
		}
		for tenant := range l.held {
			held[tenant]++
		}
		for _, e := range history {
			if done, ok := e.Event.(operationDone); ok {
				op := l.ops[done.Op]
				if made[op.Tenant] == nil {
					made[op.Tenant] = map[string]int{}
				}
				made[op.Tenant][op.Kind]++
			}
		}
	}
	for _, tenant := range tenants {
		var last []string
		for _, e := range w.history("tenant-" + tenant) {
			switch v := e.Event.(type) {
			case activated, confirmed:
				last = append(last, fmt.Sprintf("%T", v))
			case rejected:
				last = append(last, "rejected "+v.Code)
			}
		}
		if len(last) != 1 {
			w.breaks("%s ended %d times: %v", tenant, len(last), last)
		}
		ends[tenant] = strings.Join(last, ", ")
		m := made[tenant]
		switch {
		case m["provision"] > 1 || m["suspend"] > 1 || m["deprovision"] > 1:
			w.breaks("%s: a step took effect more than once: %v", tenant, m)
		case strings.HasPrefix(ends[tenant], "sagas_test.activated") && (held[tenant] != 1 || m["provision"] != 1 || m["deprovision"] != 0):
			w.breaks("%s is active, but holds %d and %v", tenant, held[tenant], m)
		case strings.HasPrefix(ends[tenant], "rejected") && (held[tenant] != 0 || m["deprovision"] < m["provision"]):
			w.breaks("%s is rejected, but holds %d and %v", tenant, held[tenant], m)
		}
	}
	return ends
}

// TestSchedules is bar 12: whatever is delivered twice, left unanswered or delayed for thirty days, and wherever runners
// die, each agent-side step takes effect once, all sagas end or compensate, and all schedules end alike.
func TestSchedules(t *testing.T) {
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		n++
		s := draw(r)
		ends, broken := s.run(t)
		calm := schedule{seed: s.seed, tenants: s.tenants, runners: 1}
		if len(broken) > 0 {
			r.Fatalf("%+v\n%s", s, strings.Join(broken, "\n"))
		}
		if s.aborts { // who aborts what, when, is a race: only the rules hold
			return
		}
		want, broken := calm.run(t)
		if len(broken) > 0 {
			r.Fatalf("without any fault: %s", strings.Join(broken, "\n"))
		}
		if d := cmp.Diff(want, ends); d != "" {
			r.Fatalf("%+v\nends (-calm +got):\n%s", s, d)
		}
	})
	t.Logf("%d schedules passed", n)
}

// TestKilledBetweenEveryTwoWrites kills the runner before and after each of its writes in turn.
func TestKilledBetweenEveryTwoWrites(t *testing.T) {
	for seed := range 4 {
		calm := schedule{seed: seed, tenants: 2, runners: 1}
		want, broken := calm.run(t)
		if len(broken) > 0 {
			t.Fatal(broken)
		}
		for n := 1; n <= 30; n++ {
			for _, kills := range [][]int{{n}, {1000, n}, {n, 1, 1, 1}} {
				s := calm
				s.kills = kills
				got, broken := s.run(t)
				if d := cmp.Diff(want, got); d != "" || len(broken) > 0 {
					t.Fatalf("%+v\n%s\n%s", s, strings.Join(broken, "\n"), d)
				}
			}
		}
	}
}

// TestAPlantedBugIsSeen breaks derived ids: each time an ask is sent it gets another command id. The property must see it.
func TestAPlantedBugIsSeen(t *testing.T) {
	for seed := range 50 {
		sent := 0
		var mu sync.Mutex
		s := schedule{seed: seed, tenants: 3, runners: 1, away: 30, planted: func(a *sagas.Ask) {
			mu.Lock()
			defer mu.Unlock()
			sent++
			a.CommandID = domain.DeriveUUID(a.CommandID, fmt.Sprint(sent)).String()
		}}
		if _, broken := s.run(t); len(broken) > 0 {
			t.Logf("seen with seed %d: %v", seed, broken)
			return
		}
	}
	t.Error("nobody noticed")
}
