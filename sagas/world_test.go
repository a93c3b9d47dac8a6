package sagas_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/sagas"
	"github.com/tenure-dev/tenure/sagas/sagastest"
)

// world is everything around the runners: one log, a Bus that decides on it, planes with their agents, an operator. All of
// it lives in a synctest bubble, so that thirty days pass at once.
type world struct {
	log     *sagastest.Log
	cursors *sagastest.Cursors
	script  script
	chaos   *chaos

	mu      sync.Mutex
	effects map[string]int // how often an operation took effect, by its id
	broken  []string       // rules seen broken
}

// script is what agents and planes answer: a function of who asks, never of when, so that every schedule can end alike.
type script struct {
	seed string
}

func (s script) of(parts ...string) uint32 { return hash(append([]string{s.seed}, parts...)...) }

// refuses tells whether a plane has no room for a tenant.
func (s script) refuses(plane, tenant string) bool { return s.of("refuse", plane, tenant) < 300 }

// outcome is what an agent answers to the n-th try of an operation kind for a tenant; empty class for done.
func (s script) outcome(kind, tenant string, n int) (class, code string) {
	h := s.of("outcome", kind, tenant, fmt.Sprint(n))
	switch {
	case kind != "deprovision" && h < 60:
		return saga.ClassUser, "bad_input"
	case kind != "deprovision" && h < 120:
		return saga.ClassBug, "boom"
	case h < 400:
		return saga.ClassTransient, "busy"
	}
	return "", ""
}

// delay is how long an agent takes: mostly moments, sometimes thirty days, which is beyond every step's time.
func (s script) delay(kind, tenant string, n int) time.Duration {
	h := s.of("delay", kind, tenant, fmt.Sprint(n))
	if h < 100 {
		return 30 * 24 * time.Hour
	}
	return time.Duration(h) * time.Millisecond
}

// cancels tells what the operator does with what needs attention.
func (s script) cancels(id string, n int) bool { return s.of("operator", id, fmt.Sprint(n)) < 500 }

func newWorld(s script, c *chaos) *world {
	return &world{log: &sagastest.Log{}, cursors: &sagastest.Cursors{}, script: s, chaos: c, effects: map[string]int{}}
}

func (w *world) breaks(rule string, args ...any) {
	w.mu.Lock()
	w.broken = append(w.broken, fmt.Sprintf(rule, args...))
	w.mu.Unlock()
}

// write decides on a stream and appends, as a Bus does.
func (w *world) write(stream, commandID string, answers *domain.Answers, tenant string, decide func(history []sagas.Event) ([]any, error)) (out []sagas.Event, quiet bool, err error) {
	for {
		history := w.history(stream)
		for _, e := range history {
			if e.Meta.CommandID == commandID {
				out = append(out, e)
			}
		}
		if len(out) > 0 {
			return out, false, nil
		}
		payloads, err := decide(history)
		if err != nil || len(payloads) == 0 {
			return nil, true, err
		}
		var proposed []domain.Proposed
		for i, p := range payloads {
			name, rev, data, err := registry.Encode(p)
			if err != nil {
				return nil, false, err
			}
			m := domain.Meta{Rev: rev, CommandID: commandID, Answers: answers, Tenant: tenant, RecordedAt: time.Now(), Correlation: commandID}
			m.Stream, m.Revision, m.EventID, m.Type = stream, int64(len(history)+i), domain.EventID(commandID, stream, i), name
			proposed = append(proposed, domain.Proposed{ID: m.EventID, Type: name, Data: data, Meta: m.Encode()})
			out = append(out, sagas.Event{Event: p, Meta: m})
		}
		err = w.log.Append(context.Background(), stream, int64(len(history))-1, proposed)
		if domain.CodeOf(err) == domain.CodeConflict {
			out = nil
			continue
		}
		return out, false, err
	}
}

func (w *world) history(stream string) (all []sagas.Event) {
	for _, r := range w.log.Stream(stream) {
		e, err := registry.DecodeRecorded(r)
		if err != nil {
			panic(err)
		}
		all = append(all, sagas.Event{Event: e, Meta: r.Meta})
	}
	return all
}

// ledger is a plane's stream folded.
type ledger struct {
	held map[string]bool         // capacity, by tenant
	ops  map[string]operationDue // by id
	open []string                // ids without an outcome, oldest first
	by   map[string]*domain.Answers
}

func (w *world) ledger(history []sagas.Event) ledger {
	l := ledger{map[string]bool{}, map[string]operationDue{}, nil, map[string]*domain.Answers{}}
	closed := map[string]bool{}
	for _, e := range history {
		switch p := e.Event.(type) {
		case reserved:
			l.held[e.Meta.Tenant] = true
		case released:
			delete(l.held, e.Meta.Tenant)
		case operationDue:
			l.ops[p.Op], l.by[p.Op] = p, e.Meta.Answers
		case operationDone:
			closed[p.Op] = true
		case operationFailed:
			closed[p.Op] = true
		}
	}
	for _, e := range history {
		if p, ok := e.Event.(operationDue); ok && !closed[p.Op] {
			l.open = append(l.open, p.Op)
		}
	}
	return l
}

// Execute is the Bus.
func (w *world) Execute(_ context.Context, ask sagas.Ask) (sagas.Outcome, error) {
	stream, tenant := "", ""
	decide := func(history []sagas.Event) ([]any, error) {
		l := w.ledger(history)
		ended := ""
		for _, e := range history {
			switch e.Event.(type) {
			case activated, rejected, confirmed, offboarding:
				ended = fmt.Sprintf("%T", e.Event)
			}
		}
		switch c := ask.Command.(type) {
		case reserve:
			if l.held[c.Tenant] {
				return nil, nil
			}
			if w.script.refuses(c.Plane, c.Tenant) {
				return nil, &domain.Error{Code: domain.CodeCapacityExhausted, Message: "is full"}
			}
			return []any{reserved{}}, nil
		case release:
			if !l.held[c.Tenant] {
				return nil, nil
			}
			return []any{released{}}, nil
		case operate:
			return []any{operationDue{domain.OperationIDFor(ask.CommandID), c.Kind, c.Tenant}}, nil
		case activate:
			if ended != "" {
				return nil, domain.NotAllowed("activate", ended)
			}
			return []any{activated{}}, nil
		case reject:
			return []any{rejected{c.Code}}, nil
		case confirm:
			return []any{confirmed{}}, nil
		}
		return nil, fmt.Errorf("%T is unknown", ask.Command)
	}
	switch c := ask.Command.(type) {
	case reserve:
		stream, tenant = "plane-"+c.Plane, c.Tenant
	case release:
		stream, tenant = "plane-"+c.Plane, c.Tenant
	case operate:
		stream, tenant = "plane-"+c.Plane, c.Tenant
	case activate:
		stream, tenant = "tenant-"+c.Tenant, c.Tenant
	case reject:
		stream, tenant = "tenant-"+c.Tenant, c.Tenant
	case confirm:
		stream, tenant = "tenant-"+c.Tenant, c.Tenant
	}
	events, quiet, err := w.write(stream, ask.CommandID, &ask.Answers, tenant, decide)
	if err != nil {
		return sagas.Outcome{}, err
	}
	out := sagas.Outcome{Stream: stream, Events: events, Quiet: quiet}
	if len(events) > 0 {
		out.Revision = events[len(events)-1].Meta.Revision
	}
	return out, nil
}

// agent does a plane's operations, those of one tenant in order, and reports each outcome, some of them twice.
func (w *world) agent(ctx context.Context, plane string) {
	var all sync.WaitGroup
	defer all.Wait()
	lanes := map[string]chan operationDue{}
	for d := range w.log.Follow(ctx, 0) {
		if d.Kind != domain.DeliveredEvent || d.Event.Stream != "plane-"+plane || d.Event.Type != "plane.operation.due" {
			continue
		}
		var op operationDue
		if err := json.Unmarshal(d.Event.Data, &op); err != nil {
			panic(err)
		}
		if lanes[op.Tenant] == nil {
			lane := make(chan operationDue, 10_000)
			lanes[op.Tenant] = lane
			all.Go(func() {
				tries := map[string]int{}
				for {
					select {
					case op := <-lane:
						tries[op.Kind]++
						w.perform(ctx, plane, op, tries[op.Kind])
					case <-ctx.Done():
						return
					}
				}
			})
		}
		lanes[op.Tenant] <- op
	}
}

func (w *world) perform(ctx context.Context, plane string, op operationDue, n int) {
	select {
	case <-time.After(w.script.delay(op.Kind, op.Tenant, n)):
	case <-ctx.Done():
		return
	}
	class, code := w.script.outcome(op.Kind, op.Tenant, n)
	if class == "" {
		w.mu.Lock()
		w.effects[op.Op]++
		w.mu.Unlock()
	}
	answers := w.ledger(w.history("plane-" + plane)).by[op.Op]
	for range 2 { // an agent that did not see its report taken reports again
		_, _, err := w.write("plane-"+plane, "outcome "+op.Op, answers, op.Tenant, func(history []sagas.Event) ([]any, error) {
			if class == "" {
				return []any{operationDone{op.Op, "db"}}, nil
			}
			return []any{operationFailed{op.Op, class, code}}, nil
		})
		if err != nil {
			panic(err)
		}
	}
}

// operator looks after what needs attention, an hour later.
func (w *world) operator(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	seen := map[string]int{}
	for d := range w.log.Follow(ctx, 0) {
		if d.Kind != domain.DeliveredEvent || d.Event.Type != "saga.attention.needed" {
			continue
		}
		var need saga.AttentionNeeded
		if err := json.Unmarshal(d.Event.Data, &need); err != nil {
			panic(err)
		}
		if need.Code == saga.CodeLate {
			continue
		}
		stream := d.Event.Stream
		seen[stream]++
		cancels := w.script.cancels(d.Event.Tenant, seen[stream])
		all.Go(func() {
			select {
			case <-time.After(time.Hour):
			case <-ctx.Done():
				return
			}
			w.operate(stream, cancels)
		})
	}
}

func (w *world) operate(stream string, cancels bool) {
	for {
		var s saga.State
		rev := domain.NoStream
		for _, r := range w.log.Stream(stream) {
			e, err := facts.DecodeRecorded(r)
			if err != nil {
				panic(err)
			}
			s, rev = saga.Evolve(s, e.(saga.Event)), r.Revision
		}
		if s.Phase() != saga.Attention {
			return
		}
		var command any = saga.Retry{}
		if cancels {
			command = saga.Cancel{}
		}
		events, err := saga.Lifecycle.Decide(s, command)
		if err == nil && len(events) == 0 || domain.CodeOf(err) == domain.CodeNotAllowed {
			events, _ = saga.Lifecycle.Decide(s, saga.Retry{})
		}
		if len(events) == 0 {
			return
		}
		name, evRev, data, _ := facts.Encode(events[0])
		m := domain.Meta{Rev: evRev, RecordedAt: time.Now(), Actor: "operator"}
		id := domain.DeriveUUID(stream, fmt.Sprint(rev), name).String()
		if err := w.log.Append(context.Background(), stream, rev, []domain.Proposed{{ID: id, Type: name, Data: data, Meta: m.Encode()}}); err == nil {
			return
		}
	}
}

var facts = domain.NewRegistry(saga.Catalog)

// request starts what the script wants.
func (w *world) request(tenant string) {
	m := domain.Meta{Rev: 1, RecordedAt: time.Now(), Tenant: tenant, Org: "org_x"}
	var e any = requested{tenant}
	if strings.HasPrefix(tenant, "sus") {
		e = suspensionDue{tenant, 1}
	}
	name, _, data, _ := registry.Encode(e)
	_ = w.log.Append(context.Background(), "tenant-"+tenant, domain.NoStream,
		[]domain.Proposed{{ID: domain.DeriveUUID("start", tenant).String(), Type: name, Data: data, Meta: m.Encode()}})
}

func (w *world) offboard(tenant string) {
	_, _, _ = w.write("tenant-"+tenant, "offboard "+tenant, nil, tenant, func(history []sagas.Event) ([]any, error) { return []any{offboarding{}}, nil })
}

// clock is the bubble's time.
type clock struct{}

func (clock) Now() time.Time                         { return time.Now() }
func (clock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// alwaysOnline has agents that can always speak.
type alwaysOnline struct{}

func (alwaysOnline) Resynced(string) (time.Time, bool) { return time.Time{}, true }

// laggingStore knows what is open as late as it may: right at the position that the runner asks for.
type laggingStore struct{ log *sagastest.Log }

func (s laggingStore) Open(_ context.Context, atLeast uint64) (rows []sagas.OpenSaga, at uint64, err error) {
	byID := map[string]sagas.OpenSaga{}
	for _, r := range s.log.All() {
		if _, _, ok := saga.SplitStream(r.Stream); !ok || r.Commit > atLeast {
			continue
		}
		e, err := facts.DecodeRecorded(r)
		if err != nil {
			return nil, 0, err
		}
		row, there := byID[r.Stream]
		if row, there = sagas.FoldOpen(row, there, e.(saga.Event), r.Meta); there {
			byID[r.Stream] = row
		} else {
			delete(byID, r.Stream)
		}
	}
	for _, row := range byID {
		rows = append(rows, row)
	}
	return rows, atLeast, nil
}

type planes []string

func (p planes) Snapshot(context.Context, sagas.Wanted) (any, error) { return []string(p), nil }

// chaos is what the schedule does to the runners: each is killed before or after a certain number of its writes; calls are
// left unanswered; deliveries come twice.
type chaos struct {
	mu       sync.Mutex
	kills    []int // writes until the next kill; the runner lives on when there are no more
	before   bool
	unanswer func() int // 0 none, 1 not done, 2 done though unanswered
	twice    bool
	forget   func() bool // the cursor is lost at the next start
	planted  func(*sagas.Ask)
}

// life is one life of a runner: after its death nothing that it does has an effect.
type life struct {
	*world
	dead   atomic.Bool
	left   atomic.Int64 // writes until it dies; below zero for ever
	kill   context.CancelFunc
	before bool
	headed atomic.Bool // the head of the log has been met: before, nothing may be sent
}

// gate stands before each write: done says whether it takes effect, told whether its answer arrives.
func (l *life) gate() (done, told bool) {
	if l.dead.Load() {
		return false, false
	}
	if l.left.Add(-1) == 0 {
		l.dead.Store(true)
		l.kill()
		return !l.before, false
	}
	switch l.chaos.unanswered() {
	case 1:
		return false, false
	case 2:
		return true, false
	}
	return true, true
}

func (c *chaos) unanswered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unanswer == nil {
		return 0
	}
	return c.unanswer()
}

func (l *life) Append(ctx context.Context, stream string, expected int64, events []domain.Proposed) error {
	done, told := l.gate()
	var err error
	if done {
		err = l.log.Append(ctx, stream, expected, events)
	}
	if !told {
		return domain.Unavailable("away", nil)
	}
	return err
}

func (l *life) Read(ctx context.Context, stream string, from int64) iter.Seq2[domain.Recorded, error] {
	return l.log.Read(ctx, stream, from)
}

func (l *life) Follow(ctx context.Context, after uint64) iter.Seq2[domain.Delivery, error] {
	return func(yield func(domain.Delivery, error) bool) {
		for d, err := range l.log.Follow(ctx, after) {
			if d.Kind == domain.CaughtUp {
				l.headed.Store(true)
			}
			if !yield(d, err) {
				return
			}
			if l.chaos.twice && !yield(d, err) {
				return
			}
		}
	}
}

func (l *life) Execute(ctx context.Context, ask sagas.Ask) (sagas.Outcome, error) {
	if !l.headed.Load() {
		l.breaks("%T was sent before the head was met", ask.Command)
	}
	if l.chaos.planted != nil {
		l.chaos.planted(&ask)
	}
	done, told := l.gate()
	var out sagas.Outcome
	var err error
	if done {
		out, err = l.world.Execute(ctx, ask)
	}
	if !told {
		return sagas.Outcome{}, domain.Unavailable("away", nil)
	}
	return out, err
}

func (l *life) Load(ctx context.Context) (sagas.Cursor, bool, error) { return l.cursors.Load(ctx) }

func (l *life) Save(ctx context.Context, c sagas.Cursor) error {
	if done, _ := l.gate(); done {
		return l.cursors.Save(ctx, c)
	}
	return domain.Unavailable("away", nil)
}

// live runs runners one after the other until ctx ends.
func (w *world) live(ctx context.Context, lease sagas.Lease) {
	for ctx.Err() == nil {
		ctx, cancel := context.WithCancel(ctx)
		l := &life{world: w, kill: cancel}
		l.left.Store(-1)
		w.chaos.mu.Lock()
		if len(w.chaos.kills) > 0 {
			l.left.Store(int64(w.chaos.kills[0]))
			w.chaos.kills = w.chaos.kills[1:]
			w.chaos.before = !w.chaos.before
			l.before = w.chaos.before
		}
		if w.chaos.forget != nil && w.chaos.forget() {
			w.cursors.Lose()
		}
		w.chaos.mu.Unlock()
		r, err := sagas.NewRunner(sagas.Config{Definitions: []*sagas.Definition{onboarding.Definition(), suspension.Definition()},
			Registry: registry, Epoch: domain.Epoch{Number: 1, ID: "e"}, Log: l, Source: l, Bus: l, Open: laggingStore{w.log},
			Cursors: l, Snapshots: planes{"p1", "p2", "p3"}, Planes: alwaysOnline{}, Lease: lease, Clock: clock{}, Workers: 4, Cached: 2,
			Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			panic(err)
		}
		if err := r.Run(ctx); err != nil {
			w.breaks("the runner stopped: %v", err)
			cancel()
			return
		}
		cancel()
	}
}
