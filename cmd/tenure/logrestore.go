package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tenure-dev/tenure/adapters/archive"
	"github.com/tenure-dev/tenure/adapters/eventnode"
	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/domain"
)

func logRestoreCommand() *cobra.Command {
	c := &cobra.Command{Use: "restore BACKUP", Short: "Make an embedded event store's log from a backup",
		Long: "Checks the whole backup, then writes the log that it holds to DIR/log, where there must be none, with every position,\n" +
			"revision, id and time as it was. The log goes on in its next epoch, so a read side that was made from the log before is\n" +
			"refused: delete DIR/readside, or point to an empty database, before the first start.",
		Args: cobra.ExactArgs(1), RunE: runLogRestore}
	addData(c.Flags(), "directory of the system to be; the log is in its directory log")
	return c
}

func runLogRestore(cmd *cobra.Command, args []string) error {
	data := text(cmd, "data")
	log := nodeDir(data)
	entries, err := os.ReadDir(log)
	switch {
	case err == nil && len(entries) > 0:
		return taken("--data: there is a log in %s already", log)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return usage("--data: %s", err)
	}
	m, err := archive.Verify(args[0])
	if err != nil {
		return badBackup(err)
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return usage("--data: %s", err)
	}
	building := log + ".restoring"
	if err := os.RemoveAll(building); err != nil {
		return err
	}
	if err := restore(cmd, args[0], m, building); err != nil {
		return errors.Join(err, os.RemoveAll(building))
	}
	if err := os.Rename(building, log); err != nil { // an empty directory may be in its place
		return err
	}
	if err := archive.SyncDir(data); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "restored: %d events, up to position %d, into %s\n", m.Events, m.Last.Position, log)
	if m.Epoch.Number > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "the log is in epoch %d now: before the first start delete %s/readside, or give an empty database\n", m.Epoch.Number+1, data)
	}
	return nil
}

// restore builds the log in a directory that is not there.
func restore(cmd *cobra.Command, backup string, m archive.Manifest, dir string) error {
	show, done := newProgress(cmd.ErrOrStderr(), "restoring"), int64(0)
	err := eventnode.Import(dir, func(yield func(eventnode.Record, error) bool) {
		for r, err := range archive.Records(backup, m) {
			if err == nil {
				err = cmd.Context().Err()
			}
			if !yield(eventnode.Record(r), err) {
				return
			}
			done++
			show.step(1, float64(done)/float64(m.Events))
		}
	})
	if err != nil {
		return err
	}
	show.end()
	if m.Epoch.Number == 0 {
		return nil
	}
	return raiseEpoch(cmd.Context(), dir, m.Epoch)
}

// raiseEpoch opens a log for a moment and begins the epoch after the one that the backup is from.
func raiseEpoch(ctx context.Context, dir string, from archive.Epoch) (err error) {
	node, err := eventnode.Open(eventnode.Options{Dir: dir, Addr: "127.0.0.1:0", Now: time.Now})
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- node.Serve() }()
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, node.Close(end), <-served)
	}()
	log, err := eventstore.Open(ctx, eventstore.Config{URL: nodeURL(node.Addr(), false)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close(context.WithoutCancel(ctx))) }()
	known, err := log.LastEpoch(ctx)
	if err != nil {
		return err
	}
	if archive.Epoch(known) != from {
		return coded(domain.CodeInvalid, "the backup's manifest says epoch %d (%s), and its events say %d (%s)", from.Number, from.ID, known.Number, known.ID)
	}
	return nextEpoch(ctx, log, known)
}

// nextEpoch begins the epoch behind one, with an id that nobody has had.
func nextEpoch(ctx context.Context, log *eventstore.Log, known domain.Epoch) error {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails
	return log.BeginEpoch(ctx, domain.Epoch{Number: known.Number + 1, ID: hex.EncodeToString(random)}, time.Now())
}
