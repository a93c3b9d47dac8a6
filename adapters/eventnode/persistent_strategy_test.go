package eventnode

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestStrategies(t *testing.T) {
	t.Parallel()
	serve := func(strategy string, size int, names ...string) map[string]string {
		s, _ := newStrategy(strategy)
		got := map[string]string{}
		one, two := &consumer{size: size, wake: make(chan struct{}, 1)}, &consumer{size: size, wake: make(chan struct{}, 1)}
		s.join(one)
		s.join(two)
		for _, name := range names {
			stream, id, _ := strings.Cut(name, "/")
			b := appendRecord(nil, &record{position: 64, stream: stream, typ: "T", metadata: []byte(`{"$correlationId":"` + id + `"}`)})
			e, err := open(64, b)
			if err != nil {
				t.Fatal(err)
			}
			d := &delivery{event: &e, bucket: -1}
			who := map[pushResult]string{full: "nobody", blocked: "blocked"}[s.push(d)]
			switch d.to {
			case one:
				who = "one"
			case two:
				who = "two"
			}
			got[who] += " " + name
		}
		return got
	}
	for name, row := range map[string]struct{ got, want map[string]string }{
		"round robin":           {serve(strategyRoundRobin, 2, "a", "b", "c", "d", "e"), map[string]string{"one": " a c", "two": " b d", "nobody": " e"}},
		"dispatch to single":    {serve(strategySingle, 2, "a", "b", "c", "d", "e"), map[string]string{"one": " a b", "two": " c d", "nobody": " e"}},
		"pinned":                {serve(strategyPinned, 3, "a", "b", "a", "b", "c", "a"), map[string]string{"one": " a a c", "two": " b b", "blocked": " a"}},
		"pinned by correlation": {serve(strategyCorrelation, 3, "a/1", "a/2", "b/1", "c/2"), map[string]string{"one": " a/1 b/1", "two": " a/2 c/2"}},
	} {
		if !maps.Equal(row.got, row.want) {
			t.Errorf("%s: %v, want %v", name, row.got, row.want)
		}
	}
}

// Whoever joins gets a share of the pinned streams; those of one that leaves go to the others.
func TestPinnedStreamsMove(t *testing.T) {
	t.Parallel()
	p := &pinning{key: sourceStream}
	one, two := &consumer{size: 1}, &consumer{size: 1}
	p.join(one)
	for bucket := range 10 {
		p.own(bucket, one)
		p.flying[bucket] = (bucket + 1) % 2
	}
	p.join(two)
	if one.buckets != 5 || two.buckets != 5 {
		t.Errorf("%d and %d after joining", one.buckets, two.buckets)
	}
	for bucket := range 10 {
		if busy := p.flying[bucket] > 0; busy != (p.owners[bucket] == one) {
			t.Errorf("bucket %d, of which something is in flight: %v, moved", bucket, busy)
		}
	}
	p.leave(one)
	if one.buckets != 0 || slices.Contains(p.owners[:], one) {
		t.Errorf("%d after leaving", one.buckets)
	}
}

// The values are those of the specification's own implementation.
func TestXXH32(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]uint32{"": 0x02cc5d05, "a": 0x550d7456, "abc": 0x32d153ff, "Nobody inspects the spammish repetition": 0xe2293b2f} {
		if got := xxh32([]byte(text), 0); got != want {
			t.Errorf("%q: %08x, want %08x", text, got, want)
		}
	}
}
