package integration

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tenure-dev/tenure/adapters/bus/broker"
)

// survivesRestart ends the broker while streams are published side by side, and begins it again. The same publisher and the
// same subscriber go on. What was acknowledged is all there, each stream's messages in order; what was in doubt may be there
// twice. A publisher and a subscriber that are built while the broker is away work once it is back.
func survivesRestart(t *testing.T, b testBroker) {
	const streams, before, after = 4, 10, 5 // messages of each stream
	publisher, messages := openPublisher(t, b.sink("restarted")), openSubscriber(t, b.source("restarted"))
	var all, warm sync.WaitGroup
	back := make(chan struct{})
	var acknowledged [streams]int
	for s := range streams {
		warm.Add(1)
		all.Go(func() {
			for left := after; left > 0; acknowledged[s]++ {
				if acknowledged[s] == before {
					warm.Done()
				}
				select {
				case <-back:
					left--
				default:
				}
				if !publishAgain(t, publisher, brokerMessage(s, acknowledged[s], "")) {
					panic("the suite cannot go on") // the others would wait for this stream
				}
			}
		})
	}
	warm.Wait()
	b.stop()
	late, lateMessages := openPublisher(t, b.sink("late")), openSubscriber(t, b.source("late"))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	early := brokerMessage(7, 0, "")
	early.SetContext(ctx)
	away := failureOf(t, late.Publish("", early))
	if code := away.Code(); away.Permanent() || code != broker.CodeUnavailable && code != broker.CodeTimeout {
		t.Errorf("while the broker is away: %v", away)
	}
	b.start()
	close(back)
	all.Wait()
	publishAgain(t, late, brokerMessage(8, 0, ""))
	// Both are received side by side: in Postgres a message without an answer is an open transaction, and what was published
	// after that began is not seen by anybody until it ends.
	all.Go(func() {
		for come := ""; come != "s8-0"; {
			m := <-lateMessages
			if m == nil {
				t.Error("the late subscription has ended")
				return
			}
			m.Ack()
			if come = m.UUID; come != "s8-0" && come != early.UUID { // whose Publish has ended in doubt
				t.Errorf("the late subscriber got %s", come)
				return
			}
		}
	})
	var next [streams]int
	for next != acknowledged {
		m := receive(t, messages)
		var s, n int
		if _, err := fmt.Sscanf(m.UUID, "s%d-%d", &s, &n); err != nil {
			t.Fatal(err)
		}
		if n > next[s] {
			t.Fatalf("s%d-%d is lost or comes after %s: %d were acknowledged", s, next[s], m.UUID, acknowledged[s])
		}
		if n == next[s] {
			next[s]++
		}
		m.Ack()
	}
	all.Wait()
	t.Logf("acknowledged: %v", acknowledged)
}
