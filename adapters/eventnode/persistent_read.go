package eventnode

import "math"

// replay is a walk through the parked stream.
type replay struct{ next, end int64 }

// startReplay sends parked events again, those up to a revision, that one not included. While one replay runs, another
// one is ignored.
func (g *group) startReplay(stopAt int64) error {
	v, err := g.p.node.log.visible(g.parked(), g.p.node.ring.watermark.Load(), g.p.node.now())
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	from, end := max(v.from, g.moved), min(stopAt, v.current+1)
	if v.missing || v.tombstoned || from >= end || g.replay != nil || g.stopped {
		return nil
	}
	g.replay = &replay{from, end}
	g.read()
	return nil
}

// wantsParked and wantsPage say whether there is room for more.
func (g *group) wantsParked() bool { return g.replay != nil && len(g.retries) < g.room }

func (g *group) wantsPage() bool { return !g.live && !g.faulted && g.free() > 0 }

// free is how many events may be read into the buffer: whole pages, one more for as long as there is room for more than a
// batch. What is to be tried again takes its room, too.
func (g *group) free() int {
	free := g.room - len(g.buffer) - len(g.retries) - max(g.batch, 0)
	return max(0, (free+g.page-1)/g.page*g.page)
}

// open reads the first pages, so that a group that has little to catch up with is live from the beginning.
func (g *group) open() {
	const pages = 16
	g.mu.Lock()
	g.reading = true
	g.mu.Unlock()
	for range pages {
		if !g.readSome() {
			return
		}
	}
	g.p.readers.Go(g.readOn)
}

func (g *group) readOn() {
	for g.readSome() {
	}
}

// read has a goroutine read from the disk if there is something to read, and room for it. It lives no longer than that.
func (g *group) read() {
	if g.reading || g.stopped || !g.wantsParked() && !g.wantsPage() {
		return
	}
	g.reading = true
	g.p.readers.Go(g.readOn)
}

// readSome reads a page of parked events or of the source. It reports whether there is more to do.
func (g *group) readSome() bool {
	g.mu.Lock()
	if g.stopped || g.p.node.stopping() || !g.wantsParked() && !g.wantsPage() {
		g.reading = false
		g.mu.Unlock()
		return false
	}
	parked, cursor, free := g.replay, g.cursor, g.free()
	g.mu.Unlock()
	var err error
	if parked != nil {
		err = g.readParked(*parked)
	} else {
		err = g.readPage(cursor, free)
	}
	if err == nil {
		return true
	}
	g.p.node.logger.Error("a persistent subscription could not read", "subscription", g.key(), "error", err)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reading = false // until the next tick
	return false
}

// looked is an event of a page; it has no delivery if it is not wanted.
type looked struct {
	at int64
	d  *delivery
}

func (g *group) readPage(cursor int64, free int) error {
	watermark := g.p.node.ring.watermark.Load()
	var events []event
	var done bool
	var err error
	if g.all() {
		events, done, err = g.pageOfAll(cursor, watermark, free)
	} else {
		events, done, err = g.pageOfStream(cursor, watermark)
	}
	if err != nil {
		return err
	}
	var seen []looked
	for i := range events {
		e := &events[i]
		if g.all() && e.is(flagHidden) || e.position > watermark {
			continue
		}
		if free == 0 {
			done = false
			break
		}
		var d *delivery
		if g.passes(e) {
			d = g.deliver(e, false)
			free--
		}
		seen = append(seen, looked{g.placeOf(e), d})
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.entered(seen, done, watermark)
	return nil
}

// entered takes in what was read. If that was all there is, the group goes live: what is appended from then on will be
// offered to it.
func (g *group) entered(seen []looked, done bool, watermark uint64) {
	if g.stopped {
		return
	}
	skipped := false
	for _, s := range seen {
		if s.d == nil {
			g.skip(s.at)
			skipped = true
		} else {
			g.enter(s.d)
		}
	}
	if done {
		if g.all() {
			g.cursor = max(g.cursor, int64(watermark))
		}
		g.live = g.p.at.Load() <= watermark
	}
	if skipped {
		g.mark(false)
	}
	g.push()
}

func (g *group) pageOfAll(cursor int64, watermark uint64, free int) ([]event, bool, error) {
	size := min(g.page, free)
	if g.filter != nil {
		size = pageEvents // few of them may match
	}
	var p page
	_, done, err := g.p.node.log.all(&p, uint64(cursor+1), watermark, false, true, size)
	return p.events, done, err
}

// pageOfStream reads what the stream's readers see, and a tombstone, which they only hear of.
func (g *group) pageOfStream(cursor int64, watermark uint64) ([]event, bool, error) {
	v, err := g.p.node.log.visible(g.stream, watermark, g.p.node.now())
	if err != nil || cursor == math.MaxInt64 {
		return nil, true, err
	}
	from, last := max(cursor+1, v.from), v.current
	switch {
	case v.tombstoned:
		last = deletedRevision
	case v.missing:
		last = -1
	}
	var p page
	_, done, err := g.p.node.log.stream(&p, g.stream, from, last, false, g.page)
	return p.events, done, err
}

// readParked makes retries of a page of parked events. One whose event is gone is dropped.
func (g *group) readParked(r replay) error {
	var p page
	next, done, err := g.p.node.log.stream(&p, g.parked(), r.next, r.end-1, false, g.page)
	if err != nil {
		return err
	}
	var list []*delivery
	for i := range p.events {
		own, err := open(p.events[i].position, append([]byte{p.events[i].flags}, p.events[i].frame...))
		if err != nil {
			return err
		}
		d := &delivery{event: &own, at: own.revision, replayed: true, bucket: -1}
		if g.follow(d); !d.broken {
			list = append(list, d)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return nil
	}
	g.retries = append(g.retries, list...)
	g.replayedOnes = append(g.replayedOnes, list...)
	if g.replay.next = next; done {
		g.replay = nil
		g.hideParked(r.end)
	}
	g.push()
	return nil
}
