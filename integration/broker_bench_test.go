package integration

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
)

// BenchmarkBrokerPublish is the rate at which each broker alone stores messages of 1 KiB, each waited for before the next of
// its stream, with one stream and with 16 side by side. Postgres does not sync here, as in all tests:
//
//	go test ./integration -run '^$' -bench BrokerPublish
func BenchmarkBrokerPublish(b *testing.B) {
	for name, start := range map[string]func(testing.TB) testBroker{
		"nats": natsBroker, "kafka": kafkaBroker, "amqp": rabbitBroker, "postgres": postgresBroker,
	} {
		b.Run(name, func(b *testing.B) {
			running := start(b)
			publisher := openPublisher(b, running.sink("rate"))
			if bind := running.source("rate"); name == "amqp" { // a queue must take the messages
				s, err := bind.Subscriber(nil)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := s.Subscribe(b.Context(), ""); err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { _ = s.Close() })
			}
			publishAgain(b, publisher, brokerMessage(0, 0, ""))
			var sent atomic.Int64
			for _, streams := range []int{1, 16} {
				b.Run(fmt.Sprint(streams), func(b *testing.B) { publishSideBySide(b, publisher, streams, &sent) })
			}
		})
	}
}

// publishSideBySide gives every message an id of its own: sent counts them over all runs.
func publishSideBySide(b *testing.B, publisher message.Publisher, streams int, sent *atomic.Int64) {
	pad, first := strings.Repeat("x", 1000), sent.Load()
	var all sync.WaitGroup
	b.ResetTimer()
	for s := range streams {
		all.Go(func() {
			for n := sent.Add(1); n <= first+int64(b.N); n = sent.Add(1) {
				if err := publisher.Publish("", brokerMessage(s, int(n), pad)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
