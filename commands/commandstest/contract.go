package commandstest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain"
)

// Contract is what every implementation of commands.Log keeps to. The log may hold other streams; the names used begin
// with "contract" and prefix.
func Contract(t *testing.T, log commands.Log, prefix string) {
	stream := func(t *testing.T) string {
		return "contract-" + prefix + strings.ReplaceAll(t.Name(), "/", ".")
	}
	t.Run("a missing stream is empty", func(t *testing.T) {
		expectStream(t, log, stream(t), 0)
		expectStream(t, log, stream(t), 7)
	})
	t.Run("what is appended is read back whole", func(t *testing.T) {
		s := stream(t)
		meta := domain.Meta{Rev: 3, Correlation: "corr", Causation: "cause", CommandID: "cmd", InputHash: "hash", Actor: "usr", Org: "org_1", Tenant: "ten_1",
			Traceparent: "00-1-2-01", Epoch: domain.Epoch{Number: 2, ID: "e"}, Answers: &domain.Answers{Saga: "sag", Command: "c"}, Read: map[string]int64{"x-1": 4}}
		e := domain.Proposed{ID: domain.DeriveUUID(s).String(), Type: "x.done", Data: []byte(`{"text":"ü"}`), Meta: meta.Encode()}
		done := mustAppend(t, log, s, domain.NoStream, e)
		got := expectStream(t, log, s, 0, e)[0]
		if done.Revision != 0 || done.Commit == 0 || got.Commit != done.Commit || got.Created.IsZero() || !domain.Micro(got.Created).Equal(got.Created) {
			t.Errorf("appended %+v, read %+v", done, got)
		}
		want := meta
		want.Stream, want.Revision, want.Commit, want.EventID, want.Type, want.Created = s, 0, done.Commit, e.ID, e.Type, got.Created
		if d := cmp.Diff(want, got.Meta); d != "" {
			t.Error(d)
		}
	})
	t.Run("revisions count up and positions rise", func(t *testing.T) {
		s := stream(t)
		first := mustAppend(t, log, s, domain.NoStream, events(s, 0, 3)...)
		second := mustAppend(t, log, s, 2, events(s, 3, 2)...)
		all := expectStream(t, log, s, 0, events(s, 0, 5)...)
		if first.Revision != 2 || second.Revision != 4 || all[2].Commit != first.Commit || all[4].Commit != second.Commit {
			t.Errorf("%+v, %+v", first, second)
		}
		for i := range 4 {
			if all[i].Commit >= all[i+1].Commit {
				t.Errorf("positions %d, %d", all[i].Commit, all[i+1].Commit)
			}
		}
		expectStream(t, log, s, 3, events(s, 3, 2)...)
		expectStream(t, log, s, 5)
		expectStream(t, log, s, 500)
	})
	t.Run("another revision is a conflict that names it", func(t *testing.T) {
		s := stream(t)
		expectConflict(t, log, s, 0, domain.NoStream, events(s, 0, 1)...)
		mustAppend(t, log, s, domain.NoStream, events(s, 0, 2)...)
		expectConflict(t, log, s, domain.NoStream, 1, events(s, 9, 1)...)
		expectConflict(t, log, s, 0, 1, events(s, 9, 1)...)
		expectConflict(t, log, s, 2, 1, events(s, 9, 1)...)
		expectStream(t, log, s, 0, events(s, 0, 2)...)
	})
	t.Run("the same ids at the same revision are appended once", func(t *testing.T) {
		s := stream(t)
		mustAppend(t, log, s, domain.NoStream, events(s, 0, 3)...)
		first := mustAppend(t, log, s, 2, events(s, 3, 3)...)
		mustAppend(t, log, s, 5, events(s, 6, 1)...)
		if again := mustAppend(t, log, s, 2, events(s, 3, 3)...); again != first {
			t.Errorf("%+v, first %+v", again, first)
		}
		other := events(s, 3, 2)
		other[0].Data = []byte(`"other"`)
		if part := mustAppend(t, log, s, 2, other...); part.Revision != 4 || part.Commit >= first.Commit {
			t.Errorf("a part: %+v", part)
		}
		expectConflict(t, log, s, 2, 6, append(events(s, 3, 1), events(s, 8, 1)...)...)
		expectConflict(t, log, s, 3, 6, events(s, 3, 3)...)
		expectStream(t, log, s, 0, events(s, 0, 7)...)
	})
	t.Run("one of many racers wins", func(t *testing.T) {
		s := stream(t)
		var all sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for i := range 32 {
			all.Go(func() {
				_, err := log.Append(t.Context(), s, domain.NoStream, events(s, i*10, 2))
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else if domain.CodeOf(err) != domain.CodeConflict {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := len(read(t, log, s, 0)); won != 1 || n != 2 {
			t.Errorf("%d won, %d events", won, n)
		}
	})
	t.Run("long streams are read whole", func(t *testing.T) {
		s := stream(t)
		const n = 1500
		for i := 0; i < n; i += 500 {
			mustAppend(t, log, s, int64(i)-1, events(s, i, 500)...)
		}
		expectStream(t, log, s, 0, events(s, 0, n)...)
		expectStream(t, log, s, n-1, events(s, n-1, 1)...)
		for range log.Read(t.Context(), s, 0) {
			break
		}
	})
	t.Run("a call whose context has ended is unavailable or done", func(t *testing.T) {
		s := stream(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := log.Append(ctx, s, domain.NoStream, events(s, 0, 1)); err != nil && domain.CodeOf(err) != domain.CodeUnavailable {
			t.Error(err)
		}
	})
}

func events(stream string, from, n int) []domain.Proposed {
	var all []domain.Proposed
	for i := from; i < from+n; i++ {
		all = append(all, domain.Proposed{ID: domain.DeriveUUID(stream, fmt.Sprint(i)).String(), Type: "x.done",
			Data: fmt.Appendf(nil, `{"n":%d}`, i), Meta: domain.Meta{Rev: 1}.Encode()})
	}
	return all
}

func mustAppend(t *testing.T, log commands.Log, stream string, expected int64, events ...domain.Proposed) commands.Appended {
	t.Helper()
	done, err := log.Append(t.Context(), stream, expected, events)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func expectConflict(t *testing.T, log commands.Log, stream string, expected, actual int64, events ...domain.Proposed) {
	t.Helper()
	_, err := log.Append(t.Context(), stream, expected, events)
	var e *domain.Error
	if !errors.As(err, &e) || e.Code != domain.CodeConflict || e.Expected != expected || e.Actual != actual {
		t.Errorf("%v; want a conflict of %d with %d", err, expected, actual)
	}
}

func read(t *testing.T, log commands.Log, stream string, from int64) []domain.Recorded {
	t.Helper()
	var all []domain.Recorded
	for e, err := range log.Read(t.Context(), stream, from) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func expectStream(t *testing.T, log commands.Log, stream string, from int64, want ...domain.Proposed) []domain.Recorded {
	t.Helper()
	got := read(t, log, stream, from)
	if len(got) != len(want) {
		t.Fatalf("%d events from %d, want %d", len(got), from, len(want))
	}
	for i, e := range got {
		if e.Stream != stream || e.Revision != from+int64(i) || e.EventID != want[i].ID || e.Type != want[i].Type || string(e.Data) != string(want[i].Data) {
			t.Errorf("%d: %+v", i, e)
		}
	}
	return got
}
