package bus

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/domain"
)

func messageOf(id, payload string, metadata ...string) *message.Message {
	m := message.NewMessage(id, []byte(payload))
	for i := 0; i < len(metadata); i += 2 {
		m.Metadata.Set(metadata[i], metadata[i+1])
	}
	return m
}

func TestAMessageIsTheSameEventHoweverOftenItIsPublished(t *testing.T) {
	l := newMemory()
	p := NewPublisher(l)
	id := domain.DeriveUUID("m").String()
	for range 3 {
		if err := p.Publish("topic-a", messageOf(id, "1"), messageOf("not a UUID", "2"), messageOf(strings.ToUpper(id), "3")); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, e := range l.in("topic-a") {
		got = append(got, e.ID+" "+string(e.Data)+" "+decode(e).Metadata.Get(MessageIDKey))
	}
	if d := cmp.Diff([]string{id + " 1 ", domain.DeriveUUID("topic-a", "not a UUID").String() + " 2 not a UUID"}, got); d != "" {
		t.Error(d)
	}
}

// The event store knows a repeated id only in the stream that had it first: a message that is passed on has another.
func TestAForwardedMessageIsOneEventOfItsOwnInEveryTopic(t *testing.T) {
	l := newMemory()
	p := NewPublisher(l)
	if err := p.Publish("topic-a", messageOf("first", "1", TypeKey, "order.placed", "k", "v")); err != nil {
		t.Fatal(err)
	}
	from := l.in("topic-a")[0]
	for range 2 {
		if err := p.Publish("topic-b", decode(from)); err != nil {
			t.Fatal(err)
		}
		if err := p.Publish("topic-c", decode(from)); err != nil {
			t.Fatal(err)
		}
	}
	b, c := l.in("topic-b"), l.in("topic-c")
	if len(b) != 1 || len(c) != 1 || b[0].ID == c[0].ID || b[0].ID == from.ID || b[0].Type != "order.placed" {
		t.Fatalf("%+v, %+v", b, c)
	}
	m := decode(b[0])
	if m.Metadata.Get("k") != "v" || m.Metadata.Get(MessageIDKey) != "first" || m.Metadata.Get(StreamKey) != "topic-b" {
		t.Error(m.Metadata)
	}
	if err := p.Publish("topic-a", decode(from)); err != nil || len(l.in("topic-a")) != 1 {
		t.Error("to its own topic it is itself", err)
	}
}

func TestAMessageMayNameTheRevisionBehindWhichItBelongs(t *testing.T) {
	l := newMemory()
	p := NewPublisher(l)
	for n, step := range []struct {
		expected string
		code     domain.Code
	}{{"-1", ""}, {"-1", domain.CodeConflict}, {"0", ""}, {"5", domain.CodeConflict}, {"-2", domain.CodeInvalid}, {"x", domain.CodeInvalid}, {"1", ""}} {
		err := p.Publish("topic-a", messageOf(string(rune('a'+n)), "1", ExpectedRevisionKey, step.expected))
		if domain.CodeOf(err) != step.code {
			t.Errorf("behind %s: %v", step.expected, err)
		}
	}
	if n := len(l.in("topic-a")); n != 3 {
		t.Errorf("%d messages", n)
	}
}

func TestTheKernelsMetadataComeBackAsTheyWere(t *testing.T) {
	meta := domain.Meta{Rev: 3, Correlation: "c", Causation: "d", Org: "org_a", Tenant: "ten_a", Traceparent: "00-x", CommandID: "e", Actor: "ada",
		RecordedAt: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), Epoch: domain.Epoch{Number: 2, ID: "two"}}
	e := Event{Stream: "tenant-a", ID: domain.DeriveUUID("a").String(), Type: "tenant.done", Metadata: meta.Encode(), Data: []byte(`{"a":1}`), Revision: 4, Position: 50}
	m := decode(e)
	want := message.Metadata{TypeKey: "tenant.done", StreamKey: "tenant-a", RevisionKey: "4", PositionKey: "50", OrgKey: "org_a", TenantKey: "ten_a",
		CorrelationKey: "c", CausationKey: "d", TraceparentKey: "00-x", RecordedAtKey: "2026-01-02T03:04:05.000006Z", "rev": "3"}
	got := message.Metadata{}
	for key := range want {
		got[key] = m.Metadata[key]
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	forwarded, _, err := encode("topic-a", m)
	if err != nil {
		t.Fatal(err)
	}
	var back domain.Meta
	if err := domain.DecodeMeta(forwarded.Metadata, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(meta, back); d != "" {
		t.Error(d)
	}
	seen := metaOf(e)
	if seen.Stream != "tenant-a" || seen.Revision != 4 || seen.Commit != 50 || seen.Org != "org_a" || seen.Type != "tenant.done" {
		t.Errorf("%+v", seen)
	}
}

func TestForeignMetadataAreDeliveredAsFarAsTheyAreUnderstood(t *testing.T) {
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]message.Metadata{
		"":                          {},
		"<xml/>":                    {},
		`[1]`:                       {},
		`{"a":"b","n":1,"x":null}`:  {"a": "b", "n": "1"},
		`{"o":{"p":[1]},"org":"o"}`: {"o": `{"p":[1]}`, OrgKey: "o"},
	} {
		m := decode(Event{Stream: "x-1", ID: "id", Type: "x", Metadata: []byte(text), Created: created})
		want[TypeKey], want[StreamKey], want[RevisionKey], want[PositionKey], want[RecordedAtKey] = "x", "x-1", "0", "0", "2026-01-02T03:04:05Z"
		if d := cmp.Diff(want, m.Metadata); d != "" {
			t.Errorf("%s: %s", text, d)
		}
	}
	if m := metaOf(Event{Metadata: []byte(`{"org":"o","rev":"no number"}`)}); m.Org != "o" {
		t.Errorf("a filter sees %+v", m)
	}
}

func TestAPublisherNamesWhatIsWrongAndAppendsNothing(t *testing.T) {
	l := newMemory()
	p := NewPublisher(l)
	for name, c := range map[string]struct {
		topic string
		m     *message.Message
	}{
		"topic: the kernel's":        {"tenant-a", messageOf("a", "1")},
		"topic: a place's":           {"bus-a.topic-b", messageOf("a", "1")},
		"topic: no name":             {"topic", messageOf("a", "1")},
		"topic: the whole log":       {All, messageOf("a", "1")},
		"topic: empty":               {"", messageOf("a", "1")},
		"topic: too long":            {"topic-" + strings.Repeat("a", 256), messageOf("a", "1")},
		"uuid: empty":                {"topic-a", messageOf("", "1")},
		"uuid: NUL":                  {"topic-a", messageOf("a\x00", "1")},
		"metadata: no UTF-8":         {"topic-a", messageOf("a", "1", "k", "\xff")},
		"metadata.type: the store's": {"topic-a", messageOf("a", "1", TypeKey, "$x")},
		"metadata.type: too long":    {"topic-a", messageOf("a", "1", TypeKey, strings.Repeat("a", 257))},
	} {
		err := p.Publish(c.topic, messageOf("good", "1"), c.m)
		field, _, _ := strings.Cut(name, ":")
		if domain.CodeOf(err) != domain.CodeInvalid || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(l.events) != 0 {
		t.Errorf("%d events", len(l.events))
	}
}

func TestPublishingEndsAtTheFirstThatFails(t *testing.T) {
	l := newMemory()
	failing := true
	l.fault = func(e Event, _ bool) error {
		if failing && string(e.Data) == "2" {
			return domain.Unavailable("it is away", nil)
		}
		return nil
	}
	p := NewPublisher(l)
	publish := func() error {
		return p.Publish("topic-a", messageOf("a", "1"), messageOf("b", "2"), messageOf("c", "3"))
	}
	if err := publish(); domain.CodeOf(err) != domain.CodeUnavailable || !strings.Contains(err.Error(), "2 of 3") || len(l.events) != 1 {
		t.Error(err, len(l.events))
	}
	failing = false
	if err := publish(); err != nil {
		t.Error(err)
	}
	var got string
	for _, e := range l.in("topic-a") {
		got += string(e.Data)
	}
	if got != "123" {
		t.Errorf("in the log is %s", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	late := messageOf("d", "4")
	late.SetContext(ctx)
	if err := p.Publish("topic-a", late); domain.CodeOf(err) != domain.CodeUnavailable {
		t.Error(err)
	}
	_ = p.Close()
	if err := publish(); domain.CodeOf(err) != domain.CodeUnavailable {
		t.Error(err)
	}
}

func FuzzAMessageSurvivesTheLog(f *testing.F) {
	f.Add("id", "{}", "k", "v")
	f.Add("5485b0c6-b5a6-5a6e-bf0c-f1112ee011ea", "\x00", "rev", "1e999")
	f.Fuzz(func(t *testing.T, id, payload, key, value string) {
		e, _, err := encode("topic-a", messageOf(id, payload, key, value))
		if err != nil {
			return
		}
		if _, err := domain.ParseUUID(e.ID); err != nil || !json.Valid(e.Metadata) {
			t.Fatalf("%+v", e)
		}
		m := decode(e)
		if string(m.Payload) != payload {
			t.Errorf("%q came", m.Payload)
		}
		switch key {
		case StreamKey, RevisionKey, PositionKey, ExpectedRevisionKey, RecordedAtKey, TypeKey, "rev", "epoch", "answers", "read":
			return
		}
		if m.Metadata.Get(key) != value {
			t.Errorf("%q of %q came, not %q", m.Metadata.Get(key), key, value)
		}
	})
}
