package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tenure-dev/tenure/adapters/app"
	"github.com/tenure-dev/tenure/adapters/bus"
	"github.com/tenure-dev/tenure/domain"
)

// mortalLog is a log that a process no longer reaches once it is dead: what it had not saved by then stays unsaved.
type mortalLog struct {
	app.MessageLog
	dead atomic.Bool
}

func (l *mortalLog) Append(ctx context.Context, expected int64, e bus.Event) error {
	if l.dead.Load() {
		return domain.Unavailable("this process is dead", nil)
	}
	return l.MessageLog.Append(ctx, expected, e)
}

// reader is a subscription of a log, from its beginning to its end.
type reader struct {
	*bus.Subscriber
	log      *mortalLog
	messages <-chan *message.Message
}

func read(t *testing.T, log app.MessageLog, topic string, c bus.SubscriberConfig) *reader {
	t.Helper()
	r := &reader{log: &mortalLog{MessageLog: log}}
	c.Log, c.Name, c.Redelivery = r.log, "reader", quick
	c.Logger = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	var err error
	if r.Subscriber, err = bus.NewSubscriber(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	insist(t, func() error { r.messages, err = r.Subscribe(t.Context(), topic); return err })
	return r
}

// insist asks until the event store answers: after a restart a client may need a call to find out that its connection is gone.
func insist(t *testing.T, ask func() error) {
	t.Helper()
	err := ask()
	for ; domain.CodeOf(err) == domain.CodeUnavailable; err = ask() {
		runtime.Gosched()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// kill ends a reader as a crash does: nothing is saved any more.
func (r *reader) kill() {
	r.log.dead.Store(true)
	_ = r.Close()
}

// next is the next message. It waits for ever, as the suite's own deadline does not.
func (r *reader) next(t *testing.T) *message.Message {
	t.Helper()
	m, open := <-r.messages
	if !open {
		t.Fatal("the subscription has ended")
	}
	return m
}

// publish puts numbered messages into a topic, whose ids derive from their numbers.
func publish(t *testing.T, log app.MessageLog, topic, kind string, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		m := message.NewMessage(domain.DeriveUUID(topic, strconv.Itoa(n)).String(), []byte(strconv.Itoa(n)))
		m.Metadata.Set(bus.TypeKey, kind)
		insist(t, func() error { return bus.NewPublisher(log).Publish(topic, m) })
	}
}

func upTo(n int) (all []int) {
	for i := range n {
		all = append(all, i)
	}
	return all
}

// savedEvent is the id of the event up to which the reader's place is saved, or empty.
func savedEvent(t *testing.T, log app.MessageLog, topic string) string {
	t.Helper()
	var e bus.Event
	var found bool
	insist(t, func() (err error) { e, found, err = log.Last(t.Context(), "bus-reader."+topic); return err })
	var place struct{ Event string }
	if found {
		if err := json.Unmarshal(e.Data, &place); err != nil {
			t.Fatal(err)
		}
	}
	return place.Event
}

func messageLog(t *testing.T) (*storeNode, app.MessageLog) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	s := startStore(t)
	return s, app.MessageLog{Log: s.open()}
}

// A real server's group on $all, resumed behind an event that its filter had dropped, loses the next that it wants. Ours is stopped
// behind each event of a log in turn, wanted ones and others, and resumed when the next one is there already, or not yet.
func TestAFilteredSubscriptionResumedBehindAnyEventMissesNone(t *testing.T) {
	for _, early := range []bool{false, true} {
		t.Run(fmt.Sprint("the next one is there ", early), func(t *testing.T) {
			_, log := messageLog(t)
			var got, want []string
			for n, kind := range []string{"chosen", "other", "chosen", "chosen", "other", "other", "chosen", "other", "other", "other", "chosen", "chosen"} {
				looked := make(chan struct{}, 100)
				filter := func(m domain.Meta) bool {
					looked <- struct{}{}
					return m.Type == "chosen"
				}
				topic := fmt.Sprint("topic-", n%3)
				if early {
					publish(t, log, topic, kind, n)
				}
				r := read(t, log, bus.All, bus.SubscriberConfig{Filter: filter})
				if !early {
					publish(t, log, topic, kind, n)
				}
				<-looked
				id := domain.DeriveUUID(topic, strconv.Itoa(n)).String()
				if kind == "chosen" {
					want = append(want, id)
					m := r.next(t)
					got = append(got, m.UUID)
					m.Ack()
				}
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
				if at := savedEvent(t, log, bus.All); at != id {
					t.Fatalf("it was stopped behind %s, not %s", at, id)
				}
				if len(looked) != 0 {
					t.Errorf("event %d: %d more were looked at again", n, len(looked))
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// A reader is killed after each number of acks. The next one begins with the first event behind the place that was saved, and gets
// every event from there.
func TestAKilledSubscriptionGetsAgainOnlyWhatWasNotSaved(t *testing.T) {
	const chosen = 12
	for acks := range chosen {
		t.Run(fmt.Sprint(acks, " acked"), func(t *testing.T) {
			_, log := messageLog(t)
			var ids []string
			behind := map[string]int{"": 0} // how many chosen ones are done when the place is at an event
			for n := range chosen {
				topic := fmt.Sprint("topic-", n%3)
				publish(t, log, topic, "other", 1000+n)
				publish(t, log, topic, "chosen", n)
				behind[domain.DeriveUUID(topic, strconv.Itoa(1000+n)).String()] = n
				behind[domain.DeriveUUID(topic, strconv.Itoa(n)).String()] = n + 1
				ids = append(ids, domain.DeriveUUID(topic, strconv.Itoa(n)).String())
			}
			c := bus.SubscriberConfig{InFlight: 1, SaveEvery: 3, SaveAfter: time.Hour, Filter: func(m domain.Meta) bool { return m.Type == "chosen" }}
			first := read(t, log, bus.All, c)
			for range acks {
				first.next(t).Ack()
			}
			_ = first.next(t) // it is out, and the one before it is passed
			first.kill()
			saved, known := behind[savedEvent(t, log, bus.All)]
			if !known {
				t.Fatal("the place is at no event of the log")
			}
			second := read(t, log, bus.All, c)
			m := second.next(t) // a place whose saving the crash cut short may have arrived later
			from := slices.Index(ids, m.UUID)
			got := []string{m.UUID}
			for m.Ack(); len(got) < chosen-from; m.Ack() {
				m = second.next(t)
				got = append(got, m.UUID)
			}
			if d := cmp.Diff(ids[max(from, 0):], got); d != "" || from > acks || from < saved {
				t.Errorf("%d acked, %d saved, it began with %d: %s", acks, saved, from, d)
			}
		})
	}
}

func TestTheNodeGoesAwayBetweenDeliveryAndSaving(t *testing.T) {
	store, log := messageLog(t)
	publish(t, log, "topic-a", "x", 0, 1, 2)
	first := read(t, log, "$ce-topic", bus.SubscriberConfig{SaveEvery: 1})
	delivered := first.next(t).UUID
	store.stop()
	first.kill()
	store.start()
	second := read(t, log, "$ce-topic", bus.SubscriberConfig{SaveEvery: 1})
	again := second.next(t)
	if again.UUID != delivered {
		t.Errorf("%s came again, not %s", again.UUID, delivered)
	}
	store.stop() // it is acked, and cannot be saved
	again.Ack()
	store.start()
	for _, n := range []int{1, 2} {
		m := second.next(t)
		if string(m.Payload) != strconv.Itoa(n) {
			t.Errorf("%s came, not %d", m.Payload, n)
		}
		m.Ack()
	}
	publish(t, log, "topic-a", "x", 3)
	last := second.next(t)
	if string(last.Payload) != "3" {
		t.Errorf("%s came of what was published afterwards", last.Payload)
	}
	last.Ack()
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if at := savedEvent(t, log, "$ce-topic"); at != last.UUID {
		t.Errorf("%s is saved", at)
	}
}

func TestClosedWithUnansweredMessagesTheyComeAgain(t *testing.T) {
	_, log := messageLog(t)
	for n := range 5 {
		publish(t, log, fmt.Sprint("topic-", n), "x", 0, 1)
	}
	first := read(t, log, "$ce-topic", bus.SubscriberConfig{})
	var out []string
	for range 5 {
		out = append(out, first.next(t).UUID)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, open := <-first.messages; open {
		t.Error("more came")
	}
	second := read(t, log, "$ce-topic", bus.SubscriberConfig{})
	var again []string
	for range 5 {
		again = append(again, second.next(t).UUID)
	}
	slices.Sort(out)
	slices.Sort(again)
	if d := cmp.Diff(out, again); d != "" {
		t.Error(d)
	}
}

func TestASlowStreamHoldsNoOther(t *testing.T) {
	_, log := messageLog(t)
	publish(t, log, "topic-slow", "x", 0, 1)
	publish(t, log, "topic-quick", "x", upTo(300)...)
	r := read(t, log, "$ce-topic", bus.SubscriberConfig{InFlight: 1000})
	var slow *message.Message
	for want := 0; want < 300; {
		m := r.next(t)
		if m.Metadata.Get(bus.StreamKey) == "topic-slow" {
			if slow != nil {
				t.Fatal("the second of the slow ones came before the first was acked")
			}
			slow = m
			continue
		}
		if string(m.Payload) != strconv.Itoa(want) {
			t.Fatalf("%s came, not %d", m.Payload, want)
		}
		want++
		m.Ack()
	}
	if slow == nil {
		slow = r.next(t)
	}
	slow.Ack()
	if m := r.next(t); m.Metadata.Get(bus.StreamKey) != "topic-slow" || string(m.Payload) != "1" {
		t.Errorf("%s of %s came", m.Payload, m.Metadata.Get(bus.StreamKey))
	}
}

func TestPoisonLeavesTheWayFreeOverARealNode(t *testing.T) {
	_, log := messageLog(t)
	publish(t, log, "topic-a", "x", 0, 1, 2)
	publish(t, log, "topic-b", "x", 0)
	router, err := bus.NewRouter(bus.RouterConfig{Publisher: bus.NewPublisher(log), Now: time.Now, Retries: 2, Backoff: quick})
	if err != nil {
		t.Fatal(err)
	}
	s, err := bus.NewSubscriber(bus.SubscriberConfig{Log: log, Name: "reader"})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	tries, done, all := 0, map[string]bool{}, make(chan struct{})
	router.AddConsumerHandler("h", "$ce-topic", s, func(m *message.Message) error {
		mu.Lock()
		defer mu.Unlock()
		if what := m.Metadata.Get(bus.StreamKey) + "/" + string(m.Payload); what != "topic-a/1" {
			if done[what] = true; len(done) == 3 {
				close(all)
			}
			return nil
		}
		if tries++; tries == 2 {
			panic("poison")
		}
		return errors.New("poison")
	})
	ended := make(chan error, 1)
	go func() { ended <- router.Run(context.Background()) }()
	<-all
	if err := errors.Join(router.Close(), <-ended); err != nil {
		t.Error(err)
	}
	taken, found, err := log.Last(t.Context(), "poison-h")
	if err != nil || !found || string(taken.Data) != "1" || taken.Revision != 0 || tries != 3 {
		t.Errorf("%+v, %v after %d tries", taken, err, tries)
	}
	if _, err := s.Subscribe(t.Context(), "$ce-topic"); domain.CodeOf(err) != domain.CodeUnavailable {
		t.Error("the router leaves its subscriber open:", err)
	}
}

func TestNothingBeginsUnderAContextThatHasEnded(t *testing.T) {
	_, log := messageLog(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	m := message.NewMessage("m", []byte("1"))
	m.SetContext(ended)
	if err := bus.NewPublisher(log).Publish("topic-a", m); domain.CodeOf(err) != domain.CodeUnavailable {
		t.Error(err)
	}
	if _, found, err := log.Last(t.Context(), "topic-a"); found || err != nil {
		t.Error("it was published", err)
	}
	publish(t, log, "topic-a", "x", 0)
	s, err := bus.NewSubscriber(bus.SubscriberConfig{Log: log, Name: "reader"})
	if err != nil {
		t.Fatal(err)
	}
	messages, err := s.Subscribe(ended, "topic-a")
	if err == nil {
		for m := range messages {
			t.Error(m.UUID, "came")
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
