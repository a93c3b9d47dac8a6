package eventnode

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	checkpointType = "$SubscriptionCheckpoint"
	linkAccess     = `"$acl":{"$r":"$admins","$w":"$admins","$d":"$admins","$mr":"$admins","$mw":"$admins"}`
)

// checkpoint is how far a group has come: a place up to which all is settled, and how many events since the last time it
// was written down.
type checkpoint struct {
	passed  int       // events settled, or not wanted, of which all before are settled
	counted int       // passed when it was written last
	written time.Time // zero before the first time, which is not waited for
	wanted  int64     // written or being written
	durable int64     // what the disk has
	shown   bool      // there is one
	writing bool
}

// reached is the last place that has nothing pending before it or at it.
func (g *group) reached() int64 {
	if len(g.pending) > 0 {
		return g.pending[0].before
	}
	return g.considered
}

// mark writes the checkpoint down when it is time: when many events have passed since, or on a tick, if fewer have and
// enough time.
func (g *group) mark(tick bool) {
	now, passed, at := g.p.node.now(), g.passed-g.counted, g.reached()
	due := g.afterTime != never && now.Sub(g.written) >= g.afterTime
	many := passed >= g.maxCheckpoint
	if g.stopped || at <= g.wanted || !many && !(tick && due && passed >= g.minCheckpoint) {
		return
	}
	g.counted, g.written, g.wanted = g.passed, now, at
	if !g.writing {
		g.writeCheckpoint()
	}
}

func (g *group) writeCheckpoint() {
	at := g.wanted
	g.writing = true
	g.submit(appendOf(g.checkpoints(), proposedEvent{typ: checkpointType, json: true, data: quoted(g.source.place(at))}), func(ok bool) {
		g.writing = false
		if ok {
			g.durable, g.shown = at, true
		}
		if ok && g.wanted > at && !g.stopped {
			g.writeCheckpoint()
		}
	})
}

// submit hands a write to the committer. What is to be done then is done with the group's lock held, as submit is called.
func (g *group) submit(w *write, then func(ok bool)) {
	g.unwritten++
	w.replier = afterwards(func(out outcome) {
		ok := out.err == nil && (out.decision == accept || out.decision == acceptDeleted)
		if !ok && out.err == nil {
			g.p.node.logger.Error("a persistent subscription could not write", "subscription", g.key(), "stream", w.stream)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		then(ok)
		if g.unwritten--; g.unwritten == 0 {
			g.answered.Broadcast()
		}
	})
	if !g.p.node.writer.queue.push(w) {
		g.unwritten-- // the node has stopped, and with it the group
		return
	}
	g.p.node.writer.queue.call()
}

// afterwards is a replier that does something.
type afterwards func(outcome)

func (f afterwards) reply(out outcome) { f(out) }

// park writes a link to an event to the parked stream. Until the disk has it the event is pending; if that fails it is
// tried again.
func (g *group) park(d *delivery, reason string) {
	d.parking = true
	g.submit(g.parking(d, reason), func(ok bool) {
		d.parking = false
		if g.stopped {
			return
		}
		if ok {
			g.settle(d)
			g.mark(false)
			return
		}
		g.again(d) // a tick will push it: not at once, or it would go round and round
	})
}

// parkedReason is the metadata of a parked event.
type parkedReason struct {
	Added  time.Time `json:"added"`
	Reason string    `json:"reason"`
	Number int64     `json:"subscriptionEventNumber,omitempty"`
}

func (g *group) parking(d *delivery, reason string) *write {
	link := d.event.data
	if e := d.source(); !d.broken {
		link = []byte(strconv.FormatInt(e.revision, 10) + "@" + string(e.stream))
	}
	var metadata strings.Builder
	e := json.NewEncoder(&metadata)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(parkedReason{g.p.node.now().UTC(), strings.ToValidUTF8(reason, "\uFFFD"), d.event.revision}) // always encodes
	return appendOf(g.parked(), proposedEvent{typ: linkType, data: slices.Clone(link), metadata: []byte(strings.TrimSpace(metadata.String()))})
}

// hideParked hides the parked events below a revision, which have been replayed.
func (g *group) hideParked(below int64) {
	g.moved = max(g.moved, below)
	data := `{"$tb":` + strconv.FormatInt(below, 10) + `,` + linkAccess + `}`
	g.submit(appendOf(metastreamOf(g.parked()), proposedEvent{typ: metadataType, json: true, data: []byte(data)}), func(bool) {})
}

// load finds out where the group goes on: after its checkpoint or, without one, where its settings say.
func (g *group) load() error {
	at, found, err := g.storedCheckpoint()
	watermark := g.p.node.ring.watermark.Load()
	g.since = watermark
	switch {
	case err != nil:
		return err
	case found:
		g.cursor, g.shown = at, true
	case !g.start.end:
		g.cursor = g.start.value - 1
	case g.all():
		g.cursor = int64(watermark)
	default:
		v, err := g.p.node.log.visible(g.stream, watermark, g.p.node.now())
		if err != nil {
			return err
		}
		if g.cursor = v.current; v.tombstoned {
			g.cursor = deletedRevision
		}
	}
	g.considered, g.wanted, g.durable = g.cursor, g.cursor, g.cursor
	if found || !g.start.end {
		g.faulted, err = g.unreadable(found, watermark)
	}
	return err
}

// unreadable: the group would have to read a stream that is tombstoned, or start where no record of the log begins.
func (g *group) unreadable(resumed bool, watermark uint64) (bool, error) {
	if !g.all() {
		v, err := g.p.node.log.visible(g.stream, watermark, g.p.node.now())
		return v.tombstoned, err
	}
	if resumed || g.start.value == 0 {
		return false, nil
	}
	ok, err := g.p.node.log.isRecord(uint64(g.start.value), watermark)
	return !ok, err
}

// storedCheckpoint reads the last checkpoint. One that nobody can read was not written by us; the one before it counts.
func (g *group) storedCheckpoint() (at int64, found bool, err error) {
	v, err := g.p.node.log.visible(g.checkpoints(), g.p.node.ring.watermark.Load(), g.p.node.now())
	if err != nil || v.missing || v.tombstoned {
		return 0, false, err
	}
	for revision := v.current; revision >= v.from; revision-- {
		e, err := g.p.eventAt(g.checkpoints(), revision)
		if err != nil || e == nil {
			return 0, false, err
		}
		var text string
		if err = json.Unmarshal(e.data, &text); err == nil {
			at, err = g.readPlace(text)
		}
		if err == nil {
			return at, true, nil
		}
		g.p.node.logger.Error("a checkpoint cannot be read; trying the one before", "subscription", g.key(), "revision", revision, "error", err)
	}
	return 0, false, nil
}

// stop ends the group: its consumers are told why, and it writes no more. It returns when the disk has what it wrote.
func (g *group) stop(why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return
	}
	for _, d := range g.replayedOnes {
		if d.event.revision < g.moved && !d.parking { // hidden in the parked stream, and kept only here
			g.submit(g.parking(d, "Replay was interrupted."), func(bool) {})
		}
	}
	g.stopped = true
	for _, c := range g.consumers {
		c.drop(why)
	}
	for g.unwritten > 0 {
		g.answered.Wait()
	}
}
