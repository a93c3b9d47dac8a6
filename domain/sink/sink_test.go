package sink_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tenure-dev/tenure/domain"
	. "github.com/tenure-dev/tenure/domain/domaintest"
	"github.com/tenure-dev/tenure/domain/sink"
)

const name = "billing"

var (
	sealed    = domain.Sealed{Subject: name, Key: "k1", Text: []byte("closed")}
	at        = sink.Place{Stream: "tenant-ten_a", Revision: 3}
	until     = sink.Place{Stream: "org-org_a", Revision: 7}
	since     = time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC)
	given     = domain.Given{CommandID: "c1"}
	paused    = sink.Paused{Reason: sealed}
	resumed   = sink.Resumed{Reason: sealed}
	disabled  = sink.Disabled{Why: sink.WhyFailing, Since: since, Code: "timeout"}
	parked    = sink.Parked{Place: at, EventID: "e1", Attempts: 12, Code: "status-500"}
	delivered = sink.Delivered{EventID: "e1"}
	ranged    = sink.RedeliveryRequested{ID: "c1", Scope: sink.ScopeRange, From: &at, To: &until}
	single    = sink.RedeliveryRequested{ID: "c1", Scope: sink.ScopeEvent, From: &at}
	everyone  = sink.RedeliveryRequested{ID: "c1", Scope: sink.ScopeParked}
	finished  = sink.RedeliveryFinished{ID: "c1", Delivered: 2, Parked: 1}

	pause   = sink.Pause{Sink: name, Reason: sealed}
	resume  = sink.Resume{Sink: name, Reason: sealed}
	again   = sink.RequestRedelivery{Given: given, Sink: name, Scope: sink.ScopeRange, From: &at, To: &until}
	park    = sink.Park{Sink: name, Place: at, EventID: "e1", Attempts: 12, Code: "status-500"}
	deliver = sink.Deliver{Sink: name, EventID: "e1"}
	disable = sink.Disable{Sink: name, Why: sink.WhyFailing, Since: since, Code: "timeout"}
	finish  = sink.FinishRedelivery{Sink: name, ID: "c1", Delivered: 2, Parked: 1}
)

var spec = Spec{
	Aggregate: sink.Aggregate,
	Reach:     map[string][]any{"paused": {paused}, "disabled": {disabled}},
	Examples: []any{parked, delivered, paused, resumed, disabled, ranged, finished, sink.Noted{},
		pause, resume, again, park, deliver, disable, finish},
	Cases: map[string]Case{
		"a sink that nobody spoke of is paused":   Given().When(pause).Then(paused),
		"pausing once more changes nothing":       Given(paused).When(pause).Nothing(),
		"a disabled sink stands already":          Given(disabled).When(pause).NotAllowed("pause", "disabled", "active"),
		"a paused sink is resumed":                Given(paused).When(resume).Then(resumed),
		"a disabled sink is resumed":              Given(disabled).When(resume).Then(resumed),
		"an active sink goes on":                  Given().When(resume).Nothing(),
		"a resumed sink is paused again":          Given(paused, resumed).When(pause).Then(paused),
		"what fails for long is disabled":         Given().When(disable).Then(disabled),
		"a paused sink may learn that it is gone": Given(paused).When(disable).Then(disabled),
		"disabling once more changes nothing":     Given(disabled).When(disable).Nothing(),

		"an event is parked":                                 Given().When(park).Then(parked),
		"an event is parked while paused":                    Given(paused).When(park).Then(parked),
		"an event is parked while disabled":                  Given(disabled).When(park).Then(parked),
		"a parked event is not parked again":                 Given(parked).When(park).Nothing(),
		"an event that was delivered later is parked again":  Given(parked, delivered).When(park).Then(parked),
		"a parked event is delivered after all":              Given(parked).When(deliver).Then(delivered),
		"a parked event is delivered after all while paused": Given(parked, paused).When(deliver).Then(delivered),
		"a parked event is delivered while disabled":         Given(parked, disabled).When(deliver).Then(delivered),
		"what is not parked needs no striking":               Given(parked, delivered).When(deliver).Nothing(),
		"only the event that is named is struck":             Given(parked).When(sink.Deliver{Sink: name, EventID: "e2"}).Nothing(),

		"a range is asked for":                     Given().When(again).Then(ranged),
		"a range is asked for while paused":        Given(paused).When(again).Then(ranged),
		"a range is asked for while disabled":      Given(disabled).When(again).Then(ranged),
		"one event is asked for":                   Given().When(sink.RequestRedelivery{Given: given, Sink: name, Scope: sink.ScopeEvent, From: &at}).Then(single),
		"all parked are asked for":                 Given(parked).When(sink.RequestRedelivery{Given: given, Sink: name, Scope: sink.ScopeParked}).Then(everyone),
		"with none parked there is nothing to do":  Given(parked, delivered).When(sink.RequestRedelivery{Given: given, Sink: name, Scope: sink.ScopeParked}).Nothing(),
		"what is open is not asked for again":      Given(ranged).When(again).Nothing(),
		"what is finished may be asked for again":  Given(ranged, finished).When(again).Then(ranged),
		"one event beside a range is another wish": Given(ranged).When(sink.RequestRedelivery{Given: given, Sink: name, Scope: sink.ScopeEvent, From: &at}).Then(single),
		"a hundred and first has to wait":          Given(hundred()...).When(again).Refused(domain.CodeQuotaExceeded, "", "a sink has at most 100 open redeliveries"),

		"a redelivery is finished":                Given(ranged).When(finish).Then(finished),
		"a redelivery is finished while paused":   Given(ranged, paused).When(finish).Then(finished),
		"a redelivery is finished while disabled": Given(ranged, disabled).When(finish).Then(finished),
		"what is not open is not finished":        Given(ranged, finished).When(finish).Nothing(),
	},
}

func hundred() (all []any) {
	for i := range 100 {
		all = append(all, sink.RedeliveryRequested{ID: "x", Scope: sink.ScopeEvent, From: &sink.Place{Stream: "s-1", Revision: int64(i)}})
	}
	return all
}

func TestSpecification(t *testing.T) { spec.Run(t) }

func TestTheCursorsWire(t *testing.T) {
	WireIn(t, "testdata/cursors", []any{sink.CursorMoved{Place: at, Held: []sink.Place{at}, FailingSince: &since}}, sink.Cursors)
}

func TestInputIsRefusedByItsField(t *testing.T) {
	request := func(scope string, from, to *sink.Place) sink.RequestRedelivery {
		return sink.RequestRedelivery{Sink: name, Scope: scope, From: from, To: to}
	}
	later := sink.Place{Stream: at.Stream, Revision: at.Revision + 1}
	CheckInputs(t, map[string]Input{
		"pause":                        Good(pause),
		"pause nothing":                Bad("sink", sink.Pause{}),
		"pause with a long reason":     Bad("reason", sink.Pause{Sink: name, Reason: domain.Clear(strings.Repeat("r", 2001))}),
		"resume":                       Good(resume),
		"resume an odd name":           Bad("sink", sink.Resume{Sink: "Billing"}),
		"resume with a long reason":    Bad("reason", sink.Resume{Sink: name, Reason: domain.Clear(strings.Repeat("r", 2001))}),
		"one event":                    Good(request(sink.ScopeEvent, &at, nil)),
		"one event without a place":    Bad("from", request(sink.ScopeEvent, nil, nil)),
		"one event with an end":        Bad("to", request(sink.ScopeEvent, &at, &until)),
		"a range":                      Good(request(sink.ScopeRange, &at, &until)),
		"a range within a stream":      Good(request(sink.ScopeRange, &at, &later)),
		"a range of one":               Good(request(sink.ScopeRange, &at, &at)),
		"a range that ends before":     Bad("to.revision", request(sink.ScopeRange, &later, &at)),
		"a range without an end":       Bad("to", request(sink.ScopeRange, &at, nil)),
		"a place without a stream":     Bad("from.stream", request(sink.ScopeEvent, &sink.Place{}, nil)),
		"a place before the first":     Bad("from.revision", request(sink.ScopeEvent, &sink.Place{Stream: "s", Revision: -1}, nil)),
		"a place with a long stream":   Bad("to.stream", request(sink.ScopeRange, &at, &sink.Place{Stream: strings.Repeat("s", 513)})),
		"all parked":                   Good(request(sink.ScopeParked, nil, nil)),
		"all parked from somewhere":    Bad("from", request(sink.ScopeParked, &at, nil)),
		"an odd scope":                 Bad("scope", request("all", nil, nil)),
		"a redelivery of no sink":      Bad("sink", sink.RequestRedelivery{Scope: sink.ScopeParked}),
		"park":                         Good(park),
		"park of no sink":              Bad("sink", sink.Park{Place: at, EventID: "e", Code: "c"}),
		"park without a place":         Bad("place.stream", sink.Park{Sink: name, EventID: "e", Code: "c"}),
		"park without an event":        Bad("eventId", sink.Park{Sink: name, Place: at, Code: "c"}),
		"park with another's text":     Bad("code", sink.Park{Sink: name, Place: at, EventID: "e", Code: "no such host"}),
		"deliver":                      Good(deliver),
		"deliver nothing":              Bad("eventId", sink.Deliver{Sink: name}),
		"deliver of no sink":           Bad("sink", sink.Deliver{EventID: "e"}),
		"disable":                      Good(disable),
		"disable for an odd reason":    Bad("why", sink.Disable{Sink: name, Why: "bored", Code: "c"}),
		"disable with another's text":  Bad("code", sink.Disable{Sink: name, Why: sink.WhyGone, Code: "no such host"}),
		"disable of no sink":           Bad("sink", sink.Disable{Why: sink.WhyGone, Code: "c"}),
		"finish":                       Good(finish),
		"finish nothing":               Bad("id", sink.FinishRedelivery{Sink: name}),
		"finish of no sink":            Bad("sink", sink.FinishRedelivery{ID: "c1"}),
		"finish with a negative count": Bad("delivered", sink.FinishRedelivery{Sink: name, ID: "c1", Parked: -1}),
	})
}

func TestASinksEventsAreNobodys(t *testing.T) {
	if o, ten := sink.Aggregate.Owner(sink.State{}, name); o != "" || ten != "" {
		t.Errorf("owner is %q, %q", o, ten)
	}
	CheckTargets(t, spec, name)
}

func TestOnlyAResumedSinkIsActiveAndParkingIsCountedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		Walk(t, sink.Aggregate, 40, func(t *rapid.T, _ any) any {
			id := rapid.SampledFrom([]string{"e1", "e2"}).Draw(t, "event")
			return rapid.SampledFrom([]any{pause, resume, disable, again, finish, sink.Park{Sink: name, Place: at, EventID: id, Code: "c"},
				sink.Deliver{Sink: name, EventID: id}}).Draw(t, "command")
		}, func(s Step) {
			before, after := s.Before.(sink.State), s.After.(sink.State)
			_, resumes := s.Command.(sink.Resume)
			if !resumes && sink.Lifecycle.Phase(after) == sink.Active && sink.Lifecycle.Phase(before) != sink.Active {
				t.Fatalf("%#v made the sink active", s.Command)
			}
			if again, _ := sink.Aggregate.Decide(after, s.Command); s.Err == nil && len(again) > 0 {
				t.Fatalf("%#v once more led to %v", s.Command, again)
			}
		})
	})
}
