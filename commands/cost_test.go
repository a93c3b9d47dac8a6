package commands_test

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/commands/commandstest"
	"github.com/tenure-dev/tenure/domain"
)

// The log calls that a command costs are part of the design: one append, and one read of what it appended.
func TestCallsToTheLogPerCommand(t *testing.T) {
	log := &commandstest.Log{}
	b := newBus(t, log)
	id := aBox(t, b, "a", 10)
	sole := newBus(t, log, func(c *commands.Config) { c.Sole = true })
	own := aBox(t, sole, "own", 10)
	cost := func(f func()) string {
		r, a := log.Calls()
		f()
		r2, a2 := log.Calls()
		return fmt.Sprintf("%d reads, %d appends", r2-r, a2-a)
	}
	for _, row := range []struct {
		name, want string
		do         func()
	}{
		{"a creator", "1 reads, 1 appends", func() { do(t, b, by("m", Make{})) }},
		{"a creator with a fact", "2 reads, 1 appends", func() { do(t, b, by("n", Make{Shelf: "shelf-a"})) }},
		{"a command on a cached stream", "1 reads, 1 appends", func() { do(t, b, by("p", PutIn{ID: id})) }},
		{"a repeat", "2 reads, 0 appends", func() { do(t, b, by("p", PutIn{ID: id})) }},
		{"a refusal", "1 reads, 0 appends", func() { refused(t, b, by("q", PutIn{ID: id, Units: 11}), domain.CodeQuotaExceeded, "") }},
		{"state", "1 reads, 0 appends", func() { _, _, _ = b.State(t.Context(), "box-"+id) }},
		{"a creator on the only Bus", "0 reads, 1 appends", func() { do(t, sole, by("u", Make{})) }},
		{"a command on the only Bus", "0 reads, 1 appends", func() { do(t, sole, by("v", PutIn{ID: own})) }},
		{"more events on the only Bus", "1 reads, 1 appends", func() { do(t, sole, by("w", PutIn{ID: own, Times: 2})) }},
		{"a repeat on the only Bus", "2 reads, 0 appends", func() { do(t, sole, by("v", PutIn{ID: own})) }},
		{"a command on an unknown stream", "2 reads, 1 appends", func() { do(t, newBus(t, log), by("r", PutIn{ID: id})) }},
	} {
		if got := cost(row.do); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
	}
}

func TestTheCacheLetsGoOfTheLongestUnused(t *testing.T) {
	synctest.Test(t, theCacheLetsGo)
}

func theCacheLetsGo(t *testing.T) {
	log := &commandstest.Log{}
	b := newBus(t, log, func(c *commands.Config) { c.CacheSize = 2 })
	put := func(key string) (reads int) {
		before, _ := log.Calls()
		do(t, b, by(fmt.Sprint(key, before), Build{key, 1}))
		synctest.Wait() // a call is answered before its fold is back in the cache
		after, _ := log.Calls()
		return after - before
	}
	for i, row := range []struct {
		key   string
		reads int
	}{{"aaa", 2}, {"bbb", 2}, {"aaa", 1}, {"ccc", 2}, {"aaa", 1}, {"bbb", 2}, {"ccc", 2}} {
		if got := put(row.key); got != row.reads {
			t.Errorf("%d (%s): %d reads, want %d", i, row.key, got, row.reads)
		}
	}
}

func TestOnlySoManySagaCommandsAreRemembered(t *testing.T) {
	log := &commandstest.Log{}
	b := newBus(t, log)
	id := aBox(t, b, "a", 10)
	for i := range 4097 {
		do(t, b, saga(i, PutIn{ID: id}))
	}
	if o := do(t, b, saga(1, PutIn{ID: id})); !o.Repeated {
		t.Error("forgotten too early")
	}
	if o := do(t, b, saga(0, PutIn{ID: id})); o.Repeated {
		t.Error("not forgotten")
	}
}

func BenchmarkExecute(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("hot/%d", writers), func(b *testing.B) {
			bus := newBus(b, &commandstest.Log{})
			do(b, bus, by("s", Build{"s", 1 << 30}))
			id := do(b, bus, by("m", Make{Shelf: "s"})).ID
			bench(b, writers, func(i int) { do(b, bus, by(fmt.Sprint("k", i), Lend{ID: id, To: "x"})) })
		})
		b.Run(fmt.Sprintf("many/%d", writers), func(b *testing.B) {
			bus := newBus(b, &commandstest.Log{})
			bench(b, writers, func(i int) { do(b, bus, by(fmt.Sprint("k", i), Make{Org: "org_a"})) })
		})
	}
}

func bench(b *testing.B, writers int, f func(int)) {
	defer runtime.GC()
	b.ReportAllocs()
	next := make(chan int, 1024)
	go func() {
		for i := range b.N {
			next <- i
		}
		close(next)
	}()
	b.ResetTimer()
	together(writers, func(int) {
		for i := range next {
			f(i)
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
}
