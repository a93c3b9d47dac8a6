package eventstore

import (
	"context"
	"errors"
	"io"
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
			p, err := l.rawPage(ctx, l.feeds, wholePageSize, after, func(ctx context.Context, c *esdb.Client) (*esdb.ReadStream, error) {
				return c.ReadAll(ctx, esdb.ReadAllOptions{From: allFrom(after), Deadline: &l.timeout}, wholePageSize)
			})
			if !giveRaw(p, coded(err), yield) {
				return
			}
			after, more = p.last, p.more
		}
	}
}

// ReadRawBackwards yields a stream's events from its last one down. A stream that is missing or soft-deleted is empty.
func (l *Log) ReadRawBackwards(ctx context.Context, stream string) iter.Seq2[Raw, error] {
	return func(yield func(Raw, error) bool) {
		from := esdb.StreamPosition(esdb.End{})
		for more := true; more; {
			p, err := l.rawPage(ctx, l.calls, pageSize, 0, func(ctx context.Context, c *esdb.Client) (*esdb.ReadStream, error) {
				return c.ReadStream(ctx, stream, esdb.ReadStreamOptions{Direction: esdb.Backwards, From: from, Deadline: &l.timeout}, pageSize)
			})
			if isNotFound(err) || !giveRaw(p, coded(err), yield) || len(p.events) == 0 {
				return
			}
			lowest := p.events[len(p.events)-1].Revision
			from, more = esdb.Revision(uint64(max(lowest-1, 0))), p.more && lowest > 0
		}
	}
}

// RawAt reads the event at a position; found is false if there is none, for it is another log's or no longer there.
func (l *Log) RawAt(ctx context.Context, position uint64) (r Raw, found bool, err error) {
	p, err := l.rawPage(ctx, l.feeds, 1, position-1, func(ctx context.Context, c *esdb.Client) (*esdb.ReadStream, error) {
		return c.ReadAll(ctx, esdb.ReadAllOptions{From: allFrom(position), Deadline: &l.timeout}, 1)
	})
	if err = coded(err); domain.CodeOf(err) == domain.CodeInvalid {
		return Raw{}, false, nil
	}
	if err != nil || len(p.events) == 0 || p.last != position {
		return Raw{}, false, err
	}
	return p.events[0], true, nil
}

func giveRaw(p rawPage, err error, yield func(Raw, error) bool) bool {
	for _, r := range p.events {
		if !yield(r, nil) {
			return false
		}
	}
	if err != nil {
		yield(Raw{}, err)
	}
	return err == nil
}

// rawPage is what one call has read.
type rawPage struct {
	events []Raw
	last   uint64 // position of the last one, or where the page began
	more   bool   // it has ended early
}

// rawPage reads at most n events and leaves out what is not behind a position.
func (l *Log) rawPage(ctx context.Context, via *link, n int, after uint64, read func(context.Context, *esdb.Client) (*esdb.ReadStream, error)) (rawPage, error) {
	return do(ctx, via, func(ctx context.Context, c *esdb.Client) (rawPage, error) {
		s, err := read(ctx, c)
		if err != nil {
			return rawPage{}, err
		}
		defer s.Close()
		p := rawPage{last: after}
		for read, size := 0, 0; ; {
			e, err := s.Recv()
			if errors.Is(err, io.EOF) {
				p.more = read == n
				return p, nil
			} else if err != nil {
				return rawPage{}, err
			}
			read++
			r := raw(e.OriginalEvent())
			if r.Position <= after {
				continue
			}
			p.events, p.last = append(p.events, r), r.Position
			if size += len(r.Data) + len(r.Metadata); size >= pageBytes {
				p.more = true
				return p, nil
			}
		}
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

// AppendRaw appends events of one stream behind a revision, or NoStream. Their positions, revisions and times are not looked
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
	return coded(err)
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
