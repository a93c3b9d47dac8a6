package integration

import (
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/tenure-dev/tenure/adapters/app"
	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/agent/drivers"
	"github.com/tenure-dev/tenure/agent/drivers/simulated"
)

// faulty is the whole system on a plane that does what it is told to.
type faulty struct {
	*system
	plane *simulated.Driver
	log   *eventstore.Log
	org   string

	mu     sync.Mutex
	script simulated.Script
}

func startFaulty(t *testing.T, dir string) *faulty {
	t.Helper()
	f := &faulty{}
	var err error
	f.plane, err = simulated.Open(simulated.Options{Dir: filepath.Join(dir, "agent"), Script: func(c simulated.Call) simulated.Answer {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.script == nil || c.Operation == "" {
			return simulated.Answer{}
		}
		return f.script(c)
	}})
	if err != nil {
		t.Fatal(err)
	}
	f.system = startSystem(t, app.DevConfig{Dir: dir, Driver: "simulated", Custom: f.plane})
	f.log = f.openLog(t)
	f.org = text(f.do(t, "registerOrg", object{"slug": "acme", "idempotencyKey": "acme"}), "org", "id")
	f.do(t, "publishTier", object{"tierKey": "tier", "cost": slots(5), "idempotencyKey": "tier"})
	return f
}

// plays sets what the plane does from now on.
func (f *faulty) plays(s simulated.Script) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.script = s
}

// request asks for a tenant and gives its id and its saga's.
func (f *faulty) request(t *testing.T, slug string) (id, saga string) {
	t.Helper()
	payload := f.do(t, "requestTenant", object{"orgId": f.org, "slug": slug, "tierKey": "tier", "idempotencyKey": slug})
	return text(payload, "tenant", "id"), text(payload, "saga", "id")
}

// undone checks that nothing is left of a tenant that could not be made.
func (f *faulty) undone(t *testing.T, id, code, step string) {
	t.Helper()
	got := f.tenantUntil(t, id, "rejected")
	if text(got, "rejection", "code") != code || step != "" && text(got, "rejection", "step") != step {
		t.Errorf("rejected as %v, want %s at %q", got["rejection"], code, step)
	}
	observed, err := f.plane.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(observed, func(o drivers.Observed) bool { return o.TenantID == id }) {
		t.Error("it is still on the plane")
	}
	f.consistent(t)
}

// consistent compares log, read models and plane.
func (f *faulty) consistent(t *testing.T) {
	t.Helper()
	w := f.shown(t, f.log)
	w.check(t)
	w.commandsRunOnce(t)
	if bad := f.plane.Conflicts(); len(bad) > 0 {
		t.Errorf("operations that ran twice to different effect: %v", bad)
	}
	if n := f.plane.Overlaps(); n > 0 {
		t.Errorf("%d operations ran beside another of their tenant", n)
	}
}

// stepOf is a saga's step.
func stepOf(t *testing.T, saga object, name string) object {
	t.Helper()
	for _, s := range saga["steps"].([]any) {
		if text(s, "name") == name {
			step, _ := s.(object)
			return step
		}
	}
	t.Fatalf("no step %s in %v", name, saga)
	return nil
}

func only(op simulated.Op, a simulated.Answer) simulated.Script {
	return func(c simulated.Call) simulated.Answer {
		if c.Op == op {
			return a
		}
		return simulated.Answer{}
	}
}

func TestFaultsOfAPlane(t *testing.T) {
	f := startFaulty(t, t.TempDir())

	for _, class := range []drivers.Class{drivers.User, drivers.Quota} {
		t.Run(string(class)+": the tenant is turned away and all of it undone", func(t *testing.T) {
			code := string(class) + "_refused"
			f.plays(only(simulated.Provision, simulated.Answer{Err: simulated.Fail(class, code)}))
			id, saga := f.request(t, "refused-"+string(class))
			last := f.sagaUntil(t, saga, "failed")
			if text(last, "code") != code || text(stepOf(t, last, "provision"), "lastError") == "" {
				t.Errorf("the saga: %v", last)
			}
			f.undone(t, id, code, "")
			f.plays(nil)
			again := f.do(t, "requestTenant", object{"orgId": f.org, "slug": "refused-" + string(class), "tierKey": "tier", "idempotencyKey": "again-" + string(class)})
			if state := f.settled(t, text(again, "saga", "id")); state != "succeeded" {
				t.Errorf("its slug is free, and its next onboarding has %s", state)
			}
			f.consistent(t)
		})
	}

	t.Run("refused after the effect: what was made is removed", func(t *testing.T) {
		f.plays(only(simulated.Provision, simulated.Answer{Err: simulated.Fail(drivers.User, "odd"), After: true}))
		id, saga := f.request(t, "half-made")
		f.settled(t, saga)
		f.undone(t, id, "odd", "")
	})

	for _, class := range []drivers.Class{drivers.Transient, drivers.PlaneDown} {
		t.Run(string(class)+": tried again, by the agent and then by the saga, until it is done", func(t *testing.T) {
			failures := 0
			f.plays(func(c simulated.Call) simulated.Answer { // locked by the rig
				if c.Op == simulated.Provision && failures < 6 {
					failures++
					return simulated.Answer{Err: simulated.Fail(class, "passing"), After: failures%2 == 0}
				}
				return simulated.Answer{}
			})
			id, saga := f.request(t, "passing-"+slugOf(class))
			seen := map[string]bool{}
			last, err := f.watch(t.Context(), "sagaChanged", saga, func(o object) bool {
				for _, s := range o["steps"].([]any) {
					seen[text(s, "name")+" "+text(s, "state")+" "+text(s, "lastError")] = true
				}
				return text(o, "state") != "running"
			})
			if err != nil || text(last, "state") != "succeeded" {
				t.Fatalf("%v, %v", last, err)
			}
			if attempt := field(stepOf(t, last, "provision"), "attempt"); attempt != 2.0 {
				t.Errorf("the step is at attempt %v", attempt)
			}
			if !seen["provision waiting passing"] {
				t.Errorf("the retry was not to be seen: %v", seen)
			}
			f.tenantUntil(t, id, "active")
			f.consistent(t)
		})
	}

	t.Run("bug: the saga asks for attention, and a retry heals it", func(t *testing.T) {
		f.plays(only(simulated.Provision, simulated.Answer{Err: simulated.Fail(drivers.Bug, "boom")}))
		id, saga := f.request(t, "buggy")
		last := f.sagaUntil(t, saga, "attention")
		if text(last, "step") != "provision" || text(stepOf(t, last, "provision"), "lastError") != "boom" {
			t.Errorf("the saga: %v", last)
		}
		f.tenantUntil(t, id, "provisioning")
		f.plays(nil)
		f.do(t, "retrySaga", object{"sagaId": saga, "reason": "mended", "idempotencyKey": "retry"})
		f.sagaUntil(t, saga, "succeeded")
		f.tenantUntil(t, id, "active")
		f.consistent(t)
	})

	t.Run("bug: a cancelled saga undoes what it has done", func(t *testing.T) {
		f.plays(only(simulated.Provision, simulated.Answer{Err: simulated.Fail(drivers.Bug, "boom"), After: true}))
		id, saga := f.request(t, "hopeless")
		f.sagaUntil(t, saga, "attention")
		f.do(t, "cancelSaga", object{"sagaId": saga, "reason": "no use", "idempotencyKey": "cancel"})
		f.sagaUntil(t, saga, "failed")
		f.undone(t, id, "cancelled", "")
	})

	t.Run("a suspension that fails does not count, is not cancelled, and is retried", func(t *testing.T) {
		f.plays(nil)
		id, saga := f.request(t, "suspended")
		f.settled(t, saga)
		f.plays(only(simulated.Suspend, simulated.Answer{Err: simulated.Fail(drivers.Bug, "boom")}))
		saga = text(f.do(t, "suspendTenant", object{"tenantId": id, "idempotencyKey": "suspend"}), "saga", "id")
		f.sagaUntil(t, saga, "attention")
		f.tenantUntil(t, id, "active")
		if problem := f.refused(t, "cancelSaga", object{"sagaId": saga, "idempotencyKey": "cancel-suspension"}); text(problem, "code") != "NOT_ALLOWED" {
			t.Errorf("cancelling it: %v", problem)
		}
		f.plays(nil)
		f.do(t, "retrySaga", object{"sagaId": saga, "idempotencyKey": "retry-suspension"})
		f.sagaUntil(t, saga, "succeeded")
		f.tenantUntil(t, id, "suspended")
		f.settled(t, text(f.do(t, "resumeTenant", object{"tenantId": id, "idempotencyKey": "resume"}), "saga", "id"))
		f.tenantUntil(t, id, "active")
		f.consistent(t)
	})

	t.Run("an offboarding that fails goes on, and is never turned back", func(t *testing.T) {
		f.plays(nil)
		id, saga := f.request(t, "leaving")
		f.settled(t, saga)
		f.plays(only(simulated.Deprovision, simulated.Answer{Err: simulated.Fail(drivers.Bug, "boom")}))
		saga = text(f.do(t, "offboardTenant", object{"tenantId": id, "idempotencyKey": "offboard"}), "saga", "id")
		f.sagaUntil(t, saga, "attention")
		if problem := f.refused(t, "cancelSaga", object{"sagaId": saga, "idempotencyKey": "cancel-offboarding"}); text(problem, "code") != "NOT_ALLOWED" {
			t.Errorf("cancelling it: %v", problem)
		}
		f.plays(nil)
		f.do(t, "retrySaga", object{"sagaId": saga, "idempotencyKey": "retry-offboarding"})
		f.sagaUntil(t, saga, "succeeded")
		f.tenantUntil(t, id, "deleted")
		f.consistent(t)
	})

	t.Run("late: the tenant waits; offboarded meanwhile, it is turned back", func(t *testing.T) {
		called, release := make(chan string, 8), make(chan struct{})
		f.plays(func(c simulated.Call) simulated.Answer {
			if c.Op == simulated.Provision {
				called <- c.Tenant.ID
				return simulated.Answer{Until: release}
			}
			return simulated.Answer{}
		})
		patient, first := f.request(t, "late")
		leaver, second := f.request(t, "late-and-leaving")
		<-called
		<-called
		for _, id := range []string{patient, leaver} {
			f.tenantUntil(t, id, "provisioning")
		}
		off := f.do(t, "offboardTenant", object{"tenantId": leaver, "idempotencyKey": "leave"})
		if text(off, "saga", "id") != second {
			t.Errorf("offboarding names %v, not the onboarding that it turns back", off["saga"])
		}
		f.sagaUntil(t, second, "undoing")
		if problem := f.refused(t, "offboardTenant", object{"tenantId": leaver, "idempotencyKey": "leave", "reason": "other"}); text(problem, "code") != "IDEMPOTENCY_KEY_REUSED" {
			t.Errorf("the key with other input: %v", problem)
		}
		close(release)
		f.sagaUntil(t, first, "succeeded")
		f.tenantUntil(t, patient, "active")
		f.sagaUntil(t, second, "failed")
		f.tenantUntil(t, leaver, "rejected", "deleted")
		f.consistent(t)
	})
}

func slugOf(c drivers.Class) string {
	if c == drivers.PlaneDown {
		return "plane-down"
	}
	return string(c)
}

// An answer that never comes: the operation runs again, under its id, when the agent has been started anew.
func TestAnOperationInFlightOutlivesARestart(t *testing.T) {
	dir := t.TempDir()
	f := startFaulty(t, dir)
	called := make(chan string, 1)
	f.plays(func(c simulated.Call) simulated.Answer {
		select {
		case called <- c.Operation:
		default:
		}
		return simulated.Answer{Never: true}
	})
	id, saga := f.request(t, "never")
	operation := <-called
	_ = f.log.Close(t.Context())
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	again := startFaulty(t, dir)
	again.sagaUntil(t, saga, "succeeded")
	again.tenantUntil(t, id, "active")
	again.consistent(t)
	if all, changing := again.plane.Runs(operation); all != 1 || changing != 1 {
		t.Errorf("the operation ran %d times and changed something %d times", all, changing)
	}
}
