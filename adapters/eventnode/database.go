package eventnode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// formatVersion is that of keys.go and record.go. A program refuses what a newer one has written.
	formatVersion = 2
	// markedFormat is the first version whose directories have a mark, and whose records may be removed.
	markedFormat = 2
	// pebbleFormat is pinned: a newer one would shut out the program that wrote the directory.
	pebbleFormat = pebble.FormatValueSeparation

	// firstPosition leaves 0 for the start of the log.
	firstPosition = 64
)

// database is the directory with everything in it.
type database struct {
	dir    string
	fs     vfs.FS
	db     *pebble.DB
	lock   *pebble.Lock
	marked uint64 // what the mark says
	broke  breakage
	log    *slog.Logger
}

// openDatabase opens a directory for writing, or creates it. It looks at what is there before it changes anything: Pebble
// deletes files that it does not know, and a damaged directory must be kept as it is.
func openDatabase(dir string, fs vfs.FS, logger *slog.Logger) (*database, error) {
	if fs == nil {
		fs = vfs.Default
	}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("eventnode: %w: %w", ErrDirectory, err)
	}
	d := &database{dir: dir, fs: fs, log: logger, broke: breakage{happened: make(chan struct{})}}
	var err error
	if d.lock, err = pebble.LockDirectory(dir, fs); err != nil {
		if _, unusable := errors.AsType[*os.PathError](err); unusable {
			return nil, fmt.Errorf("eventnode: %w: %w", ErrDirectory, err)
		}
		return nil, fmt.Errorf("eventnode: %s: %w: %w", dir, ErrInUse, err)
	}
	if err = d.examine(); err == nil {
		err = d.open(false)
	}
	if err != nil {
		return nil, errors.Join(err, d.lock.Close())
	}
	if err := d.settle(); err != nil {
		return nil, errors.Join(err, d.db.Close(), d.lock.Close())
	}
	return d, nil
}

func (d *database) open(readOnly bool) (err error) {
	// Compactions take half of a loaded node's time, so they are few and large.
	options := &pebble.Options{
		FS:                          disk{d.fs, &d.broke},
		Lock:                        d.lock,
		Logger:                      d,
		EventListener:               &pebble.EventListener{BackgroundError: d.broke.happen},
		ReadOnly:                    readOnly,
		FormatMajorVersion:          pebbleFormat,
		CacheSize:                   64 << 20,
		MemTableSize:                16 << 20,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       8,
		LBaseMaxBytes:               256 << 20,
		L0StopWritesThreshold:       32,
	}
	for i := range options.Levels {
		options.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // most ids looked up are new
	}
	d.db, err = pebble.Open(d.dir, options)
	if broken := d.fatal(); broken != nil {
		if err == nil {
			_ = d.db.Close()
		}
		err = broken
	}
	if err != nil {
		err = fmt.Errorf("eventnode: cannot open %s: %w", d.dir, err)
	}
	return err
}

// exists says whether the directory holds a database.
func (d *database) exists() (bool, error) {
	found, err := pebble.Peek(d.dir, d.fs)
	if err != nil {
		return false, fmt.Errorf("eventnode: cannot open %s: %w", d.dir, err)
	}
	return found.Exists, nil
}

// examine refuses what this program must not open: what a newer one has written, and what has lost its end.
func (d *database) examine() (err error) {
	m, marked, err := readMark(d.fs, d.dir)
	if err != nil {
		return err
	}
	d.marked = m.end
	exists, err := d.exists()
	switch {
	case err != nil:
		return err
	case m.format > formatVersion:
		return d.tooNew(m.format)
	case !exists && m.end >= firstPosition:
		return d.tooShort(firstPosition - 1)
	case !exists:
		return nil
	}
	if err := d.open(true); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.db.Close()) }()
	format, err := d.format()
	if err != nil {
		return err
	}
	next, err := d.next()
	switch {
	case err != nil:
		return d.damaged(err)
	case format > formatVersion:
		return d.tooNew(format)
	case next-1 < m.end:
		return d.tooShort(next - 1)
	case format >= markedFormat && !marked:
		return fmt.Errorf("eventnode: %s is missing, so nobody can say where the log must end: restore %s from a backup", d.fs.PathJoin(d.dir, markFile), d.dir)
	}
	return nil
}

func (d *database) tooNew(format uint32) error {
	return fmt.Errorf("eventnode: %s is in format version %d, and this program knows versions up to %d", d.dir, format, formatVersion)
}

func (d *database) tooShort(end uint64) error {
	return fmt.Errorf("eventnode: %s is damaged: its log ends at position %d and had reached %d: restore it from a backup", d.dir, end, d.marked)
}

func (d *database) damaged(err error) error {
	return fmt.Errorf("eventnode: %s is damaged: %w", d.dir, err)
}

// settle brings a directory to the present format. The mark comes first: a directory of this format without one is damaged.
func (d *database) settle() error {
	format, err := d.format()
	if err != nil || format == formatVersion {
		return err
	}
	next, err := d.next()
	if err != nil {
		return d.damaged(err)
	}
	if err := d.reached(next - 1); err != nil {
		return err
	}
	return errors.Join(d.db.Set([]byte{tableFormat}, binary.BigEndian.AppendUint32(nil, formatVersion), pebble.Sync), d.fatal())
}

// format is the version of what is stored, 0 for a new database.
func (d *database) format() (uint32, error) {
	value, closer, err := d.db.Get([]byte{tableFormat})
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	} else if err != nil {
		return 0, d.damaged(err)
	}
	defer closer.Close()
	if len(value) != 4 {
		return 0, fmt.Errorf("eventnode: %s is no event log", d.dir)
	}
	return binary.BigEndian.Uint32(value), nil
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
	return logKeyPosition(it.Key()) + spanOf(value), err
}

// close leaves a directory at rest: everything in tables, nothing in the write-ahead log, and the mark at the log's end.
func (d *database) close() error {
	var err error
	if d.fatal() == nil {
		err = d.rest()
	}
	return errors.Join(err, d.db.Close(), d.lock.Close())
}

func (d *database) rest() error {
	flushed, err := d.db.AsyncFlush()
	if err != nil {
		return err
	}
	select {
	case <-flushed:
	case <-d.broke.happened:
	}
	if err := d.fatal(); err != nil {
		return fmt.Errorf("eventnode: %s is not at rest, though nothing is lost: %w", d.dir, err)
	}
	next, err := d.next()
	if err != nil {
		return d.damaged(err)
	}
	return d.reached(next - 1)
}

// fatal is what Pebble could not go on from, nil if nothing. What fails in the background counts: Pebble would try again
// without a pause, and one day stop all writing.
func (d *database) fatal() error { return d.broke.err() }

// Infof, Errorf and Fatalf make the database Pebble's logger. Pebble reports a failed commit by Fatalf, in the belief that
// the process ends there; the committer asks for it after every commit instead.
func (d *database) Infof(format string, args ...any) { d.log.Debug(fmt.Sprintf(format, args...)) }

func (d *database) Errorf(format string, args ...any) { d.log.Error(fmt.Sprintf(format, args...)) }

func (d *database) Fatalf(format string, args ...any) {
	d.broke.happen(fmt.Errorf(format, args...))
}
