package bus

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/domain"
)

// groups is one group in memory. Each Consume gives what is put into events until it is told to break.
type groups struct {
	mu      sync.Mutex
	answers []string
	ensured []string
	events  chan Event
	broken  chan error
}

func (g *groups) note(to *[]string, text string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	*to = append(*to, text)
}

func (g *groups) noted(of *[]string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(*of)
}

func (g *groups) EnsureGroup(_ context.Context, stream, group string, _ GroupSettings) error {
	g.note(&g.ensured, stream+"::"+group)
	return nil
}

func (g *groups) Consume(ctx context.Context, _, _ string, _ int) iter.Seq2[Consumed, error] {
	return func(yield func(Consumed, error) bool) {
		answer := func(text string) error {
			if ctx.Err() != nil {
				return errors.New("the subscription has ended")
			}
			g.note(&g.answers, text)
			return nil
		}
		for {
			select {
			case e := <-g.events:
				if !yield(Consumed{Event: e, Ack: func() error { return answer("ack " + e.ID) }, Retry: func(string) error { return answer("retry " + e.ID) }}, nil) {
					return
				}
			case err := <-g.broken:
				yield(Consumed{}, err)
				return
			case <-ctx.Done():
				return
			}
		}
	}
}

func newGroups() *groups { return &groups{events: make(chan Event, 10), broken: make(chan error)} }

func TestTheGroupHasEveryAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroups()
		s, err := NewConsumers(ConsumersConfig{Groups: g, Name: "workers"})
		if err != nil {
			t.Fatal(err)
		}
		messages, err := s.Subscribe(t.Context(), "topic-a")
		if err != nil {
			t.Fatal(err)
		}
		g.events <- Event{ID: "one"}
		(<-messages).Ack()
		g.events <- Event{ID: "two"}
		(<-messages).Nack()
		synctest.Wait()
		if d := cmp.Diff([]string{"ack one"}, g.noted(&g.answers)); d != "" {
			t.Error("a nacked one waits for its pause:", d)
		}
		time.Sleep(time.Minute)
		if d := cmp.Diff([]string{"ack one", "retry two"}, g.noted(&g.answers)); d != "" {
			t.Error(d)
		}
		g.broken <- domain.Unavailable("dropped", nil)
		time.Sleep(time.Minute)
		g.events <- Event{ID: "three"}
		(<-messages).Ack()
		synctest.Wait()
		if d := cmp.Diff([]string{"ack one", "retry two", "ack three"}, g.noted(&g.answers)); d != "" {
			t.Error("after a break:", d)
		}
		if d := cmp.Diff([]string{"topic-a::workers", "topic-a::workers"}, g.noted(&g.ensured)); d != "" {
			t.Error("a group that was deleted is made anew:", d)
		}
		_ = s.Close()
		if _, open := <-messages; open {
			t.Error("more came")
		}
	})
}

func TestAnAnswerThatComesWhileClosingArrives(t *testing.T) {
	for _, grace := range []time.Duration{time.Minute, 0} {
		t.Run(grace.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGroups()
				s, err := NewConsumers(ConsumersConfig{Groups: g, Name: "workers", Grace: grace})
				if err != nil {
					t.Fatal(err)
				}
				messages, err := s.Subscribe(t.Context(), "topic-a")
				if err != nil {
					t.Fatal(err)
				}
				g.events <- Event{ID: "one"}
				m := <-messages
				answered, began := time.AfterFunc(time.Second, func() { m.Ack() }), time.Now()
				_ = s.Close()
				answered.Stop()
				var want []string
				if grace > 0 {
					want = []string{"ack one"}
				}
				if took := time.Since(began); took != min(grace, time.Second) { // the bubble's time
					t.Errorf("closing waited %v", took)
				}
				if d := cmp.Diff(want, g.noted(&g.answers)); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

func TestConsumersNameWhatIsWrong(t *testing.T) {
	if _, err := NewConsumers(ConsumersConfig{Name: "workers"}); err == nil {
		t.Error("without groups")
	}
	for _, c := range []ConsumersConfig{{Groups: newGroups(), Name: "W"}, {Groups: newGroups(), Name: "workers", Buffer: -1}} {
		if _, err := NewConsumers(c); domain.CodeOf(err) != domain.CodeInvalid {
			t.Error(err)
		}
	}
	g := newGroups()
	s, err := NewConsumers(ConsumersConfig{Groups: g, Name: "workers"})
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{All, "$ce-topic", ""} { // groups on several streams lose events
		if err := s.SubscribeInitialize(topic); domain.CodeOf(err) != domain.CodeInvalid {
			t.Error(topic, err)
		}
		if _, err := s.Subscribe(t.Context(), topic); domain.CodeOf(err) != domain.CodeInvalid {
			t.Error(topic, err)
		}
	}
	if len(g.ensured) != 0 {
		t.Error(g.ensured)
	}
}

// lease is held by one at a time, and can be taken away.
type lease struct {
	turn chan struct{}
	lose chan struct{}
}

func (l *lease) Lead(ctx context.Context, _ string, run func(context.Context) error) error {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-l.turn }()
	held, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-l.lose:
			cancel()
		case <-done:
		}
	}()
	return run(held)
}

func TestWithALeaseOneReadsAndTheNextGoesOnWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemory()
		l.add(t, "topic-a", "x", 1, 2, 3)
		turns := &lease{make(chan struct{}, 1), make(chan struct{})}
		c := SubscriberConfig{Log: l, Leases: turns}
		_, first := subscribe(t, c, "topic-a")
		synctest.Wait()
		_, second := subscribe(t, c, "topic-a")
		none(t, second)
		(<-first).Ack()
		out := <-first
		turns.lose <- struct{}{}
		<-out.Context().Done() // another delivers it now
		if m := <-second; string(m.Payload) != "2" {
			t.Errorf("%s came", m.Payload)
		}
		out.Ack() // too late
		time.Sleep(time.Minute)
		none(t, first)
		if at := saved(t, l, "topic-a"); at.Revision != 0 {
			t.Errorf("an answer that came too late has moved the place: %+v", at)
		}
	})
}
