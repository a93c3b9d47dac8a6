package eventnode

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// When the log moves on faster than its events are offered, the groups read what they have missed.
func TestGroupReadsWhatItWasNotOffered(t *testing.T) {
	t.Parallel()
	r, rs := startRig(t, &rig{fs: vfs.NewMem(), ring: 8}), readers{}
	creating()(r)
	g, err := r.node.persistent.find(source{"s", "g"})
	if err != nil {
		t.Fatal(err)
	}
	const events = 100
	g.mu.Lock() // the first offer waits here
	for i := range events {
		appending("s", expectAny, fmt.Sprint(i))(r)
	}
	g.mu.Unlock()
	rs.connecting("x", "s", events)(r)
	for i := range events {
		if got := rs.getting("x", 1)(r); got != fmt.Sprint(i) {
			t.Fatalf("event %d: %s", i, got)
		}
	}
}

// A group that has read up to where the log was, while later events were offered already, has to read on.
func TestGroupIsLiveOnlyBehindWhatIsOffered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	creating()(r)
	g, err := r.node.persistent.find(source{"s", "g"})
	if err != nil {
		t.Fatal(err)
	}
	r.quiet()
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.p.at.Load()
	for watermark, want := range map[uint64]bool{at - 1: false, at: true, at + 1: true} {
		g.live, g.reading = false, true // as while a page is read
		g.entered(nil, true, watermark)
		if g.live != want {
			t.Errorf("live is %v, having read to %d with %d offered", g.live, watermark, at)
		}
	}
	g.live, g.reading = true, false
}
