package eventnode

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var discard = slog.New(slog.NewTextHandler(io.Discard, nil))

// A log that has lost its end is refused in one line, and nothing of it is changed.
func TestLogMustReachItsMark(t *testing.T) {
	t.Parallel()
	end := func(fs vfs.FS) uint64 {
		m, found, err := readMark(fs, "log")
		if err != nil || !found {
			t.Fatal(found, err)
		}
		return m.end
	}
	for name, c := range map[string]struct {
		harm func(*vfs.MemFS) error
		want string // "" is: it opens
	}{
		"as it was":          {func(*vfs.MemFS) error { return nil }, ""},
		"the log is shorter": {func(fs *vfs.MemFS) error { return writeMark(fs, "log", mark{formatVersion, end(fs) + 1}) }, "its log ends at position"},
		"the log is longer":  {func(fs *vfs.MemFS) error { return writeMark(fs, "log", mark{formatVersion, end(fs) - 1}) }, ""},
		"no mark":            {func(fs *vfs.MemFS) error { return fs.Remove("log/mark") }, "log/mark is missing"},
		"a damaged mark": {func(fs *vfs.MemFS) error {
			return writeFile(fs, "log/mark", []byte("format 2\nend 1\nchecksum 00000000\n"))
		}, "log/mark is damaged"},
		"a cut mark":           {func(fs *vfs.MemFS) error { return writeFile(fs, "log/mark", nil) }, "log/mark is damaged"},
		"a newer format":       {func(fs *vfs.MemFS) error { return writeMark(fs, "log", mark{formatVersion + 1, end(fs)}) }, "format version 3"},
		"a mark half written":  {func(fs *vfs.MemFS) error { return writeFile(fs, "log/mark.new", []byte("format")) }, ""},
		"nothing but the mark": {func(fs *vfs.MemFS) error { return dropAll(fs, func(name string) bool { return name != markFile }) }, "its log ends at position 63"},
		"no manifest": {func(fs *vfs.MemFS) error {
			return dropAll(fs, func(name string) bool { return strings.HasPrefix(name, "MANIFEST") })
		}, "cannot open"},
		"no table": {func(fs *vfs.MemFS) error {
			return dropAll(fs, func(name string) bool { return strings.HasSuffix(name, ".sst") })
		}, "cannot open"},
		"no write-ahead log": {func(fs *vfs.MemFS) error {
			return dropAll(fs, func(name string) bool { return strings.HasSuffix(name, ".log") })
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewMem()
			r := startRig(t, &rig{fs: fs})
			appending("s", expectAny, "a", "b")(r)
			r.down()
			copied := vfs.NewMem()
			copyFiles(t, copied, "log", fs, "log")
			r.up()
			if err := c.harm(copied); err != nil {
				t.Fatal(err)
			}
			before, _ := copied.List("log")
			d, err := openDatabase("log", copied, discard)
			switch {
			case err == nil && c.want == "":
				if err := d.close(); err != nil {
					t.Error(err)
				}
			case err == nil:
				_ = d.close()
				t.Error("it opens")
			case c.want == "" || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n"):
				t.Error(err)
			default:
				if after, _ := copied.List("log"); len(after) < len(before) {
					t.Errorf("files are gone: %v, of %v", after, before)
				}
				if report, err := check(context.Background(), "log", copied); err != nil || len(report.Damages) == 0 {
					t.Error("the check finds nothing", err)
				}
			}
		})
	}
}

func dropAll(fs vfs.FS, which func(string) bool) error {
	names, err := fs.List("log")
	for _, name := range names {
		if err == nil && which(name) {
			err = fs.Remove(fs.PathJoin("log", name))
		}
	}
	return err
}
