package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/adapters/bus/broker"
	"github.com/tenure-dev/tenure/adapters/bus/sinks"
	"github.com/tenure-dev/tenure/domain"
)

// sinksDeliver has a sink send a log's events to a broker that is restarted in the middle: all of them come, each under its id,
// and those of a stream in its order.
func sinksDeliver(t *testing.T, to broker.Sink, from subscribing, restart func()) {
	const streams, each = 4, 25
	log := startStore(t).open()
	bus := sinksBus(t, log)
	defer func() { must(t, bus.Close(context.Background())) }()
	messages := openSubscriber(t, from)
	var delivered atomic.Int64
	halfway := make(chan struct{})
	publisher := measured{openPublisher(t, to), func(*message.Message) {
		if delivered.Add(1) == streams*each/2 {
			close(halfway)
		}
	}}
	stop := runSinks(t, log, bus, sinks.Sink{Publisher: publisher, Config: sinks.Config{Name: "suite", FromStart: true, Attempts: 100,
		First: time.Millisecond, Most: 50 * time.Millisecond}})
	defer stop()
	var appending sync.WaitGroup
	for s := range streams {
		appending.Go(func() {
			stream := fmt.Sprint("x-", s)
			for n := range each {
				if _, err := log.Append(t.Context(), stream, int64(n)-1, []domain.Proposed{aFact(stream, n)}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	<-halfway
	if restart != nil {
		restart()
	}
	appending.Wait()
	next := map[string]int{}
	for came := 0; came < streams*each; {
		m := receive(t, messages)
		var e struct{ ID, Subject, Revision string }
		must(t, json.Unmarshal(m.Payload, &e))
		var revision int
		_, err := fmt.Sscan(e.Revision, &revision)
		must(t, err)
		if want := aFact(e.Subject, revision).ID; m.UUID != want || e.ID != want {
			t.Fatalf("%s of revision %d came as %s and %s", e.Subject, revision, m.UUID, e.ID)
		}
		if revision > next[e.Subject] {
			t.Fatalf("%s: revision %d came before %d", e.Subject, revision, next[e.Subject])
		}
		if revision == next[e.Subject] { // else it comes again
			next[e.Subject]++
			came++
		}
		m.Ack()
	}
}

// answersArrive publishes to topics that nobody has made, and reads one of them.
func answersArrive(t *testing.T, b testBroker) {
	source := b.source("asked")
	switch s := source.(type) {
	case *broker.NATSSource:
		s.Stream = "answers_one"
	case *broker.AMQPSource:
		s.Queue, s.Exchange = "answers.one", ""
	case *broker.PostgresSource:
		s.Topic = "answers_one"
	}
	answers, err := source.(broker.Source).Answers(nil)
	must(t, err)
	t.Cleanup(func() { must(t, answers.Close()) })
	for n := range 3 {
		for s, topic := range []string{"answers.one", "answers.two"} {
			m := brokerMessage(s, n, "")
			m.SetContext(t.Context())
			must(t, answers.Publish(topic, m))
		}
	}
	messages := openSubscriber(t, source)
	for n := range 3 {
		m := receive(t, messages)
		if want := brokerMessage(0, n, ""); m.UUID != want.UUID || string(m.Payload) != string(want.Payload) {
			t.Errorf("answer %d is %s %s", n, m.UUID, m.Payload)
		}
		m.Ack()
	}
}
