package projectionstest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/projections"
)

// Backend is one implementation of projections.Store under test.
type Backend struct {
	// Open gives another process's store over the same data.
	Open func() projections.Store
	// Snapshot gives a table's rows, in canonical form by key, and the checkpoint, as of one moment.
	Snapshot func(t *projections.Table) (rows map[string]string, at int64)
	// Outage makes every connection fail and the next ones work again; nil if there is nothing to cut.
	Outage func()
}

// TestStore is the contract: a group over the store ends with the rows of the pure fold, whatever happens on the way.
func TestStore(t *testing.T, open func(t *testing.T) Backend) {
	for name, test := range map[string]func(*testing.T, Backend){
		"RowsAreTheFoldHoweverItIsBatched":        rowsAreTheFold,
		"ACrashBetweenAnyTwoStepsLosesNothing":    crashes,
		"AnOwnerThatWasPausedIsFenced":            fencing,
		"AWriteThatIsNotTheOwnersChangesNothing":  onlyTheOwner,
		"AFoldThatFailsParksItsKeyAlone":          parking,
		"ARowThatTheStoreRefusesParks":            refusing,
		"WhatOnlyANewerReleaseKnowsStopsTheOwner": newer,
		"ANewVersionIsServedWhenItIsWhole":        versions,
		"WatchersMissNothing":                     watching,
		"ASlowWatcherIsCutOffAndDelaysNobody":     slowWatcher,
		"AReaderCanWaitForAPositionInAnyProcess":  waiting,
		"AnotherLogsCheckpointIsRefused":          otherLog,
		"AnOutageOfTheStoreIsWaitedOut":           outage,
		"AnOutageOfTheLogIsWaitedOut":             sourceOutage,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// process is one process's group.
type process struct {
	*projections.Group
	stop func() error
}

func start(t *testing.T, b Backend, log *Log, change func(*projections.Options)) *process {
	t.Helper()
	o := projections.Options{Name: "live", Owner: "one", Tables: []*projections.Table{Shops(1, false), Orders()}, Registry: log.Registry, Log: log.Epoch,
		Source: log, Streams: log, Clock: NewFast(), Expiry: time.Hour, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if change != nil {
		change(&o)
	}
	if o.Store == nil {
		o.Store = b.Open()
	}
	g := projections.NewGroup(o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	p := &process{Group: g, stop: sync.OnceValue(func() error { cancel(); return <-ended })}
	t.Cleanup(func() { p.stop() })
	return p
}

func (p *process) reach(t *testing.T, commit uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := p.WaitFor(ctx, commit, 24*365*time.Hour); err != nil {
		t.Fatalf("position %d was not reached: %v; the group: %+v", commit, err, p.Status())
	}
}

// expect compares a table with the pure fold of the log up to the checkpoint.
func expect(t *testing.T, b Backend, log *Log, tables ...*projections.Table) {
	t.Helper()
	for _, table := range tables {
		rows, at := b.Snapshot(table)
		want := Fold(log, table, at)
		if diff := cmp.Diff(want, rows); diff != "" {
			t.Errorf("%s at %d is not the fold (-fold +stored):\n%s", table.Name, at, diff)
		}
	}
}

// Fold gives the rows of the pure fold up to a position.
func Fold(log *Log, table *projections.Table, upTo int64) map[string]string {
	s := table.NewState()
	for _, e := range log.Events() {
		if int64(e.Commit) > upTo {
			break
		}
		event, err := log.Registry.DecodeRecorded(e)
		if err != nil {
			s.Fail(e.Meta, err)
			continue
		}
		s.Apply(event, e.Meta)
	}
	rows := map[string]string{}
	for _, r := range s.Encoded() {
		rows[r.Key()] = string(r)
	}
	return rows
}

// Populate appends n events of a few shops' lives, the same for a seed.
func Populate(log *Log, seed uint64, n int) {
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range n {
		shop := fmt.Sprintf("shop-s%d", r.IntN(7))
		order := fmt.Sprintf("o%d", r.IntN(9))
		switch r.IntN(12) {
		case 0, 1:
			log.Append(shop, Opened{Name: fmt.Sprintf("Shop ‘%d’", i), Tags: []string{"a", "", `b"\,{}`}[:r.IntN(4)]})
		case 2:
			log.Append(shop, Renamed{Name: strings.Repeat("n", i%4)})
		case 3:
			log.Append(shop, Closed{})
		case 4:
			log.Append(shop, Paid{order})
		case 5:
			log.Append(shop, Voided{order})
		case 6:
			log.Append(shop, Noted{})
		case 7:
			log.Append(shop, Unheard{})
		default:
			log.Append(shop, Ordered{order, int64(i), time.Date(2026, 5, 1, 0, 0, 0, i*123_456_789, time.UTC)})
		}
	}
}

func rowsAreTheFold(t *testing.T, b Backend) {
	log := NewLog(domain.NewRegistry(Catalog))
	for round, batch := range []int{1, 1000, 3, 17} { // each round another process begins with an empty cache
		Populate(log, uint64(round), 120)
		p := start(t, b, log, func(o *projections.Options) { o.Batch, o.Cache = batch, 1+round*3 })
		p.reach(t, log.Head())
		expect(t, b, log, Shops(1, false), Orders())
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// crashes cuts the store at every point in turn, before a step and after it. Half the time the process dies of it.
func crashes(t *testing.T, b Backend) {
	log := NewLog(domain.NewRegistry(Catalog))
	for n := 0; ; n++ {
		at, reached := FailOnce(n)
		p := start(t, b, log, func(o *projections.Options) { o.Store, o.Batch = Faults{b.Open(), at}, 2 })
		Populate(log, uint64(n), 6)
		p.reach(t, log.Head())
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
		if expect(t, b, log, Shops(1, false), Orders()); t.Failed() {
			t.Fatalf("after the fault at point %d", n)
		}
		if !reached() {
			t.Logf("%d points", n)
			return
		}
	}
}

func fencing(t *testing.T, b Backend) {
	log, clock := NewLog(domain.NewRegistry(Catalog)), NewClock()
	Populate(log, 1, 30)
	paused, resume := make(chan struct{}), make(chan struct{})
	pause := sync.OnceFunc(func() { close(paused); <-resume })
	var armed sync.Mutex
	arm := false
	at := func(step string, done bool) error {
		armed.Lock()
		hit := arm && step == "commit" && !done
		armed.Unlock()
		if hit {
			pause()
		}
		return nil
	}
	first := start(t, b, log, func(o *projections.Options) { o.Store, o.Clock, o.Expiry = Faults{b.Open(), at}, clock, 10*time.Second })
	first.reach(t, log.Head())
	armed.Lock()
	arm = true
	armed.Unlock()
	Populate(log, 2, 20)
	<-paused
	second := start(t, b, log, func(o *projections.Options) { o.Owner, o.Clock, o.Expiry = "two", clock, 10*time.Second })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !second.Status().Owner && ctx.Err() == nil { // it must have looked at the lease before each second that passes
		clock.Advance(time.Second)
		yieldTo(ctx)
	}
	second.reach(t, log.Head())
	close(resume)
	Populate(log, 3, 20)
	second.reach(t, log.Head())
	for first.Status().Owner && ctx.Err() == nil {
		clock.Advance(10 * time.Millisecond) // too little for a lease to expire
		yieldTo(ctx)
	}
	expect(t, b, log, Shops(1, false), Orders())
	if s := second.Status(); !s.Owner || s.Err != nil {
		t.Errorf("the second owner lost the group: %+v", s)
	}
	second.stop()
	for !first.Status().Owner && ctx.Err() == nil { // and when the second has gone, the first takes over
		clock.Advance(time.Second)
		yieldTo(ctx)
	}
	Populate(log, 4, 20)
	first.reach(t, log.Head())
	expect(t, b, log, Shops(1, false), Orders())
}

func onlyTheOwner(t *testing.T, b Backend) {
	ctx, s, table := t.Context(), b.Open(), Shops(1, false)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	seen, err := s.Lease(ctx, "live")
	must(err)
	old, err := s.Acquire(ctx, seen, "one")
	must(err)
	unbuilt, err := s.Prepare(ctx, old, []*projections.Table{table})
	must(err)
	must(s.Serve(ctx, old, unbuilt, nil, projections.Mark{Commit: projections.Nowhere}))
	row, err := table.Encode(Shop{ID: "a", Name: "A"})
	must(err)
	write := func(l projections.Lease, from, to int64) error {
		_, err := s.Commit(ctx, projections.Commit{Lease: l, From: from, To: projections.Mark{Commit: to, Log: domain.Epoch{Number: 1, ID: "test"}},
			Changes: []projections.Changes{{Table: table, Upserts: []projections.Upsert{{Row: row}}}}})
		return err
	}
	must(write(old, projections.Nowhere, 5))
	seen, err = s.Renew(ctx, old)
	must(err)
	now, err := s.Acquire(ctx, seen, "two")
	must(err)
	row, err = table.Encode(Shop{ID: "a", Name: "changed"})
	must(err)
	refusals := map[string]error{
		"a commit under the old lease":        write(old, 5, 6),
		"a commit from an earlier checkpoint": write(now, 4, 6),
		"a commit from a later checkpoint":    write(now, 6, 7),
		"giving up the old lease":             s.Release(ctx, old),
		"serving at another checkpoint":       s.Serve(ctx, now, nil, nil, projections.Mark{Commit: 4}),
		"serving under the old lease":         s.Serve(ctx, old, nil, nil, projections.Mark{Commit: 5}),
	}
	_, refusals["taking a lease that is not as it was seen"] = s.Acquire(ctx, seen, "three")
	_, refusals["renewing the old lease"] = s.Renew(ctx, old)
	_, refusals["preparing under the old lease"] = s.Prepare(ctx, old, nil)
	_, refusals["filling under the old lease"] = s.Fill(ctx, old, table, []projections.Upsert{{Row: row}})
	_, _, refusals["reading the checkpoint under the old lease"] = s.Mark(ctx, old)
	for name, err := range refusals {
		if !errors.Is(err, projections.ErrFenced) {
			t.Errorf("%s gives %v", name, err)
		}
	}
	rows, at := b.Snapshot(table)
	if shop, err := table.Decode(projections.Encoded(rows["a"]).Fields()); err != nil || shop.(Shop).Name != "A" || at != 5 {
		t.Errorf("the row is %+v (%v) at %d", shop, err, at)
	}
	must(write(now, 5, 6))
	if m, _, err := s.Mark(ctx, now); err != nil || m != (projections.Mark{Commit: 6, Log: domain.Epoch{Number: 1, ID: "test"}}) {
		t.Errorf("the checkpoint is %+v, %v", m, err)
	}
}

// yieldTo lets other goroutines, and the store's process, get on.
func yieldTo(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Millisecond):
	}
}

func parking(t *testing.T, b Backend) {
	log := NewLog(domain.NewRegistry(Catalog))
	log.Append("shop-good", Opened{Name: "Good"})
	log.Append("shop-bad", Opened{Name: "Bad"})
	log.Append("shop-bad", Ordered{Order: "o1", Cents: 5})
	log.Append("shop-bad", Cursed{})
	log.Append("shop-bad", Ordered{Order: "o2", Cents: 6})
	log.Append("shop-good", Cursed{Order: "o1"}) // parks shops good, and its order o1
	log.AppendRaw("shop-ugly", "shop.opened", 1, []byte(`{"name":7}`))
	log.Append("shop-ugly", Renamed{Name: "Ugly"})
	log.AppendRaw("shop-ugly", "shop.ordered", 1, []byte(`{"order":7}`)) // parks all orders of the shop: which one it is cannot be read
	log.Append("shop-ugly", Ordered{Order: "o1"})
	log.Append("shop-fine", Opened{Name: "Fine"})
	p := start(t, b, log, nil)
	p.reach(t, log.Head())
	expect(t, b, log, Shops(1, false), Orders())
	p.parked(t, []string{"shops bad", "orders good/o1", "shops good", "shops ugly", "orders ugly"})
	if err := p.Heal(t.Context(), "shops", "bad"); domain.CodeOf(err) != domain.CodeInternal {
		t.Errorf("healing what is still cursed gives %v", err)
	}
	if err := p.Heal(t.Context(), "shops", "fine"); domain.CodeOf(err) != domain.CodeNotFound {
		t.Errorf("healing what is not parked gives %v", err)
	}
	p.stop()

	// A later release folds what is cursed. What is parked stays so until it is healed.
	p = start(t, b, log, func(o *projections.Options) { o.Tables = []*projections.Table{Shops(1, true), Orders()} })
	log.Append("shop-bad", Renamed{Name: "Better"})
	p.reach(t, log.Head())
	before, _ := b.Snapshot(Shops(1, true))
	if diff := cmp.Diff(Fold(log, Shops(1, false), 1<<62)["bad"], before["bad"]); diff != "" {
		t.Errorf("a parked row moved (-want +got):\n%s", diff)
	}
	for _, k := range []string{"bad", "good"} {
		if err := p.Heal(t.Context(), "shops", k); err != nil {
			t.Errorf("healing %s: %v", k, err)
		}
	}
	log.Append("shop-bad", Ordered{Order: "o3", Cents: 7})
	p.reach(t, log.Head())
	expect(t, b, log, Shops(1, true), Orders())
	p.parked(t, []string{"orders good/o1", "shops ugly", "orders ugly"})
}

func refusing(t *testing.T, b Backend) {
	log := NewLog(domain.NewRegistry(Catalog))
	for i := range 40 {
		log.Append(fmt.Sprintf("shop-s%d", i), Opened{Name: "fine"})
	}
	long := make([]string, 3) // keys that no index takes, however well they compress
	r := rand.New(rand.NewPCG(1, 1))
	for i := range long {
		var k strings.Builder
		for range 1000 {
			fmt.Fprintf(&k, "%08x", r.Uint32())
		}
		long[i] = k.String()
		log.Append("shop-s9", Ordered{Order: long[i]})
		log.Append("shop-s9", Ordered{Order: fmt.Sprint("short", i)})
	}
	log.Append("shop-s7", Renamed{Name: "poison\x00"}) // refused by the fold itself, lest it depend on the batch
	log.Append("shop-s7", Renamed{Name: "too late"})
	log.Append("shop-s9", Ordered{Order: "nul\x00key"})
	gate := make(chan struct{})
	p := start(t, b, log, func(o *projections.Options) { o.Store = Faults{b.Open(), gated(gate)} })
	close(gate)
	p.reach(t, log.Head())
	want := []string{"orders s9/" + long[0], "orders s9/" + long[1], "orders s9/" + long[2], "shops s7", "orders s9/nul\x00key"}
	p.parked(t, want)
	orders, _ := b.Snapshot(Orders())
	shops, _ := b.Snapshot(Shops(1, false))
	wanted := Fold(log, Orders(), 1<<62)
	for _, k := range long {
		delete(wanted, "s9/"+k)
	}
	if diff := cmp.Diff(wanted, orders); diff != "" {
		t.Errorf("orders (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Fold(log, Shops(1, false), 1<<62), shops); diff != "" {
		t.Errorf("shops (-want +got):\n%s", diff)
	}
	if err := p.Heal(t.Context(), "orders", "s9/"+long[1]); domain.CodeOf(err) != domain.CodeInternal {
		t.Errorf("healing what is refused again gives %v", err)
	}
	log.Append("shop-s9", Voided{Order: long[0]})
	p.reach(t, log.Head())
	if err := p.Heal(t.Context(), "orders", "s9/"+long[0]); err != nil {
		t.Errorf("healing a row that is gone by now: %v", err)
	}
	p.parked(t, append(want[1:3:3], want[3:]...))
}

// parked waits for the owner to say which keys are parked; readers may see the transaction a moment before.
func (p *process) parked(t *testing.T, want []string) {
	t.Helper()
	var got []string
	for range 5000 {
		got = nil
		for _, k := range p.Status().Parked {
			got = append(got, k.Projection+" "+k.Key)
		}
		if cmp.Equal(want, got) {
			return
		}
		yieldTo(t.Context())
	}
	t.Errorf("parked (-want +got):\n%s", cmp.Diff(want, got))
}

// gated lets nothing be committed until the gate opens, so that all that was appended is one batch.
func gated(gate <-chan struct{}) func(string, bool) error {
	return func(step string, done bool) error {
		if step == "prepare" {
			<-gate
		}
		return nil
	}
}

func newer(t *testing.T, b Backend) {
	old := NewLog(domain.NewRegistry(Catalog[:3]))
	log := NewLog(domain.NewRegistry(Catalog))
	log.Append("shop-a", Opened{Name: "A"})
	log.Append("shop-a", Ordered{Order: "o"})
	last := log.Head()
	log.Append("shop-a", Noted{})
	log.Append("shop-a", Renamed{Name: "B"})
	few := projections.Projection[Shop]{Name: "shops", Version: 1, On: []projections.Handler[Shop]{
		projections.On(func(r *Shop, e Opened, m domain.Meta) { r.Name = e.Name }),
	}}.Table()
	p := start(t, b, log, func(o *projections.Options) {
		o.Registry, o.Tables, o.Expiry = old.Registry, []*projections.Table{few}, time.Hour
	})
	p.reach(t, last)
	q := start(t, b, log, func(o *projections.Options) { o.Owner = "two" })
	q.reach(t, log.Head()) // at once: the old release has given the lease up
	if s := p.Status(); !errors.Is(s.Err, domain.ErrNewer) || s.Owner {
		t.Errorf("the old release's status is %+v", s)
	}
	if !strings.Contains(p.Status().Err.Error(), "shop-a@2") {
		t.Errorf("the error does not say where: %v", p.Status().Err)
	}
	p.reach(t, log.Head()) // it follows on
}

func versions(t *testing.T, b Backend) {
	log := NewLog(domain.NewRegistry(Catalog))
	Populate(log, 5, 200)
	log.Append("shop-s1", Cursed{})
	p := start(t, b, log, nil)
	p.reach(t, log.Head())
	p.stop()
	Populate(log, 6, 50)
	second := []*projections.Table{Shops(2, true), Orders()}
	for n := 0; ; n++ { // the build is cut at every point in turn
		at, reached := FailOnce(n)
		p = start(t, b, log, func(o *projections.Options) { o.Store, o.Tables, o.Batch = Faults{b.Open(), at}, second, 3 })
		p.reach(t, log.Head())
		p.stop()
		expect(t, b, log, second...)
		if n > 12 || !reached() {
			return
		}
		second[0] = Shops(n+3, true)
		Populate(log, uint64(n)+7, 5)
	}
}

func watching(t *testing.T, b Backend) {
	log := NewLog(domain.NewRegistry(Catalog))
	log.Append("shop-w", Opened{Name: "W"})
	log.Append("shop-w", Ordered{Order: "x"})
	p := start(t, b, log, func(o *projections.Options) { o.Batch, o.Buffer = 7, 1<<20 })
	p.reach(t, log.Head())
	table := Shops(1, false)
	const events = 400
	var all sync.WaitGroup
	all.Go(func() {
		for range events / 4 {
			log.Append("shop-w", Ordered{Order: "x", Cents: 1})
			log.Append("shop-other", Renamed{Name: "other"})
			log.Append("shop-w", Paid{Order: "x"})
			log.Append("shop-w", Unheard{})
		}
		log.Append("shop-w", Renamed{Name: "end"})
	})
	for range 8 {
		all.Go(func() {
			w, err := p.Watch(t.Context(), projections.Topic{Projection: "shops", Key: "w"}, projections.Topic{Projection: "orders", Key: "w/"})
			if err != nil {
				t.Error(err)
				return
			}
			rows, at := b.Snapshot(table)
			row, err := table.Decode(projections.Encoded(rows["w"]).Fields())
			if err != nil {
				t.Error(err)
				return
			}
			last, before := row.(Shop), uint64(at)
			if last.Name == "end" {
				w.Close()
				return
			}
			for c, err := range w.Changes(t.Context(), uint64(at)) {
				if err != nil {
					t.Error(err)
					return
				}
				if c.Projection == "orders" {
					if !c.Last || c.Key != "w/x" || c.Commit != before {
						t.Errorf("the order's change does not follow its shop's: %+v", c)
					}
					continue
				}
				now := c.Row.(Shop)
				_, stored := b.Snapshot(table)
				switch {
				case c.Commit <= before:
					t.Errorf("change %d came after %d", c.Commit, before)
				case int64(c.Commit) > stored:
					t.Errorf("change %d came before it was stored: %d", c.Commit, stored)
				case c.Event == "shop.ordered" && (now.Cents != last.Cents+1 || c.Last):
					t.Errorf("a change is missing between %+v and %+v", last, now)
				case now.Revision != c.Revision || now.Revision > last.Revision+2:
					t.Errorf("revision %d follows %d", now.Revision, last.Revision)
				}
				last, before = now, c.Commit
				if last.Name == "end" {
					return
				}
			}
		})
	}
	all.Wait()
	w, err := p.Watch(t.Context(), projections.Topic{Projection: "shops", Key: "w"})
	if err != nil {
		t.Fatal(err)
	}
	log.Append("shop-w", Closed{})
	log.Append("shop-w", Opened{Name: "again"})
	log.Append("shop-w", Cursed{})
	var got []string
	for c, err := range w.Changes(t.Context(), 0) {
		if err != nil {
			got = append(got, string(domain.CodeOf(err)))
			break
		}
		got = append(got, fmt.Sprint(c.Row.(Shop).Name, " ", c.Gone))
	}
	if diff := cmp.Diff([]string{"end true", "again false", "unavailable"}, got); diff != "" {
		t.Errorf("gone, back and parked (-want +got):\n%s", diff)
	}
}

func slowWatcher(t *testing.T, b Backend) {
	log := NewLog(domain.NewRegistry(Catalog))
	log.Append("shop-w", Opened{Name: "W"})
	p := start(t, b, log, func(o *projections.Options) { o.Buffer = 5 })
	p.reach(t, log.Head())
	w, err := p.Watch(t.Context(), projections.Topic{Projection: "shops", Key: "w"})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		log.Append("shop-w", Renamed{Name: "x"})
		p.reach(t, log.Head())
	}
	n := 0
	for _, err = range w.Changes(t.Context(), 0) {
		n++
	}
	if n != 6 || domain.CodeOf(err) != domain.CodeUnavailable {
		t.Errorf("a watcher with room for 5 got %d and ended with %v", n, err)
	}
}

func waiting(t *testing.T, b Backend) {
	log, clock := NewLog(domain.NewRegistry(Catalog)), NewClock()
	owner := start(t, b, log, func(o *projections.Options) { o.Clock = clock })
	reader := start(t, b, log, func(o *projections.Options) { o.Clock, o.Owner = clock, "two" })
	for i := range 20 {
		log.Append("shop-a", Renamed{Name: fmt.Sprint(i)})
		reader.reach(t, log.Head())
		if _, at := b.Snapshot(Shops(1, false)); at < int64(log.Head()) {
			t.Fatalf("the rows are at %d, not %d", at, log.Head())
		}
	}
	owner.reach(t, log.Head())
	late := make(chan error)
	go func() { late <- reader.WaitFor(t.Context(), log.Head()+1, time.Minute) }()
	for {
		clock.Advance(time.Second) // nobody has a longer wait than this test
		select {
		case err := <-late:
			if domain.CodeOf(err) != domain.CodeLagging {
				t.Errorf("waiting in vain gives %v", err)
			}
			return
		case <-time.After(time.Millisecond):
		}
	}
}

func otherLog(t *testing.T, b Backend) {
	log := NewLog(domain.NewRegistry(Catalog))
	Populate(log, 1, 5)
	p := start(t, b, log, nil)
	p.reach(t, log.Head())
	p.stop()
	p = start(t, b, log, func(o *projections.Options) { o.Log = domain.Epoch{Number: 2, ID: "copy"} })
	for !errors.Is(p.Status().Err, projections.ErrOtherLog) {
		yieldTo(t.Context())
	}
	if err := p.stop(); !errors.Is(err, projections.ErrOtherLog) {
		t.Errorf("another log's checkpoint gives %v", err)
	}
}

func outage(t *testing.T, b Backend) {
	if b.Outage == nil {
		t.Skip("there is nothing to cut")
	}
	log := NewLog(domain.NewRegistry(Catalog))
	p := start(t, b, log, func(o *projections.Options) { o.Batch = 5 })
	for n := range 5 {
		Populate(log, uint64(n), 100)
		b.Outage()
		p.reach(t, log.Head())
		expect(t, b, log, Shops(1, false), Orders())
	}
}

func sourceOutage(t *testing.T, b Backend) {
	log := NewLog(domain.NewRegistry(Catalog))
	p := start(t, b, log, func(o *projections.Options) { o.Batch = 5 })
	for n := range 5 {
		Populate(log, uint64(n), 50)
		log.Break(ErrCut)
		Populate(log, uint64(n)+100, 50)
		log.Break(nil)
		p.reach(t, log.Head())
		expect(t, b, log, Shops(1, false), Orders())
	}
}
