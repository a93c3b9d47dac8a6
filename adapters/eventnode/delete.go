package eventnode

import (
	"context"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
)

// Delete hides a stream's events and lets it begin anew: its metadata becomes {"$tb":9223372036854775807}.
func (s *streamsService) Delete(ctx context.Context, req *api.DeleteReq) (*api.DeleteResp, error) {
	o := req.GetOptions()
	position, err := s.remove(ctx, writeSoftDelete, "DeleteReq", o.GetStreamIdentifier(), o.GetExpectedStreamRevision())
	if err != nil {
		return nil, answer(ctx, err)
	}
	return &api.DeleteResp{PositionOption: &api.DeleteResp_Position_{Position: &api.DeleteResp_Position{CommitPosition: position, PreparePosition: position}}}, nil
}

// Tombstone ends a stream for ever.
func (s *streamsService) Tombstone(ctx context.Context, req *api.TombstoneReq) (*api.TombstoneResp, error) {
	o := req.GetOptions()
	position, err := s.remove(ctx, writeTombstone, "TombstoneReq", o.GetStreamIdentifier(), o.GetExpectedStreamRevision())
	if err != nil {
		return nil, answer(ctx, err)
	}
	return &api.TombstoneResp{PositionOption: &api.TombstoneResp_Position_{Position: &api.TombstoneResp_Position{CommitPosition: position, PreparePosition: position}}}, nil
}

func (s *streamsService) remove(ctx context.Context, kind writeKind, req string, stream *shared.StreamIdentifier, expected any) (position uint64, err error) {
	w := &write{kind: kind}
	w.ids = []uuid.UUID{uuid.New()} // never seen before, so a delete is never a repetition
	switch e := expected.(type) {
	case *api.DeleteReq_Options_Any, *api.TombstoneReq_Options_Any:
		w.expected = expectAny
	case *api.DeleteReq_Options_NoStream, *api.TombstoneReq_Options_NoStream:
		w.expected = expectNoStream
	case *api.DeleteReq_Options_StreamExists, *api.TombstoneReq_Options_StreamExists:
		w.expected = expectStreamExists
	case *api.DeleteReq_Options_Revision:
		w.expected, err = expectedRevision(e.Revision)
	case *api.TombstoneReq_Options_Revision:
		w.expected, err = expectedRevision(e.Revision)
	default:
		err = unsetExpected(req)
	}
	if err == nil {
		err = w.to(stream.GetStreamName())
	}
	if err == nil {
		err = s.node.allow(ctx, deleteStream, w.stream)
	}
	if err != nil {
		return 0, err
	}
	out, err := s.node.writer.submit(ctx, w)
	if err != nil {
		return 0, err
	}
	switch out.decision {
	case refuseDeleted:
		return 0, streamDeleted(w.stream)
	case wrongVersion:
		return 0, wrongDeleteVersion(w.stream, w.expected, out.current)
	}
	return out.position, nil
}
