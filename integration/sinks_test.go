package integration

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/adapters/bus/sinks"
	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/sink"
)

// sinkPorts is the log and the Bus as the sinks use them.
type sinkPorts struct{ *eventstore.Log }

func (p sinkPorts) Append(ctx context.Context, stream string, expected int64, events []domain.Proposed) error {
	_, err := p.Log.Append(ctx, stream, expected, events)
	return err
}

type sinkBus struct{ *commands.Bus }

func (b sinkBus) Execute(ctx context.Context, c domain.Command, id string) (int64, error) {
	out, err := b.Bus.Execute(ctx, commands.Call{Command: c, CommandID: id, Actor: "sinks"})
	return out.Revision, err
}

type soleLease struct{}

func (soleLease) Lead(ctx context.Context, run func(context.Context) error) error { return run(ctx) }

type wallClock struct{}

func (wallClock) Now() time.Time                         { return time.Now() }
func (wallClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// sinksBus is a Bus that decides on sinks.
func sinksBus(t testing.TB, log *eventstore.Log) *commands.Bus {
	t.Helper()
	bus, err := commands.New(commands.Config{Log: log, Aggregates: []domain.Aggregate{sink.Aggregate}, HashKey: make([]byte, 32), Epoch: sinksEpoch, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return bus
}

var sinksEpoch = domain.Epoch{Number: 1, ID: "0a1b"}

// runSinks runs sinks over a log until they are stopped.
func runSinks(t testing.TB, log *eventstore.Log, bus *commands.Bus, all ...sinks.Sink) (stop func()) {
	t.Helper()
	r, err := sinks.New(sinks.Options{Sinks: all, Log: sinkPorts{log}, Commands: sinkBus{bus}, Lease: soleLease{}, Clock: wallClock{}, Jitter: rand.N[time.Duration], Epoch: sinksEpoch})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// inbox takes every message, or refuses those of one stream.
type inbox struct {
	mu     sync.Mutex
	got    chan string
	refuse string
}

type refusal struct{}

func (refusal) Error() string { return "refused" }
func (refusal) Code() string  { return "status-500" }

func (i *inbox) Publish(_ string, messages ...*message.Message) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	m := messages[0]
	if m.Metadata.Get("stream") == i.refuse {
		return refusal{}
	}
	i.got <- m.Metadata.Get("stream") + "/" + m.Metadata.Get("revision")
	return nil
}

func (i *inbox) Close() error { return nil }

// TestASinkOverTheNodeKeepsItsPlaceAndItsParkedOverRestarts runs the sinks on a real node and a real Bus.
func TestASinkOverTheNodeKeepsItsPlaceAndItsParkedOverRestarts(t *testing.T) {
	l := startStore(t).open()
	bus := sinksBus(t, l)
	defer func() { _ = bus.Close(context.Background()) }()
	to := &inbox{got: make(chan string, 100), refuse: "x-bad"}
	start := func() (stop func()) {
		return runSinks(t, l, bus, sinks.Sink{Publisher: to, Config: sinks.Config{Name: "billing", FromStart: true, Attempts: 2, First: time.Millisecond, Most: time.Millisecond}})
	}
	put := func(stream string, revision int) {
		t.Helper()
		if _, err := l.Append(t.Context(), stream, int64(revision)-1, []domain.Proposed{aFact(stream, revision)}); err != nil {
			t.Fatal(err)
		}
	}
	next := func(want string) {
		t.Helper()
		if got := <-to.got; got != want {
			t.Fatalf("delivered %s, want %s", got, want)
		}
	}
	put("x-bad", 0)
	stop := start()
	parked, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for d := range l.Follow(parked, 0) {
		if d.Event.Type == "sink.parked" {
			break
		}
	}
	for i := range 3 {
		put("x-good", i)
		next("x-good/" + string(rune('0'+i)))
	}
	stop()
	var cursors int
	for range l.Read(t.Context(), sink.CursorStream("billing"), 0) {
		cursors++
	}
	var bound string
	for e := range l.ReadRawBackwards(t.Context(), "$$"+sink.CursorStream("billing")) {
		bound = string(e.Data)
	}
	if cursors == 0 || !strings.Contains(bound, "maxCount") {
		t.Errorf("%d cursors, bound %q", cursors, bound)
	}
	put("x-good", 3)
	stop = start()
	next("x-good/3")
	to.mu.Lock()
	to.refuse = ""
	to.mu.Unlock()
	if _, err := bus.Execute(t.Context(), commands.Call{Command: sink.RequestRedelivery{Sink: "billing", Scope: sink.ScopeEvent,
		From: &sink.Place{Stream: "x-bad"}}, Actor: "usr_ada", Key: "again"}); err != nil {
		t.Fatal(err)
	}
	next("x-bad/0")
	stop()
	if len(to.got) > 0 {
		t.Errorf("%s was delivered as well", <-to.got)
	}
}
