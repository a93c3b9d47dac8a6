package sinks

import (
	"cmp"
	"context"
	"iter"
	"slices"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/sink"
)

// mostHeld bounds the streams of a sink that are held: the cursor names each of them.
const mostHeld = 100

// held is a stream whose first event fails and that would fill the window with those behind it. They wait in the log, and are
// read again from there, a few at a time. The log's other streams go on.
type held struct {
	next  int64  // revision of the first event that waits in the log alone
	until uint64 // position of the last one that the reader of the log has gone by
	read  uint64 // up to which position they have been read again
}

// hold sets the longest of the streams aside that fail. It is called with the lock held. While the receiver is down, no stream
// is to blame.
func (s *schedule) hold() bool {
	if s.down || len(s.held) >= mostHeld {
		return false
	}
	var longest *lane
	for l := range s.stuck {
		if s.held[l.items[0].event.Stream] == nil && len(l.items) > 1 && (longest == nil || len(l.items) > len(longest.items)) {
			longest = l
		}
	}
	if longest == nil {
		return false
	}
	h := &held{next: -1}
	kept := longest.items[:0]
	for n, i := range longest.items {
		switch {
		case i.again != nil:
			kept = append(kept, i)
		case n == 0:
			kept = append(kept, i)
			s.setAside(i)
			h.next, h.until, h.read = i.event.Revision+1, i.event.Commit, i.event.Commit
		default:
			if i.resolved = true; h.next < 0 {
				h.next, h.read = i.event.Revision, i.event.Commit-1
			}
			h.until = i.event.Commit
		}
	}
	if h.next < 0 { // redeliveries alone
		return false
	}
	clear(longest.items[len(kept):])
	longest.items = kept
	s.held[kept[0].event.Stream] = h
	s.trim()
	s.step(0)
	s.change.Broadcast()
	return true
}

// setAside takes an item out of the window's account: its stream's place in the cursor stands for it.
func (s *schedule) setAside(i *item) {
	i.aside, i.resolved = true, true
	s.aside++
}

// letGo ends the holding of a stream of which nothing is left. It is called with the lock held.
func (s *schedule) letGo(stream string) {
	h, l := s.held[stream], s.lanes[stream]
	if h == nil || h.read < h.until || l != nil && slices.ContainsFunc(l.items, func(i *item) bool { return i.aside }) {
		return
	}
	delete(s.held, stream)
	s.step(0)
}

// starving waits for a held stream of which nothing waits in memory while there is more in the log; ok is false once the schedule
// is closed.
func (s *schedule) starving() (stream string, from held, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.closed {
		for stream, h := range s.held {
			if s.lanes[stream] == nil && h.read < h.until {
				return stream, *h, true
			}
		}
		s.change.Wait()
	}
	return "", held{}, false
}

// feed gives a held stream the events that were read for it, and says how far.
func (s *schedule) feed(stream string, events []domain.Recorded, next int64, read uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[stream]
	h.next, h.read = next, read
	for _, e := range events {
		i := &item{event: e}
		s.setAside(i)
		s.push(i)
	}
	s.letGo(stream)
}

// places are where the held streams stand: the first event of each that is not resolved. It is called with the lock held.
func (s *schedule) places() (all []sink.Place) {
	for stream, h := range s.held {
		at := sink.Place{Stream: stream, Revision: h.next}
		if l := s.lanes[stream]; l != nil {
			if n := slices.IndexFunc(l.items, func(i *item) bool { return i.aside }); n >= 0 {
				at.Revision = l.items[n].event.Revision
			}
		}
		all = append(all, at)
	}
	slices.SortFunc(all, func(a, b sink.Place) int { return cmp.Compare(a.Stream, b.Stream) })
	return all
}

// fed is how many events of a held stream are read at a time.
const fed = 50

// waiting yields the events of a stream that the sink wants, from a revision on and up to a position.
func (f *flow) waiting(ctx context.Context, stream string, from int64, until uint64) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		for e, err := range f.r.Log.Read(ctx, stream, from) {
			if err == nil && e.Commit > until || (err != nil || f.filter.wants(&e)) && !yield(e, err) {
				return
			}
		}
	}
}

// refill reads the events of held streams again until ctx ends.
func (f *flow) refill(ctx context.Context) {
	for n := 0; ctx.Err() == nil; {
		stream, h, ok := f.schedule.starving()
		if !ok {
			return
		}
		var events []domain.Recorded
		var broke error
		next, read := h.next, h.until // where the stream has no more of them
		for e, err := range f.waiting(ctx, stream, h.next, h.until) {
			if broke = err; err != nil {
				break
			}
			if len(events) == fed {
				next, read = e.Revision, e.Commit-1
				break
			}
			events, next = append(events, e), e.Revision+1
		}
		if broke == nil {
			f.schedule.feed(stream, events, next, read)
			n = 0
			continue
		}
		f.r.Logger.WarnContext(ctx, "the events of a held stream were not read and are read again", "sink", f.Name, "stream", stream, "error", broke)
		f.r.sleep(ctx, pause(n))
		n++
	}
}
