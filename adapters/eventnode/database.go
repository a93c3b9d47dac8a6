package eventnode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// formatVersion is that of keys.go and record.go. A program refuses what a newer one has written.
	formatVersion = 1
	// pebbleFormat is pinned: a newer one would shut out the program that wrote the directory.
	pebbleFormat = pebble.FormatValueSeparation

	// firstPosition leaves 0 for the start of the log.
	firstPosition = 64
)

// database is the directory with everything in it.
type database struct {
	db    *pebble.DB
	lock  *pebble.Lock
	broke atomic.Pointer[error]
	log   *slog.Logger
}

func openDatabase(dir string, fs vfs.FS, logger *slog.Logger) (*database, error) {
	if fs == nil {
		fs = vfs.Default
	}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("eventnode: %w", err)
	}
	lock, err := pebble.LockDirectory(dir, fs)
	if err != nil {
		return nil, fmt.Errorf("eventnode: %s is in use by another process: %w", dir, err)
	}
	d := &database{lock: lock, log: logger}
	options := &pebble.Options{
		FS:                          fs,
		Lock:                        lock,
		Logger:                      d,
		FormatMajorVersion:          pebbleFormat,
		CacheSize:                   64 << 20,
		MemTableSize:                32 << 20,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       32,
	}
	for i := range options.Levels {
		options.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // most ids looked up are new
	}
	if d.db, err = pebble.Open(dir, options); err != nil {
		return nil, errors.Join(fmt.Errorf("eventnode: cannot open %s: %w", dir, err), lock.Close())
	}
	if err := d.checkFormat(dir); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// checkFormat compares the version of what is stored with ours, and writes ours into a new database.
func (d *database) checkFormat(dir string) error {
	value, closer, err := d.db.Get([]byte{tableFormat})
	if errors.Is(err, pebble.ErrNotFound) {
		return d.db.Set([]byte{tableFormat}, binary.BigEndian.AppendUint32(nil, formatVersion), pebble.Sync)
	} else if err != nil {
		return err
	}
	defer closer.Close()
	if len(value) != 4 {
		return fmt.Errorf("eventnode: %s is no event log", dir)
	}
	if found := binary.BigEndian.Uint32(value); found > formatVersion {
		return fmt.Errorf("eventnode: %s is in format version %d, and this program knows versions up to %d", dir, found, formatVersion)
	}
	return nil
}

// next is the position after the last record.
func (d *database) next() (uint64, error) {
	it, err := d.db.NewIter(&pebble.IterOptions{LowerBound: []byte{tableLog}, UpperBound: []byte{tableLog + 1}})
	if err != nil {
		return 0, err
	}
	defer it.Close()
	if !it.Last() {
		return firstPosition, it.Error()
	}
	value, err := it.ValueAndErr()
	return logKeyPosition(it.Key()) + span(len(value)), err
}

func (d *database) close() error { return errors.Join(d.db.Close(), d.lock.Close()) }

// fatal is what Pebble could not go on from, nil if nothing.
func (d *database) fatal() error {
	if err := d.broke.Load(); err != nil {
		return *err
	}
	return nil
}

// Infof, Errorf and Fatalf make the database Pebble's logger. Pebble reports a failed commit by Fatalf, in the belief that
// the process ends there; the committer asks for it after every commit instead.
func (d *database) Infof(format string, args ...any) { d.log.Debug(fmt.Sprintf(format, args...)) }

func (d *database) Errorf(format string, args ...any) { d.log.Error(fmt.Sprintf(format, args...)) }

func (d *database) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	d.broke.CompareAndSwap(nil, &err)
}
