package eventnode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/uuid"

	"github.com/tenure-dev/tenure/domain"
)

// Record is an event of another log, with its place there.
type Record struct {
	Position uint64 // 1 to 1<<62, ascending
	Stream   string
	Revision int64 // ascending in its stream; what lies between is missing, as after a scavenge
	ID       uuid.UUID
	Type     string
	JSON     bool  // its content type is application/json; else application/octet-stream
	Created  int64 // units of 100 ns since the Unix epoch
	Data     []byte
	Metadata []byte
}

// Import makes a log of records, in a directory that is empty or not there, and keeps their positions. On an error the
// directory is of no use; CodeInvalid names what no log can hold. It returns when the disk has everything.
func Import(dir string, records iter.Seq2[Record, error]) (err error) {
	d, err := openDatabase(dir, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if next, err := d.next(); err != nil || next != firstPosition {
		return errors.Join(err, fmt.Errorf("eventnode: %s has events", dir))
	}
	i := importer{database: d, batch: d.db.NewBatch(), revisions: map[string]int64{}}
	for r, err := range records {
		if err == nil {
			err = i.add(&r)
		}
		if err != nil {
			return errors.Join(err, i.batch.Close())
		}
	}
	if err := i.batch.Set(importedKey, binary.BigEndian.AppendUint64(nil, i.last), nil); err != nil {
		return errors.Join(err, i.batch.Close())
	}
	return i.commit(pebble.Sync)
}

type importer struct {
	*database
	batch     *pebble.Batch
	last      uint64
	revisions map[string]int64 // the last one of each stream
	key       []byte
	value     []byte
}

func (i *importer) add(r *Record) error {
	if err := i.fits(r); err != nil {
		return err
	}
	i.last, i.revisions[r.Stream] = r.Position, r.Revision
	stored := record{position: r.Position, stream: r.Stream, revision: r.Revision, id: r.ID, typ: r.Type, json: r.JSON, created: r.Created, data: r.Data, metadata: r.Metadata}
	p := place{r.Position, r.Revision, r.ID}
	i.key, i.value = appendLogKey(i.key[:0], r.Position), appendRecord(i.value[:0], &stored)
	if err := i.batch.Set(i.key, i.value, nil); err != nil {
		return err
	}
	i.key, i.value = appendIndexKey(i.key[:0], r.Stream, r.Revision), appendIndexValue(i.value[:0], p)
	if err := i.batch.Set(i.key, i.value, nil); err != nil {
		return err
	}
	i.key, i.value = appendIDKey(i.key[:0], p), appendIDValue(i.value[:0], r.Revision, r.Stream)
	if err := i.batch.Set(i.key, i.value, nil); err != nil {
		return err
	}
	if i.batch.Len() < groupBytes {
		return nil
	}
	return i.commit(pebble.NoSync)
}

// fits refuses what no node could have written behind the records before.
func (i *importer) fits(r *Record) error {
	before, begun := i.revisions[r.Stream]
	switch {
	case r.Position <= i.last || r.Position > 1<<62:
		return domain.Invalid("position", "%d does not follow position %d", r.Position, i.last)
	case r.Stream == "":
		return domain.Invalid("stream", "is missing at position %d", r.Position)
	case r.Revision < 0 || begun && r.Revision <= before:
		return domain.Invalid("revision", "%d of stream %q at position %d does not follow the one before", r.Revision, r.Stream, r.Position)
	case r.ID == uuid.Nil:
		return domain.Invalid("id", "is missing: revision %d of stream %q at position %d has none", r.Revision, r.Stream, r.Position)
	}
	return nil
}

// commit writes what has gathered. The last one waits for the disk, and with it for all before.
func (i *importer) commit(how *pebble.WriteOptions) error {
	err := errors.Join(i.batch.Commit(how), i.fatal(), i.batch.Close())
	i.batch = i.db.NewBatch()
	return err
}
