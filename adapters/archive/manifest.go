// Package archive is the form of a log's backup: a directory of segments, which are never changed, and a manifest that
// names them. Only the command line uses it; it knows files and no event store.
//
// Each segment begins with the SHA-256 of the one before, and the manifest has the SHA-256 of each and of itself, so that
// a file that is damaged, cut, missing, exchanged or added is found. That guards against accidents: who can write to the
// directory can make it consistent again.
package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/uuid"
)

// formatVersion is that of manifest and segments. A program refuses what a newer one has written.
const formatVersion = 1

const (
	manifestName = "manifest.json"
	lockName     = "lock" // of the file by which a writer is alone; it stays
	unfinished   = ".new" // ends the name of a file that is being written
)

// ourNames are those of all files that a run makes, but for the manifest.
var ourNames = regexp.MustCompile(`^(segment-\d{8}|manifest\.json\.new|lock)$`)

// Manifest says what a backup consists of.
type Manifest struct {
	Format   int       `json:"format"`
	Epoch    Epoch     `json:"epoch"`  // of the log; zero if it has none
	Last     Last      `json:"last"`   // how far the backup goes
	Events   int64     `json:"events"` // in all segments
	Segments []Segment `json:"segments"`
	Checksum string    `json:"checksum"` // SHA-256 of the manifest without it
}

// Epoch names the log and its life, as the log's own epoch does.
type Epoch struct {
	Number int64  `json:"number"`
	ID     string `json:"id"`
}

// Last is the last event of the backup that the whole log shows.
type Last struct {
	Position uint64    `json:"position"`
	ID       uuid.UUID `json:"id"`
}

// Segment is one file of a backup.
type Segment struct {
	Name   string `json:"name"`
	First  uint64 `json:"first"` // positions of its first and last event
	Last   uint64 `json:"last"`
	Events int64  `json:"events"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
	Before string `json:"before"` // SHA-256 of the segment before; 64 zeros for the first
}

func (s Segment) String() string {
	return fmt.Sprintf("%s (positions %d to %d)", s.Name, s.First, s.Last)
}

func (m Manifest) text() ([]byte, error) {
	m.Checksum = ""
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	m.Checksum = hex.EncodeToString(sum[:])
	text, err = json.MarshalIndent(m, "", "  ")
	return append(text, '\n'), err
}

// end is the last position of all segments.
func (m Manifest) end() uint64 {
	if len(m.Segments) == 0 {
		return 0
	}
	return m.Segments[len(m.Segments)-1].Last
}

// before is what the next segment has to begin with.
func (m Manifest) before() string {
	if len(m.Segments) == 0 {
		return strings.Repeat("0", 2*sha256.Size)
	}
	return m.Segments[len(m.Segments)-1].SHA256
}

// unnamed are those of a directory's files that the manifest does not name, but for those that every backup has.
func (m Manifest) unnamed(names []string) (rest []string) {
	named := map[string]bool{manifestName: true, lockName: true}
	for _, s := range m.Segments {
		named[s.Name] = true
	}
	for _, name := range names {
		if !named[name] {
			rest = append(rest, name)
		}
	}
	return rest
}

func namesIn(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// ReadManifest reads a backup's manifest and no segment. The error is fs.ErrNotExist where there is none.
func ReadManifest(dir string) (m Manifest, err error) {
	path := filepath.Join(dir, manifestName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("%s is no backup, as it has no %s: %w", dir, manifestName, err)
	} else if err != nil {
		return m, err
	}
	var head struct{ Format int }
	if json.Unmarshal(text, &head) == nil && head.Format > formatVersion {
		return m, fmt.Errorf("%s is in format %d, and this program knows formats up to %d; or it is damaged", path, head.Format, formatVersion)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("%s is damaged: %w", path, err)
	}
	if same, err := m.text(); err != nil || !bytes.Equal(same, text) {
		return m, fmt.Errorf("%s is damaged: its checksum does not fit", path)
	}
	return m, nil
}

// writeManifest puts a manifest into the place of the one before, in one step.
func writeManifest(dir string, m Manifest) error {
	text, err := m.text()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, manifestName)
	f, err := os.OpenFile(path+unfinished, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+unfinished, path); err != nil {
		return err
	}
	return SyncDir(dir)
}

// SyncDir waits until the disk has a directory's entries.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
