package domain_test

import (
	"testing"
	"time"

	"github.com/tenure-dev/tenure/domain"
	. "github.com/tenure-dev/tenure/domain/domaintest"
)

// everyKey is metadata with every key set, and how it stands in logs, for ever.
var (
	everyKey = domain.Meta{
		Rev: 2, Correlation: "c-1", Causation: "9de54cda-78c8-5afc-9d07-bf2f0a602ac5", CommandID: "5485b0c6-b5a6-5a6e-bf0c-f1112ee011ea",
		InputHash: "aGFzaA", Actor: "usr_1", Org: "org_x", Tenant: "ten_x", RecordedAt: time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC),
		Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Epoch: domain.Epoch{Number: 3, ID: "e3"},
		Answers: &domain.Answers{Saga: "sag_x", Command: "c0"}, Read: map[string]int64{"org-org_x": 4, "tier-premium": 0},
	}
	everyKeyText = `{"$correlationId":"c-1","$causationId":"9de54cda-78c8-5afc-9d07-bf2f0a602ac5","rev":2,` +
		`"commandId":"5485b0c6-b5a6-5a6e-bf0c-f1112ee011ea","inputHash":"aGFzaA","actor":"usr_1","org":"org_x","tenant":"ten_x",` +
		`"recordedAt":"2026-01-02T03:04:05.678901Z","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",` +
		`"epoch":{"number":3,"id":"e3"},"answers":{"saga":"sag_x","command":"c0"},"read":{"org-org_x":4,"tier-premium":0}}`
)

func TestMetadataStandsInTheLogUnderTheseKeys(t *testing.T) {
	if got := string(everyKey.Encode()); got != everyKeyText {
		t.Errorf("written as\n%s\nwant\n%s", got, everyKeyText)
	}
	var back domain.Meta
	if err := domain.DecodeMeta([]byte(everyKeyText), &back); err != nil {
		t.Fatal(err)
	}
	if diff := Diff(everyKey, back); diff != "" {
		t.Errorf("read otherwise (-want +got):\n%s", diff)
	}
}

func TestMetadataLeavesOutWhatIsNotThere(t *testing.T) {
	const want = `{"rev":1,"recordedAt":"0001-01-01T00:00:00Z","epoch":{"number":0,"id":""}}`
	if got := string(domain.Meta{Rev: 1}.Encode()); got != want {
		t.Errorf("written as %s", got)
	}
}

func TestMetadataSaysNothingOfWhereTheEventStands(t *testing.T) {
	m := domain.Meta{Stream: "s-1", Revision: 7, Commit: 9, EventID: "e", Type: "t", Created: time.Unix(1, 0).UTC()}
	if err := domain.DecodeMeta(m.Encode(), &m); err != nil {
		t.Fatal(err)
	}
	if want := (domain.Meta{Stream: "s-1", Revision: 7, Commit: 9, EventID: "e", Type: "t", Created: time.Unix(1, 0).UTC(), Rev: 1}); Diff(want, m) != "" {
		t.Errorf("decoding changed where the event stands (-want +got):\n%s", Diff(want, m))
	}
}

func TestMetadataThatIsNotOurs(t *testing.T) {
	for _, data := range []string{"", "x", `"text"`, `[1]`, `{"rev":"1"}`, `{"recordedAt":"yesterday"}`, `{"read":{"s":"1"}}`} {
		m := domain.Meta{Rev: 5}
		if err := domain.DecodeMeta([]byte(data), &m); domain.CodeOf(err) != domain.CodeInternal {
			t.Errorf("%s: %v", data, err)
		} else if m.Rev != 5 {
			t.Errorf("%s: an error changed the metadata", data)
		}
	}
	for _, data := range []string{`{}`, `{"rev":0}`, `{"rev":-3}`, `{"somebodyElses":1}`} { // an event of another writer has no revision
		m := domain.Meta{}
		if err := domain.DecodeMeta([]byte(data), &m); err != nil || m.Rev != 1 {
			t.Errorf("%s: revision %d, %v", data, m.Rev, err)
		}
	}
}

func FuzzDecodeMeta(f *testing.F) {
	f.Add([]byte(everyKeyText))
	f.Add([]byte(`{"rev":1,"recordedAt":"9999-12-31T23:59:59.999999999+23:59"}`))
	f.Add([]byte(`{"answers":null,"read":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m, back domain.Meta
		if domain.DecodeMeta(data, &m) != nil {
			return
		}
		if err := domain.DecodeMeta(m.Encode(), &back); err != nil {
			t.Fatal(err)
		}
		if diff := Diff(m, back); diff != "" {
			t.Errorf("read, written and read again (-first +again):\n%s", diff)
		}
	})
}

func TestStreamsAreCutAtTheFirstDash(t *testing.T) {
	for stream, want := range map[string][2]string{
		"tenant-ten_x":                {"tenant", "ten_x"},
		"tier-extra-large":            {"tier", "extra-large"},
		"log-epoch":                   {"log", "epoch"},
		"saga-tier-change.sag_x":      {"saga", "tier-change.sag_x"},
		"reservation-slug.org_x.my-a": {"reservation", "slug.org_x.my-a"},
		"plain":                       {"plain", ""},
		"":                            {"", ""},
		"-x":                          {"", "x"},
		"x-":                          {"x", ""},
	} {
		if category, id := domain.SplitStream(stream); category != want[0] || id != want[1] {
			t.Errorf("%q is cut into %q and %q", stream, category, id)
		}
		if got := (domain.Meta{Stream: stream}).ID(); got != want[1] {
			t.Errorf("the id of %q is %q", stream, got)
		}
	}
}

func TestMicroIsWhatRowsAndPayloadsKeep(t *testing.T) {
	zone := time.FixedZone("east", 3600)
	got := domain.Micro(time.Date(2026, 1, 2, 3, 4, 5, 678_901_999, zone))
	if want := time.Date(2026, 1, 2, 2, 4, 5, 678_901_000, time.UTC); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if now := domain.Micro(time.Now()); now != now.Round(0) || now.Location() != time.UTC {
		t.Errorf("%v has a monotonic clock or a zone", now)
	}
}
