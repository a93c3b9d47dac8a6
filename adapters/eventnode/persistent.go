package eventnode

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// groupKeeper is the subsystem of persistent subscriptions: it has the groups, and follows the log for all of them in one
// goroutine, so that a group costs nothing while nothing happens in its stream.
type groupKeeper struct {
	node    *Node
	at      atomic.Uint64 // every event up to here has been offered to its groups, or is just being
	ticks   <-chan time.Time
	arrived chan struct{} // there may be a first group
	readers sync.WaitGroup
	follows sync.WaitGroup

	change  sync.RWMutex // held while groups are changed, read-held by those who use one
	limited bool         // the config stream has its metadata; guarded by change

	mu      sync.RWMutex
	groups  map[string]*group   // by key
	streams map[string][]*group // by stream, in the order of their creation; empty for one that had some since the last restart
	order   []*group
}

// tickEvery is how often groups look for what has taken too long.
const tickEvery = time.Second

func newGroupKeeper(n *Node) *groupKeeper {
	return &groupKeeper{node: n, ticks: n.options.ticks, arrived: make(chan struct{}, 1), groups: map[string]*group{}, streams: map[string][]*group{}}
}

// begin opens the groups that are stored, and follows the log from then on.
func (p *groupKeeper) begin() error {
	p.at.Store(p.node.ring.watermark.Load())
	if err := p.openAll(); err != nil {
		return err
	}
	p.follows.Go(p.follow)
	return nil
}

// end waits for the goroutines. The node is stopping, which they know, and has no calls any more.
func (p *groupKeeper) end() {
	p.follows.Wait()
	p.change.Lock()
	defer p.change.Unlock()
	for _, g := range p.all() {
		g.stop(notReady())
	}
	p.readers.Wait()
}

func (p *groupKeeper) openAll() error {
	all, err := p.loadConfig()
	for i := 0; i < len(all) && err == nil; i++ {
		err = p.add(all[i])
	}
	return err
}

// add makes a group and lets it begin, in place of the one of the same name.
func (p *groupKeeper) add(s *settings) error {
	g := p.newGroup(s)
	if err := g.load(); err != nil {
		return err
	}
	p.mu.Lock()
	replace := func(list []*group) []*group {
		if i := slices.IndexFunc(list, func(other *group) bool { return other.source == g.source }); i >= 0 {
			list = slices.Clone(list)
			list[i] = g
			return list
		}
		return append(slices.Clip(list), g)
	}
	p.groups[g.key()] = g
	p.streams[g.stream] = replace(p.streams[g.stream])
	p.order = replace(p.order)
	p.mu.Unlock()
	g.open() // after it can be found: what is appended now is offered to it, or read by it
	select {
	case p.arrived <- struct{}{}:
	default:
	}
	return nil
}

// remove forgets a group. That its stream had one is remembered.
func (p *groupKeeper) remove(g *group) {
	p.mu.Lock()
	defer p.mu.Unlock()
	without := func(list []*group) []*group {
		return slices.DeleteFunc(slices.Clone(list), func(other *group) bool { return other == g })
	}
	delete(p.groups, g.key())
	p.streams[g.stream] = without(p.streams[g.stream])
	p.order = without(p.order)
}

// find is a group by its name, or the refusal that there is none.
func (p *groupKeeper) find(s source) (*group, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if g := p.groups[s.key()]; g != nil && g.source == s {
		return g, nil
	}
	return nil, groupMissing(s)
}

// all are the groups in the order of their creation.
func (p *groupKeeper) all() []*group {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.order
}

// of are the groups of a stream; had is false if there never was one.
func (p *groupKeeper) of(stream string) (list []*group, had bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	list, had = p.streams[stream]
	return list, had
}

// follow offers every event of the log to the groups of its stream and those of $all. While there is no group it sleeps.
func (p *groupKeeper) follow() {
	ticks := p.ticks
	if ticks == nil {
		ticker := time.NewTicker(tickEvery)
		defer ticker.Stop()
		ticks = ticker.C
	}
	buf := make([]*event, 0, liveBatch)
	for {
		var changed <-chan struct{}
		idle := len(p.all()) == 0
		if !idle {
			var events []*event
			var ok bool
			if events, changed, ok = p.node.ring.after(p.at.Load(), buf[:0]); !ok {
				p.skip()
				continue
			}
			p.offer(events)
			if len(events) > 0 {
				changed = closed
			}
			clear(events)
		}
		select {
		case <-p.node.stop:
			return
		case <-ticks:
			p.tick()
		case <-changed:
		case <-p.arrived:
		}
	}
}

// closed is a channel on which nobody waits.
var closed = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func (p *groupKeeper) offer(events []*event) {
	for _, e := range events {
		p.at.Store(e.position) // before: a group that goes live below it would miss the event
		p.mu.RLock()
		own, all := p.streams[string(e.stream)], p.streams[allStream]
		p.mu.RUnlock()
		for _, g := range own {
			g.offer(e)
		}
		if !e.is(flagHidden) {
			for _, g := range all {
				g.offer(e)
			}
		}
	}
}

// skip goes on behind what the ring has forgotten. The groups have to read it.
func (p *groupKeeper) skip() {
	p.at.Store(p.node.ring.watermark.Load())
	for _, g := range p.all() {
		g.missed()
	}
}

func (p *groupKeeper) tick() {
	for _, g := range p.all() {
		g.tick()
	}
}

// create stores a new group. What a deleted one of the same name may have left behind must not count for it.
func (p *groupKeeper) create(ctx context.Context, s *settings) error {
	p.change.Lock()
	defer p.change.Unlock()
	if err := s.check(p.node.ring.watermark.Load()); err != nil {
		return err
	}
	p.mu.RLock()
	exists := p.groups[s.key()] != nil
	p.mu.RUnlock()
	if exists {
		return groupExists(s.source)
	}
	if err := s.checkPages(); err != nil {
		return err
	}
	if err := p.clear(ctx, s.source); err != nil {
		return err
	}
	if err := p.saveConfig(ctx, append(p.stored(nil), s)); err != nil {
		return err
	}
	return p.add(s)
}

// update replaces a group's settings, but not its filter. Its consumers are dropped; it goes on after its checkpoint.
func (p *groupKeeper) update(ctx context.Context, s *settings) error {
	p.change.Lock()
	defer p.change.Unlock()
	old, err := p.find(s.source)
	if err == nil {
		err = s.check(p.node.ring.watermark.Load())
	}
	if err == nil {
		err = s.checkPages()
	}
	if err != nil {
		return err
	}
	s.filter, s.filterOptions = old.filter, old.filterOptions
	old.stop(groupDropped(s.source))
	all := p.stored(nil)
	all[slices.IndexFunc(all, func(other *settings) bool { return other.source == s.source })] = s
	if err := p.saveConfig(ctx, all); err != nil {
		return errors.Join(err, p.add(old.settings))
	}
	return p.add(s)
}

func (p *groupKeeper) delete(ctx context.Context, s source) error {
	p.change.Lock()
	defer p.change.Unlock()
	g, err := p.find(s)
	if err != nil {
		return err
	}
	if err := p.saveConfig(ctx, p.stored(g)); err != nil {
		return err
	}
	p.remove(g)
	g.stop(groupDropped(s))
	return p.clear(ctx, s)
}

// stored are the settings of all groups but one.
func (p *groupKeeper) stored(except *group) []*settings {
	var all []*settings
	for _, g := range p.all() {
		if g != except {
			all = append(all, g.settings)
		}
	}
	return all
}

// clear hides a group's checkpoints and its parked events, if there are any.
func (p *groupKeeper) clear(ctx context.Context, s source) error {
	for _, stream := range []string{s.checkpoints(), s.parked()} {
		v, err := p.node.log.visible(stream, p.node.ring.watermark.Load(), p.node.now())
		if err != nil {
			return err
		}
		if v.missing || v.tombstoned {
			continue
		}
		w := &write{kind: writeSoftDelete, stream: stream, expected: expectAny, ids: []uuid.UUID{uuid.New()}}
		if err := p.write(context.WithoutCancel(ctx), w); err != nil {
			return err
		}
	}
	return nil
}

// restart drops all consumers and begins anew from what is stored.
func (p *groupKeeper) restart() error {
	p.change.Lock()
	defer p.change.Unlock()
	for _, g := range p.all() {
		g.stop(groupDropped(g.source))
	}
	p.mu.Lock()
	p.groups, p.streams, p.order = map[string]*group{}, map[string][]*group{}, nil
	p.mu.Unlock()
	return p.openAll()
}
