package eventnode

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pebble takes a damaged end of a file for a write that a crash has torn, and opens the state before it in silence. So the
// directory has a mark beside the database: how far the log has got for certain. A log that ends before it is refused.
const (
	markFile  = "mark"
	markEvery = time.Second // how often it is brought up to date while the log grows
)

// mark is what the file says.
type mark struct {
	format uint32
	end    uint64 // the log's last record ends here, or behind
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (m mark) text() []byte {
	b := fmt.Appendf(nil, "format %d\nend %d\n", m.format, m.end)
	return fmt.Appendf(b, "checksum %08x\n", crc32.Checksum(b, castagnoli))
}

// readMark reads a directory's mark; found is false where there is none. A damaged one is an error.
func readMark(fs vfs.FS, dir string) (m mark, found bool, err error) {
	path := fs.PathJoin(dir, markFile)
	if _, err := fs.Stat(path); err != nil {
		return mark{}, false, nil
	}
	text, err := readFile(fs, path)
	if err != nil {
		return mark{}, false, fmt.Errorf("eventnode: %w", err)
	}
	if _, err = fmt.Sscanf(string(text), "format %d\nend %d\n", &m.format, &m.end); err != nil || string(text) != string(m.text()) {
		return mark{}, false, fmt.Errorf("eventnode: %s is damaged, so nobody can say where the log must end: restore %s from a backup", path, dir)
	}
	return m, true, nil
}

// writeMark replaces a directory's mark as a whole, and waits until the disk has it.
func writeMark(fs vfs.FS, dir string, m mark) error {
	path := fs.PathJoin(dir, markFile)
	if err := writeFile(fs, path+".new", m.text()); err != nil {
		return err
	}
	if err := fs.Rename(path+".new", path); err != nil {
		return err
	}
	parent, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

func readFile(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(f)
	return content, errors.Join(err, f.Close())
}

// writeFile writes a file and waits until the disk has it.
func writeFile(fs vfs.FS, path string, content []byte) error {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err = f.Write(content); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// reached moves the mark to where the log ends. Only one goroutine at a time may call it.
func (d *database) reached(end uint64) error {
	if end <= d.marked {
		return nil
	}
	if err := writeMark(d.fs, d.dir, mark{formatVersion, end}); err != nil {
		return fmt.Errorf("eventnode: %w", err)
	}
	d.marked = end
	return nil
}

// keepMark lets the mark follow what is published, until the committer ends. A mark that cannot be written is old, and not
// wrong, so the node goes on.
func (n *Node) keepMark() {
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	for {
		select {
		case <-n.writer.ended:
			return
		case <-tick.C:
			if err := n.database.reached(n.ring.watermark.Load()); err != nil {
				n.logger.Error("the mark is not written", "err", err)
			}
		}
	}
}
