package eventnode

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/tenure-dev/tenure/domain"
)

func recordsOf(records ...Record) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func TestImportRefusesWhatNoLogCanHold(t *testing.T) {
	t.Parallel()
	first := Record{Position: 90, Stream: "s", Revision: 3, ID: uuid.New(), Type: "T"}
	gone := Record{Position: 100, Stream: "gone", Revision: deletedRevision, ID: uuid.New(), Type: deletedType}
	for name, c := range map[string]struct {
		field  string
		change func(*Record)
	}{
		"an event without an id":            {"id", func(r *Record) { r.ID = uuid.Nil }},
		"a position twice":                  {"position", func(r *Record) { r.Position = 100 }},
		"a position below":                  {"position", func(r *Record) { r.Position = 99 }},
		"a position that leaves no room":    {"position", func(r *Record) { r.Position = 1<<62 + 1 }},
		"an event of no stream":             {"stream", func(r *Record) { r.Stream = "" }},
		"a revision twice":                  {"revision", func(r *Record) { r.Revision = 3 }},
		"a revision below 0":                {"revision", func(r *Record) { r.Stream, r.Revision = "t", -1 }},
		"an event of a tombstoned stream":   {"revision", func(r *Record) { r.Stream, r.Revision = "gone", 9 }},
		"a second tombstone of that stream": {"revision", func(r *Record) { r.Stream, r.Revision = "gone", deletedRevision }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := Record{Position: 120, Stream: "s", Revision: 4, ID: uuid.New(), Type: "T"}
			c.change(&bad)
			err := Import(filepath.Join(t.TempDir(), "log"), recordsOf(first, gone, bad))
			var refused *domain.Error
			if !errors.As(err, &refused) || refused.Code != domain.CodeInvalid || refused.Field != c.field {
				t.Errorf("it says %v, want an invalid %s", err, c.field)
			}
		})
	}
}

// Another log's positions lie as they like: close together, far apart, from below our first one on. Whoever has stored one
// goes on behind it as before.
func TestANodeOnForeignPositions(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "log")
	var records []Record
	for i, position := range []uint64{1, 2, 63, 64, 65, 70, 4096, 1 << 32, 1<<32 + 1, 1 << 61} {
		records = append(records, Record{Position: position, Stream: fmt.Sprint("s-", i%2), Revision: int64(i / 2), ID: uuid.New(), Type: "T",
			JSON: i%2 == 0, Created: 1_700_000_000_0000000 + int64(i), Data: bytes.Repeat([]byte{'x'}, 100*i), Metadata: []byte("m")})
	}
	if err := Import(dir, recordsOf(records...)); err != nil {
		t.Fatal(err)
	}
	clock := newClock()
	for round := range 2 { // the second one on what the first has written
		node, err := Open(Options{Dir: dir, Addr: "127.0.0.1:0", Now: clock.now})
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- node.Serve() }()
		client := officialClient(t, fmt.Sprintf("esdb://%s?tls=false", node.Addr()))
		for i := range records {
			wantBehind(t, client, records[i:])
		}
		stream := fmt.Sprint("s-", round)
		added := esdb.EventData{EventID: uuid.New(), EventType: "T", ContentType: esdb.ContentTypeBinary, Data: []byte("new")}
		answer, err := client.AppendToStream(t.Context(), stream, esdb.AppendToStreamOptions{ExpectedRevision: esdb.Revision(4)}, added)
		if err != nil {
			t.Fatal(err)
		}
		if last := records[len(records)-1].Position; answer.CommitPosition <= last {
			t.Errorf("the next event comes to position %d, not behind %d", answer.CommitPosition, last)
		}
		records = append(records, Record{Position: answer.CommitPosition, Stream: stream, Revision: 5, ID: added.EventID, Created: ticks(clock.now()), Data: added.Data})
		wantBehind(t, client, records[len(records)-2:])
		client.Close()
		if err := errors.Join(node.Close(t.Context()), <-served); err != nil {
			t.Fatal(err)
		}
		report, err := Check(t.Context(), dir)
		if err != nil || len(report.Damages) > 0 || report.Events < len(records) {
			t.Fatal(report, err)
		}
	}
}

// wantBehind reads $all from the position of the first of some records to the end.
func wantBehind(t *testing.T, client *esdb.Client, want []Record) {
	t.Helper()
	at := want[0].Position
	read, err := client.ReadAll(t.Context(), esdb.ReadAllOptions{From: esdb.Position{Commit: at, Prepare: at}}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	var got, wanted []string
	for {
		resolved, err := read.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		e := resolved.OriginalEvent()
		if strings.HasPrefix(e.StreamID, "$") {
			continue // the node's own
		}
		got = append(got, fmt.Sprintf("%d %s %d %s %v %d", e.Position.Commit, e.StreamID, e.EventNumber, e.EventID, e.SystemMetadata["created"], len(e.Data)))
	}
	for _, r := range want {
		wanted = append(wanted, fmt.Sprintf("%d %s %d %s %v %d", r.Position, r.Stream, r.Revision, r.ID, r.Created, len(r.Data)))
	}
	if !slices.Equal(got, wanted) {
		t.Fatalf("from position %d on it reads\n%s\nwant\n%s", at, strings.Join(got, "\n"), strings.Join(wanted, "\n"))
	}
}
