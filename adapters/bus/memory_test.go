package bus

import (
	"bytes"
	"context"
	"iter"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/domain"
)

// memory is a log in memory, whose calls fail as a test tells them to.
type memory struct {
	mu     sync.Mutex
	events []Event
	places map[string][]int // of each stream's events
	grown  chan struct{}    // closed when there are more events
	epoch  domain.Epoch
	// fault is asked before and after each append. An error after it is an answer that was lost.
	fault func(e Event, done bool) error
}

func newMemory() *memory {
	return &memory{places: map[string][]int{}, grown: make(chan struct{}), epoch: domain.Epoch{Number: 1, ID: "one"}}
}

func (l *memory) Append(_ context.Context, expected int64, e Event) error {
	if l.fault != nil {
		if err := l.fault(e, false); err != nil {
			return err
		}
	}
	if err := l.append(expected, e); err != nil || l.fault == nil {
		return err
	}
	return l.fault(e, true)
}

func (l *memory) append(expected int64, e Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	had := l.places[e.Stream]
	for i, at := range had {
		if l.events[at].ID == e.ID && (expected == AnyRevision || int64(i) == expected+1) {
			return nil
		}
	}
	if last := int64(len(had)) - 1; expected != AnyRevision && expected != last {
		return domain.Conflict(expected, last)
	}
	e.Revision, e.Position = int64(len(had)), uint64(len(l.events)+1)*10
	e.Created = time.Now()
	l.places[e.Stream], l.events = append(had, len(l.events)), append(l.events, e)
	close(l.grown)
	l.grown = make(chan struct{})
	return nil
}

// in gives a stream's events.
func (l *memory) in(stream string) (of []Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, at := range l.places[stream] {
		of = append(of, l.events[at])
	}
	return of
}

func (l *memory) At(_ context.Context, stream string, revision int64) (Event, bool, error) {
	if of := l.in(stream); revision >= 0 && revision < int64(len(of)) {
		return of[revision], of[revision].ID != "", nil
	}
	return Event{}, false, nil
}

func (l *memory) Last(ctx context.Context, stream string) (Event, bool, error) {
	return l.At(ctx, stream, int64(len(l.in(stream)))-1)
}

func (l *memory) Follow(ctx context.Context, after uint64) iter.Seq2[Event, error] {
	return l.follow(ctx, func(e Event) bool { return e.Position > after })
}

func (l *memory) FollowStream(ctx context.Context, stream string, after int64) iter.Seq2[Event, error] {
	return l.follow(ctx, func(e Event) bool { return e.Stream == stream && e.Revision > after })
}

func (l *memory) follow(ctx context.Context, wanted func(Event) bool) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for n := 0; ctx.Err() == nil; n++ {
			l.mu.Lock()
			grown, have := l.grown, len(l.events)
			var e Event
			if n < have {
				e = l.events[n]
				e.Data, e.Metadata = bytes.Clone(e.Data), bytes.Clone(e.Metadata)
			}
			l.mu.Unlock()
			switch {
			case n < have && wanted(e) && e.ID != "" && e.Stream[0] != '$':
				if !yield(e, nil) {
					return
				}
			case n >= have:
				n--
				select {
				case <-grown:
				case <-ctx.Done():
				}
			}
		}
	}
}

func (l *memory) Epoch(context.Context) (domain.Epoch, error) { return l.epoch, nil }

// add puts numbered events into a stream, as others than the bus do.
func (l *memory) add(t testing.TB, stream, kind string, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		text := strconv.Itoa(n)
		if err := l.append(AnyRevision, Event{Stream: stream, ID: domain.DeriveUUID(stream, text).String(), Type: kind, JSON: true, Data: []byte(text)}); err != nil {
			t.Fatal(err)
		}
	}
}

// expire takes an event out of the log, as a limit of its stream does.
func (l *memory) expire(stream string, revision int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events[l.places[stream][revision]].ID = ""
}

// subscribe makes a subscription that ends with the test, and gives its messages.
func subscribe(t testing.TB, c SubscriberConfig, topic string) (*Subscriber, <-chan *message.Message) {
	t.Helper()
	if c.Name == "" {
		c.Name = "reader"
	}
	s, err := NewSubscriber(c)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := s.Subscribe(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, messages
}

// ackAll acks what comes until nothing more does, and says what came: stream/payload.
func ackAll(messages <-chan *message.Message) (came []string) {
	for {
		synctest.Wait()
		select {
		case m, open := <-messages:
			if !open {
				return append(came, "closed")
			}
			came = append(came, m.Metadata.Get(StreamKey)+"/"+string(m.Payload))
			m.Ack()
		default:
			return came
		}
	}
}

// none fails when a message is there to be had.
func none(t testing.TB, messages <-chan *message.Message) {
	t.Helper()
	synctest.Wait()
	select {
	case m, open := <-messages:
		if open {
			t.Errorf("%s/%s came", m.Metadata.Get(StreamKey), m.Payload)
		}
	default:
	}
}
