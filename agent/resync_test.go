package agent

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/tenure-dev/tenure/agent/drivers"
	"github.com/tenure-dev/tenure/agent/protocol/agentv1"
)

func (g *testGateway) enters(number int64, id string) {
	g.epoch = &agentv1.Epoch{Number: number, Id: id}
}

func TestAfterAResyncUnknownTenantsAreReportedAndKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := &fakeDriver{present: []drivers.Observed{{TenantID: "ten_z"}, {TenantID: tenA}, {TenantID: "ten_gone"}, {TenantID: "ten_y"}}}
		g := newGateway(t)
		a := start(t, config(t, g, d))
		k := g.open(tenant(tenA), tenant(tenB), tenant("ten_gone", gone)) // B is not on the plane: only written down
		wantSame(t, "unclaimed", []string{"ten_y", "ten_z"}, k.next().GetUnclaimed().GetTenantIds())
		k.quiet()
		wantSame(t, "with the driver", nil, d.ran())
		k.hangUp()

		k = g.open() // the journal is there: no resync, and no second report
		k.quiet()
		k.hangUp()
		a.stop()
	})
}

func TestInventoryIsTakenAgainByEachProcess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, d := newGateway(t), &fakeDriver{}
		cfg := config(t, g, d)
		a := start(t, cfg)
		k := g.open()
		synctest.Wait()
		k.hangUp()
		a.stop()
		d.present = []drivers.Observed{{TenantID: "ten_z"}}
		a = start(t, cfg)
		k = g.open()
		wantSame(t, "unclaimed", []string{"ten_z"}, k.next().GetUnclaimed().GetTenantIds())
		k.hangUp()
		a.stop()
	})
}

func TestInAnotherEpochOutcomesDoNotCount(t *testing.T) {
	for name, epoch := range map[string]*agentv1.Epoch{
		"a higher one":            {Number: 2, Id: "two"},
		"the same number, forked": {Number: 1, Id: "other"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g, d := newGateway(t), &fakeDriver{}
				a := start(t, config(t, g, d))
				k := g.open()
				k.ask(op("a1", 51, provision, tenant(tenA, change(7))))
				k.outcome() // and it is never recorded
				k.hangUp()

				g.epoch = epoch
				k = g.open(tenant(tenA, change(3)))
				k.quiet() // the old outcome is not sent
				k.ask(op("a1", 20, provision, tenant(tenA, change(3))))
				wantSame(t, "outcome", "a1 done", summary(k.outcome()))
				wantSame(t, "with the driver", []string{"a1", "a1"}, d.ran())
				k.ask(op("a2", 21, resize, tenant(tenA, change(2)))) // the resync's number holds, not the old epoch's
				wantSame(t, "outcome", "a2 superseded stale_change", summary(k.outcome()))
				k.hangUp()
				a.stop()
			})
		})
	}
}

func TestWhatRunsWhenTheEpochChangesRunsAgainAfterwards(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gates := newGates("a1")
		g, d := newGateway(t), &fakeDriver{do: gates.do}
		a := start(t, config(t, g, d))
		k := g.open()
		k.ask(op("a1", 51, provision, tenant(tenA)))
		synctest.Wait()
		k.hangUp()

		g.enters(2, "two")
		k = g.open(tenant(tenA))
		k.ask(op("a1", 20, provision, tenant(tenA)))
		k.quiet()
		wantSame(t, "with the driver: one of a tenant at a time", []string{"a1"}, d.ran())
		close(gates["a1"])
		wantSame(t, "outcome", "a1 done", summary(k.outcome()))
		k.quiet()
		wantSame(t, "with the driver", []string{"a1", "a1"}, d.ran())
		k.hangUp()
		a.stop()
	})
}

func TestALowerEpochIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGateway(t)
		g.enters(3, "three")
		cfg := config(t, g, &fakeDriver{})
		a := start(t, cfg)
		g.open().hangUp()
		g.enters(2, "two")
		g.welcome(g.meet(), true)
		wantCode(t, a.failed(), CodeStale)

		if err := os.Remove(filepath.Join(cfg.Dir, journalFile)); err != nil { // the journal may be lost, this may not
			t.Fatal(err)
		}
		a = start(t, cfg)
		g.welcome(g.meet(), true)
		wantCode(t, a.failed(), CodeStale)
	})
}

func TestALostJournalIsResyncedInItsEpoch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, d := newGateway(t), &fakeDriver{}
		cfg := config(t, g, d)
		a := start(t, cfg)
		k := g.open()
		k.ask(op("a1", 51, provision, tenant(tenA, change(5), causes(2, true))))
		k.outcome()
		k.hangUp()
		a.stop()
		if err := os.Remove(filepath.Join(cfg.Dir, journalFile)); err != nil {
			t.Fatal(err)
		}

		a = start(t, cfg)
		k = g.open(tenant(tenA, change(5), causes(2, true)))
		k.ask(op("a1", 51, provision, tenant(tenA, change(5), causes(2, true)))) // its outcome was lost: it runs again
		k.ask(op("a2", 52, resize, tenant(tenA, change(4))))
		wantSame(t, "outcomes", []string{"a1 done", "a2 superseded stale_change"}, k.outcomes(2))
		k.hangUp()
		a.stop()
	})
}

func TestAResyncInTheSameEpochKeepsWhatTheJournalKnows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, d := newGateway(t), &fakeDriver{}
		a := start(t, config(t, g, d))
		k := g.open()
		k.ask(op("a1", 51, provision, tenant(tenA, change(5))))
		k.outcome()
		k.hangUp()

		k = g.welcome(g.meet(), true)
		k.resync(60, tenant(tenA, change(4)))
		if m := k.next(); m.GetResynced().GetAsOfRevision() != 60 {
			t.Fatalf("said %v", m)
		}
		wantSame(t, "outcome", "a1 done", summary(k.outcome()))
		k.ask(op("a2", 61, resize, tenant(tenA, change(4))))
		wantSame(t, "outcome", "a2 superseded stale_change", summary(k.outcome()))
		k.hangUp()
		a.stop()
	})
}

func TestAGatewayThatBreaksTheContractIsDialledAgain(t *testing.T) {
	for name, breach := range map[string]func(g *testGateway, k *talk){
		"no resync where one is needed": func(g *testGateway, k *talk) { g.welcome(k, false) },
		"an operation amid the resync": func(g *testGateway, k *talk) {
			g.welcome(k, true).ask(op("a1", 51, provision, tenant(tenA)))
		},
		"no epoch": func(g *testGateway, k *talk) {
			g.epoch = nil
			g.welcome(k, true)
			g.epoch = epoch1
		},
		"a higher session": func(g *testGateway, k *talk) {
			g.welcome(k, true).resync(50)
			k.send(&agentv1.GatewayMessage{Session: k.number + 1, Message: &agentv1.GatewayMessage_Recorded{}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g, d := newGateway(t), &fakeDriver{}
				a := start(t, config(t, g, d))
				k := g.meet()
				breach(g, k)
				again := g.open()
				again.ask(op("b1", 52, provision, tenant(tenB)))
				wantSame(t, "outcome", "b1 done", summary(again.outcome()))
				wantSame(t, "with the driver", []string{"b1"}, d.ran())
				k.hangUp()
				again.hangUp()
				a.stop()
			})
		})
	}
}

// Each crash point: the directory as kill -9 leaves it there, and what the next process says and does.
func TestACrashAtEveryPoint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gates := newGates("a1")
		g, d := newGateway(t), &fakeDriver{do: gates.do}
		cfg := config(t, g, d)
		a := start(t, cfg)
		k := g.open()
		asked := op("a1", 51, provision, tenant(tenA, change(3)))
		points := map[string]string{"before it came": crashed(t, cfg.Dir)}
		k.ask(asked)
		synctest.Wait()
		points["begun"] = crashed(t, cfg.Dir)
		close(gates["a1"])
		k.outcome()
		points["ended"] = crashed(t, cfg.Dir)
		k.record("a1")
		synctest.Wait()
		points["recorded"] = crashed(t, cfg.Dir)
		a.stop()
		k.hangUp()

		for point, want := range map[string]struct {
			outcome string // after asking again, except once recorded
			unasked bool   // the outcome comes by itself
			calls   int
		}{
			"before it came": {outcome: "a1 done", calls: 1},
			"begun":          {outcome: "a1 done", calls: 1},
			"ended":          {outcome: "a1 done", unasked: true},
			"recorded":       {},
		} {
			d.mu.Lock()
			d.calls = nil
			d.mu.Unlock()
			again := cfg
			again.Dir = points[point]
			a := start(t, again)
			k := g.open()
			if want.unasked {
				wantSame(t, point, want.outcome, summary(k.outcome()))
			} else {
				k.quiet()
			}
			if want.outcome != "" {
				k.ask(asked)
				wantSame(t, point, want.outcome, summary(k.outcome()))
			}
			wantSame(t, point+": calls", want.calls, len(d.ran()))
			k.ask(op("a2", 52, resize, tenant(tenA, change(2))))
			wantSame(t, point+": what is stale stays so", "a2 superseded stale_change", summary(k.outcome()))
			a.stop()
			k.hangUp()
		}
	})
}

func TestAnOperationThatAnEarlierProcessBeganIsNotAnsweredWithdrawn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gates := newGates("a1")
		g, d := newGateway(t), &fakeDriver{do: gates.do}
		cfg := config(t, g, d)
		a := start(t, cfg)
		k := g.open()
		asked := op("a1", 51, provision, tenant(tenA, change(3)))
		k.ask(asked)
		synctest.Wait()
		a.stop()

		a = start(t, cfg)
		k = g.open()
		withdrawnNow := op("a1", 51, provision, tenant(tenA, change(3)))
		withdrawnNow.Withdrawn = true // it may have changed something: it completes
		close(gates["a1"])
		k.ask(withdrawnNow)
		wantSame(t, "outcome", "a1 done", summary(k.outcome()))
		k.hangUp()
		a.stop()
	})
}
