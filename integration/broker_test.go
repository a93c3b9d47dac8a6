package integration

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/tenure-dev/tenure/adapters/bus/broker"
	"github.com/tenure-dev/tenure/adapters/postgres/cluster/clustertest"
)

func natsServer(t *testing.T, dir string, port int) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true, MaxPayload: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		t.Fatal("nats-server is not ready")
	}
	return s
}

func TestNATSStoresWhatIsPublishedInOrder(t *testing.T) {
	s := natsServer(t, t.TempDir(), -1)
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	sink := broker.NewNATSSink()
	sink.URL, sink.Stream, sink.Subject, sink.Create = broker.Text(s.ClientURL()), "TENURE", "tenure.{type}", true
	source := broker.NewNATSSource()
	source.URL, source.Stream, source.Durable = sink.URL, "TENURE", "suite"
	source.Redelivery = time.Millisecond
	brokerSuite(t, sink, source)
}

func TestPostgresStoresWhatIsPublishedInOrder(t *testing.T) {
	sink := broker.NewPostgresSink()
	sink.URL, sink.Topic, sink.MaxBytes = broker.Text(clustertest.Database(t)), "events", 64<<10
	source := broker.NewPostgresSource()
	source.URL, source.Topic, source.Group = sink.URL, "events", "suite"
	source.Poll, source.Redelivery = 10*time.Millisecond, time.Millisecond
	brokerSuite(t, sink, source)
}

// brokerSuite holds for every broker: streams published side by side arrive whole, each in its order, also when each
// message is refused once; a message over the limit fails for good and hinders no other.
func brokerSuite(t *testing.T, sink broker.Sink, source broker.Source) {
	const streams, each = 4, 10
	publisher, err := sink.Publisher(broker.Ports{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = publisher.Close() })
	subscriber, err := source.Subscriber(broker.Ports{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = subscriber.Close() })
	messages, err := subscriber.Subscribe(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for s := range streams {
		all.Go(func() {
			for n := range each {
				publishAgain(t, publisher, brokerMessage(s, n, ""))
			}
		})
	}
	all.Wait()
	var failure *broker.Failure
	if err := publisher.Publish("", brokerMessage(9, 9, strings.Repeat("x", 100<<10))); !errors.As(err, &failure) || !failure.Permanent() || failure.Code() != broker.CodeTooLarge {
		t.Fatalf("a message over the limit: %v", err)
	}
	next, refused := map[string]int{}, map[string]bool{}
	for done := 0; done < streams*each; {
		select {
		case m := <-messages:
			stream := m.Metadata.Get("stream")
			want := fmt.Sprintf("%s-%d", stream, next[stream])
			if m.UUID != want || string(m.Payload) != fmt.Sprintf(`{"id":  %q,"pad":""}`, want) {
				t.Fatalf("got %s %s, want %s", m.UUID, m.Payload, want)
			}
			if !refused[m.UUID] {
				refused[m.UUID] = true
				m.Nack()
				continue
			}
			next[stream]++
			done++
			m.Ack()
		case <-time.After(patience):
			t.Fatalf("%d of %d have come", done, streams*each)
		}
	}
}

// publishAgain publishes until the broker has the message, as sinks do: what it comes to may have to be made yet.
func publishAgain(t *testing.T, p message.Publisher, m *message.Message) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		err := p.Publish("", m)
		var failure *broker.Failure
		switch {
		case err == nil:
			return
		case !errors.As(err, &failure) || failure.Permanent() || time.Now().After(deadline):
			t.Error(err)
			return
		}
	}
}

func brokerMessage(stream, n int, pad string) *message.Message {
	id := fmt.Sprintf("s%d-%d", stream, n)
	m := message.NewMessage(id, fmt.Appendf(nil, `{"id":  %q,"pad":%q}`, id, pad))
	m.Metadata = message.Metadata{"stream": fmt.Sprintf("s%d", stream), "type": "tenant.requested"}
	return m
}
