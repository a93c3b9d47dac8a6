package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tenure-dev/tenure/agent/drivers"
)

var sampleRecords = []record{
	{Reset: &resetRecord{PlaneID: plane, Epoch: Epoch{1, "one"}, Doubtful: -1, Cursor: 50}},
	{Tenant: &tenantState{desired: desired{TenantID: tenA, Isolation: drivers.Silo, CredentialVersion: 2, Limits: map[string]int64{"connections": 9}, Change: 4}, Settled: true}},
	{Begun: &operation{ID: "a1", Revision: 51, Kind: rotateCredentials, Tenant: desired{TenantID: tenA, Isolation: drivers.Silo, CredentialVersion: 3, Change: 5, Causes: 2, Suspended: true}}},
	{Outcome: &outcome{OperationID: "a1", TenantID: tenA, Revision: 51, Finished: 1, Result: done}},
	{Recorded: []string{"a1"}},
	{Begun: &operation{ID: "b1", Revision: 52, Kind: provision, Tenant: desired{TenantID: tenB, Isolation: drivers.Pool, CredentialVersion: 1, Change: 1}}},
	{Outcome: &outcome{OperationID: "b2", TenantID: tenB, Revision: 53, Finished: 2, Result: superseded, Code: staleChange}},
}

func encoded(t testing.TB, records ...record) []byte {
	t.Helper()
	text, err := encodeRecords(records...)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func fold(records []record) journalState {
	s := newJournalState()
	for _, r := range records {
		s.apply(r)
	}
	return s
}

var sameState = cmp.Options{cmpopts.EquateEmpty(), cmp.AllowUnexported(tenantState{}, journalState{})}

func TestTheFoldOfAJournal(t *testing.T) {
	want := journalState{
		resetRecord: resetRecord{PlaneID: plane, Epoch: Epoch{1, "one"}, Doubtful: -1, Cursor: 53},
		Tenants: map[string]tenantState{
			tenA: {desired: desired{TenantID: tenA, Isolation: drivers.Silo, CredentialVersion: 3, Change: 5, Causes: 2, Suspended: true}, Settled: true},
			tenB: {desired: desired{TenantID: tenB, Isolation: drivers.Pool, CredentialVersion: 1, Change: 1}},
		},
		Open: map[string]openOperation{"b1": {Begun: sampleRecords[5].Begun}, "b2": {Outcome: sampleRecords[6].Outcome}},
	}
	if diff := cmp.Diff(want, fold(sampleRecords), sameState); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}

func TestACompactedJournalFoldsToTheSameState(t *testing.T) {
	want := fold(sampleRecords)
	records, _, err := decodeRecords(encoded(t, want.records()...))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, fold(records), sameState); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}

func TestAJournalCutAnywhereKeepsItsWholeRecords(t *testing.T) {
	text := encoded(t, sampleRecords...)
	for cut := range len(text) {
		records, whole, err := decodeRecords(text[:cut])
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if want := bytes.Count(text[:cut], []byte("\n")); len(records) != want || whole > int64(cut) {
			t.Fatalf("cut at %d: %d records up to byte %d, want %d", cut, len(records), whole, want)
		}
	}
}

func TestAJournalThatIsDamagedInItsMiddleIsNotBelieved(t *testing.T) {
	text := encoded(t, sampleRecords...)
	lastLine := bytes.LastIndexByte(text[:len(text)-1], '\n')
	for at := range lastLine - 1 {
		if text[at] == '\n' {
			continue
		}
		spoilt := bytes.Clone(text)
		spoilt[at] ^= 1
		if _, _, err := decodeRecords(spoilt); err == nil {
			t.Fatalf("a flipped bit at %d goes unseen", at)
		}
	}
}

func FuzzDecodeRecords(f *testing.F) {
	f.Add(encoded(f, sampleRecords...))
	f.Add([]byte("00000000 {}\n"))
	f.Add(encoded(f, record{Reset: &resetRecord{}}, record{}))
	f.Fuzz(checkDecoding)
}

// FuzzJournalText gets behind the checksums: its input is the JSON alone.
func FuzzJournalText(f *testing.F) {
	var lines [][]byte
	for line := range bytes.Lines(encoded(f, sampleRecords...)) {
		lines = append(lines, line[9:])
	}
	f.Add(bytes.Join(lines, nil))
	f.Fuzz(func(t *testing.T, text []byte) {
		var content []byte
		for line := range bytes.Lines(text) {
			line = bytes.TrimSuffix(line, []byte("\n"))
			content = fmt.Appendf(content, "%08x %s\n", crc32.Checksum(line, castagnoli), line)
		}
		checkDecoding(t, content)
	})
}

func checkDecoding(t *testing.T, content []byte) {
	records, whole, err := decodeRecords(content)
	if err != nil {
		return
	}
	again, all, err := decodeRecords(content[:whole])
	if err != nil || all != whole || len(again) != len(records) {
		t.Fatalf("the whole part reads as %d records up to %d, %v; before it was %d up to %d", len(again), all, err, len(records), whole)
	}
	if len(records) == 0 {
		return
	}
	state := fold(records)
	compacted, _, err := decodeRecords(encoded(t, state.records()...))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(state, fold(compacted), sameState); diff != "" {
		t.Errorf("compacted (-want +got):\n%s", diff)
	}
}

func TestOpeningAJournal(t *testing.T) {
	good := encoded(t, sampleRecords...)
	for name, c := range map[string]struct {
		content []byte
		plane   string
		kept    bool // what it says is believed
		aside   bool // it is kept under another name
	}{
		"none":             {nil, plane, false, false},
		"empty":            {[]byte{}, plane, false, false},
		"good":             {good, plane, true, false},
		"torn":             {append(bytes.Clone(good), "1234abcd {\"begun\":"...), plane, true, false},
		"torn with zeros":  {append(bytes.Clone(good), make([]byte, 512)...), plane, true, false},
		"damaged":          {append([]byte("x"), good...), plane, false, true},
		"of another plane": {good, "pln_bbbbbbbbbbbbbbbbbbbbbbbbbb", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, journalFile)
			if c.content != nil {
				if err := os.WriteFile(path, c.content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			j, err := openJournal(dir, c.plane, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer j.close()
			if got := j.state.Epoch == (Epoch{1, "one"}); got != c.kept {
				t.Errorf("believed: %v", got)
			}
			aside, _ := filepath.Glob(path + ".damaged-*")
			if len(aside) > 0 != c.aside {
				t.Errorf("set aside: %v", aside)
			}
			if c.kept { // what was torn is gone, and the next record follows whole ones
				if err := j.end(Epoch{1, "one"}, outcome{OperationID: "b1", Revision: 52, Result: done}); err != nil {
					t.Fatal(err)
				}
				state, _, err := readJournal(path)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(j.state, state, sameState); diff != "" {
					t.Errorf("read back (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestAJournalIsCompactedAsItGrows(t *testing.T) {
	dir := t.TempDir()
	j, err := openJournal(dir, plane, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	epoch := Epoch{1, "one"}
	if err := j.resync(epoch, 0, true, nil); err != nil {
		t.Fatal(err)
	}
	j.size = compactFrom // as if it had grown
	if err := j.end(epoch, outcome{OperationID: "a1", Revision: 1, Result: withdrawn}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(j.path)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "size", info.Size(), j.size)
	if err := j.recorded([]string{"a1", "unknown"}); err != nil {
		t.Fatal(err)
	}
	state, _, err := readJournal(j.path)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "open", 0, len(state.Open))
}

func TestNothingBeginsWhenTheJournalCannotBeWritten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, d := newGateway(t), &fakeDriver{}
		cfg := config(t, g, d)
		agent, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- agent.Run(context.Background()) }()
		k := g.open()
		_ = agent.journal.file.Close() // as a full or failed disk would
		k.ask(op("a1", 51, provision, tenant(tenA)))
		wantCode(t, <-ended, CodeInternal)
		wantSame(t, "with the driver", nil, d.ran())
		k.hangUp()
	})
}

func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	d := &fakeDriver{}
	secret := func(id string) (string, error) { return Secret(t.Context(), dir, id, d) }

	_, err := secret(tenA)
	wantCode(t, err, CodeNotFound) // no journal at all

	at := func(id string, with func(*tenantState)) record {
		state := tenantState{desired: desired{TenantID: id, Isolation: drivers.Silo, CredentialVersion: 2}, Settled: true}
		with(&state)
		return record{Tenant: &state}
	}
	content := encoded(t,
		record{Reset: &resetRecord{PlaneID: plane, Epoch: Epoch{1, "one"}}},
		at(tenA, func(*tenantState) {}),
		at("ten_gone", func(s *tenantState) { s.Gone = true }),
		at("ten_begun", func(s *tenantState) { s.Settled = false }),
		at("ten_missing", func(*tenantState) {}),
	)
	content = append(content, "a record that is just being wri"...)
	if err := os.WriteFile(filepath.Join(dir, journalFile), content, 0o600); err != nil {
		t.Fatal(err)
	}
	url, err := secret(tenA)
	if err != nil || !strings.Contains(url, tenA+":v2") {
		t.Errorf("URL %q, %v", url, err)
	}
	for _, id := range []string{"ten_gone", "ten_begun", "ten_missing", "ten_unknown", ""} {
		_, err := secret(id)
		wantCode(t, err, CodeNotFound)
	}
	after, err := os.ReadFile(filepath.Join(dir, journalFile))
	if err != nil || !bytes.Equal(content, after) {
		t.Errorf("reading a secret changed the journal: %v", err)
	}
}

func TestASecretFollowsRotationAndDeprovisioningWhileTheAgentRuns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, d := newGateway(t), &fakeDriver{}
		cfg := config(t, g, d)
		a := start(t, cfg)
		k := g.open()
		for i, step := range []struct {
			kind kind
			with int64
			want string
		}{{provision, 1, ":v1@"}, {rotateCredentials, 2, ":v2@"}, {resize, 1, ":v2@"}, {suspend, 1, ":v2@"}, {deprovision, 2, ""}} {
			k.ask(op("a"+string(rune('1'+i)), int64(51+i), step.kind, tenant(tenA, credential(step.with))))
			k.outcome()
			url, err := Secret(t.Context(), cfg.Dir, tenA, d)
			if step.want == "" {
				wantCode(t, err, CodeNotFound)
			} else if err != nil || !strings.Contains(url, step.want) {
				t.Errorf("after %s: %q, %v", step.kind, url, err)
			}
		}
		k.hangUp()
		a.stop()
	})
}

// Those that wait for the disk share one sync; each is in the file when it returns.
func TestRecordsThatShareASync(t *testing.T) {
	dir := t.TempDir()
	j, err := openJournal(dir, plane, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	epoch := Epoch{1, "one"}
	if err := j.resync(epoch, 0, true, nil); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for n := range 50 {
		wg.Go(func() {
			op := operation{ID: fmt.Sprint("op-", n), Kind: provision, Tenant: desired{TenantID: fmt.Sprint("ten-", n), Isolation: drivers.Pool, Change: 1}}
			if tenant, stale, err := j.begin(epoch, op); err != nil || stale != "" || tenant.Change != 1 {
				t.Errorf("%s: %+v %q %v", op.ID, tenant, stale, err)
			}
			if err := j.end(epoch, outcome{OperationID: op.ID, TenantID: op.Tenant.TenantID, Result: done}); err != nil {
				t.Error(err)
			}
			if kept, _, err := readJournal(j.path); err != nil || kept.Open[op.ID].Outcome == nil {
				t.Errorf("%s is not in the file: %v", op.ID, err)
			}
			if _, _, err := j.begin(Epoch{2, "two"}, op); !errors.Is(err, errOtherEpoch) {
				t.Errorf("of another epoch: %v", err)
			}
		})
	}
	wg.Wait()
}
