package eventnode

import (
	"bytes"
	"errors"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/tenure-dev/tenure/adapters/eventnode/rpc"
)

// What is stored is what protobuf would have made of the event, and what is read back is what was stored.
func TestStoredRecordIsTheWireMessage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := record{
			position: uint64(rapid.Int64Range(1, 1<<62).Draw(t, "position")),
			stream:   rapid.StringN(1, 40, -1).Draw(t, "stream"),
			revision: rapid.Int64Min(0).Draw(t, "revision"),
			id:       uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")),
			typ:      rapid.StringN(1, 200, -1).Draw(t, "type"),
			json:     rapid.Bool().Draw(t, "json"),
			created:  rapid.Int64Min(0).Draw(t, "created"),
			data:     rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data"),
			metadata: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "metadata"),
		}
		value := appendRecord([]byte("before"), &r)[len("before"):]
		var m api.ReadResp
		if err := proto.Unmarshal(value[1:], &m); err != nil {
			t.Fatal(err)
		}
		e := m.GetEvent().GetEvent()
		if m.GetEvent().GetCommitPosition() != r.position || e.CommitPosition != r.position || e.PreparePosition != r.position || !proto.Equal(e.Id, wireID(r.id)) ||
			string(e.StreamIdentifier.StreamName) != r.stream || e.StreamRevision != uint64(r.revision) || e.Metadata["type"] != r.typ || len(e.Metadata) != 3 ||
			!bytes.Equal(e.Data, r.data) || !bytes.Equal(e.CustomMetadata, r.metadata) {
			t.Fatalf("wrote %+v, protobuf reads %v", r, &m)
		}
		got, err := open(r.position, value)
		if err != nil || string(got.stream) != r.stream || got.revision != r.revision || got.id != r.id || string(got.typ) != r.typ || got.created != r.created ||
			!bytes.Equal(got.data, r.data) || got.is(flagJSON) != r.json || got.is(flagLink) != (r.typ == linkType) {
			t.Fatalf("wrote %+v, read %+v: %v", r, got, err)
		}
	})
}

// A request is read here without the help of protobuf; it must come out the same, and rubbish must be refused.
func TestRequestsAreReadAsProtobufReadsThem(t *testing.T) {
	collect := func(messages ...[]byte) *appendCall {
		a := &appendCall{node: &Node{}, call: new(rpc.Call)}
		for _, m := range messages {
			a.Message(bytes.Clone(m))
		}
		return a
	}
	rapid.Check(t, func(t *rapid.T) {
		e := &api.AppendReq_ProposedMessage{
			Id:             &shared.UUID{Value: &shared.UUID_String_{String_: eventID(rapid.String().Draw(t, "id")).String()}},
			Metadata:       rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "metadata"),
			CustomMetadata: rapid.SliceOf(rapid.Byte()).Draw(t, "custom"),
			Data:           rapid.SliceOf(rapid.Byte()).Draw(t, "data"),
		}
		e.Metadata["type"], e.Metadata["content-type"] = rapid.StringN(1, 9, -1).Draw(t, "type"), "application/json"
		options, err1 := proto.Marshal(appendOptions(rapid.StringN(1, 9, -1).Draw(t, "stream"), 7))
		message, err2 := proto.Marshal(&api.AppendReq{Content: &api.AppendReq_ProposedMessage_{ProposedMessage: e}})
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		w := collect(options, message)
		if w.wrong != nil {
			t.Fatal(w.wrong)
		}
		got := w.events[0]
		if w.expected != 7 || got.id.String() != e.Id.GetString_() || got.typ != e.Metadata["type"] || !got.json || !bytes.Equal(got.data, e.Data) || !bytes.Equal(got.metadata, e.CustomMetadata) {
			t.Fatalf("sent %v, read %+v", e, got)
		}
		cut := rapid.IntRange(0, len(message)-1).Draw(t, "cut")
		collect(options, message[:cut])                                  // must not panic
		collect(options, rapid.SliceOf(rapid.Byte()).Draw(t, "rubbish")) // nor here
	})
}

// The answer to an append is written without protobuf's help, too.
func TestAppendAnswersAreWhatProtobufReads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		out := outcome{revision: rapid.Int64Min(-1).Draw(t, "revision"), position: rapid.Uint64Max(1<<62).Draw(t, "position")}
		want := &api.AppendResp_Success{CurrentRevisionOption: &api.AppendResp_Success_CurrentRevision{CurrentRevision: uint64(out.revision)},
			PositionOption: &api.AppendResp_Success_Position{Position: &api.AppendResp_Position{CommitPosition: out.position, PreparePosition: out.position}}}
		if out.revision < 0 {
			want.CurrentRevisionOption = &api.AppendResp_Success_NoStream{NoStream: empty}
		}
		if out.position == 0 {
			want.PositionOption = &api.AppendResp_Success_NoPosition{NoPosition: empty}
		}
		var got api.AppendResp
		if err := proto.Unmarshal(appendSuccess(nil, out), &got); err != nil || !proto.Equal(got.GetSuccess(), want) {
			t.Fatalf("%v, %v", &got, err)
		}
	})
}
