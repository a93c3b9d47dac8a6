package sagas

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
)

// instance is one open saga. Its queue is shared; the rest below it belongs to the worker that runs it.
type instance struct {
	id      string
	stream  string
	def     *Definition
	keys    []string
	known   atomic.Int64 // the revision up to which it is folded, for the follower to see
	counted atomic.Bool  // among the folded histories in memory
	// unclear is set while it is open whether heard events stand before the saga's beginning; the follower's own.
	unclear *unclear

	mu     sync.Mutex
	queue  []job
	busy   bool // a worker has it, or it stands in line for one
	parked bool // it waits for a timer before it goes on

	loaded      bool
	state       saga.State
	revision    int64
	correlation string
	traceparent string
	asked       time.Time // when the pending ask was recorded
	askedBy     string    // event id of that fact
	sent        string    // the command id last sent
	tries       int       // of sending in vain, or of reacting in vain
	resend      time.Time // when the pending ask is sent again; zero for never
	timer       *timer    // for the first of what may be due
}

type unclear struct{ held []job }

func (t *term) newInstance(id, stream string, d *Definition) *instance {
	i := &instance{id: id, stream: stream, def: d, revision: domain.NoStream}
	i.known.Store(domain.NoStream)
	i.timer = &timer{index: -1, call: func() { t.enqueue(i, job{timer: true, trigger: Wake{}}) }}
	return i
}

// job is one trigger for a saga.
type job struct {
	trigger any
	start   bool
	refresh int64  // another wrote up to this revision; 0 for no
	timer   bool   // look what is due
	done    func() // lets the cursor pass; nil if it does not wait
}

func (j job) release() {
	if j.done != nil {
		j.done()
	}
}

// settle ends the doubt about a saga's beginning: with a term the held events are for it, without they came before it.
func (i *instance) settle(t *term) {
	if i.unclear == nil {
		return
	}
	held := i.unclear.held
	i.unclear = nil
	for _, j := range held {
		if t != nil {
			t.enqueue(i, j)
		} else {
			j.release()
		}
	}
}

// enqueue puts a job behind the saga's others.
func (t *term) enqueue(i *instance, j job) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.queue = append(i.queue, j)
	if !i.busy && !i.parked {
		i.busy = true
		t.ready.push(i)
	}
}

// work runs sagas until the term ends.
func (t *term) work() {
	for i := t.ready.pop(); i != nil; i = t.ready.pop() {
		t.runOne(i)
	}
}

// runOne takes a saga's jobs in order until none is left or one must wait.
func (t *term) runOne(i *instance) {
	for t.ctx.Err() == nil {
		i.mu.Lock()
		if len(i.queue) == 0 {
			i.busy = false
			i.mu.Unlock()
			return
		}
		j := i.queue[0]
		i.mu.Unlock()
		if err := t.handle(i, &j); err != nil {
			t.park(i, j, err)
			return
		}
		j.release()
		i.mu.Lock()
		i.queue = slices.Delete(i.queue, 0, 1)
		i.mu.Unlock()
	}
}

// park lets a saga wait before it tries the rest of a job again.
func (t *term) park(i *instance, rest job, err error) {
	if t.ctx.Err() != nil {
		return
	}
	t.Logger.WarnContext(t.ctx, "a saga cannot go on and tries again", "saga", i.stream, "error", err)
	wait := backoff(i.tries)
	i.tries++
	i.mu.Lock()
	i.queue[0] = rest
	i.busy, i.parked = false, true
	i.mu.Unlock()
	t.timers.set(&timer{index: -1, call: func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.parked = false
		if len(i.queue) > 0 && !i.busy {
			i.busy = true
			t.ready.push(i)
		}
	}}, t.Clock.Now().Add(wait))
}

// handle reacts to one job and sends what follows. An error means that what is left of the job is to be tried again.
func (t *term) handle(i *instance, j *job) error {
	fresh := j.start && t.maySend() && !i.loaded // most likely new: its append at NoStream finds out
	if !i.loaded && !fresh || j.refresh > i.revision {
		if err := t.load(i); err != nil {
			return err
		}
	}
	trigger := j.trigger
	if j.timer {
		trigger = t.dueNow(i)
	}
	for trigger != nil {
		if err := t.reactTo(i, trigger); err != nil {
			j.trigger, j.timer = trigger, false
			return err
		}
		switch i.state.Phase() {
		case saga.Over:
			t.forget(i)
			return nil
		case saga.Absent: // the definition would not start after all
			t.forget(i)
			t.met(i.id)
			return nil
		}
		trigger = t.send(i)
	}
	if i.resend.IsZero() {
		i.tries = 0
	}
	t.watch(i)
	t.evict(i)
	return nil
}

// load folds what the saga's stream has behind the known revision.
func (t *term) load(i *instance) error {
	if sent := i.sent; i.revision == domain.NoStream && sent != "" { // folded before: what was sent is not sent again
		defer func() {
			if i.state.Pending != nil && i.state.Pending.CommandID == sent {
				i.sent = sent
			}
		}()
	}
	for f, err := range history(t.ctx, t.Log, i.stream, i.revision) {
		if err != nil {
			return err
		}
		i.fold(f)
	}
	t.keep(i)
	return nil
}

// keep notes that a saga's history is in memory.
func (t *term) keep(i *instance) {
	i.loaded = true
	if i.counted.CompareAndSwap(false, true) {
		t.loaded.Add(1)
	}
}

// drop notes that it is no longer.
func (t *term) drop(i *instance) {
	if i.counted.CompareAndSwap(true, false) {
		t.loaded.Add(-1)
	}
}

// evict forgets a saga's folded history when memory holds too many; what it has sent it still knows.
func (t *term) evict(i *instance) {
	if t.loaded.Load() <= int64(t.Cached) || !i.resend.IsZero() {
		return
	}
	i.loaded, i.state, i.revision = false, saga.State{}, domain.NoStream
	t.drop(i)
}

func (i *instance) fold(f fact) {
	before := i.state.Pending
	i.state, i.revision = saga.Evolve(i.state, f.Event), f.meta.Revision
	i.known.Store(i.revision)
	switch f.Event.(type) {
	case saga.Started:
		i.correlation, i.traceparent = f.meta.Correlation, f.meta.Traceparent
	case saga.Asked:
		i.asked, i.askedBy, i.resend = f.meta.RecordedAt, f.meta.EventID, time.Time{}
		i.sent = ""
	}
	if before != nil && i.state.Pending == nil {
		i.resend = time.Time{}
	}
}

// reactTo appends what React answers to a trigger; where another wrote first, it reads that and reacts again.
func (t *term) reactTo(i *instance, trigger any) error {
	for {
		now := domain.Micro(t.Clock.Now())
		facts, err := t.facts(i, Trigger{now, trigger})
		if err != nil || len(facts) == 0 {
			return err
		}
		events, err := t.recorded(i, facts, trigger, now)
		if err != nil {
			return err
		}
		proposed := make([]domain.Proposed, len(events))
		for n, f := range events {
			if proposed[n], err = propose(f.Event, f.meta.EventID, f.meta); err != nil {
				return err
			}
		}
		switch err := t.Log.Append(t.ctx, i.stream, i.revision, proposed); {
		case err == nil:
			for _, f := range events {
				i.fold(f)
			}
			t.keep(i)
			return nil
		case domain.CodeOf(err) != domain.CodeConflict:
			return err
		}
		before := i.revision
		if err := t.load(i); err != nil {
			return err
		}
		if i.revision == before {
			return fmt.Errorf("%s is not at revision %d, nor has it events behind it", i.stream, before)
		}
	}
}

// facts asks React, reading a snapshot whenever it wants to choose.
func (t *term) facts(i *instance, trigger Trigger) (all []saga.Event, err error) {
	state := i.state
	for {
		out := i.def.React(t.Registry, state, trigger)
		if out.Panic != nil {
			t.Logger.ErrorContext(t.ctx, "a saga definition panicked", "saga", i.stream, "step", state.Step, "panic", out.Panic)
		}
		all = append(all, out.Facts...)
		if out.Look == "" {
			return all, nil
		}
		for _, f := range out.Facts {
			state = saga.Evolve(state, f)
		}
		if t.Snapshots == nil {
			return nil, fmt.Errorf("%s wants to choose, but the runner has no snapshots", i.stream)
		}
		snapshot, err := t.Snapshots.Snapshot(t.ctx, Wanted{Saga: i.def.Name, Step: out.Look, Org: state.Started.Org,
			Tenant: state.Started.Tenant, Refusals: state.Refusals})
		if err != nil {
			return nil, err
		}
		trigger.What = Snapshot{out.Look, snapshot}
	}
}

// recorded gives facts as they will stand in the log. Their ids are derived from all that they say, so that two runners at
// one revision share an append only where they say the same.
func (t *term) recorded(i *instance, facts []saga.Event, trigger any, now time.Time) ([]fact, error) {
	meta := t.meta(now)
	meta.Stream, meta.Correlation, meta.Traceparent = i.stream, i.correlation, i.traceparent
	meta.Org, meta.Tenant = i.state.Started.Org, i.state.Started.Tenant
	meta.Causation = i.askedBy
	switch w := trigger.(type) {
	case Event:
		meta.Causation = w.Meta.EventID
		if i.revision == domain.NoStream {
			meta.Correlation, meta.Traceparent, meta.Org, meta.Tenant = w.Meta.Correlation, w.Meta.Traceparent, w.Meta.Org, w.Meta.Tenant
			if meta.Correlation == "" {
				meta.Correlation = w.Meta.EventID
			}
		}
	case Accepted:
		if len(w.Events) > 0 {
			meta.Causation = w.Events[0].Meta.EventID
		}
	}
	content := sha256.New()
	for _, f := range facts {
		name, _, data, err := ownFacts.Encode(f)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(content, "%s %d %s\n", name, len(data), data)
	}
	reaction := domain.DeriveUUID("reaction", i.stream, fmt.Sprint(i.revision), hex.EncodeToString(content.Sum(nil))).String()
	all := make([]fact, len(facts))
	for n, f := range facts {
		m := meta
		m.Revision, m.EventID = i.revision+1+int64(n), domain.EventID(reaction, i.stream, n)
		all[n] = fact{f, m}
	}
	return all, nil
}

// send puts the pending ask to the Bus, if it is new or its time has come again; what the Bus answers is the next trigger.
func (t *term) send(i *instance) (trigger any) {
	ask := i.state.Pending
	if ask == nil || !t.maySend() {
		return nil
	}
	now := t.Clock.Now()
	if i.sent == ask.CommandID && (i.resend.IsZero() || now.Before(i.resend)) {
		return nil
	}
	i.sent, i.resend = ask.CommandID, time.Time{}
	command, err := t.command(ask)
	if err != nil {
		return Refused{ask.CommandID, domain.CodeInternal, ""}
	}
	out, err := t.Bus.Execute(t.ctx, Ask{Command: command, CommandID: ask.CommandID,
		Answers: domain.Answers{Saga: i.id, Command: ask.CommandID}, Actor: t.Actor,
		Correlation: i.correlation, Causation: i.askedBy, Traceparent: i.traceparent})
	switch code := domain.CodeOf(err); {
	case t.ctx.Err() != nil:
		return nil
	case err == nil && out.Quiet:
		return Quiet{ask.CommandID}
	case err == nil:
		return Accepted{ask.CommandID, out.Stream, out.Revision, out.Events}
	case code == domain.CodeUnavailable || code == domain.CodeConflict || code == domain.CodeLagging:
		i.resend = now.Add(backoff(i.tries))
		i.tries++
		t.Logger.WarnContext(t.ctx, "a saga's command is not answered and is sent again", "saga", i.stream, "step", ask.Step, "error", err)
		return nil
	default:
		if code == domain.CodeInternal {
			t.Logger.ErrorContext(t.ctx, "a saga's command failed", "saga", i.stream, "step", ask.Step, "error", err)
		}
		return Refused{ask.CommandID, code, public(err)}
	}
}

func (t *term) command(ask *saga.Asked) (domain.Command, error) {
	v, err := t.Registry.Decode(ask.Command, ask.Rev, ask.Body)
	if err != nil {
		return nil, err
	}
	c, ok := v.(domain.Command)
	if !ok {
		return nil, fmt.Errorf("%T is no command", v)
	}
	return c, nil
}

// saveCursor writes the cursor as it stands; losing it costs time alone.
func (t *term) saveCursor(ctx context.Context) {
	c, changed := t.track.cursor(t.Epoch)
	if !changed {
		return
	}
	if err := t.Cursors.Save(ctx, c); err != nil {
		t.track.unsaved()
		t.Logger.WarnContext(ctx, "the saga runner's cursor was not kept", "error", err)
	}
}
