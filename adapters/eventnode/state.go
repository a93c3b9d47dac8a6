package eventnode

import "github.com/google/uuid"

// streamState is what the committer remembers of a stream, everything accepted so far included.
type streamState struct {
	current     int64 // last revision, -1 for none
	tombstoned  bool
	metadata    streamMetadata
	rawMetadata []byte  // the data of the last metadata event
	fresh       []place // the last events, which the database does not have yet
}

func (s *streamState) softDeleted(stream string) bool {
	return s.metadata.softDeleted() && !isMetastream(stream)
}

func (s *streamState) freshPlace(revision int64) (place, bool) {
	i := revision - (s.current + 1 - int64(len(s.fresh)))
	if i < 0 || i >= int64(len(s.fresh)) {
		return place{}, false
	}
	return s.fresh[i], true
}

// load returns the state of a stream, from memory or from the database.
func (w *writer) load(stream string) (*streamState, error) {
	if s := w.streams.get(stream); s != nil {
		return s, nil
	}
	if err := w.openIndex(); err != nil {
		return nil, err
	}
	durable := w.ring.watermark.Load()
	x, err := w.log.extent(w.index, stream, durable)
	if err != nil {
		return nil, err
	}
	s := &streamState{current: x.current, tombstoned: x.tombstoned}
	if !isMetastream(stream) {
		e, found, err := w.log.metadataEvent(w.index, stream, durable)
		if err != nil {
			return nil, err
		}
		if found {
			s.metadata, s.rawMetadata = parseMetadata(e.data, e.is(flagJSON)), e.data
		}
	}
	w.streams.put(stream, s)
	return s, nil
}

// openIndex opens the iterator that the group in hand uses; the database does not change before it is committed.
func (w *writer) openIndex() (err error) {
	if w.index == nil {
		w.index, err = w.log.index()
	}
	return err
}

// facts gathers what decides about a write to a stream.
func (w *writer) facts(stream string, s *streamState) (facts, error) {
	f := facts{current: s.current, tombstoned: s.tombstoned, softDeleted: s.softDeleted(stream)}
	for name := stream; !f.tombstoned && isMetastream(name); {
		name = originalOf(name)
		original, err := w.load(name)
		if err != nil {
			return f, err
		}
		f.tombstoned = original.tombstoned
	}
	if s.current < 0 {
		m, err := w.load(metastreamOf(stream))
		if err != nil {
			return f, err
		}
		f.hasMetadata = m.current >= 0 || m.tombstoned
	}
	return f, nil
}

// streamHistory is the history of a stream, as the committer sees it.
type streamHistory struct {
	w      *writer
	stream string
	state  *streamState
}

func (h streamHistory) idAt(revision int64) (uuid.UUID, error) {
	if p, ok := h.state.freshPlace(revision); ok {
		return p.id, nil
	}
	p, _, err := h.w.log.place(h.stream, revision)
	return p.id, err
}

func (h streamHistory) firstPlace(id uuid.UUID) (int64, bool, error) {
	if err := h.w.openIndex(); err != nil {
		return 0, false, err
	}
	p, found, used, err := h.w.log.firstPlace(h.w.index, id, h.stream)
	if used || err != nil {
		return p.revision, found, err
	}
	f, ok := h.w.firsts[id]
	return f.revision, ok && f.stream == h.stream, nil
}

// cacheStreams is how many streams' states are kept at least; at most twice as many are.
const cacheStreams = 32 << 10

// streamCache keeps the states of the streams written to last, in two generations: when the younger one is full, the
// older one is forgotten.
type streamCache struct {
	young, old map[string]*streamState
}

func (c *streamCache) get(stream string) *streamState {
	if s := c.young[stream]; s != nil {
		return s
	}
	s := c.old[stream]
	if s != nil {
		c.put(stream, s)
	}
	return s
}

func (c *streamCache) put(stream string, s *streamState) {
	if c.young == nil {
		c.young = map[string]*streamState{}
	}
	c.young[stream] = s
}

// age may forget states, so it is for the time between two groups.
func (c *streamCache) age() {
	if len(c.young) >= cacheStreams {
		c.young, c.old = nil, c.young
	}
}
