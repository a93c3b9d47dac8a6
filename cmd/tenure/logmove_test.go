package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/domain"
)

var moment = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// openLog opens a log for a test.
func openLog(t *testing.T, url string) *eventstore.Log {
	t.Helper()
	log, err := eventstore.Open(t.Context(), eventstore.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close(t.Context()) })
	return log
}

func rawEvent(n int) eventstore.Raw {
	return eventstore.Raw{ID: uuid.New(), Type: "thing.done", JSON: n%2 == 0, Data: fmt.Appendf(nil, `{"n":%d}`, n), Metadata: []byte(`{"m":1}`)}
}

func appendRaw(t *testing.T, log *eventstore.Log, stream string, expected int64, events ...eventstore.Raw) {
	t.Helper()
	if err := log.AppendRaw(t.Context(), stream, expected, events); err != nil {
		t.Fatal(err)
	}
}

// history fills a log with an epoch, streams in turns, metadata that hides, a deleted stream and a tombstone.
func history(t *testing.T, log *eventstore.Log) {
	t.Helper()
	if _, err := log.Epoch(t.Context(), "first", 1, moment); err != nil {
		t.Fatal(err)
	}
	for n := range 20 {
		appendRaw(t, log, "thing-a", int64(3*n)-1, rawEvent(n), rawEvent(n), rawEvent(n))
		appendRaw(t, log, "thing-b", int64(n)-1, rawEvent(n))
	}
	appendRaw(t, log, "thing-gone", domain.NoStream, rawEvent(1))
	appendRaw(t, log, "thing-hidden", domain.NoStream, rawEvent(1), rawEvent(2))
	metadata := func(data string) eventstore.Raw {
		return eventstore.Raw{ID: uuid.New(), Type: "$metadata", JSON: true, Data: []byte(data)}
	}
	appendRaw(t, log, "$$thing-a", domain.NoStream, metadata(`{"$maxCount":9}`), metadata(`{"$maxCount":2,"own":"x"}`))
	appendRaw(t, log, "$$thing-hidden", domain.NoStream, metadata(`{"$tb":9223372036854775807}`))
	if err := log.Tombstone(t.Context(), "thing-gone"); err != nil {
		t.Fatal(err)
	}
}

func everything(t *testing.T, log *eventstore.Log) (events []eventstore.Raw) {
	t.Helper()
	for r, err := range log.ReadRaw(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, r)
	}
	return events
}

func succeeds(t *testing.T, want string, args ...string) {
	t.Helper()
	if exit, stdout, stderr := call(t, nil, args...); exit != exitOK || !strings.HasPrefix(stdout, want) {
		t.Fatalf("%v: exit code %d, %q, want %q\n%s", args, exit, stdout, want, stderr)
	}
}

func refuses(t *testing.T, want string, args ...string) {
	t.Helper()
	exit, stdout, stderr := call(t, nil, args...)
	if exit == exitOK || stdout != "" || !strings.Contains(stderr, want) {
		t.Fatalf("%v: exit code %d, %q, want %q\n%s", args, exit, stdout, want, stderr)
	}
}

func TestARestoredLogIsTheSameInTheNextEpoch(t *testing.T) {
	url, backup, data := startNode(t, t.TempDir()), filepath.Join(t.TempDir(), "backup"), t.TempDir()
	log := openLog(t, url)
	history(t, log)
	before := everything(t, log)
	succeeds(t, fmt.Sprintf("backed up: %d events added", len(before)), "log", "backup", backup, "--eventstore", url)
	appendRaw(t, log, "thing-b", 19, rawEvent(20))
	succeeds(t, fmt.Sprintf("backed up: 1 events added, %d in all", len(before)+1), "log", "backup", backup, "--eventstore", url)
	succeeds(t, "backed up: 0 events added", "log", "backup", backup, "--eventstore", url)
	succeeds(t, "verified: ", "log", "verify", backup)
	succeeds(t, "restored: ", "log", "restore", backup, "--data", data)
	refuses(t, "there is a log in", "log", "restore", backup, "--data", data)

	restored := openLog(t, startNode(t, data))
	want, got := everything(t, log), everything(t, restored)
	if len(got) != len(want)+1 || fmt.Sprint(got[:len(want)]) != fmt.Sprint(want) {
		t.Fatalf("the restored log has\n%v\nwant\n%v", got, want)
	}
	if epoch, err := restored.LastEpoch(t.Context()); err != nil || epoch.Number != 2 || epoch.ID == "first" {
		t.Errorf("the epoch is %v, %v", epoch, err)
	}
	appendRaw(t, restored, "thing-b", 20, rawEvent(21))
	if err := restored.AppendRaw(t.Context(), "thing-gone", 0, []eventstore.Raw{rawEvent(1)}); domain.CodeOf(err) != domain.CodeNotFound {
		t.Errorf("the tombstoned stream answers %v", err)
	}
}

func TestABackupOfAnotherLogIsNotGoneOnWith(t *testing.T) {
	one, other, backup := startNode(t, t.TempDir()), startNode(t, t.TempDir()), filepath.Join(t.TempDir(), "backup")
	history(t, openLog(t, one))
	fill(t, other, "thing-a")
	succeeds(t, "backed up: ", "log", "backup", backup, "--eventstore", one)
	refuses(t, "is the backup of a log in epoch 1", "log", "backup", backup, "--eventstore", other)
	succeeds(t, "verified: ", "log", "verify", backup)
}

func TestADamagedBackupIsNotRestored(t *testing.T) {
	url, backup, data := startNode(t, t.TempDir()), filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "new")
	history(t, openLog(t, url))
	succeeds(t, "backed up: ", "log", "backup", backup, "--eventstore", url)
	path := filepath.Join(backup, "segment-00000001")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	refuses(t, "segment-00000001 (positions ", "log", "restore", backup, "--data", data)
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Errorf("something was written: %v", err)
	}
}

// ours are the events of a log that a copy has to keep, in their order, without their positions and times.
func ours(events []eventstore.Raw) (kept []eventstore.Raw) {
	for _, r := range events {
		if copied(r) {
			r.Position, r.Created = 0, 0
			kept = append(kept, r)
		}
	}
	return kept
}

func TestACopyIsTheSameHistory(t *testing.T) {
	from, to := startNode(t, t.TempDir()), startNode(t, t.TempDir())
	source, target := openLog(t, from), openLog(t, to)
	history(t, source)
	succeeds(t, "copied: 83 events in this run, 83 in all, equal on both sides; the target's epoch is 2", "log", "copy", "--from", from, "--to", to)
	wantCopy := func() {
		t.Helper()
		if got, want := ours(everything(t, target)), ours(everything(t, source)); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("the target has\n%v\nwant\n%v", got, want)
		}
	}
	wantCopy()
	for stream, want := range map[string]int{"thing-a": 2, "thing-b": 20, "thing-hidden": 0} {
		var shown []eventstore.Raw
		for r, err := range target.ReadRawBackwards(t.Context(), stream) {
			if err != nil {
				t.Fatal(err)
			}
			shown = append(shown, r)
		}
		if len(shown) != want {
			t.Errorf("%s shows %d events, want %d", stream, len(shown), want)
		}
	}
	if err := target.AppendRaw(t.Context(), "thing-gone", 0, []eventstore.Raw{rawEvent(1)}); domain.CodeOf(err) != domain.CodeNotFound {
		t.Errorf("the tombstoned stream answers %v", err)
	}

	appendRaw(t, source, "thing-hidden", 1, rawEvent(3)) // brings it back
	appendRaw(t, source, "thing-b", 19, rawEvent(20))
	succeeds(t, "copied: 2 events in this run, 85 in all", "log", "copy", "--from", from, "--to", to)
	wantCopy()
	succeeds(t, "copied: 0 events in this run, 85 in all, equal on both sides; the target's epoch is 2", "log", "copy", "--from", from, "--to", to)
}

func TestACopyGoesOnWhereItWasCutOff(t *testing.T) {
	from, to := startNode(t, t.TempDir()), startNode(t, t.TempDir())
	source, target := openLog(t, from), openLog(t, to)
	history(t, source)
	for _, r := range ours(everything(t, source))[:30] {
		appendRaw(t, target, r.Stream, r.Revision-1, r)
	}
	succeeds(t, "copied: 53 events in this run, 83 in all", "log", "copy", "--from", from, "--to", to)
}

func TestATargetThatIsNoCopyIsLeftAsItIs(t *testing.T) {
	from := startNode(t, t.TempDir())
	source := openLog(t, from)
	history(t, source)
	first := ours(everything(t, source))[0]
	changed, added := first, rawEvent(1)
	changed.Data = []byte("{}")
	added.Stream = "other"
	for want, e := range map[string]eventstore.Raw{"differs in its data": changed, "differs in its stream": added} {
		to := startNode(t, t.TempDir())
		target := openLog(t, to)
		appendRaw(t, target, e.Stream, domain.NoStream, e)
		before := everything(t, target)
		refuses(t, want, "log", "copy", "--from", from, "--to", to)
		if after := everything(t, target); len(after) != len(before) {
			t.Errorf("%d events were written", len(after)-len(before))
		}
	}
	own := startNode(t, t.TempDir())
	if _, err := openLog(t, own).Epoch(t.Context(), "another", 1, moment); err != nil {
		t.Fatal(err)
	}
	refuses(t, "the target is a log of its own", "log", "copy", "--from", from, "--to", own)
}

func TestAGapInAStreamIsNamed(t *testing.T) {
	events := []eventstore.Raw{{Position: 1, Stream: "s", Revision: 0}, {Position: 2, Stream: "t", Revision: 4}}
	_, err := survey(func(yield func(eventstore.Raw, error) bool) {
		for _, e := range events {
			if !yield(e, nil) {
				return
			}
		}
	})
	if err == nil || !strings.Contains(err.Error(), "stream t lacks revision 0") {
		t.Errorf("it says %v", err)
	}
}

func TestEveryDifferenceIsNamed(t *testing.T) {
	one := eventstore.Raw{Stream: "s", Revision: 1, ID: uuid.New(), Type: "T", JSON: true, Data: []byte("d"), Metadata: []byte("m")}
	var names []string
	for _, change := range []func(*eventstore.Raw){
		func(r *eventstore.Raw) { r.Stream = "x" }, func(r *eventstore.Raw) { r.Revision++ }, func(r *eventstore.Raw) { r.ID = uuid.New() },
		func(r *eventstore.Raw) { r.Type = "x" }, func(r *eventstore.Raw) { r.JSON = false }, func(r *eventstore.Raw) { r.Data = nil },
		func(r *eventstore.Raw) { r.Metadata = nil }, func(r *eventstore.Raw) { r.Position++; r.Created++ },
	} {
		other := one
		change(&other)
		names = append(names, difference(one, other))
	}
	if want := []string{"stream", "revision", "id", "type", "content type", "data", "metadata", ""}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}

func TestBackupsAreReadableByTheirOwnerAlone(t *testing.T) {
	url, backup := startNode(t, t.TempDir()), filepath.Join(t.TempDir(), "backup")
	fill(t, url, "thing-a")
	succeeds(t, "backed up: ", "log", "backup", backup, "--eventstore", url)
	for _, name := range []string{"", "manifest.json", "segment-00000001"} {
		info, err := os.Stat(filepath.Join(backup, name))
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%q: %v, %v", name, info, err)
		}
	}
	text, _ := os.ReadFile(filepath.Join(backup, "manifest.json"))
	if !bytes.Contains(text, []byte(`"format": 1`)) {
		t.Errorf("the manifest is\n%s", text)
	}
}
