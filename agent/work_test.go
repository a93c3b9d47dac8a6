package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/agent/drivers"
	"github.com/tenure-dev/tenure/agent/protocol/agentv1"
)

// begin is an agent in its first session, with a driver that does what do says.
func begin(t *testing.T, do func(context.Context, call) error) (*talk, *fakeDriver) {
	t.Helper()
	g, d := newGateway(t), &fakeDriver{do: do}
	a := start(t, config(t, g, d))
	t.Cleanup(a.stop)
	return g.open(), d
}

func wantSame[T any](t testing.TB, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

// gates lets each named operation end only when the test says so.
type gates map[string]chan struct{}

func newGates(ids ...string) gates {
	g := gates{}
	for _, id := range ids {
		g[id] = make(chan struct{})
	}
	return g
}

func (g gates) do(ctx context.Context, c call) error {
	if gate := g[c.Operation]; gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func TestEachKindHasItsCall(t *testing.T) {
	for k, want := range map[kind]call{
		provision:         {Method: "provision", Suspended: true, Version: 2},
		rotateCredentials: {Method: "provision", Suspended: true, Version: 2},
		suspend:           {Method: "suspend"},
		resume:            {Method: "resume"},
		resize:            {Method: "resize"},
		deprovision:       {Method: "deprovision"},
	} {
		t.Run(string(k), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				gateway, d := begin(t, nil)
				gateway.ask(op("op1", 51, k, tenant(tenA, causes(1, true), credential(2))))
				got := gateway.outcome()
				if summary(got) != "op1 done" || got.GetTenantId() != tenA || got.GetFinishedUnixMicros() == 0 {
					t.Errorf("outcome %v", got)
				}
				want.Operation, want.Tenant = "op1", tenA
				wantSame(t, "calls", []call{want}, d.calls)
			})
		})
	}
}

func TestOneTenantsOperationsRunInOrderAndOthersBeside(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGates("a1", "a2", "b1")
		k, d := begin(t, g.do)
		k.ask(op("a1", 51, provision, tenant(tenA)), op("a2", 52, resize, tenant(tenA)), op("b1", 53, provision, tenant(tenB)))
		synctest.Wait()
		ran := d.ran()
		slices.Sort(ran)
		wantSame(t, "with the driver", []string{"a1", "b1"}, ran)
		close(g["b1"])
		wantSame(t, "outcome", "b1 done", summary(k.outcome()))
		close(g["a1"])
		wantSame(t, "outcome", "a1 done", summary(k.outcome()))
		synctest.Wait()
		wantSame(t, "last", "a2", d.last().Operation)
		close(g["a2"])
		wantSame(t, "outcome", "a2 done", summary(k.outcome()))
	})
}

func TestTenantsBesideOneAnotherHaveALimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var now, most atomic.Int64
		k, _ := begin(t, func(ctx context.Context, _ call) error {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			pause(ctx, time.Second)
			return nil
		})
		for i := range int64(30) {
			k.ask(op(fmt.Sprintf("op%d", i), 51+i, provision, tenant(fmt.Sprintf("ten_%d", i))))
		}
		k.outcomes(30)
		wantSame(t, "at once", 8, most.Load())
	})
}

func TestASuspensionGoesBeforeWhatWaitsAndNeedsNoPlaceOfTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		busy := newGates("x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7")
		k, d := begin(t, busy.do)
		for i := range int64(8) {
			k.ask(op(fmt.Sprintf("x%d", i), 51+i, provision, tenant(fmt.Sprintf("ten_x%d", i))))
		}
		synctest.Wait()
		k.ask(op("a1", 60, provision, tenant(tenA)), op("a2", 61, resize, tenant(tenA)), op("a3", 62, suspend, tenant(tenA, causes(1, true))))
		wantSame(t, "outcome", "a3 done", summary(k.outcome()))
		for _, gate := range busy {
			close(gate)
		}
		k.outcomes(10)
		ran := slices.DeleteFunc(d.ran(), func(id string) bool { return id[0] == 'x' })
		wantSame(t, "order", []string{"a3", "a1", "a2"}, ran)
	})
}

func TestASuspensionRunsBetweenTheAttemptsOfAProvisioningWhichThenKeepsIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		first := true
		k, d := begin(t, func(_ context.Context, c call) error {
			if c.Operation == "a1" && first {
				first = false
				return &drivers.Error{Class: drivers.Transient, Code: "busy", Err: errors.New("x")}
			}
			return nil
		})
		k.ask(op("a1", 51, provision, tenant(tenA)), op("a2", 52, suspend, tenant(tenA, causes(1, true))))
		wantSame(t, "outcomes", []string{"a2 done", "a1 done"}, k.outcomes(2))
		if last := d.last(); last.Operation != "a1" || !last.Suspended {
			t.Errorf("the provisioning forgot the suspension: %v", last)
		}
	})
}

func TestTheLevelOfTheHighestCausesHolds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		k, d := begin(t, nil)
		k.ask(op("a1", 51, suspend, tenant(tenA, causes(4, true))))
		k.outcome()
		k.ask(op("a2", 52, provision, tenant(tenA, causes(3, false))))
		k.outcome()
		if !d.last().Suspended {
			t.Error("a change with older causes lets the tenant in")
		}
		k.ask(op("a3", 53, provision, tenant(tenA, causes(5, false))))
		k.outcome()
		if d.last().Suspended {
			t.Error("a change with newer causes leaves the tenant out")
		}
	})
}

func TestALevelOfATenantThatIsNotThereIsConfirmed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		k, d := begin(t, func(_ context.Context, c call) error {
			if c.Method == "suspend" {
				return &drivers.Error{Class: drivers.User, Code: "no_such_tenant", Err: drivers.ErrNoTenant}
			}
			return nil
		})
		k.ask(op("a1", 51, suspend, tenant(tenA, causes(1, true))))
		wantSame(t, "outcome", "a1 done", summary(k.outcome()))
		k.ask(op("a2", 52, provision, tenant(tenA)))
		k.outcome()
		if !d.last().Suspended {
			t.Error("the provisioning forgot the level")
		}
	})
}

func TestWhatIsStaleIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		begun, late *agentv1.Operation
		want        string
	}{
		"a lower change":              {op("x", 51, provision, tenant(tenA, change(2))), op("y", 52, resize, tenant(tenA, change(1))), "y superseded stale_change"},
		"the same change":             {op("x", 51, provision, tenant(tenA, change(2))), op("y", 52, deprovision, tenant(tenA, change(2))), "y done"},
		"lower causes":                {op("x", 51, suspend, tenant(tenA, causes(2, true))), op("y", 52, resume, tenant(tenA, causes(1, false))), "y superseded stale_causes"},
		"the same causes":             {op("x", 51, suspend, tenant(tenA, causes(2, true))), op("y", 52, suspend, tenant(tenA, causes(2, true))), "y done"},
		"a level below a change's":    {op("x", 51, provision, tenant(tenA, causes(2, true))), op("y", 52, resume, tenant(tenA, causes(1, false))), "y superseded stale_causes"},
		"a level of a lower change":   {op("x", 51, provision, tenant(tenA, change(2))), op("y", 52, suspend, tenant(tenA, change(1), causes(1, true))), "y done"},
		"a lower change of another's": {op("x", 51, provision, tenant(tenA, change(2))), op("y", 52, provision, tenant(tenB, change(1))), "y done"},
		"a change below a level's":    {op("x", 51, suspend, tenant(tenA, change(0), causes(9, true))), op("y", 52, provision, tenant(tenA, change(1))), "y done"},
		"a change after failed one":   {op("x", 51, resize, tenant(tenA, change(3))), op("y", 52, resize, tenant(tenA, change(2))), "y superseded stale_change"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				k, d := begin(t, nil)
				k.ask(c.begun)
				k.outcome()
				k.ask(c.late)
				wantSame(t, "outcome", c.want, summary(k.outcome()))
				if refused := c.want != "y done"; refused == slices.Contains(d.ran(), "y") {
					t.Errorf("with the driver: %v", d.ran())
				}
			})
		})
	}
}

func TestAnOperationDeliveredTwiceRunsOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGates("a1")
		k, d := begin(t, g.do)
		first := op("a1", 51, provision, tenant(tenA))
		k.ask(first, first)
		synctest.Wait()
		k.ask(first)
		synctest.Wait() // heard before it ends
		close(g["a1"])
		wantSame(t, "outcome", "a1 done", summary(k.outcome()))
		k.ask(first) // it has ended: the same outcome again
		wantSame(t, "outcome", "a1 done", summary(k.outcome()))
		k.record("a1")
		synctest.Wait()
		k.ask(first) // it is closed: nothing
		k.quiet()
		wantSame(t, "with the driver", []string{"a1"}, d.ran())
	})
}

func TestWithdrawn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGates("a1")
		k, d := begin(t, g.do)
		k.ask(op("a1", 51, provision, tenant(tenA)), op("a2", 52, resize, tenant(tenA)))
		synctest.Wait()
		k.withdraw("a1") // it has begun: it completes
		k.withdraw("a2") // it has not
		wantSame(t, "outcome", "a2 withdrawn", summary(k.outcome()))
		late := op("a3", 53, resize, tenant(tenA))
		late.Withdrawn = true // withdrawn before it came
		k.ask(late)
		wantSame(t, "outcome", "a3 withdrawn", summary(k.outcome()))
		k.withdraw("unknown")
		close(g["a1"])
		wantSame(t, "outcome", "a1 done", summary(k.outcome()))
		wantSame(t, "with the driver", []string{"a1"}, d.ran())
	})
}

func TestWhatALostJournalMayHaveBegunIsNotAnsweredWithdrawn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, d := newGateway(t), &fakeDriver{}
		g.number = 7 // earlier sessions that this journal knows nothing of
		a := start(t, config(t, g, d))
		k := g.open()
		old, young := op("old", 50, provision, tenant(tenA)), op("young", 51, provision, tenant(tenB))
		old.Withdrawn, young.Withdrawn = true, true
		k.ask(old, young)
		got := k.outcomes(2)
		slices.Sort(got)
		wantSame(t, "outcomes", []string{"old done", "young withdrawn"}, got)
		a.stop()
	})
}

func TestEachClassOfFailure(t *testing.T) {
	for name, c := range map[string]struct {
		err      error
		want     string
		attempts int32
	}{
		"user":           {&drivers.Error{Class: drivers.User, Code: "bad_name"}, "a1 failed FAILURE_CLASS_USER bad_name", 1},
		"quota":          {&drivers.Error{Class: drivers.Quota, Code: "disk_full"}, "a1 failed FAILURE_CLASS_QUOTA disk_full", 1},
		"bug":            {&drivers.Error{Class: drivers.Bug, Code: "odd"}, "a1 failed FAILURE_CLASS_BUG odd", 1},
		"transient":      {&drivers.Error{Class: drivers.Transient, Code: "busy"}, "a1 failed FAILURE_CLASS_TRANSIENT busy", 5},
		"plane down":     {&drivers.Error{Class: drivers.PlaneDown, Code: "away"}, "a1 failed FAILURE_CLASS_PLANE_DOWN away", 5},
		"bare":           {errors.New("password is hunter2"), "a1 failed FAILURE_CLASS_BUG unexpected", 1},
		"unknown class":  {&drivers.Error{Class: "weird", Code: "odd"}, "a1 failed FAILURE_CLASS_BUG odd", 1},
		"a code too far": {&drivers.Error{Class: drivers.User, Code: "No Such Role: bob"}, "a1 failed FAILURE_CLASS_USER unexpected", 1},
		"deadline":       {context.DeadlineExceeded, "a1 failed FAILURE_CLASS_TRANSIENT timeout", 5},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				k, d := begin(t, func(_ context.Context, call call) error {
					if call.Operation == "a1" {
						return c.err
					}
					return nil
				})
				k.ask(op("a1", 51, provision, tenant(tenA)), op("a2", 52, provision, tenant(tenA)))
				got := k.outcome()
				wantSame(t, "outcome", c.want, summary(got))
				wantSame(t, "attempts told", c.attempts, got.GetFailed().GetAttempts())
				wantSame(t, "what follows", "a2 done", summary(k.outcome()))
				wantSame(t, "calls", int(c.attempts)+1, len(d.ran()))
			})
		})
	}
}

func TestADriverThatPanicsOrHangsHasABoundedEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		k, _ := begin(t, func(ctx context.Context, c call) error {
			if c.Operation == "a1" {
				panic("a nil map")
			}
			<-ctx.Done()
			return ctx.Err()
		})
		k.ask(op("a1", 51, provision, tenant(tenA)))
		wantSame(t, "outcome", "a1 failed FAILURE_CLASS_BUG panic", summary(k.outcome()))
		k.record("a1")
		began := time.Now()
		k.ask(op("a2", 52, provision, tenant(tenA)))
		for m := range k.inbox { // longer than talk.outcome waits
			if m.GetOutcome() != nil {
				wantSame(t, "outcome", "a2 failed FAILURE_CLASS_TRANSIENT timeout", summary(m.GetOutcome()))
				break
			}
		}
		if took := time.Since(began); took < 75*time.Minute || took > 80*time.Minute {
			t.Errorf("five attempts of 15 minutes took %s", took)
		}
	})
}

func TestWhatKeepsFailingBlocksOnlyItsTenant(t *testing.T) {
	bubble(t, func(t *testing.T) {
		k, _ := begin(t, func(_ context.Context, c call) error {
			if c.Tenant != tenB {
				return &drivers.Error{Class: drivers.PlaneDown, Code: "away"}
			}
			return nil
		})
		for i := range int64(20) { // more than there are places
			k.ask(op(fmt.Sprintf("x%d", i), 51+i, provision, tenant(fmt.Sprintf("ten_x%d", i))))
		}
		k.ask(op("b1", 90, provision, tenant(tenB)))
		wantSame(t, "first outcome", "b1 done", summary(k.outcome()))
		k.outcomes(20)
	})
}

func TestWhatThisReleaseDoesNotUnderstandIsABug(t *testing.T) {
	bubble(t, func(t *testing.T) {
		k, d := begin(t, nil)
		unknown := op("a1", 51, provision, tenant(tenA))
		unknown.Kind = 99
		vague := op("a2", 52, provision, tenant(tenA))
		vague.Tenant.Isolation = 99
		passwordless := op("a3", 53, rotateCredentials, tenant(tenA, credential(0)))
		k.ask(unknown, vague, passwordless)
		wantSame(t, "outcomes", []string{
			"a1 failed FAILURE_CLASS_BUG unknown_kind",
			"a2 failed FAILURE_CLASS_BUG unknown_isolation",
			"a3 failed FAILURE_CLASS_BUG malformed_operation",
		}, k.outcomes(3))
		wantSame(t, "with the driver", nil, d.ran())
	})
}
