package sources_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/adapters/bus/sources"
	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain"
	orgs "github.com/tenure-dev/tenure/domain/org"
	"github.com/tenure-dev/tenure/domain/tenant"
)

func TestAnEventBecomesACallAndItsOutcomeAnAnswer(t *testing.T) {
	b := &bus{}
	r := start(t, b)
	const trace = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
	r.send(rename("k-1", `"expectedrevision":"4"`, `"traceparent":"`+trace+`"`, `"odd":{"x":1}`))
	a := r.reply(r.replies)
	four := int64(4)
	want := []commands.Call{{Command: orgs.Rename{OrgID: org, Name: "Acme"}, Actor: "svc-crm", Key: "k-1", Expected: &four, Traceparent: trace}}
	if d := cmp.Diff(want, b.all(), cmp.AllowUnexported(domain.Sealed{})); d != "" {
		t.Error(d)
	}
	if a.Type != "org.rename.accepted" || a.Subject != "org-"+org || a.CorrelationID != "k-1" || a.Traceparent != trace ||
		!reflect.DeepEqual(a.Data, map[string]any{"id": org, "position": "71", "revision": "1"}) {
		t.Errorf("%+v", a)
	}
}

func TestFreeTextComesInTheClearAndIsTheBussToSeal(t *testing.T) {
	b := &bus{}
	r := start(t, b)
	r.send(event("k-1", "tenant.suspend", `{"tenantId":"ten_aaaaaaaaaaaaaaaaaaaaaaaaaa","cause":{"kind":"billing","reference":"7"},"reason":"did not pay"}`))
	r.reply(r.replies)
	want := tenant.Suspend{TenantID: "ten_aaaaaaaaaaaaaaaaaaaaaaaaaa", Cause: tenant.Cause{Kind: "billing", Reference: "7"}, Reason: domain.Clear("did not pay")}
	if got := b.all()[0].Command; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestARefusalSaysWhatTheAPISays(t *testing.T) {
	for name, row := range map[string]struct {
		err  error
		want map[string]any
	}{
		"invalid":     {domain.Invalid("name", "must not be empty"), map[string]any{"code": "invalid", "field": "name", "message": "name must not be empty", "retry": false}},
		"not allowed": {domain.NotAllowed("rename", "gone", "active"), map[string]any{"code": "not_allowed", "field": "orgId", "message": "rename is not allowed while gone (allowed: active)", "phase": "gone", "allowed": []any{"active"}, "retry": true}},
		"absent":      {domain.NotAllowed("rename", "", "active"), map[string]any{"code": "not_found", "field": "orgId", "message": "orgId names nothing that exists", "retry": true}},
		"key reused":  {&domain.Error{Code: domain.CodeKeyReused, Field: "idempotencyKey", Message: "was used"}, map[string]any{"code": "idempotency_key_reused", "field": "idempotencyKey", "message": "idempotencyKey was used", "retry": false}},
		"no room":     {&domain.Error{Code: domain.CodeCapacityExhausted, Message: "no room", Cause: errors.New("secret")}, map[string]any{"code": "capacity_exhausted", "field": "orgId", "message": "no room", "retry": true}},
		"too large":   {&domain.Error{Code: domain.CodeTooLarge, Message: "is too large"}, map[string]any{"code": "too_large", "field": "orgId", "message": "is too large", "retry": false}},
		"overtaken":   {domain.Conflict(3, 5), map[string]any{"code": "conflict", "field": "expectedRevision", "message": "expectedRevision is 3, but the object is at revision 5", "expected": 3.0, "actual": 5.0, "retry": false}},
	} {
		t.Run(name, func(t *testing.T) {
			b := &bus{answer: failing(row.err)}
			r := start(t, b)
			r.send(rename("k-1", `"expectedrevision":3`))
			a := r.reply(r.replies)
			if a.Type != "org.rename.refused" || a.CorrelationID != "k-1" {
				t.Errorf("%+v", a)
			}
			if d := cmp.Diff(row.want, a.Data); d != "" {
				t.Error(d)
			}
			r.stop()
			if n := len(b.all()); n != 1 || r.count("crm") != "refused=1" {
				t.Errorf("%d calls, %s", n, r.count("crm"))
			}
		})
	}
}

func TestARefusalThatNobodyWouldHearOfIsParked(t *testing.T) {
	r := start(t, &bus{answer: failing(domain.Invalid("name", "must not be empty"))}, func(s *sources.Source, _ *sources.Options) { s.Replies = "" })
	r.send(rename("k-1"))
	if payload, why := r.aside(); payload != rename("k-1") || why != "invalid/1" {
		t.Errorf("%s: %s", why, payload)
	}
}

func TestInputIsReadAsStrictlyAsTheAPIDoes(t *testing.T) {
	b := &bus{}
	r := start(t, b)
	const ten = `"tenantId":"ten_aaaaaaaaaaaaaaaaaaaaaaaaaa"`
	for _, row := range []struct{ kind, data, field string }{
		{"org.rename", `{"orgId":"x","name":"Acme","colour":1}`, "colour"},
		{"org.rename", `{"orgid":"x"}`, "orgid"}, // names are not bent
		{"org.rename", `{"orgId":"x","orgId":"y"}`, "orgId"},
		{"org.rename", `{"orgId":5}`, "orgId"},
		{"org.rename", `{"a b":5}`, "orgId"}, // too odd to be repeated
		{"org.rename", `{"Given":{}}`, "Given"},
		{"org.register", `{"name":"Acme","orgId":"` + org + `"}`, "orgId"}, // the Bus derives it
		{"tenant.request", `{` + ten + `}`, "tenantId"},
		{"tenant.request", `{"Org":{"Exists":true}}`, "Org"}, // the Bus looks it up
		{"tenant.suspend", `{` + ten + `,"reason":{"subject":"s","key":"k","text":"eA=="}}`, "reason"},
		{"tenant.suspend", `{` + ten + `,"cause":{"kind":"billing","reference":7}}`, "cause.reference"},
		{"tenant.suspend", `{` + ten + `,"cause":[]}`, "cause"},
		{"tier.publish", `{"tierKey":"gold","quotas":{"rows":1.5}}`, "quotas"},
		{"tier.publish", `{"tierKey":"gold","quotas":{"rows":1,"rows":2}}`, "quotas"},
		{"tier.publish", `{"tierKey":"gold","features":[null]}`, "features"},
		{"tier.publish", `{"tierKey":"gold","features":"a"}`, "features"},
		{"plane.register", `{"labels":[{"key":"a","value":"b"}]}`, "labels"},
	} {
		r.send(event("k-1", row.kind, row.data))
		a := r.reply(r.replies)
		if a.Type != row.kind+".refused" || a.Data["code"] != "invalid" || a.Data["field"] != row.field {
			t.Errorf("%s %s: %s %v", row.kind, row.data, a.Type, a.Data)
		}
	}
	for attribute, field := range map[string]string{`"expectedrevision":"soon"`: "expectedRevision", `"actor":5`: "actor", `"replyto":"a b"`: "replyto",
		`"replyto":["x"]`: "replyto"} {
		r.send(rename("k-1", attribute))
		if a := r.reply(r.replies); a.Data["code"] != "invalid" || a.Data["field"] != field {
			t.Errorf("%s: %v", attribute, a.Data)
		}
	}
	if len(b.all()) != 0 {
		t.Errorf("the Bus was given %v", b.all())
	}
}

func TestWhatCanNeverBeUnderstoodIsParkedAsItCame(t *testing.T) {
	b := &bus{}
	r := start(t, b)
	good := `{"orgId":"` + org + `","name":"Acme"}`
	for payload, code := range map[string]string{
		"":                   "malformed",
		"not JSON":           "malformed",
		"[]":                 "malformed",
		rename("k") + "{}":   "malformed",
		rename("k")[:40]:     "malformed",
		"\xff" + rename("k"): "malformed",
		strings.Replace(rename("k"), "Acme", "\xff", 1):                "malformed",
		rename("k", `"id":"k2"`):                                       "malformed",
		`{"specversion":1.0,"id":"k","type":"org.rename"}`:             "malformed",
		`{"specversion":"1.0","id":null,"type":"org.rename"}`:          "malformed",
		`{"id":"k","type":"org.rename","data":{}}`:                     "bad_specversion",
		`{"specversion":"0.3","id":"k","type":"org.rename","data":{}}`: "bad_specversion",
		event("", "org.rename", good):                                  "bad_id",
		event("a b", "org.rename", good):                               "bad_id",
		event(strings.Repeat("k", 129), "org.rename", good):            "bad_id",
		event("k", "org.delete", good):                                 "unknown_type",
		event("k", "org.renamed", good):                                "unknown_type", // an event of the log
		event("k", "sink.park", good):                                  "unknown_type", // the system's own
		event("k", "tenant.activate", good):                            "unknown_type", // a saga's
		event("k", "plane.issueJoinToken", good):                       "unknown_type", // its answer is a secret
		event("k", "org.rename", "null"):                               "bad_data",
		event("k", "org.rename", `"text"`):                             "bad_data",
		rename("k", `"data_base64":"e30="`):                            "bad_data",
		rename("k", `"datacontenttype":"text/xml"`):                    "bad_data",
		rename("k", `"pad":"`+strings.Repeat("x", 1<<20)+`"`):          "too_large",
	} {
		r.send(payload, "of", "sender")
		m := <-r.parked
		m.Ack()
		if string(m.Payload) != payload || m.Metadata.Get("parkedCode") != code || m.Metadata.Get("parkedAttempts") != "1" ||
			m.Metadata.Get("parkedSource") != "crm" || m.Metadata.Get("of") != "sender" || m.UUID == m.Metadata.Get("parkedMessage") {
			t.Errorf("%.80s: want %s, %v", payload, code, m.Metadata)
		}
	}
	if len(b.all()) != 0 {
		t.Errorf("the Bus was given %v", b.all())
	}
}

func TestASourceSpeaksOnlyForWhomItMay(t *testing.T) {
	b := &bus{}
	r := start(t, b, func(s *sources.Source, _ *sources.Options) {
		s.Actors, s.Commands, s.ReplyTo = []string{"usr_*", "svc-other"}, []string{"org.rename"}, []string{"answers", "of.*"}
	})
	private := r.listen("of.ada")
	for attribute, actor := range map[string]string{`"actor":"usr_ada"`: "usr_ada", `"actor":"svc-other"`: "svc-other", `"actor":"svc-crm"`: "svc-crm",
		`"actor":""`: "svc-crm", `"actor":"svc-others"`: "", `"actor":"operator"`: "", `"actor":"usr_ a"`: "", `"actor":"usr_*"`: ""} {
		before := len(b.all())
		r.send(rename("k-1", attribute))
		a := r.reply(r.replies)
		if got := b.all()[before:]; actor == "" && (len(got) != 0 || a.Data["code"] != "forbidden" || a.Data["field"] != "actor") ||
			actor != "" && (len(got) != 1 || got[0].Actor != actor) {
			t.Errorf("%s: %v %v", attribute, got, a.Data)
		}
	}
	before := len(b.all())
	r.send(event("k-1", "org.register", `{"name":"Acme"}`))
	if a := r.reply(r.replies); a.Type != "org.register.refused" || a.Data["code"] != "forbidden" {
		t.Errorf("%+v", a)
	}
	r.send(rename("k-2", `"replyto":"asks"`))
	if a := r.reply(r.replies); a.Data["code"] != "forbidden" || a.Data["field"] != "replyto" {
		t.Errorf("%+v", a)
	}
	if len(b.all()) != before {
		t.Error("what is forbidden was carried out")
	}
	r.send(rename("k-3", `"replyto":"of.ada"`))
	r.send(rename("k-4"), "replyto", "of.ada")
	ids := []string{r.reply(private).CorrelationID, r.reply(private).CorrelationID}
	if slices.Sort(ids); !slices.Equal(ids, []string{"k-3", "k-4"}) {
		t.Error(ids)
	}
}

func TestWhatMayPassIsTriedAgainWithGrowingPauses(t *testing.T) {
	b := &bus{answer: failing(unavailable(), domain.Conflict(1, 2))}
	r := start(t, b)
	r.send(rename("k-1"))
	if a := r.reply(r.replies); a.Type != "org.rename.accepted" || a.Data["position"] != "73" {
		t.Errorf("%+v", a)
	}
	r.stop()
	if d := cmp.Diff([]time.Duration{time.Second, 2 * time.Second}, r.clock.waited); d != "" {
		t.Error(d)
	}
	if r.count("crm") != "accepted=1 failed=2" {
		t.Error(r.count("crm"))
	}
}

func TestWhatDoesNotPassIsParkedWithItsCode(t *testing.T) {
	for code, err := range map[string]error{
		"unavailable":        unavailable(),
		"conflict":           domain.Conflict(1, 2),
		"projection_lagging": &domain.Error{Code: domain.CodeLagging},
		"internal":           errors.New("uncoded"),
	} {
		b := &bus{answer: failing(err, err, err, err)}
		r := start(t, b)
		r.send(rename("k-1"))
		if payload, why := r.aside(); payload != rename("k-1") || why != code+"/3" {
			t.Errorf("%s: %s %s", code, why, payload)
		}
		r.send(rename("k-1")) // somebody sends it again: it is counted anew
		r.reply(r.replies)
		r.stop()
		if r.count("crm") != "accepted=1 failed=4 parked=1" || len(b.all()) != 5 {
			t.Errorf("%s: %s, %d calls", code, r.count("crm"), len(b.all()))
		}
	}
}

func TestAPoisonousMessageIsParkedAndTheNextIsServed(t *testing.T) {
	b := &bus{answer: func(n int, c commands.Call) (commands.Outcome, error) {
		if c.Key == "poison" {
			panic("out of bounds")
		}
		return stands(n), nil
	}}
	r := start(t, b)
	r.send(rename("poison"))
	if _, why := r.aside(); why != "internal/3" {
		t.Error(why)
	}
	r.send(rename("k-2"))
	if a := r.reply(r.replies); a.CorrelationID != "k-2" {
		t.Errorf("%+v", a)
	}
}

func TestNothingIsAcknowledgedBeforeItIsAnsweredOrParked(t *testing.T) {
	b := &bus{}
	var p *publisher
	r := start(t, b, func(s *sources.Source, _ *sources.Options) {
		p = &publisher{Publisher: s.Publisher, left: map[string]int{"answers": 2, "tenure.sources.crm.parked": 5}}
		s.Publisher = p
	})
	r.send(rename("k-1"))
	if a := r.reply(r.replies); a.Data["position"] != "73" { // the answers to the first two calls were not published
		t.Errorf("%+v", a)
	}
	r.send("not JSON")
	if payload, why := r.aside(); payload != "not JSON" || why != "malformed/1" {
		t.Error(payload, why)
	}
	p.mu.Lock()
	p.left["answers"] = 3
	p.mu.Unlock()
	r.send(rename("k-2"))
	if payload, why := r.aside(); payload != rename("k-2") || why != "reply_failed/3" {
		t.Error(payload, why)
	}
}
