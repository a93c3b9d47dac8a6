package integration

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"go.uber.org/goleak"

	"github.com/tenure-dev/tenure/adapters/eventnode"
	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/commands/commandstest"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/org"
)

// storeNode is an embedded node that a test may stop and start again on its directory and address.
type storeNode struct {
	t    testing.TB
	dir  string
	addr string
	node *eventnode.Node
	done chan error
}

// store is an event store that a test may stop, or kill, and start again.
type store interface {
	start()
	stop()
	open() *eventstore.Log
}

func startStore(t testing.TB) *storeNode {
	t.Helper()
	s := &storeNode{t: t, dir: t.TempDir(), addr: "127.0.0.1:0"}
	s.start()
	t.Cleanup(func() {
		if s.node != nil {
			s.stop()
		}
	})
	return s
}

func (s *storeNode) start() {
	s.t.Helper()
	n, err := eventnode.Open(eventnode.Options{Dir: s.dir, Addr: s.addr, Now: time.Now})
	if err != nil {
		s.t.Fatal(err)
	}
	s.node, s.addr, s.done = n, n.Addr().String(), make(chan error, 1)
	go func(done chan error) { done <- n.Serve() }(s.done)
}

func (s *storeNode) stop() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := errors.Join(s.node.Close(ctx), <-s.done); err != nil {
		s.t.Error("stopping the node:", err)
	}
	s.node = nil
}

func (s *storeNode) url() string { return "esdb://" + s.addr + "?tls=false" }

func (s *storeNode) open() *eventstore.Log {
	s.t.Helper()
	l, err := eventstore.Open(context.Background(), eventstore.Config{URL: s.url()})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := l.Close(ctx); err != nil {
			s.t.Error("closing the log:", err)
		}
	})
	return l
}

func aFact(stream string, i int) domain.Proposed {
	return domain.Proposed{ID: domain.DeriveUUID(stream, fmt.Sprint(i)).String(), Type: "x.done", Data: fmt.Appendf(nil, `{"n":%d}`, i),
		Meta: domain.Meta{Rev: 1, CommandID: fmt.Sprint(i)}.Encode()}
}

func TestTheEventStoreKeepsTheLogsContract(t *testing.T) {
	commandstest.Contract(t, startStore(t).open(), "")
}

func TestNothingIsLeftBehind(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	s := startStore(t)
	l := s.open()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			for range l.Follow(ctx, 0) {
				continue
			}
		})
	}
	for i := range 3 {
		insist(t, func() error {
			_, err := l.Append(t.Context(), "x-1", int64(i)-1, []domain.Proposed{aFact("x-1", i)})
			return err
		})
		s.stop()
		s.start()
	}
	cancel()
	all.Wait()
}

// Events are appended all the time while the node is stopped and started again; followers see each acknowledged one once, in
// log order, and a late one sees the same.
func TestFollowersMissNothingOverRestarts(t *testing.T) { followersMissNothing(t, startStore(t)) }

func followersMissNothing(t *testing.T, s store) {
	const streams, each = 4, 150
	writer, reader := s.open(), s.open()
	var written atomic.Int64
	var writers sync.WaitGroup
	for n := range streams {
		writers.Go(func() {
			stream := fmt.Sprint("x-", n)
			for i := 0; i < each; {
				_, err := writer.Append(t.Context(), stream, int64(i)-1, []domain.Proposed{aFact(stream, i)})
				switch domain.CodeOf(err) {
				case "":
					i++
					written.Add(1)
				case domain.CodeUnavailable:
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	restarts := make(chan struct{})
	go func() {
		defer close(restarts)
		for k := int64(1); k <= 4; k++ {
			for written.Load() < k*streams*each/5 && !t.Failed() {
				time.Sleep(time.Millisecond) // the writers' progress is what this waits for
			}
			s.stop()
			s.start()
		}
	}()
	follow := func(after uint64, skip int) []uint64 {
		var commits []uint64
		next := map[string]int64{}
		for d, err := range reader.Follow(t.Context(), after) {
			if err != nil {
				t.Fatal(err)
			}
			if d.Kind != domain.DeliveredEvent {
				continue
			}
			if len(commits) > 0 && d.Commit <= commits[len(commits)-1] {
				t.Fatalf("position %d behind %d", d.Commit, commits[len(commits)-1])
			}
			if want, known := next[d.Event.Stream]; known && d.Event.Revision != want || after == 0 && !known && d.Event.Revision != 0 {
				t.Fatalf("%s@%d where %d belongs", d.Event.Stream, d.Event.Revision, want)
			}
			next[d.Event.Stream] = d.Event.Revision + 1
			if commits = append(commits, d.Commit); len(commits) == streams*each-skip {
				break
			}
		}
		return commits
	}
	live := follow(0, 0)
	writers.Wait()
	<-restarts
	late := follow(0, 0)
	half := follow(live[len(live)/2-1], len(live)/2)
	if fmt.Sprint(live) != fmt.Sprint(late) || fmt.Sprint(half) != fmt.Sprint(live[len(live)/2:]) {
		t.Error("followers saw different logs")
	}
	var paged []uint64
	for after := uint64(0); ; after = paged[len(paged)-1] {
		n := len(paged)
		for e, err := range reader.ReadAll(t.Context(), after, 101) {
			if err != nil {
				t.Fatal(err)
			}
			paged = append(paged, e.Commit)
		}
		if len(paged) == n {
			break
		}
	}
	if fmt.Sprint(paged) != fmt.Sprint(live) {
		t.Error("reading by pages saw another log")
	}
}

func TestFollowersCatchUpPastTheStoresOwnEvents(t *testing.T) {
	s := startStore(t)
	l := s.open()
	client := rawClient(t, s)
	if _, err := l.Append(t.Context(), "x-1", domain.NoStream, []domain.Proposed{aFact("x-1", 0)}); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		if _, err := client.SetStreamMetadata(t.Context(), fmt.Sprint("y-", i), esdb.AppendToStreamOptions{}, esdb.StreamMetadata{}); err != nil {
			t.Fatal(err)
		}
	}
	head, err := l.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	events := 0
	for d, err := range l.Follow(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if d.Kind == domain.DeliveredEvent {
			if events++; d.Event.Stream != "x-1" {
				t.Errorf("%+v", d.Event)
			}
		}
		if d.Kind == domain.CaughtUp {
			if d.Commit != head || events != 1 {
				t.Errorf("caught up at %d of %d with %d events", d.Commit, head, events)
			}
			break
		}
	}
	for d, err := range l.Follow(t.Context(), head) {
		if err != nil || d.Kind != domain.CaughtUp {
			t.Errorf("%+v, %v", d, err)
		}
		break
	}
	for _, err := range l.Follow(t.Context(), head-1) { // no event's place
		if domain.CodeOf(err) != domain.CodeInvalid {
			t.Error(err)
		}
		break
	}
}

func TestATombstoneIsNoEventOfOurs(t *testing.T) {
	s := startStore(t)
	l := s.open()
	client := rawClient(t, s)
	if _, err := l.Append(t.Context(), "x-1", domain.NoStream, []domain.Proposed{aFact("x-1", 0)}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.TombstoneStream(t.Context(), "x-1", esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Any{}}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), "x-1", 0, []domain.Proposed{aFact("x-1", 1)}); domain.CodeOf(err) != domain.CodeNotFound {
		t.Error(err)
	}
	for _, err := range l.Read(t.Context(), "x-1", 0) {
		if domain.CodeOf(err) != domain.CodeNotFound {
			t.Error(err)
		}
	}
	for d, err := range l.Follow(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if d.Kind == domain.DeliveredEvent && d.Event.Type != "x.done" {
			t.Errorf("%+v", d.Event)
		}
		if d.Kind == domain.CaughtUp {
			break
		}
	}
}

func rawClient(t *testing.T, s *storeNode) *esdb.Client {
	t.Helper()
	c, err := esdb.ParseConnectionString(s.url())
	if err != nil {
		t.Fatal(err)
	}
	c.Logger = esdb.NoopLogging()
	client, err := esdb.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestStreamsAreReadBackwards(t *testing.T) {
	l := startStore(t).open()
	var all []domain.Proposed
	for i := range 1200 {
		all = append(all, aFact("x-1", i))
	}
	if _, err := l.Append(t.Context(), "x-1", domain.NoStream, all); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		from        int64
		limit       int
		first, last int64
		n           int
	}{{eventstore.End, 1, 1199, 1199, 1}, {eventstore.End, 5000, 1199, 0, 1200}, {eventstore.End, 600, 1199, 600, 600}, {7, 100, 7, 0, 8}, {0, 9, 0, 0, 1}, {7, 0, 0, 0, 0}} {
		var got []int64
		for e, err := range l.ReadBackwards(t.Context(), "x-1", row.from, row.limit) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Revision)
		}
		if len(got) != row.n || row.n > 0 && (got[0] != row.first || got[len(got)-1] != row.last) {
			t.Errorf("%+v: %d events", row, len(got))
		}
	}
	for e := range l.ReadBackwards(t.Context(), "x-none", eventstore.End, 1) {
		t.Error(e)
	}
}

func TestControlPlanesAgreeOnTheEpoch(t *testing.T) {
	s := startStore(t)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var all sync.WaitGroup
	epochs := make([]domain.Epoch, 8)
	for i := range epochs {
		l := s.open()
		all.Go(func() {
			e, err := l.Epoch(t.Context(), fmt.Sprint("id", i), 1, now)
			if err != nil {
				t.Error(err)
			}
			epochs[i] = e
		})
	}
	all.Wait()
	for _, e := range epochs {
		if e != epochs[0] || e.Number != 1 {
			t.Errorf("%v", epochs)
		}
	}
	l := s.open()
	n := 0
	for e, err := range l.ReadAll(t.Context(), 0, 10) {
		if n++; err != nil || e.Stream != "log-epoch" || e.Type != "log.epoch.began" || e.Epoch != epochs[0] || !e.RecordedAt.Equal(now) {
			t.Errorf("%+v, %v", e, err)
		}
	}
	next := domain.Epoch{Number: 2, ID: "next"}
	if err := l.BeginEpoch(t.Context(), next, now); err != nil || n != 1 {
		t.Error(err, n)
	}
	if e, err := l.Epoch(t.Context(), "x", 1, now); err != nil || e != next {
		t.Error(e, err)
	}
	if err := l.BeginEpoch(t.Context(), domain.Epoch{Number: 2, ID: "other"}, now); domain.CodeOf(err) != domain.CodeInvalid {
		t.Error(err)
	}
}

func TestALogThatIsNotOursHasNoEpoch(t *testing.T) {
	l := startStore(t).open()
	if _, err := l.Append(t.Context(), "x-1", domain.NoStream, []domain.Proposed{aFact("x-1", 0)}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Epoch(t.Context(), "id", 1, time.Unix(0, 0)); domain.CodeOf(err) != domain.CodeInternal {
		t.Error(err)
	}
}

func busOn(t testing.TB, l commands.Log, sole ...bool) *commands.Bus {
	t.Helper()
	b, err := commands.New(commands.Config{Log: l, Aggregates: []domain.Aggregate{org.Aggregate}, HashKey: make([]byte, 32),
		Epoch: domain.Epoch{Number: 1, ID: "e"}, Now: time.Now, Sole: len(sole) > 0})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func rename(id string, i int) commands.Call {
	return commands.Call{Command: org.Rename{OrgID: id, Name: fmt.Sprint("Name ", i)}, Actor: "usr_ada", Key: fmt.Sprint("rename", i)}
}

func register(i int) commands.Call {
	return commands.Call{Command: org.Register{Name: "An org", Slug: fmt.Sprint("org-", i)}, Actor: "usr_ada", Key: fmt.Sprint("register", i)}
}

func execute(t testing.TB, b *commands.Bus, c commands.Call) commands.Outcome {
	t.Helper()
	for {
		o, err := b.Execute(t.Context(), c)
		if domain.CodeOf(err) == domain.CodeUnavailable {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
}

// Two Buses on one node, which is stopped and started meanwhile, and every command given to both.
func TestTwoBusesCarryOutEachCommandOnceOverRestarts(t *testing.T) { eachCommandOnce(t, startStore(t)) }

func eachCommandOnce(t *testing.T, s store) {
	const orgs, names = 30, 64
	bus := []*commands.Bus{busOn(t, s.open()), busOn(t, s.open())}
	var all sync.WaitGroup
	ids := make([][2]string, orgs)
	for i := range orgs {
		for n, b := range bus {
			all.Go(func() { ids[i][n] = execute(t, b, register(i)).ID })
		}
	}
	all.Wait()
	hot := ids[0][0]
	outcomes := make([][2]commands.Outcome, names)
	for i := range names {
		for n, b := range bus {
			all.Go(func() { outcomes[i][n] = execute(t, b, rename(hot, i)) })
		}
		if i == names/2 {
			s.stop()
			s.start()
		}
	}
	all.Wait()
	seen := map[string]int{}
	next := map[string]int64{}
	for e, err := range s.open().ReadAll(t.Context(), 0, 10_000) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Revision != next[e.Stream] {
			t.Errorf("%s@%d", e.Stream, e.Revision)
		}
		next[e.Stream]++
		seen[e.CommandID]++
	}
	if len(next) != orgs || len(seen) != orgs+names {
		t.Errorf("%d streams, %d commands", len(next), len(seen))
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("command %s was carried out %d times", id, n)
		}
	}
	for i, o := range outcomes {
		if o[0].Position != o[1].Position || o[0].Revision != o[1].Revision || o[0].CommandID != o[1].CommandID {
			t.Errorf("%d: the Buses answered %+v and %+v", i, o[0], o[1])
		}
	}
	for i, pair := range ids {
		if pair[0] != pair[1] {
			t.Errorf("%d: %v", i, pair)
		}
	}
}

func BenchmarkEventStoreAppend(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			l := startStore(b).open()
			var next atomic.Int64
			parallel(b, writers, func() {
				stream := fmt.Sprint("x-", next.Add(1))
				if _, err := l.Append(b.Context(), stream, domain.NoStream, []domain.Proposed{aFact(stream, 0)}); err != nil {
					b.Error(err)
				}
			})
		})
	}
}

func BenchmarkBusOnTheNode(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprint("many/", writers), func(b *testing.B) {
			bus := busOn(b, startStore(b).open())
			var next atomic.Int64
			parallel(b, writers, func() { execute(b, bus, register(int(next.Add(1)))) })
		})
		b.Run(fmt.Sprint("sole/", writers), func(b *testing.B) {
			bus := busOn(b, startStore(b).open(), true)
			var next atomic.Int64
			parallel(b, writers, func() { execute(b, bus, register(int(next.Add(1)))) })
		})
		b.Run(fmt.Sprint("hot/", writers), func(b *testing.B) {
			bus := busOn(b, startStore(b).open())
			id := execute(b, bus, register(0)).ID
			var next atomic.Int64
			parallel(b, writers, func() { execute(b, bus, rename(id, int(next.Add(1)))) })
		})
	}
}

func BenchmarkFollow(b *testing.B) {
	l := startStore(b).open()
	all := make([]domain.Proposed, 2000)
	for i := range all {
		all[i] = aFact("x-1", i)
	}
	if _, err := l.Append(b.Context(), "x-1", domain.NoStream, all); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	n := 0
	for n < b.N {
		for d := range l.Follow(b.Context(), 0) {
			if d.Kind == domain.DeliveredEvent {
				n++
			}
			if d.Kind == domain.CaughtUp {
				break
			}
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}

func parallel(b *testing.B, writers int, f func()) {
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				f()
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}
