package eventnode

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// formatStory is what the directories below testdata hold: a few streams, metadata, a soft-deleted stream, a tombstone,
// links, and an append of nothing. Its first half is in tables, the second in the write-ahead log.
func formatStory(r *rig) {
	link := proposed("1@orders-1")
	link.Metadata["type"] = linkType
	for _, do := range []step{
		appending("orders-1", expectNoStream, "a", "b", "c"),
		setting("orders-1", `{"$tb":1,"$maxCount":5,"owner":"x"}`),
		appending("orders-2", expectNoStream, "d"),
		deleting("orders-2", expectAny),
		restarting,
		passing(time.Second),
		appending("gone", expectAny, "e"),
		tombstoning("gone", expectAny),
		appendingEvents("links", expectAny, link),
		appending("orders-1", expectAny),
		appending("orders-1", 2, "f"),
	} {
		do(r)
	}
}

// Writes testdata/format-N with the program as it is. Made once for each format, and kept for ever.
func TestWriteFormatFixture(t *testing.T) {
	dir := os.Getenv("TENURE_WRITE_FORMAT")
	if dir == "" {
		t.Skip("TENURE_WRITE_FORMAT is not set: the directory to write, such as testdata/format-1")
	}
	fs := vfs.NewMem()
	r := startRig(t, &rig{fs: fs})
	formatStory(r)
	r.down()
	copyFiles(t, vfs.Default, dir, fs, "log")
	r.up()
}

// What any version has written, this one reads, and goes on writing.
func TestEveryFormatIsReadable(t *testing.T) {
	t.Parallel()
	for version := 1; version <= formatVersion; version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewMem()
			copyFiles(t, fs, "log", vfs.Default, filepath.Join("testdata", fmt.Sprintf("format-%d", version)))
			r := startRig(t, &rig{fs: fs})
			for _, s := range []then{
				{reading(ofStream("orders-1")), "b c f"},
				{reading(ofStream("$$orders-1")), `[$metadata {"$tb":1,"$maxCount":5,"owner":"x"}]`},
				{reading(ofStream("orders-2")), "not-found"},
				{reading(ofStream("gone")), "FailedPrecondition stream-deleted"},
				{reading(ofStream("links"), resolving), "1@orders-1->b"},
				{reading(ofAll, filtered("type", 32, 1, "T", "$>", "$streamDeleted")), "a b c d e [$streamDeleted ] 1@orders-1 f"},
				{appending("orders-1", expectNoStream, "a", "b"), "at 1"},
				{appending("orders-1", 0, "x"), "wrong, at 3"},
				{appending("orders-1", 3, "g"), "at 4"},
				{appending("orders-2", expectNoStream, "h"), "at 1"},
				{restarting, "*"},
				{reading(ofStream("orders-1")), "b c f g"},
				{reading(ofStream("orders-2")), "h"},
			} {
				if got := s.do(r); s.want != "*" && got != s.want {
					t.Errorf("got  %s\nwant %s", got, s.want)
				}
			}
			messages, err, _ := r.read(ofStream("orders-1"), count(1))
			if err != nil || len(messages) != 1 {
				t.Fatal(messages, err)
			}
			e := messages[0].GetEvent().GetEvent()
			if got := fmt.Sprint(e.StreamRevision, e.CommitPosition, e.Metadata, e.Id); got != fmt.Sprint(1, e.PreparePosition,
				map[string]string{"type": "T", "content-type": "application/json", "created": fmt.Sprint(ticks(newClock().now()))}, wireID(eventID("b"))) {
				t.Error(got)
			}
		})
	}
}

// copyFiles copies a directory of files.
func copyFiles(t testing.TB, to vfs.FS, toDir string, from vfs.FS, fromDir string) {
	t.Helper()
	names, err := from.List(fromDir)
	if err == nil {
		err = to.MkdirAll(toDir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		content, err := readFile(from, from.PathJoin(fromDir, name))
		if err == nil {
			err = writeFile(to, to.PathJoin(toDir, name), content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
