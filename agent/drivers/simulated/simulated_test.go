package simulated

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tenure-dev/tenure/agent/drivers"
	"github.com/tenure-dev/tenure/agent/drivers/driverstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, o Options) *Driver {
	t.Helper()
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func ten(id string) drivers.Tenant {
	return drivers.Tenant{ID: id, Isolation: drivers.Pool, CredentialVersion: 1}
}

func TestTheDriverConforms(t *testing.T) {
	for name, dir := range map[string]string{"in memory": "", "on disk": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			driverstest.Run(t, func(t *testing.T) drivers.Driver { return open(t, Options{Dir: dir}) })
		})
	}
}

func TestEveryClassCanBeScripted(t *testing.T) {
	for _, class := range []drivers.Class{drivers.User, drivers.Quota, drivers.Transient, drivers.PlaneDown, drivers.Bug} {
		d := open(t, Options{Script: FailFirst(2, Fail(class, "scripted"), Provision)})
		for attempt := 1; attempt <= 3; attempt++ {
			err := d.Provision(t.Context(), "op", ten("ten_a"), false)
			got, code := drivers.ClassOf(err)
			if attempt <= 2 && (got != class || code != "scripted") || attempt == 3 && err != nil {
				t.Errorf("%s, attempt %d: %v", class, attempt, err)
			}
		}
		if all, changing := d.Runs("op"); all != 1 || changing != 1 {
			t.Errorf("%s: ran %d times, changed %d", class, all, changing)
		}
	}
}

func TestAnErrorAfterTheEffectLeavesTheEffect(t *testing.T) {
	d := open(t, Options{Script: func(c Call) Answer {
		if c.Op == Provision && c.Attempt == 1 {
			return Answer{Err: Fail(drivers.Transient, "lost"), After: true}
		}
		return Answer{}
	}})
	if err := d.Provision(t.Context(), "op", ten("ten_a"), false); err == nil {
		t.Fatal("the first answer was not lost")
	}
	if got, _ := d.Observe(t.Context()); len(got) != 1 {
		t.Fatalf("observed %v", got)
	}
	if err := d.Provision(t.Context(), "op", ten("ten_a"), false); err != nil {
		t.Fatal(err)
	}
	if all, changing := d.Runs("op"); all != 2 || changing != 1 || len(d.Conflicts()) != 0 {
		t.Errorf("ran %d times, changed %d, conflicts %v", all, changing, d.Conflicts())
	}
}

func TestLatencyAndDelayAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, Options{Latency: time.Second, Script: func(Call) Answer { return Answer{Delay: time.Minute} }})
		start := time.Now()
		if err := d.Provision(t.Context(), "op", ten("ten_a"), false); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != time.Minute+time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestACallThatIsNeverAnsweredEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, Options{Script: func(Call) Answer { return Answer{Never: true} }})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := d.Provision(ctx, "op", ten("ten_a"), false); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if all, _ := d.Runs("op"); all != 0 {
			t.Error("it had an effect")
		}
	})
}

func TestAHeldCallGoesOnWhenReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		d := open(t, Options{Script: func(Call) Answer { return Answer{Until: gate} }})
		done := make(chan error, 1)
		go func() { done <- d.Provision(t.Context(), "op", ten("ten_a"), false) }()
		synctest.Wait()
		if all, _ := d.Runs("op"); all != 0 {
			t.Error("it did not wait")
		}
		go d.Suspend(t.Context(), "op_2", ten("ten_a"))
		synctest.Wait()
		close(gate)
		if err := <-done; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if d.Overlaps() != 1 {
			t.Errorf("%d overlaps", d.Overlaps())
		}
	})
}

func TestARestartMeetsTheSamePlane(t *testing.T) {
	dir := t.TempDir()
	d := open(t, Options{Dir: dir})
	a := ten("ten_a")
	a.Limits = map[string]int64{"connections": 5}
	for _, err := range []error{
		d.Provision(t.Context(), "1", a, false), d.Provision(t.Context(), "2", ten("ten_b"), false),
		d.Suspend(t.Context(), "3", a), d.Deprovision(t.Context(), "4", ten("ten_b")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want, _ := d.Observe(t.Context())
	// A killed process closes nothing, and may leave half a line.
	file := filepath.Join(dir, "simulated.jsonl")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(raw, `{"operation":"5","op":"prov`...), 0o600); err != nil {
		t.Fatal(err)
	}
	again := open(t, Options{Dir: dir})
	got, _ := again.Observe(t.Context())
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(d.Effects(), again.Effects()); diff != "" {
		t.Error(diff)
	}
	if err := again.Resume(t.Context(), "6", a); err != nil {
		t.Fatal(err)
	}
	if third := open(t, Options{Dir: dir}); len(third.Effects()) != 5 {
		t.Errorf("effects: %v", third.Effects())
	}
}

func TestAnOperationThatRanToDifferentEffectIsFound(t *testing.T) {
	d := open(t, Options{})
	_ = d.Provision(t.Context(), "op", ten("ten_a"), false)
	_ = d.Provision(t.Context(), "op", ten("ten_a"), false)
	if got := d.Conflicts(); len(got) != 0 {
		t.Errorf("a mere repeat: %v", got)
	}
	_ = d.Provision(t.Context(), "op", ten("ten_b"), false)
	if got := d.Conflicts(); len(got) != 1 || got[0] != "op" {
		t.Errorf("got %v", got)
	}
}

func TestAFullPlaneRefusesAsQuota(t *testing.T) {
	d := open(t, Options{Capacity: 1})
	for range 2 {
		if err := d.Provision(t.Context(), "1", ten("ten_a"), false); err != nil {
			t.Fatal(err)
		}
	}
	if class, code := drivers.ClassOf(d.Provision(t.Context(), "2", ten("ten_b"), false)); class != drivers.Quota || code != "plane_full" {
		t.Errorf("got %s %s", class, code)
	}
}

func TestAClosedDriverHasNoEffects(t *testing.T) {
	d := open(t, Options{})
	d.Close()
	if class, _ := drivers.ClassOf(d.Provision(t.Context(), "1", ten("ten_a"), false)); class != drivers.PlaneDown {
		t.Errorf("class %s", class)
	}
}
