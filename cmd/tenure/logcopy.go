package main

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

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
	before, err := survey(from.ReadRaw(ctx, 0)) // what cannot be copied is found before anything is written
	if err != nil {
		return err
	}
	c := &copying{from: from, to: to, source: newDigest(), target: newDigest(), touched: map[string]bool{}, end: before.end,
		show: newProgress(cmd.ErrOrStderr(), "copying", time.Now)}
	if err := c.events(ctx); err != nil {
		return err
	}
	if err := c.states(ctx); err != nil {
		return err
	}
	if err := c.verify(ctx); err != nil {
		return err
	}
	if epoch.Number > 0 && begun.Number == 0 {
		if begun.Number, err = epoch.Number+1, nextEpoch(ctx, to, epoch); err != nil {
			return err
		}
	}
	fmt.Fprintf(cmd.OutOrStdout(), "copied: %d events in this run, %d in all, equal on both sides; the target's epoch is %d\n", c.show.events, c.source.events, begun.Number)
	return nil
}

// copying is a copy under way.
type copying struct {
	from, to *eventstore.Log
	source   *digest         // as far as it is read
	target   *digest         // as it was before
	touched  map[string]bool // streams that this run has written to
	end      uint64          // about where the source ends
	show     *progress

	run  []eventstore.Raw // consecutive events of one stream
	size int
}

const maxRun = 1000 // events

// events compares what the target has with the source's beginning, and copies what follows, and what the source gets
// meanwhile, run by run. One append after the other keeps the order of the whole log, which sagas and projections rely on.
func (c *copying) events(ctx context.Context) error {
	there, stop := iter.Pull2(c.target.noting(c.to.ReadRaw(ctx, 0)))
	defer stop()
	more := true // the target may have more
	for r, err := range c.from.ReadRaw(ctx, 0) {
		if err == nil {
			err = c.source.add(r)
		}
		if err != nil {
			return err
		}
		if !copied(r) {
			continue
		}
		if more {
			if more, err = c.compare(there, r); err != nil {
				return err
			}
			if more {
				continue
			}
		}
		if err := c.add(ctx, r); err != nil {
			return err
		}
	}
	if more {
		if t, err, ok := there(); err != nil {
			return err
		} else if ok {
			return notInSource(t)
		}
		c.tell()
	}
	if err := c.flush(ctx); err != nil {
		return err
	}
	c.show.end()
	return nil
}

// compare holds an event of the source against the target's next one; more is false if the target has come to its end. It
// is read to the end before anything is written.
func (c *copying) compare(there func() (eventstore.Raw, error, bool), r eventstore.Raw) (more bool, err error) {
	t, err, ok := there()
	if err != nil {
		return false, err
	}
	if !ok {
		c.tell()
		return false, nil
	}
	c.show.step(0, c.part(r))
	return true, sameEvent(c.source.events, r, t)
}

func (c *copying) tell() {
	if c.target.events > 0 {
		fmt.Fprintf(c.show.w, "the target has %d events of this copy already\n", c.target.events)
	}
}

// part is what part of the source lies before an event.
func (c *copying) part(r eventstore.Raw) float64 {
	return min(float64(r.Position)/float64(c.end), 1)
}

// add appends an event to the run, or begins the next one.
func (c *copying) add(ctx context.Context, r eventstore.Raw) error {
	if n := len(c.run); n > 0 && (c.run[0].Stream != r.Stream || n == maxRun || c.size+r.AppendSize() > eventstore.MaxAppend) {
		if err := c.flush(ctx); err != nil {
			return err
		}
	}
	c.run, c.size = append(c.run, r), c.size+r.AppendSize()
	return nil
}

func (c *copying) flush(ctx context.Context) error {
	if len(c.run) == 0 {
		return nil
	}
	first, last := c.run[0], c.run[len(c.run)-1]
	if err := c.to.AppendRaw(ctx, first.Stream, first.Revision-1, c.run); err != nil {
		return fmt.Errorf("revision %d of %s cannot be copied: %w", first.Revision, first.Stream, err)
	}
	c.touched[first.Stream] = true
	c.show.step(len(c.run), c.part(last))
	c.run, c.size = c.run[:0], 0
	return nil
}

// states gives the target's streams the metadata and tombstones of the source's.
func (c *copying) states(ctx context.Context) error {
	for _, metastream := range slices.Sorted(maps.Keys(c.source.metadata)) {
		stream, want := strings.TrimPrefix(metastream, "$$"), c.source.metadata[metastream]
		if c.source.tombstoned[stream] || !c.touched[stream] && sameMetadata(want, c.target.metadata[metastream]) {
			continue // nobody can read it any more, or it is there
		}
		if err := c.metadata(ctx, metastream, want); err != nil {
			return fmt.Errorf("the metadata of %s cannot be copied: %w", stream, err)
		}
	}
	for _, stream := range slices.Sorted(maps.Keys(c.source.tombstoned)) {
		if !c.target.tombstoned[stream] {
			if err := c.to.Tombstone(ctx, stream); err != nil {
				return fmt.Errorf("the deletion of %s cannot be copied: %w", stream, err)
			}
		}
	}
	return nil
}

// metadata writes a stream's metadata, unless it is there. What is written to the metadata of a deleted stream brings it
// back, with metadata of the server's own behind ours; so ours is then written once more.
func (c *copying) metadata(ctx context.Context, metastream string, want eventstore.Raw) error {
	for range 3 {
		have := eventstore.Raw{Revision: domain.NoStream}
		for r, err := range c.to.ReadRawBackwards(ctx, metastream) {
			if err != nil {
				return err
			}
			have = r
			break
		}
		if sameMetadata(want, have) {
			return nil
		}
		if err := c.to.AppendRaw(ctx, metastream, have.Revision, []eventstore.Raw{want}); err != nil {
			return err
		}
	}
	return nil // whether it is there now is seen when both sides are compared
}

// verify reads the target as it is now and compares it with what was read of the source, which must not have grown.
func (c *copying) verify(ctx context.Context) error {
	target, show := newDigest(), newProgress(c.show.w, "comparing", time.Now)
	for _, err := range target.noting(c.to.ReadRaw(ctx, 0)) {
		if err != nil {
			return err
		}
		show.step(1, min(float64(target.events)/float64(c.source.events), 1))
	}
	if err := sameEvents(ctx, c.from, c.to, c.source, target); err != nil {
		return err
	}
	if err := sameStates(c.source, target); err != nil {
		return err
	}
	show.end()
	for r, err := range c.from.ReadRaw(ctx, c.source.end) {
		if err != nil {
			return err
		}
		if newDigest().note(r) {
			return coded(domain.CodeConflict, "the source has grown while it was compared: stop its writers, and copy again")
		}
	}
	return nil
}
