package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/tenure-dev/tenure/agent/drivers"
)

// work runs operations. Each tenant has a lane, in which one operation at a time is with the driver: suspensions and
// resumptions first, the rest in the order of revisions. Lanes run side by side, up to the limit of their kind; an
// operation that rests between two attempts takes no place and delays only its own lane.
type work struct {
	driver  drivers.Driver
	journal *journal
	timeout time.Duration
	retry   Retry
	log     *slog.Logger
	report  func(outcome)
	broken  func(error) // the journal cannot be written: nothing may begin any more

	changes, levels chan struct{} // places with the driver
	running         sync.WaitGroup

	mu    sync.Mutex
	lanes map[string]*lane // by tenant id; a lane exists while it has tasks
	tasks map[string]*task // by operation id: all that is in a lane and of the present epoch
}

func newWork(cfg Config, j *journal, report func(outcome), broken func(error)) *work {
	return &work{
		driver: cfg.Driver, journal: j, timeout: cfg.AttemptTimeout, retry: cfg.Retry, log: cfg.Logger,
		report: report, broken: broken,
		changes: make(chan struct{}, cfg.MaxParallel), levels: make(chan struct{}, cfg.MaxParallel),
		lanes: map[string]*lane{}, tasks: map[string]*task{},
	}
}

// offer takes an operation. One that is under way goes on; one that has ended reports its outcome again. The lane ends
// with ctx, which outlives the session: what has begun goes on without the gateway.
func (w *work) offer(ctx context.Context, epoch Epoch, op operation, isWithdrawn bool) {
	w.mu.Lock()
	if w.tasks[op.ID] == nil { // asked first, for a task leaves the journal its outcome before it goes
		if o, ended := w.journal.outcomeOf(op.ID); ended {
			w.mu.Unlock()
			w.report(o)
			return
		}
		t := &task{operation: op, epoch: epoch, doubtful: w.journal.mayHaveBegun(op)}
		w.tasks[op.ID] = t
		w.enqueue(ctx, t)
	}
	w.mu.Unlock()
	if isWithdrawn {
		w.withdraw(op.ID)
	}
}

func (w *work) enqueue(ctx context.Context, t *task) {
	l := w.lanes[t.Tenant.TenantID]
	if l == nil {
		l = newLane()
		w.lanes[t.Tenant.TenantID] = l
		w.running.Go(func() { w.run(ctx, t.Tenant.TenantID, l) })
	}
	l.add(t)
}

// run is the life of one lane.
func (w *work) run(ctx context.Context, tenantID string, l *lane) {
	for ctx.Err() == nil {
		w.mu.Lock()
		t, rest := l.next(time.Now())
		if t == nil {
			delete(w.lanes, tenantID)
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		if rest > 0 {
			l.sleep(ctx, rest)
			continue
		}
		places := w.changes
		if t.Kind.level() {
			places = w.levels
		}
		select {
		case places <- struct{}{}:
			if w.take(l, t) {
				w.attempt(ctx, l, t)
			}
			<-places
		case <-l.wake: // another task may go first, or this one may be gone
		case <-ctx.Done():
		}
	}
}

// take is false when the lane has changed while t waited for its place.
func (w *work) take(l *lane, t *task) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if next, rest := l.next(time.Now()); next != t || rest > 0 {
		return false
	}
	t.phase = running
	return true
}

// attempt calls the driver once. An error that may pass leaves the task in its lane.
func (w *work) attempt(ctx context.Context, l *lane, t *task) {
	tenant, stale, err := w.journal.begin(t.epoch, t.operation)
	switch {
	case errors.Is(err, errOtherEpoch):
		w.drop(l, t)
		return
	case err != nil:
		w.broken(err)
		w.drop(l, t)
		return
	case stale != "":
		w.end(l, t, outcome{Result: superseded, Code: stale})
		return
	}

	t.attempts++
	err = w.call(ctx, t.operation, tenant.Suspended)
	if err == nil {
		w.end(l, t, outcome{Result: done})
		return
	}
	if ctx.Err() != nil { // the agent stops; the operation has begun, and runs again under its id
		w.drop(l, t)
		return
	}
	class, code := classify(err)
	passing := class == drivers.Transient || class == drivers.PlaneDown
	if passing && t.attempts < w.retry.Attempts {
		delay := w.retry.delay(t.attempts)
		w.log.Warn("an operation failed, trying again", "operation", t.ID, "kind", t.Kind, "tenant", t.Tenant.TenantID,
			"attempt", t.attempts, "in", delay, "error", err)
		w.mu.Lock()
		t.phase, t.notBefore = resting, time.Now().Add(delay)
		w.mu.Unlock()
		return
	}
	w.log.Error("an operation failed", "operation", t.ID, "kind", t.Kind, "tenant", t.Tenant.TenantID,
		"attempts", t.attempts, "error", err)
	w.end(l, t, outcome{Result: failed, Class: class, Code: code, Attempts: t.attempts})
}

// withdraw answers for an operation that has not begun. One that has, or may have, completes; an unknown one has been
// answered before.
func (w *work) withdraw(id string) {
	w.mu.Lock()
	t := w.tasks[id]
	if t == nil || t.phase != waiting || t.doubtful {
		w.mu.Unlock()
		return
	}
	t.phase = running // nobody else takes it
	l := w.lanes[t.Tenant.TenantID]
	l.remove(t)
	w.mu.Unlock()
	w.end(l, t, outcome{Result: withdrawn})
}

// refuse ends an operation that this release does not understand.
func (w *work) refuse(epoch Epoch, op operation, code string) {
	if o, ended := w.journal.outcomeOf(op.ID); ended {
		w.report(o)
		return
	}
	w.log.Error("an operation is not understood", "operation", op.ID, "code", code)
	w.end(newLane(), &task{operation: op, epoch: epoch}, outcome{Result: failed, Class: drivers.Bug, Code: code})
}

// end journals the outcome, then reports it.
func (w *work) end(l *lane, t *task, o outcome) {
	o.OperationID, o.TenantID, o.Revision = t.ID, t.Tenant.TenantID, t.Revision
	o.Finished = time.Now().UnixMicro()
	err := w.journal.end(t.epoch, o)
	w.drop(l, t)
	switch {
	case errors.Is(err, errOtherEpoch): // what it did no longer counts
	case err != nil:
		w.broken(err)
	default:
		w.log.Info("an operation ended", "operation", t.ID, "kind", t.Kind, "tenant", t.Tenant.TenantID, "result", o.Result, "code", o.Code)
		w.report(o)
	}
}

func (w *work) drop(l *lane, t *task) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l.remove(t)
	if w.tasks[t.ID] == t {
		delete(w.tasks, t.ID)
	}
}

// forgetWaiting drops what has not begun: its session is over, and the next one brings it again.
func (w *work) forgetWaiting() {
	w.forget(func(t *task) bool { return t.phase == waiting }, false)
}

// forgetAll drops everything, for the epoch has changed. What is with the driver is waited for by its lane, and its
// outcome does not count.
func (w *work) forgetAll() {
	w.forget(func(t *task) bool { return t.phase != running }, true)
}

func (w *work) forget(fromLane func(*task) bool, fromTasks bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.lanes {
		for _, t := range l.all() {
			if fromLane(t) {
				l.remove(t)
				delete(w.tasks, t.ID)
			}
		}
	}
	if fromTasks {
		clear(w.tasks)
	}
}

// knows says whether the operation is under way or has an outcome that is not recorded.
func (w *work) knows(id string) bool {
	w.mu.Lock()
	underWay := w.tasks[id] != nil
	w.mu.Unlock()
	if underWay {
		return true
	}
	_, ended := w.journal.outcomeOf(id)
	return ended
}

// inFlight counts what is waiting, running or resting.
func (w *work) inFlight() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.tasks)
}

// wait returns when every lane has ended.
func (w *work) wait() { w.running.Wait() }
