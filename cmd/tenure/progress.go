package main

import (
	"fmt"
	"io"
	"time"
)

// progress says on standard error how far a long command has come, once a second.
type progress struct {
	w      io.Writer
	doing  string
	now    func() time.Time
	begun  time.Time
	shown  time.Time
	events int64
}

func newProgress(w io.Writer, doing string, now func() time.Time) *progress {
	begun := now()
	return &progress{w: w, doing: doing, now: now, begun: begun, shown: begun}
}

// step counts events; done is what part of the whole is behind, from 0 to 1.
func (p *progress) step(events int, done float64) {
	p.events += int64(events)
	if now := p.now(); now.Sub(p.shown) >= time.Second {
		p.shown = now
		fmt.Fprintf(p.w, "%s: %d events, %.0f %%, %.0f events/s\n", p.doing, p.events, 100*done, p.rate())
	}
}

// end says the total.
func (p *progress) end() {
	fmt.Fprintf(p.w, "%s: %d events, %.0f events/s\n", p.doing, p.events, p.rate())
}

func (p *progress) rate() float64 {
	return float64(p.events) / max(p.now().Sub(p.begun).Seconds(), 1e-3)
}
