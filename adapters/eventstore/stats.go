package eventstore

import "sync/atomic"

// Stats counts what has gone wrong with a Log's connections since Open. The client's own leaks never come about, as its way to
// reconnect is never taken; Abandoned is what could be left behind none the less.
type Stats struct {
	Connected    uint64 // clients that found a node; the first two belong to Open
	Retired      uint64 // clients given up
	Resubscribed uint64 // subscriptions begun again after a drop
	TimedOut     uint64 // calls that got no answer in time
	Abandoned    uint64 // calls still under way in a client when it had to be closed: they may never end
}

// counters are Stats of one link, kept.
type counters struct{ connected, retired, resubscribed, timedOut, abandoned atomic.Uint64 }

// Stats gives the counts so far.
func (l *Log) Stats() (s Stats) {
	for _, c := range []*counters{&l.calls.counters, &l.feeds.counters} {
		s.Connected += c.connected.Load()
		s.Retired += c.retired.Load()
		s.Resubscribed += c.resubscribed.Load()
		s.TimedOut += c.timedOut.Load()
		s.Abandoned += c.abandoned.Load()
	}
	return s
}
