package sinks_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tenure-dev/tenure/adapters/bus/sinks"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/sink"
)

func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestAStreamIsDeliveredInItsOrderAndAFailureHoldsOnlyItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, to := newWorld(), &target{}
		to.set(func(m *message.Message) error {
			if m.Metadata.Get("stream") == "tenant-a" && m.Metadata.Get("revision") == "0" {
				return refused{}
			}
			return nil
		})
		for range 3 {
			w.put("tenant-a", "tenant.renamed", "{}")
			w.put("tenant-b", "tenant.renamed", "{}")
			w.put("org-a", "org.renamed", "{}")
		}
		r, stop := w.start(t, nil, sinks.Sink{Config: config("billing"), Publisher: to})
		same(t, "delivered while one is held", []string{"tenant-b/0", "tenant-b/1", "tenant-b/2"}, to.taken())
		if s, _ := r.Status("billing"); s.Lag != 3 || s.Oldest == nil || *s.Oldest != (sink.Place{Stream: "tenant-a"}) {
			t.Errorf("status %+v", s)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		same(t, "after parking", []string{"tenant-b/0", "tenant-b/1", "tenant-b/2", "tenant-a/1", "tenant-a/2"}, to.taken())
		same(t, "said", []string{"parked"}, w.said("billing"))
		if s, _ := r.Status("billing"); s.Lag != 0 || s.Behind != 0 || s.Parked != 1 || s.LastFailure != "status-500" {
			t.Errorf("status %+v", s)
		}
		stop()
		same(t, "broken rules", []string(nil), to.broken)
	})
}

func TestWhatWasDeliveredBeforeAKillComesAgainUnderItsID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, to := newWorld(), &target{}
		_, stop := w.start(t, nil, sinks.Sink{Config: config("billing"), Publisher: to})
		w.mu.Lock()
		w.dead = true
		w.mu.Unlock()
		e := w.put("tenant-a", "tenant.renamed", "{}")
		synctest.Wait()
		stop()
		w.dead = false
		_, stop = w.start(t, nil, sinks.Sink{Config: config("billing"), Publisher: to})
		same(t, "ids", []string{e.EventID, e.EventID}, to.ids)
		stop()
		_, stop = w.start(t, nil, sinks.Sink{Config: config("billing"), Publisher: to})
		same(t, "ids after a stop in peace", 2, len(to.ids))
		stop()
	})
}

func TestASinkFromNowSendsNothingOlderAndAllThatFollowsItsFirstStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, to := newWorld(), &target{}
		c := config("billing")
		c.FromStart = false
		w.put("tenant-a", "tenant.renamed", "{}")
		_, stop := w.start(t, nil, sinks.Sink{Config: c, Publisher: to})
		stop()
		w.put("tenant-a", "tenant.renamed", "{}")
		_, stop = w.start(t, nil, sinks.Sink{Config: c, Publisher: to})
		same(t, "delivered", []string{"tenant-a/1"}, to.taken())
		stop()
	})
}

func TestASlowSinkAndAPanickingOneHarmNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, well, slow, mad := newWorld(), &target{}, &target{}, &target{}
		release := make(chan struct{})
		slow.set(func(*message.Message) error { <-release; return nil })
		mad.set(func(*message.Message) error { panic("mad") })
		for i := range 200 {
			w.put(fmt.Sprint("tenant-", i%20), "tenant.renamed", "{}")
		}
		r, stop := w.start(t, nil, sinks.Sink{Config: config("well"), Publisher: well}, sinks.Sink{Config: config("slow"), Publisher: slow},
			sinks.Sink{Config: config("mad"), Publisher: mad})
		same(t, "delivered by the healthy one", 200, len(well.taken()))
		if s, _ := r.Status("slow"); s.Lag != 200 || s.InFlight != 4 {
			t.Errorf("slow: %+v", s)
		}
		time.Sleep(10 * time.Second)
		if s, _ := r.Status("mad"); s.LastFailure != "panic" || s.Lag != 200 {
			t.Errorf("mad: %+v", s)
		}
		if s, _ := r.Status("slow"); s.Behind != 10*time.Second {
			t.Errorf("slow is %s behind", s.Behind)
		}
		close(release)
		stop()
	})
}

func TestAReceiverThatTakesNothingIsTriedWithOneEventAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, to := newWorld(), &target{answer: always(refused{})}
		for i := range 40 {
			w.put(fmt.Sprint("tenant-", i), "tenant.renamed", "{}")
		}
		c := config("billing")
		c.Attempts, c.InFlight = 12, 4
		r, stop := w.start(t, nil, sinks.Sink{Config: c, Publisher: to})
		most := 10 + 3 // ten show that it is down, three may be under way by then
		for pause, at := time.Second, time.Duration(0); at < 50*time.Minute; pause, at = min(2*pause, c.Most), at+pause {
			most++
		}
		time.Sleep(50 * time.Minute)
		synctest.Wait()
		if to.tried > most || to.tried < most-4 {
			t.Errorf("it was tried %d times, not about %d", to.tried, most)
		}
		same(t, "said", []string(nil), w.said("billing"))
		to.set(nil)
		time.Sleep(c.Most)
		synctest.Wait()
		same(t, "delivered, within a pause of its return", 40, len(to.taken()))
		if s, _ := r.Status("billing"); s.Lag != 0 || s.Parked != 0 || !s.FailingSince.IsZero() {
			t.Errorf("status %+v", s)
		}
		stop()
	})
}

func TestAnOperatorWhoResumesHasEverythingTriedAtOnce(t *testing.T) {
	for name, events := range map[string]int{"events that wait": 5, "events behind a receiver that is down": 40} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, to := newWorld(), &target{answer: always(refused{})}
				for i := range events {
					w.put(fmt.Sprint("tenant-", i), "tenant.renamed", "{}")
				}
				c := config("billing")
				c.Attempts, c.Most, c.DisableAfter = 100, time.Hour, 1000*time.Hour
				_, stop := w.start(t, nil, sinks.Sink{Config: c, Publisher: to})
				time.Sleep(50 * time.Hour)
				to.set(nil)
				w.ask(t, sink.Pause{Sink: "billing"})
				w.ask(t, sink.Resume{Sink: "billing"})
				same(t, "delivered", events, len(to.taken()))
				stop()
			})
		})
	}
}

func TestEventsThatAreRefusedDoNotMakeAReceiverDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, to := newWorld(), &target{}
		to.set(func(m *message.Message) error {
			if strings.HasPrefix(m.Metadata.Get("stream"), "tenant-bad") {
				return refused{}
			}
			return nil
		})
		for i := range 15 {
			w.put(fmt.Sprint("tenant-good-", i), "tenant.renamed", "{}")
			w.put(fmt.Sprint("tenant-bad-", i), "tenant.renamed", "{}")
			w.put(fmt.Sprint("tenant-good-", i), "tenant.renamed", "{}")
		}
		_, stop := w.start(t, nil, sinks.Sink{Config: config("billing"), Publisher: to})
		same(t, "delivered at once", 30, len(to.taken()))
		time.Sleep(time.Minute)
		same(t, "parked, each after its own pauses", 15, len(w.said("billing")))
		stop()
	})
}

func TestAStreamOfManyRefusedEventsHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, to := newWorld(), &target{}
		refuse := func(m *message.Message) error {
			if m.Metadata.Get("stream") == "tenant-a" {
				return refused{}
			}
			return nil
		}
		to.set(refuse)
		for range 300 {
			w.put("tenant-a", "tenant.renamed", "{}")
		}
		for i := range 100 {
			w.put("tenant-a", "tenant.renamed", "{}")
			w.put(fmt.Sprint("tenant-b", i%10), "tenant.renamed", "{}")
		}
		c := config("billing")
		c.Attempts, c.Most, c.DisableAfter = 100, time.Hour, 1000*time.Hour
		s := sinks.Sink{Config: c, Publisher: to}
		r, stop := w.start(t, nil, s)
		same(t, "delivered of the others", 100, len(to.taken()))
		if st, _ := r.Status("billing"); st.Lag != 400 || st.Held != 1 || st.Oldest == nil || *st.Oldest != (sink.Place{Stream: "tenant-a"}) {
			t.Errorf("status %+v", st)
		}
		time.Sleep(10 * time.Hour)
		stop()
		w.put("tenant-a", "tenant.renamed", "{}")
		r, stop = w.start(t, nil, s)
		same(t, "delivered again after a restart", 100, len(to.taken()))
		if st, _ := r.Status("billing"); st.Lag != 401 || st.Held != 1 {
			t.Errorf("status after a restart %+v", st)
		}
		to.set(nil)
		time.Sleep(time.Hour)
		synctest.Wait()
		var want []string
		for i := range 401 {
			want = append(want, fmt.Sprint("tenant-a/", i))
		}
		same(t, "delivered of the stream", want, to.taken()[100:])
		if st, _ := r.Status("billing"); st.Lag != 0 || st.Held != 0 || st.Behind != 0 {
			t.Errorf("status in the end %+v", st)
		}
		w.put("tenant-a", "tenant.renamed", "{}")
		synctest.Wait()
		same(t, "delivered in all", 502, len(to.taken()))
		time.Sleep(time.Second)
		stop()
		_, stop = w.start(t, nil, s)
		same(t, "delivered after all", 502, len(to.taken()))
		stop()
		same(t, "broken rules", []string(nil), to.broken)
	})
}

func TestARedeliveryThatIsRefusedHoldsUpItsOwnStreamAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, to := newWorld(), &target{}
		to.set(func(m *message.Message) error {
			if m.Metadata.Get("stream") == "tenant-a" {
				return refused{}
			}
			return nil
		})
		w.put("tenant-a", "tenant.renamed", "{}")
		_, stop := w.start(t, nil, sinks.Sink{Config: config("billing"), Publisher: to})
		time.Sleep(time.Minute)
		w.ask(t, sink.RequestRedelivery{Sink: "billing", Scope: sink.ScopeParked})
		for range 100 {
			w.put("tenant-a", "tenant.renamed", "{}")
			w.put("tenant-b", "tenant.renamed", "{}")
		}
		synctest.Wait()
		same(t, "delivered of the other", 100, len(to.taken()))
		to.set(nil)
		time.Sleep(time.Minute)
		var want []string
		for i := range 101 {
			want = append(want, fmt.Sprint("tenant-a/", i))
		}
		same(t, "delivered of the stream", want, to.taken()[100:])
		stop()
	})
}

func TestASinkThatOnlyFailsIsDisabledAndGoesOnWhenResumed(t *testing.T) {
	for name, tc := range map[string]struct {
		err error
		why string
	}{"for long": {refused{}, sink.WhyFailing}, "gone": {refused{gone: true}, sink.WhyGone}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, to := newWorld(), &target{answer: always(tc.err)}
				c := config("billing")
				c.Attempts = 100
				w.put("tenant-a", "tenant.renamed", "{}")
				r, stop := w.start(t, nil, sinks.Sink{Config: c, Publisher: to})
				time.Sleep(2 * time.Hour)
				same(t, "said", []string{"disabled"}, w.said("billing"))
				tried := to.tried
				time.Sleep(2 * time.Hour)
				if to.tried != tried {
					t.Errorf("a disabled sink tried %d times more", to.tried-tried)
				}
				if s, _ := r.Status("billing"); s.Phase != sink.Stopped || s.Lag != 1 {
					t.Errorf("status %+v", s)
				}
				stop()
				to.set(nil)
				_, stop = w.start(t, nil, sinks.Sink{Config: c, Publisher: to})
				same(t, "delivered while disabled", []string(nil), to.taken())
				w.ask(t, sink.Resume{Sink: "billing"})
				same(t, "delivered", []string{"tenant-a/0"}, to.taken())
				stop()
			})
		})
	}
}

func TestAPausedSinkWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, to := newWorld(), &target{}
		_, stop := w.start(t, nil, sinks.Sink{Config: config("billing"), Publisher: to})
		w.ask(t, sink.Pause{Sink: "billing"})
		w.put("tenant-a", "tenant.renamed", "{}")
		time.Sleep(time.Hour)
		same(t, "delivered while paused", []string(nil), to.taken())
		w.ask(t, sink.Resume{Sink: "billing"})
		same(t, "delivered", []string{"tenant-a/0"}, to.taken())
		stop()
	})
}

func TestRedeliveryOfOneARangeAndAllParkedAlsoOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, to := newWorld(), &target{answer: always(refused{})}
		for range 2 {
			w.put("tenant-a", "tenant.renamed", "{}")
			w.put("tenant-b", "tenant.renamed", "{}")
			w.put("org-a", "org.renamed", "{}")
		}
		s := sinks.Sink{Config: config("billing"), Publisher: to}
		_, stop := w.start(t, nil, s)
		time.Sleep(time.Minute)
		same(t, "said", []string{"parked", "parked", "parked", "parked"}, w.said("billing"))
		w.ask(t, sink.Pause{Sink: "billing"})
		w.ask(t, sink.RequestRedelivery{Sink: "billing", Scope: sink.ScopeParked})
		stop()
		to.set(func(m *message.Message) error {
			if m.Metadata.Get("stream") == "tenant-b" && m.Metadata.Get("revision") == "1" {
				return refused{}
			}
			return nil
		})
		var r *sinks.Runner
		r, stop = w.start(t, nil, s)
		w.ask(t, sink.Resume{Sink: "billing"})
		time.Sleep(time.Minute)
		got := to.taken()
		slices.Sort(got)
		same(t, "delivered", []string{"tenant-a/0", "tenant-a/1", "tenant-b/0"}, got)
		if st, _ := r.Status("billing"); st.Parked != 1 || st.Redeliveries != 0 {
			t.Errorf("status %+v", st)
		}
		all := w.stream("sink-billing")
		if last := string(all[len(all)-1].Data); !strings.Contains(last, `"delivered":3,"parked":1`) {
			t.Errorf("the redelivery ended with %s", last)
		}
		to.got = nil
		to.set(nil)
		w.ask(t, sink.RequestRedelivery{Sink: "billing", Scope: sink.ScopeEvent, From: &sink.Place{Stream: "tenant-b", Revision: 1}})
		same(t, "one", []string{"tenant-b/1"}, to.taken())
		to.got = nil
		w.ask(t, sink.RequestRedelivery{Sink: "billing", Scope: sink.ScopeRange, From: &sink.Place{Stream: "tenant-b"}, To: &sink.Place{Stream: "tenant-b", Revision: 1}})
		got = to.taken()
		slices.Sort(got)
		same(t, "a range", []string{"tenant-a/1", "tenant-b/0", "tenant-b/1"}, got)
		w.ask(t, sink.RequestRedelivery{Sink: "billing", Scope: sink.ScopeEvent, From: &sink.Place{Stream: "org-a", Revision: 1}})
		same(t, "what the filter keeps back stays", 3, len(to.taken()))
		stop()
	})
}

func TestCursorsDoNotFeedThemselvesOrEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b := newWorld(), &target{}, &target{}
		everything := config("everything")
		everything.Types = nil
		_, stop := w.start(t, nil, sinks.Sink{Config: everything, Publisher: a}, sinks.Sink{Config: config("billing"), Publisher: b})
		for range 5 {
			w.put("tenant-a", "tenant.renamed", "{}")
		}
		time.Sleep(time.Hour)
		w.mu.Lock()
		if w.writes > 6 {
			t.Errorf("%d cursors were written for five events", w.writes)
		}
		w.mu.Unlock()
		w.ask(t, sink.Pause{Sink: "billing"})
		time.Sleep(time.Hour)
		got := a.taken()
		same(t, "last delivered", "sink-billing/0", got[len(got)-1])
		w.ask(t, sink.Pause{Sink: "everything"})
		w.ask(t, sink.Resume{Sink: "everything"})
		same(t, "delivered of what a sink says of itself", len(got), len(a.taken()))
		stop()
	})
}

func TestTwoBrokenSinksOfEverythingComeToRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		one, two := config("one"), config("two")
		one.Types, two.Types, one.DisableAfter, two.DisableAfter = nil, nil, 1000*time.Hour, 1000*time.Hour
		_, stop := w.start(t, nil, sinks.Sink{Config: one, Publisher: &target{answer: always(refused{})}},
			sinks.Sink{Config: two, Publisher: &target{answer: always(refused{})}})
		time.Sleep(time.Hour)
		said := len(w.said("one")) + len(w.said("two"))
		time.Sleep(24 * time.Hour)
		same(t, "parked in a day without news", said, len(w.said("one"))+len(w.said("two")))
		stop()
	})
}

func TestEveryAttemptIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ring := newWorld(), &sinks.Ring{}
		w.put("tenant-a", "tenant.renamed", "{}")
		_, stop := w.start(t, ring, sinks.Sink{Config: config("billing"), Publisher: &target{answer: always(refused{after: 40 * time.Second})}})
		time.Sleep(2 * time.Minute)
		stop()
		var outcomes []string
		for _, d := range ring.All() {
			outcomes = append(outcomes, fmt.Sprint(d.Attempt, d.Outcome, d.Code))
		}
		same(t, "outcomes", []string{"1failedstatus-500", "2failedstatus-500", "3parkedstatus-500"}, outcomes)
		if waited := ring.All()[1].Started.Sub(ring.All()[0].Started); waited != 40*time.Second {
			t.Errorf("waited %s, not what the receiver asked for", waited)
		}
	})
}

// TestTheCursorIsNeverAhead kills runs at random moments: whatever a cursor in the log has passed was delivered or parked
// before it was written, and in the end every event was, each stream in its order.
func TestTheCursorIsNeverAhead(t *testing.T) {
	const inTheEnd = 30_000_000 // ms: all fails, and one at a time is tried
	rapid.Check(t, func(rt *rapid.T) {
		outcomes := rapid.SliceOfN(rapid.IntRange(0, 3), 1, 40).Draw(rt, "outcomes")
		kills := rapid.SliceOfN(rapid.IntRange(0, 9000), 1, 4).Draw(rt, "kills")
		streams := rapid.IntRange(1, 5).Draw(rt, "streams")
		window := rapid.IntRange(2, 50).Draw(rt, "window")
		synctest.Test(t, func(t *testing.T) {
			w, to, n := newWorld(), &target{}, 0
			w.window = window
			to.set(func(m *message.Message) error {
				time.Sleep(100 * time.Millisecond)
				to.mu.Lock()
				n++
				o := outcomes[n%len(outcomes)]
				to.mu.Unlock()
				if o == 0 || m.Metadata.Get("stream") == "tenant-0" && o < 3 {
					return refused{}
				}
				return nil
			})
			for i := range 30 {
				w.put(fmt.Sprint("tenant-", i%streams), "tenant.renamed", "{}")
			}
			for _, ms := range append(kills, inTheEnd) {
				c := config("billing")
				c.DisableAfter = 1000 * time.Hour
				_, stop := w.start(t, nil, sinks.Sink{Config: c, Publisher: to})
				time.Sleep(time.Duration(ms) * time.Millisecond)
				w.mu.Lock()
				w.dead = ms != inTheEnd
				w.mu.Unlock()
				stop()
				w.dead = false
				ahead(t, w, to)
			}
			settled := settledIn(w, to)
			for _, e := range w.events {
				if e.Type == "tenant.renamed" && !settled[e.EventID] {
					t.Errorf("%s/%d is lost", e.Stream, e.Revision)
				}
			}
			same(t, "broken rules", []string(nil), to.broken)
		})
	})
}

func settledIn(w *world, to *target) map[string]bool {
	settled := map[string]bool{}
	for _, id := range to.ids {
		settled[id] = true
	}
	for _, e := range w.stream("sink-billing") {
		m, _ := registry.DecodeRecorded(e)
		if p, is := m.(sink.Parked); is {
			settled[p.EventID] = true
		}
	}
	return settled
}

func ahead(t *testing.T, w *world, to *target) {
	t.Helper()
	settled := settledIn(w, to)
	cursors := w.stream("sinkcursor-billing")
	if len(cursors) == 0 {
		return
	}
	m, _ := registry.DecodeRecorded(cursors[len(cursors)-1])
	at := m.(sink.CursorMoved)
	held := func(e domain.Recorded) bool {
		return slices.ContainsFunc(at.Held, func(p sink.Place) bool { return p.Stream == e.Stream && e.Revision >= p.Revision })
	}
	for _, e := range w.events {
		if e.Type == "tenant.renamed" && !settled[e.EventID] && !held(e) {
			t.Errorf("the cursor is at %v, but %s/%d is open", at, e.Stream, e.Revision)
		}
		if e.Stream == at.Stream && e.Revision == at.Revision {
			return
		}
	}
}
