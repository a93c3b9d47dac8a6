package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
			"revision, id and time as it was; users who are there stay. The log goes on in its next\n" +
			"epoch, so a read side that was made from the log before is refused: delete DIR/readside, or point to an empty database,\n" +
			"before the first start.",
		Args: cobra.ExactArgs(1), RunE: runLogRestore}
	addData(c.Flags(), "directory of the system to be; the log is in its directory log")
	return c
}

func runLogRestore(cmd *cobra.Command, args []string) error {
	data := text(cmd, "data")
	log := nodeDir(data)
	if err := noLogIn(log); err != nil {
		return err
	}
	m, err := verified(cmd, args[0])
	if err != nil {
		return err
	}
	if err := archive.MakeDir(data); err != nil {
		return usage("--data: %s", err)
	}
	release, err := archive.Lock(filepath.Join(data, "restore.lock"))
	if errors.Is(err, archive.ErrInUse) {
		return taken("--data: %s %s", data, err)
	} else if err != nil {
		return usage("--data: %s", err)
	}
	defer release()
	if err := build(cmd, args[0], m, log); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "restored: %d events, up to position %d, into %s\n", m.Events, m.Last.Position, log)
	if m.Epoch.Number > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "the log is in epoch %d now: before the first start delete %s/readside, or give an empty database\n", m.Epoch.Number+1, data)
	}
	return nil
}

// isUsers tells the files of a node's users, which lie beside its log and are in no backup.
func isUsers(name string) bool { return strings.HasPrefix(name, "users.json") }

// noLogIn refuses a directory with more in it than users.
func noLogIn(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !isUsers(e.Name()) }):
		return taken("--data: there is a log in %s already", dir)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return usage("--data: %s", err)
	}
	return nil
}

// build makes the log beside its place, and then puts it there in one step, so that a run that is cut off leaves no log.
func build(cmd *cobra.Command, backup string, m archive.Manifest, log string) (err error) {
	building := log + ".restoring"
	if err := discard(building, log); err != nil { // what a run that was cut off has left
		return err
	}
	if err := noLogIn(log); err != nil { // now that nobody else restores
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, discard(building, log))
		}
	}()
	if err := restore(cmd, backup, m, building); err != nil {
		return err
	}
	if err := moveUsers(log, building); err != nil {
		return err
	}
	if err := os.Remove(log); err != nil && !errors.Is(err, fs.ErrNotExist) { // it is empty now, or this fails
		return err
	}
	if err := os.Rename(building, log); err != nil {
		return err
	}
	return archive.SyncDir(filepath.Dir(log))
}

// discard removes what was built of a log, but for users, who come back to their place.
func discard(building, log string) error {
	if err := moveUsers(building, log); err != nil {
		return err
	}
	return os.RemoveAll(building)
}

// moveUsers moves the files of users from one directory to another, and makes that if need be. What is there already stays.
func moveUsers(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	moved := false
	for _, e := range entries {
		target := filepath.Join(to, e.Name())
		if !isUsers(e.Name()) {
			continue
		}
		if err := archive.MakeDir(to); err != nil {
			return err
		}
		if _, err := os.Lstat(target); err == nil {
			continue
		}
		if err := os.Rename(filepath.Join(from, e.Name()), target); err != nil {
			return err
		}
		moved = true
	}
	if !moved {
		return nil
	}
	return errors.Join(archive.SyncDir(to), archive.SyncDir(from))
}

// restore builds the log in a directory that is not there.
func restore(cmd *cobra.Command, backup string, m archive.Manifest, dir string) error {
	show, done := newProgress(cmd.ErrOrStderr(), "restoring", time.Now), int64(0)
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
