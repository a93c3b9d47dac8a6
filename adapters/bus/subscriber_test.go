package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/domain"
)

// place of the subscription "reader" in a topic, as it is saved.
func saved(t testing.TB, l *memory, topic string) (m moved) {
	t.Helper()
	e, found, err := l.Last(t.Context(), "bus-reader."+topic)
	if err != nil || !found {
		t.Fatal("no place is saved", err)
	}
	if err := json.Unmarshal(e.Data, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestATopicIsAStreamACategoryOrTheLog(t *testing.T) {
	for topic, want := range map[string][]string{
		"topic-a":    {"topic-a/1", "topic-a/2"},
		"topic-none": nil,
		"$ce-topic":  {"topic-a/1", "topic-a/2", "topic-b/1"},
		"$ce-tenant": {"tenant-x/1"},
		All:          {"tenant-x/1", "topic-a/1", "topic-a/2", "topic-b/1"},
	} {
		t.Run(topic, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newMemory()
				l.add(t, "topic-a", "x", 1)
				l.add(t, "tenant-x", "x", 1)
				l.add(t, "bus-other.topic-a", "x", 1)
				l.add(t, "topic-b", "x", 1)
				l.add(t, "topic-a", "x", 2)
				_, messages := subscribe(t, SubscriberConfig{Log: l}, topic)
				got := ackAll(messages)
				slices.Sort(got) // streams go side by side
				if d := cmp.Diff(want, got); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

func TestASubscriptionGoesOnBehindWhatWasAcked(t *testing.T) {
	for _, topic := range []string{"topic-a", "$ce-topic", All} {
		t.Run(topic, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newMemory()
				l.add(t, "topic-a", "x", 1, 2, 3)
				first, messages := subscribe(t, SubscriberConfig{Log: l}, topic)
				(<-messages).Ack()
				(<-messages).Ack()
				synctest.Wait()
				<-messages // given up by closing
				_ = first.Close()
				if at := saved(t, l, topic); at.Stream != "topic-a" || at.Revision != 1 || at.Event != domain.DeriveUUID("topic-a", "2").String() || at.At == "" {
					t.Errorf("%+v", at)
				}
				_, messages = subscribe(t, SubscriberConfig{Log: l}, topic)
				if d := cmp.Diff([]string{"topic-a/3"}, ackAll(messages)); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

func TestAPlaceIsSavedAfterSoManyAcksOrSoLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemory()
		l.add(t, "topic-a", "x", 1, 2, 3, 4, 5)
		_, messages := subscribe(t, SubscriberConfig{Log: l, SaveEvery: 4, SaveAfter: time.Hour}, "topic-a")
		for range 3 {
			(<-messages).Ack()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := l.in("bus-reader.topic-a"); len(got) != 0 {
			t.Errorf("%d places are saved too soon", len(got))
		}
		(<-messages).Ack()
		synctest.Wait()
		if at := saved(t, l, "topic-a"); at.Revision != 3 {
			t.Errorf("%+v", at)
		}
		(<-messages).Ack()
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if at := saved(t, l, "topic-a"); at.Revision != 4 {
			t.Errorf("%+v", at)
		}
	})
}

func TestWhatIsDoneBehindAnUnansweredMessageIsNotPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemory()
		l.add(t, "topic-a", "x", 1)
		l.add(t, "topic-b", "x", 1, 2, 3)
		first, messages := subscribe(t, SubscriberConfig{Log: l, SaveEvery: 1}, "$ce-topic")
		var done int
		for done < 3 {
			if m := <-messages; m.Metadata.Get(StreamKey) == "topic-b" {
				m.Ack()
				done++
			}
			synctest.Wait()
		}
		_ = first.Close()
		_, messages = subscribe(t, SubscriberConfig{Log: l}, "$ce-topic")
		got := ackAll(messages)
		slices.Sort(got)
		if d := cmp.Diff([]string{"topic-a/1", "topic-b/1", "topic-b/2", "topic-b/3"}, got); d != "" {
			t.Error("the first is not done:", d)
		}
	})
}

func TestAFilterChoosesByWhatIsKnownOfAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemory()
		l.add(t, "topic-a", "wanted", 1)
		l.add(t, "topic-a", "other", 2)
		l.add(t, "topic-b", "wanted", 1)
		c := SubscriberConfig{Log: l, Filter: func(m domain.Meta) bool { return m.Type == "wanted" && m.Stream != "" && m.Commit > 0 }}
		_, messages := subscribe(t, c, All)
		got := ackAll(messages)
		slices.Sort(got)
		if d := cmp.Diff([]string{"topic-a/1", "topic-b/1"}, got); d != "" {
			t.Error(d)
		}
	})
}

func TestWhatAFilterDropsMovesThePlaceNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemory()
		for n := range skipEvery / 4 {
			l.add(t, fmt.Sprint("topic-", n), "x", 1, 2, 3, 4)
		}
		_, messages := subscribe(t, SubscriberConfig{Log: l, Filter: func(domain.Meta) bool { return false }}, All)
		none(t, messages)
		if at, last := saved(t, l, All), fmt.Sprint("topic-", skipEvery/4-1); at.Stream != last || at.Revision != 3 {
			t.Errorf("%+v", at)
		}
	})
}

func TestFromTheEndANewSubscriptionBeginsThere(t *testing.T) {
	for _, topic := range []string{"topic-a", "topic-new", "$ce-topic", All} {
		t.Run(topic, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newMemory()
				l.add(t, "topic-a", "x", 1)
				c := SubscriberConfig{Log: l, FromEnd: true, Name: "reader"}
				s, err := NewSubscriber(c)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.SubscribeInitialize(topic); err != nil {
					t.Fatal(err)
				}
				l.add(t, "topic-a", "x", 2)
				l.add(t, "topic-new", "x", 1)
				_, messages := subscribe(t, c, topic)
				want := map[string][]string{"topic-a": {"topic-a/2"}, "topic-new": {"topic-new/1"}}[topic]
				if want == nil {
					want = []string{"topic-a/2", "topic-new/1"}
				}
				got := ackAll(messages)
				slices.Sort(got)
				if d := cmp.Diff(want, got); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

// The place holds in another epoch by its event; by its position only in its own.
func TestAPlaceIsFoundByItsEventOrByThePositionOfItsEpoch(t *testing.T) {
	for _, c := range []struct {
		expired, raised, other bool
		stale                  bool
	}{
		{},
		{expired: true},
		{raised: true},
		{raised: true, expired: true, stale: true},
		{raised: true, other: true, stale: true},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newMemory()
				l.add(t, "topic-a", "x", 1, 2)
				s, messages := subscribe(t, SubscriberConfig{Log: l}, "$ce-topic")
				(<-messages).Ack()
				synctest.Wait()
				_ = s.Close()
				if c.raised { // a restored log: other positions
					l.epoch = domain.Epoch{Number: 2, ID: "two"}
					for i := range l.events {
						l.events[i].Position += 1000
					}
				}
				if c.other {
					l.events[0].ID = domain.DeriveUUID("another").String()
				}
				if c.expired {
					l.expire("topic-a", 0)
				}
				again, err := NewSubscriber(SubscriberConfig{Log: l, Name: "reader"})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = again.Close() }()
				messages, err = again.Subscribe(t.Context(), "$ce-topic")
				if c.stale {
					if domain.CodeOf(err) != domain.CodeStale {
						t.Errorf("%v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff([]string{"topic-a/2"}, ackAll(messages)); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

func TestTwoSubscribersOfANameLoseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemory()
		c := SubscriberConfig{Log: l, SaveEvery: 1}
		one, first := subscribe(t, c, "topic-a")
		two, second := subscribe(t, c, "topic-a")
		l.add(t, "topic-a", "x", 1)
		if d := cmp.Diff([]string{"topic-a/1"}, ackAll(first)); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]string{"topic-a/1"}, ackAll(second)); d != "" {
			t.Error(d)
		}
		time.Sleep(time.Minute) // the second has met a conflict and begins again
		l.add(t, "topic-a", "x", 2)
		synctest.Wait()
		if d := cmp.Diff([]string{"topic-a/2"}, ackAll(second)); d != "" {
			t.Error(d)
		}
		_, _ = one.Close(), two.Close()
		if at := saved(t, l, "topic-a"); at.Revision != 1 || len(l.in("bus-reader.topic-a")) != 2 {
			t.Errorf("%+v, the place has moved %d times", at, len(l.in("bus-reader.topic-a")))
		}
	})
}

func TestAPlaceWhoseAnswerIsLostIsNotAnothers(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprint("done ", after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newMemory()
				l.add(t, "topic-a", "x", 1, 2, 3)
				failures := 3
				l.fault = func(e Event, done bool) error {
					if e.Type == cursorType && done == after && failures > 0 {
						failures--
						return domain.Unavailable("the answer is lost", nil)
					}
					return nil
				}
				_, messages := subscribe(t, SubscriberConfig{Log: l, SaveEvery: 1}, "topic-a")
				if d := cmp.Diff([]string{"topic-a/1", "topic-a/2", "topic-a/3"}, ackAll(messages)); d != "" {
					t.Error(d)
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				none(t, messages) // a conflict would have begun it again
				if at := saved(t, l, "topic-a"); at.Revision != 2 || failures != 0 {
					t.Errorf("%+v", at)
				}
			})
		})
	}
}

func TestANackedMessageComesAgainFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemory()
		l.add(t, "topic-a", "x", 1, 2)
		_, messages := subscribe(t, SubscriberConfig{Log: l}, "topic-a")
		for range 5 {
			m := <-messages
			if string(m.Payload) != "1" {
				t.Fatalf("%s came", m.Payload)
			}
			m.Nack()
		}
		(<-messages).Ack()
		if m := <-messages; string(m.Payload) != "2" {
			t.Errorf("%s came", m.Payload)
		}
	})
}

func TestASubscriptionEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemory()
		l.add(t, "topic-a", "x", 1, 2)
		s, err := NewSubscriber(SubscriberConfig{Log: l, Name: "reader"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		messages, err := s.Subscribe(ctx, "topic-a")
		if err != nil {
			t.Fatal(err)
		}
		(<-messages).Ack()
		out := <-messages
		cancel()
		<-out.Context().Done()
		if _, open := <-messages; open {
			t.Error("more came")
		}
		if at := saved(t, l, "topic-a"); at.Revision != 0 {
			t.Errorf("%+v", at)
		}
		_ = s.Close()
		if _, err := s.Subscribe(t.Context(), "topic-a"); domain.CodeOf(err) != domain.CodeUnavailable {
			t.Error(err)
		}
	})
}

func TestClosingWaitsForAnswersAsLongAsItsGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemory()
		l.add(t, "topic-a", "x", 1)
		s, messages := subscribe(t, SubscriberConfig{Log: l, Grace: time.Minute}, "topic-a")
		m := <-messages
		time.AfterFunc(time.Second, func() { m.Ack() })
		_ = s.Close()
		if at := saved(t, l, "topic-a"); at.Revision != 0 {
			t.Errorf("%+v", at)
		}
	})
}

func TestASubscriberNamesWhatIsWrong(t *testing.T) {
	l := newMemory()
	for name, c := range map[string]SubscriberConfig{
		"name":     {Log: l, Name: "Reader"},
		"inFlight": {Log: l, Name: "reader", InFlight: -1},
	} {
		if _, err := NewSubscriber(c); err == nil || domain.CodeOf(err) != domain.CodeInvalid || !strings.HasPrefix(err.Error(), name) {
			t.Error(name, err)
		}
	}
	if _, err := NewSubscriber(SubscriberConfig{Name: "reader"}); err == nil {
		t.Error("without a log")
	}
	for name, good := range map[string]bool{"ab": true, "a": false, "a-": false, "-a": false, "a.b": false, "a1-b": true, strings.Repeat("a", 41): false} {
		if err := checkSubscription(name); (err == nil) != good {
			t.Error(name, err)
		}
	}
	s, err := NewSubscriber(SubscriberConfig{Log: l, Name: "reader"})
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{"", "$streams", "$ce-", "$ce-a-b", "$ce-$x", "a\x00b", "a\xff", strings.Repeat("a", 257)} {
		if _, err := s.Subscribe(t.Context(), topic); domain.CodeOf(err) != domain.CodeInvalid {
			t.Errorf("%q: %v", topic, err)
		}
	}
}
