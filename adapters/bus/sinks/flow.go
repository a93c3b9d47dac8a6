package sinks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/sink"
)

// flow is one sink at work, for one term of the lease.
type flow struct {
	Sink
	r        *Runner
	filter   filter
	personal personal
	schedule *schedule
	control  *control
	cursor   cursor
	start    uint64 // behind which it reads

	counted      atomic.Uint64 // events behind start that the sink wants, by the reader ahead
	firstCounted atomic.Pointer[time.Time]

	running  sync.WaitGroup // workers, and pauses
	receiver *receiver

	mu         sync.Mutex
	parkedHere map[string]bool // parked by this process; the log may not have told yet
}

// prepare learns where the sink stands.
func (r *Runner) prepare(ctx context.Context, s Sink) (*flow, error) {
	f := &flow{Sink: s, r: r, filter: newFilter(s.Config), personal: personal{s.Personal, r.Opener, s.Key}, control: newControl(),
		cursor: cursor{r: r, stream: sink.CursorStream(s.Name)}, parkedHere: map[string]bool{}}
	for e, err := range r.Log.Read(ctx, sink.Aggregate.Stream(s.Name), 0) {
		if err == nil {
			_, err = f.control.learn(e)
		}
		if err != nil {
			return nil, err
		}
	}
	at, commit, err := f.cursor.load(ctx, s.FromStart)
	if err != nil {
		return nil, err
	}
	f.start, f.receiver, f.schedule = commit, newReceiver(at.FailingSince), newSchedule(r.Window, at.Place)
	for _, p := range at.Held {
		f.schedule.held[p.Stream] = &held{next: p.Revision, until: commit}
		for e, err := range f.waiting(ctx, p.Stream, p.Revision, commit) {
			if err != nil {
				return nil, err
			}
			f.count(&e)
		}
	}
	f.heed()
	return f, nil
}

// run sends events until ctx ends. Its error is that another process runs the sink.
func (f *flow) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, f.schedule.close)()
	for range f.InFlight {
		f.running.Go(func() { f.work(ctx) })
	}
	var others sync.WaitGroup
	others.Go(func() { f.redeliver(ctx) })
	others.Go(func() { f.refill(ctx) })
	others.Go(func() { _ = f.r.follow(ctx, f.start, f.take) })
	saving, stopSaving := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSaving()
	others.Go(func() { cancel(f.keepCursor(saving)) })
	<-ctx.Done()
	f.schedule.close()
	f.running.Wait() // what they have delivered by now, the last cursor includes
	stopSaving()
	others.Wait()
	if err := context.Cause(ctx); domain.CodeOf(err) == domain.CodeConflict {
		return err
	}
	return nil
}

var errClosed = errors.New("the sink is stopping")

// take puts an event of the log in line; it waits while too many are unresolved.
func (f *flow) take(e domain.Recorded) error {
	if !f.filter.wants(&e) {
		f.schedule.pass(&e)
	} else if !f.schedule.add(e) {
		return errClosed
	}
	return nil
}

func (f *flow) work(ctx context.Context) {
	for l, i := f.schedule.next(); l != nil && ctx.Err() == nil; l, i = f.schedule.next() {
		if wait, again := f.attempt(ctx, i); !again {
			f.schedule.done(l)
		} else if f.schedule.rest(l); ctx.Err() != nil {
			return // what is unresolved comes again in another term
		} else {
			f.later(ctx, wait, func() { f.schedule.wake(l) })
		}
	}
}

// wait is one for a time, or until early is closed.
type wait struct {
	most  time.Duration
	early <-chan struct{}
}

// later does something after a wait, unless ctx ends before.
func (f *flow) later(ctx context.Context, w wait, do func()) {
	f.running.Go(func() {
		select {
		case <-f.r.Clock.After(w.most):
			do()
		case <-w.early:
			do()
		case <-ctx.Done():
		}
	})
}

// attempt delivers an item once. again tells that it is unresolved, and after which wait it is tried once more.
func (f *flow) attempt(ctx context.Context, i *item) (next wait, again bool) {
	started := f.r.Clock.Now()
	if i.first.IsZero() {
		i.first = started
	}
	i.attempts++
	err := f.publish(ctx, &i.event)
	ended := f.r.Clock.Now()
	if err != nil && ctx.Err() != nil {
		return wait{}, true // stopped in the middle: it comes again
	}
	d := Delivery{Sink: f.Name, EventID: i.event.EventID, Type: i.event.Type, Stream: i.event.Stream, Revision: i.event.Revision,
		Attempt: i.attempts, Started: started, Took: ended.Sub(started), Outcome: OutcomeDelivered}
	f.r.metrics.took(f.Name, d.Took)
	if err == nil {
		f.r.record(d)
		f.succeeded(ctx, ended)
		return wait{}, !f.delivered(ctx, i)
	}
	why := failureOf(err)
	d.Outcome, d.Code, d.Status = OutcomeFailed, why.code, why.status
	since, back := f.failed(ctx, i, why, ended)
	switch {
	case why.gone:
		f.r.record(d)
		f.disable(ctx, i, sink.WhyGone, since, why.code)
		return wait{}, true
	case ended.Sub(since) >= f.DisableAfter:
		f.r.record(d)
		f.disable(ctx, i, sink.WhyFailing, since, why.code)
		return wait{}, true
	case i.attempts >= f.Attempts:
		d.Outcome = OutcomeParked
		f.r.record(d)
		return wait{}, !f.park(ctx, i, why.code)
	}
	f.r.record(d)
	if why.retryAfter > 0 {
		back = nil
	}
	return wait{f.pauseAfter(i.attempts, why.retryAfter), back}, true
}

// pauseAfter is how long to wait after the n-th failure: drawn from 0 up to a bound that doubles, so that receivers that come
// back are not met by all at once; no less than what the receiver asked for, and never more than Most.
func (f *flow) pauseAfter(n int, asked time.Duration) time.Duration {
	bound := f.First
	for range n - 1 {
		if bound >= f.Most/2 {
			bound = f.Most
			break
		}
		bound *= 2
	}
	return min(max(f.r.Jitter(min(bound, f.Most)), asked), f.Most)
}

func (f *flow) publish(ctx context.Context, e *domain.Recorded) (err error) {
	defer func() {
		if p := recover(); p != nil {
			f.r.Logger.ErrorContext(ctx, "a sink's target panicked", "sink", f.Name, "panic", fmt.Sprint(p))
			err = failedWith("panic")
		}
	}()
	data, err := f.personal.replace(ctx, e.Data)
	if err != nil {
		return errors.Join(failedWith("payload"), err)
	}
	m := wrap(e, envelope(f.r.Epoch.ID, e, data))
	m.SetContext(ctx)
	return f.Publisher.Publish(f.Topic, m)
}

// delivered resolves an item; false when ctx ended before the log knows of it.
func (f *flow) delivered(ctx context.Context, i *item) bool {
	f.mu.Lock()
	parked := f.parkedHere[i.event.EventID]
	delete(f.parkedHere, i.event.EventID)
	f.mu.Unlock()
	f.r.metrics.delivered(f.Name)
	if i.again == nil {
		return true
	}
	state, _, _ := f.control.now()
	if _, told := state.Parked.Get(i.event.EventID); parked || told {
		c := sink.Deliver{Sink: f.Name, EventID: i.event.EventID}
		if _, ok := f.execute(ctx, c, commandID("delivered", f.Name, i)); !ok {
			return false
		}
	}
	i.again.settle(true)
	return true
}

// park sets an item aside; false when ctx ended before the log knows of it.
func (f *flow) park(ctx context.Context, i *item, code string) bool {
	c := sink.Park{Sink: f.Name, Place: sink.Place{Stream: i.event.Stream, Revision: i.event.Revision}, EventID: i.event.EventID,
		Attempts: i.attempts, Code: code}
	if _, ok := f.execute(ctx, c, commandID("parked", f.Name, i)); !ok {
		return false
	}
	f.mu.Lock()
	f.parkedHere[i.event.EventID] = true
	f.mu.Unlock()
	f.r.metrics.parked(f.Name)
	if i.again != nil {
		i.again.settle(false)
	}
	return true
}

// disable stops the sink. The item stays where it is, with all its attempts before it.
func (f *flow) disable(ctx context.Context, i *item, why string, since time.Time, code string) {
	f.control.hold()
	f.heed()
	i.attempts = 0
	c := sink.Disable{Sink: f.Name, Why: why, Since: since, Code: code}
	revision, ok := f.execute(ctx, c, domain.DeriveUUID("sink disabled", f.Name, fmt.Sprint(f.r.Clock.Now().UnixNano())).String())
	if ok {
		f.r.Logger.ErrorContext(ctx, "a sink is disabled", "sink", f.Name, "why", why, "code", code)
		f.control.release(revision)
		f.heed()
	}
}

// commandID is that of one series of attempts: the same event may be parked and delivered many times.
func commandID(what, name string, i *item) string {
	return domain.DeriveUUID("sink "+what, name, i.event.EventID, fmt.Sprint(i.first.UnixNano())).String()
}

// execute asks the Bus until it answers, or ctx ends.
func (f *flow) execute(ctx context.Context, c domain.Command, id string) (revision int64, ok bool) {
	for n := 0; ; n++ {
		revision, err := f.r.Commands.Execute(ctx, c, id)
		if err == nil {
			return revision, true
		}
		if ctx.Err() == nil {
			f.r.Logger.WarnContext(ctx, "a sink's decision is not in the log yet", "sink", f.Name, "error", err)
		}
		if !f.r.sleep(ctx, pause(n)) {
			return 0, false
		}
	}
}

// failure is what the runtime asks an error. Permanent ones are attempted again like all others, as Standard Webhooks
// advises: a 4xx is most often an expired credential or a route in the middle of a deployment, and giving up on the first
// would park every event of that hour. Only 410 Gone is taken at its word.
type failure struct {
	code       string
	status     int
	gone       bool
	retryAfter time.Duration
}

var codeForm = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)

func failureOf(err error) (f failure) {
	var coded interface{ Code() string }
	var gone interface{ Gone() bool }
	var after interface{ RetryAfter() time.Duration }
	var status interface{ Status() int }
	if errors.As(err, &coded) && codeForm.MatchString(coded.Code()) {
		f.code = coded.Code()
	} else if errors.Is(err, context.DeadlineExceeded) {
		f.code = "timeout"
	}
	f.code = cmp.Or(f.code, "failed")
	f.gone = errors.As(err, &gone) && gone.Gone()
	if errors.As(err, &after) {
		f.retryAfter = after.RetryAfter()
	}
	if errors.As(err, &status) {
		f.status = status.Status()
	}
	return f
}

// failedWith is an error of our own with a code.
type failedWith string

func (f failedWith) Error() string { return string(f) }

// Code is the failure's.
func (f failedWith) Code() string { return string(f) }
