package eventnode

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
)

// Positions and revisions of another log may have gaps, and what is written behind them may not.
func TestCheckTakesAnImportedLog(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "log")
	err := Import(dir, func(yield func(Record, error) bool) {
		for i, revision := range []int64{0, 1, 5} {
			if !yield(Record{Position: uint64(100 + 30*i), Stream: "s", Revision: revision, ID: uuid.New(), Type: "T"}, nil) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	report, err := Check(t.Context(), dir)
	if err != nil || len(report.Damages) > 0 || report.Events != 3 || report.Streams != 1 {
		t.Error(report, err)
	}
}

// Each kind of disagreement is found, though every checksum is right.
func TestCheckFindsWhatDoesNotAgree(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(*pebble.Batch, place, *record){
		"a record is gone": func(b *pebble.Batch, p place, _ *record) { _ = b.Delete(logKey(p.position), nil) },
		"a record is another": func(b *pebble.Batch, p place, r *record) {
			r.data = []byte("y")
			_ = b.Set(logKey(p.position), appendRecord(nil, r), nil)
		},
		"a record is cut": func(b *pebble.Batch, p place, r *record) {
			v := appendRecord(nil, r)
			_ = b.Set(logKey(p.position), v[:len(v)-3], nil)
		},
		"the index lacks it": func(b *pebble.Batch, p place, r *record) {
			_ = b.Delete(appendIndexKey(nil, r.stream, p.revision), nil)
		},
		"the index has more": func(b *pebble.Batch, p place, r *record) {
			_ = b.Set(appendIndexKey(nil, "t", 0), appendIndexValue(nil, p), nil)
		},
		"the index has another id": func(b *pebble.Batch, p place, r *record) {
			p.id = uuid.New()
			_ = b.Set(appendIndexKey(nil, r.stream, p.revision), appendIndexValue(nil, p), nil)
		},
		"the ids lack it": func(b *pebble.Batch, p place, _ *record) { _ = b.Delete(appendIDKey(nil, p), nil) },
		"the ids have another": func(b *pebble.Batch, p place, _ *record) {
			_ = b.Set(appendIDKey(nil, p), appendIDValue(nil, p.revision, "t"), nil)
		},
		"the ids have more": func(b *pebble.Batch, p place, r *record) {
			p.id = uuid.New()
			_ = b.Set(appendIDKey(nil, p), appendIDValue(nil, p.revision, r.stream), nil)
		},
		"a table that is not known": func(b *pebble.Batch, _ place, _ *record) { _ = b.Set([]byte{9}, nil, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewMem()
			r := startRig(t, &rig{fs: fs})
			appending("s", expectAny, "x", "x2", "x3")(r)
			r.down()
			defer r.up()
			d, err := openDatabase("log", fs, discard)
			if err != nil {
				t.Fatal(err)
			}
			p, found, err := newEventLog(d.db).place("s", 1)
			if err != nil || !found {
				t.Fatal(found, err)
			}
			value, closer, err := d.db.Get(logKey(p.position))
			if err != nil {
				t.Fatal(err)
			}
			rec, err := decoded(p.position, append([]byte(nil), value...))
			if err != nil {
				t.Fatal(err)
			}
			_ = closer.Close()
			b := d.db.NewBatch()
			harm(b, p, rec)
			if err := b.Commit(pebble.Sync); err != nil {
				t.Fatal(err)
			}
			if err := d.close(); err != nil {
				t.Fatal(err)
			}
			if report, err := check(context.Background(), "log", fs); err != nil || len(report.Damages) == 0 {
				t.Error("nothing is found", err)
			}
		})
	}
}
