package sagas

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
)

// term is one term of leadership: what is open, and how far the log has been followed. The follower alone routes; workers
// run the sagas, each saga in one worker at a time.
type term struct {
	*Runner
	ctx    context.Context
	timers *timers
	track  *tracker
	ready  *ready

	mu       sync.Mutex // guards what stands below
	byID     map[string]*instance
	byKey    map[string]map[*instance]struct{}
	starting map[string]func() // by saga id: the start event's claim on the cursor until the first fact is met
	enabled  map[string]int    // as of the event being routed
	headed   bool              // the head has been met once: sends are allowed

	routed    uint64                    // the last position routed; the follower's own
	headSince atomic.Pointer[time.Time] // nil while not at the head
	loaded    atomic.Int64              // folded histories in memory
}

func newTerm(ctx context.Context, r *Runner, c Cursor, openAt uint64) *term {
	t := &term{Runner: r, ctx: ctx, byID: map[string]*instance{}, byKey: map[string]map[*instance]struct{}{},
		starting: map[string]func(){}, enabled: map[string]int{}, ready: newReady()}
	for name, v := range c.Enabled {
		t.enabled[name] = v
	}
	t.track = newTracker(c.Commit, max(c.Seen, openAt), t.enabled)
	t.timers, t.routed = newTimers(ctx, r.Clock), c.Commit
	return t
}

// stop ends the workers.
func (t *term) stop() {
	t.ready.close()
	t.track.close()
}

// follow reads the log from the cursor on, and goes on reading after what passes.
func (t *term) follow() error {
	after, tries := t.track.from(), 0
	for {
		var err error
		for d, failed := range t.Source.Follow(t.ctx, after) {
			if err = failed; err != nil {
				break
			}
			tries = 0
			if err := t.deliver(d); err != nil {
				return err
			}
			after = max(after, d.Commit, d.Event.Commit)
		}
		t.headSince.Store(nil)
		if t.ctx.Err() != nil {
			return nil
		}
		t.Logger.WarnContext(t.ctx, "the log is away, the saga runner follows it again", "after", after, "error", err)
		if !t.sleep(t.ctx, backoff(tries)) {
			return nil
		}
		tries++
	}
}

func (t *term) deliver(d domain.Delivery) error {
	switch d.Kind {
	case domain.CaughtUp:
		now := t.Clock.Now()
		t.headSince.Store(&now)
		t.meetHead()
	case domain.DeliveredEvent:
		if d.Event.Commit == 0 {
			d.Event.Commit = d.Commit
		}
		return t.route(d.Event)
	case domain.Checkpoint:
		if d.Commit > t.routed {
			t.track.pass(d.Commit)
			t.routed = d.Commit
		}
	}
	return nil
}

// meetHead lets every open saga follow pending wishes and send what stands unanswered.
func (t *term) meetHead() {
	t.mu.Lock()
	first := !t.headed
	t.headed = true
	all := make([]*instance, 0, len(t.byID))
	for _, i := range t.byID {
		all = append(all, i)
	}
	t.mu.Unlock()
	if !first {
		return
	}
	t.Logger.InfoContext(t.ctx, "the saga runner has met the head of the log", "open", len(all))
	for _, i := range all {
		t.enqueue(i, job{trigger: Wake{}})
	}
}

// route hands one event to the sagas that it means something to, and to the definitions that it starts.
func (t *term) route(e domain.Recorded) error {
	if e.Commit <= t.routed {
		return nil // delivered again
	}
	if err := t.routeOnce(e); err != nil {
		return err
	}
	t.routed = e.Commit
	return nil
}

func (t *term) routeOnce(e domain.Recorded) error {
	if strings.HasPrefix(e.Type, "$") {
		t.track.pass(e.Commit)
		return nil
	}
	in := t.interests[e.Type]
	if in == nil || e.Rev > in.revision {
		return &domain.Error{Code: domain.CodeUnavailable, Cause: domain.ErrNewer,
			Message: fmt.Sprintf("the saga runner stops before %s revision %d at %d", e.Type, e.Rev, e.Commit)}
	}
	category, _ := domain.SplitStream(e.Stream)
	switch category {
	case saga.DefinitionCategory:
		return t.switchOn(e)
	case saga.Category:
		return t.routeFact(e)
	}
	release := t.track.claim(e.Commit)
	defer release()
	lazy := &lazy{e: e, registry: t.Registry}
	if a := e.Answers; a != nil {
		if i := t.find(a.Saga); i != nil {
			t.hand(i, lazy, e)
		}
	}
	if in.heard {
		for _, i := range t.hearers(e.Meta) {
			if e.Answers == nil || e.Answers.Saga != i.id {
				t.handHeard(i, lazy, e)
			}
		}
	}
	for _, d := range in.starts {
		if t.enabled[d.Name] == d.Version {
			t.begin(d, lazy, e)
		}
	}
	return nil
}

// lazy decodes an event once, if anybody wants it.
type lazy struct {
	e        domain.Recorded
	registry *domain.Registry
	done     bool
	payload  any
	err      error
}

func (l *lazy) decode() (any, error) {
	if !l.done {
		l.payload, l.err = decodeSafely(l.registry, l.e)
		l.done = true
	}
	return l.payload, l.err
}

func decodeSafely(r *domain.Registry, e domain.Recorded) (payload any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &domain.Error{Code: domain.CodeInternal, Message: fmt.Sprintf("decoding %s: %v", e.Type, p)}
		}
	}()
	return r.DecodeRecorded(e)
}

// hand gives an event to a saga, holding the cursor until the saga has reacted.
func (t *term) hand(i *instance, l *lazy, e domain.Recorded) {
	if payload, ok := t.read(i, l); ok {
		t.enqueue(i, job{trigger: Event{payload, e.Meta}, done: t.track.claimJob(e.Commit)})
	}
}

// handHeard is hand for events that are heard by key. While it is open whether the saga began before the event, it is held.
func (t *term) handHeard(i *instance, l *lazy, e domain.Recorded) {
	if i.unclear == nil {
		t.hand(i, l, e)
		return
	}
	if payload, ok := t.read(i, l); ok {
		i.unclear.held = append(i.unclear.held, job{trigger: Event{payload, e.Meta}, done: t.track.claim(e.Commit)})
	}
}

func (t *term) read(i *instance, l *lazy) (payload any, ok bool) {
	payload, err := l.decode()
	if err != nil {
		t.Logger.ErrorContext(t.ctx, "an event that may concern a saga cannot be read", "saga", i.stream, "event", l.e.EventID, "type", l.e.Type, "error", err)
	}
	return payload, err == nil
}

// begin starts a saga, unless the definition declines. Its keys are heard at once, for the next event may be for it.
func (t *term) begin(d *Definition, l *lazy, e domain.Recorded) {
	payload, err := l.decode()
	if err != nil {
		t.Logger.ErrorContext(t.ctx, "an event that starts a saga cannot be read", "saga", d.Name, "event", e.EventID, "error", err)
		return
	}
	keys, starts := t.keysOf(d, payload, e.Meta)
	if !starts {
		return
	}
	id := domain.SagaIDFor(d.Name, e.EventID)
	if i := t.find(id); i != nil { // open, as the store knew: what it heard so far was before its time
		i.settle(nil)
		return
	}
	i := t.newInstance(id, saga.Stream(d.Name, id), d)
	t.add(i, keys)
	t.mu.Lock()
	t.starting[id] = t.track.claim(e.Commit)
	t.mu.Unlock()
	t.enqueue(i, job{trigger: Event{payload, e.Meta}, start: true, done: t.track.claimJob(e.Commit)})
}

// keysOf asks a definition whether it starts, and what the saga hears.
func (t *term) keysOf(d *Definition, payload any, m domain.Meta) (keys []string, starts bool) {
	defer func() {
		if p := recover(); p != nil {
			t.Logger.ErrorContext(t.ctx, "a saga definition panicked and did not start", "saga", d.Name, "event", m.EventID, "panic", p, "stack", string(debug.Stack()))
			keys, starts = nil, false
		}
	}()
	plan, starts := d.begin(payload, m)
	if starts && d.hears != nil {
		keys = d.hears(plan)
	}
	return keys, starts
}

// switchOn notes that a version of a definition starts sagas from here on. One that this release does not have ends its work.
func (t *term) switchOn(e domain.Recorded) error {
	f, err := ownFacts.DecodeRecorded(e)
	if err != nil {
		return err
	}
	on := f.(saga.DefinitionEnabled)
	newest := 0
	for v := range t.defs[on.Name] {
		newest = max(newest, v)
	}
	if on.Version > newest {
		return &domain.Error{Code: domain.CodeUnavailable, Cause: domain.ErrNewer,
			Message: fmt.Sprintf("version %d of saga %s is switched on, this release has %d", on.Version, on.Name, newest)}
	}
	t.enabled[on.Name] = max(t.enabled[on.Name], on.Version)
	t.track.enable(e.Commit, on.Name, t.enabled[on.Name])
	return nil
}

// routeFact follows what happens in the sagas' own streams: their first and last facts, and what others wrote.
func (t *term) routeFact(e domain.Recorded) error {
	defer t.track.pass(e.Commit)
	name, id, ok := saga.SplitStream(e.Stream)
	if !ok {
		return nil
	}
	i := t.find(id)
	switch e.Type {
	case startedName:
		if i == nil {
			var err error
			if i, err = t.adopt(name, id, e); err != nil {
				return err
			}
		}
		if i != nil && i.unclear != nil { // its start event never came by: it lies before the cursor, so all was for it
			i.settle(t)
		}
		t.met(id)
	case endedName:
		if i != nil {
			t.forget(i)
		}
		return nil
	}
	if i != nil && i.known.Load() < e.Revision {
		t.enqueue(i, job{refresh: e.Revision, trigger: Wake{}, done: t.track.claimJob(e.Commit)})
	}
	return nil
}

// met lets the cursor pass a saga's start event: its first fact has been met, so the store's rows at this place have it.
func (t *term) met(id string) {
	t.mu.Lock()
	release := t.starting[id]
	delete(t.starting, id)
	t.mu.Unlock()
	if release != nil {
		release()
	}
}

// adopt takes on a saga that another runner started.
func (t *term) adopt(name, id string, e domain.Recorded) (*instance, error) {
	f, err := ownFacts.DecodeRecorded(e)
	if err != nil {
		return nil, err
	}
	started := f.(saga.Started)
	d := t.defs[name][started.Version]
	if d == nil {
		t.Logger.WarnContext(t.ctx, "a saga of a version that this release does not have is left alone", "saga", e.Stream, "version", started.Version)
		return nil, nil
	}
	i := t.newInstance(id, e.Stream, d)
	t.add(i, started.Hears)
	return i, nil
}

// knowOpen takes on a saga from the store. One whose first fact stands behind the cursor may have begun behind it too, and
// then events in between are not for it.
func (t *term) knowOpen(row OpenSaga, cursor uint64) {
	d := t.defs[row.Name][int(row.Version)]
	if d == nil {
		t.Logger.WarnContext(t.ctx, "a saga of a version that this release does not have is left alone", "saga", row.Saga, "version", row.Version)
		return
	}
	i := t.newInstance(row.Saga, saga.Stream(row.Name, row.Saga), d)
	if row.Started > cursor {
		i.unclear = &unclear{}
	}
	t.add(i, row.Hears)
}

func (t *term) add(i *instance, keys []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i.keys = keys
	t.byID[i.id] = i
	for _, k := range keys {
		if t.byKey[k] == nil {
			t.byKey[k] = map[*instance]struct{}{}
		}
		t.byKey[k][i] = struct{}{}
	}
}

// forget drops a saga that has ended.
func (t *term) forget(i *instance) {
	t.timers.clear(i.timer)
	t.drop(i)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID[i.id] == i {
		delete(t.byID, i.id)
	}
	for _, k := range i.keys {
		delete(t.byKey[k], i)
		if len(t.byKey[k]) == 0 {
			delete(t.byKey, k)
		}
	}
}

func (t *term) find(id string) *instance {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byID[id]
}

func (t *term) hearers(m domain.Meta) (all []*instance) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.Tenant != "" {
		for i := range t.byKey[TenantKey(m.Tenant)] {
			all = append(all, i)
		}
	}
	if m.Org != "" {
		for i := range t.byKey[OrgKey(m.Org)] {
			all = append(all, i)
		}
	}
	return all
}

func (t *term) maySend() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.headed
}

// keepCursor writes the cursor a while after it has moved.
func (t *term) keepCursor() {
	for {
		select {
		case <-t.track.dirty:
		case <-t.ctx.Done():
			return
		}
		if !t.sleep(t.ctx, time.Second) {
			return
		}
		t.saveCursor(t.ctx)
	}
}
