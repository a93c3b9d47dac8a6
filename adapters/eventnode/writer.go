package eventnode

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/uuid"
)

type writeKind int

const (
	writeEvents writeKind = iota
	writeSoftDelete
	writeTombstone
	writeRemoval // of hidden events, by a scavenge
)

// write is a request to the committer.
type write struct {
	kind     writeKind
	stream   string
	expected int64
	numbered bool // expected was given as a revision, even if it stands for no stream
	events   []proposedEvent
	ids      []uuid.UUID // the events', in order
	removals []removal
	size     int // bytes
	out      outcome
	replier  replier
}

// replier is told what became of a write, by the committer, which must not be kept waiting.
type replier interface{ reply(outcome) }

type proposedEvent struct {
	id       uuid.UUID
	typ      string
	json     bool
	data     []byte
	metadata []byte
}

// outcome is what became of a write.
type outcome struct {
	decision decision
	current  int64  // the stream's last revision, of a write whose expectation was wrong
	revision int64  // of the last event written, or found; -1 for a stream that has none
	position uint64 // of the same; 0 if that event is hidden
	removed  int    // events, by a removal
	err      error  // the node could not do it and has stopped
}

// waiter is the replier of whoever waits for it in a goroutine.
type waiter chan outcome

func (w waiter) reply(out outcome) { w <- out }

// A group is what one sync to the disk makes durable.
const (
	groupWrites = 512
	groupBytes  = 4 << 20
)

// writer is the committer: the only one that writes to the log. Its fields belong to its goroutine, but for the queue.
type writer struct {
	log   eventLog
	ring  *ring
	now   func() time.Time
	queue *queue
	ended chan struct{} // closed by the owner when run has returned
	fatal func() error  // what Pebble found fatal, if anything

	metrics *metrics

	next    uint64 // position of the next record
	streams streamCache

	// Of the group in hand.
	group   []*write
	batch   *pebble.Batch
	index   *pebble.Iterator // opened when needed
	memory  []byte
	events  []event
	firsts  map[uuid.UUID]first
	touched []*streamState
	created int64
	key     []byte
	value   []byte
}

// first is the first use of an id, in the group in hand.
type first struct {
	stream   string
	revision int64
}

func newWriter(log eventLog, ring *ring, next uint64, now func() time.Time, fatal func() error) *writer {
	return &writer{log: log, ring: ring, now: now, next: next, fatal: fatal, queue: newQueue(), ended: make(chan struct{}), firsts: map[uuid.UUID]first{}}
}

// submit queues a write and waits until the disk has it. A caller that gives up earlier does not know what became of it.
func (w *writer) submit(ctx context.Context, x *write) (outcome, error) {
	done := make(waiter, 1)
	x.replier = done
	if !w.queue.push(x) {
		return outcome{}, notReady()
	}
	w.queue.call()
	select {
	case out := <-done:
		return out, out.err
	case <-ctx.Done():
		return outcome{}, ctx.Err()
	}
}

// run commits group after group until it is told to stop, or until the disk fails. It never tries again: after a failed
// sync nobody can say what is on the disk, so the only honest way on is to open the database anew.
func (w *writer) run() error {
	defer func() {
		for _, x := range w.queue.end() {
			x.replier.reply(outcome{err: notReady()})
		}
	}()
	for w.queue.wait() {
		for w.group = w.queue.take(w.group[:0]); len(w.group) > 0; w.group = w.queue.take(w.group[:0]) {
			if err := w.commit(w.group); err != nil {
				return err
			}
		}
	}
	return w.fatal()
}

// commit decides a group, writes it, waits for the disk, publishes it and answers. Refusals wait as well: what they are
// based on may be in the same group.
func (w *writer) commit(group []*write) (err error) {
	defer clear(group)
	w.batch = w.log.db.NewBatch()
	w.memory, w.events = make([]byte, 0, groupMemory(group)), nil
	w.created = ticks(w.now())
	err = w.remove(group)
	for i := 0; err == nil && i < len(group); i++ {
		err = w.apply(group[i])
	}
	if w.index != nil {
		err = errors.Join(err, w.index.Close())
		w.index = nil
	}
	if err == nil && !w.batch.Empty() {
		begun := w.now()
		err = w.batch.Commit(pebble.Sync)
		w.metrics.synced(group, w.now().Sub(begun))
		if err == nil {
			err = w.fatal()
		}
	}
	if err != nil {
		for _, x := range group {
			x.replier.reply(outcome{err: notReady()})
		}
		return err
	}
	if !w.batch.Empty() {
		w.ring.publish(w.events, w.next-1)
	}
	w.metrics.decided(group)
	for _, x := range group {
		x.replier.reply(x.out)
	}
	w.endGroup()
	return w.batch.Close()
}

func groupMemory(group []*write) int {
	const perEvent = 192
	n := 64
	for _, x := range group {
		n += x.size + len(x.events)*(perEvent+len(x.stream))
	}
	return n
}

func (w *writer) endGroup() {
	clear(w.firsts)
	for _, s := range w.touched {
		s.fresh = s.fresh[:0]
	}
	w.touched = w.touched[:0]
	w.streams.age()
}

// apply decides one write and adds what it writes to the batch.
func (w *writer) apply(x *write) error {
	if x.kind == writeRemoval {
		return nil // remove has done it
	}
	s, err := w.load(x.stream)
	if err != nil {
		return err
	}
	f, err := w.facts(x.stream, s)
	if err != nil {
		return err
	}
	v, err := decide(f, x.expected, x.ids, streamHistory{w, x.stream, s})
	if err != nil {
		return err
	}
	x.out = outcome{decision: v.decision, current: s.current, revision: v.revision}
	switch v.decision {
	case alreadyDone:
		x.out.position, err = w.shownAt(x.stream, s, v.revision)
		return err
	case wrongVersion, refuseDeleted:
		return nil
	}
	switch x.kind {
	case writeSoftDelete:
		return w.softDelete(x, s)
	case writeTombstone:
		x.out.position, err = w.tombstone(x.stream, s)
		return err
	}
	return w.append(x, s, f)
}

func (w *writer) append(x *write, s *streamState, f facts) error {
	begin := s.current + 1
	returning := "" // the soft-deleted stream whose metadata is written to
	if isMetastream(x.stream) {
		original, err := w.load(originalOf(x.stream))
		if err != nil {
			return err
		}
		if original.softDeleted(originalOf(x.stream)) {
			returning = originalOf(x.stream)
		}
	}
	for i := range x.events {
		e := &x.events[i]
		r := record{stream: x.stream, revision: s.current + 1, id: e.id, typ: e.typ, json: e.json, data: e.data, metadata: e.metadata}
		var err error
		if x.out.position, err = w.put(s, &r); err != nil {
			return err
		}
	}
	if len(x.events) == 0 {
		x.out.position = w.putNothing()
	}
	x.out.revision = s.current
	if f.softDeleted {
		if err := w.undelete(x.stream, begin); err != nil {
			return err
		}
	}
	if returning != "" {
		original, err := w.load(returning)
		if err != nil {
			return err
		}
		return w.undelete(returning, original.current+1)
	}
	return nil
}

// undelete lets a soft-deleted stream begin at a revision. Metadata that is no JSON object says nothing, so there is
// nothing to take back.
func (w *writer) undelete(stream string, from int64) error {
	s, err := w.load(stream)
	if err != nil {
		return err
	}
	data, ok := undeleted(s.rawMetadata, from)
	if !ok {
		return nil
	}
	_, err = w.putMetadata(stream, data)
	return err
}

func (w *writer) softDelete(x *write, s *streamState) error {
	m, err := w.load(metastreamOf(x.stream))
	if err != nil {
		return err
	}
	if m.tombstoned {
		x.out.decision = refuseDeleted
		return nil
	}
	if s.current < 0 && m.current < 0 {
		x.out.decision = wrongVersion // there is nothing to delete
		return nil
	}
	x.out.position, err = w.putMetadata(x.stream, []byte(`{"$tb":9223372036854775807}`))
	return err
}

func (w *writer) tombstone(stream string, s *streamState) (uint64, error) {
	return w.put(s, &record{stream: stream, revision: deletedRevision, id: uuid.New(), typ: deletedType})
}

// putMetadata writes an event of the server's own to a stream's metastream.
func (w *writer) putMetadata(stream string, data []byte) (uint64, error) {
	metastream := metastreamOf(stream)
	m, err := w.load(metastream)
	if err != nil {
		return 0, err
	}
	return w.put(m, &record{stream: metastream, revision: m.current + 1, id: uuid.New(), typ: metadataType, json: true, data: data})
}

// put adds a record to the group, and brings the state of its stream up to date.
func (w *writer) put(s *streamState, r *record) (position uint64, err error) {
	r.position, r.created = w.next, w.created
	at := len(w.memory)
	w.memory = appendRecord(w.memory, r)
	value := w.memory[at:len(w.memory):len(w.memory)]
	w.next += span(len(value))

	p := place{r.position, r.revision, r.id}
	w.key, w.value = appendLogKey(w.key[:0], r.position), appendIndexValue(w.value[:0], p)
	if err := w.batch.Set(w.key, value, nil); err != nil {
		return 0, err
	}
	w.key = appendIndexKey(w.key[:0], r.stream, r.revision)
	if err := w.batch.Set(w.key, w.value, nil); err != nil {
		return 0, err
	}
	if err := w.putID(p, r.stream); err != nil {
		return 0, err
	}
	e, err := open(r.position, value)
	if err != nil {
		return 0, err
	}
	w.events = append(w.events, e)
	if r.revision == deletedRevision {
		s.tombstoned = true
	} else {
		if len(s.fresh) == 0 {
			w.touched = append(w.touched, s)
		}
		s.current, s.fresh = r.revision, append(s.fresh, p)
	}
	return r.position, w.followMetadata(r)
}

// putID remembers where an id was used.
func (w *writer) putID(p place, stream string) error {
	if _, used := w.firsts[p.id]; !used {
		w.firsts[p.id] = first{stream, p.revision}
	}
	w.key, w.value = appendIDKey(w.key[:0], p), appendIDValue(w.value[:0], p.revision, stream)
	return w.batch.Set(w.key, w.value, nil)
}

// putNothing adds the invisible record of an append without events, for the sake of its position.
func (w *writer) putNothing() uint64 {
	position := w.next
	w.next += span(1)
	w.key = appendLogKey(w.key[:0], position)
	_ = w.batch.Set(w.key, []byte{0}, nil) // fails only for a batch that is closed
	return position
}

// followMetadata keeps the state of a stream up to date with what is written to its metastream.
func (w *writer) followMetadata(r *record) error {
	if !isMetastream(r.stream) {
		return nil
	}
	s, err := w.load(originalOf(r.stream))
	if err != nil {
		return err
	}
	if r.revision == deletedRevision {
		s.metadata, s.rawMetadata = streamMetadata{}, nil
	} else {
		s.metadata, s.rawMetadata = parseMetadata(r.data, r.json), bytes.Clone(r.data)
	}
	return nil
}

// shownAt is the position of an event that was appended before, 0 if readers do not see it any more.
func (w *writer) shownAt(stream string, s *streamState, revision int64) (uint64, error) {
	meta := s.metadata
	if isMetastream(stream) {
		meta = metastreamMetadata
	}
	p, found := s.freshPlace(revision)
	created := w.created
	if !found {
		var err error
		if p, found, err = w.log.place(stream, revision); err != nil || !found {
			return 0, err
		}
		if meta.maxAge > 0 {
			if err = w.openIndex(); err != nil {
				return 0, err
			}
			if created, err = w.log.createdAt(w.index, stream, revision); err != nil {
				return 0, err
			}
		}
	}
	hidden := meta.softDeleted() || revision < meta.truncateBefore ||
		meta.maxCount > 0 && revision <= s.current-meta.maxCount ||
		meta.maxAge > 0 && created < w.created-int64(meta.maxAge/100)
	if hidden {
		return 0, nil
	}
	return p.position, nil
}
