package archive

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/uuid"

	"github.com/tenure-dev/tenure/domain"
)

// SegmentBytes is how large a segment becomes, give or take one event.
const SegmentBytes = 64 << 20

const magic = "tenure log segment 1\n"

const headerSize = len(magic) + sha256.Size

// Writer adds to a backup, and is alone in doing so. What it adds counts only from Finish on.
type Writer struct {
	dir      string
	release  func()
	manifest Manifest
	limit    int64

	file   *os.File
	buffer *bufio.Writer
	sum    hash.Hash
	now    Segment
	record []byte
}

// Append begins to add to a backup, or a new one in a directory that is empty or not there. It removes what a run that
// was cut off has left, and refuses a directory with anything else in it. Segments that the manifest names are not read.
// A limit of 0 is SegmentBytes. Until Finish or Abandon nobody else may add: the error then wraps ErrInUse.
func Append(dir string, limit int64) (*Writer, error) {
	w := &Writer{dir: dir, limit: limit, manifest: Manifest{Format: formatVersion}}
	if w.limit == 0 {
		w.limit = SegmentBytes
	}
	if err := MakeDir(dir); err != nil {
		return nil, err
	}
	if err := onlyBackup(dir); err != nil {
		return nil, err
	}
	release, err := Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("%s %w", dir, err)
	}
	w.release = release
	if err := w.tidy(); err != nil {
		release()
		return nil, err
	}
	return w, nil
}

// onlyBackup refuses a directory that holds more than a backup, before anything is put into it.
func onlyBackup(dir string) error {
	names, err := namesIn(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name != manifestName && !ourNames.MatchString(name) {
			return fmt.Errorf("%s is neither empty nor a backup: it has %s", dir, name)
		}
	}
	return nil
}

// tidy reads the manifest, if there is one, and removes what it does not name.
func (w *Writer) tidy() error {
	m, err := ReadManifest(w.dir)
	switch {
	case err == nil:
		w.manifest = m
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	names, err := namesIn(w.dir)
	if err != nil {
		return err
	}
	for _, s := range w.manifest.Segments {
		if !slices.Contains(names, s.Name) {
			return fmt.Errorf("%s is missing in %s", s, w.dir)
		}
	}
	for _, name := range w.manifest.unnamed(names) {
		if err := os.Remove(filepath.Join(w.dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// MakeDir makes a directory, with those that it lies in, for its owner alone, and waits until the disk has their entries.
func MakeDir(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	var parents []string
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); err == nil || at == filepath.Dir(at) {
			break
		}
		parents = append(parents, filepath.Dir(at))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, parent := range parents {
		if err := SyncDir(parent); err != nil {
			return err
		}
	}
	return nil
}

// Manifest is that of the backup as it was begun with.
func (w *Writer) Manifest() Manifest { return w.manifest }

// Add adds an event. Positions ascend, and each event has an id, or the log could not be restored.
func (w *Writer) Add(r Record) error {
	if r.ID == uuid.Nil {
		return domain.Invalid("id", "is missing: revision %d of stream %s at position %d has none", r.Revision, r.Stream, r.Position)
	}
	if last := max(w.manifest.end(), w.now.Last); r.Position <= last {
		return fmt.Errorf("position %d of stream %s does not lie behind position %d", r.Position, r.Stream, last)
	}
	if w.file == nil {
		if err := w.begin(); err != nil {
			return err
		}
	}
	w.record = appendRecord(w.record[:0], &r)
	if _, err := w.write(w.record); err != nil {
		return err
	}
	if w.now.Events == 0 {
		w.now.First = r.Position
	}
	w.now.Last = r.Position
	w.now.Events++
	if w.now.Bytes >= w.limit {
		return w.end()
	}
	return nil
}

func (w *Writer) begin() (err error) {
	w.now = Segment{Name: fmt.Sprintf("segment-%08d", len(w.manifest.Segments)+1), Before: w.manifest.before()}
	if w.file, err = os.OpenFile(filepath.Join(w.dir, w.now.Name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	w.buffer, w.sum = bufio.NewWriterSize(w.file, 1<<20), sha256.New()
	before, err := hex.DecodeString(w.now.Before)
	if err != nil {
		return err
	}
	_, err = w.write(append([]byte(magic), before...))
	return err
}

func (w *Writer) write(b []byte) (int, error) {
	w.now.Bytes += int64(len(b))
	return io.MultiWriter(w.buffer, w.sum).Write(b)
}

func (w *Writer) end() error {
	err := errors.Join(w.buffer.Flush(), w.file.Sync(), w.file.Close())
	w.file = nil
	if err != nil {
		return err
	}
	w.now.SHA256 = hex.EncodeToString(w.sum.Sum(nil))
	w.manifest.Segments = append(w.manifest.Segments, w.now)
	w.manifest.Events += w.now.Events
	return nil
}

// Finish makes what was added part of the backup. Whether or not it succeeds, the writer is of no more use.
func (w *Writer) Finish(epoch Epoch, last Last) (Manifest, error) {
	defer w.Abandon()
	if w.file != nil {
		if err := w.end(); err != nil {
			return Manifest{}, err
		}
	}
	if err := SyncDir(w.dir); err != nil {
		return Manifest{}, err
	}
	w.manifest.Epoch, w.manifest.Last = epoch, last
	return w.manifest, writeManifest(w.dir, w.manifest)
}

// Abandon gives up what was added and not finished; the next Append removes it. It does nothing after Finish.
func (w *Writer) Abandon() {
	if w.file != nil {
		_ = w.file.Close()
		w.file = nil
	}
	w.release()
}
