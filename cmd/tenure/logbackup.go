package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tenure-dev/tenure/adapters/archive"
	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/domain"
)

func logBackupCommand() *cobra.Command {
	c := &cobra.Command{Use: "backup DIR", Short: "Back the whole log up while it runs",
		Long: "Writes every event up to the log's present end into DIR, the event store's own included. Where DIR holds a backup of the\n" +
			"same log, only what has come since is added. A run that is cut off leaves the backup as it was before. Only one run at\n" +
			"a time may write to DIR.",
		Args: cobra.ExactArgs(1), RunE: runLogBackup}
	addEventStore(c.Flags())
	return c
}

func logVerifyCommand() *cobra.Command {
	return &cobra.Command{Use: "verify BACKUP", Short: "Check a backup, every byte of it",
		Long: "Reads a backup and finds whatever is damaged, cut, missing, exchanged or added. The error names the file, and the\n" +
			"positions that it holds. What a run that was cut off has left beside the backup is named, and is no damage.",
		Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			m, err := verified(cmd, args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "verified: %d events in %d segments, up to position %d, epoch %d\n", m.Events, len(m.Segments), m.Last.Position, m.Epoch.Number)
			return nil
		}}
}

// verified checks a whole backup, and names what lies beside it.
func verified(cmd *cobra.Command, dir string) (archive.Manifest, error) {
	m, leftovers, err := archive.Verify(dir)
	if len(leftovers) > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "no part of the backup, but of a run that was cut off or is under way: %s\n", strings.Join(leftovers, ", "))
	}
	if err != nil {
		return m, badBackup(err)
	}
	return m, nil
}

func badBackup(err error) error { return coded(domain.CodeInvalid, "%s", err) }

func runLogBackup(cmd *cobra.Command, args []string) error {
	return withLog(cmd, func(ctx context.Context, log *eventstore.Log) error {
		w, err := archive.Append(args[0], 0)
		if errors.Is(err, archive.ErrInUse) {
			return taken("%s", err)
		}
		if err != nil {
			return badBackup(err)
		}
		defer w.Abandon()
		before := w.Manifest()
		epoch, err := log.LastEpoch(ctx)
		if err != nil {
			return err
		}
		if err := sameLog(ctx, log, before, epoch, args[0]); err != nil {
			return err
		}
		after, err := backUp(ctx, cmd, log, w, epoch)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "backed up: %d events added, %d in all, up to position %d\n", after.Events-before.Events, after.Events, after.Last.Position)
		return nil
	})
}

// sameLog refuses to go on with the backup of another log, or of another epoch of this one.
func sameLog(ctx context.Context, log *eventstore.Log, m archive.Manifest, epoch domain.Epoch, dir string) error {
	if m.Last.Position == 0 {
		return nil
	}
	if m.Epoch != archive.Epoch(epoch) {
		return coded(domain.CodeConflict, "%s is the backup of a log in epoch %d (%s), and this log's is %d (%s): back up into another directory",
			dir, m.Epoch.Number, m.Epoch.ID, epoch.Number, epoch.ID)
	}
	at, found, err := log.RawAt(ctx, m.Last.Position)
	if err != nil || found && at.ID == m.Last.ID {
		return err
	}
	return coded(domain.CodeConflict, "%s ends with the event %s at position %d, which this log does not have: back up into another directory",
		dir, m.Last.ID, m.Last.Position)
}

func backUp(ctx context.Context, cmd *cobra.Command, log *eventstore.Log, w *archive.Writer, epoch domain.Epoch) (m archive.Manifest, err error) {
	last := w.Manifest().Last
	after := last.Position
	head, err := log.Head(ctx)
	if err != nil {
		return m, err
	}
	hidden, err := hiddenEvents(ctx, cmd, log, after, head)
	if err != nil {
		return m, err
	}
	show := newProgress(cmd.ErrOrStderr(), "backing up", time.Now)
	for r, err := range log.ReadRaw(ctx, after) {
		if err != nil {
			return m, err
		}
		if r.Position > head {
			break
		}
		for ; len(hidden) > 0 && hidden[0].Position < r.Position; hidden = hidden[1:] {
			if err := w.Add(archive.Record(hidden[0])); err != nil {
				return m, err
			}
		}
		if err := w.Add(archive.Record(r)); err != nil {
			return m, err
		}
		last = archive.Last{Position: r.Position, ID: r.ID}
		show.step(1, float64(r.Position-after)/float64(max(head-after, 1)))
	}
	show.end()
	return w.Finish(archive.Epoch(epoch), last)
}

// hiddenEvents are those that $all leaves out: the bookkeeping of persistent subscriptions to $all. Who may not read it
// backs up without.
func hiddenEvents(ctx context.Context, cmd *cobra.Command, log *eventstore.Log, after, head uint64) (events []eventstore.Raw, err error) {
	groups, err := groupsOfAll(log.ReadRawBackwards(ctx, "$persistentSubscriptionConfig"))
	if domain.CodeOf(err) == domain.CodeInternal {
		fmt.Fprintf(cmd.ErrOrStderr(), "the progress of persistent subscriptions to $all is left out: %s\n", err)
		return nil, nil
	}
	for _, group := range groups {
		for _, end := range []string{"-checkpoint", "-parked"} {
			for r, err := range log.ReadRawBackwards(ctx, "$persistentsubscription-$all::"+group+end) {
				if err != nil {
					return nil, err
				}
				if r.Position <= after {
					break
				}
				if r.Position <= head {
					events = append(events, r)
				}
			}
		}
	}
	slices.SortFunc(events, func(a, b eventstore.Raw) int { return cmp.Compare(a.Position, b.Position) })
	return events, err
}

// groupsOfAll are the groups that the last event of the server's configuration names.
func groupsOfAll(configs iter.Seq2[eventstore.Raw, error]) (groups []string, err error) {
	for r, err := range configs {
		var config struct {
			Entries []struct{ Stream, Group string }
		}
		if err != nil || json.Unmarshal(r.Data, &config) != nil {
			return nil, err
		}
		for _, e := range config.Entries {
			if e.Stream == allStream {
				groups = append(groups, e.Group)
			}
		}
		break
	}
	return groups, nil
}
