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
	"regexp"
)

// SegmentBytes is how large a segment becomes, give or take one event.
const SegmentBytes = 64 << 20

const magic = "tenure log segment 1\n"

const headerSize = len(magic) + sha256.Size

var ourNames = regexp.MustCompile(`^(segment-\d{8}|manifest\.json\.new)$`)

// Writer adds to a backup. What it adds counts only from Finish on.
type Writer struct {
	dir      string
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
// A limit of 0 is SegmentBytes.
func Append(dir string, limit int64) (*Writer, error) {
	w := &Writer{dir: dir, limit: limit, manifest: Manifest{Format: formatVersion}}
	if w.limit == 0 {
		w.limit = SegmentBytes
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	m, err := ReadManifest(dir)
	switch {
	case err == nil:
		w.manifest = m
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	extra, missing, err := compareNames(dir, w.manifest)
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%s is missing in %s", missing[0], dir)
	}
	for _, name := range extra {
		if !ourNames.MatchString(name) {
			return nil, fmt.Errorf("%s is neither empty nor a backup: it has %s", dir, name)
		}
	}
	for _, name := range extra {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// Manifest is that of the backup as it was begun with.
func (w *Writer) Manifest() Manifest { return w.manifest }

// Add adds an event. Positions ascend.
func (w *Writer) Add(r Record) error {
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

// Finish makes what was added part of the backup.
func (w *Writer) Finish(epoch Epoch, last Last) (Manifest, error) {
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
}

// compareNames finds the files that a manifest does not name, and those that it names and that are not there.
func compareNames(dir string, m Manifest) (extra []string, missing []Segment, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	there, named := map[string]bool{}, map[string]bool{manifestName: true}
	for _, s := range m.Segments {
		named[s.Name] = true
	}
	for _, e := range entries {
		there[e.Name()] = true
		if !named[e.Name()] {
			extra = append(extra, e.Name())
		}
	}
	for _, s := range m.Segments {
		if !there[s.Name] {
			missing = append(missing, s)
		}
	}
	return extra, missing, nil
}
