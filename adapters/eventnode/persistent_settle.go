package eventnode

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/google/uuid"
)

// end takes a delivery back from its consumer.
func (g *group) end(d *delivery) {
	same := g.inFlight[d.event.id]
	if same = slices.DeleteFunc(same, func(other *delivery) bool { return other == d }); len(same) == 0 {
		delete(g.inFlight, d.event.id)
	} else {
		g.inFlight[d.event.id] = same
	}
	g.outside--
	g.strategy.ended(d)
	d.to.inFlight--
	d.to = nil
}

// settle: the event needs no attention any more.
func (g *group) settle(d *delivery) {
	d.done = true
	d.event, d.target = nil, nil
	if d.replayed {
		g.replayedOnes = slices.DeleteFunc(g.replayedOnes, func(other *delivery) bool { return other == d })
		return
	}
	g.settled++
	for len(g.pending) > 0 && g.pending[0].done {
		g.passed += g.pending[0].weight
		g.pending[0] = nil
		g.pending = g.pending[1:]
		g.settled--
	}
	if g.settled > 1024 && g.settled > len(g.pending)/2 {
		g.compact()
	}
}

// compact forgets settled events that wait for one before them; that one stands for them.
func (g *group) compact() {
	kept := g.pending[:1]
	for _, d := range g.pending[1:] {
		if d.done {
			kept[len(kept)-1].weight += d.weight
		} else {
			kept = append(kept, d)
		}
	}
	clear(g.pending[len(kept):])
	g.pending, g.settled = kept, 0
}

// again puts a delivery among the retries: before the first that lies behind it in the source, or at the end. A replayed
// one lies nowhere in it.
func (g *group) again(d *delivery) {
	i := -1
	if !d.replayed {
		i = slices.IndexFunc(g.retries, func(other *delivery) bool { return !other.replayed && other.at > d.at })
	}
	if i < 0 {
		i = len(g.retries)
	}
	g.retries = slices.Insert(g.retries, i, d)
}

// retryOrPark counts a failed attempt. After the last one the event is parked.
func (g *group) retryOrPark(d *delivery) {
	if d.retry >= g.maxRetries {
		g.park(d, "Reached retry count of "+strconv.Itoa(g.maxRetries))
		return
	}
	d.retry++
	g.again(d)
}

// tick is a second's work: what has taken too long comes back, and the checkpoint's time may have come.
func (g *group) tick() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return
	}
	now := g.p.node.now()
	for _, d := range g.recall(func(d *delivery) bool { return now.Sub(d.sentAt) >= g.messageTimeout }) {
		g.retryOrPark(d)
	}
	g.push()
	g.mark(true)
}

// recall takes deliveries back from their consumers, in order.
func (g *group) recall(which func(*delivery) bool) []*delivery {
	var list []*delivery
	for _, same := range g.inFlight {
		for _, d := range same {
			if which(d) {
				list = append(list, d)
			}
		}
	}
	slices.SortFunc(list, func(a, b *delivery) int { return cmp.Compare(a.at, b.at) })
	for _, d := range list {
		g.end(d)
	}
	return list
}

// found takes the deliveries with these ids from whoever has them. An id that is not in flight is nobody's.
func (g *group) found(ids []uuid.UUID) []*delivery {
	var list []*delivery
	for _, id := range ids {
		if same := g.inFlight[id]; len(same) > 0 {
			list = append(list, same[0])
			g.end(same[0])
		}
	}
	return list
}

func (g *group) ack(ids []uuid.UUID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range g.found(ids) {
		g.settle(d)
	}
	g.mark(false)
	g.push()
}

// nackAction is what a consumer wants to be done with an event that it has not processed.
type nackAction int

const (
	nackRetry nackAction = iota
	nackPark
	nackSkip
)

func (g *group) nack(ids []uuid.UUID, action nackAction, reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range g.found(ids) {
		switch action {
		case nackPark:
			g.park(d, "Client explicitly NAK'ed message.\n"+reason)
		case nackSkip:
			g.settle(d)
		default:
			g.retryOrPark(d)
		}
	}
	g.mark(false)
	g.push()
}

// join adds a consumer, if there may be one more. One of a group that cannot read is connected and dropped at once.
func (g *group) join(c *consumer) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.stopped:
		return groupMissing(g.source)
	case g.maxConsumers != 0 && len(g.consumers) >= g.maxConsumers:
		return groupFull(g.source)
	case g.faulted:
		c.drop(groupDropped(g.source))
		return nil
	}
	g.consumers = append(g.consumers, c)
	g.strategy.join(c)
	return nil
}

// leave takes a consumer's events back: others get them at once, however often they have been tried.
func (g *group) leave(c *consumer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.consumers = slices.DeleteFunc(g.consumers, func(other *consumer) bool { return other == c })
	g.strategy.leave(c)
	if g.stopped {
		return
	}
	for _, d := range g.recall(func(d *delivery) bool { return d.to == c }) {
		d.retry++
		g.again(d)
	}
	g.push()
}
