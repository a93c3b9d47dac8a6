package eventnode

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/protobuf/proto"
)

// Report is what a check of a directory found.
type Report struct {
	Streams int    // that have events
	Events  int    // stored
	Removed int    // scavenged, of which only the position is left
	Bytes   int64  // of the events as stored, before compression
	End     uint64 // where the log ends
	// Muted counts metadata events that say nothing, as they are no JSON object. They are legal.
	Muted   int
	Damages []Damage
}

// Damage is one thing that is wrong.
type Damage struct {
	File   string // the file's name, if one is known
	From   uint64 // first position concerned, 0 if none is known
	To     uint64 // last position concerned, 0 if none is known
	Stream string // the stream concerned, if it is one
	What   string
}

func (d Damage) String() string {
	text := d.What
	if d.Stream != "" {
		text = fmt.Sprintf("stream %q: %s", d.Stream, text)
	}
	if d.From > 0 {
		text = fmt.Sprintf("positions %d to %d: %s", d.From, d.To, text)
	}
	if d.File != "" {
		text = d.File + ": " + text
	}
	return text
}

// maxDamages is after how many a check is over: there is no use in more.
const maxDamages = 100

var (
	// ErrNoLog is wrapped by what Check returns for a directory without an event log.
	ErrNoLog = errors.New("there is no event log")
	// ErrInUse is wrapped by what Check and Open return for a directory that another process has.
	ErrInUse = errors.New("it is in use by another process")
	// ErrDirectory is wrapped by what Open returns for a path at which there can be no directory of ours.
	ErrDirectory = errors.New("it cannot be used as a directory")
)

// Check looks at everything that a directory holds: that every file is whole, every event can be read, positions and
// revisions are gapless, indexes and events agree, and the log is as long as it must be. Nothing is changed, and no node
// may have the directory. What is wrong is in the report; the error says that there could be none: ErrNoLog, ErrInUse.
func Check(ctx context.Context, dir string) (Report, error) { return check(ctx, dir, vfs.Default) }

func check(ctx context.Context, dir string, fs vfs.FS) (Report, error) {
	if _, err := fs.Stat(dir); err != nil {
		return Report{}, fmt.Errorf("eventnode: %s: %w", dir, ErrNoLog)
	}
	d := &database{dir: dir, fs: fs, log: slog.New(slog.DiscardHandler)}
	m, marked, err := readMark(fs, dir)
	if err != nil {
		return Report{Damages: []Damage{{File: markFile, What: err.Error()}}}, nil
	}
	d.marked = m.end
	if exists, err := d.exists(); err != nil {
		return Report{Damages: []Damage{{What: err.Error()}}}, nil
	} else if !exists && !marked {
		return Report{}, fmt.Errorf("eventnode: %s: %w", dir, ErrNoLog)
	}
	if d.lock, err = pebble.LockDirectory(dir, fs); err != nil {
		return Report{}, fmt.Errorf("eventnode: %s: %w", dir, ErrInUse)
	}
	defer d.lock.Close()
	if err := d.examine(); err != nil {
		return Report{Damages: []Damage{{What: err.Error()}}}, nil
	}
	if err := d.open(true); err != nil {
		return Report{Damages: []Damage{{What: err.Error()}}}, nil
	}
	report, err := checkLog(ctx, d)
	return report, errors.Join(err, d.db.Close())
}

// checker walks through a database.
type checker struct {
	*database
	ctx    context.Context
	log    eventLog
	report Report
	places int // entries of the index

	imported uint64 // up to here, positions and revisions may have gaps
}

// checkLog looks at a database that is open.
func checkLog(ctx context.Context, d *database) (Report, error) {
	c := &checker{database: d, ctx: ctx, log: newEventLog(d.db)}
	for _, look := range []func() error{c.tables, c.origin, c.records, c.index, c.ids} {
		if err := look(); err != nil {
			if ctx.Err() != nil {
				return c.report, ctx.Err()
			}
			c.found(Damage{What: err.Error()})
		}
		if len(c.report.Damages) > 0 {
			break // what follows would only repeat it
		}
	}
	return c.report, nil
}

func (c *checker) found(d Damage) {
	if len(c.report.Damages) < maxDamages {
		c.report.Damages = append(c.report.Damages, d)
	}
}

// tables compares every block of every table with its checksum.
func (c *checker) tables() error {
	levels, err := c.db.SSTables()
	if err != nil {
		return err
	}
	for _, level := range levels {
		for _, t := range level {
			if err := c.ctx.Err(); err != nil {
				return err
			}
			name := fmt.Sprintf("%06d.sst", uint64(t.BackingSSTNum))
			if err := c.table(name); err != nil {
				from, to := positionsOf(t.Smallest.UserKey, t.Largest.UserKey)
				c.found(Damage{File: name, From: from, To: to, What: err.Error()})
			}
		}
	}
	return nil
}

// origin finds out what was taken over from another log.
func (c *checker) origin() error {
	value, closer, err := c.db.Get(importedKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	if len(value) != 8 {
		return errors.Join(errors.New("how far the log was imported is damaged"), closer.Close())
	}
	c.imported = binary.BigEndian.Uint64(value)
	return closer.Close()
}

func (c *checker) table(name string) error {
	file, err := c.fs.Open(c.fs.PathJoin(c.dir, name))
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(file)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	r, err := sstable.NewReader(c.ctx, readable, sstable.ReaderOptions{})
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}

// positionsOf are the positions that lie between two keys, as far as they are keys of the log.
func positionsOf(smallest, largest []byte) (from, to uint64) {
	if len(smallest) != positionKeySize || smallest[0] != tableLog {
		return 0, 0
	}
	from, to = logKeyPosition(smallest), ^uint64(0)
	if len(largest) == positionKeySize && largest[0] == tableLog {
		to = logKeyPosition(largest)
	}
	return from, to
}

// records reads every record, and looks up what the index and the ids say of it.
func (c *checker) records() error {
	it, err := c.db.NewIter(&pebble.IterOptions{LowerBound: []byte{tableLog}, UpperBound: []byte{tableLog + 1}})
	if err != nil {
		return err
	}
	defer it.Close()
	next := uint64(firstPosition)
	for valid := it.First(); valid; valid = it.Next() {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		value, err := it.ValueAndErr()
		if err != nil {
			c.found(Damage{From: next, To: next, What: err.Error()})
			return nil
		}
		if len(it.Key()) != positionKeySize {
			c.found(Damage{From: next, To: next, What: "a key of the log is damaged"})
			continue
		}
		position := logKeyPosition(it.Key())
		if position != next && position > c.imported {
			c.found(Damage{From: next, To: position, What: "records are missing, or do not belong here"})
		}
		next = position + spanOf(value)
		c.record(position, value)
	}
	if err := it.Error(); err != nil {
		c.found(Damage{From: next, To: c.marked, What: err.Error()})
	}
	c.report.End = next - 1
	return nil
}

// record checks one record: it must be, to the byte, what would be written for the event in it.
func (c *checker) record(position uint64, value []byte) {
	wrong := func(stream, what string) { c.found(Damage{From: position, To: position, Stream: stream, What: what}) }
	switch {
	case len(value) == 1 && value[0] == 0:
		return // an append of nothing
	case len(value) > 1 && value[0] == flagRemoved:
		if _, n := binary.Uvarint(value[1:]); n != len(value)-1 {
			wrong("", "what is left of a removed event is damaged")
		}
		c.report.Removed++
		return
	}
	c.report.Events++
	c.report.Bytes += int64(len(value))
	r, err := decoded(position, value)
	if err != nil {
		wrong("", err.Error())
		return
	}
	p := place{position, r.revision, r.id}
	if stored, found, err := c.log.place(r.stream, r.revision); err != nil || !found || stored != p {
		wrong(r.stream, fmt.Sprintf("the index does not have revision %d there", r.revision))
	}
	entry, closer, err := c.db.Get(appendIDKey(nil, p))
	if err != nil {
		wrong(r.stream, fmt.Sprintf("the id of revision %d is not in the index of ids", r.revision))
		return
	}
	if !bytes.Equal(entry, appendIDValue(nil, r.revision, r.stream)) {
		wrong(r.stream, fmt.Sprintf("the index of ids has another place for the id of revision %d", r.revision))
	}
	_ = closer.Close()
	if isMetastream(r.stream) && r.typ == metadataType {
		if _, ok := objectMembers(r.data); !ok {
			c.report.Muted++
		}
	}
}

// decoded is a stored record as it was before it was written.
func decoded(position uint64, value []byte) (*record, error) {
	e, err := open(position, value)
	if err != nil {
		return nil, err
	}
	resp := &api.ReadResp{}
	if err := proto.Unmarshal(e.frame, resp); err != nil {
		return nil, err
	}
	w := resp.GetEvent().GetEvent()
	r := &record{position: position, stream: string(e.stream), revision: e.revision, id: e.id, typ: string(e.typ), json: e.is(flagJSON),
		created: e.created, data: w.GetData(), metadata: w.GetCustomMetadata()}
	if r.id == uuid.Nil || !bytes.Equal(appendRecord(nil, r), value) {
		return nil, errors.New("the record is not as it is written")
	}
	return r, nil
}

// index walks through the streams: revisions have no gaps, above what was scavenged, and there is a record for each. That
// each record has its entry is known by now, so as many entries as events means that they are the same.
func (c *checker) index() error {
	it, err := c.db.NewIter(&pebble.IterOptions{LowerBound: []byte{tableIndex}, UpperBound: []byte{tableIndex + 1}})
	if err != nil {
		return err
	}
	defer it.Close()
	last, next := "", int64(-1)
	for valid := it.First(); valid; valid = it.Next() {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		stream, ok := indexKeyStream(it.Key())
		if !ok {
			c.found(Damage{What: "a key of the index is damaged"})
			continue
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		p, ok := indexPlace(it.Key(), value)
		if !ok {
			c.found(Damage{Stream: stream, What: "an entry of the index is damaged"})
			continue
		}
		revision := p.revision
		switch {
		case next < 0 || stream != last:
			c.report.Streams++
		case revision != next && revision != deletedRevision && p.position > c.imported:
			c.found(Damage{Stream: stream, What: fmt.Sprintf("revisions %d to %d are missing", next, revision-1)})
		}
		last, next = stream, revision+1
		c.places++
		if revision == deletedRevision {
			next = -1
		}
	}
	if err := it.Error(); err != nil {
		return err
	}
	if c.places != c.report.Events {
		c.found(Damage{What: fmt.Sprintf("the index has %d entries for %d events", c.places, c.report.Events)})
	}
	return nil
}

// ids counts the entries of the index of ids. Each event's is known to be there.
func (c *checker) ids() error {
	it, err := c.db.NewIter(&pebble.IterOptions{LowerBound: []byte{tableIDs}})
	if err != nil {
		return err
	}
	defer it.Close()
	n := 0
	for valid := it.First(); valid; valid = it.Next() {
		if it.Key()[0] != tableIDs {
			c.found(Damage{What: fmt.Sprintf("there is a table %d that nobody has written", it.Key()[0])})
			break
		}
		n++
	}
	if n != c.report.Events {
		c.found(Damage{What: fmt.Sprintf("the index of ids has %d entries for %d events", n, c.report.Events)})
	}
	return it.Error()
}
