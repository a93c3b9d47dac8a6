package sinks

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/tenure-dev/tenure/domain"
)

func TestAnEventIsAValidCloudEvent(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC)
	e := domain.Recorded{Meta: domain.Meta{Stream: "tenant-ten_a", Revision: 4, Commit: 123, EventID: "5485b0c6-b5a6-5a6e-bf0c-f1112ee011ea", Type: "tenant.requested",
		Rev: 2, Correlation: "c", Causation: "d", Org: "org_a", Tenant: "ten_a", RecordedAt: at, Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
	var got cloudevents.Event
	if err := json.Unmarshal(envelope("0a1b", &e, []byte(`{"a":1}`)), &got); err != nil {
		t.Fatal(err)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
	if got.ID() != e.EventID || got.Source() != "tenure:0a1b" || got.Type() != e.Type || got.Subject() != e.Stream || !got.Time().Equal(at) ||
		got.DataContentType() != "application/json" || string(got.Data()) != `{"a":1}` {
		t.Errorf("%s", got)
	}
	for name, want := range map[string]string{"sequence": "00000000000000000123", "revision": "4", "schemarevision": "2", "org": "org_a",
		"tenant": "ten_a", "correlationid": "c", "causationid": "d", "traceparent": e.Traceparent} {
		if got.Extensions()[name] != want {
			t.Errorf("%s is %v", name, got.Extensions()[name])
		}
	}
	e.Org, e.Tenant, e.Causation = "", "", ""
	got = cloudevents.NewEvent()
	if err := json.Unmarshal(envelope("0a1b", &e, []byte(`{}`)), &got); err != nil || got.Validate() != nil {
		t.Errorf("without an org: %v, %v", err, got.Validate())
	} else if _, stands := got.Extensions()["org"]; stands {
		t.Error("an absent org stands in the event")
	}
}

type keys struct{}

func (keys) Open(_ context.Context, s domain.Sealed) (string, bool, error) {
	return string(s.Text), s.Subject != "erased", nil
}

func TestPersonalFieldsAreHandledAndAllElseIsKept(t *testing.T) {
	const sealed = `{"subject":"p1","key":"k1","text":"Sm9l"}` // Joe
	m := hmac.New(sha256.New, []byte("0123456789abcdef"))
	m.Write([]byte("Joe"))
	hash := `{"hash":"` + hex.EncodeToString(m.Sum(nil)) + `"}`
	for in, want := range map[string][3]string{
		`{"z":1,"a":12345678901234567890.10}`:                            {`{"z":1,"a":12345678901234567890.10}`},
		`{"name":` + sealed + `,"n":1.0}`:                                {`{"name":null,"n":1.0}`, `{"name":` + hash + `,"n":1.0}`, `{"name":"Joe","n":1.0}`},
		`[[` + sealed + `],{"x":{"y":` + sealed + `}}]`:                  {`[[null],{"x":{"y":null}}]`, `[[` + hash + `],{"x":{"y":` + hash + `}}]`, `[["Joe"],{"x":{"y":"Joe"}}]`},
		`{"n":{"subject":"erased","key":"k","text":"Sm9l"}}`:             {`{"n":null}`},
		`{"n":{"subject":"p","key":"k","text":"Sm9l","more":1}}`:         {`{"n":{"subject":"p","key":"k","text":"Sm9l","more":1}}`},
		`{"n":{"subject":"p","key":"k"}}`:                                {`{"n":{"subject":"p","key":"k"}}`},
		`{"n":{"\u0073ubject":"p1","key":"k1","text":"Sm9l"}}`:           {`{"n":null}`, `{"n":` + hash + `}`, `{"n":"Joe"}`},
		`{ "t" : "a \" {\"subject\"" , "n" : ` + sealed + ` , "u":[ ] }`: {`{"t":"a \" {\"subject\"","n":null,"u":[]}`, `{"t":"a \" {\"subject\"","n":` + hash + `,"u":[]}`, `{"t":"a \" {\"subject\"","n":"Joe","u":[]}`},
		`{"text":{"key":"k1","text":"Sm9l","subject":"p1"}}`:             {`{"text":null}`, `{"text":` + hash + `}`, `{"text":"Joe"}`},
	} {
		for i, mode := range []Personal{Omit, Hash, Open} {
			p := personal{mode, keys{}, []byte("0123456789abcdef")}
			expected := want[i]
			if expected == "" {
				expected = want[0]
			}
			got, err := p.replace(t.Context(), []byte(in))
			if err != nil || string(got) != expected {
				t.Errorf("%s %s: %s, %v, want %s", mode, in, got, err, expected)
			}
		}
	}
	p := personal{mode: Omit}
	if _, err := p.replace(t.Context(), []byte(`{"a":`)); err == nil {
		t.Error("what is no JSON is taken")
	}
}
