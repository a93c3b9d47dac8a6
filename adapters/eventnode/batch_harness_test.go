package eventnode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// batching is a call of BatchAppend. A batch is called by a name, of which its correlation id follows.
type batching struct {
	t      testing.TB
	stream api.Streams_BatchAppendClient
	cancel context.CancelFunc
}

func (r *rig) batches() *batching {
	r.t.Helper()
	return r.batchesAs("")
}

func (r *rig) batchesAs(credentials string) *batching {
	r.t.Helper()
	ctx, cancel := context.WithCancel(as(r.ctx, credentials))
	r.t.Cleanup(cancel)
	st, err := r.api.BatchAppend(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	return &batching{r.t, st, cancel}
}

func (b *batching) send(messages ...*api.BatchAppendReq) {
	b.t.Helper()
	for _, m := range messages {
		if err := b.stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
			b.t.Fatal(err)
		}
	}
}

// hear waits for n answers, or the end of the call.
func (b *batching) hear(n int) string {
	var words []string
	for range n {
		resp, err := b.stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			words = append(words, "end")
		case err != nil:
			words = append(words, status.Code(err).String())
		default:
			words = append(words, batchName(resp)+": "+batchResult(resp))
			continue
		}
		break
	}
	return strings.Join(words, "; ")
}

func batchName(resp *api.BatchAppendResp) string {
	id := readUUID(resp.GetCorrelationId()).String()
	for _, name := range []string{"a", "b", "c", "d", "bad"} {
		if eventID("batch "+name).String() == id {
			return name
		}
	}
	return id
}

// batchResult says what came of a batch in the words of appended.
func batchResult(resp *api.BatchAppendResp) string {
	failed := resp.GetError()
	if failed == nil {
		s := resp.GetSuccess()
		text := fmt.Sprintf("at %d", s.GetCurrentRevision())
		if s.GetNoStream() != nil {
			text = "at none"
		}
		if s.GetPosition().GetCommitPosition() == 0 {
			text += ", hidden"
		}
		return text
	}
	details, err := failed.Details[0].UnmarshalNew()
	if err != nil {
		return err.Error()
	}
	switch d := details.(type) {
	case *shared.WrongExpectedVersion:
		if d.GetCurrentNoStream() != nil {
			return "wrong, at none"
		}
		return fmt.Sprintf("wrong, at %d", d.GetCurrentStreamRevision())
	case *shared.StreamDeleted:
		return "FailedPrecondition stream-deleted"
	}
	name := string(details.ProtoReflect().Descriptor().Name())
	if failed.Message != name {
		name += " (" + failed.Message + ")"
	}
	return codes.Code(failed.Code).String() + " " + name
}

// beginning is the first part of a batch, more a further one, and whole is a batch in one part.
func beginning(name, stream string, expected int64, events ...string) *api.BatchAppendReq {
	req := more(name, events...)
	o := &api.BatchAppendReq_Options{StreamIdentifier: identifier(stream)}
	switch expected {
	case expectAny:
		o.ExpectedStreamPosition = &api.BatchAppendReq_Options_Any{Any: &emptypb.Empty{}}
	case expectNoStream:
		o.ExpectedStreamPosition = &api.BatchAppendReq_Options_NoStream{NoStream: &emptypb.Empty{}}
	case expectStreamExists:
		o.ExpectedStreamPosition = &api.BatchAppendReq_Options_StreamExists{StreamExists: &emptypb.Empty{}}
	case unset:
	default:
		o.ExpectedStreamPosition = &api.BatchAppendReq_Options_StreamPosition{StreamPosition: uint64(expected)}
	}
	req.Options = o
	return req
}

func more(name string, events ...string) *api.BatchAppendReq {
	req := &api.BatchAppendReq{CorrelationId: wireID(eventID("batch " + name))}
	for _, e := range events {
		req.ProposedMessages = append(req.ProposedMessages, batched(proposed(e)))
	}
	return req
}

func final(req *api.BatchAppendReq) *api.BatchAppendReq {
	req.IsFinal = true
	return req
}

func whole(name, stream string, expected int64, events ...string) *api.BatchAppendReq {
	return final(beginning(name, stream, expected, events...))
}

func batched(e *api.AppendReq_ProposedMessage) *api.BatchAppendReq_ProposedMessage {
	return &api.BatchAppendReq_ProposedMessage{Id: e.Id, Metadata: e.Metadata, CustomMetadata: e.CustomMetadata, Data: e.Data}
}

// appendBatch appends by a call of its own, an event a part.
func (r *rig) appendBatch(stream string, expected int64, events []*api.AppendReq_ProposedMessage) string {
	b := r.batches()
	defer b.cancel()
	b.send(beginning("a", stream, expected))
	for _, e := range events {
		part := more("a")
		part.ProposedMessages = append(part.ProposedMessages, batched(e))
		b.send(part)
	}
	b.send(final(more("a")))
	return strings.TrimPrefix(b.hear(1), "a: ")
}
