package eventnode

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// batchAnswer is what a batch is answered with: a refusal, or what the committer has found.
type batchAnswer struct {
	correlation *shared.UUID
	stream      []byte
	expected    int64
	out         outcome
	refusal     *status.Status
	cost        int
}

// answer is what has to be known to answer a batch, which may be forgotten then.
func (b *batch) answer(refusal *status.Status) batchAnswer {
	a := batchAnswer{correlation: b.correlation, stream: b.echo, expected: b.expected, out: b.out, refusal: refusal, cost: b.cost}
	if b.stream != "" {
		a.stream = []byte(b.stream)
	}
	return a
}

func (a *batchAnswer) message() *api.BatchAppendResp {
	resp := &api.BatchAppendResp{CorrelationId: a.correlation}
	if a.stream != nil {
		resp.StreamIdentifier = &shared.StreamIdentifier{StreamName: a.stream}
	}
	switch {
	case a.refusal != nil:
		resp.Result = &api.BatchAppendResp_Error{Error: a.refusal}
	case a.out.decision == refuseDeleted:
		resp.Result = &api.BatchAppendResp_Error{Error: batchError(codes.NotFound, "StreamDeleted", &shared.StreamDeleted{StreamIdentifier: resp.StreamIdentifier})}
	case a.out.decision == wrongVersion:
		resp.Result = &api.BatchAppendResp_Error{Error: batchError(codes.AlreadyExists, "WrongExpectedVersion", a.wrong())}
	default:
		resp.Result = &api.BatchAppendResp_Success_{Success: a.success()}
	}
	return resp
}

func (a *batchAnswer) success() *api.BatchAppendResp_Success {
	s := &api.BatchAppendResp_Success{
		CurrentRevisionOption: &api.BatchAppendResp_Success_CurrentRevision{CurrentRevision: uint64(a.out.revision)},
		PositionOption: &api.BatchAppendResp_Success_Position{Position: &shared.AllStreamPosition{
			CommitPosition: a.out.position, PreparePosition: a.out.position}},
	}
	if a.out.revision < 0 {
		s.CurrentRevisionOption = &api.BatchAppendResp_Success_NoStream{NoStream: &emptypb.Empty{}}
	}
	if a.out.position == 0 {
		s.PositionOption = &api.BatchAppendResp_Success_NoPosition{NoPosition: &emptypb.Empty{}}
	}
	return s
}

// wrong says what was expected and what is there. Unlike in Append, the largest revision reads as no stream.
func (a *batchAnswer) wrong() *shared.WrongExpectedVersion {
	w := &shared.WrongExpectedVersion{
		CurrentStreamRevisionOption: &shared.WrongExpectedVersion_CurrentStreamRevision{CurrentStreamRevision: uint64(a.out.current)}}
	if a.out.current < 0 {
		w.CurrentStreamRevisionOption = &shared.WrongExpectedVersion_CurrentNoStream{CurrentNoStream: &emptypb.Empty{}}
	}
	switch a.expected {
	case expectAny:
		w.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedAny{ExpectedAny: &emptypb.Empty{}}
	case expectStreamExists:
		w.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: &emptypb.Empty{}}
	case expectNoStream:
		w.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: &emptypb.Empty{}}
	default:
		w.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedStreamPosition{ExpectedStreamPosition: uint64(a.expected)}
	}
	return w
}

// batchRefusal is a refusal as it stands in an answer, nil for what ends the whole call.
func batchRefusal(err error) *status.Status {
	f, ok := errors.AsType[*failure](err)
	switch {
	case !ok || f.code == codes.Unavailable:
		return nil
	case f.code == codes.PermissionDenied:
		return batchError(codes.PermissionDenied, "AccessDenied", &shared.AccessDenied{})
	case f.code == codes.DeadlineExceeded:
		return batchError(codes.DeadlineExceeded, "Timeout", &shared.Timeout{})
	case f.code == codes.ResourceExhausted:
		return batchError(codes.ResourceExhausted, f.text, &shared.Unknown{})
	case slices.Contains(f.trailer.Get("exception"), "maximum-append-size-exceeded"):
		return batchError(codes.InvalidArgument, "MaximumAppendSizeExceeded", &shared.MaximumAppendSizeExceeded{MaxAppendSize: maxAppendSize})
	}
	return batchError(codes.InvalidArgument, "BadRequest", &shared.BadRequest{Message: f.text})
}

// batchError is an error of a batch: its name is that of the details' type.
func batchError(code codes.Code, name string, details proto.Message) *status.Status {
	packed, _ := anypb.New(details) // a message of the protocol always marshals
	return &status.Status{Code: int32(code), Message: name, Details: []*anypb.Any{packed}}
}

// readUUID reads a UUID in either of its forms; zero for none or a bad one.
func readUUID(u *shared.UUID) (id uuid.UUID) {
	if text, ok := u.GetValue().(*shared.UUID_String_); ok {
		id, _ = uuid.Parse(text.String_)
		return id
	}
	binary.BigEndian.PutUint64(id[:8], uint64(u.GetStructured().GetMostSignificantBits()))
	binary.BigEndian.PutUint64(id[8:], uint64(u.GetStructured().GetLeastSignificantBits()))
	return id
}
