package sinks_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/adapters/bus/sinks"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/sink"
)

var registry = domain.NewRegistry(sink.Events, sink.Cursors)

// world is the log, the Bus, the key store, the lease and the clock around the sinks, in a synctest bubble.
type world struct {
	mu     sync.Mutex
	events []domain.Recorded
	grown  chan struct{}
	dead   bool // the cursor can no longer be written: what a killed process leaves
	writes int  // of cursors
	held   chan struct{}
	ended  map[string]bool // keys destroyed
	window int             // of the sinks; 50 when zero
}

func newWorld() *world {
	w := &world{grown: make(chan struct{}), held: make(chan struct{}, 1), ended: map[string]bool{}}
	w.put("log-epoch", "log.epoch.began", "{}")
	return w
}

// put appends an event of anybody.
func (w *world) put(stream, kind, data string) domain.Recorded {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.append(stream, domain.Recorded{Meta: domain.Meta{Type: kind, Rev: 1, RecordedAt: domain.Micro(time.Now())}, Data: []byte(data)})
}

func (w *world) append(stream string, e domain.Recorded) domain.Recorded {
	e.Stream, e.Revision, e.Commit = stream, w.last(stream)+1, uint64(len(w.events)+1)*10
	if e.EventID == "" {
		e.EventID = domain.DeriveUUID(stream, fmt.Sprint(e.Revision)).String()
	}
	w.events = append(w.events, e)
	close(w.grown)
	w.grown = make(chan struct{})
	return e
}

func (w *world) last(stream string) int64 {
	for i := len(w.events) - 1; i >= 0; i-- {
		if w.events[i].Stream == stream {
			return w.events[i].Revision
		}
	}
	return domain.NoStream
}

func (w *world) all() ([]domain.Recorded, chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.events[:len(w.events):len(w.events)], w.grown
}

func (w *world) Follow(ctx context.Context, after uint64) iter.Seq2[domain.Delivery, error] {
	return func(yield func(domain.Delivery, error) bool) {
		for ctx.Err() == nil {
			events, grown := w.all()
			for _, e := range events {
				if e.Commit <= after || strings.HasPrefix(e.Stream, "$") {
					continue
				}
				after = e.Commit
				if !yield(domain.Delivery{Event: e, Commit: e.Commit}, nil) {
					return
				}
			}
			select {
			case <-grown:
			case <-ctx.Done():
			}
		}
	}
}

func (w *world) ReadAll(_ context.Context, after uint64, limit int) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		events, _ := w.all()
		for _, e := range events {
			if e.Commit > after && limit > 0 && !strings.HasPrefix(e.Stream, "$") {
				limit--
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

func (w *world) Read(_ context.Context, stream string, from int64) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for _, e := range w.stream(stream) {
			if e.Revision >= from && !yield(e, nil) {
				return
			}
		}
	}
}

func (w *world) ReadBackwards(_ context.Context, stream string, _ int64, limit int) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		events := w.stream(stream)
		slices.Reverse(events)
		for _, e := range events[:min(limit, len(events))] {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (w *world) stream(name string) (found []domain.Recorded) {
	events, _ := w.all()
	for _, e := range events {
		if e.Stream == name {
			found = append(found, e)
		}
	}
	return found
}

func (w *world) Append(_ context.Context, stream string, expected int64, events []domain.Proposed) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return domain.Unavailable("the process is dead", nil)
	}
	if last := w.last(stream); last != expected {
		return domain.Conflict(expected, last)
	}
	if strings.HasPrefix(stream, "sinkcursor-") {
		w.writes++
	}
	for _, p := range events {
		e := domain.Recorded{Data: p.Data}
		if err := domain.DecodeMeta(p.Meta, &e.Meta); err != nil {
			return err
		}
		e.EventID, e.Type = p.ID, p.Type
		w.append(stream, e)
	}
	return nil
}

func (w *world) Head(context.Context) (uint64, error) {
	events, _ := w.all()
	return events[len(events)-1].Commit, nil
}

// Execute decides as the Bus does.
func (w *world) Execute(_ context.Context, c domain.Command, id string) (int64, error) {
	if checked, is := c.(interface{ Check() error }); is {
		if err := checked.Check(); err != nil {
			return 0, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return 0, domain.Unavailable("the process is dead", nil)
	}
	stream := sink.Aggregate.Stream(c.Target())
	state := sink.State{}
	for _, e := range w.events {
		if e.Stream == stream {
			m, err := registry.DecodeRecorded(e)
			if err != nil {
				return 0, err
			}
			if state = sink.Lifecycle.Evolve(state, m.(sink.Event)); e.CommandID == id {
				return e.Revision, nil
			}
		}
	}
	events, err := sink.Lifecycle.Decide(state, c)
	for i, e := range events {
		name, rev, data, _ := registry.Encode(e)
		w.append(stream, domain.Recorded{Meta: domain.Meta{Type: name, Rev: rev, CommandID: id, RecordedAt: domain.Micro(time.Now()),
			EventID: domain.EventID(id, stream, i)}, Data: data})
	}
	return w.last(stream), err
}

func (w *world) ask(t *testing.T, c domain.Command) {
	t.Helper()
	if r, is := c.(sink.RequestRedelivery); is {
		r.CommandID = domain.DeriveUUID(fmt.Sprint(w.Head(t.Context()))).String()
		c = r
	}
	if _, err := w.Execute(t.Context(), c, domain.DeriveUUID("operator", fmt.Sprint(w.Head(t.Context()))).String()); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func (w *world) said(name string) (types []string) {
	for _, e := range w.stream("sink-" + name) {
		types = append(types, strings.TrimPrefix(e.Type, "sink."))
	}
	return types
}

// Lead implements Lease: one holder.
func (w *world) Lead(ctx context.Context, run func(context.Context) error) error {
	select {
	case w.held <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-w.held }()
	return run(ctx)
}

func (w *world) Now() time.Time                         { return time.Now() }
func (w *world) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Open tells clear text from the ciphertext, which it is.
func (w *world) Open(_ context.Context, s domain.Sealed) (string, bool, error) {
	return string(s.Text), !w.ended[s.Subject], nil
}

// target is a receiver that answers as it is told.
type target struct {
	mu     sync.Mutex
	answer func(m *message.Message) error
	got    []string // stream/revision, in the order of arrival, of what was taken
	ids    []string
	tried  int
	busy   map[string]bool
	broken []string
}

func (r *target) Publish(_ string, messages ...*message.Message) error {
	m := messages[0]
	stream := m.Metadata.Get("stream")
	r.mu.Lock()
	if r.busy == nil {
		r.busy = map[string]bool{}
	}
	if r.busy[stream] {
		r.broken = append(r.broken, "two of "+stream+" at once")
	}
	r.busy[stream] = true
	r.tried++
	answer := r.answer
	r.mu.Unlock()
	var err error
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.busy[stream] = false
		if err == nil {
			r.got, r.ids = append(r.got, stream+"/"+m.Metadata.Get("revision")), append(r.ids, m.UUID)
		}
	}()
	if answer != nil {
		err = errors.New("panicked")
		err = answer(m)
	}
	return err
}

func (r *target) Close() error { return nil }

func (r *target) set(answer func(*message.Message) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func (r *target) taken() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

type refused struct {
	gone  bool
	after time.Duration
}

func (refused) Error() string               { return "refused" }
func (refused) Code() string                { return "status-500" }
func (r refused) Gone() bool                { return r.gone }
func (r refused) RetryAfter() time.Duration { return r.after }

func always(err error) func(*message.Message) error {
	return func(*message.Message) error { return err }
}

func config(name string) sinks.Config {
	return sinks.Config{Name: name, Types: []string{"tenant.*"}, FromStart: true, Attempts: 3, First: time.Second, Most: time.Minute,
		DisableAfter: time.Hour, InFlight: 4}
}

// start runs sinks until stop is called, which waits for their end.
func (w *world) start(t *testing.T, ring *sinks.Ring, all ...sinks.Sink) (r *sinks.Runner, stop func()) {
	t.Helper()
	o := sinks.Options{Sinks: all, Log: w, Commands: w, Opener: w, Lease: w, Clock: w, Epoch: domain.Epoch{Number: 1, ID: "0a1b"},
		Jitter: func(most time.Duration) time.Duration { return most }, Window: cmp.Or(w.window, 50)}
	if ring != nil {
		o.Deliveries = ring
	}
	r, err := sinks.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Run(ctx)
	}()
	synctest.Wait()
	return r, func() { cancel(); <-done }
}
