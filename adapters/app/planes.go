package app

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/domain/tenant"
	"github.com/tenure-dev/tenure/sagas"
	"github.com/tenure-dev/tenure/sagas/onboarding"
)

// planes is every plane's folded state in memory, for whoever chooses one or asks whether its agent could speak. It is a
// cache of the log: loaded from the plane streams, then kept up by the log's feed.
type planes struct {
	bus    *commands.Bus
	log    *eventstore.Log
	events *domain.Registry
	seen   func() uint64 // what callers may have seen of the log already

	mu     sync.Mutex
	known  map[string]known
	loaded bool // every plane that existed at the start is known
	at     uint64
	moved  chan struct{} // closed when at rises
}

type known struct {
	state    plane.State
	revision int64
	online   time.Time // since when its agent is; zero while it is not
}

func newPlanes(log *eventstore.Log, seen func() uint64) *planes {
	return &planes{log: log, events: domain.NewRegistry(plane.Events), seen: seen, known: map[string]known{}, moved: make(chan struct{})}
}

// run keeps the states until ctx ends. list names the planes that exist by now.
func (p *planes) run(ctx context.Context, list func(context.Context) ([]string, error), now func() time.Time) error {
	head, err := p.log.Head(ctx) // before the states are read, so that nothing falls between
	if err != nil {
		return err
	}
	ids, err := list(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		state, revision, err := p.bus.State(ctx, plane.Aggregate.Stream(id))
		if err != nil {
			return err
		}
		k := known{state: state.(plane.State), revision: revision}
		if k.state.Agent.State == plane.Online {
			k.online = now()
		}
		p.mu.Lock()
		p.known[id] = k
		p.mu.Unlock()
	}
	p.mu.Lock()
	p.loaded = true
	p.mu.Unlock()
	p.reach(head)
	for d, err := range p.log.Follow(ctx, head) {
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if d.Kind == domain.DeliveredEvent {
			if err := p.apply(d.Event); err != nil {
				return err
			}
		}
		p.reach(max(d.Commit, d.Event.Commit))
	}
	return nil
}

func (p *planes) apply(e domain.Recorded) error {
	category, id := domain.SplitStream(e.Stream)
	if category != plane.Aggregate.Category {
		return nil
	}
	payload, err := p.events.DecodeRecorded(e)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	k, there := p.known[id]
	if there && e.Revision <= k.revision {
		return nil
	}
	k.state, k.revision = plane.Aggregate.Evolve(k.state, payload).(plane.State), e.Revision
	switch {
	case k.state.Agent.State != plane.Online:
		k.online = time.Time{}
	case k.online.IsZero():
		k.online = e.RecordedAt
	}
	p.known[id] = k
	return nil
}

func (p *planes) reach(commit uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if commit > p.at {
		p.at = commit
		close(p.moved)
		p.moved = make(chan struct{})
	}
}

// catchUp waits until the states are not behind what readers have been shown.
func (p *planes) catchUp(ctx context.Context) error {
	want := p.seen()
	for {
		p.mu.Lock()
		at, moved := p.at, p.moved
		p.mu.Unlock()
		if at >= want {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ids lists the planes, sorted.
func (p *planes) ids(context.Context) ([]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.known)), nil
}

// Snapshot implements sagas.Snapshots.
func (p *planes) Snapshot(ctx context.Context, _ sagas.Wanted) (any, error) {
	if err := p.catchUp(ctx); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	all := []onboarding.Candidate{}
	for _, id := range slices.Sorted(maps.Keys(p.known)) {
		k := p.known[id]
		free := domain.Units{}
		for unit := range k.state.Capacity {
			free[unit] = k.state.Free(unit)
		}
		all = append(all, onboarding.Candidate{ID: id, Revision: k.revision, Region: k.state.Region, Isolations: k.state.Isolations,
			Online: k.state.Agent.Present(), Cordoned: k.state.Phase == plane.Closed, Capacity: k.state.Capacity, Free: free})
	}
	return all, nil
}

// fill tells a request for a tenant what the planes look like now. It refuses nothing that an onboarding might place.
func (p *planes) fill(_ context.Context, command any) error {
	c, ok := command.(*tenant.Request)
	if !ok {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.loaded {
		return nil
	}
	region, fits, room := false, false, false
	for _, k := range p.known {
		if c.Region != "" && k.state.Region != c.Region {
			continue
		}
		region = true
		if k.state.Phase == plane.Closed || !k.state.Agent.Present() || !slices.Contains(k.state.Isolations, c.Tier.Offer.Isolation) {
			continue
		}
		fits = true
		room = room || k.state.HasRoom(c.Tier.Offer.Cost)
	}
	c.Placement = tenant.PlacementFact{NoRegion: !region, Full: fits && !room}
	return nil
}

// Resynced implements sagas.Planes.
func (p *planes) Resynced(id string) (since time.Time, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	since = p.known[id].online
	return since, !since.IsZero()
}
