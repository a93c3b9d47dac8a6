package main

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/domain"
)

func logCopyCommand() *cobra.Command {
	c := &cobra.Command{Use: "copy", Short: "Copy the history from one event store to another",
		Long: "Copies every event to an event store that has none of ours, in the same order, with id, type, data, metadata, stream and\n" +
			"revision. Positions and times of creation are the target's. Stop the writers first. A copy that was cut off goes on\n" +
			"when it is started again. At the end both sides are read and compared, and the target begins the next epoch.",
		Args: cobra.NoArgs, RunE: runLogCopy}
	c.Flags().String("from", "", "address of the event store to copy from, such as esdb://127.0.0.1:2113?tls=false")
	c.Flags().String("to", "", "address of the event store to copy to")
	return c
}

func runLogCopy(cmd *cobra.Command, _ []string) error {
	for _, flag := range []string{"from", "to"} {
		if text(cmd, flag) == "" {
			return usage("--%s is missing", flag)
		}
	}
	return withLogAt(cmd, "--from", text(cmd, "from"), func(ctx context.Context, from *eventstore.Log) error {
		return withLogAt(cmd, "--to", text(cmd, "to"), func(ctx context.Context, to *eventstore.Log) error {
			return copyLog(ctx, cmd, from, to)
		})
	})
}

func copyLog(ctx context.Context, cmd *cobra.Command, from, to *eventstore.Log) error {
	epoch, err := from.LastEpoch(ctx)
	if err != nil {
		return err
	}
	begun, err := to.LastEpoch(ctx)
	if err != nil {
		return err
	}
	if begun.Number != 0 && begun.Number != epoch.Number+1 {
		return coded(domain.CodeConflict, "the target is a log of its own, in epoch %d: copy to an empty event store", begun.Number)
	}
	source, err := survey(from.ReadRaw(ctx, 0))
	if err != nil {
		return err
	}
	c := &copying{to: to, source: source, show: newProgress(cmd.ErrOrStderr(), "copying")}
	done, err := lockstep(ctx, from, to)
	if err != nil {
		return err
	}
	if c.show.step(0, 0); done.events > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "the target has %d events of this copy already\n", done.events)
	}
	if err := c.events(ctx, from.ReadRaw(ctx, done.position)); err != nil {
		return err
	}
	c.show.end()
	if err := c.states(ctx); err != nil {
		return err
	}
	if epoch.Number > 0 && begun.Number == 0 {
		if begun.Number, err = epoch.Number+1, nextEpoch(ctx, to, epoch); err != nil {
			return err
		}
	}
	same, err := lockstep(ctx, from, to)
	if err != nil {
		return err
	}
	if same.more {
		return coded(domain.CodeConflict, "the source has grown while it was compared: stop its writers, and copy again")
	}
	if err := sameStates(ctx, from, to); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "copied: %d events in this run, %d in all, equal on both sides; the target's epoch is %d\n", c.show.events, same.events, begun.Number)
	return nil
}

// copied says whether an event is copied as it is. Metadata and tombstones come at the end, lest they hide or refuse what
// is still to be copied; the event store's own streams and the epochs do not come at all.
func copied(r eventstore.Raw) bool {
	return !strings.HasPrefix(r.Stream, "$") && r.Stream != domain.EpochStream && r.Revision != math.MaxInt64
}

// states is what the streams of a log have come to, apart from their events.
type states struct {
	next       map[string]int64          // the revision that follows
	metadata   map[string]eventstore.Raw // the last event of each metastream, by its name
	tombstoned map[string]bool
	end        uint64
}

func newStates() *states {
	return &states{map[string]int64{}, map[string]eventstore.Raw{}, map[string]bool{}, 0}
}

// add takes an event in. It refuses a stream whose revisions have a gap: they could not be kept.
func (s *states) add(r eventstore.Raw) error {
	s.end = r.Position
	original, isMetadata := strings.CutPrefix(r.Stream, "$$")
	switch {
	case isMetadata && !strings.HasPrefix(original, "$") && original != domain.EpochStream:
		if s.metadata[r.Stream] = r; r.Revision == math.MaxInt64 {
			delete(s.metadata, r.Stream)
		}
	case r.Revision == math.MaxInt64 && !strings.HasPrefix(r.Stream, "$"):
		s.tombstoned[r.Stream] = true
	case copied(r):
		if r.Revision != s.next[r.Stream] {
			return coded(domain.CodeNotAllowed, "stream %s lacks revision %d, so its revisions cannot be kept: it has been scavenged; use log backup and log restore",
				r.Stream, s.next[r.Stream])
		}
		s.next[r.Stream]++
	}
	return nil
}

func survey(events iter.Seq2[eventstore.Raw, error]) (*states, error) {
	s := newStates()
	for r, err := range events {
		if err == nil {
			err = s.add(r)
		}
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// agreement is how far two logs are equal.
type agreement struct {
	events   int64
	position uint64 // of the last equal event in the source
	more     bool   // the source goes on
}

// lockstep reads both logs side by side. The target may end before the source; any difference is an error that names it.
func lockstep(ctx context.Context, from, to *eventstore.Log) (a agreement, err error) {
	source, stop := iter.Pull2(only(from.ReadRaw(ctx, 0)))
	defer stop()
	for t, err := range only(to.ReadRaw(ctx, 0)) {
		if err != nil {
			return a, err
		}
		s, err, ok := source()
		if err != nil {
			return a, err
		}
		if !ok {
			return a, coded(domain.CodeConflict, "the target has an event that the source does not have: revision %d of %s, %s", t.Revision, t.Stream, t.ID)
		}
		if what := difference(s, t); what != "" {
			return a, coded(domain.CodeConflict, "the target is no copy of the source: event %d of the source is revision %d of %s, %s, and the target's differs in its %s (revision %d of %s, %s)",
				a.events+1, s.Revision, s.Stream, s.ID, what, t.Revision, t.Stream, t.ID)
		}
		a.events, a.position = a.events+1, s.Position
	}
	_, err, a.more = source()
	return a, err
}

func only(events iter.Seq2[eventstore.Raw, error]) iter.Seq2[eventstore.Raw, error] {
	return func(yield func(eventstore.Raw, error) bool) {
		for r, err := range events {
			if (err != nil || copied(r)) && !yield(r, err) {
				return
			}
		}
	}
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

// copying is a copy under way.
type copying struct {
	to     *eventstore.Log
	source *states
	show   *progress
	run    []eventstore.Raw // consecutive events of one stream
	size   int
}

const maxRun = 1000 // events

// events copies what follows, and what the source gets meanwhile, run by run.
func (c *copying) events(ctx context.Context, events iter.Seq2[eventstore.Raw, error]) error {
	for r, err := range events {
		if err != nil {
			return err
		}
		if r.Position > c.source.end { // it came after the survey
			if err := c.source.add(r); err != nil {
				return err
			}
		}
		if !copied(r) {
			continue
		}
		if n := len(c.run); n > 0 && (c.run[0].Stream != r.Stream || n == maxRun || c.size+r.AppendSize() > eventstore.MaxAppend) {
			if err := c.flush(ctx); err != nil {
				return err
			}
		}
		c.run, c.size = append(c.run, r), c.size+r.AppendSize()
	}
	return c.flush(ctx)
}

func (c *copying) flush(ctx context.Context) error {
	if len(c.run) == 0 {
		return nil
	}
	first, last := c.run[0], c.run[len(c.run)-1]
	if err := c.to.AppendRaw(ctx, first.Stream, first.Revision-1, c.run); err != nil {
		return fmt.Errorf("revision %d of %s cannot be copied: %w", first.Revision, first.Stream, err)
	}
	c.show.step(len(c.run), float64(last.Position)/float64(c.source.end))
	c.run, c.size = c.run[:0], 0
	return nil
}

// states gives the target's streams the metadata and tombstones of the source's.
func (c *copying) states(ctx context.Context) error {
	target, err := survey(c.to.ReadRaw(ctx, 0))
	if err != nil {
		return err
	}
	for _, metastream := range slices.Sorted(maps.Keys(c.source.metadata)) {
		want, have := c.source.metadata[metastream], target.metadata[metastream]
		if c.source.tombstoned[strings.TrimPrefix(metastream, "$$")] {
			continue // nobody can read it any more
		}
		// What is written to the metadata of a deleted stream brings it back, with metadata of the server's own behind ours.
		for tries := 0; !sameMetadata(want, have) && tries < 3; tries++ {
			expected := have.Revision
			if have.Stream == "" {
				expected = domain.NoStream
			}
			if err := c.to.AppendRaw(ctx, metastream, expected, []eventstore.Raw{want}); err != nil {
				return fmt.Errorf("the metadata of %s cannot be copied: %w", metastream[2:], err)
			}
			for have, err = range c.to.ReadRawBackwards(ctx, metastream) {
				if err != nil {
					return err
				}
				break
			}
		}
	}
	for _, stream := range slices.Sorted(maps.Keys(c.source.tombstoned)) {
		if !target.tombstoned[stream] {
			if err := c.to.Tombstone(ctx, stream); err != nil {
				return fmt.Errorf("the deletion of %s cannot be copied: %w", stream, err)
			}
		}
	}
	return nil
}

func sameMetadata(a, b eventstore.Raw) bool {
	return a.Stream == b.Stream && a.JSON == b.JSON && bytes.Equal(a.Data, b.Data) && bytes.Equal(a.Metadata, b.Metadata)
}

// sameStates compares the metadata and the tombstones of both sides.
func sameStates(ctx context.Context, from, to *eventstore.Log) error {
	source, err := survey(from.ReadRaw(ctx, 0))
	if err != nil {
		return err
	}
	target, err := survey(to.ReadRaw(ctx, 0))
	if err != nil {
		return err
	}
	for stream := range source.tombstoned {
		delete(source.metadata, "$$"+stream)
		delete(target.metadata, "$$"+stream)
	}
	if !maps.Equal(source.tombstoned, target.tombstoned) || !maps.EqualFunc(source.metadata, target.metadata, sameMetadata) {
		return coded(domain.CodeConflict, "the metadata or deletions of the target's streams are not the source's: start the copy again")
	}
	return nil
}
