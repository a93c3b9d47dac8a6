package sagas_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/sagas"
)

// TestAnyOrderOfTriggers gives React whatever could come, in any order, twice, late and to the wrong ask: it never panics, a
// trigger means nothing the second time, an ask never goes out while another of its step stands unanswered, and nothing
// follows the end.
func TestAnyOrderOfTriggers(t *testing.T) {
	for _, d := range []*sagas.Definition{onboarding.Definition(), suspension.Definition()} {
		rapid.Check(t, func(r *rapid.T) {
			begin := sagas.Event{Event: requested{ten}, Meta: domain.Meta{EventID: "e0", Tenant: ten}}
			if d.Name == "suspension" {
				begin.Event = suspensionDue{ten, 1}
			}
			var s saga.State
			var asked []string // every command id so far
			now := t0
			react := func(trigger any) (n int) {
				for trigger != nil {
					out := d.React(registry, s, sagas.Trigger{Now: now, What: trigger})
					if out.Panic != nil {
						r.Fatalf("%T: %v", trigger, out.Panic)
					}
					for _, f := range out.Facts {
						if s.Ended != nil {
							r.Fatalf("%T after the end", f)
						}
						if a, ok := f.(saga.Asked); ok {
							again := s.Pending != nil && s.Pending.CommandID == a.CommandID
							if s.Pending != nil && !again {
								r.Fatalf("asks %s while %s stands unanswered", a.Step, s.Pending.Step)
							}
							for _, id := range asked {
								if id == a.CommandID && !again {
									r.Fatalf("%s is asked under an old id", a.Step)
								}
							}
							asked = append(asked, a.CommandID)
						}
						s = saga.Evolve(s, f)
						n++
					}
					trigger = nil
					if out.Look != "" {
						trigger = sagas.Snapshot{Step: out.Look, Value: []string{"p1", "p2"}}
					}
				}
				return n
			}
			react(begin)
			for range rapid.IntRange(1, 60).Draw(r, "moves") {
				now = now.Add(time.Duration(rapid.IntRange(0, 120).Draw(r, "seconds")) * time.Second)
				id := rapid.SampledFrom(append(asked, pending(s), pending(s), pending(s))).Draw(r, "ask")
				event := sagas.Event{Meta: domain.Meta{EventID: "e", Answers: &domain.Answers{Saga: s.Started.Saga, Command: id}}}
				event.Event = rapid.SampledFrom([]any{reserved{}, reserveNo{}, released{}, operationDue{}, operationDone{Endpoint: "db"}, operationDone{},
					operationFailed{Class: saga.ClassTransient, Code: "a"}, operationFailed{Class: saga.ClassUser, Code: "b"},
					operationFailed{Class: saga.ClassBug, Code: "c"}, operationFailed{Class: saga.ClassPlaneDown, Code: "d"}, operationFailed{Code: "superseded"}}).Draw(r, "event")
				trigger := rapid.SampledFrom([]any{event, event, event, sagas.Accepted{CommandID: id}, sagas.Accepted{CommandID: id, Events: []sagas.Event{event}},
					sagas.Quiet{CommandID: id}, sagas.Refused{CommandID: id, Code: domain.CodeNotAllowed}, sagas.Refused{CommandID: id, Code: domain.CodeStale},
					sagas.Refused{CommandID: id, Code: domain.CodeInternal}, sagas.Silence{CommandID: id}, sagas.Due{}, sagas.Wake{}, begin,
					sagas.Event{Event: offboarding{}, Meta: domain.Meta{EventID: "o", Tenant: ten}}, saga.Retry{}, saga.Cancel{}}).Draw(r, "trigger")
				switch trigger.(type) {
				case saga.Retry, saga.Cancel:
					if events, err := saga.Lifecycle.Decide(s, trigger); err == nil {
						for _, e := range events {
							s = saga.Evolve(s, e)
						}
					}
					continue
				}
				react(trigger)
				if _, ok := trigger.(sagas.Due); !ok {
					if n := react(trigger); n > 0 {
						r.Fatalf("%T says something the second time", trigger)
					}
				}
			}
		})
	}
}
