package integration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/goleak"

	"github.com/tenure-dev/tenure/adapters/bus/broker"
)

// testBroker is a broker on this machine. A name stands for whatever keeps messages apart there.
type testBroker struct {
	stop, start func() // end it, and begin it again with what it has stored, at the same address
	sink        func(name string) broker.Sink
	source      func(name string) subscribing
	stranger    broker.Sink // has a wrong password: strangersPassword
	nowhere     broker.Sink // publishes to what is not there and is not made
	url         string      // of NATS alone
}

const strangersPassword = "not-the-password"

// subscribing is a broker.Source, or what takes its place where there is none.
type subscribing interface {
	Subscriber(*slog.Logger) (message.Subscriber, error)
}

func TestNATSKeepsTheBrokersContract(t *testing.T) {
	leavesNothingBehind(t)
	b := natsBroker(t)
	brokerContract(t, b)
	t.Run("an id that the stream has is not stored again", func(t *testing.T) { dropsRepeats(t, b) })
}

func TestRabbitMQKeepsTheBrokersContract(t *testing.T) {
	leavesNothingBehind(t)
	brokerContract(t, rabbitBroker(t))
}

func TestPostgresKeepsTheBrokersContract(t *testing.T) {
	leavesNothingBehind(t)
	brokerContract(t, postgresBroker(t))
}

func TestKafkaKeepsTheBrokersContract(t *testing.T) {
	leavesNothingBehind(t)
	brokerContract(t, kafkaBroker(t))
}

func leavesNothingBehind(t *testing.T) {
	before := goleak.IgnoreCurrent()
	clock := goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick") // one for the process, of sarama's
	t.Cleanup(func() { goleak.VerifyNone(t, before, clock) })
}

// brokerContract is what holds for every broker. Each part stands for itself and leaves the broker running.
func brokerContract(t *testing.T, b testBroker) {
	parts := map[string]func(*testing.T, testBroker){
		"streams arrive whole and in order, each message refused once": arrivesInOrder,
		"a restart in mid-batch loses nothing acknowledged":            survivesRestart,
		"a cancelled Publish stores nothing":                           heedsContexts,
		"after Close nothing is published or received":                 closes,
		"what the broker refuses has its code":                         saysWhy,
	}
	parts["a sink delivers all through a restart"] = func(t *testing.T, b testBroker) {
		sinksDeliver(t, b.sink("sunk"), b.source("sunk"), func() { b.stop(); b.start() })
	}
	if _, ours := b.source("").(broker.Source); ours {
		parts["answers go where their topics say"] = answersArrive
		parts["a subscriber goes on where the last one has ended"] = goesOn
	}
	for name, part := range parts {
		t.Run(name, func(t *testing.T) { part(t, b) })
	}
}

// arrivesInOrder, too, holds a message over the limit to fail for good and to hinder no other.
func arrivesInOrder(t *testing.T, b testBroker) {
	const streams, each = 4, 10
	publisher, messages := openPublisher(t, b.sink("ordered")), openSubscriber(t, b.source("ordered"))
	var all sync.WaitGroup
	for s := range streams {
		all.Go(func() {
			for n := range each {
				publishAgain(t, publisher, brokerMessage(s, n, ""))
			}
		})
	}
	all.Wait()
	large := failureOf(t, publisher.Publish("", brokerMessage(9, 9, strings.Repeat("x", 100<<10))))
	if !large.Permanent() || large.Code() != broker.CodeTooLarge {
		t.Fatalf("a message over the limit: %v", large)
	}
	next, refused := map[string]int{}, map[string]bool{}
	for done := 0; done < streams*each; {
		m := receive(t, messages)
		stream := m.Metadata.Get("stream")
		want := fmt.Sprintf("%s-%d", stream, next[stream])
		if m.UUID != want || string(m.Payload) != fmt.Sprintf(`{"id":  %q,"pad":""}`, want) || m.Metadata.Get("type") != "tenant.requested" {
			t.Fatalf("got %s %s %v, want %s", m.UUID, m.Payload, m.Metadata, want)
		}
		if !refused[m.UUID] {
			refused[m.UUID] = true
			m.Nack()
			continue
		}
		next[stream]++
		done++
		m.Ack()
	}
}

func goesOn(t *testing.T, b testBroker) {
	source := b.source("going-on")
	first, err := source.Subscriber(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = first.Close() })
	messages, err := first.Subscribe(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	publisher := openPublisher(t, b.sink("going-on"))
	expect := func(from <-chan *message.Message, n int) {
		t.Helper()
		m := receive(t, from)
		if want := brokerMessage(0, n, ""); m.UUID != want.UUID {
			t.Fatalf("got %s, want %s", m.UUID, want.UUID)
		}
		m.Ack()
	}
	for n := range 6 {
		publishAgain(t, publisher, brokerMessage(0, n, ""))
	}
	for n := range 3 {
		expect(messages, n)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	messages = openSubscriber(t, source)
	m := receive(t, messages)
	for m.UUID == brokerMessage(0, 2, "").UUID { // its answer may have come when the broker's own library was already closing
		m.Ack()
		m = receive(t, messages)
	}
	for n := 3; n < 6; n++ {
		if want := brokerMessage(0, n, ""); m.UUID != want.UUID {
			t.Fatalf("got %s, want %s", m.UUID, want.UUID)
		}
		if m.Ack(); n < 5 {
			m = receive(t, messages)
		}
	}
}

func heedsContexts(t *testing.T, b testBroker) {
	publisher, messages := openPublisher(t, b.sink("cancelled")), openSubscriber(t, b.source("cancelled"))
	publishAgain(t, publisher, brokerMessage(0, 0, ""))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cancelled := brokerMessage(0, 1, "")
	cancelled.SetContext(ctx)
	err := publisher.Publish("", cancelled)
	if failureOf(t, err).Code() != broker.CodeTimeout || !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	publishAgain(t, publisher, brokerMessage(0, 2, ""))
	for _, n := range []int{0, 2} {
		m := receive(t, messages)
		if want := brokerMessage(0, n, ""); m.UUID != want.UUID {
			t.Fatalf("got %s, want %s", m.UUID, want.UUID)
		}
		m.Ack()
	}
}

func closes(t *testing.T, b testBroker) {
	publisher := openPublisher(t, b.sink("closed"))
	subscriber, err := b.source("closed").Subscriber(nil)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := subscriber.Subscribe(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	publishAgain(t, publisher, brokerMessage(0, 0, ""))
	receive(t, messages).Ack()
	if err := errors.Join(publisher.Close(), publisher.Close(), subscriber.Close(), subscriber.Close()); err != nil {
		t.Fatal(err)
	}
	if m, open := <-messages; open {
		t.Errorf("received %s", m.UUID)
	}
	if f := failureOf(t, publisher.Publish("", brokerMessage(0, 1, ""))); f.Code() != broker.CodeClosed || f.Permanent() {
		t.Error(f)
	}
	if _, err := subscriber.Subscribe(t.Context(), ""); err == nil {
		t.Error("subscribed")
	}
}

func saysWhy(t *testing.T, b testBroker) {
	for code, sink := range map[string]broker.Sink{broker.CodeUnauthorized: b.stranger, broker.CodeUnroutable: b.nowhere} {
		publisher, deadline := openPublisher(t, sink), time.Now().Add(patience)
		f := failureOf(t, publisher.Publish("", brokerMessage(0, 0, "")))
		for f.Code() == broker.CodeUnavailable && time.Now().Before(deadline) { // not connected yet
			f = failureOf(t, publisher.Publish("", brokerMessage(0, 0, "")))
		}
		if f.Code() != code || f.Permanent() || strings.Contains(f.Error(), strangersPassword) {
			t.Errorf("%s: got %v", code, f)
		}
	}
}

// dropsRepeats is JetStream's: by the id.
func dropsRepeats(t *testing.T, b testBroker) {
	publisher, messages := openPublisher(t, b.sink("repeated")), openSubscriber(t, b.source("repeated"))
	for _, n := range []int{0, 0, 1, 0, 1, 2} {
		publishAgain(t, publisher, brokerMessage(0, n, ""))
	}
	for n := range 3 {
		m := receive(t, messages)
		if want := brokerMessage(0, n, ""); m.UUID != want.UUID {
			t.Fatalf("got %s, want %s", m.UUID, want.UUID)
		}
		m.Ack()
	}
}

func openPublisher(t testing.TB, sink broker.Sink) message.Publisher {
	t.Helper()
	p, err := sink.Publisher(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func openSubscriber(t *testing.T, source subscribing) <-chan *message.Message {
	t.Helper()
	s, err := source.Subscriber(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	messages, err := s.Subscribe(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

func receive(t *testing.T, messages <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case m, open := <-messages:
		if !open {
			t.Fatal("the subscription has ended")
		}
		return m
	case <-time.After(patience):
		t.Fatal("nothing comes")
	}
	return nil
}

func failureOf(t *testing.T, err error) *broker.Failure {
	t.Helper()
	var failure *broker.Failure
	if !errors.As(err, &failure) {
		t.Fatalf("got %v, want a failure of the broker's", err)
	}
	return failure
}

// publishAgain publishes until the broker has the message, as sinks do: what it comes to may have to be made yet.
func publishAgain(t testing.TB, p message.Publisher, m *message.Message) bool {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(patience); ; <-again.C {
		err := p.Publish("", m)
		var failure *broker.Failure
		switch {
		case err == nil:
			return true
		case !errors.As(err, &failure) || failure.Permanent() || time.Now().After(deadline):
			t.Error(err)
			return false
		}
	}
}

func brokerMessage(stream, n int, pad string) *message.Message {
	id := fmt.Sprintf("s%d-%d", stream, n)
	m := message.NewMessage(id, fmt.Appendf(nil, `{"id":  %q,"pad":%q}`, id, pad))
	m.Metadata = message.Metadata{"stream": fmt.Sprintf("s%d", stream), "type": "tenant.requested"}
	return m
}
