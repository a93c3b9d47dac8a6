package sinks

import (
	"cmp"
	"context"
	"iter"
	"math"
	"slices"
	"sync"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/sink"
)

// redeliveryRoom bounds the events of one redelivery that wait.
const redeliveryRoom = 256

// redelivery is one that runs.
type redelivery struct {
	room              chan struct{}
	mu                sync.Mutex
	delivered, parked int64
}

func (r *redelivery) settle(delivered bool) {
	r.count(delivered)
	<-r.room
}

func (r *redelivery) count(delivered bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if delivered {
		r.delivered++
	} else {
		r.parked++
	}
}

// redeliver runs open redeliveries one after another, those found at the start as well.
func (f *flow) redeliver(ctx context.Context) {
	finished := map[string]bool{}
	for n := 0; ctx.Err() == nil; {
		state, _, changed := f.control.now()
		at := slices.IndexFunc(state.Open, func(o sink.RedeliveryRequested) bool { return !finished[o.ID] })
		if at < 0 {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		asked := state.Open[at]
		r, err := f.again(ctx, asked, state)
		if err != nil {
			f.r.Logger.WarnContext(ctx, "a redelivery broke and begins again", "sink", f.Name, "error", err)
			f.r.sleep(ctx, pause(n))
			n++
			continue
		}
		if n = 0; r == nil {
			return
		}
		c := sink.FinishRedelivery{Sink: f.Name, ID: asked.ID, Delivered: r.delivered, Parked: r.parked}
		_, finished[asked.ID] = f.execute(ctx, c, domain.DeriveUUID("sink redelivery finished", f.Name, asked.ID).String())
	}
}

// again delivers what was asked for, where the sink's filter lets it through, each stream in its order, and waits for all of
// it. It gives nil when ctx has ended before.
func (f *flow) again(ctx context.Context, asked sink.RedeliveryRequested, state sink.State) (*redelivery, error) {
	r := &redelivery{room: make(chan struct{}, redeliveryRoom)}
	var broke error
	for e, err := range f.asked(ctx, asked, state) {
		if broke = err; err != nil {
			break
		}
		if !f.filter.wants(&e) {
			if asked.Scope == sink.ScopeParked {
				r.count(false)
			}
			continue
		}
		if !r.enter(ctx) {
			return nil, nil
		}
		f.schedule.addAgain(&item{event: e, again: r})
	}
	for range redeliveryRoom {
		if !r.enter(ctx) {
			return nil, nil
		}
	}
	return r, broke
}

func (r *redelivery) enter(ctx context.Context) bool {
	select {
	case r.room <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// asked yields the events that were asked for. A parked one that the log no longer has comes empty: no filter wants it.
func (f *flow) asked(ctx context.Context, asked sink.RedeliveryRequested, state sink.State) iter.Seq2[domain.Recorded, error] {
	return func(yield func(domain.Recorded, error) bool) {
		if asked.Scope == sink.ScopeParked {
			for _, p := range parkedOf(state) {
				e, ok, err := f.r.find(ctx, p.Place)
				if !ok {
					e = domain.Recorded{}
				}
				if !yield(e, err) || err != nil {
					return
				}
			}
			return
		}
		from, ok, err := f.r.find(ctx, *asked.From)
		if err != nil || ok && !yield(from, nil) || !ok || asked.Scope != sink.ScopeRange {
			if err != nil {
				yield(from, err)
			}
			return
		}
		to, ok, err := f.r.find(ctx, *asked.To)
		if err != nil {
			yield(to, err)
			return
		}
		if !ok || to.Commit <= from.Commit {
			return
		}
		for e, err := range f.r.Log.ReadAll(ctx, from.Commit, math.MaxInt) {
			if err == nil && e.Commit > to.Commit || !yield(e, err) || err != nil {
				return
			}
		}
	}
}

func parkedOf(s sink.State) (all []sink.Parked) {
	for key := range s.Parked.All() {
		p, _ := s.Parked.Get(key)
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b sink.Parked) int {
		return cmp.Or(cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Revision, b.Revision))
	})
	return all
}
