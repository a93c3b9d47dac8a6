package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"iter"
	"maps"
	"math"
	"strings"

	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/domain"
)

// copied says whether an event is copied as it is. Metadata and tombstones come at the end, lest they hide or refuse what
// is still to be copied; the event store's own streams and the epochs do not come at all.
func copied(r eventstore.Raw) bool {
	return !strings.HasPrefix(r.Stream, "$") && r.Stream != domain.EpochStream && r.Revision != math.MaxInt64
}

// digest is what a log comes to, as far as it is copied.
type digest struct {
	events     int64                     // that are copied
	sum        hash.Hash                 // of them, in their order
	metadata   map[string]eventstore.Raw // the last event of each metastream, by its name
	tombstoned map[string]bool
	next       map[string]int64 // the revision that follows in each stream
	end        uint64           // position of the last event, of whatever stream
	text       []byte
}

func newDigest() *digest {
	return &digest{sum: sha256.New(), metadata: map[string]eventstore.Raw{}, tombstoned: map[string]bool{}, next: map[string]int64{}}
}

// note takes an event in, and tells whether the copy shows it in any way.
func (d *digest) note(r eventstore.Raw) bool {
	d.end = r.Position
	original, isMetadata := strings.CutPrefix(r.Stream, "$$")
	switch {
	case isMetadata && !strings.HasPrefix(original, "$") && original != domain.EpochStream:
		if d.metadata[r.Stream] = r; r.Revision == math.MaxInt64 {
			delete(d.metadata, r.Stream)
		}
	case r.Revision == math.MaxInt64 && !strings.HasPrefix(r.Stream, "$"):
		d.tombstoned[r.Stream] = true
	case copied(r):
		d.events++
		d.next[r.Stream] = r.Revision + 1
		d.text = appendContent(d.text[:0], r)
		_, _ = d.sum.Write(d.text) // never fails
	default:
		return false
	}
	return true
}

// add is note for a log that is to be copied. It refuses a stream whose revisions have a gap: they could not be kept.
func (d *digest) add(r eventstore.Raw) error {
	if next := d.next[r.Stream]; copied(r) && r.Revision != next {
		return coded(domain.CodeNotAllowed, "stream %s lacks revision %d, so its revisions cannot be kept: it has been scavenged; use log backup and log restore",
			r.Stream, next)
	}
	d.note(r)
	return nil
}

// appendContent appends all of an event that a copy keeps, so that different events have different texts.
func appendContent(b []byte, r eventstore.Raw) []byte {
	b = binary.BigEndian.AppendUint64(append(b, r.ID[:]...), uint64(r.Revision))
	for _, part := range [][]byte{[]byte(r.Stream), []byte(r.Type), r.Data, r.Metadata} {
		b = append(binary.AppendUvarint(b, uint64(len(part))), part...)
	}
	if r.JSON {
		return append(b, 1)
	}
	return append(b, 0)
}

// survey reads a log that is to be copied.
func survey(events iter.Seq2[eventstore.Raw, error]) (*digest, error) {
	d := newDigest()
	for r, err := range events {
		if err == nil {
			err = d.add(r)
		}
		if err != nil {
			return nil, err
		}
	}
	return d, nil
}

// noting yields the events that a copy has as they are, and notes all.
func (d *digest) noting(events iter.Seq2[eventstore.Raw, error]) iter.Seq2[eventstore.Raw, error] {
	return func(yield func(eventstore.Raw, error) bool) {
		for r, err := range events {
			if err == nil {
				d.note(r)
			}
			if (err != nil || copied(r)) && !yield(r, err) {
				return
			}
		}
	}
}

// sameEvents compares what was read of the source with the target, which was read after the last write. Where they are not
// equal both are read again, to say in what.
func sameEvents(ctx context.Context, from, to *eventstore.Log, source, target *digest) error {
	if source.events == target.events && bytes.Equal(source.sum.Sum(nil), target.sum.Sum(nil)) {
		return nil
	}
	there, stop := iter.Pull2(newDigest().noting(to.ReadRaw(ctx, 0)))
	defer stop()
	n := int64(0)
	for s, err := range newDigest().noting(from.ReadRaw(ctx, 0)) {
		if err != nil {
			return err
		}
		t, err, ok := there()
		switch {
		case err != nil:
			return err
		case !ok:
			return coded(domain.CodeConflict, "the target has %d events of the copy, and the source has more: start the copy again", n)
		}
		if err := sameEvent(n+1, s, t); err != nil {
			return err
		}
		n++
	}
	if t, err, ok := there(); ok || err != nil {
		if err != nil {
			return err
		}
		return notInSource(t)
	}
	return coded(domain.CodeConflict, "the source is not as it was read before: start the copy again")
}

// sameEvent refuses the n-th event of a target if it is not the source's.
func sameEvent(n int64, s, t eventstore.Raw) error {
	what := difference(s, t)
	if what == "" {
		return nil
	}
	return coded(domain.CodeConflict, "the target is no copy of the source: event %d of the source is revision %d of %s, %s, and the target's differs in its %s (revision %d of %s, %s)",
		n, s.Revision, s.Stream, s.ID, what, t.Revision, t.Stream, t.ID)
}

func notInSource(t eventstore.Raw) error {
	return coded(domain.CodeConflict, "the target has an event that the source does not have: revision %d of %s, %s", t.Revision, t.Stream, t.ID)
}

// difference names what two events differ in, but for position and time of creation; empty if nothing.
func difference(s, t eventstore.Raw) string {
	for _, part := range []struct {
		same bool
		name string
	}{
		{s.Stream == t.Stream, "stream"}, {s.Revision == t.Revision, "revision"}, {s.ID == t.ID, "id"}, {s.Type == t.Type, "type"},
		{s.JSON == t.JSON, "content type"}, {bytes.Equal(s.Data, t.Data), "data"}, {bytes.Equal(s.Metadata, t.Metadata), "metadata"},
	} {
		if !part.same {
			return part.name
		}
	}
	return ""
}

func sameMetadata(a, b eventstore.Raw) bool {
	return a.Stream == b.Stream && a.JSON == b.JSON && bytes.Equal(a.Data, b.Data) && bytes.Equal(a.Metadata, b.Metadata)
}

// sameStates compares the metadata and the tombstones of both sides. Nobody can read the metadata of a tombstoned stream.
func sameStates(source, target *digest) error {
	for stream := range source.tombstoned {
		delete(source.metadata, "$$"+stream)
		delete(target.metadata, "$$"+stream)
	}
	if !maps.Equal(source.tombstoned, target.tombstoned) || !maps.EqualFunc(source.metadata, target.metadata, sameMetadata) {
		return coded(domain.CodeConflict, "the metadata or deletions of the target's streams are not the source's: start the copy again")
	}
	return nil
}
