package eventstore

import (
	"context"
	"iter"
	"math"
	"strconv"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/tenure-dev/tenure/domain"
)

// Raw is an event as the event store has it, of any stream, for copies and backups.
type Raw struct {
	Position uint64
	Stream   string
	Revision int64 // math.MaxInt64 of a tombstone
	ID       uuid.UUID
	Type     string
	JSON     bool  // its content type is application/json; else application/octet-stream
	Created  int64 // units of 100 ns since the Unix epoch
	Data     []byte
	Metadata []byte
}

// MaxAppend is how large the events of one append may be together, in bytes by AppendSize.
const MaxAppend = 1 << 20

// AppendSize is what an event counts towards MaxAppend, in bytes.
func (r *Raw) AppendSize() int { return len(r.Data) + len(r.Metadata) + 2*len(r.Type) }

// ReadRaw yields all events behind a position that $all shows, in log order, to the log's present end.
func (l *Log) ReadRaw(ctx context.Context, after uint64) iter.Seq2[Raw, error] {
	return func(yield func(Raw, error) bool) {
		for more := true; more; {
			p, err := l.rawPage(ctx, allFrom(after), wholePageSize, after)
			if !give(p.events, err, yield) {
				return
			}
			after, more = p.last, p.more
		}
	}
}

// ReadRawBackwards yields a stream's events from its last one down. A stream that is missing or soft-deleted is empty.
func (l *Log) ReadRawBackwards(ctx context.Context, stream string) iter.Seq2[Raw, error] {
	return func(yield func(Raw, error) bool) {
		o := esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}
		for {
			p, err := streamPage(ctx, l, stream, o, pageSize, func(e *esdb.RecordedEvent) (Raw, bool) { return raw(e), true })
			if !give(p.events, err, yield) || !p.more || p.revision == 0 {
				return
			}
			o.From = esdb.Revision(p.revision - 1)
		}
	}
}

// RawAt reads the event at a position; found is false if there is none, for it is another log's or no longer there.
func (l *Log) RawAt(ctx context.Context, position uint64) (r Raw, found bool, err error) {
	p, err := l.rawPage(ctx, allFrom(position), 1, position-1)
	if domain.CodeOf(err) == domain.CodeInvalid {
		return Raw{}, false, nil
	}
	if err != nil || len(p.events) == 0 || p.last != position {
		return Raw{}, false, err
	}
	return p.events[0], true, nil
}

// rawPage reads at most n events of the whole log and leaves out what is not behind a position.
func (l *Log) rawPage(ctx context.Context, from esdb.AllPosition, n int, after uint64) (pageOf[Raw], error) {
	return allPage(ctx, l, esdb.ReadAllOptions{From: from}, n, after, func(e *esdb.RecordedEvent) (Raw, bool) {
		return raw(e), e.Position.Commit > after
	})
}

func raw(e *esdb.RecordedEvent) Raw {
	created, err := strconv.ParseInt(e.SystemMetadata["created"], 10, 64)
	if err != nil { // the client has parsed it before
		created = e.CreatedDate.UnixNano() / 100
	}
	return Raw{Position: e.Position.Commit, Stream: e.StreamID, Revision: int64(min(e.EventNumber, math.MaxInt64)), ID: e.EventID, Type: e.EventType,
		JSON: e.ContentType == "application/json", Created: created, Data: e.Data, Metadata: e.UserMetadata}
}

// AppendRaw appends events of one stream behind a revision, NoStream or AnyRevision. Their positions, revisions and times are not looked
// at. A repeat is answered as the first time.
func (l *Log) AppendRaw(ctx context.Context, stream string, expected int64, events []Raw) error {
	proposed := make([]esdb.EventData, len(events))
	for i, r := range events {
		if r.ID == uuid.Nil {
			return malformed("revision %d of %s has no id", r.Revision, stream)
		}
		proposed[i] = esdb.EventData{EventID: r.ID, EventType: r.Type, ContentType: contentType(r.JSON), Data: r.Data, Metadata: r.Metadata}
	}
	options := esdb.AppendToStreamOptions{ExpectedRevision: expectation(expected), Deadline: &l.timeout}
	_, err := do(ctx, l.calls, func(ctx context.Context, c *esdb.Client) (*esdb.WriteResult, error) {
		return c.AppendToStream(ctx, stream, options, proposed...)
	})
	if err != nil {
		return l.appendError(ctx, stream, expected, coded(err))
	}
	return nil
}

func contentType(json bool) esdb.ContentType {
	if json {
		return esdb.ContentTypeJson
	}
	return esdb.ContentTypeBinary
}

// Tombstone deletes a stream for ever, whatever is in it.
func (l *Log) Tombstone(ctx context.Context, stream string) error {
	_, err := do(ctx, l.calls, func(ctx context.Context, c *esdb.Client) (*esdb.DeleteResult, error) {
		return c.TombstoneStream(ctx, stream, esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Any{}, Deadline: &l.timeout})
	})
	return coded(err)
}

// LastEpoch is the epoch that the log is in, the zero value for none.
func (l *Log) LastEpoch(ctx context.Context) (domain.Epoch, error) {
	known, _, err := l.lastEpoch(ctx)
	return known, err
}

// RawEvent reads the event of a stream at a revision, or its last one with End; found is false if there is none.
func (l *Log) RawEvent(ctx context.Context, stream string, revision int64) (r Raw, found bool, err error) {
	o := esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}
	if revision >= 0 {
		o.From = esdb.Revision(uint64(revision))
	}
	p, err := streamPage(ctx, l, stream, o, 1, func(e *esdb.RecordedEvent) (Raw, bool) { return raw(e), true })
	if err != nil || len(p.events) == 0 || revision >= 0 && p.events[0].Revision != revision {
		return Raw{}, false, err
	}
	return p.events[0], true, nil
}
