package sinks

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/sink"
)

// keptCursors is how many of a cursor's events the log keeps: an older one serves where the newest names an event that is
// no longer there.
const keptCursors = 10

var cursorEvents = domain.NewRegistry(sink.Cursors)

// cursor keeps in the log how far a sink has come. It names an event, not a position, so that it outlives a copy of the log.
type cursor struct {
	r        *Runner
	stream   string
	revision int64            // of the stream's last event
	pending  *domain.Proposed // an append whose outcome is unknown
}

// load gives where the sink goes on: what its cursor said, and the position of the event there, 0 for the log's start.
func (c *cursor) load(ctx context.Context, fromStart bool) (at sink.CursorMoved, commit uint64, err error) {
	if err := c.keepShort(ctx); err != nil {
		return at, 0, err
	}
	var failing *time.Time
	c.revision = domain.NoStream
	for e, err := range c.r.Log.ReadBackwards(ctx, c.stream, -1, keptCursors) {
		if err != nil {
			return at, 0, err
		}
		c.revision = max(c.revision, e.Revision)
		m, err := cursorEvents.DecodeRecorded(e)
		if err != nil {
			return at, 0, err
		}
		moved := m.(sink.CursorMoved)
		failing = cmp.Or(failing, moved.FailingSince)
		found, ok, err := c.r.find(ctx, moved.Place)
		if moved.FailingSince = failing; err != nil || ok {
			return moved, found.Commit, err
		}
		c.r.Logger.ErrorContext(ctx, "a sink's cursor names an event that is no longer there; an older cursor is taken", "stream", c.stream,
			"event", fmt.Sprint(moved.Place))
	}
	if c.revision >= 0 {
		c.r.Logger.ErrorContext(ctx, "no cursor of a sink names an event that is there: it begins with the log's first event", "stream", c.stream)
		at.FailingSince = failing
		return at, 0, nil
	}
	if fromStart {
		return at, 0, nil
	}
	// What is older than this mark the sink does not want, also when it is started anew before it has come any further.
	at.Place = sink.Place{Stream: c.stream, Revision: 0}
	if err := c.save(ctx, at); err != nil {
		return at, 0, err
	}
	found, ok, err := c.r.find(ctx, at.Place)
	if err == nil && !ok {
		err = domain.Unavailable("the sink's first cursor cannot be read", nil)
	}
	return at, found.Commit, err
}

// keepShort lets the log forget all but the last of the cursor's events.
func (c *cursor) keepShort(ctx context.Context) error {
	err := c.r.Log.Append(ctx, "$$"+c.stream, domain.NoStream, []domain.Proposed{{ID: domain.DeriveUUID("sink cursor's bound", c.stream).String(),
		Type: "$metadata", Data: fmt.Appendf(nil, `{"$maxCount":%d}`, keptCursors), Meta: []byte("{}")}})
	if domain.CodeOf(err) == domain.CodeConflict {
		return nil // it is set
	}
	return err
}

// save appends a cursor. An append of unknown outcome is made again first, as it was. CodeConflict: another process runs
// the sink.
func (c *cursor) save(ctx context.Context, moved sink.CursorMoved) error {
	if c.pending != nil {
		if err := c.append(ctx, *c.pending); err != nil {
			return err
		}
	}
	name, rev, data, err := cursorEvents.Encode(moved)
	if err != nil {
		return err
	}
	id := domain.DeriveUUID("sink cursor", c.stream, fmt.Sprint(c.revision+1), string(data)).String()
	meta := domain.Meta{Rev: rev, Correlation: id, CommandID: id, Actor: actor, RecordedAt: domain.Micro(c.r.Clock.Now()), Epoch: c.r.Epoch}
	return c.append(ctx, domain.Proposed{ID: id, Type: name, Data: data, Meta: meta.Encode()})
}

func (c *cursor) append(ctx context.Context, p domain.Proposed) error {
	c.pending = &p
	err := c.r.Log.Append(ctx, c.stream, c.revision, []domain.Proposed{p})
	if err == nil {
		c.pending = nil
		c.revision++
	}
	return err
}

// find reads one event.
func (r *Runner) find(ctx context.Context, p sink.Place) (domain.Recorded, bool, error) {
	for e, err := range r.Log.Read(ctx, p.Stream, p.Revision) {
		return e, err == nil && e.Revision == p.Revision, err
	}
	return domain.Recorded{}, false, nil
}

// keepCursor writes the cursor at most once a second, or after a thousand events, and at the end.
func (f *flow) keepCursor(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return f.saveCursor(context.WithoutCancel(ctx))
		case <-f.schedule.moved:
		}
		if err := f.saveCursor(ctx); domain.CodeOf(err) == domain.CodeConflict {
			return err
		} else if err != nil && ctx.Err() == nil {
			f.r.Logger.WarnContext(ctx, "a sink's cursor was not written and is written again", "sink", f.Name, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-f.r.Clock.After(time.Second):
		case <-f.schedule.many:
		}
	}
}

func (f *flow) saveCursor(ctx context.Context) error {
	at, held, moved := f.schedule.cursor()
	if !moved || at.Stream == "" {
		return nil
	}
	next := sink.CursorMoved{Place: at, Held: held}
	if since := f.failingSince(); !since.IsZero() {
		since = domain.Micro(since)
		next.FailingSince = &since
	}
	err := f.cursor.save(ctx, next)
	if err != nil {
		f.schedule.unsaved()
	}
	return err
}
