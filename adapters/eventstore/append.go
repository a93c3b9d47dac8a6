package eventstore

import (
	"context"
	"errors"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain"
)

// Append implements commands.Log. Every event must have an id: the client would draw one, and a repeat would be another event.
func (l *Log) Append(ctx context.Context, stream string, expected int64, events []domain.Proposed) (commands.Appended, error) {
	if len(events) == 0 {
		return commands.Appended{}, malformed("there is none for %s", stream)
	}
	proposed := make([]esdb.EventData, len(events))
	for i, e := range events {
		id, err := uuid.Parse(e.ID)
		if err != nil || id == uuid.Nil {
			return commands.Appended{}, malformed("event %d of %s has the id %q", i, stream, e.ID)
		}
		proposed[i] = esdb.EventData{EventID: id, EventType: e.Type, ContentType: esdb.ContentTypeJson, Data: e.Data, Metadata: e.Meta}
	}
	options := esdb.AppendToStreamOptions{ExpectedRevision: expectation(expected), Deadline: &l.timeout}
	written, err := do(ctx, l.calls, func(ctx context.Context, c *esdb.Client) (*esdb.WriteResult, error) {
		return c.AppendToStream(ctx, stream, options, proposed...)
	})
	if err != nil {
		return commands.Appended{}, l.appendError(ctx, stream, expected, coded(err))
	}
	return commands.Appended{Revision: int64(written.NextExpectedVersion), Commit: written.CommitPosition}, nil
}

// AnyRevision is the expected revision of an append that takes the stream as it is. The event store recognises a repeat of one
// event by its id alone then, as long as it remembers: the embedded node for ever, a server for its last few ten thousand ids.
const AnyRevision int64 = -2

func expectation(revision int64) esdb.ExpectedRevision {
	if revision == AnyRevision {
		return esdb.Any{}
	}
	if revision < 0 {
		return esdb.NoStream{}
	}
	return esdb.Revision(uint64(revision))
}

// appendError completes a conflict: with the expected revision, and with the actual one from the stream if need be.
func (l *Log) appendError(ctx context.Context, stream string, expected int64, err error) error {
	var e *domain.Error
	if !errors.As(err, &e) || e.Code != domain.CodeConflict {
		return err
	}
	actual := e.Actual
	if actual == unknownRevision {
		actual = domain.NoStream
		for last, err := range l.ReadBackwards(ctx, stream, End, 1) {
			if err != nil {
				return err
			}
			actual = last.Revision
		}
	}
	full := domain.Conflict(expected, actual)
	full.Cause = e.Cause
	return full
}
