package eventnode

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	ps "github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// quiet waits until the node's groups have nothing to do.
func (r *rig) quiet() {
	r.t.Helper()
	p := r.node.persistent
	for _, g := range p.all() {
		for {
			g.mu.Lock()
			busy := g.reading || g.unwritten > 0 || p.at.Load() < r.lastEvent()
			g.mu.Unlock()
			if !busy {
				break
			}
			if r.ctx.Err() != nil {
				r.t.Fatal("the groups do not come to rest")
			}
			runtime.Gosched()
		}
	}
}

func (r *rig) lastEvent() uint64 {
	r.node.ring.mu.RLock()
	defer r.node.ring.mu.RUnlock()
	if n := len(r.node.ring.entries); n > 0 {
		return r.node.ring.entries[n-1].position
	}
	return 0
}

// groupRun is a random life of a group: what its consumers have been sent, and what they have said.
type groupRun struct {
	*rig
	source    source
	consumers []*consumer
	held      map[uuid.UUID]bool // sent and not answered
	delivered map[string]int
	settled   map[string]bool
	wanted    []string
	appended  int
}

func (m *groupRun) group() *group {
	g, err := m.node.persistent.find(m.source)
	if err != nil {
		m.t.Fatal(err)
	}
	return g
}

func (m *groupRun) append(stream string) {
	name := fmt.Sprint(stream, "-", m.appended)
	m.appended++
	appending(stream, expectAny, name)(m.rig)
	if stream == "s" {
		m.wanted = append(m.wanted, name)
	}
}

func (m *groupRun) connect(size int) {
	c := &consumer{group: m.group(), size: size, wake: make(chan struct{}, 1), dropped: make(chan struct{})}
	if err := c.group.join(c); err != nil {
		m.t.Fatal(err)
	}
	c.collect()
	m.consumers = append(m.consumers, c)
}

// receive takes what a consumer has been sent, and hands each event to answer.
func (m *groupRun) receive(c *consumer, answer func(id uuid.UUID, name string)) {
	for _, o := range c.collect() {
		name := string((&delivery{event: o.event, target: o.target}).source().data)
		m.delivered[name]++
		answer(o.event.id, name)
	}
}

func (m *groupRun) parked() (names []string) {
	messages, _, _ := m.read(ofStream(m.source.parked()), resolving)
	for _, e := range messages {
		if target := e.GetEvent().GetEvent(); target != nil {
			names = append(names, string(target.Data))
		}
	}
	return names
}

// Whatever consumers do, whenever the clock ticks and the node restarts: every event that the group is about is
// delivered, and in the end it has been acknowledged or skipped, or is parked.
func TestGroupLosesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := &rig{t: t, fs: vfs.NewMem(), clock: newClock(), ring: 8}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		r.ctx, r.subs = ctx, map[string]*listening{}
		r.up()
		defer r.down()
		m := &groupRun{rig: r, source: source{"s", "g"}, held: map[uuid.UUID]bool{}, delivered: map[string]int{}, settled: map[string]bool{}}
		choices := []choice{func(o *ps.CreateReq_Options) {
			o.Settings.ReadBatchSize, o.Settings.HistoryBufferSize = 2, 6
			o.Settings.MinCheckpointCount, o.Settings.MaxCheckpointCount, o.Settings.MaxRetryCount = 1, 3, 2
			o.Settings.ConsumerStrategy = rapid.SampledFrom([]string{strategySingle, strategyRoundRobin, strategyPinned, strategyCorrelation}).Draw(rt, "strategy")
		}}
		if rapid.Bool().Draw(rt, "all") {
			m.source.stream = allStream
			choices = append([]choice{onAll("s")}, choices...)
		}
		if got := creating(choices...)(r); got != "done" {
			rt.Fatal(got)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				for range rapid.IntRange(1, 12).Draw(rt, "events") {
					m.append(rapid.SampledFrom([]string{"s", "s", "noise"}).Draw(rt, "stream"))
				}
			},
			"connect": func(rt *rapid.T) {
				if len(m.consumers) < 3 {
					m.connect(rapid.IntRange(1, 4).Draw(rt, "size"))
				}
			},
			"disconnect": func(rt *rapid.T) {
				if n := len(m.consumers); n > 0 {
					i := rapid.IntRange(0, n-1).Draw(rt, "which")
					m.consumers[i].group.leave(m.consumers[i])
					m.consumers = slices.Delete(m.consumers, i, i+1)
				}
			},
			"answer": func(rt *rapid.T) {
				for _, c := range m.consumers {
					m.receive(c, func(id uuid.UUID, name string) {
						switch rapid.IntRange(0, 5).Draw(rt, "how") {
						case 0:
							c.group.nack([]uuid.UUID{id}, nackRetry, "r")
						case 1:
							c.group.nack([]uuid.UUID{id}, nackPark, "p")
						case 2:
							c.group.nack([]uuid.UUID{id}, nackSkip, "s")
							m.settled[name] = true
						case 3: // no answer
						default:
							c.group.ack([]uuid.UUID{id})
							m.settled[name] = true
						}
					})
				}
			},
			"tick": func(rt *rapid.T) {
				after(time.Duration(rapid.IntRange(0, 31).Draw(rt, "seconds")) * time.Second)(r)
			},
			"replay": func(rt *rapid.T) {
				r.quiet()
				if err := m.group().startReplay(int64(rapid.IntRange(0, 20).Draw(rt, "to"))); err != nil {
					rt.Fatal(err)
				}
			},
			"restart the groups": func(rt *rapid.T) {
				m.consumers = nil
				if err := r.node.persistent.restart(); err != nil {
					rt.Fatal(err)
				}
			},
			"restart the node": func(rt *rapid.T) {
				m.consumers = nil
				r.restart()
			},
			"": func(rt *rapid.T) { m.check(rt) },
		})
		m.finish(rt)
	})
}

// check: the group holds no more than its settings say.
func (m *groupRun) check(rt *rapid.T) {
	g := m.group()
	g.mu.Lock()
	defer g.mu.Unlock()
	out := 0
	for _, c := range m.consumers {
		if c.inFlight < 0 || c.inFlight > c.size || len(c.outbox) > c.size {
			rt.Fatalf("a consumer of %d has %d, and %d to come", c.size, c.inFlight, len(c.outbox))
		}
		out += c.inFlight
	}
	if out != g.outside || len(g.buffer) > g.room {
		rt.Fatalf("%d out, %d counted; %d in the buffer", out, g.outside, len(g.buffer))
	}
}

// finish acknowledges all there is.
func (m *groupRun) finish(rt *rapid.T) {
	for _, c := range m.consumers {
		c.group.leave(c)
	}
	m.connect(10)
	c := m.consumers[len(m.consumers)-1]
	for idle := 0; idle < 3; idle++ {
		m.quiet()
		m.receive(c, func(id uuid.UUID, name string) {
			c.group.ack([]uuid.UUID{id})
			m.settled[name] = true
			idle = 0
		})
		after(time.Minute)(m.rig)
	}
	parked := m.parked()
	for _, name := range m.wanted {
		if m.delivered[name] == 0 {
			rt.Fatalf("%s was never delivered", name)
		}
		if !m.settled[name] && !slices.Contains(parked, name) {
			rt.Fatalf("%s was neither acknowledged nor parked", name)
		}
	}
	for name := range m.delivered {
		if strings.HasPrefix(name, "noise") {
			rt.Fatalf("%s was delivered", name)
		}
	}
	g := m.group()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.pending) > 0 || len(g.retries) > 0 || len(g.replayedOnes) > 0 || !g.live {
		rt.Fatalf("%d pending, %d to retry, %d replayed, live %v", len(g.pending), len(g.retries), len(g.replayedOnes), g.live)
	}
}

// The official client gets along with groups on a stream and on $all.
func TestOfficialClientAndGroups(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	client := officialClient(t, fmt.Sprintf("esdb://%s?tls=false", r.node.Addr()))
	if err := client.CreatePersistentSubscription(r.ctx, "s", "g / 1", esdb.PersistentStreamSubscriptionOptions{StartFrom: esdb.Start{}}); err != nil {
		t.Fatal(err)
	}
	if err := client.CreatePersistentSubscriptionToAll(r.ctx, "g", esdb.PersistentAllSubscriptionOptions{StartFrom: esdb.Start{}, Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"s"}}, MaxSearchWindow: esdb.NoMaxSearchWindow}); err != nil {
		t.Fatal(err)
	}
	appending("s", expectAny, "a", "b")(r)
	onStream, err := client.SubscribeToPersistentSubscription(r.ctx, "s", "g / 1", esdb.SubscribeToPersistentSubscriptionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer onStream.Close()
	onAll, err := client.SubscribeToPersistentSubscriptionToAll(r.ctx, "g", esdb.SubscribeToPersistentSubscriptionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer onAll.Close()
	for _, sub := range []*esdb.PersistentSubscription{onStream, onAll} {
		for _, want := range []string{"a", "b"} {
			e := sub.Recv().EventAppeared
			if e == nil || string(e.Event.Event.Data) != want || e.Event.Commit == nil {
				t.Fatalf("%+v instead of %s", e, want)
			}
			if want == "a" {
				err = sub.Ack(e.Event)
			} else {
				err = sub.Nack("why", esdb.NackActionPark, e.Event)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for info := (&esdb.PersistentSubscriptionInfo{}); info.Stats == nil || info.Stats.ParkedMessagesCount == 0; runtime.Gosched() {
		if info, err = client.GetPersistentSubscriptionInfo(r.ctx, "s", "g / 1", esdb.GetPersistentSubscriptionOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.ReplayParkedMessages(r.ctx, "s", "g / 1", esdb.ReplayParkedMessagesOptions{}); err != nil {
		t.Fatal(err)
	}
	if e := onStream.Recv().EventAppeared; e == nil || e.Event.Link == nil || string(e.Event.Event.Data) != "b" {
		t.Fatalf("%+v", e)
	}
	list, err := client.ListAllPersistentSubscriptions(r.ctx, esdb.ListPersistentSubscriptionsOptions{})
	if err != nil || len(list) != 2 || list[0].EventSource != "s" || list[1].EventSource != allStream {
		t.Error(list, err)
	}
	if err := client.UpdatePersistentSubscription(r.ctx, "s", "g / 1", esdb.PersistentStreamSubscriptionOptions{StartFrom: esdb.Start{}}); err != nil {
		t.Error(err)
	}
	if e := onStream.Recv(); e.SubscriptionDropped == nil {
		t.Errorf("%+v", e)
	}
	if err := client.DeletePersistentSubscriptionToAll(r.ctx, "g", esdb.DeletePersistentSubscriptionOptions{}); err != nil {
		t.Error(err)
	}
	if err := client.RestartPersistentSubscriptionSubsystem(r.ctx, esdb.RestartPersistentSubscriptionSubsystemOptions{}); err != nil {
		t.Error(err)
	}
}
