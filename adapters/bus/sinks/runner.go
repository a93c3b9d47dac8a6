package sinks

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/sink"
)

// actor is that of what the runtime writes.
const actor = "sinks"

// Options are what a Runner is made of. All but Deliveries, Metrics, Window and Logger are required; Opener only for sinks
// that open or hash personal fields.
type Options struct {
	Sinks      []Sink
	Log        Log
	Commands   Commander
	Opener     Opener
	Lease      Lease
	Clock      Clock
	Jitter     func(most time.Duration) time.Duration // draws from 0 to most
	Epoch      domain.Epoch                           // of the log
	Deliveries Deliveries                             // nil keeps none
	Metrics    prometheus.Registerer                  // nil counts for Status alone
	Window     int                                    // unresolved events of one sink in memory; 1,000 when zero
	Logger     *slog.Logger                           // nil drops
}

// Runner runs all sinks of this process while it holds the lease.
type Runner struct {
	Options
	metrics    *metrics
	deliveries chan Delivery

	mu   sync.Mutex
	term *term // nil while another process leads
}

// term is one time of holding the lease.
type term struct {
	*Runner
	flows map[string]*flow
	head  uint64 // of the log when it began
}

// New checks the options; the error names what is missing or stands twice.
func New(o Options) (*Runner, error) {
	if o.Log == nil || o.Commands == nil || o.Lease == nil || o.Clock == nil || o.Jitter == nil || o.Epoch.ID == "" {
		return nil, errors.New("sinks: Log, Commands, Lease, Clock, Jitter and Epoch are required")
	}
	names := map[string]bool{}
	for i, s := range o.Sinks {
		s.Config = s.withDefaults()
		o.Sinks[i] = s
		switch {
		case s.Publisher == nil || names[s.Name]:
			return nil, errors.New("sinks: " + s.Name + " has no publisher or stands twice")
		case s.Personal != Omit && o.Opener == nil || s.Personal == Hash && len(s.Key) < 16:
			return nil, errors.New("sinks: " + s.Name + " needs an opener, and a key of 16 bytes for hashes")
		}
		names[s.Name] = true
	}
	o.Window = cmp.Or(o.Window, 1000)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Runner{Options: o, deliveries: make(chan Delivery, deliveryQueue)}
	var err error
	r.metrics, err = newMetrics(r)
	return r, err
}

// Run leads whenever it holds the lease, until ctx ends. It returns early only for what needs another release
// (domain.ErrNewer).
func (r *Runner) Run(ctx context.Context) error {
	var recorder sync.WaitGroup
	recording, stop := context.WithCancel(context.WithoutCancel(ctx))
	recorder.Go(func() { r.keepDeliveries(recording) })
	defer recorder.Wait()
	defer stop()
	for n := 0; ; n++ {
		err := r.Lease.Lead(ctx, r.lead)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, domain.ErrNewer) {
			return err
		}
		r.Logger.ErrorContext(ctx, "the sinks stopped and start again", "error", err)
		if !r.sleep(ctx, pause(n)) {
			return nil
		}
	}
}

// lead runs the sinks for one term.
func (r *Runner) lead(ctx context.Context) (err error) {
	t := &term{Runner: r, flows: map[string]*flow{}}
	if t.head, err = r.Log.Head(ctx); err != nil {
		return err
	}
	for _, s := range r.Sinks {
		if t.flows[s.Name], err = r.prepare(ctx, s); err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.term = t
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.term = nil
		r.mu.Unlock()
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	goes := func(f func(context.Context) error) {
		running.Go(func() {
			if err := f(ctx); err != nil {
				cancel(err)
			}
		})
	}
	goes(func(ctx context.Context) error { return t.steer(ctx, t.head) })
	goes(t.count)
	for _, f := range t.flows {
		goes(f.run)
	}
	<-ctx.Done()
	running.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (r *Runner) sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-r.Clock.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// pause is that before try n, from 0, of what is away for a while.
func pause(n int) time.Duration { return min(50*time.Millisecond<<min(n, 8), 10*time.Second) }

// Status is how a sink stands in this process.
type Status struct {
	Name          string
	Running       bool // this process holds the lease; all below is only known then
	Phase         sink.Phase
	Lag           uint64        // events that it wants and that are neither delivered nor parked
	Behind        time.Duration // age of the oldest of them; while it reads towards that one, of what it reads
	InFlight      int
	Parked        int
	Held          int // streams whose failing events are kept from holding up the others
	LastSuccess   time.Time
	LastFailure   string // its code
	FailingSince  time.Time
	Oldest        *sink.Place // unresolved
	OldestEventID string
	Redeliveries  int // open
}

// Status tells how a sink stands; ok is false for one that is not configured. It reads nothing.
func (r *Runner) Status(name string) (s Status, ok bool) {
	r.mu.Lock()
	t := r.term
	r.mu.Unlock()
	for _, c := range r.Sinks {
		ok = ok || c.Name == name
	}
	s.Name = name
	if !ok || t == nil {
		return s, ok
	}
	return t.flows[name].status(r.Clock.Now()), true
}

func (f *flow) status(now time.Time) Status {
	state, _, _ := f.control.now()
	p := f.schedule.progress()
	f.receiver.mu.Lock()
	s := Status{Name: f.Name, Running: true, Phase: sink.Lifecycle.Phase(state), InFlight: p.busy, Parked: state.Parked.Len(), Held: p.held,
		LastSuccess: f.receiver.lastSuccess, LastFailure: f.receiver.lastFailure, FailingSince: f.receiver.failing, Redeliveries: len(state.Open)}
	f.receiver.mu.Unlock()
	s.Lag = uint64(p.waiting)
	if counted := f.counted.Load(); counted > p.resolved {
		s.Lag = max(s.Lag, counted-p.resolved)
	}
	var since time.Time
	switch first := f.firstCounted.Load(); {
	case p.oldest != nil:
		e := p.oldest.event
		s.Oldest, s.OldestEventID, since = &sink.Place{Stream: e.Stream, Revision: e.Revision}, e.EventID, e.RecordedAt
	case s.Lag == 0:
		return s
	case p.resolved == 0 && first != nil:
		since = *first
	default:
		since = p.read
	}
	if !since.IsZero() {
		s.Behind = max(0, now.Sub(since))
	}
	return s
}
