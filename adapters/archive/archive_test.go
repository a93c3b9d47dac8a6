package archive

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/tenure-dev/tenure/domain"
)

func records(n int) (out []Record) {
	for i := range n {
		out = append(out, Record{Position: uint64(i*7 + 3), Stream: fmt.Sprintf("s-%d", i%2), Revision: int64(i / 2), ID: uuid.NewSHA1(uuid.Nil, []byte{byte(i)}),
			Type: "T", JSON: i%3 == 0, Created: int64(i) - 2, Data: bytes.Repeat([]byte{byte(i)}, i), Metadata: []byte("m")})
	}
	return out
}

// add adds records to a backup, as one run.
func add(t *testing.T, dir string, limit int64, rs ...Record) Manifest {
	t.Helper()
	w, err := Append(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rs {
		if err := w.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	last := rs[len(rs)-1]
	m, err := w.Finish(Epoch{1, "e"}, Last{last.Position, last.ID})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func wantRecords(t *testing.T, dir string, want []Record) {
	t.Helper()
	m, leftovers, err := Verify(dir)
	if err != nil || len(leftovers) > 0 {
		t.Fatal(leftovers, err)
	}
	var got []Record
	for r, err := range Records(dir, m) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || m.Events != int64(len(want)) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestWhatIsAddedIsReadAgain(t *testing.T) {
	dir, rs := filepath.Join(t.TempDir(), "b"), records(20)
	if m := add(t, dir, 200, rs[:12]...); len(m.Segments) < 3 {
		t.Fatalf("there are %d segments, want several", len(m.Segments))
	}
	wantRecords(t, dir, rs[:12])
	add(t, dir, 0, rs[12:]...)
	wantRecords(t, dir, rs)
}

func TestARunThatIsCutOffLeavesTheBackupAsItWas(t *testing.T) {
	dir, rs := t.TempDir(), records(20)
	add(t, dir, 200, rs[:8]...)
	w, err := Append(dir, 200)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rs[8:16] {
		if err := w.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	w.Abandon()
	if err := os.WriteFile(filepath.Join(dir, manifestName+unfinished), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, leftovers, err := Verify(dir)
	if err != nil || m.Events != 8 || len(leftovers) < 2 || leftovers[0] != manifestName+unfinished || !strings.HasPrefix(leftovers[1], "segment-") {
		t.Fatalf("the backup has %d events, and beside it %q, %v", m.Events, leftovers, err)
	}
	add(t, dir, 0, rs[8:]...)
	wantRecords(t, dir, rs)
}

func TestAFirstRunThatIsCutOffLeavesNoBackup(t *testing.T) {
	dir := t.TempDir()
	w, err := Append(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(records(1)[0]); err != nil {
		t.Fatal(err)
	}
	w.Abandon()
	if _, _, err := Verify(dir); err == nil || !strings.Contains(err.Error(), "holds no whole backup") {
		t.Errorf("it says %v", err)
	}
	add(t, dir, 0, records(3)...)
	wantRecords(t, dir, records(3))
}

func TestOnlyOneAtATimeAddsToABackup(t *testing.T) {
	dir, rs := t.TempDir(), records(4)
	w, err := Append(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(rs[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := Append(dir, 0); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("%s is in use by process %d", dir, os.Getpid())) {
		t.Fatalf("a second writer is told %v", err)
	}
	if _, err := w.Finish(Epoch{}, Last{rs[0].Position, rs[0].ID}); err != nil {
		t.Fatal(err)
	}
	add(t, dir, 0, rs[1:]...)
	wantRecords(t, dir, rs)
}

func TestAnEventWithoutAnIDIsNotTaken(t *testing.T) {
	w, err := Append(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abandon()
	r := records(1)[0]
	r.ID = uuid.Nil
	if err := w.Add(r); domain.CodeOf(err) != domain.CodeInvalid || !strings.Contains(err.Error(), "id is missing") {
		t.Errorf("it says %v", err)
	}
}

func TestADirectoryWithOtherThingsIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "letters")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Append(dir, 0); err == nil || !strings.Contains(err.Error(), "letters") {
		t.Errorf("it says %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Error("it is not as it was", entries, err)
	}
}

func TestAFlippedBitInAnyByteAndACutAreFoundAndNamed(t *testing.T) {
	dir := t.TempDir()
	m := add(t, dir, 200, records(12)...)
	names := []string{manifestName}
	for _, s := range m.Segments {
		names = append(names, s.Name)
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		refuse := func(what string, damaged []byte) {
			t.Helper()
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, _, err := Verify(dir); err == nil || !strings.Contains(err.Error(), name) {
				t.Fatalf("%s of %s: %v", what, name, err)
			}
		}
		for at := range content {
			damaged := bytes.Clone(content)
			damaged[at] ^= 1 << (at % 8)
			refuse(fmt.Sprintf("a flipped bit in byte %d", at), damaged)
		}
		for n := 0; n < len(content); n += 13 {
			refuse(fmt.Sprintf("a cut to %d bytes", n), content[:n])
		}
		refuse("a byte more", append(bytes.Clone(content), '\n'))
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := Verify(dir); err != nil {
		t.Error(err)
	}
}

func TestFilesThatAreMissingExchangedOrAddedAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		change func(dir string, segments []Segment) error
		want   string
	}{
		"missing": {func(dir string, s []Segment) error { return os.Remove(filepath.Join(dir, s[1].Name)) }, "segment-00000002 (positions "},
		"added": {func(dir string, s []Segment) error {
			return os.WriteFile(filepath.Join(dir, "segment-1"), nil, 0o600)
		}, "segment-1"},
		"manifest": {func(dir string, s []Segment) error { return os.Remove(filepath.Join(dir, manifestName)) }, manifestName},
		"exchanged": {func(dir string, s []Segment) error {
			a, b, c := filepath.Join(dir, s[0].Name), filepath.Join(dir, s[1].Name), filepath.Join(dir, "x")
			return firstOf(os.Rename(a, c), os.Rename(b, a), os.Rename(c, b))
		}, "segment-00000001 (positions "},
		"a manifest that leaves a segment out": {func(dir string, s []Segment) error {
			m, err := ReadManifest(dir)
			m.Segments = append(m.Segments[:1:1], m.Segments[2:]...)
			m.Events -= s[1].Events
			return firstOf(err, writeManifest(dir, m), os.Remove(filepath.Join(dir, s[1].Name)))
		}, "does not follow the segment before it"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			m := add(t, dir, 200, records(12)...)
			if err := c.change(dir, m.Segments); err != nil {
				t.Fatal(err)
			}
			if _, _, err := Verify(dir); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it says %v, want %q", err, c.want)
			}
		})
	}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestPositionsMustAscend(t *testing.T) {
	dir, rs := t.TempDir(), records(3)
	add(t, dir, 0, rs[:2]...)
	w, err := Append(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abandon()
	if err := w.Add(rs[1]); err == nil {
		t.Error("an event that the backup has is added again")
	}
	if err := w.Add(rs[2]); err != nil {
		t.Error(err)
	}
}
