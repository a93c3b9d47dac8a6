package eventnode

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// A scavenge removes what no reader can see any more: events that metadata, a soft delete or a tombstone hides, and all of
// a metastream but its last event. A stream's last event always stays, as its revision must live on, and so do tombstones.
// What stays of a removed event is its position, so that readers may begin there as before.
//
// Which events are hidden is found out beside the committer, stream by stream, and then decided anew by the committer, with
// the streams as they are on the disk at that moment. Every batch is complete in itself, so a scavenge may end anywhere.

const (
	removalEvents  = 512 // removed by one sync, at most
	removalStreams = 64  // decided about by one sync, at most
	scavengePage   = 256 // streams listed at a time
	scavengeReport = time.Minute
)

// removal are events of one stream that may be removed, in ascending order.
type removal struct {
	stream string
	places []place
	sizes  []int // of the stored records, in bytes
}

// keepFrom is the first revision of a stream that a scavenge keeps, as seen at a moment.
func (l eventLog) keepFrom(index *pebble.Iterator, stream string, watermark uint64, now time.Time) (int64, error) {
	x, err := l.extent(index, stream, watermark)
	switch {
	case err != nil || x.current < 0:
		return 0, err
	case x.tombstoned:
		return deletedRevision, nil
	}
	meta, err := l.metadata(index, stream, watermark)
	if err != nil || meta.softDeleted() {
		return x.current, err
	}
	from, err := l.firstVisible(index, stream, x.current, meta, now)
	return min(from, x.current), err
}

// streams lists streams in the order of the index, from a key on. Next is where to go on, nil at the end.
func (l eventLog) streams(from []byte) (names []string, next []byte, err error) {
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: []byte{tableIndex}, UpperBound: []byte{tableIndex + 1}})
	if err != nil {
		return nil, nil, err
	}
	defer it.Close()
	for it.SeekGE(from) {
		name, ok := indexKeyStream(it.Key())
		if !ok {
			return nil, nil, damagedIndex("?")
		}
		if names = append(names, name); len(names) > scavengePage {
			return names[:scavengePage], appendIndexPrefix(nil, name), nil
		}
		from = append(appendIndexKey(nil, name, -1), 0) // behind the last revision that there can be
	}
	return names, nil, it.Error()
}

// hidden are events of a stream that may be removed, at most limit, and whether there may be more of them.
func (l eventLog) hidden(stream string, watermark uint64, now time.Time, limit int) (r removal, more bool, err error) {
	r.stream = stream
	index, err := l.index()
	if err != nil {
		return r, false, err
	}
	defer index.Close()
	keep, err := l.keepFrom(index, stream, max(watermark, l.removed.Load()), now)
	if err != nil || keep == 0 {
		return r, false, err
	}
	index.SetBounds(appendIndexKey(nil, stream, 0), appendIndexKey(nil, stream, keep))
	for valid := index.First(); valid; valid = index.Next() {
		if len(r.places) == limit {
			return r, true, nil
		}
		value, err := index.ValueAndErr()
		if err != nil {
			return r, false, err
		}
		p, ok := indexPlace(index.Key(), value)
		if !ok {
			return r, false, damagedIndex(stream)
		}
		record, closer, err := l.db.Get(logKey(p.position))
		if err != nil {
			return r, false, errors.Join(missingRecord(p.position), err)
		}
		r.places, r.sizes = append(r.places, p), append(r.sizes, len(record))
		if err := closer.Close(); err != nil {
			return r, false, err
		}
	}
	return r, false, index.Error()
}

// remove adds the removals of a group to its batch. They come before all else in it, so they are decided on what is on the
// disk and published: whatever the group writes comes after them.
func (w *writer) remove(group []*write) error {
	for _, x := range group {
		if x.kind != writeRemoval {
			continue
		}
		if err := w.openIndex(); err != nil {
			return err
		}
		watermark := w.ring.watermark.Load()
		w.log.removed.Store(watermark)
		for _, r := range x.removals {
			keep, err := w.log.keepFrom(w.index, r.stream, watermark, w.now())
			if err != nil {
				return err
			}
			for i, p := range r.places {
				if p.revision >= keep {
					break
				}
				if err := w.removeEvent(r.stream, p, r.sizes[i]); err != nil {
					return err
				}
				x.out.removed++
			}
		}
	}
	return nil
}

func (w *writer) removeEvent(stream string, p place, size int) error {
	w.key, w.value = appendLogKey(w.key[:0], p.position), appendRemoved(w.value[:0], size)
	err := w.batch.Set(w.key, w.value, nil)
	w.key = appendIndexKey(w.key[:0], stream, p.revision)
	err = errors.Join(err, w.batch.Delete(w.key, nil))
	w.key = appendIDKey(w.key[:0], p)
	return errors.Join(err, w.batch.Delete(w.key, nil))
}

// scavenge is one run.
type scavenge struct {
	node   *Node
	id     string
	cancel context.CancelFunc
	over   chan struct{}

	streams, events, bytes atomic.Int64 // streams looked at, and what was removed; bytes as they were written

	work    write
	pending int // events in work
	said    time.Time
}

func (s *scavenge) run(ctx context.Context) error {
	s.said = s.node.now()
	for from := []byte{tableIndex}; from != nil; {
		names, next, err := s.node.log.streams(from)
		if err != nil {
			return err
		}
		for _, stream := range names {
			if err := s.stream(ctx, stream); err != nil {
				return err
			}
		}
		from = next
	}
	if err := s.submit(ctx); err != nil {
		return err
	}
	// What is removed is still in the files; only rewriting them gives the space back.
	return s.node.database.db.Compact(ctx, []byte{tableLog}, []byte{tableIDs + 1}, false)
}

func (s *scavenge) stream(ctx context.Context, stream string) error {
	for more := true; more; {
		var r removal
		var err error
		r, more, err = s.node.log.hidden(stream, s.node.ring.watermark.Load(), s.node.now(), removalEvents-s.pending)
		if err != nil {
			return err
		}
		if len(r.places) > 0 {
			s.work.removals, s.pending = append(s.work.removals, r), s.pending+len(r.places)
		}
		if more || s.pending == removalEvents || len(s.work.removals) == removalStreams {
			if err := s.submit(ctx); err != nil {
				return err
			}
		}
	}
	s.streams.Add(1)
	s.node.metrics.scavengeStreams.Add(1)
	if now := s.node.now(); now.Sub(s.said) >= scavengeReport {
		s.said = now
		s.node.logger.Info("scavenging", s.progress()...)
	}
	return ctx.Err()
}

// submit has the committer remove what has been gathered.
func (s *scavenge) submit(ctx context.Context) error {
	if s.pending == 0 {
		return ctx.Err()
	}
	x := s.work
	x.kind = writeRemoval
	s.work, s.pending = write{}, 0
	out, err := s.node.writer.submit(ctx, &x)
	if err != nil {
		return err
	}
	s.events.Add(int64(out.removed))
	s.node.metrics.scavengedEvents.Add(uint64(out.removed))
	for _, r := range x.removals {
		for _, size := range r.sizes {
			s.bytes.Add(int64(size))
			s.node.metrics.scavengedBytes.Add(uint64(size))
		}
	}
	return nil
}

func (s *scavenge) progress() []any {
	return []any{slog.String("scavenge", s.id), slog.Int64("streams", s.streams.Load()), slog.Int64("events_removed", s.events.Load())}
}
