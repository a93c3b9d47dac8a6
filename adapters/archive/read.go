package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
)

// Verify reads a whole backup and finds what is damaged, cut, missing, exchanged or added. The error names the file, and
// the positions that it holds. Leftovers are the files of a run that was cut off, or that is under way: they are no part of
// the backup, which is as whole without them.
func Verify(dir string) (m Manifest, leftovers []string, err error) {
	names, err := namesIn(dir) // before the manifest: what a run adds meanwhile is not looked at
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return m, nil, err
	}
	m, err = ReadManifest(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(names) > 0 && onlyBackup(dir) == nil:
		return m, nil, fmt.Errorf("%s holds no whole backup: the %s is missing, or its first run was cut off or is under way", dir, manifestName)
	case err != nil:
		return m, nil, err
	}
	for _, name := range m.unnamed(names) {
		if !ourNames.MatchString(name) {
			return m, nil, fmt.Errorf("%s has %s, which its manifest does not name", dir, name)
		}
		leftovers = append(leftovers, name)
	}
	for _, err := range Records(dir, m) {
		if err != nil {
			return m, leftovers, err
		}
	}
	return m, leftovers, nil
}

// Records yields the events of a backup, ascending by position. Each segment is checked before any of it is given out. An
// event shares memory with its segment.
func Records(dir string, m Manifest) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		var events int64
		chain := Manifest{}
		for _, s := range m.Segments {
			records, err := readSegment(dir, s, chain)
			if err != nil {
				yield(Record{}, err)
				return
			}
			for _, r := range records {
				if !yield(r, nil) {
					return
				}
			}
			chain.Segments = append(chain.Segments, s)
			events += s.Events
		}
		if events != m.Events {
			yield(Record{}, fmt.Errorf("the segments of %s have %d events, and its manifest says %d", dir, events, m.Events))
		}
	}
}

func readSegment(dir string, s Segment, chain Manifest) ([]Record, error) {
	content, err := os.ReadFile(filepath.Join(dir, s.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing in %s", s, dir)
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w", s, err)
	}
	bad := func(what string) ([]Record, error) { return nil, fmt.Errorf("%s in %s %s", s, dir, what) }
	if int64(len(content)) != s.Bytes {
		return bad(fmt.Sprintf("has %d bytes instead of %d", len(content), s.Bytes))
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != s.SHA256 {
		return bad("is damaged: its SHA-256 is another")
	}
	if len(content) < headerSize || !bytes.HasPrefix(content, []byte(magic)) {
		return bad("is no segment")
	}
	if before := hex.EncodeToString(content[len(magic):headerSize]); before != chain.before() || before != s.Before {
		return bad("does not follow the segment before it")
	}
	records := make([]Record, 0, min(s.Events, s.Bytes/fixedSize))
	last := chain.end()
	for rest := content[headerSize:]; len(rest) > 0; {
		var r Record
		if r, rest, err = nextRecord(rest); err != nil {
			return bad(err.Error())
		}
		if r.Position <= last {
			return bad("holds events that are out of order")
		}
		last = r.Position
		records = append(records, r)
	}
	if int64(len(records)) != s.Events || len(records) == 0 || records[0].Position != s.First || last != s.Last {
		return bad("holds other events than the manifest says")
	}
	return records, nil
}
