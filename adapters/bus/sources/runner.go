package sources

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tenure-dev/tenure/domain"
)

// Options are what a Runner is made of. All but Metrics and Logger are required.
type Options struct {
	Sources  []Source
	Commands Commander
	Clock    Clock
	Epoch    domain.Epoch          // of the log
	Metrics  prometheus.Registerer // nil counts for nobody
	Logger   *slog.Logger          // nil drops
}

// Runner runs all sources of this process. Any number of processes may run the same sources: their broker shares out the
// messages, and the Bus carries out what comes twice once.
type Runner struct{ workers []*worker }

// New checks the options; the error names what is missing or stands twice.
func New(o Options) (*Runner, error) {
	if o.Commands == nil || o.Clock == nil || o.Epoch.ID == "" {
		return nil, errors.New("sources: Commands, Clock and Epoch are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	known, err := kinds()
	if err != nil {
		return nil, err
	}
	r, names := &Runner{}, []string{}
	seen := map[string]bool{}
	for _, s := range o.Sources {
		s.Config = s.withDefaults()
		if s.Subscriber == nil || s.Publisher == nil || s.Actor == "" || seen[s.Name] {
			return nil, errors.New("sources: " + s.Name + " has no subscriber, publisher or actor, or stands twice")
		}
		if s.Topic != "" && (s.Topic == s.Parked || s.Topic == s.Replies) {
			return nil, errors.New("sources: " + s.Name + " would take what it publishes itself")
		}
		seen[s.Name], names = true, append(names, s.Name)
		r.workers = append(r.workers, &worker{Source: s, commander: o.Commands, clock: o.Clock, epoch: o.Epoch, kinds: known,
			log: o.Logger.With("source", s.Name), attempts: map[[sha256.Size]byte]int{}})
	}
	counts, err := newMetrics(o.Metrics, names)
	if err != nil {
		return nil, err
	}
	for _, w := range r.workers {
		w.metrics = counts
	}
	return r, nil
}

// Run takes messages until ctx ends; then it finishes what it has begun, gives the rest back and returns. Each source runs
// by itself: a slow or dead one holds up no other. Subscribers and publishers remain the caller's to close, afterwards.
func (r *Runner) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, w := range r.workers {
		running.Go(func() { w.run(ctx) })
	}
	running.Wait()
	return nil
}

// run subscribes again whenever the subscription fails or ends by itself.
func (w *worker) run(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		messages, err := w.Subscriber.Subscribe(ctx, w.Topic)
		if err == nil {
			if w.receive(ctx, messages) {
				n = 0
			}
		}
		if ctx.Err() != nil {
			return
		}
		w.log.WarnContext(ctx, "the subscription ended and begins again", "error", err)
		select {
		case <-w.clock.After(pause(n)):
		case <-ctx.Done():
		}
	}
}

// receive takes messages until there are no more; any tells whether there were some. Once ctx has ended they are given back.
func (w *worker) receive(ctx context.Context, messages <-chan *message.Message) (any bool) {
	for m := range messages {
		if ctx.Err() != nil {
			m.Nack()
			continue
		}
		any = true
		w.take(ctx, m)
	}
	return any
}

// pause is that before try n, from 0, of what is away for a while.
func pause(n int) time.Duration { return min(50*time.Millisecond<<min(n, 8), 10*time.Second) }
