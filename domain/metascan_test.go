package domain

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

func fullMeta() Meta {
	return Meta{Correlation: "c", Causation: "e", Rev: 3, CommandID: "d", InputHash: "h", Actor: "usr_é", Org: "org_1", Tenant: "ten_1",
		RecordedAt: time.Unix(1700000000, 123000).UTC(), Traceparent: "00-a-b-01", Epoch: Epoch{Number: 12, ID: "x"}}
}

func TestMetadataAsWeWriteItNeedsNoReflection(t *testing.T) {
	for name, m := range map[string]Meta{"full": fullMeta(), "empty": {}} {
		var fast, slow wireMeta
		if err := json.Unmarshal(m.Encode(), &slow); err != nil {
			t.Fatal(err)
		}
		if !fast.scan(m.Encode()) || !reflect.DeepEqual(fast, slow) {
			t.Errorf("%s: %+v, not %+v", name, fast, slow)
		}
	}
	rare := fullMeta()
	rare.Answers, rare.Read, rare.Actor = &Answers{Saga: "sag_1", Command: "d"}, map[string]int64{"org-1": 2}, `<"\>`
	var got Meta
	if err := DecodeMeta(rare.Encode(), &got); err != nil || !reflect.DeepEqual(got, rare) {
		t.Errorf("%+v, %v", got, err)
	}
}

// What is scanned is what encoding/json would have made of it.
func FuzzScanMeta(f *testing.F) {
	f.Add(fullMeta().Encode())
	f.Add(Meta{}.Encode())
	for _, odd := range []string{`{"rev":01}`, `{"rev":-1}`, `{"rev":1,"rev":2}`, `{"rev":9223372036854775807}`, `{"rev":1} `, `{}`, `{"rev":1,}`, `{"epoch":{"id":"a"},"epoch":{"number":1}}`,
		`{"recordedAt":"2024-1-01T00:00:00Z"}`, `{"recordedAt":"2024-01-01T00:00:00+01:00"}`, `{"actor":"\u0061"}`, `{"ACTOR":"a"}`, `{"actor":null}`, "{\"actor\":\"\xff\"}"} {
		f.Add([]byte(odd))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var fast, slow wireMeta
		if !fast.scan(b) {
			return
		}
		if err := json.Unmarshal(b, &slow); err != nil {
			t.Fatalf("%q: scanned, but %v", b, err)
		}
		if !fast.RecordedAt.Equal(slow.RecordedAt) {
			t.Fatalf("%q: %s, not %s", b, fast.RecordedAt, slow.RecordedAt)
		}
		fast.RecordedAt, slow.RecordedAt = time.Time{}, time.Time{}
		if !reflect.DeepEqual(fast, slow) {
			t.Fatalf("%q: %+v, not %+v", b, fast, slow)
		}
	})
}
