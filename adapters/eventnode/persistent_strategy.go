package eventnode

import (
	"encoding/binary"
	"encoding/json"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf16"
)

// The ways in which a group spreads its events over its consumers.
const (
	strategySingle      = "DispatchToSingle"
	strategyRoundRobin  = "RoundRobin"
	strategyPinned      = "Pinned"
	strategyCorrelation = "PinnedByCorrelation"
)

type pushResult int

const (
	sent    pushResult = iota
	blocked            // the one who has to get it is busy; others may go on
	full               // nobody takes any more
)

// strategy picks the consumer of an event. A group asks it with its lock held.
type strategy interface {
	join(*consumer)
	leave(*consumer)
	// push gives the event to a consumer, if it may have one more.
	push(*delivery) pushResult
	// ended: the consumer of a delivery has it no more.
	ended(*delivery)
}

// newStrategy reports false for a name that is none.
func newStrategy(name string) (strategy, bool) {
	switch name {
	case strategySingle:
		return &rotation{sticky: true}, true
	case strategyRoundRobin:
		return &rotation{}, true
	case strategyPinned:
		return &pinning{key: sourceStream}, true
	case strategyCorrelation:
		return &pinning{key: correlation}, true
	}
	return nil, false
}

// rotation gives each event to the next consumer that has room or, if sticky, stays with one for as long as it has.
type rotation struct {
	sticky    bool
	consumers []*consumer
}

func (r *rotation) join(c *consumer) { r.consumers = append(r.consumers, c) }

func (r *rotation) leave(c *consumer) {
	r.consumers = slices.DeleteFunc(r.consumers, func(other *consumer) bool { return other == c })
}

func (r *rotation) ended(*delivery) {}

func (r *rotation) push(d *delivery) pushResult {
	for range r.consumers {
		c := r.consumers[0]
		taken := c.take(d)
		if !taken || !r.sticky {
			r.consumers = append(r.consumers[1:], c)
		}
		if taken {
			return sent
		}
	}
	return full
}

// pinning keeps events of one key with one consumer, as long as that stays. Keys share buckets, and buckets have owners.
type pinning struct {
	key       func(*delivery) string
	consumers []*consumer
	owners    [pinBuckets]*consumer
	flying    [pinBuckets]int // deliveries that the owners have
}

const (
	pinBuckets        = 1024
	pinSeed    uint32 = 0xc58f1a7b
)

// join hands the newcomer its share of the buckets that have owners, first those of which nothing is in flight.
func (p *pinning) join(c *consumer) {
	p.consumers = append(p.consumers, c)
	owned, share := 0, 0
	for _, other := range p.consumers {
		owned += other.buckets
	}
	share = (owned + len(p.consumers) - 1) / len(p.consumers)
	var buckets []int
	for i, owner := range p.owners {
		if owner != nil {
			buckets = append(buckets, i)
		}
	}
	slices.SortStableFunc(buckets, func(a, b int) int { return p.flying[a] - p.flying[b] })
	for _, i := range buckets {
		if p.owners[i].buckets > share {
			p.own(i, c)
		}
	}
}

func (p *pinning) leave(c *consumer) {
	p.consumers = slices.DeleteFunc(p.consumers, func(other *consumer) bool { return other == c })
	for i, owner := range p.owners {
		if owner == c {
			p.own(i, nil)
			p.flying[i] = 0
		}
	}
}

func (p *pinning) own(bucket int, c *consumer) {
	if owner := p.owners[bucket]; owner != nil {
		owner.buckets--
	}
	if p.owners[bucket] = c; c != nil {
		c.buckets++
	}
}

func (p *pinning) push(d *delivery) pushResult {
	if !slices.ContainsFunc(p.consumers, (*consumer).hasRoom) {
		return full
	}
	if d.bucket < 0 {
		d.bucket = int(xxh32(utf16Bytes(p.key(d)), pinSeed) % pinBuckets)
	}
	if p.owners[d.bucket] == nil {
		fewest := slices.MinFunc(p.consumers, func(a, b *consumer) int { return a.buckets - b.buckets })
		p.own(d.bucket, fewest)
	}
	if !p.owners[d.bucket].take(d) {
		return blocked
	}
	p.flying[d.bucket]++
	return sent
}

func (p *pinning) ended(d *delivery) {
	if p.owners[d.bucket] == d.to {
		p.flying[d.bucket]--
	}
}

// sourceStream is the stream that an event was first written to. A link that could not be followed names it.
func sourceStream(d *delivery) string {
	e := d.source()
	if e.is(flagLink) {
		if _, stream, ok := strings.Cut(string(e.data), "@"); ok {
			return stream
		}
		return string(e.data)
	}
	return string(e.stream)
}

func correlation(d *delivery) string {
	var members map[string]json.RawMessage
	var id string
	if json.Unmarshal(message(d.source().recorded).bytes(recordedCustom), &members) != nil ||
		json.Unmarshal(members["$correlationId"], &id) != nil || id == "" {
		return sourceStream(d)
	}
	return id
}

func utf16Bytes(s string) []byte {
	var b []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return b
}

// xxh32 is the 32-bit xxHash, as its specification has it. A real server pins by it, so the same streams meet in a bucket.
func xxh32(b []byte, seed uint32) uint32 {
	const p1, p2, p3, p4, p5 uint32 = 2654435761, 2246822519, 3266489917, 668265263, 374761393
	round := func(v uint32, b []byte) uint32 {
		return bits.RotateLeft32(v+binary.LittleEndian.Uint32(b)*p2, 13) * p1
	}
	h, n := seed+p5, uint32(len(b))
	if len(b) >= 16 {
		v1, v2, v3, v4 := seed, seed, seed, seed
		v1 += p1
		v1 += p2
		v2 += p2
		v4 -= p1
		for ; len(b) >= 16; b = b[16:] {
			v1, v2, v3, v4 = round(v1, b), round(v2, b[4:]), round(v3, b[8:]), round(v4, b[12:])
		}
		h = bits.RotateLeft32(v1, 1) + bits.RotateLeft32(v2, 7) + bits.RotateLeft32(v3, 12) + bits.RotateLeft32(v4, 18)
	}
	h += n
	for ; len(b) >= 4; b = b[4:] {
		h = bits.RotateLeft32(h+binary.LittleEndian.Uint32(b)*p3, 17) * p4
	}
	for _, c := range b {
		h = bits.RotateLeft32(h+uint32(c)*p5, 11) * p1
	}
	h = (h ^ h>>15) * p2
	h = (h ^ h>>13) * p3
	return h ^ h>>16
}
