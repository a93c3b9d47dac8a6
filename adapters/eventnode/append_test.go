package eventnode

import (
	"bytes"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

const softDeletedJSON = `{"$tb":9223372036854775807}`

func TestAppendIsDecidedByTheStreamsState(t *testing.T) {
	t.Parallel()
	playAll(t, appendTable())
}

func TestBatchIsDecidedByTheStreamsState(t *testing.T) {
	t.Parallel()
	for _, row := range appendTable() {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.batch = true
			playOn(t, r, row.steps)
		})
	}
}

// appendTable is the table by which appends are decided, a row each.
func appendTable() []row {
	abc := given(appending("s", expectNoStream, "a", "b", "c"))
	gone := given(tombstoning("s", expectAny))
	soft := given(deleting("s", expectAny))
	only := given(setting("s", `{"k":1}`))
	const refused = "FailedPrecondition stream-deleted"
	return []row{
		{"any on a new stream appends", []then{{appending("s", expectAny, "a"), "at 0"}}},
		{"any on a stream appends", []then{abc, {appending("s", expectAny, "d", "e"), "at 4"}}},
		{"no stream on a new stream appends", []then{{appending("s", expectNoStream, "a", "b"), "at 1"}}},
		{"the current revision appends", []then{abc, {appending("s", 2, "d"), "at 3"}}},
		{"the current revision appends ids that are there already", []then{abc, {appending("s", 2, "a"), "at 3"}}},
		{"a revision ahead is wrong", []then{abc, {appending("s", 3, "d"), "wrong, at 2"}}},
		{"a revision ahead is wrong for ids that are there, too", []then{abc, {appending("s", 4, "a"), "wrong, at 2"}}},
		{"a revision of a missing stream is wrong", []then{{appending("s", 0, "a"), "wrong, at none"}}},
		{"a revision behind is wrong", []then{abc, {appending("s", 1, "x"), "wrong, at 2"}}},
		{"no stream on a stream is wrong", []then{abc, {appending("s", expectNoStream, "x"), "wrong, at 2"}}},

		{"a tombstone refuses any", []then{abc, gone, {appending("s", expectAny, "d"), refused}}},
		{"a tombstone refuses no stream", []then{abc, gone, {appending("s", expectNoStream, "d"), refused}}},
		{"a tombstone refuses stream exists", []then{abc, gone, {appending("s", expectStreamExists, "d"), refused}}},
		{"a tombstone refuses a revision", []then{abc, gone, {appending("s", 2, "d"), refused}}},
		{"a tombstone refuses a repetition", []then{abc, gone, {appending("s", expectNoStream, "a"), refused}}},
		{"a tombstone refuses an append of nothing", []then{abc, gone, {appending("s", expectAny), refused}}},
		{"a tombstone refuses metadata", []then{abc, gone, {setting("s", `{}`), refused}}},
		{"a tombstone refuses metadata of metadata", []then{abc, gone, {setting("$$s", `{}`), refused}}},
		{"a tombstoned metastream leaves its stream alone", []then{abc, only, given(tombstoning("$$s", expectAny)),
			{appending("s", 2, "d"), "at 3"}, {setting("s", `{}`), refused}}},

		{"stream exists on a stream appends", []then{abc, {appending("s", expectStreamExists, "d"), "at 3"}}},
		{"stream exists on nothing is wrong", []then{{appending("s", expectStreamExists, "a"), "wrong, at none"}}},
		{"a stream with only metadata exists", []then{only, {appending("s", expectStreamExists, "a"), "at 0"}}},
		{"a stream with only metadata has no events", []then{only, {appending("s", expectNoStream, "a"), "at 0"}}},
		{"stream exists on a soft-deleted stream is refused", []then{abc, soft, {appending("s", expectStreamExists, "d"), refused}}},

		{"any: all ids known is a repetition", []then{abc, {appending("s", expectAny, "a", "b", "c"), "at 2"}}},
		{"any: some of the ids are a repetition", []then{abc, {appending("s", expectAny, "a", "b"), "at 1"}}},
		{"any: the last id of the call says where, even backwards", []then{abc, {appending("s", expectAny, "c", "a"), "at 0"}}},
		{"any: first known, later not, is wrong", []then{abc, {appending("s", expectAny, "c", "d"), "wrong, at 2"}}},
		{"any: first not known appends all", []then{abc, {appending("s", expectAny, "d", "a"), "at 4"}}},
		{"any: an id twice in its first call is appended twice", []then{{appending("s", expectAny, "a", "a"), "at 1"},
			{appending("s", expectAny, "a"), "at 0"}}},
		{"any: the first place of an id counts", []then{abc, given(appending("s", 2, "a")), {appending("s", expectAny, "a"), "at 0"}}},
		{"any: an id of another stream is new here, again and again", []then{abc, {appending("t", expectAny, "a"), "at 0"}, {appending("t", expectAny, "a"), "at 1"}}},
		{"stream exists: a repetition", []then{abc, {appending("s", expectStreamExists, "b", "c"), "at 2"}}},

		{"a revision: the same ids there are a repetition", []then{abc, {appending("s", 0, "b", "c"), "at 2"}}},
		{"no stream: the same ids from the start are a repetition", []then{abc, {appending("s", expectNoStream, "a", "b", "c"), "at 2"}}},
		{"no stream: a prefix of what is there is a repetition", []then{abc, {appending("s", expectNoStream, "a"), "at 0"}}},
		{"a repetition is not compared by content", []then{abc, {appendingEvents("s", expectNoStream, other("a")), "at 0"}}},
		{"a revision: the ids at another place are wrong", []then{abc, {appending("s", 1, "b"), "wrong, at 2"}}},
		{"a revision: a later id that differs is wrong", []then{abc, {appending("s", expectNoStream, "a", "x"), "wrong, at 2"}}},
		{"a revision: a repetition past the end is wrong", []then{abc, {appending("s", 0, "b", "c", "d"), "wrong, at 2"}}},

		{"nothing on a missing stream", []then{{appending("s", expectAny), "at none"}, {appending("s", expectNoStream), "at none"},
			{appending("s", expectStreamExists), "wrong, at none"}, {appending("s", 0), "wrong, at none"}, {reading(ofStream("s")), "not-found"}}},
		{"nothing on a stream", []then{abc, {appending("s", expectAny), "at 2"}, {appending("s", 2), "at 2"}, {appending("s", expectStreamExists), "at 2"},
			{appending("s", 1), "wrong, at 2"}, {appending("s", expectNoStream), "wrong, at 2"}, {reading(ofStream("s")), "a b c"}}},

		{"soft-deleted: any appends and brings the stream back", []then{abc, soft, {appending("s", expectAny, "d"), "at 3"}, {reading(ofStream("s")), "d"},
			{reading(ofStream("$$s")), `[$metadata {"$tb":3}]`}}},
		{"soft-deleted: no stream begins anew", []then{abc, soft, {appending("s", expectNoStream, "d"), "at 3"}, {reading(ofStream("s")), "d"}}},
		{"soft-deleted: the revision appends", []then{abc, soft, {appending("s", 2, "d"), "at 3"}, {reading(ofStream("s")), "d"}}},
		{"soft-deleted: a revision behind is wrong", []then{abc, soft, {appending("s", 1, "d"), "wrong, at 2"}}},
		{"soft-deleted: no stream with a later id that differs is wrong", []then{abc, soft, {appending("s", expectNoStream, "a", "x"), "wrong, at 2"}}},
		{"soft-deleted: a repetition is answered, its event hidden", []then{abc, soft, {appending("s", expectNoStream, "a", "b"), "at 1, hidden"},
			{appending("s", expectAny, "c"), "at 2, hidden"}, {reading(ofStream("s")), "not-found"}}},
		{"soft-deleted: nothing brings the stream back", []then{abc, soft, {appending("s", expectAny), "at 2"}, {reading(ofStream("s")), "nothing"}}},
		{"soft-deleted: nothing for no stream is wrong", []then{abc, soft, {appending("s", expectNoStream), "wrong, at 2"}}},
		{"soft-deleted: other metadata is kept when the stream comes back", []then{abc, given(setting("s", `{"$tb":9223372036854775807,"custom":"y"}`)),
			given(appending("s", expectAny, "d")), {reading(ofStream("$$s")), `[$metadata {"$tb":3,"custom":"y"}]`}}},
		{"soft-deleted: other metadata loses space and needless escapes", []then{abc, given(setting("s", `{ "\u007a\u00F3": ["\u017c\u2028\/<\"", 1.50], "$tb": 9223372036854775807 }`)),
			given(appending("s", expectAny, "d")), {reading(ofStream("$$s")), `[$metadata {"zó":["ż\u2028/<\"",1.50],"$tb":3}]`}}},
		{"soft-deleted: new metadata brings the stream back", []then{abc, soft, {setting("s", `{"custom":"y"}`), "at 1"},
			{reading(ofStream("$$s")), `[$metadata {"custom":"y","$tb":3}]`}, {reading(ofStream("s")), "nothing"}}},
		{"soft-deleted before it had events", []then{given(setting("s", softDeletedJSON)), {appending("s", expectNoStream, "a"), "at 0"},
			{reading(ofStream("$$s")), `[$metadata {"$tb":0}]`}, {reading(ofStream("s")), "a"}}},
		{"coming back is in $all after the events", []then{abc, soft, given(appending("s", expectAny, "d")),
			{reading(ofAll, filtered("stream", 32, 1, "s", "$$s")), `a b c [$metadata ` + softDeletedJSON + `] d [$metadata {"$tb":3}]`}}},

		{"a hidden repetition: below $tb", []then{abc, given(setting("s", `{"$tb":2}`)), {appending("s", expectNoStream, "a"), "at 0, hidden"}, {appending("s", 1, "c"), "at 2"}}},
		{"a hidden repetition: beyond $maxCount", []then{abc, given(setting("s", `{"$maxCount":1}`)), {appending("s", expectAny, "b"), "at 1, hidden"}, {appending("s", expectAny, "c"), "at 2"}}},
		{"a hidden repetition: older than $maxAge", []then{abc, given(setting("s", `{"$maxAge":10}`)), given(passing(11e9)), {appending("s", expectAny, "a"), "at 0, hidden"}}},
	}
}

func other(name string) *api.AppendReq_ProposedMessage {
	e := proposed(name)
	e.Metadata["type"], e.Data = "Other", []byte("other")
	return e
}

func TestAppendIsAtomic(t *testing.T) {
	t.Parallel()
	bad := proposed("b")
	delete(bad.Metadata, "type")
	play(t,
		then{appendingEvents("s", expectAny, proposed("a"), bad, proposed("c")), "InvalidArgument missing-required-metadata-property"},
		then{reading(ofStream("s")), "not-found"})
}

func TestAppendChecksItsMessages(t *testing.T) {
	t.Parallel()
	with := func(change func(*api.AppendReq_ProposedMessage)) *api.AppendReq_ProposedMessage {
		e := proposed("a")
		change(e)
		return e
	}
	options := appendOptions("s", expectAny)
	one := &api.AppendReq{Content: &api.AppendReq_ProposedMessage_{ProposedMessage: proposed("a")}}
	sending := func(messages ...*api.AppendReq) step {
		return func(r *rig) string { return appended(r.call(messages...)) }
	}
	const missing, large = "InvalidArgument missing-required-metadata-property", "InvalidArgument maximum-append-size-exceeded"
	sized := func(n int) *api.AppendReq_ProposedMessage {
		return with(func(e *api.AppendReq_ProposedMessage) { e.Data = bytes.Repeat([]byte("x"), n) })
	}
	playAll(t, []row{
		{"type is required", []then{{appendingEvents("s", 7, with(func(e *api.AppendReq_ProposedMessage) { delete(e.Metadata, "type") })), missing}}},
		{"content-type is required", []then{{appendingEvents("s", 7, with(func(e *api.AppendReq_ProposedMessage) { delete(e.Metadata, "content-type") })), missing}}},
		{"an empty type", []then{{appendingEvents("s", expectAny, with(func(e *api.AppendReq_ProposedMessage) { e.Metadata["type"] = "" })), "InvalidArgument"}}},
		{"no id", []then{{appendingEvents("s", expectAny, with(func(e *api.AppendReq_ProposedMessage) { e.Id = nil })), "InvalidArgument"}}},
		{"the zero id", []then{{appendingEvents("s", expectAny, with(func(e *api.AppendReq_ProposedMessage) { e.Id = wireID(uuid.Nil) })), "InvalidArgument"}}},
		{"an id that is none", []then{{appendingEvents("s", expectAny, with(func(e *api.AppendReq_ProposedMessage) {
			e.Id = &shared.UUID{Value: &shared.UUID_String_{String_: "no id"}}
		})), "InvalidArgument"}}},
		{"an id as text", []then{{appendingEvents("s", expectAny, with(func(e *api.AppendReq_ProposedMessage) {
			e.Id = &shared.UUID{Value: &shared.UUID_String_{String_: eventID("a").String()}}
		})), "at 0"}, {appending("s", expectAny, "a"), "at 0"}}},
		{"no expectation", []then{{appending("s", unset, "a"), "InvalidArgument"}}},
		{"a revision beyond the largest", []then{{appending("s", -3, "a"), "InvalidArgument"}}},
		{"no options", []then{{sending(one), "InvalidArgument"}}},
		{"no message at all", []then{{sending(), "InvalidArgument"}}},
		{"options twice", []then{{sending(options, options), "InvalidArgument"}}},
		{"an empty stream name", []then{{appending("", expectAny, "a"), "InvalidArgument"}}},
		{"a stream name that no key holds", []then{{appending(strings.Repeat("n", maxStreamName+1), expectAny, "a"), "InvalidArgument"}}},
		{"$all cannot be written to", []then{{appending("$all", expectAny, "a"), "PermissionDenied access-denied"}}},
		{"the metadata of $all can", []then{{setting("$all", `{}`), "at 0"}}},
		{"a call of 1 MiB: data and twice the type's length", []then{{appendingEvents("s", expectAny, sized(maxAppendSize-2)), "at 0"}}},
		{"one byte more", []then{{appendingEvents("s", expectAny, sized(maxAppendSize-1)), large}}},
		{"the sum counts", []then{{appendingEvents("s", expectAny, sized(600_000), sized(600_000)), large}}},
		{"custom metadata counts", []then{{appendingEvents("s", expectAny, with(func(e *api.AppendReq_ProposedMessage) {
			e.CustomMetadata = bytes.Repeat([]byte("m"), maxAppendSize)
		})), large}}},
		{"the size is looked at before the version", []then{{appendingEvents("s", 99, sized(maxAppendSize)), large}}},
		{"a message beyond the request limit", []then{{appendingEvents("s", expectAny, sized(maxRequest+1)), "ResourceExhausted"}}},
	})
}

// A refused expectation is an answer, not an error, in the fields of today and of version 20.6.0.
func TestWrongExpectedVersionNamesBothSides(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	appending("s", expectAny, "a")(r)
	for name, row := range map[string]struct {
		request *api.AppendReq
		want    *api.AppendResp_WrongExpectedVersion
	}{
		"revision": {appendOptions("s", 5), &api.AppendResp_WrongExpectedVersion{
			CurrentRevisionOption:         &api.AppendResp_WrongExpectedVersion_CurrentRevision{CurrentRevision: 0},
			CurrentRevisionOption_20_6_0:  &api.AppendResp_WrongExpectedVersion_CurrentRevision_20_6_0{CurrentRevision_20_6_0: 0},
			ExpectedRevisionOption:        &api.AppendResp_WrongExpectedVersion_ExpectedRevision{ExpectedRevision: 5},
			ExpectedRevisionOption_20_6_0: &api.AppendResp_WrongExpectedVersion_ExpectedRevision_20_6_0{ExpectedRevision_20_6_0: 5}}},
		"no stream": {appendOptions("s", expectNoStream), &api.AppendResp_WrongExpectedVersion{
			CurrentRevisionOption:         &api.AppendResp_WrongExpectedVersion_CurrentRevision{CurrentRevision: 0},
			CurrentRevisionOption_20_6_0:  &api.AppendResp_WrongExpectedVersion_CurrentRevision_20_6_0{CurrentRevision_20_6_0: 0},
			ExpectedRevisionOption:        &api.AppendResp_WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: empty},
			ExpectedRevisionOption_20_6_0: &api.AppendResp_WrongExpectedVersion_ExpectedRevision_20_6_0{ExpectedRevision_20_6_0: 1<<64 - 1}}},
		"stream exists": {appendOptions("none", expectStreamExists), &api.AppendResp_WrongExpectedVersion{
			CurrentRevisionOption:         &api.AppendResp_WrongExpectedVersion_CurrentNoStream{CurrentNoStream: empty},
			CurrentRevisionOption_20_6_0:  &api.AppendResp_WrongExpectedVersion_NoStream_20_6_0{NoStream_20_6_0: empty},
			ExpectedRevisionOption:        &api.AppendResp_WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: empty},
			ExpectedRevisionOption_20_6_0: &api.AppendResp_WrongExpectedVersion_StreamExists_20_6_0{StreamExists_20_6_0: empty}}},
	} {
		resp, err := r.call(row.request)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(row.want, resp.GetWrongExpectedVersion(), protocmp.Transform()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// What comes back of an event: the metadata map is the server's, and JSON is only what is called so exactly.
func TestRecordedEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	e := proposed("a")
	e.Metadata["created"], e.Metadata["custom"], e.CustomMetadata = "1", "x", []byte("no json")
	octet := proposed("b")
	octet.Metadata["content-type"], octet.Metadata["type"] = "application/json; charset=utf-8", "żółw ☃ 😀"
	appendingEvents("s", expectAny, e, octet)(r)
	messages, err, _ := r.read(ofStream("s"))
	if err != nil || len(messages) != 2 {
		t.Fatal(messages, err)
	}
	position := messages[0].GetEvent().GetCommitPosition()
	want := &api.ReadResp_ReadEvent{
		Event: &api.ReadResp_ReadEvent_RecordedEvent{Id: wireID(eventID("a")), StreamIdentifier: identifier("s"), CommitPosition: position, PreparePosition: position,
			Metadata: map[string]string{"type": "T", "content-type": "application/json", "created": "17723664000000000"}, CustomMetadata: []byte("no json"), Data: []byte("a")},
		Position: &api.ReadResp_ReadEvent_CommitPosition{CommitPosition: position},
	}
	if diff := cmp.Diff(want, messages[0].GetEvent(), protocmp.Transform()); diff != "" || position == 0 {
		t.Error(diff)
	}
	got := messages[1].GetEvent().GetEvent()
	if got.Metadata["content-type"] != "application/octet-stream" || got.Metadata["type"] != "żółw ☃ 😀" || got.StreamRevision != 1 {
		t.Error(got)
	}
	if got.CommitPosition <= position+1 {
		t.Errorf("positions are dense: %d after %d", got.CommitPosition, position)
	}
	texts, err, _ := r.read(ofStream("s"), func(o *api.ReadReq_Options) {
		o.UuidOption.Content = &api.ReadReq_Options_UUIDOption_String_{String_: empty}
	})
	if err != nil || texts[0].GetEvent().Event.Id.GetString_() != eventID("a").String() {
		t.Error(texts, err)
	}
	texts[0].GetEvent().Event.Id = wireID(eventID("a"))
	if !proto.Equal(texts[0], messages[0]) {
		t.Error("ids as text change more than the ids")
	}
}
