package codec

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/encoding"
	standard "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

var fast = Codec{encoding.GetCodecV2(standard.Name)}

// typical is an event as event stores send it.
func typical() *api.ReadResp {
	return &api.ReadResp{Content: &api.ReadResp_Event{Event: &api.ReadResp_ReadEvent{
		Event: &api.ReadResp_ReadEvent_RecordedEvent{
			Id:               &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{MostSignificantBits: -7, LeastSignificantBits: 1 << 60}}},
			StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte("tenant-ten_1")}, StreamRevision: 300, PreparePosition: 70000, CommitPosition: 70000,
			Metadata:       map[string]string{"type": "tenant.created", "content-type": "application/json", "created": "17000000001234567"},
			CustomMetadata: []byte(`{"rev":1}`), Data: []byte(strings.Repeat("x", 300)),
		}, Position: &api.ReadResp_ReadEvent_CommitPosition{CommitPosition: 70000}}}}
}

// some makes any message that the schema allows, small numbers and absent fields more often than others.
func some(r *rand.Rand) *api.ReadResp {
	number := func() uint64 { return r.Uint64() >> r.IntN(65) }
	bytes := func() []byte { return slices.Repeat([]byte{byte(r.Uint32())}, r.IntN(3)*r.IntN(200)) }
	text := func() string { return strings.Repeat("é", r.IntN(3)*r.IntN(90)) }
	recorded := func() *api.ReadResp_ReadEvent_RecordedEvent {
		e := &api.ReadResp_ReadEvent_RecordedEvent{}
		if r.IntN(8) > 0 {
			e.Id = []*shared.UUID{{}, {Value: &shared.UUID_String_{String_: text()}},
				{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{MostSignificantBits: int64(number()), LeastSignificantBits: -int64(number())}}}}[min(r.IntN(6), 2)]
		}
		if r.IntN(8) > 0 {
			e.StreamIdentifier = &shared.StreamIdentifier{StreamName: bytes()}
		}
		e.StreamRevision, e.PreparePosition, e.CommitPosition = number(), number(), number()
		for range r.IntN(5) {
			if e.Metadata == nil {
				e.Metadata = map[string]string{}
			}
			e.Metadata[[]string{"type", "created", "content-type", text()}[r.IntN(4)]] = text()
		}
		e.CustomMetadata, e.Data = bytes(), bytes()
		return e
	}
	event := func() *api.ReadResp_ReadEvent {
		e := &api.ReadResp_ReadEvent{}
		if r.IntN(8) > 0 {
			e.Event = recorded()
		}
		if r.IntN(8) == 0 {
			e.Link = recorded()
		}
		switch r.IntN(4) {
		case 0:
		case 1:
			e.Position = &api.ReadResp_ReadEvent_NoPosition{NoPosition: &shared.Empty{}}
		default:
			e.Position = &api.ReadResp_ReadEvent_CommitPosition{CommitPosition: number()}
		}
		return e
	}
	m := &api.ReadResp{}
	switch r.IntN(12) {
	case 0:
	case 1:
		m.Content = &api.ReadResp_Confirmation{Confirmation: &api.ReadResp_SubscriptionConfirmation{SubscriptionId: text()}}
	case 2:
		m.Content = &api.ReadResp_Checkpoint_{Checkpoint: &api.ReadResp_Checkpoint{CommitPosition: number()}}
	case 3:
		m.Content = &api.ReadResp_StreamNotFound_{StreamNotFound: &api.ReadResp_StreamNotFound{StreamIdentifier: &shared.StreamIdentifier{StreamName: bytes()}}}
	case 4:
		m.Content = &api.ReadResp_CaughtUp_{CaughtUp: &api.ReadResp_CaughtUp{}}
	default:
		m.Content = &api.ReadResp_Event{Event: event()}
	}
	return m
}

// agree fails unless the two codecs take b for the same message, or both refuse it.
func agree(t *testing.T, b []byte) {
	t.Helper()
	want, got := &api.ReadResp{}, typical() // what was there before has to go
	wantErr, gotErr := proto.Unmarshal(b, want), fast.Unmarshal(split(b), got)
	if (wantErr == nil) != (gotErr == nil) {
		t.Fatalf("%x: %v, not %v", b, gotErr, wantErr)
	}
	if wantErr == nil && !proto.Equal(want, got) {
		t.Fatalf("%x:\n%v, not\n%v", b, got, want)
	}
	if again := (proto.MarshalOptions{Deterministic: true}); wantErr == nil { // and what is made of it is the same, too
		one, err := again.Marshal(want)
		other, err2 := again.Marshal(got)
		if err != nil || err2 != nil || string(one) != string(other) {
			t.Fatalf("%x: encodes as %x (%v), not as %x (%v)", b, other, err2, one, err)
		}
	}
}

// split lays b over several buffers, as the wire does, the first being of one byte.
func split(b []byte) (s mem.BufferSlice) {
	for cut := 1; len(b) > 0; cut = 100 {
		n := min(cut, len(b))
		s = append(s, mem.SliceBuffer(slices.Clone(b[:n])))
		b = b[n:]
	}
	return s
}

func TestEveryMessageDecodesAsTheStandardCodecHasIt(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	byHand := 0
	for range 20000 {
		b, err := proto.Marshal(some(r))
		if err != nil {
			t.Fatal(err)
		}
		agree(t, b)
		if Decode(slices.Clone(b), &api.ReadResp{}) {
			byHand++
		}
		for range r.IntN(3) { // damaged
			if len(b) > 0 {
				b[r.IntN(len(b))] ^= 1 << r.IntN(8)
			}
		}
		agree(t, b[:r.IntN(len(b)+1)])
		other, err := proto.Marshal(some(r))
		if err != nil {
			t.Fatal(err)
		}
		agree(t, append(b, other...)) // merged
	}
	if byHand < 4000 {
		t.Errorf("only %d were decoded by hand", byHand)
	}
}

func TestWhatEventStoresSendIsDecodedByHand(t *testing.T) {
	b, err := proto.Marshal(typical())
	if err != nil {
		t.Fatal(err)
	}
	got := &api.ReadResp{}
	if !Decode(b, got) || !proto.Equal(got, typical()) {
		t.Errorf("%v", got)
	}
	if n := testing.AllocsPerRun(100, func() { Decode(b, got) }); n > 3 {
		t.Errorf("%v allocations", n)
	}
}

// Each of these the schema allows or a newer server may send; none is what the fast path knows.
func TestOddShapesAreLeftToTheStandardCodec(t *testing.T) {
	wrap := func(number protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), b)
	}
	varint := func(number protowire.Number, n uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), n)
	}
	event := func(b ...[]byte) []byte { return wrap(1, wrap(1, slices.Concat(b...))) }
	for name, b := range map[string][]byte{
		"an unknown field":           slices.Concat(event(), varint(99, 1)),
		"one in the event":           event(varint(9, 7)),
		"one in the id":              event(wrap(1, wrap(1, varint(5, 1)))),
		"one in a map's entry":       event(wrap(6, slices.Concat(wrap(1, []byte("a")), wrap(2, []byte("b")), varint(3, 1)))),
		"a value before its key":     event(wrap(6, slices.Concat(wrap(2, []byte("b")), wrap(1, []byte("a"))))),
		"an entry without a value":   event(wrap(6, wrap(1, []byte("a")))),
		"metadata in two places":     event(wrap(6, slices.Concat(wrap(1, []byte("a")), wrap(2, []byte("b")))), varint(3, 1), wrap(6, slices.Concat(wrap(1, []byte("c")), wrap(2, []byte("d"))))),
		"a field twice":              event(varint(3, 1), varint(3, 2)),
		"two contents":               slices.Concat(event(varint(3, 1)), wrap(8, nil)),
		"two events, merged":         slices.Concat(event(varint(3, 1)), event(varint(4, 2))),
		"halves the other way round": event(wrap(1, wrap(1, slices.Concat(varint(2, 5), varint(1, 6))))),
		"an id as text":              event(wrap(1, wrap(2, []byte("x")))),
		"text that is no UTF-8":      event(wrap(6, slices.Concat(wrap(1, []byte("a")), wrap(2, []byte{0xff})))),
		"a group":                    event([]byte{0x0b, 0x0c}),
		"field 0":                    event([]byte{0, 1}),
		"a length beyond the end":    {0x0a, 0x7f},
		"an endless number":          event(slices.Repeat([]byte{0xff}, 11)),
		"a tag of two bytes":         {0x8a, 0x00, 0x00},
		"nothing":                    {},
	} {
		t.Run(name, func(t *testing.T) {
			agree(t, b)
			if Decode(b, &api.ReadResp{}) {
				t.Error("decoded by hand")
			}
		})
	}
}

// gRPC uses its buffers again as soon as Unmarshal has returned.
func TestAnAnswerKeepsNothingOfTheWire(t *testing.T) {
	b, err := proto.Marshal(typical())
	if err != nil {
		t.Fatal(err)
	}
	got := &api.ReadResp{}
	if err := fast.Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, got); err != nil {
		t.Fatal(err)
	}
	clear(b)
	runtime.GC()
	if !proto.Equal(got, typical()) {
		t.Errorf("%v", got)
	}
	recorded := got.GetEvent().Event
	_ = append(recorded.CustomMetadata, "overwritten"...)
	if !proto.Equal(got, typical()) {
		t.Error("a slice can grow over its neighbour")
	}
}

func TestOtherMessagesAreNotTouched(t *testing.T) {
	want := &persistent.ReadReq{Content: &persistent.ReadReq_Ack_{Ack: &persistent.ReadReq_Ack{Id: []byte("x")}}}
	b, err := fast.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got := &persistent.ReadReq{}
	if err := fast.Unmarshal(b, got); err != nil || !proto.Equal(got, want) {
		t.Error(got, err)
	}
	if err := fast.Unmarshal(b, "no message"); err == nil {
		t.Error("accepted")
	}
}

func TestKeptTextsAreBounded(t *testing.T) {
	var kept texts
	for i := range 2 * internLimit {
		if text := fmt.Sprint(i); kept.text([]byte(text)) != text {
			t.Fatal(text)
		}
	}
	long := strings.Repeat("x", internLength+1)
	if kept.text([]byte(long)) != long || len(*kept.now.Load()) != internLimit {
		t.Errorf("%d are kept", len(*kept.now.Load()))
	}
}

func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		b, err := proto.Marshal(some(r))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(agree)
}

func BenchmarkDecode(b *testing.B) {
	wire, err := proto.Marshal(typical())
	if err != nil {
		b.Fatal(err)
	}
	for name, c := range map[string]encoding.CodecV2{"standard": fast.CodecV2, "ours": fast} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			data := mem.BufferSlice{mem.SliceBuffer(wire)}
			for b.Loop() {
				if err := c.Unmarshal(data, &api.ReadResp{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
