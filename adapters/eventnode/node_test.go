package eventnode

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"

	"github.com/cockroachdb/pebble/v2"
)

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	now := time.Now
	for name, row := range map[string]struct {
		options Options
		want    string
	}{
		"no clock":      {Options{Dir: t.TempDir(), Addr: "127.0.0.1:0"}, "Options.Now"},
		"no directory":  {Options{Now: now, Addr: "127.0.0.1:0"}, "Options.Dir"},
		"no address":    {Options{Now: now, Dir: t.TempDir()}, "Options.Addr"},
		"a bad address": {Options{Now: now, Dir: t.TempDir(), Addr: "127.0.0.1:none"}, "none"},
	} {
		node, err := Open(row.options)
		if err == nil {
			node.Close(context.Background())
		}
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSecondOpenerIsRefused(t *testing.T) {
	t.Parallel()
	options := Options{Dir: t.TempDir(), Addr: "127.0.0.1:0", Now: time.Now}
	node, err := Open(options)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(options); err == nil || !strings.Contains(err.Error(), "in use by another process") || strings.Contains(err.Error(), "\n") {
		t.Errorf("the second one: %v", err)
	}
	if err := node.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if node, err = Open(options); err != nil {
		t.Fatalf("after the first has closed: %v", err)
	}
	if err := node.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if node.Err() != nil {
		t.Error(node.Err())
	}
}

func TestNewerFormatIsRefusedByNumber(t *testing.T) {
	t.Parallel()
	options := Options{Dir: t.TempDir(), Addr: "127.0.0.1:0", Now: time.Now}
	db, err := pebble.Open(options.Dir, &pebble.Options{FormatMajorVersion: pebbleFormat, Logger: &database{log: slog.New(slog.DiscardHandler)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Set([]byte{tableFormat}, []byte{0, 0, 0, 7}, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(options); err == nil || !strings.Contains(err.Error(), "format version 7") || strings.Contains(err.Error(), "\n") {
		t.Error(err)
	}
}

// A newer Pebble would write what this program's successor in the field cannot read: raising the pin is a decision.
func TestStorageFormatIsPinned(t *testing.T) {
	if pebbleFormat != 24 || formatVersion != 2 {
		t.Errorf("Pebble's format is %d and ours %d", pebbleFormat, formatVersion)
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	t.Parallel()
	play(t,
		given(appending("s", expectNoStream, "a", "b")),
		given(appending("t", expectAny)), // the last record is an invisible one
		given(restarting),
		then{reading(ofStream("s")), "a b"},
		then{appending("s", expectNoStream, "a", "b"), "at 1"},
		then{appending("s", expectAny, "a"), "at 0"},
		then{appending("s", expectAny, "a", "x"), "wrong, at 1"},
		then{appending("s", 1, "c"), "at 2"},
		given(deleting("s", expectAny)),
		given(restarting),
		then{reading(ofStream("s")), "not-found"},
		then{appending("s", expectNoStream, "d"), "at 3"},
		then{reading(ofAll, filtered("stream", 32, 1, "s")), "a b c d"},
	)
}

// However many write at once, revisions have no gaps, no two appends get the same, and $all has them in the order in
// which each writer was answered.
func TestConcurrentWriters(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const writers, appends = 64, 20
	var wg sync.WaitGroup
	var mu sync.Mutex
	taken := map[string]bool{}
	for w := range writers {
		wg.Go(func() {
			for i := range appends {
				got := appending("s", expectAny, fmt.Sprintf("%d-%d", w, i))(r)
				mu.Lock()
				if taken[got] || !strings.HasPrefix(got, "at ") {
					t.Errorf("answered twice: %s", got)
				}
				taken[got] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	st, err := r.api.Read(r.ctx, readOptions(ofStream("s"), count(1<<40)))
	if err != nil {
		t.Fatal(err)
	}
	next := map[string]int{}
	var last uint64
	for i := range writers * appends {
		m, err := st.Recv()
		if err != nil {
			t.Fatal(err)
		}
		e := m.GetEvent().GetEvent()
		writer, n, _ := strings.Cut(string(e.Data), "-")
		if e.StreamRevision != uint64(i) || e.CommitPosition <= last || n != fmt.Sprint(next[writer]) {
			t.Fatalf("event %d: %v", i, e)
		}
		next[writer], last = next[writer]+1, e.CommitPosition
	}
}

func TestFeaturesAndGossip(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	features, err := serverfeatures.NewServerFeaturesClient(r.conn).GetSupportedMethods(r.ctx, empty)
	if err != nil {
		t.Fatal(err)
	}
	if features.EventStoreServerVersion != "24.10.4" {
		t.Error(features.EventStoreServerVersion)
	}
	served := map[string]bool{}
	for _, name := range r.node.server.Methods() {
		served[strings.ToLower(name)] = true
	}
	batches := false
	for _, m := range features.Methods {
		if !served["/"+m.ServiceName+"/"+m.MethodName] {
			t.Errorf("%s of %s is advertised", m.MethodName, m.ServiceName)
		}
		batches = batches || m.MethodName == "batchappend" && slices.Equal(m.Features, []string{"deadline_duration"})
	}
	if !batches {
		t.Error("BatchAppend is not advertised")
	}
	members, err := gossip.NewGossipClient(r.conn).Read(r.ctx, empty)
	if err != nil || len(members.Members) != 1 {
		t.Fatal(members, err)
	}
	m := members.Members[0]
	if m.State != gossip.MemberInfo_Leader || !m.IsAlive || m.HttpEndPoint.Address != "127.0.0.1" || int(m.HttpEndPoint.Port) != r.node.Addr().(*net.TCPAddr).Port {
		t.Error(m)
	}
	if got := reading(ofStream(usersStream))(r); got != "admin" {
		t.Errorf("users: %s", got)
	}
}

// The official client finds the node, by its address and by gossip, and gets along with it.
func TestOfficialClient(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, scheme := range []string{"esdb", "esdb+discover"} {
		client := officialClient(t, fmt.Sprintf("%s://%s?tls=false", scheme, r.node.Addr()))
		stream := "from-" + scheme
		sub, err := client.SubscribeToStream(r.ctx, stream, esdb.SubscribeToStreamOptions{})
		if err != nil {
			t.Fatal(err)
		}
		result, err := client.AppendToStream(r.ctx, stream, esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}},
			esdb.EventData{EventID: eventID(stream), EventType: "T", ContentType: esdb.ContentTypeJson, Data: []byte("{}")})
		if err != nil || result.NextExpectedVersion != 0 || result.CommitPosition == 0 {
			t.Error(result, err)
		}
		for e := sub.Recv(); e.EventAppeared == nil; e = sub.Recv() {
			if e.SubscriptionDropped != nil {
				t.Fatal(e.SubscriptionDropped.Error)
			}
		}
		if _, err := client.TombstoneStream(r.ctx, stream, esdb.TombstoneStreamOptions{}); err != nil {
			t.Error(err)
		}
		_, err = client.AppendToStream(r.ctx, stream, esdb.AppendToStreamOptions{}, esdb.EventData{EventType: "T"})
		if failure, ok := esdb.FromError(err); ok || failure.Code() != esdb.ErrorCodeStreamDeleted {
			t.Error(err)
		}
		sub.Close()
	}
}

// A client that stops reading holds a connection, not the node: Close cuts it off when its context is done.
func TestCloseCutsOffAStalledReader(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i := range 40 {
		e := proposed(fmt.Sprint(i))
		e.CustomMetadata = make([]byte, 100_000)
		appendingEvents("s", expectAny, e)(r)
	}
	st, err := r.api.Read(r.ctx, readOptions(ofStream("s")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(); err != nil {
		t.Fatal(err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.node.Close(done); err != nil {
		t.Fatal(err)
	}
}
