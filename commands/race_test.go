package commands_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/commands/commandstest"
	"github.com/tenure-dev/tenure/domain"
)

// checkLog asserts what must hold of every history: revisions without gaps, and each command's events once, together.
func checkLog(t testing.TB, log *commandstest.Log) {
	t.Helper()
	next, last, ids := map[string]int64{}, map[string]string{}, map[string]bool{}
	seen := map[string]bool{}
	for _, e := range log.All() {
		if e.Revision != next[e.Stream] {
			t.Errorf("%s has revision %d where %d belongs", e.Stream, e.Revision, next[e.Stream])
		}
		next[e.Stream]++
		if ids[e.EventID] {
			t.Errorf("event id %s stands twice", e.EventID)
		}
		ids[e.EventID] = true
		command := e.Stream + e.CommandID
		if last[e.Stream] != command && seen[command] {
			t.Errorf("command %s was carried out twice on %s", e.CommandID, e.Stream)
		}
		seen[command], last[e.Stream] = true, command
	}
}

// together runs n functions at once and waits for all.
func together(n int, f func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { f(i) })
	}
	all.Wait()
}

func buses(t testing.TB, log commands.Log, n int, change ...func(*commands.Config)) []*commands.Bus {
	var all []*commands.Bus
	for range n {
		all = append(all, newBus(t, log, change...))
	}
	return all
}

func TestHundredCreatorsRace(t *testing.T) {
	for _, n := range []int{1, 2} {
		t.Run(fmt.Sprint(n, " buses"), func(t *testing.T) {
			log := &commandstest.Log{}
			bus := buses(t, log, n)
			var mu sync.Mutex
			ids, fresh := map[string]int{}, 0
			together(100, func(i int) {
				o, err := bus[i%n].Execute(t.Context(), by(fmt.Sprint("k", i/4), Make{Org: "org_a"}))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if ids[o.ID]++; !o.Repeated {
					fresh++
				}
			})
			if len(ids) != 25 || len(log.All()) != 25 || fresh < 25 || n == 1 && fresh != 25 {
				t.Errorf("%d ids, %d events, %d said to be first", len(ids), len(log.All()), fresh)
			}
			checkLog(t, log)
		})
	}
}

func TestOneKeyWithTwoInputsRaces(t *testing.T) {
	for round := range 50 {
		log := &commandstest.Log{}
		bus := buses(t, log, 2)
		id := aBox(t, bus[0], "a", 100)
		var errs [2]error
		together(2, func(i int) { _, errs[i] = bus[i].Execute(t.Context(), by("k", PutIn{ID: id, Units: i + 1})) })
		lost := 0
		for i, err := range errs {
			switch {
			case err == nil && strings.Contains(string(log.Stream("box-"+id, 1)[0].Data), fmt.Sprintf(`"units":%d`, i+1)):
			case domain.CodeOf(err) == domain.CodeKeyReused:
				lost++
			default:
				t.Errorf("round %d: call %d: %v", round, i, err)
			}
		}
		if lost != 1 {
			t.Fatalf("round %d: %v", round, errs)
		}
	}
}

// Another Bus may decide a saga's command at the same revision on other facts. The log takes the second append for a
// repetition of the first; the answer and the cache must be what stands in the log.
func TestAnAppendTakenForARepetitionAnswersWhatTheLogHas(t *testing.T) {
	log := &commandstest.Log{}
	other := newBus(t, log)
	once := false
	bus := newBus(t, hooked{log, func(stream string) {
		if !once && strings.HasPrefix(stream, "box-") {
			once = true
			do(t, other, by("s2", Build{"s", 2}))
			do(t, other, saga(1, Make{Org: "org_a", Shelf: "s"}))
		}
	}})
	do(t, other, by("s1", Build{"s", 1}))
	o := do(t, bus, saga(1, Make{Org: "org_a", Shelf: "s"}))
	if o.Events[0].Payload.(Made).Limit != 2 || o.State.(boxState).Limit != 2 {
		t.Errorf("%+v", o)
	}
	do(t, bus, by("p", PutIn{ID: o.ID, Units: 2}))
	checkLog(t, log)
}

func TestACommandThatAnotherBusWasFirstWithIsRepeated(t *testing.T) {
	log := &commandstest.Log{}
	other := newBus(t, log)
	id := aBox(t, other, "a", 10)
	once := false
	bus := newBus(t, hooked{log, func(string) {
		if !once {
			once = true
			do(t, other, by("1", PutIn{ID: id, Units: 1}))
			do(t, other, by("2", PutIn{ID: id, Units: 2}))
		}
	}})
	if o := do(t, bus, by("2", PutIn{ID: id, Units: 2})); !o.Repeated || o.Revision != 2 {
		t.Errorf("%+v", o)
	}
	checkLog(t, log)
}

// hooked calls a function before each append.
type hooked struct {
	*commandstest.Log
	before func(stream string)
}

func (h hooked) Append(ctx context.Context, stream string, expected int64, events []domain.Proposed) (commands.Appended, error) {
	h.before(stream)
	return h.Log.Append(ctx, stream, expected, events)
}

func TestSixtyFourRaceForOneStream(t *testing.T) {
	for _, n := range []int{1, 2, 3} {
		t.Run(fmt.Sprint(n, " buses"), func(t *testing.T) {
			log := &commandstest.Log{}
			bus := buses(t, log, n)
			id := aBox(t, bus[0], "a", 40)
			var mu sync.Mutex
			put, full := 0, 0
			together(64, func(i int) {
				_, err := bus[i%n].Execute(t.Context(), by(fmt.Sprint("k", i), PutIn{ID: id, Units: 1}))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					put++
				case domain.CodeOf(err) == domain.CodeQuotaExceeded:
					full++
				default:
					t.Error(err)
				}
			})
			if put != 40 || full != 24 || len(log.Stream("box-"+id, 0)) != 41 {
				t.Errorf("%d put, %d refused", put, full)
			}
			checkLog(t, log)
		})
	}
}

func TestRefusalsOfAStaleCacheAreDecidedAgain(t *testing.T) {
	log := &commandstest.Log{}
	b, other := newBus(t, log), newBus(t, log)
	id := aBox(t, b, "a", 5)
	do(t, b, by("1", PutIn{ID: id, Units: 5}))
	refused(t, b, by("2", PutIn{ID: id, Units: 1}), domain.CodeQuotaExceeded, "")
	do(t, other, by("3", PutIn{ID: id, Units: -5}))
	do(t, b, by("4", PutIn{ID: id, Units: 1}))

	t.Run("a wrong expected revision", func(t *testing.T) {
		do(t, other, by("5", PutIn{ID: id}))
		call := by("6", PutIn{ID: id})
		four := int64(4)
		call.Expected = &four
		do(t, b, call)
	})
	t.Run("a quiet one", func(t *testing.T) {
		do(t, other, by("7", Close{id}))
		if o := do(t, b, saga(1, Close{id})); !o.Quiet {
			t.Errorf("%+v", o)
		}
	})
	t.Run("a dry run", func(t *testing.T) {
		do(t, other, by("8", Close{id}))
		call := by("9", PutIn{ID: id})
		call.DryRun = true
		refused(t, b, call, domain.CodeNotAllowed, "")
	})
	checkLog(t, log)
}

// gate lets appends through one at a time, when the test says so.
type gate struct {
	*commandstest.Log
	enter chan struct{}
	leave chan struct{}
}

func (g gate) Append(ctx context.Context, stream string, expected int64, events []domain.Proposed) (commands.Appended, error) {
	if strings.HasPrefix(stream, "box-") && expected >= 0 {
		g.enter <- struct{}{}
		<-g.leave
	}
	return g.Log.Append(ctx, stream, expected, events)
}

func TestCallsQueueBehindEachOtherAndAreAppendedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &commandstest.Log{}
		g := gate{log, make(chan struct{}), make(chan struct{})}
		b := newBus(t, g)
		id := aBox(t, b, "a", 100)
		_, before := log.Calls()

		var all sync.WaitGroup
		outcomes := make([]commands.Outcome, 21)
		call := func(i int, c commands.Call) {
			all.Go(func() {
				o, err := b.Execute(t.Context(), c)
				if err != nil {
					t.Errorf("call %d: %v", i, err)
				}
				outcomes[i] = o
			})
		}
		call(0, by("k0", PutIn{ID: id, Units: 1}))
		<-g.enter // the first append is under way: the others queue
		for i := 1; i <= 19; i++ {
			call(i, by(fmt.Sprint("k", i), PutIn{ID: id, Units: 1}))
		}
		call(20, by("k19", PutIn{ID: id, Units: 1})) // the same command twice in one batch
		ended, end := context.WithCancel(t.Context())
		var gone error
		all.Go(func() { _, gone = b.Execute(ended, by("gone", PutIn{ID: id, Units: 50})) })
		synctest.Wait()
		end()
		synctest.Wait()
		if domain.CodeOf(gone) != domain.CodeUnavailable || !errors.Is(gone, context.Canceled) {
			t.Errorf("gave up while queued: %v", gone)
		}
		g.leave <- struct{}{}
		<-g.enter
		g.leave <- struct{}{}
		all.Wait()
		if _, after := log.Calls(); after-before != 2 {
			t.Errorf("%d appends", after-before)
		}
		var revisions []int64
		repeated := 0
		for _, o := range outcomes {
			if o.Repeated {
				repeated++
				continue
			}
			revisions = append(revisions, o.Revision)
			if want := log.Stream(o.Stream, o.Revision)[0]; o.Position.Commit != want.Commit || want.CommandID != o.CommandID {
				t.Errorf("revision %d: position %d, log has %d", o.Revision, o.Position.Commit, want.Commit)
			}
			if int64(o.State.(boxState).Units) != o.Revision {
				t.Errorf("revision %d: %+v", o.Revision, o.State)
			}
		}
		slices.Sort(revisions)
		if repeated != 1 || len(revisions) != 20 || revisions[0] != 1 || revisions[19] != 20 {
			t.Errorf("repeated %d, revisions %v", repeated, revisions)
		}
		checkLog(t, log)
		s, _, _ := b.State(t.Context(), "box-"+id)
		if s.(boxState).Units != 20 {
			t.Error("the call that was given up was carried out")
		}
	})
}

func TestABatchKeepsWithinTheLogsLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &commandstest.Log{}
		g := gate{log, make(chan struct{}), make(chan struct{})}
		b := newBus(t, g)
		id := aBox(t, b, "a", 100)
		sizes := []int{}
		log.OnAppend = func(_ string, _ int64, events []domain.Proposed) commandstest.Fault {
			size := 0
			for _, e := range events {
				size += len(e.Data) + len(e.Meta) + 2*len(e.Type)
			}
			if size > 1<<20 || len(events) > 64 {
				t.Errorf("%d events of %d bytes", len(events), size)
			}
			sizes = append(sizes, len(events))
			return commandstest.None
		}
		big := domain.Clear(strings.Repeat("x", 300<<10))
		var all sync.WaitGroup
		all.Go(func() { do(t, b, by("first", PutIn{ID: id})) })
		<-g.enter
		for i := range 5 {
			all.Go(func() { do(t, b, by(fmt.Sprint("big", i), PutIn{ID: id, Note: big})) })
		}
		all.Go(func() {
			refused(t, b, by("huge", PutIn{ID: id, Note: domain.Clear(strings.Repeat("x", 1<<20))}), domain.CodeTooLarge, "")
		})
		for i := range 70 {
			all.Go(func() { do(t, b, by(fmt.Sprint("small", i), PutIn{ID: id})) })
		}
		synctest.Wait()
		go func() {
			for {
				g.leave <- struct{}{}
				if _, open := <-g.enter; !open {
					return
				}
			}
		}()
		all.Wait()
		close(g.enter)
		if n := len(log.Stream("box-"+id, 0)); n != 77 || len(sizes) < 4 {
			t.Errorf("%d events, appends of %v", n, sizes)
		}
		checkLog(t, log)
	})
}

func TestALongQueueRefusesMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &commandstest.Log{}
		g := gate{log, make(chan struct{}), make(chan struct{})}
		b := newBus(t, g, func(c *commands.Config) { c.QueueLength = 2 })
		id := aBox(t, b, "a", 100)
		var all sync.WaitGroup
		all.Go(func() { do(t, b, by("1", PutIn{ID: id})) })
		<-g.enter
		all.Go(func() { do(t, b, by("2", PutIn{ID: id})) })
		all.Go(func() { do(t, b, by("3", PutIn{ID: id})) })
		synctest.Wait()
		refused(t, b, by("4", PutIn{ID: id}), domain.CodeUnavailable, "")
		g.leave <- struct{}{}
		<-g.enter
		g.leave <- struct{}{}
		all.Wait()
	})
}

func TestCloseAnswersWhatIsBegunAndRefusesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &commandstest.Log{}
		g := gate{log, make(chan struct{}), make(chan struct{})}
		b := newBus(t, g)
		id := aBox(t, b, "a", 100)
		var all sync.WaitGroup
		all.Go(func() { do(t, b, by("1", PutIn{ID: id})) })
		<-g.enter
		all.Go(func() { refused(t, b, by("2", PutIn{ID: id}), domain.CodeUnavailable, "") })
		synctest.Wait()
		all.Go(func() {
			if err := b.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		refused(t, b, by("3", PutIn{ID: id}), domain.CodeUnavailable, "")
		g.leave <- struct{}{}
		all.Wait()
		if n := len(log.Stream("box-"+id, 0)); n != 2 {
			t.Errorf("%d events", n)
		}
	})
}
