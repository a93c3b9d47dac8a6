package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	streams "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tenure-dev/tenure/adapters/eventnode"
	"github.com/tenure-dev/tenure/domain"
)

func TestTheNodeKeepsManyStreams(t *testing.T) { manyStreams(t, 5_000) }

func TestSoakTheNodeKeepsAHundredThousandStreams(t *testing.T) {
	if os.Getenv("TENURE_SOAK") == "" {
		t.Skip("TENURE_SOAK is not set: make soak")
	}
	manyStreams(t, 100_000)
}

// manyStreams makes so many streams of one event, and looks that all are there and go on, before and after a restart.
func manyStreams(t *testing.T, n int) {
	seed := seedOf(t)
	random := rand.New(rand.NewPCG(seed, 4)) //nolint:gosec // to be repeated
	s := startStore(t)
	name := func(i int) string { return fmt.Sprint(suiteStreams, i) }
	event := func(i, revision int) uuid.UUID {
		return uuid.MustParse(domain.DeriveUUID(name(i), fmt.Sprint(revision)).String())
	}
	want := make([]entry, n)
	var next atomic.Int64
	var writers sync.WaitGroup
	for range 4 {
		_, client := dial(t, s.addr)
		for range 64 {
			writers.Go(func() {
				for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
					var err error
					if want[i], err = appendOne(t.Context(), client, name(i), -1, event(i, 0), "{}"); err != nil {
						t.Errorf("%s: %v", name(i), err)
						return
					}
				}
			})
		}
	}
	writers.Wait()
	for revision := range 2 {
		_, client := dial(t, s.addr)
		log, err := wholeLog(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(want, func(a, b entry) int { return int(a.position) - int(b.position) })
		if !slices.Equal(log, want) {
			t.Fatalf("TENURE_SEED=%d: the log has %d events, where the %d that were acknowledged belong", seed, len(log), len(want))
		}
		for range 100 {
			i := random.IntN(n)
			if _, err := appendOne(t.Context(), client, name(i), -1, event(n+i, 0), "{}"); !errors.Is(err, errExpectation) {
				t.Errorf("TENURE_SEED=%d: %s is taken for a new stream: %v", seed, name(i), err)
			}
			e, err := appendOne(t.Context(), client, name(i), int64(revision), event(i, revision+1), "{}")
			switch {
			case err == nil && !slices.Contains(want, e):
				want = append(want, e)
			case err == nil: // drawn twice: a repetition
			case !errors.Is(err, errExpectation): // not extended in the round before
				t.Errorf("TENURE_SEED=%d: %s takes no event after revision %d: %v", seed, name(i), revision, err)
			}
		}
		s.stop()
		s.start()
	}
	t.Logf("%d streams", n)
}

// A thousand subscribers ask at once, each is given every event, and nothing of them stays. A connection has room for a hundred
// calls; the next one waits for room, at most as long as its caller wants, and is none of the node's business until then.
func TestAThousandSubscriptionsAtOnce(t *testing.T) {
	const connections, each, events = 11, 91, 40
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	registry := prometheus.NewPedanticRegistry()
	node, err := eventnode.Open(eventnode.Options{Dir: t.TempDir(), Addr: "127.0.0.1:0", Now: time.Now, Metrics: registry})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- node.Serve() }()
	t.Cleanup(func() {
		if err := errors.Join(node.Close(context.Background()), <-served); err != nil {
			t.Error(err)
		}
	})
	_, writer := dial(t, node.Addr().String())
	write := func(from, to int) {
		for i := from; i < to; i++ {
			id := uuid.MustParse(domain.DeriveUUID("scale", fmt.Sprint(i)).String())
			if _, err := appendOne(t.Context(), writer, suiteStreams+"1", int64(i)-1, id, "{}"); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(0, events/2)
	var subscribers sync.WaitGroup
	var complete atomic.Int64
	for range connections {
		_, client := dial(t, node.Addr().String())
		for range each {
			subscribers.Go(func() {
				if wrong := subscriber(t.Context(), client, events); wrong != nil {
					t.Error(wrong)
					return
				}
				complete.Add(1)
			})
		}
	}
	write(events/2, events)
	subscribers.Wait()
	if complete.Load() != connections*each {
		t.Errorf("%d of %d subscribers were given everything", complete.Load(), connections*each)
	}
	released(t, registry)

	conn, client := dial(t, node.Addr().String())
	open, end := context.WithCancel(t.Context())
	for range 100 {
		reading, err := client.Read(open, &streams.ReadReq{Options: subscribed(readRequest())})
		if err == nil {
			_, err = reading.Recv() // confirmed
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := subscriber(short, client, events); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("one more than a connection carries: %v", err)
	}
	end()
	if err := subscriber(t.Context(), client, events); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
	_ = conn.Close()
	released(t, registry)
	write(events, events+1)
}

func subscribed(o *streams.ReadReq_Options) *streams.ReadReq_Options {
	o.CountOption = &streams.ReadReq_Options_Subscription{Subscription: &streams.ReadReq_Options_SubscriptionOptions{}}
	return o
}

// subscriber follows the whole log until it has seen so many of the suite's events, each in its place.
func subscriber(ctx context.Context, client streams.StreamsClient, events int64) error {
	next := int64(0)
	err := readEntries(ctx, client, subscribed(readRequest()), func(e entry) bool {
		if e.stream == suiteStreams+"1" {
			if e.revision != next {
				return false
			}
			next++
		}
		return next < events
	})
	if err == nil && next < events {
		err = fmt.Errorf("a subscriber was shown another event where revision %d belongs", next)
	}
	return err
}

// released waits until the node has no open subscription.
func released(t *testing.T, registry *prometheus.Registry) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for {
		open := 0.0
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "tenure_node_subscriptions" {
				for _, m := range f.GetMetric() {
					open += m.GetGauge().GetValue()
				}
			}
		}
		if open == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%v subscriptions are still open", open)
		}
	}
}
