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
	cursor     int64  // everything up to here has been read
	considered int64  // the last event looked at; what lies between it and the cursor is of no interest
	since      uint64 // the end of the log when it was opened: only what lies behind it appears live

	pending  []*delivery // in order, the first not settled
	settled  int         // in pending
	buffer   []*delivery // in order, not yet sent
	retries  []*delivery // in order, replayed ones in theirs
	inFlight map[uuid.UUID][]*delivery
	outside  int // deliveries in flight

	checkpoint
	replay       *replay
	moved        int64       // replayed events below this revision are hidden in the parked stream
	replayedOnes []*delivery // that are not settled
	stats        groupStats
}

// The events that are read at a time are as many as the settings say, within these bounds.
const (
	smallestPage = 10 // for a batch of none
	largestPage  = 100
)

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
	g := &group{p: p, settings: s, inFlight: map[uuid.UUID][]*delivery{}, room: max(s.history, 1), page: smallestPage}
	if s.batch > 0 {
		g.page = min(s.batch, largestPage)
	}
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
	wanted := !g.stopped && at > g.cursor && e.position > g.since && !(g.all() && e.is(flagHidden))
	live := g.live
	g.mu.Unlock()
	if !wanted {
		return
	}
	var d *delivery
	passes := g.passes(e)
	if passes && live {
		d = g.deliver(e, true)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if passes {
		g.stats.appeared++
		g.stats.known = max(g.stats.known, at)
	}
	switch {
	case g.stopped || !live: // what it does not take it will read
	case !passes:
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

// passes decides whether an event is wanted.
func (g *group) passes(e *event) bool {
	if g.filter == nil {
		return true
	}
	ok, err := g.filter.matches(e)
	if err != nil { // it takes too long, and says nothing; better to deliver too much than too little
		g.p.node.logger.Warn("a persistent subscription's filter has failed", "subscription", g.key(), "error", err)
	}
	return ok || err != nil
}

// deliver follows an event if it is a link. One that appears live and is no link at all counts as a broken one, as with a
// real server, which reads links in two places.
func (g *group) deliver(e *event, live bool) *delivery {
	// The event may wait for long, so it must not hold the memory of all that was read or written with it.
	own, err := open(e.position, append([]byte{e.flags}, e.frame...))
	if err != nil {
		own = *e
	}
	d := &delivery{event: &own, at: g.placeOf(e), weight: 1, bucket: -1}
	if g.resolveLinks && e.is(flagLink) {
		g.follow(d)
		d.broken = d.broken || live && d.target == nil
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
	g.cursor, g.considered, g.stats.known = d.at, d.at, max(g.stats.known, d.at)
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
