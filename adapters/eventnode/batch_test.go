package eventnode

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func TestBatchesAreAnsweredByTheirCorrelationIDs(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		send []*api.BatchAppendReq
		want string
		read string
	}{
		"a batch in one part": {[]*api.BatchAppendReq{whole("a", "s", expectNoStream, "1", "2")}, "a: at 1", "1 2"},
		"a batch in parts": {[]*api.BatchAppendReq{beginning("a", "s", expectAny, "1"), more("a", "2", "3"), final(more("a", "4"))},
			"a: at 3", "1 2 3 4"},
		"a last part without events": {[]*api.BatchAppendReq{beginning("a", "s", expectAny, "1"), final(more("a"))}, "a: at 0", "1"},
		"nothing of a batch shows before its last part": {[]*api.BatchAppendReq{beginning("a", "s", expectAny, "1"), whole("b", "s", expectNoStream, "2"),
			final(more("a", "3"))}, "b: at 0; a: at 2", "2 1 3"},
		"batches in flight see those before them": {[]*api.BatchAppendReq{whole("a", "s", expectNoStream, "1"), whole("b", "s", 0, "2"), whole("c", "s", 1, "3"),
			whole("d", "s", 1, "4")}, "a: at 0; b: at 1; c: at 2; d: wrong, at 2", "1 2 3"},
		"options in a further part change nothing": {[]*api.BatchAppendReq{beginning("a", "s", expectNoStream, "1"), whole("a", "other", 7, "2")}, "a: at 1", "1 2"},
		"a further part of no batch is ignored":    {[]*api.BatchAppendReq{final(more("a", "1")), whole("b", "s", expectAny, "2")}, "b: at 0", "2"},
		"a part after the last one is ignored": {[]*api.BatchAppendReq{whole("a", "s", expectAny, "1"), final(more("a", "2")), whole("b", "s", expectAny, "3")},
			"a: at 0; b: at 1", "1 3"},
		"a correlation id may be used again": {[]*api.BatchAppendReq{whole("a", "s", expectAny, "1"), whole("a", "s", expectAny, "2")}, "a: at 0; a: at 1", "1 2"},
		"the same batch again is answered as before": {[]*api.BatchAppendReq{whole("a", "s", expectNoStream, "1"), whole("b", "s", expectNoStream, "1")},
			"a: at 0; b: at 0", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			b := r.batches()
			b.send(row.send...)
			if got := b.hear(strings.Count(row.want, ";") + 1); got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
			if got := reading(ofStream("s"))(r); got != row.read {
				t.Errorf("read %s, want %s", got, row.read)
			}
		})
	}
}

// What is wrong with a batch is its answer, and nothing else of the call.
func TestBadBatchLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	changed := func(how func(*api.BatchAppendReq)) []*api.BatchAppendReq {
		req := whole("bad", "s", expectAny, "x")
		how(req)
		return []*api.BatchAppendReq{req}
	}
	event := func(how func(*api.BatchAppendReq_ProposedMessage)) []*api.BatchAppendReq {
		return changed(func(req *api.BatchAppendReq) { how(req.ProposedMessages[0]) })
	}
	sized := func(n int) *api.BatchAppendReq {
		req := more("bad", "x")
		req.ProposedMessages[0].Data = bytes.Repeat([]byte("x"), n)
		return req
	}
	const bad, large, late, denied = "bad: InvalidArgument BadRequest", "bad: InvalidArgument MaximumAppendSizeExceeded", "bad: DeadlineExceeded Timeout", "bad: PermissionDenied AccessDenied"
	for name, row := range map[string]struct {
		send []*api.BatchAppendReq
		want string
	}{
		"no expectation":      {[]*api.BatchAppendReq{whole("bad", "s", unset, "x")}, bad},
		"a revision too high": {[]*api.BatchAppendReq{whole("bad", "s", -3, "x")}, bad},
		"no stream":           {changed(func(req *api.BatchAppendReq) { req.Options.StreamIdentifier = nil }), bad},
		"an empty stream":     {[]*api.BatchAppendReq{whole("bad", "", expectAny, "x")}, bad},
		"$all":                {[]*api.BatchAppendReq{whole("bad", "$all", expectAny, "x")}, denied},
		"no type":             {event(func(e *api.BatchAppendReq_ProposedMessage) { delete(e.Metadata, "type") }), bad},
		"no content type":     {event(func(e *api.BatchAppendReq_ProposedMessage) { delete(e.Metadata, "content-type") }), bad},
		"an empty type":       {event(func(e *api.BatchAppendReq_ProposedMessage) { e.Metadata["type"] = "" }), bad},
		"no event id":         {event(func(e *api.BatchAppendReq_ProposedMessage) { e.Id = nil }), bad},
		"too large":           {[]*api.BatchAppendReq{beginning("bad", "s", expectAny), final(sized(maxAppendSize - 1))}, large},
		"too large in sum":    {[]*api.BatchAppendReq{beginning("bad", "s", expectAny, "y"), sized(600_000), sized(600_000), final(more("bad"))}, large},
		"too large before its version is looked at": {[]*api.BatchAppendReq{beginning("bad", "s", 99), final(sized(maxAppendSize))}, large},
		"a bad event in a further part":             {[]*api.BatchAppendReq{beginning("bad", "s", expectAny, "x"), event(func(e *api.BatchAppendReq_ProposedMessage) { e.Id = nil })[0], final(more("bad"))}, bad},
		"a wrong version":                           {[]*api.BatchAppendReq{whole("bad", "s", 7, "x")}, "bad: wrong, at none"},
		"a deadline of nothing": {changed(func(req *api.BatchAppendReq) {
			req.Options.DeadlineOption = &api.BatchAppendReq_Options_Deadline{Deadline: &durationpb.Duration{}}
		}), late},
		"a deadline before now": {changed(func(req *api.BatchAppendReq) {
			req.Options.DeadlineOption = &api.BatchAppendReq_Options_Deadline_21_10_0{Deadline_21_10_0: timestamppb.New(newClock().now().Add(-1))}
		}), late},
		"a deadline that is no duration": {changed(func(req *api.BatchAppendReq) {
			req.Options.DeadlineOption = &api.BatchAppendReq_Options_Deadline{Deadline: &durationpb.Duration{Seconds: 1, Nanos: -1}}
		}), bad},
		"a deadline that is no time": {changed(func(req *api.BatchAppendReq) {
			req.Options.DeadlineOption = &api.BatchAppendReq_Options_Deadline_21_10_0{Deadline_21_10_0: &timestamppb.Timestamp{Nanos: -1}}
		}), bad},
		"no correlation id": {changed(func(req *api.BatchAppendReq) { req.CorrelationId = nil }), strings.Replace(bad, "bad", uuid.Nil.String(), 1)},
		"a correlation id that is none": {changed(func(req *api.BatchAppendReq) {
			req.CorrelationId = &shared.UUID{Value: &shared.UUID_String_{String_: "no id"}}
		}), strings.Replace(bad, "bad", uuid.Nil.String(), 1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			b := r.batches()
			b.send(beginning("a", "a", expectAny, "1"))
			b.send(row.send...)
			if got := b.hear(1); got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
			b.send(final(more("a", "2")), whole("b", "b", expectAny, "3"))
			if got := b.hear(2); got != "a: at 1; b: at 0" {
				t.Errorf("the others: %s", got)
			}
			if got := reading(ofStream("s"))(r); got != "not-found" {
				t.Errorf("the bad one has written %s", got)
			}
		})
	}
}

// The answers as they are on the wire.
func TestBatchAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	given(appending("s", expectAny, "1")).do(r)
	given(tombstoning("gone", expectAny)).do(r)
	b := r.batches()
	failed := func(code codes.Code, message string, details proto.Message) *api.BatchAppendResp_Error {
		packed, err := anypb.New(details)
		if err != nil {
			t.Fatal(err)
		}
		return &api.BatchAppendResp_Error{Error: &status.Status{Code: int32(code), Message: message, Details: []*anypb.Any{packed}}}
	}
	wrong := func(expected *shared.WrongExpectedVersion) *api.BatchAppendResp_Error {
		if expected.CurrentStreamRevisionOption == nil {
			expected.CurrentStreamRevisionOption = &shared.WrongExpectedVersion_CurrentStreamRevision{CurrentStreamRevision: 0}
		}
		return failed(codes.AlreadyExists, "WrongExpectedVersion", expected)
	}
	beyond := whole("a", "s", 0, "x")
	beyond.Options.ExpectedStreamPosition = &api.BatchAppendReq_Options_StreamPosition{StreamPosition: math.MaxUint64}
	text := whole("a", "gone", expectAny, "x")
	text.CorrelationId = &shared.UUID{Value: &shared.UUID_String_{String_: eventID("batch a").String()}}
	for name, row := range map[string]struct {
		request *api.BatchAppendReq
		want    *api.BatchAppendResp
	}{
		"a revision": {whole("a", "s", 5, "x"), &api.BatchAppendResp{Result: wrong(&shared.WrongExpectedVersion{
			ExpectedStreamPositionOption: &shared.WrongExpectedVersion_ExpectedStreamPosition{ExpectedStreamPosition: 5}})}},
		"no stream": {whole("a", "s", expectNoStream, "x"), &api.BatchAppendResp{Result: wrong(&shared.WrongExpectedVersion{
			ExpectedStreamPositionOption: &shared.WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: &emptypb.Empty{}}})}},
		"the largest revision is no stream": {beyond, &api.BatchAppendResp{Result: wrong(&shared.WrongExpectedVersion{
			ExpectedStreamPositionOption: &shared.WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: &emptypb.Empty{}}})}},
		"any": {whole("a", "s", expectAny, "1", "x"), &api.BatchAppendResp{Result: wrong(&shared.WrongExpectedVersion{
			ExpectedStreamPositionOption: &shared.WrongExpectedVersion_ExpectedAny{ExpectedAny: &emptypb.Empty{}}})}},
		"stream exists": {whole("a", "none", expectStreamExists, "x"), &api.BatchAppendResp{Result: wrong(&shared.WrongExpectedVersion{
			CurrentStreamRevisionOption:  &shared.WrongExpectedVersion_CurrentNoStream{CurrentNoStream: &emptypb.Empty{}},
			ExpectedStreamPositionOption: &shared.WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: &emptypb.Empty{}}})}},
		"an id as text comes back as text": {text, &api.BatchAppendResp{CorrelationId: text.CorrelationId,
			Result: failed(codes.NotFound, "StreamDeleted", &shared.StreamDeleted{StreamIdentifier: identifier("gone")})}},
		"too large": {func() *api.BatchAppendReq {
			req := whole("a", "s", expectAny, "x")
			req.ProposedMessages[0].Data = make([]byte, maxAppendSize)
			return req
		}(), &api.BatchAppendResp{Result: failed(codes.InvalidArgument, "MaximumAppendSizeExceeded", &shared.MaximumAppendSizeExceeded{MaxAppendSize: 1 << 20})}},
	} {
		b.send(row.request)
		got, err := b.stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		row.want.StreamIdentifier = row.request.Options.StreamIdentifier
		if row.want.CorrelationId == nil {
			row.want.CorrelationId = wireID(eventID("batch a"))
		}
		if diff := cmp.Diff(row.want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// A batch that is not complete in time is answered so, and what still comes of it is ignored.
func TestBatchThatIsLate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.batches()
	soon := beginning("a", "s", expectAny, "1")
	soon.Options.DeadlineOption = deadlineIn(time.Millisecond)
	thenAlso := beginning("c", "s", expectAny, "1")
	thenAlso.Options.DeadlineOption = &api.BatchAppendReq_Options_Deadline_21_10_0{Deadline_21_10_0: timestamppb.New(r.clock.now().Add(time.Millisecond))}
	b.send(soon)
	if got := b.hear(1); got != "a: DeadlineExceeded Timeout" {
		t.Error(got)
	}
	b.send(thenAlso)
	if got := b.hear(1); got != "c: DeadlineExceeded Timeout" {
		t.Error(got)
	}
	b.send(final(more("a", "2")), final(more("c", "2")), whole("b", "b", expectAny, "3"))
	if got := b.hear(1); got != "b: at 0" {
		t.Error(got)
	}
	if got := reading(ofStream("s"))(r); got != "not-found" {
		t.Errorf("the late one has written %s", got)
	}
}

// No deadline lets a batch lie about for ever.
func TestBatchesHaveALongestTime(t *testing.T) {
	t.Parallel()
	clock := newClock()
	node := &Node{options: Options{Now: clock.now, batchTimeout: batchTimeout}}
	limit := func(o *api.BatchAppendReq_Options) time.Duration {
		d, err := node.batchLimit(o)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for want, o := range map[time.Duration]*api.BatchAppendReq_Options{
		2 * time.Second:         {},
		2*time.Second - 1:       {DeadlineOption: &api.BatchAppendReq_Options_Deadline{Deadline: durationpb.New(2*time.Second - 1)}},
		1500 * time.Millisecond: {DeadlineOption: &api.BatchAppendReq_Options_Deadline_21_10_0{Deadline_21_10_0: timestamppb.New(clock.now().Add(1500 * time.Millisecond))}},
	} {
		if got := limit(o); got != want {
			t.Errorf("%v: %s, want %s", o, got, want)
		}
	}
	for _, o := range []*api.BatchAppendReq_Options{
		{DeadlineOption: &api.BatchAppendReq_Options_Deadline{Deadline: durationpb.New(time.Hour)}},
		{DeadlineOption: &api.BatchAppendReq_Options_Deadline_21_10_0{Deadline_21_10_0: timestamppb.New(clock.now().Add(time.Hour))}},
		{DeadlineOption: &api.BatchAppendReq_Options_Deadline_21_10_0{Deadline_21_10_0: timestamppb.New(time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC))}},
	} {
		if got := limit(o); got != 2*time.Second {
			t.Errorf("%v: %s", o, got)
		}
	}
}

func TestBatchCallEnds(t *testing.T) {
	t.Parallel()
	t.Run("when all is answered and the client has said all", func(t *testing.T) {
		t.Parallel()
		b := startRig(t, &rig{fs: vfs.NewMem(), linger: time.Millisecond}).batches()
		late := beginning("b", "s", expectAny)
		late.Options.DeadlineOption = deadlineIn(time.Millisecond)
		b.send(whole("a", "a", expectAny), late)
		_ = b.stream.CloseSend()
		switch got := b.hear(2); got { // whichever is first
		case "a: at none; b: DeadlineExceeded Timeout", "b: DeadlineExceeded Timeout; a: at none":
		default:
			t.Error(got)
		}
		if got := b.hear(1); got != "end" {
			t.Error(got)
		}
	})
	t.Run("after a while when nothing was owed", func(t *testing.T) {
		t.Parallel()
		r := startRig(t, &rig{fs: vfs.NewMem(), linger: time.Millisecond})
		b := r.batches()
		b.send(final(more("a", "1")))
		_ = b.stream.CloseSend()
		if got := b.hear(1); got != "end" {
			t.Error(got)
		}
	})
	t.Run("with a message beyond the request limit, answered to all before it", func(t *testing.T) {
		t.Parallel()
		b := newRig(t).batches()
		huge := whole("b", "s", expectAny, "x")
		huge.ProposedMessages[0].Data = make([]byte, maxRequest)
		b.send(whole("a", "s", expectAny, "1"), huge)
		if got := b.hear(2); got != "a: at 0; ResourceExhausted" {
			t.Error(got)
		}
	})
	t.Run("when the node stops", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		b := r.batches()
		b.send(whole("a", "s", expectAny, "1"), beginning("b", "s", expectAny, "2"))
		if got := b.hear(1); got != "a: at 0" {
			t.Fatal(got)
		}
		if err := r.node.Close(r.ctx); err != nil {
			t.Fatal(err)
		}
		if got := b.hear(1); got != "Unavailable" {
			t.Error(got)
		}
	})
}
