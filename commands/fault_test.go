package commands_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/commands/commandstest"
	"github.com/tenure-dev/tenure/domain"
)

// inTurn gives one fault after the other to appends on boxes that exist, then none.
func inTurn(faults ...commandstest.Fault) func(string, int64, []domain.Proposed) commandstest.Fault {
	var n atomic.Int64
	return func(stream string, expected int64, _ []domain.Proposed) commandstest.Fault {
		if !strings.HasPrefix(stream, "box-") || expected < 0 {
			return commandstest.None
		}
		if i := int(n.Add(1)) - 1; i < len(faults) {
			return faults[i]
		}
		return commandstest.None
	}
}

func TestAppendsWithoutAnAnswerAreFoundOrMadeAgain(t *testing.T) {
	const before, after, conflict = commandstest.Before, commandstest.After, commandstest.Conflict
	for name, row := range map[string]struct {
		faults  []commandstest.Fault
		appends int
		code    domain.Code
		stored  int // events behind the box's making
	}{
		"not written":                {[]commandstest.Fault{before}, 2, "", 1},
		"written":                    {[]commandstest.Fault{after}, 1, "", 1},
		"not written, then written":  {[]commandstest.Fault{before, before, after}, 3, "", 1},
		"conflicts":                  {[]commandstest.Fault{conflict, conflict, conflict}, 4, "", 1},
		"conflict, then not written": {[]commandstest.Fault{conflict, before}, 3, "", 1},
		"never":                      {[]commandstest.Fault{before, before, before, before, before, before}, 5, domain.CodeUnavailable, 0},
	} {
		t.Run(name, func(t *testing.T) {
			log := &commandstest.Log{OnAppend: inTurn(row.faults...)}
			b := newBus(t, log)
			id := aBox(t, b, "a", 10)
			_, made := log.Calls()
			o, err := b.Execute(t.Context(), by("k", PutIn{ID: id, Units: 1}))
			if domain.CodeOf(err) != row.code || o.Repeated {
				t.Errorf("%+v, %v", o, err)
			}
			if _, n := log.Calls(); n-made != row.appends || len(log.Stream("box-"+id, 1)) != row.stored {
				t.Errorf("%d appends, %d events", n-made, len(log.Stream("box-"+id, 1)))
			}
			log.OnAppend = nil
			if again := do(t, b, by("k", PutIn{ID: id, Units: 1})); again.Repeated != (row.code == "") || again.Revision != 1 {
				t.Errorf("again: %+v", again)
			}
			checkLog(t, log)
		})
	}
}

func TestReadsWithoutAnAnswerAreMadeAgain(t *testing.T) {
	for failures, code := range map[int64]domain.Code{0: "", 4: "", 5: domain.CodeUnavailable} {
		log := &commandstest.Log{}
		id := aBox(t, newBus(t, log), "a", 10)
		var n atomic.Int64
		log.OnRead = func(string, int64) error {
			if n.Add(1) <= failures {
				return domain.Unavailable("the log is away", nil)
			}
			return nil
		}
		if _, err := newBus(t, log).Execute(t.Context(), by("k", PutIn{ID: id})); domain.CodeOf(err) != code {
			t.Errorf("%d failures: %v", failures, err)
		}
	}
	log := &commandstest.Log{OnRead: func(string, int64) error { return errors.New("broken") }}
	refused(t, newBus(t, log), by("k", Build{"s", 1}), domain.CodeInternal, "")
}

func TestTheCallersContextBoundsTheTries(t *testing.T) {
	log := &commandstest.Log{OnAppend: inTurn(commandstest.Before, commandstest.Before, commandstest.Before)}
	ctx, end := context.WithCancel(t.Context())
	b := newBus(t, log, func(c *commands.Config) {
		c.Pause = func(context.Context, int) error { end(); return nil }
	})
	id := aBox(t, b, "a", 10)
	if _, err := b.Execute(ctx, by("k", PutIn{ID: id})); domain.CodeOf(err) != domain.CodeUnavailable {
		t.Error(err)
	}
	if err := b.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := len(log.Stream("box-"+id, 0)); n != 1 {
		t.Errorf("tried on for nobody: %d events", n)
	}
}

func TestTheDefaultPauseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &commandstest.Log{OnAppend: func(string, int64, []domain.Proposed) commandstest.Fault { return commandstest.Before }}
		b := newBus(t, log, func(c *commands.Config) { c.Pause, c.Tries = nil, 8 })
		begin := time.Now()
		refused(t, b, by("k", Build{"s", 1}), domain.CodeUnavailable, "")
		if took := time.Since(begin); took < 500*time.Millisecond || took > 3*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestCloseCutsTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &commandstest.Log{OnAppend: func(string, int64, []domain.Proposed) commandstest.Fault { return commandstest.Before }}
		b := newBus(t, log, func(c *commands.Config) { c.Pause, c.Tries = nil, 1000 })
		var all sync.WaitGroup
		all.Go(func() { refused(t, b, by("k", Build{"s", 1}), domain.CodeUnavailable, "") })
		synctest.Wait()
		begin := time.Now()
		if err := b.Close(t.Context()); err != nil || time.Since(begin) > time.Second {
			t.Error(err, time.Since(begin))
		}
		all.Wait()
	})
}

// Whatever the log does to appends and reads, and however many Buses with caches of any size work on it: each command is
// carried out at most once, an answered one exactly as answered, and the state is that of the answered commands in the
// order of their revisions, give or take those whose outcome is unknown.
func TestAnyScheduleCarriesOutEachCommandOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		faults := rapid.SliceOfN(rapid.SampledFrom([]commandstest.Fault{commandstest.None, commandstest.None, commandstest.Before,
			commandstest.After, commandstest.Conflict}), 1, 40).Draw(rt, "faults")
		readFails := rapid.SliceOfN(rapid.Bool(), 1, 20).Draw(rt, "failing reads")
		tries := rapid.IntRange(1, 3).Draw(rt, "tries")
		size := rapid.SampledFrom([]int{1, 2, 100}).Draw(rt, "cache")
		log := &commandstest.Log{}
		n := rapid.IntRange(1, 3).Draw(rt, "buses")
		sole := n == 1 && rapid.Bool().Draw(rt, "sole")
		bus := buses(t, log, n, func(c *commands.Config) { c.Tries, c.CacheSize, c.Sole = tries, size, sole })
		var ids []string
		for i := range 3 {
			ids = append(ids, aBox(t, bus[0], fmt.Sprint("b", i), 6))
		}
		log.OnAppend = inTurn(faults...)
		var reads atomic.Int64
		log.OnRead = func(string, int64) error {
			if i := int(reads.Add(1)) - 1; i < len(readFails)*3 && readFails[i/3] && i%3 == 0 {
				return domain.Unavailable("the log is away", nil)
			}
			return nil
		}
		type step struct {
			call commands.Call
			bus  int
		}
		var steps []step
		for i := range rapid.IntRange(1, 40).Draw(rt, "calls") {
			id := rapid.SampledFrom(ids).Draw(rt, "box")
			var c domain.Command
			switch rapid.IntRange(0, 4).Draw(rt, "kind") {
			case 0:
				c = Close{id}
			case 1:
				c = Lend{ID: id, To: "x"}
			default:
				c = PutIn{ID: id, Units: rapid.IntRange(-1, 3).Draw(rt, "units"), Times: rapid.IntRange(1, 2).Draw(rt, "times")}
			}
			call := by(fmt.Sprint("k", rapid.IntRange(0, i).Draw(rt, "key")), c)
			if rapid.Bool().Draw(rt, "saga") {
				call = saga(i, c)
			}
			call.DryRun = rapid.IntRange(0, 5).Draw(rt, "dry") == 0
			steps = append(steps, step{call, rapid.IntRange(0, len(bus)-1).Draw(rt, "bus")})
		}
		outcomes, errs := make([]commands.Outcome, len(steps)), make([]error, len(steps))
		run := func(i int) { outcomes[i], errs[i] = bus[steps[i].bus].Execute(t.Context(), steps[i].call) }
		if rapid.Bool().Draw(rt, "at once") {
			together(len(steps), run)
		} else {
			for i := range steps {
				run(i)
			}
		}
		checkLog(t, log)
		log.OnRead, log.OnAppend = nil, nil
		for i, o := range outcomes {
			if err := errs[i]; err != nil {
				switch domain.CodeOf(err) {
				case domain.CodeUnavailable, domain.CodeQuotaExceeded, domain.CodeNotAllowed, domain.CodeKeyReused:
				default:
					rt.Errorf("call %d: %v", i, err)
				}
				continue
			}
			if o.DryRun || o.Quiet && len(o.Events) == 0 {
				continue
			}
			stored := log.Stream(o.Stream, o.Events[0].Revision)
			for j, e := range o.Events {
				if stored[j].EventID != e.EventID || stored[j].CommandID != o.CommandID || stored[j].Commit != e.Commit {
					rt.Errorf("call %d: answered %+v, stored %+v", i, e.Meta, stored[j].Meta)
				}
			}
			if last := stored[len(o.Events)-1]; last.Commit != o.Position.Commit || last.Revision != o.Revision {
				rt.Errorf("call %d: position %v at revision %d", i, o.Position, o.Revision)
			}
		}
		for _, id := range ids {
			units, shut := 0, false
			for _, e := range log.Stream("box-"+id, 0) {
				switch {
				case shut && e.Type != "box.noted":
					rt.Errorf("%s behind the end of %s", e.Type, id)
				case e.Type == "box.shut":
					shut = true
				}
			}
			for _, one := range bus {
				s, _, err := one.State(t.Context(), "box-"+id)
				if err != nil {
					rt.Fatal(err)
				}
				units = s.(boxState).Units
				fresh, _, _ := newBus(t, log).State(t.Context(), "box-"+id)
				if units != fresh.(boxState).Units || s.(boxState).Phase != fresh.(boxState).Phase {
					rt.Errorf("a cache differs from the log: %+v, %+v", s, fresh)
				}
			}
		}
	})
}
