package eventnode

import (
	"sync"
	"time"

	"github.com/google/uuid"
)

// group is one persistent subscription: events come in from the log, in order, wait in a buffer, go out to consumers, and
// come back acknowledged or not. It is a state machine behind one lock, which nobody holds while waiting for the disk or
// for a consumer.
//
// An event is pending from the moment it comes in until it is settled: acknowledged, skipped, or written to the parked
// stream. The checkpoint never passes a pending event, so whatever happens, each is delivered at least once.
type group struct {
	p *groupKeeper
	*settings
	room int // events that the buffer holds
	page int // events read at a time

	mu        sync.Mutex
	stopped   bool
	faulted   bool        // it cannot read its source, and drops whoever comes
	unwritten int         // writes that the committer has not answered
	answered  sync.Cond   // it has answered all
	consumers []*consumer // in the order in which they came
	strategy  strategy

	// Where it is in its source, in revisions of a stream or positions of $all.
	live       bool
	reading    bool
	cursor     int64 // everything up to here has been read
	considered int64 // the last event looked at; what lies between it and the cursor is of no interest

	pending  []*delivery // in order, the first not settled
	settled  int         // in pending
	buffer   []*delivery // in order, not yet sent
	retries  []*delivery // in order; replayed ones behind, in theirs
	inFlight map[uuid.UUID][]*delivery
	outside  int // deliveries in flight

	checkpoint
	replay       *replay
	moved        int64       // replayed events below this revision are hidden in the parked stream
	replayedOnes []*delivery // that are not settled
	stats        groupStats
}

// delivery is an event on its way through a group.
type delivery struct {
	event  *event // a link that is followed is event, and target what it points to
	target *event
	broken bool // it is a link to an event that is gone

	at       int64 // its place in the source
	before   int64 // the last place looked at before it
	done     bool
	weight   int  // how many settled events it stands for, itself included
	replayed bool // from the parked stream, and so not pending
	parking  bool // being written there

	retry  int
	sentAt time.Time
	to     *consumer
	bucket int // of a pinning strategy, -1 while not known
}

// source is what the client sees as the event.
func (d *delivery) source() *event {
	if d.target != nil {
		return d.target
	}
	return d.event
}

func (p *groupKeeper) newGroup(s *settings) *group {
	g := &group{p: p, settings: s, inFlight: map[uuid.UUID][]*delivery{}, page: max(s.batch, 1)}
	g.room = max(s.history, g.page+1)
	g.answered.L = &g.mu
	g.strategy, _ = newStrategy(s.strategy)
	g.stats.since, g.stats.known = p.node.now(), -1
	return g
}

// place is where an event lies in the group's source.
func (g *group) placeOf(e *event) int64 {
	if g.all() {
		return int64(e.position)
	}
	return e.revision
}

// offer is told of every event that is appended to the group's source, by the one goroutine that follows the log.
func (g *group) offer(e *event) {
	at := g.placeOf(e)
	g.mu.Lock()
	wanted := !g.stopped && at > g.cursor && !(g.all() && e.is(flagHidden))
	wanted = wanted && g.live
	g.mu.Unlock()
	if !wanted {
		return
	}
	d := g.look(e)
	g.mu.Lock()
	defer g.mu.Unlock()
	if d != nil {
		g.stats.appeared++
	}
	switch {
	case g.stopped:
	case d == nil:
		g.skip(at)
		g.mark(false)
	case len(g.buffer) >= g.room:
		g.live = false // the rest is read from the disk when there is room
	default:
		g.enter(d)
		g.push()
	}
}

// missed is called when the log has moved on so fast that events were not offered.
func (g *group) missed() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.live = false
	g.read()
}

// look decides whether an event is wanted, and follows it if it is a link. It returns nil for one that is not wanted.
func (g *group) look(e *event) *delivery {
	if g.filter != nil {
		// An expression that takes too long says nothing; better to deliver too much than too little.
		if ok, err := g.filter.matches(e); err != nil {
			g.p.node.logger.Warn("a persistent subscription's filter has failed", "subscription", g.key(), "error", err)
		} else if !ok {
			return nil
		}
	}
	// The event may wait for long, so it must not hold the memory of all that was read or written with it.
	own, err := open(e.position, append([]byte{e.flags}, e.frame...))
	if err != nil {
		own = *e
	}
	d := &delivery{event: &own, at: g.placeOf(e), weight: 1, bucket: -1}
	if g.resolveLinks && e.is(flagLink) {
		g.follow(d)
	}
	return d
}

func (g *group) follow(d *delivery) {
	target, isLink, err := g.p.node.follow(d.event)
	if err != nil {
		g.p.node.logger.Error("a link could not be followed", "subscription", g.key(), "error", err)
	}
	d.target, d.broken = target, isLink && target == nil
}

// skip passes an event that the filter does not want.
func (g *group) skip(at int64) {
	g.cursor, g.considered = at, at
	g.passed++
}

// enter takes an event into the buffer.
func (g *group) enter(d *delivery) {
	d.before = g.considered
	g.cursor, g.considered, g.stats.known = d.at, d.at, d.at
	g.pending = append(g.pending, d)
	g.buffer = append(g.buffer, d)
}

// push sends what can be sent, retries first.
func (g *group) push() {
	if g.stopped {
		return
	}
	var full bool
	if g.retries, full = g.pushFrom(g.retries); !full {
		g.buffer, _ = g.pushFrom(g.buffer)
	}
	g.read()
}

func (g *group) pushFrom(list []*delivery) (rest []*delivery, stop bool) {
	kept := 0
	for i, d := range list {
		switch g.strategy.push(d) {
		case sent:
			g.begin(d)
			continue
		case blocked:
			list[kept] = d
			kept++
			continue
		}
		if kept == 0 { // the usual case: a number of them from the front
			clear(list[:i])
			return list[i:], true
		}
		stop = true
		kept += copy(list[kept:], list[i:])
		break
	}
	clear(list[kept:])
	return list[:kept], stop
}

// begin notes that a delivery is with a consumer.
func (g *group) begin(d *delivery) {
	d.sentAt = g.p.node.now()
	g.inFlight[d.event.id] = append(g.inFlight[d.event.id], d)
	g.outside++
	g.stats.total++
}
