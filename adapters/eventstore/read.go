package eventstore

import (
	"context"
	"errors"
	"io"
	"iter"
	"math"
	"strings"
	"sync"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/tenure-dev/tenure/domain"
)

// End is the revision from which ReadBackwards begins at a stream's last event.
const End int64 = -1

// A page is read whole before any of it is given out, so that no slot and no deadline runs while the caller works. It ends
// early once it holds pageBytes. A reader of the whole log holds two pages: the next one is read while the caller works.
const (
	pageSize      = 512  // events of one stream
	wholePageSize = 4096 // events of the whole log
	pageBytes     = 8 << 20
)

// Read implements commands.Log.
func (l *Log) Read(ctx context.Context, stream string, from int64) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for next := uint64(max(from, 0)); ; {
			p, err := l.streamPage(ctx, stream, esdb.ReadStreamOptions{From: esdb.Revision(next)}, pageSize)
			if !give(p.events, err, yield) || !p.more {
				return
			}
			next = p.revision + 1
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
			p, err := l.streamPage(ctx, stream, options, min(limit, pageSize))
			if !give(p.events, err, yield) || !p.more || p.revision == 0 {
				return
			}
			options.From, limit = esdb.Revision(p.revision-1), limit-len(p.events)
		}
	}
}

// ReadAll yields at most limit events behind a position in log order, 0 for the log's start, to the log's present end.
// Streams of the event store's own, which begin with $, and the message bus's are left out. CodeInvalid is a position that is no event's.
func (l *Log) ReadAll(ctx context.Context, after uint64, limit int) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for p, err := range l.pages(ctx, after, limit) {
			if !give(p.events, err, yield) {
				return
			}
		}
	}
}

// pages yields the log behind a position page by page, at most limit events of ours, and reads one page ahead.
func (l *Log) pages(ctx context.Context, after uint64, limit int) iter.Seq2[page, error] {
	return pages(ctx, after, limit, func(ctx context.Context, after uint64, n int) (page, error) {
		return l.allPage(ctx, esdb.ReadAllOptions{From: allFrom(after)}, n, after)
	})
}

// pages yields what read gives behind a position page by page, at most limit events, and reads one page ahead.
func pages[E any](ctx context.Context, after uint64, limit int, read func(ctx context.Context, after uint64, n int) (pageOf[E], error)) iter.Seq2[pageOf[E], error] {
	return func(yield func(pageOf[E], error) bool) {
		ahead, enough := make(chan answer[pageOf[E]]), make(chan struct{})
		reading, cancel := context.WithCancel(ctx)
		var reader sync.WaitGroup
		reader.Go(func() {
			defer close(ahead)
			for more := limit > 0; more; {
				// Events that are left out may stand before those that are wanted.
				p, err := read(reading, after, min(max(limit, 16), wholePageSize))
				p.events = p.events[:min(limit, len(p.events))]
				limit -= len(p.events)
				after, more = p.last, err == nil && p.more && limit > 0
				select {
				case ahead <- answer[pageOf[E]]{p, err}:
				case <-enough:
					return
				}
			}
		})
		defer reader.Wait()
		defer cancel()
		defer close(enough)
		for a := range ahead {
			if !yield(a.value, a.err) {
				return
			}
		}
	}
}

// Head is the position of the log's last event, of whatever stream; 0 for an empty log.
func (l *Log) Head(ctx context.Context) (commit uint64, err error) {
	p, err := l.allPage(ctx, esdb.ReadAllOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1, 0)
	return p.last, err
}

// give yields events, and tells whether to go on.
func give[E any](events []E, err error, yield func(E, error) bool) bool {
	for _, e := range events {
		if !yield(e, nil) {
			return false
		}
	}
	if err != nil {
		var none E
		yield(none, err)
	}
	return err == nil
}

// page is our events of what one call has read.
type page = pageOf[domain.Recorded]

// pageOf is what one call has read.
type pageOf[E any] struct {
	events   []E
	last     uint64 // position of the last event that was read, of whatever stream
	revision uint64 // and its revision
	more     bool   // it has ended early
}

func (l *Log) streamPage(ctx context.Context, stream string, o esdb.ReadStreamOptions, n int) (page, error) {
	return streamPage(ctx, l, stream, o, n, func(e *esdb.RecordedEvent) (domain.Recorded, bool) { return recorded(e), true })
}

// allPage reads n events and leaves out what is not ours and what is not behind a position.
func (l *Log) allPage(ctx context.Context, o esdb.ReadAllOptions, n int, after uint64) (page, error) {
	return allPage(ctx, l, o, n, after, func(e *esdb.RecordedEvent) (domain.Recorded, bool) {
		if e.Position.Commit <= after || isSystem(e) || domain.OfTheBus(e.StreamID) {
			return domain.Recorded{}, false
		}
		return recorded(e), true
	})
}

// streamPage reads n events of a stream, as take makes them of what the client gives.
func streamPage[E any](ctx context.Context, l *Log, stream string, o esdb.ReadStreamOptions, n int, take func(*esdb.RecordedEvent) (E, bool)) (pageOf[E], error) {
	o.Deadline = &l.timeout
	p, err := do(ctx, l.calls, func(ctx context.Context, c *esdb.Client) (pageOf[E], error) {
		s, err := c.ReadStream(ctx, stream, o, uint64(n))
		return drain(s, err, n, 0, take)
	})
	if isNotFound(err) {
		return pageOf[E]{}, nil
	}
	return p, coded(err)
}

// allPage reads n events of the whole log, as take makes them of what the client gives, if it wants them.
func allPage[E any](ctx context.Context, l *Log, o esdb.ReadAllOptions, n int, after uint64, take func(*esdb.RecordedEvent) (E, bool)) (pageOf[E], error) {
	o.Deadline = &l.timeout
	p, err := do(ctx, l.feeds, func(ctx context.Context, c *esdb.Client) (pageOf[E], error) {
		s, err := c.ReadAll(ctx, o, uint64(n))
		return drain(s, err, n, after, take)
	})
	return p, coded(err)
}

// drain reads a read stream to its end, or to the page's, and closes it. An error drops what was read: the page is read again
// as a whole. Of a page without events the position behind which it began is the last.
func drain[E any](s *esdb.ReadStream, err error, n int, after uint64, take func(*esdb.RecordedEvent) (E, bool)) (pageOf[E], error) {
	if err != nil {
		return pageOf[E]{}, err
	}
	defer s.Close()
	p := pageOf[E]{last: after}
	for read, size := 0, 0; ; {
		resolved, err := s.Recv()
		if errors.Is(err, io.EOF) {
			p.more = read == n
			return p, nil
		}
		if err != nil {
			return pageOf[E]{}, err
		}
		e := resolved.OriginalEvent()
		p.last, p.revision = max(p.last, e.Position.Commit), e.EventNumber
		if event, wanted := take(e); wanted {
			p.events = append(p.events, event)
		}
		read++
		if size += len(e.Data) + len(e.UserMetadata); size >= pageBytes {
			p.more = true
			return p, nil
		}
	}
}

func allFrom(after uint64) esdb.AllPosition {
	if after == 0 {
		return esdb.Start{}
	}
	return esdb.Position{Commit: after, Prepare: after}
}

// isSystem tells events that are nobody's to see: the event store's own streams, and its own marks in other streams.
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
