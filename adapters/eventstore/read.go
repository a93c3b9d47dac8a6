package eventstore

import (
	"context"
	"errors"
	"io"
	"iter"
	"math"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/tenure-dev/tenure/domain"
)

// End is the revision from which ReadBackwards begins at a stream's last event.
const End int64 = -1

// pageSize is how many events one call reads. A page is read whole before any of it is given out, so that no slot and no
// deadline runs while the caller works.
const pageSize = 512

// Read implements commands.Log.
func (l *Log) Read(ctx context.Context, stream string, from int64) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for next := uint64(max(from, 0)); ; {
			page, err := l.streamPage(ctx, stream, esdb.ReadStreamOptions{From: esdb.Revision(next)}, pageSize)
			if !give(page, err, yield) || len(page) < pageSize {
				return
			}
			next = page[len(page)-1].EventNumber + 1
		}
	}
}

// ReadStream is Read under the name that projections know it by.
func (l *Log) ReadStream(ctx context.Context, stream string, from int64) iter.Seq2[domain.Recorded, error] {
	return l.Read(ctx, stream, from)
}

// ReadBackwards yields at most limit events of a stream from a revision, or from End, down. A missing stream is empty.
func (l *Log) ReadBackwards(ctx context.Context, stream string, from int64, limit int) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		options := esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}
		if from >= 0 {
			options.From = esdb.Revision(uint64(from))
		}
		for limit > 0 {
			want := min(limit, pageSize)
			page, err := l.streamPage(ctx, stream, options, want)
			if !give(page, err, yield) || len(page) < want {
				return
			}
			last := page[len(page)-1].EventNumber
			if last == 0 {
				return
			}
			options.From, limit = esdb.Revision(last-1), limit-want
		}
	}
}

// ReadAll yields at most limit events behind a position in log order, 0 for the log's start, to the log's present end.
// Streams of the event store's own, which begin with $, are left out. CodeInvalid is a position that is no event's.
func (l *Log) ReadAll(ctx context.Context, after uint64, limit int) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for limit > 0 {
			page, err := l.allPage(ctx, esdb.ReadAllOptions{From: allFrom(after)}, pageSize)
			if err != nil {
				yield(domain.Recorded{}, err)
				return
			}
			full := len(page) == pageSize
			for _, e := range page {
				if e.Position.Commit <= after || isSystem(e) {
					after = max(after, e.Position.Commit)
					continue
				}
				after = e.Position.Commit
				if !yield(recorded(e), nil) {
					return
				}
				if limit--; limit == 0 {
					return
				}
			}
			if !full {
				return
			}
		}
	}
}

// Head is the position of the log's last event, of whatever stream; 0 for an empty log.
func (l *Log) Head(ctx context.Context) (commit uint64, err error) {
	page, err := l.allPage(ctx, esdb.ReadAllOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1)
	if err != nil || len(page) == 0 {
		return 0, err
	}
	return page[0].Position.Commit, nil
}

// give yields a page, and tells whether to go on.
func give(page []*esdb.RecordedEvent, err error, yield func(domain.Recorded, error) bool) bool {
	for _, e := range page {
		if !yield(recorded(e), nil) {
			return false
		}
	}
	if err != nil {
		yield(domain.Recorded{}, err)
	}
	return err == nil
}

func (l *Log) streamPage(ctx context.Context, stream string, o esdb.ReadStreamOptions, n int) ([]*esdb.RecordedEvent, error) {
	o.Deadline = &l.timeout
	page, err := do(ctx, l.calls, func(ctx context.Context, c *esdb.Client) ([]*esdb.RecordedEvent, error) {
		return drain(c.ReadStream(ctx, stream, o, uint64(n)))
	})
	if isNotFound(err) {
		return nil, nil
	}
	return page, coded(err)
}

func (l *Log) allPage(ctx context.Context, o esdb.ReadAllOptions, n int) ([]*esdb.RecordedEvent, error) {
	o.Deadline = &l.timeout
	page, err := do(ctx, l.feeds, func(ctx context.Context, c *esdb.Client) ([]*esdb.RecordedEvent, error) {
		return drain(c.ReadAll(ctx, o, uint64(n)))
	})
	return page, coded(err)
}

// drain reads a read stream to its end and closes it. An error drops what was read: the page is read again as a whole.
func drain(s *esdb.ReadStream, err error) ([]*esdb.RecordedEvent, error) {
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var page []*esdb.RecordedEvent
	for {
		e, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return page, nil
		}
		if err != nil {
			return nil, err
		}
		page = append(page, e.OriginalEvent())
	}
}

func allFrom(after uint64) esdb.AllPosition {
	if after == 0 {
		return esdb.Start{}
	}
	return esdb.Position{Commit: after, Prepare: after}
}

// isSystem tells events that are not ours to see: the event store's own streams, and its own marks in other streams.
func isSystem(e *esdb.RecordedEvent) bool {
	return strings.HasPrefix(e.StreamID, "$") || strings.HasPrefix(e.EventType, "$")
}

// recorded gives an event as the kernel knows it. Metadata that is not ours leaves Rev at 0, which no catalog decodes.
func recorded(e *esdb.RecordedEvent) domain.Recorded {
	r := domain.Recorded{Data: e.Data}
	if domain.DecodeMeta(e.UserMetadata, &r.Meta) != nil {
		r.Meta = domain.Meta{}
	}
	r.Stream, r.Revision, r.Commit = e.StreamID, int64(min(e.EventNumber, math.MaxInt64)), e.Position.Commit
	r.EventID, r.Type, r.Created = e.EventID.String(), e.EventType, domain.Micro(e.CreatedDate)
	return r
}
