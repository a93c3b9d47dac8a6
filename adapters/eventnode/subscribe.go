package eventnode

import (
	"context"
	"errors"
	"math"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
)

// subscription is a read without end. It catches up from the disk, then lives on the ring; when it is so slow that the
// ring has moved on, it catches up again, and nothing is lost. It looks at every event once, in the order of the log.
type subscription struct {
	*read
	after    uint64 // everything up to this position has been looked at
	revision int64  // of a stream: everything up to this revision has been sent, or is not wanted

	// Of a filtered subscription: a checkpoint says that everything up to a position has been seen.
	looked  uint64 // position of the last event looked at
	checked uint64 // position of the last checkpoint
	since   int64  // events looked at since then

	progress progress
}

func (r *read) subscription(ctx context.Context) error {
	s := &subscription{read: r, revision: -1}
	if err := s.begin(); err != nil {
		return err
	}
	defer s.node.metrics.follow(s)()
	id := uuid.NewString()
	if err := s.message(&api.ReadResp{Content: &api.ReadResp_Confirmation{Confirmation: &api.ReadResp_SubscriptionConfirmation{SubscriptionId: id}}}); err != nil {
		return err
	}
	for {
		if err := s.catchUp(ctx); err != nil {
			return err
		}
		if err := s.caughtUp(); err != nil {
			return err
		}
		if err := s.live(ctx); err != nil {
			return err
		}
	}
}

// begin finds out where to start. What is appended from here on will be delivered.
func (s *subscription) begin() error {
	watermark := s.node.ring.watermark.Load()
	if !s.all {
		v, err := s.node.log.visible(s.stream, watermark, s.node.now())
		switch {
		case err != nil:
			return err
		case v.tombstoned:
			return streamDeleted(s.stream)
		case s.from.end:
			s.after, s.revision = watermark, v.current
		case !s.from.start:
			s.revision = int64(s.from.value)
		}
		return nil
	}
	switch {
	case s.from.start:
	case s.from.end:
		s.after = watermark
	case s.from.value > watermark: // to come, perhaps; everything before it is not wanted
		s.after = s.from.value
	default:
		if err := s.checkPosition(watermark); err != nil {
			return err
		}
		s.after = s.from.value
	}
	if s.from.partial {
		s.after--
	}
	return nil
}

// catchUp delivers from the disk until the ring has the rest.
func (s *subscription) catchUp(ctx context.Context) error {
	target := s.node.ring.watermark.Load()
	var p page
	for s.after < target || !s.node.ring.covers(s.after) {
		if err := s.goOn(ctx); err != nil {
			return err
		}
		var err error
		if s.all {
			err = s.catchUpAll(&p)
		} else {
			err = s.catchUpStream(ctx, &p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *subscription) catchUpAll(p *page) error {
	watermark := s.node.ring.watermark.Load()
	size := pageEvents
	if s.filter != nil {
		size = min(s.filter.window, pageEvents)
	}
	_, done, err := s.node.log.all(p, s.after+1, watermark, false, s.opens(), max(size, defaultWindow))
	if err != nil {
		return err
	}
	for i := range p.events {
		if err := s.look(&p.events[i]); err != nil {
			return err
		}
	}
	if done {
		s.after = max(s.after, watermark)
	}
	return s.flush()
}

func (s *subscription) catchUpStream(ctx context.Context, p *page) error {
	watermark := s.node.ring.watermark.Load()
	v, err := s.node.log.visible(s.stream, watermark, s.node.now())
	if err != nil {
		return err
	}
	last := v.current
	if v.tombstoned {
		last = math.MaxInt64 // the tombstone is the last event
	} else if v.missing {
		last = -1
	}
	for from, done := max(s.revision+1, v.from), false; !done && from <= last; {
		if err := s.goOn(ctx); err != nil {
			return err
		}
		if from, done, err = s.node.log.stream(p, s.stream, from, last, false, pageEvents); err != nil {
			return err
		}
		for i := range p.events {
			if e := &p.events[i]; e.position <= watermark {
				if err := s.look(e); err != nil {
					return err
				}
			}
		}
		if err := s.flush(); err != nil {
			return err
		}
	}
	if v.tombstoned { // its stream's, for a metastream
		return streamDeleted(s.stream)
	}
	s.after = max(s.after, watermark)
	return nil
}

// caughtUp tells that what follows is live.
func (s *subscription) caughtUp() error {
	s.progress.after.Store(s.after)
	s.progress.live.Store(true)
	if s.filter != nil {
		if s.looked > s.checked {
			if err := s.checkpoint(s.looked); err != nil {
				return err
			}
		}
		s.since = 0
	}
	return s.message(&api.ReadResp{Content: &api.ReadResp_CaughtUp_{CaughtUp: &api.ReadResp_CaughtUp{}}})
}

// liveBatch is how many events a subscriber takes from the ring at a time.
const liveBatch = 64

// live delivers from the ring. It returns nil when the ring no longer has what comes next.
func (s *subscription) live(ctx context.Context) error {
	defer s.progress.live.Store(false)
	buf := make([]*event, 0, liveBatch)
	for {
		s.progress.after.Store(s.after)
		events, changed, ok := s.node.ring.after(s.after, buf[:0])
		if !ok {
			return nil
		}
		for _, e := range events {
			if err := s.look(e); err != nil {
				return err
			}
		}
		if len(events) > 0 {
			clear(events)
			if err := errors.Join(s.flush(), s.goOn(ctx)); err != nil {
				return err
			}
			continue
		}
		select {
		case <-changed:
		case <-s.node.stop:
			return notReady()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// look considers one event and sends it if it is wanted.
func (s *subscription) look(e *event) error {
	if !s.all {
		return s.lookAtStream(e)
	}
	s.after = e.position
	if _, err := s.pass(e); err != nil || s.filter == nil {
		return err
	}
	s.looked = e.position
	if s.since++; s.since >= s.filter.interval {
		return s.checkpoint(e.position)
	}
	return nil
}

func (s *subscription) lookAtStream(e *event) error {
	s.after = max(s.after, e.position)
	if string(e.stream) != s.stream || e.revision <= s.revision {
		return nil
	}
	s.revision = e.revision
	if err := s.event(e); err != nil {
		return err
	}
	if e.is(flagDeleted) {
		return streamDeleted(s.stream)
	}
	return nil
}

func (s *subscription) checkpoint(position uint64) error {
	s.checked, s.since = position, 0
	return s.message(&api.ReadResp{Content: &api.ReadResp_Checkpoint_{Checkpoint: &api.ReadResp_Checkpoint{CommitPosition: position, PreparePosition: position}}})
}

// goOn says why a subscription has to end: its client is gone, or the node is going.
func (s *subscription) goOn(ctx context.Context) error {
	if s.node.stopping() {
		return notReady()
	}
	return ctx.Err()
}

var empty = &shared.Empty{}
