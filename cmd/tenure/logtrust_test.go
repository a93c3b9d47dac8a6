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

	"github.com/tenure-dev/tenure/adapters/archive"
	"github.com/tenure-dev/tenure/adapters/eventnode/nodetest"
	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/domain"
)

func TestASecondBackupAtOnceIsRefused(t *testing.T) {
	url, backup := startNode(t, t.TempDir()), filepath.Join(t.TempDir(), "b")
	fill(t, url, "thing-a")
	w, err := archive.Append(backup, 0)
	if err != nil {
		t.Fatal(err)
	}
	exit, stdout, stderr := call(t, nil, "log", "backup", backup, "--eventstore", url)
	if exit != exitUsage || stdout != "" {
		t.Errorf("exit code %d, %q", exit, stdout)
	}
	wantOneLine(t, stderr, fmt.Sprintf("tenure: conflict: %s is in use by process %d", backup, os.Getpid()))
	w.Abandon()
	succeeds(t, "backed up: ", "log", "backup", backup, "--eventstore", url)
}

func TestASecondRestoreAtOnceIsRefused(t *testing.T) {
	url, backup, data := startNode(t, t.TempDir()), filepath.Join(t.TempDir(), "b"), t.TempDir()
	fill(t, url, "thing-a")
	succeeds(t, "backed up: ", "log", "backup", backup, "--eventstore", url)
	release, err := archive.Lock(filepath.Join(data, "restore.lock"))
	if err != nil {
		t.Fatal(err)
	}
	refuses(t, "is in use by process", "log", "restore", backup, "--data", data)
	release()
	succeeds(t, "restored: ", "log", "restore", backup, "--data", data)
}

func TestARestoreLeavesUsersInTheirPlace(t *testing.T) {
	url, backup, data := startNode(t, t.TempDir()), filepath.Join(t.TempDir(), "b"), t.TempDir()
	fill(t, url, "thing-a")
	succeeds(t, "backed up: ", "log", "backup", backup, "--eventstore", url)
	if exit, _, stderr := users(t, data, "good-password\n", "add", "adam", "--roles", "$admins"); exit != exitOK {
		t.Fatal(stderr)
	}
	// A run that was cut off between its last two steps has the users.
	place := filepath.Join(data, "log")
	if err := moveUsers(place, place+".restoring"); err != nil {
		t.Fatal(err)
	}
	succeeds(t, "restored: ", "log", "restore", backup, "--data", data)
	if exit, stdout, _ := users(t, data, "", "list"); exit != exitOK || !strings.Contains(stdout, "adam") {
		t.Errorf("the users are %q", stdout)
	}
	refuses(t, "there is a log in", "log", "restore", backup, "--data", data)
}

func TestAChangedByteAndACutInAnyFileOfABackupAreNamed(t *testing.T) {
	url, backup, data := startNode(t, t.TempDir()), filepath.Join(t.TempDir(), "b"), filepath.Join(t.TempDir(), "new")
	log := openLog(t, url)
	history(t, log)
	for range 3 { // segments
		succeeds(t, "backed up: ", "log", "backup", backup, "--eventstore", url)
		appendRaw(t, log, uuid.NewString(), domain.NoStream, rawEvent(1))
	}
	for _, name := range []string{"manifest.json", "segment-00000001", "segment-00000002", "segment-00000003"} {
		path := filepath.Join(backup, name)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 8 {
			at := n * (len(content) - 1) / 7
			changed := bytes.Clone(content)
			changed[at] ^= 0x10
			for _, damaged := range [][]byte{changed, content[:at]} {
				if err := os.WriteFile(path, damaged, 0o600); err != nil {
					t.Fatal(err)
				}
				refuses(t, name, "log", "verify", backup)
				refuses(t, name, "log", "restore", backup, "--data", data)
			}
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("something was restored")
	}
	succeeds(t, "verified: ", "log", "verify", backup)
}

// shown is what a reader of each stream sees, without positions and times.
func shown(t *testing.T, log *eventstore.Log, streams ...string) (lines []string) {
	t.Helper()
	for _, stream := range streams {
		for r, err := range log.ReadRawBackwards(t.Context(), stream) {
			if err != nil {
				lines = append(lines, fmt.Sprintf("%s: %s", stream, domain.CodeOf(err)))
				break
			}
			lines = append(lines, fmt.Sprintf("%s %d %s %s %s", stream, r.Revision, r.ID, r.Data, r.Metadata))
		}
	}
	return lines
}

func TestWhatIsHiddenStaysHiddenForReaders(t *testing.T) {
	from, to, backup, data := startNode(t, t.TempDir()), startNode(t, t.TempDir()), filepath.Join(t.TempDir(), "b"), t.TempDir()
	source := openLog(t, from)
	history(t, source)
	var streams []string
	for name, metadata := range map[string]string{"kept": `{"own":1}`, "counted": `{"$maxCount":3}`, "cut": `{"$tb":4}`, "both": `{"$maxCount":4,"$tb":5}`,
		"aged": `{"$maxAge":1000000}`, "softly": `{"$tb":9223372036854775807}`, "bad": `{"$maxCount":"x"}`, "none": ""} {
		streams = append(streams, name)
		appendRaw(t, source, name, domain.NoStream, rawEvent(0), rawEvent(1), rawEvent(2), rawEvent(3), rawEvent(4), rawEvent(5))
		if metadata != "" {
			appendRaw(t, source, "$$"+name, domain.NoStream, eventstore.Raw{ID: uuid.New(), Type: "$metadata", JSON: true, Data: []byte(metadata)})
		}
	}
	slices.Sort(streams)
	streams = append(streams, "thing-a", "thing-b", "thing-gone", "thing-hidden")
	want := shown(t, source, streams...)
	succeeds(t, "backed up: ", "log", "backup", backup, "--eventstore", from)
	succeeds(t, "restored: ", "log", "restore", backup, "--data", data)
	succeeds(t, "copied: ", "log", "copy", "--from", from, "--to", to)
	for name, url := range map[string]string{"the restored log": startNode(t, data), "the copy": to} {
		if got := shown(t, openLog(t, url), streams...); !slices.Equal(got, want) {
			t.Errorf("%s shows\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// secureNode runs a node with TLS and the users admin and ops, and gives its address without and with a password.
func secureNode(t *testing.T) (anyone, admin string) {
	t.Helper()
	cert, key, _ := nodetest.SelfSigned(t, t.TempDir(), 1)
	url := startNode(t, t.TempDir(), "--tls-cert", cert, "--tls-key", key, "--dev-users") + "&tlsCaFile=" + cert
	return url, strings.Replace(url, "esdb://", "esdb://admin:changeit@", 1)
}

func TestACopyBetweenNodesWithTLSAndUsers(t *testing.T) {
	stranger, from := secureNode(t)
	_, to := secureNode(t)
	history(t, openLog(t, from))
	refuses(t, "", "log", "copy", "--from", stranger, "--to", to)
	if n := len(ours(everything(t, openLog(t, to)))); n > 0 {
		t.Fatalf("a stranger has copied %d events", n)
	}
	succeeds(t, "copied: 83 events", "log", "copy", "--from", from, "--to", to)
	if got, want := ours(everything(t, openLog(t, to))), ours(everything(t, openLog(t, from))); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the target has %d events, and is not the same as the source's %d", len(got), len(want))
	}
}

func TestACopyThatWasCutOffGoesOnAfterTheSourceHasGrown(t *testing.T) {
	from, to := startNode(t, t.TempDir()), startNode(t, t.TempDir())
	source, target := openLog(t, from), openLog(t, to)
	history(t, source)
	for _, r := range ours(everything(t, source))[:30] {
		appendRaw(t, target, r.Stream, r.Revision-1, r)
	}
	appendRaw(t, source, "thing-a", 59, rawEvent(1))
	appendRaw(t, source, "thing-new", domain.NoStream, rawEvent(1), rawEvent(2))
	succeeds(t, "copied: 56 events in this run, 86 in all", "log", "copy", "--from", from, "--to", to)
	if got, want := ours(everything(t, target)), ours(everything(t, source)); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the target has\n%v\nwant\n%v", got, want)
	}
}

func TestATargetWithMoreThanTheSourceIsLeftAsItIs(t *testing.T) {
	from, to := startNode(t, t.TempDir()), startNode(t, t.TempDir())
	source, target := openLog(t, from), openLog(t, to)
	history(t, source)
	for _, r := range ours(everything(t, source)) {
		appendRaw(t, target, r.Stream, r.Revision-1, r)
	}
	appendRaw(t, target, "own", domain.NoStream, rawEvent(1))
	before := everything(t, target)
	refuses(t, "the target has an event that the source does not have: revision 0 of own", "log", "copy", "--from", from, "--to", to)
	if after := everything(t, target); len(after) != len(before) {
		t.Errorf("%d events were written", len(after)-len(before))
	}
}

func TestProgressIsShownOnceASecond(t *testing.T) {
	var out bytes.Buffer
	now := moment
	p := newProgress(&out, "copying", func() time.Time { return now })
	for _, after := range []time.Duration{400 * time.Millisecond, 600 * time.Millisecond, 999 * time.Millisecond, 2 * time.Second} {
		now = now.Add(after)
		p.step(100, 0.5)
	}
	p.end()
	want := "copying: 200 events, 50 %, 200 events/s\ncopying: 400 events, 50 %, 100 events/s\ncopying: 400 events, 100 events/s\n"
	if out.String() != want {
		t.Errorf("it shows\n%swant\n%s", out.String(), want)
	}
}
