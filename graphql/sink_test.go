package graphql_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/sink"
	"github.com/tenure-dev/tenure/graphql"
)

var sinkFacts = domain.NewRegistry(sink.Events)

const sinkFields = `name target phase running lagEvents lagSeconds inFlight heldStreams lastSuccess lastFailureCode failingSince
	oldest { stream revision eventId } parkedCount openRedeliveries revision`

func TestASinkIsShownAsItStands(t *testing.T) {
	r := newRig(t)
	full := graphql.SinkStatus{Name: "billing", Target: "kafka", Lag: 7, Behind: 1500 * time.Millisecond, InFlight: 3, Held: 1, LastSuccess: noon,
		LastFailure: "timeout", FailingSince: noon.Add(time.Second),
		Oldest: &graphql.SinkEvent{Place: sink.Place{Stream: "tenant-ten_a", Revision: 4}, EventID: "e4"}}
	r.sinks.configure(full)
	r.parks("billing", "tenant-ten_b", 1)
	const decided = `"parkedCount":1,"openRedeliveries":0,"revision":0}`
	for name, c := range map[string]struct {
		status func(*graphql.SinkStatus)
		want   string
	}{
		"by the process that sends": {func(s *graphql.SinkStatus) { s.Running = true }, `"running":true,"lagEvents":7,"lagSeconds":1.5,"inFlight":3,"heldStreams":1,` +
			`"lastSuccess":"2026-03-01T12:00:00.000000Z","lastFailureCode":"timeout","failingSince":"2026-03-01T12:00:01.000000Z",` +
			`"oldest":{"stream":"tenant-ten_a","revision":4,"eventId":"e4"},`},
		"before anything was delivered": {func(s *graphql.SinkStatus) { *s = graphql.SinkStatus{Name: s.Name, Target: s.Target, Running: true} },
			`"running":true,"lagEvents":0,"lagSeconds":0,"inFlight":0,"heldStreams":0,"lastSuccess":null,"lastFailureCode":null,"failingSince":null,"oldest":null,`},
		"by another process": {func(*graphql.SinkStatus) {},
			`"running":false,"lagEvents":null,"lagSeconds":null,"inFlight":null,"heldStreams":null,"lastSuccess":null,"lastFailureCode":null,"failingSince":null,"oldest":null,`},
	} {
		t.Run(name, func(t *testing.T) {
			r := r.in(t)
			status := full
			c.status(&status)
			r.sinks.configure(status)
			want := `{"name":"billing","target":"kafka","phase":"active",` + c.want + decided
			if a := r.must(`{ sink(name: "billing") { `+sinkFields+` } }`, nil); string(a.Data) != `{"sink":`+want+`}` {
				t.Errorf("answered %s\nwant %s", a.Data, want)
			}
			if a := r.must(`{ sinks { nodes { `+sinkFields+` } } }`, nil); string(a.Data) != `{"sinks":{"nodes":[`+want+`]}}` {
				t.Errorf("answered %s\nwant %s", a.Data, want)
			}
		})
	}
}

func TestSinksComeInPagesInTheOrderOfTheirNames(t *testing.T) {
	r := withSinks(t, "metering", "audit", "search", "billing", "crm")
	if got := r.list("sinks", ""); !slices.Equal(got, []string{"audit", "billing", "crm", "metering", "search"}) {
		t.Errorf("%v", got)
	}
}

func TestWithoutSinksThereAreNone(t *testing.T) {
	noReader := newRigWith(t, func(c *graphql.Config) { c.Sinks = nil })
	for name, r := range map[string]*rig{"none configured": newRig(t), "no reader": noReader} {
		t.Run(name, func(t *testing.T) {
			r := r.in(t)
			if a := r.must(`{ sinks { nodes { id } edges { cursor } pageInfo { hasNextPage } } sink(name: "billing") { id } }`, nil); string(a.Data) !=
				`{"sinks":{"nodes":[],"edges":[],"pageInfo":{"hasNextPage":false}},"sink":null}` {
				t.Errorf("answered %s", a.text)
			}
			_, errs := r.mutate("pauseSink", "sink { id }", map[string]any{"sink": "billing", "idempotencyKey": "k"})
			if len(errs) != 1 || errs[0].Code != "NOT_FOUND" || strings.Join(errs[0].Path, ".") != "input.sink" {
				t.Errorf("answered %+v", errs)
			}
			r.nothingAppended()
		})
	}
}

// pages reads a list within the sink billing to its end, two at a time.
func (r *rig) pages(field, what string) (all []string) {
	r.t.Helper()
	for after := (*string)(nil); ; {
		var page struct {
			Nodes    []map[string]any
			PageInfo struct {
				HasNextPage bool
				EndCursor   *string
			}
		}
		r.must(fmt.Sprintf(`query($after: String) { sink(name: "billing") { %s(first: 2, after: $after) { nodes { %s } pageInfo { hasNextPage endCursor } } } }`,
			field, what), map[string]any{"after": after}).into(r.t, &page, "sink", field)
		for _, n := range page.Nodes {
			all = append(all, fmt.Sprint(n[strings.Fields(what)[0]], "/", n[strings.Fields(what)[1]]))
		}
		if len(page.Nodes) > 2 {
			r.t.Fatalf("a page has %d", len(page.Nodes))
		}
		if !page.PageInfo.HasNextPage {
			return all
		}
		after = page.PageInfo.EndCursor
	}
}

func TestParkedEventsAndDeliveriesComeInPages(t *testing.T) {
	r := withSinks(t, "billing", "crm")
	for _, revision := range []int64{10, 9, 2} {
		r.parks("billing", "tenant-ten_b", revision)
	}
	r.parks("billing", "tenant-ten_a", 11)
	r.parks("billing", "tenant-ten_c", 0)
	r.parks("crm", "tenant-ten_z", 0)
	r.execute(sink.Deliver{Sink: "billing", EventID: "tenant-ten_b:9"})
	if got, want := r.pages("parked", "stream revision"), []string{"tenant-ten_a/11", "tenant-ten_b/2", "tenant-ten_b/10", "tenant-ten_c/0"}; !slices.Equal(got, want) {
		t.Errorf("parked are %v, want %v", got, want)
	}
	for i := range 5 {
		r.sinks.delivers("billing", graphql.SinkDelivery{EventID: "e" + itoa(i), Attempt: 1, Outcome: "delivered"})
	}
	r.sinks.delivers("crm", graphql.SinkDelivery{EventID: "other", Attempt: 1, Outcome: "delivered"})
	if got, want := r.pages("deliveries", "eventId attempt"), []string{"e4/1", "e3/1", "e2/1", "e1/1", "e0/1"}; !slices.Equal(got, want) {
		t.Errorf("deliveries are %v, want %v", got, want)
	}
	if a := r.must(`{ sink(name: "billing") { parked(first: 1) { nodes { stream revision eventId attempts code } } } }`, nil); !strings.Contains(a.text,
		`{"stream":"tenant-ten_a","revision":11,"eventId":"tenant-ten_a:11","attempts":12,"code":"status-500"}`) {
		t.Errorf("answered %s", a.text)
	}
}

func TestADeliveryTellsWhatBecameOfIt(t *testing.T) {
	r := withSinks(t, "billing")
	r.sinks.delivers("billing",
		graphql.SinkDelivery{EventID: "e1", Type: "tenant.requested", Stream: "tenant-ten_a", Revision: 3, Attempt: 2, StartedAt: noon,
			Took: 1234567 * time.Microsecond, Outcome: "failed", Code: "status-503", Status: 503},
		graphql.SinkDelivery{EventID: "e1", Type: "tenant.requested", Stream: "tenant-ten_a", Revision: 3, Attempt: 3, StartedAt: noon, Outcome: "delivered"})
	a := r.must(`{ sink(name: "billing") { deliveries { nodes { eventId type stream revision attempt startedAt tookMs outcome status code } } } }`, nil)
	const of = `{"eventId":"e1","type":"tenant.requested","stream":"tenant-ten_a","revision":3,"attempt":%d,"startedAt":"2026-03-01T12:00:00.000000Z",`
	want := fmt.Sprintf(of, 3) + `"tookMs":0,"outcome":"delivered","status":null,"code":null},` +
		fmt.Sprintf(of, 2) + `"tookMs":1234,"outcome":"failed","status":503,"code":"status-503"}`
	if !strings.Contains(a.text, "["+want+"]") {
		t.Errorf("answered %s\nwant %s", a.text, want)
	}
}

func TestASinksStatusStandsThoughTheLogOfDeliveriesIsAway(t *testing.T) {
	r := withSinks(t, "billing")
	r.sinks.broken = domain.Unavailable("the log of deliveries is away", errors.New("dial tcp"))
	a := r.ask(`{ sink(name: "billing") { phase deliveries { nodes { eventId } } } }`, nil)
	if string(a.Data) != `{"sink":{"phase":"active","deliveries":null}}` || a.code() != "UNAVAILABLE" || strings.Contains(a.text, "dial") {
		t.Errorf("answered %s", a.text)
	}
}

func TestASinkIsPausedAndResumed(t *testing.T) {
	r := withSinks(t, "billing")
	input := map[string]any{"sink": "billing", "reason": "their new release", "idempotencyKey": "k1"}
	if a := r.done("pauseSink", "sink { id phase revision }", input); !strings.Contains(a.text, `"sink":{"id":"billing","phase":"paused","revision":0},"position":"`) ||
		!strings.Contains(a.text, `"repeated":false`) {
		t.Errorf("answered %s", a.text)
	}
	if a := r.done("pauseSink", "sink { phase }", input); !strings.Contains(a.text, `"repeated":true`) {
		t.Errorf("a repeat is answered %s", a.text)
	}
	a := r.done("resumeSink", "sink { id phase revision }", map[string]any{"sink": "billing", "reason": "their old release", "expectedRevision": 0})
	if !strings.Contains(a.text, `"sink":{"id":"billing","phase":"active","revision":1}`) {
		t.Errorf("answered %s", a.text)
	}
	r.execute(sink.Disable{Sink: "billing", Why: sink.WhyGone, Since: noon, Code: "status-410"})
	if a := r.must(`{ sink(name: "billing") { phase } }`, nil); !strings.Contains(a.text, `"disabled"`) {
		t.Errorf("answered %s", a.text)
	}
	if a := r.done("resumeSink", "sink { phase }", map[string]any{"sink": "billing"}); !strings.Contains(a.text, `"phase":"active"`) {
		t.Errorf("answered %s", a.text)
	}
	var kinds []string
	for _, e := range r.log.All() {
		kinds = append(kinds, e.Type)
		if strings.Contains(string(e.Data), "their") {
			t.Error("the log holds a reason in the clear")
		}
		if e.Type == "sink.paused" && !strings.Contains(string(e.Data), `"subject":"billing"`) {
			t.Errorf("the reason is not kept: %s", e.Data)
		}
	}
	if d := cmp.Diff([]string{"sink.paused", "sink.resumed", "sink.disabled", "sink.resumed"}, kinds); d != "" {
		t.Errorf("the log holds others (-want +got):\n%s", d)
	}
}

func TestASinkIsAskedForEventsOnceMore(t *testing.T) {
	r := withSinks(t, "billing")
	r.parks("billing", "tenant-ten_a", 3)
	from, to := sink.Place{Stream: "tenant-ten_a", Revision: 3}, sink.Place{Stream: "org-org_a", Revision: 0}
	for i, c := range []struct {
		input map[string]any
		want  sink.RedeliveryRequested
	}{
		{map[string]any{"event": place("tenant-ten_a", 3)}, sink.RedeliveryRequested{Scope: "event", From: &from}},
		{map[string]any{"range": map[string]any{"from": place("tenant-ten_a", 3), "to": place("org-org_a", 0)}}, sink.RedeliveryRequested{Scope: "range", From: &from, To: &to}},
		{map[string]any{"allParked": true}, sink.RedeliveryRequested{Scope: "parked"}},
		{map[string]any{"allParked": false, "event": place("org-org_a", 0)}, sink.RedeliveryRequested{Scope: "event", From: &to}},
	} {
		c.input["sink"], c.input["idempotencyKey"] = "billing", "again-"+itoa(i)
		var p, repeat struct {
			Sink         struct{ OpenRedeliveries int }
			RedeliveryID string
			Repeated     bool
		}
		r.done("redeliverSink", "sink { openRedeliveries } redeliveryId", c.input).into(t, &p, "redeliverSink")
		r.done("redeliverSink", "sink { openRedeliveries } redeliveryId", c.input).into(t, &repeat, "redeliverSink")
		asked := r.asked()
		if len(asked) != i+1 || p.Sink.OpenRedeliveries != i+1 {
			t.Fatalf("%v: the log holds %d redeliveries, %d are open", c.input, len(asked), p.Sink.OpenRedeliveries)
		}
		c.want.ID = p.RedeliveryID
		if d := cmp.Diff(c.want, asked[i]); d != "" || p.RedeliveryID == "" || p.Repeated {
			t.Errorf("%v asked for another (-want +got):\n%s", c.input, d)
		}
		if repeat.RedeliveryID != p.RedeliveryID || !repeat.Repeated {
			t.Errorf("a repeat answers %+v", repeat)
		}
	}
	if a := r.done("redeliverSink", "sink { openRedeliveries } redeliveryId", map[string]any{"sink": "billing", "allParked": true}); !strings.Contains(a.text,
		`"openRedeliveries":4},"redeliveryId":null`) {
		t.Errorf("what is open already is answered %s", a.text)
	}
}

func TestBadInputForASinkIsCodedNamesTheFieldAndAppendsNothing(t *testing.T) {
	r := withSinks(t, "billing", "gone")
	r.execute(sink.Disable{Sink: "gone", Why: sink.WhyGone, Since: noon, Code: "status-410"})
	r.execute(sink.Pause{Sink: "billing"})
	one := func(name string, value any) map[string]any { return map[string]any{"sink": "billing", name: value} }
	both := map[string]any{"from": place("tenant-ten_a", 4), "to": place("tenant-ten_a", 3)}
	long := strings.Repeat("s", 513)
	for name, c := range map[string]struct {
		mutation string
		input    map[string]any
		code     string
		path     string
	}{
		"pause what is not configured":     {"pauseSink", map[string]any{"sink": "other"}, "NOT_FOUND", "input.sink"},
		"resume what is not configured":    {"resumeSink", map[string]any{"sink": "other"}, "NOT_FOUND", "input.sink"},
		"redeliver what is not configured": {"redeliverSink", map[string]any{"sink": "other", "allParked": true}, "NOT_FOUND", "input.sink"},
		"pause an odd name":                {"pauseSink", map[string]any{"sink": "Billing"}, "INVALID", "input.sink"},
		"resume an odd name":               {"resumeSink", map[string]any{"sink": ""}, "INVALID", "input.sink"},
		"redeliver an odd name":            {"redeliverSink", map[string]any{"sink": "a/b", "allParked": true}, "INVALID", "input.sink"},
		"pause with a long reason":         {"pauseSink", one("reason", strings.Repeat("r", 2001)), "INVALID", "input.reason"},
		"resume with a long reason":        {"resumeSink", one("reason", strings.Repeat("r", 2001)), "INVALID", "input.reason"},
		"pause what is disabled":           {"pauseSink", map[string]any{"sink": "gone"}, "NOT_ALLOWED", "input.sink"},
		"another revision":                 {"resumeSink", one("expectedRevision", 7), "CONFLICT", "input.expectedRevision"},
		"an odd key":                       {"pauseSink", one("idempotencyKey", "no key"), "INVALID", "input.idempotencyKey"},
		"no event":                         {"redeliverSink", map[string]any{"sink": "billing"}, "INVALID", "input.event"},
		"not even all that are parked":     {"redeliverSink", one("allParked", false), "INVALID", "input.event"},
		"a null event":                     {"redeliverSink", one("event", nil), "INVALID", "input.event"},
		"an event and a range":             {"redeliverSink", map[string]any{"sink": "billing", "event": place("s", 1), "range": both}, "INVALID", "input.range"},
		"an event and all that are parked": {"redeliverSink", map[string]any{"sink": "billing", "event": place("s", 1), "allParked": true}, "INVALID", "input.allParked"},
		"an event without a stream":        {"redeliverSink", one("event", place("", 1)), "INVALID", "input.event.stream"},
		"an event before the first":        {"redeliverSink", one("event", place("s", -1)), "INVALID", "input.event.revision"},
		"an event of a long stream":        {"redeliverSink", one("event", place(long, 1)), "INVALID", "input.event.stream"},
		"a range that ends before":         {"redeliverSink", one("range", both), "INVALID", "input.range.to.revision"},
		"a range from no stream":           {"redeliverSink", one("range", map[string]any{"from": place("", 1), "to": place("s", 3)}), "INVALID", "input.range.from.stream"},
		"a range to before the first":      {"redeliverSink", one("range", map[string]any{"from": place("s", 1), "to": place("t", -1)}), "INVALID", "input.range.to.revision"},
	} {
		t.Run(name, func(t *testing.T) {
			r := r.in(t)
			if _, given := c.input["idempotencyKey"]; !given {
				c.input["idempotencyKey"] = "bad"
			}
			before := len(r.log.All())
			a, errs := r.mutate(c.mutation, "sink { id }", c.input)
			if len(errs) != 1 || errs[0].Code != c.code || strings.Join(errs[0].Path, ".") != c.path || errs[0].Message == "" {
				t.Errorf("answered %s, want %s at %s", a.text, c.code, c.path)
			}
			if !strings.Contains(a.text, `"sink":null,"position":null`) || len(r.log.All()) != before {
				t.Errorf("a refusal changes something: %s", a.text)
			}
			if c.code == "NOT_ALLOWED" && (*errs[0].Phase != "disabled" || !slices.Equal(errs[0].Allowed, []string{"active"})) {
				t.Errorf("the phases are others: %s", a.text)
			}
		})
	}
}

func TestAPageOfASinkThatIsNoneIsInvalid(t *testing.T) {
	r := withSinks(t, "billing", "crm")
	r.parks("crm", "tenant-ten_a", 1)
	r.sinks.delivers("crm", graphql.SinkDelivery{EventID: "e", Attempt: 1, Outcome: "delivered"})
	var crm struct {
		Parked, Deliveries struct{ PageInfo struct{ EndCursor string } }
	}
	r.must(`{ sink(name: "crm") { parked { pageInfo { endCursor } } deliveries { pageInfo { endCursor } } } }`, nil).into(t, &crm, "sink")
	for query, field := range map[string]string{
		`{ sinks(first: 0) { nodes { id } } }`:                                                                                   "first",
		`{ sinks(after: "nonsense") { nodes { id } } }`:                                                                          "after",
		`{ sink(name: "Billing") { id } }`:                                                                                       "name",
		`{ sink(name: "billing") { parked(first: 201) { nodes { code } } } }`:                                                    "first",
		`{ sink(name: "billing") { deliveries(first: 0) { nodes { code } } } }`:                                                  "first",
		fmt.Sprintf(`{ sink(name: "billing") { parked(after: %q) { nodes { code } } } }`, crm.Parked.PageInfo.EndCursor):         "after",
		fmt.Sprintf(`{ sink(name: "crm") { parked(after: %q) { nodes { code } } } }`, crm.Deliveries.PageInfo.EndCursor):         "after",
		fmt.Sprintf(`{ sink(name: "billing") { deliveries(after: %q) { nodes { code } } } }`, crm.Deliveries.PageInfo.EndCursor): "after",
	} {
		if a := r.ask(query, nil); a.code() != "INVALID" || a.Errors[0].Extensions["field"] != field {
			t.Errorf("%s is answered %s", query, a.text)
		}
	}
	if a := r.ask(`{ sinks(first: 200) { nodes { parked(first: 200) { nodes { code } } } } }`, nil); a.code() != "INVALID" {
		t.Errorf("pages of pages are answered %s", a.text)
	}
}

func TestASinkNeverWaitsForTheReadModels(t *testing.T) {
	r := withSinks(t, "billing")
	r.log.hold(true)
	var p struct{ Position string }
	r.done("pauseSink", "sink { phase }", map[string]any{"sink": "billing"}).into(t, &p, "pauseSink")
	a := r.must(`query($p: Position) { sink(name: "billing", atLeast: $p) { phase } sinks(atLeast: $p) { nodes { phase } } }`, map[string]any{"p": p.Position})
	if strings.Count(a.text, `"phase":"paused"`) != 2 {
		t.Errorf("answered %s", a.text)
	}
	elsewhere := domain.Position{Epoch: domain.Epoch{Number: 2, ID: "e2"}, Commit: 1}.String()
	for _, field := range []string{`sink(name: "billing", atLeast: $p) { phase }`, `sinks(atLeast: $p) { nodes { phase } }`} {
		if a := r.ask("query($p: Position) { "+field+" }", map[string]any{"p": elsewhere}); a.code() != "STALE" {
			t.Errorf("%s of another log is answered %s", field, a.text)
		}
	}
}
