package eventnode

import (
	"errors"
	"fmt"
	"sort"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/uuid"
)

// eventLog reads what is stored. Pebble shows a batch before the disk has it, so every reader brings the watermark up to
// which it may look.
type eventLog struct {
	db *pebble.DB
	// removed is the watermark by which the last scavenged events were found to be hidden. A reader with an older one would
	// look for what was valid then.
	removed *atomic.Uint64
}

func newEventLog(db *pebble.DB) eventLog { return eventLog{db, new(atomic.Uint64)} }

// extent is what a stream consists of.
type extent struct {
	current    int64 // last revision, -1 for a stream without events
	position   uint64
	tombstoned bool
}

// index returns an iterator over all records, places and ids, as they are at this moment. The caller closes it.
func (l eventLog) index() (*pebble.Iterator, error) {
	return l.db.NewIter(&pebble.IterOptions{LowerBound: []byte{tableLog}, UpperBound: []byte{tableIDs + 1}})
}

// extent finds a stream's last event at or below the watermark.
func (l eventLog) extent(index *pebble.Iterator, stream string, watermark uint64) (extent, error) {
	x := extent{current: -1}
	prefix := appendIndexPrefix(nil, stream)
	limit := appendIndexKey(nil, stream, -1) // as an unsigned number the largest
	for valid := index.SeekLT(limit); valid; valid = index.Prev() {
		key := index.Key()
		if len(key) != len(prefix)+8 || string(key[:len(prefix)]) != string(prefix) {
			break
		}
		value, err := index.ValueAndErr()
		if err != nil {
			return x, err
		}
		p, ok := indexPlace(key, value)
		if !ok {
			return x, damagedIndex(stream)
		}
		if p.position > watermark {
			continue
		}
		if p.revision != deletedRevision {
			x.current, x.position = p.revision, p.position
			break
		}
		x.tombstoned = true
	}
	return x, index.Error()
}

// gone says whether a stream is tombstoned. A metastream is when its stream is.
func (l eventLog) gone(index *pebble.Iterator, stream string, own extent, watermark uint64) (bool, error) {
	for !own.tombstoned && isMetastream(stream) {
		stream = originalOf(stream)
		var err error
		if own, err = l.extent(index, stream, watermark); err != nil {
			return false, err
		}
	}
	return own.tombstoned, nil
}

// metadataEvent finds the event that holds a stream's metadata; found is false if there is none.
func (l eventLog) metadataEvent(index *pebble.Iterator, stream string, watermark uint64) (e event, found bool, err error) {
	x, err := l.extent(index, metastreamOf(stream), watermark)
	if err != nil || x.tombstoned || x.current < 0 {
		return event{}, false, err
	}
	e, err = eventAt(index, x.position)
	return e, err == nil, err
}

// metadata is what governs a stream's readers.
func (l eventLog) metadata(index *pebble.Iterator, stream string, watermark uint64) (streamMetadata, error) {
	if isMetastream(stream) {
		return metastreamMetadata, nil
	}
	e, found, err := l.metadataEvent(index, stream, watermark)
	if err != nil || !found {
		return streamMetadata{}, err
	}
	return parseMetadata(e.data, e.is(flagJSON)), nil
}

// eventAt reads the record at a position that the index has.
func eventAt(index *pebble.Iterator, position uint64) (event, error) {
	key := logKey(position)
	if !index.SeekGE(key) || string(index.Key()) != string(key) {
		return event{}, errors.Join(index.Error(), missingRecord(position))
	}
	value, err := index.ValueAndErr()
	if err != nil {
		return event{}, err
	}
	return open(position, append([]byte(nil), value...))
}

func missingRecord(position uint64) error {
	return fmt.Errorf("eventnode: the record at position %d is missing", position)
}

// firstRevision is that of the first event that a stream still has, as far as up to current; current+1 if it has none.
// What lies below it has been scavenged.
func (l eventLog) firstRevision(index *pebble.Iterator, stream string, current int64) (int64, error) {
	prefix := appendIndexPrefix(nil, stream)
	key := appendIndexKey(nil, stream, 0)
	if !index.SeekGE(key) || len(index.Key()) != len(key) || string(index.Key()[:len(prefix)]) != string(prefix) {
		return current + 1, index.Error()
	}
	return min(indexKeyRevision(index.Key()), current+1), nil
}

// place looks up where a revision of a stream lies.
func (l eventLog) place(stream string, revision int64) (p place, found bool, err error) {
	key := appendIndexKey(nil, stream, revision)
	value, closer, err := l.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return place{}, false, nil
	} else if err != nil {
		return place{}, false, err
	}
	defer closer.Close()
	p, ok := indexPlace(key, value)
	if !ok {
		return place{}, false, damagedIndex(stream)
	}
	return p, true, nil
}

// firstPlace looks up where an id was used first; used is false if nowhere, found if not in that stream.
func (l eventLog) firstPlace(index *pebble.Iterator, id uuid.UUID, stream string) (p place, found, used bool, err error) {
	var buf [idKeySize]byte
	prefix := appendIDPrefix(buf[:0], id)
	if !index.SeekGE(prefix) || string(index.Key()[:min(len(prefix), len(index.Key()))]) != string(prefix) {
		return place{}, false, false, index.Error()
	}
	value, err := index.ValueAndErr()
	if err != nil {
		return place{}, false, false, err
	}
	p, first, ok := idPlace(index.Key(), value)
	if !ok {
		return place{}, false, false, errors.New("eventnode: the index of event ids is damaged")
	}
	return p, string(first) == stream, true, nil
}

// isRecord says whether a record begins at a position.
func (l eventLog) isRecord(position, watermark uint64) (bool, error) {
	if position > watermark {
		return false, nil
	}
	_, closer, err := l.db.Get(logKey(position))
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return true, closer.Close()
}

// event reads the record at a position.
func (l eventLog) event(position uint64) (event, error) {
	value, closer, err := l.db.Get(logKey(position))
	if err != nil {
		return event{}, err
	}
	defer closer.Close()
	return open(position, append([]byte(nil), value...))
}

// visible is what a reader sees of a stream.
type visible struct {
	missing    bool // no events, or soft-deleted
	tombstoned bool
	current    int64 // last revision, -1 if there is none
	from       int64 // first revision that shows; above current if nothing does
}

// visible applies a stream's metadata.
func (l eventLog) visible(stream string, watermark uint64, now time.Time) (visible, error) {
	index, err := l.index()
	if err != nil {
		return visible{}, err
	}
	defer index.Close()
	watermark = max(watermark, l.removed.Load()) // after the index was taken, which may lack what was removed
	x, err := l.extent(index, stream, watermark)
	if err != nil {
		return visible{}, err
	}
	v := visible{current: x.current}
	if v.tombstoned, err = l.gone(index, stream, x, watermark); err != nil || v.tombstoned {
		return v, err
	}
	meta, err := l.metadata(index, stream, watermark)
	if err != nil {
		return v, err
	}
	v.missing = x.current < 0 || meta.softDeleted()
	if v.missing {
		return v, nil
	}
	v.from, err = l.firstVisible(index, stream, x.current, meta, now)
	return v, err
}

// firstVisible is the first revision that metadata lets through, above current if it lets none.
func (l eventLog) firstVisible(index *pebble.Iterator, stream string, current int64, meta streamMetadata, now time.Time) (int64, error) {
	from, err := l.firstRevision(index, stream, current)
	if err != nil {
		return 0, err
	}
	from = max(from, meta.truncateBefore)
	if meta.maxCount > 0 {
		from = max(from, current-meta.maxCount+1)
	}
	if meta.maxAge == 0 || from > current {
		return from, nil
	}
	// Events lie in the order of their time, as near as the clock was right: as the real server does, look no further
	// than the first one that is too old.
	oldest := ticks(now.Add(-meta.maxAge))
	var failed error
	n := sort.Search(int(current-from+1), func(i int) bool {
		created, err := l.createdAt(index, stream, from+int64(i))
		if err != nil {
			failed = err
			return true
		}
		return created >= oldest
	})
	return from + int64(n), failed
}

// createdAt is when a stream's event of a revision was written, or the next one that is there: an imported stream may have
// gaps.
func (l eventLog) createdAt(index *pebble.Iterator, stream string, revision int64) (int64, error) {
	key := appendIndexKey(nil, stream, revision)
	if !index.SeekGE(key) || len(index.Key()) != len(key) || string(index.Key()[:len(key)-8]) != string(key[:len(key)-8]) {
		return 0, errors.Join(index.Error(), fmt.Errorf("eventnode: revision %d of stream %q is missing", revision, stream))
	}
	value, err := index.ValueAndErr()
	if err != nil {
		return 0, err
	}
	p, ok := indexPlace(index.Key(), value)
	if !ok {
		return 0, damagedIndex(stream)
	}
	e, err := eventAt(index, p.position)
	return e.created, err
}

func damagedIndex(stream string) error {
	return fmt.Errorf("eventnode: the index of stream %q is damaged", stream)
}

// pageBytes bounds what a reader copies at a time; an iterator is open only while a page is copied, so that a slow
// reader holds no files.
const (
	pageBytes  = 256 << 10
	pageEvents = 512
)

// page is a number of records, copied out of the database.
type page struct {
	events []event
	memory []byte
}

// add copies a value into the page's memory. A page starts a new piece of memory when one is full, for what has been
// handed out must stay where it is.
func (p *page) add(position uint64, value []byte, full bool) error {
	if cap(p.memory)-len(p.memory) < len(value) {
		p.memory = make([]byte, 0, max(64<<10, len(value)))
	}
	at := len(p.memory)
	p.memory = append(p.memory, value...)
	value = p.memory[at:len(p.memory):len(p.memory)]
	if !full {
		p.events = append(p.events, sealed(position, value))
		return nil
	}
	e, err := open(position, value)
	p.events = append(p.events, e)
	return err
}

// all reads records of the whole log, from one position to another, both included, at most limit events or one page.
// If full is false, only their flags and frames are set. Records without events are left out; next is where to go on,
// done says that there is no more.
func (l eventLog) all(p *page, from, to uint64, backwards, full bool, limit int) (next uint64, done bool, err error) {
	p.events = p.events[:0]
	if from > to {
		return from, true, nil
	}
	lower, upper := logBounds(from, to)
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return from, false, err
	}
	defer it.Close()
	valid, step := false, it.Next
	if backwards {
		valid, step = it.Last(), it.Prev
	} else {
		valid = it.First()
	}
	size := 0
	for ; valid; valid = step() {
		position := logKeyPosition(it.Key())
		if len(p.events) >= limit || size > pageBytes {
			return position, false, nil
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return position, false, err
		}
		if len(value) == 0 || value[0]&flagEvent == 0 {
			continue
		}
		if err := p.add(position, value, full); err != nil {
			return position, false, err
		}
		size += len(value)
	}
	return 0, true, it.Error()
}

// stream reads a stream's events between two revisions, both included, at most limit events or one page.
func (l eventLog) stream(p *page, stream string, from, to int64, backwards bool, limit int) (next int64, done bool, err error) {
	p.events = p.events[:0]
	if from > to {
		return from, true, nil
	}
	lower := appendIndexKey(nil, stream, from)
	upper := append(appendIndexKey(nil, stream, to), 0)
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return from, false, err
	}
	defer it.Close()
	valid, step := false, it.Next
	if backwards {
		valid, step = it.Last(), it.Prev
	} else {
		valid = it.First()
	}
	size := 0
	var buf [positionKeySize]byte
	for ; valid; valid = step() {
		if len(p.events) >= limit || size > pageBytes {
			return indexKeyRevision(it.Key()), false, nil
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return from, false, err
		}
		place, ok := indexPlace(it.Key(), value)
		if !ok {
			return from, false, damagedIndex(stream)
		}
		record, closer, err := l.db.Get(appendLogKey(buf[:0], place.position))
		if err != nil {
			return from, false, err
		}
		size += len(record)
		if len(record) > 0 && record[0]&flagEvent != 0 { // else it has just been scavenged
			err = p.add(place.position, record, true)
		}
		if err := errors.Join(err, closer.Close()); err != nil {
			return from, false, err
		}
	}
	return 0, true, it.Error()
}
