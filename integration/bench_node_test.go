package integration

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/cockroachdb/pebble/v2"
	"github.com/google/uuid"

	"github.com/tenure-dev/tenure/adapters/eventstore"
)

const (
	benchPerClient = 64  // writers of one client: a connection has one hundred streams
	benchBatch     = 50  // events of one append
	benchPage      = 500 // events of a page of $all
	// A whole log that is loaded, in events: what a start and memory are measured with.
	benchLog        = 1_500_000
	benchLargeLog   = 5_000_000
	benchLogStreams = 100_000
)

// node measures the embedded node: appends, reads, subscriptions. It runs in a process of its own.
func (b *bench) node(one, sixteen rate) {
	b.engine(one)
	node := b.child("node")
	defer node.stop()
	clients := []*esdb.Client{b.client("esdb://" + node.ready + "?tls=false"), b.client("esdb://" + node.ready + "?tls=false")}
	for _, writers := range []int{1, 16, 64, 128} {
		b.appends(node, clients, writers, 1, one, sixteen)
	}
	b.appends(node, clients, 16, benchBatch, one, sixteen)
	b.wholeLog(node, clients[0])
	b.live(clients, 50, 500)
	b.live(clients, 100, 2000)
	for _, c := range clients {
		b.must(c.Close())
	}
}

// engine is Pebble alone: what the node stands on.
func (b *bench) engine(one rate) {
	db, err := pebble.Open(filepath.Join(b.dir, "engine"), &pebble.Options{Logger: quietEngine{}})
	b.must(err)
	data := []byte(strings.Repeat("x", benchPayload))
	var next atomic.Uint64
	for _, writers := range []int{1, 64} {
		r := b.loop(writers, func(w, n int) error {
			return db.Set(binary.BigEndian.AppendUint64(nil, next.Add(1)), data, pebble.Sync)
		})
		b.row(fmt.Sprintf("the engine alone: synced commits, %d writers", writers), perSecond(r.perSecond), "%.2f × Postgres at 1 client; %v", r.perSecond/one.perSecond, r.took)
	}
	b.must(db.Close())
}

type quietEngine struct{}

func (quietEngine) Infof(string, ...any)              {}
func (quietEngine) Errorf(string, ...any)             {}
func (quietEngine) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func benchEvents(n int) []esdb.EventData {
	data := []byte(`{"fill":"` + strings.Repeat("x", benchPayload-11) + `"}`)
	events := make([]esdb.EventData, n)
	for i := range events {
		events[i] = esdb.EventData{EventID: uuid.New(), EventType: "bench", ContentType: esdb.ContentTypeJson, Data: data}
	}
	return events
}

// appends lets each writer append to a stream of its own, always with the revision that it expects.
func (b *bench) appends(node *child, clients []*esdb.Client, writers, batch int, one, sixteen rate) {
	beside, name := sixteen, "16 clients"
	if writers == 1 {
		beside, name = one, "1 client"
	}
	expected := make([]esdb.ExpectedRevision, writers)
	began := node.cpu()
	var all atomic.Int64
	r := b.loop(writers, func(w, n int) error {
		if n == 0 {
			expected[w] = esdb.NoStream{}
		}
		done, err := clients[w/benchPerClient%len(clients)].AppendToStream(b.Context(), fmt.Sprintf("bench-%d-%d-%d", batch, writers, w),
			esdb.AppendToStreamOptions{ExpectedRevision: expected[w]}, benchEvents(batch)...)
		if err == nil {
			all.Add(1)
			expected[w] = esdb.Revision(done.NextExpectedVersion)
		}
		return err
	})
	cost := float64((node.cpu() - began).Microseconds()) / float64(all.Load())
	figure := fmt.Sprintf("node: durable appends, %d writers", writers)
	if batch > 1 {
		figure = fmt.Sprintf("node: events in durable appends of %d, %d writers", batch, writers)
	}
	b.row(figure, perSecond(r.perSecond*float64(batch)), "%.2f × Postgres at %s; %v; %.0f µs of the node's CPU each", r.perSecond*float64(batch)/beside.perSecond, name, r.took, cost)
}

// wholeLog reads what the appends have left.
func (b *bench) wholeLog(node *child, client *esdb.Client) {
	pages := b.reads(func(ctx context.Context, count func() bool) error {
		var from esdb.AllPosition = esdb.Start{}
		for got := benchPage; got == benchPage; {
			got = 0
			if err := eachOfAll(ctx, client, from, benchPage, func(e *esdb.RecordedEvent) bool {
				got, from = got+1, e.Position
				return got == 1 || count() // the first of a page is the last of the one before
			}); err != nil {
				return err
			}
		}
		return nil
	})
	b.row(fmt.Sprintf("node: reading $all in pages of %d", benchPage), perSecond(pages), "the official client")
	whole := b.reads(func(ctx context.Context, count func() bool) error {
		return eachOfAll(ctx, client, esdb.Start{}, math.MaxInt64, func(*esdb.RecordedEvent) bool { return count() })
	})
	b.row("node: reading $all in one stream", perSecond(whole), "%.2f × in pages", whole/pages)
	log, err := eventstore.Open(b.Context(), eventstore.Config{URL: "esdb://" + node.ready + "?tls=false"})
	b.must(err)
	defer log.Close(context.Background())
	ours := b.reads(func(ctx context.Context, count func() bool) error {
		for _, err := range log.ReadAll(ctx, 0, math.MaxInt) {
			if err != nil || !count() {
				return err
			}
		}
		return nil
	})
	b.row("adapter: reading $all, as rebuilds do", perSecond(ours), "%.2f × the official client in one stream", ours/whole)
}

// reads is how many events a second are read until there are no more, or the span is over.
func (b *bench) reads(read func(ctx context.Context, count func() bool) error) float64 {
	ctx, cancel := context.WithTimeout(b.Context(), b.span+time.Minute)
	defer cancel()
	n, began := 0, time.Now()
	b.must(read(ctx, func() bool { n++; return n%1000 != 0 || time.Since(began) < b.span }))
	return float64(n) / time.Since(began).Seconds()
}

func eachOfAll(ctx context.Context, client *esdb.Client, from esdb.AllPosition, count uint64, each func(*esdb.RecordedEvent) bool) error {
	stream, err := client.ReadAll(ctx, esdb.ReadAllOptions{From: from, Direction: esdb.Forwards}, count)
	if err != nil {
		return err
	}
	defer stream.Close()
	for {
		e, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !each(e.OriginalEvent()) {
			return nil
		}
	}
}

// live appends at a steady rate and measures from the start of an append to its delivery to every subscriber of the stream.
func (b *bench) live(clients []*esdb.Client, subscribers, perSecond int) {
	const writers = 8
	total := perSecond * int(b.span.Seconds())
	stream := fmt.Sprintf("bench-live-%d", subscribers)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	began := time.Now()
	sent := make([]atomic.Int64, total)
	took := make([]quantiles, subscribers)
	var receiving, appending, ready sync.WaitGroup
	for i := range subscribers {
		s, err := clients[i%2].SubscribeToStream(ctx, stream, esdb.SubscribeToStreamOptions{From: esdb.Start{}})
		b.must(err)
		ready.Add(1)
		receiving.Go(func() {
			defer s.Close()
			up := sync.OnceFunc(ready.Done)
			defer up()
			for len(took[i]) < total {
				switch e := s.Recv(); {
				case e.SubscriptionDropped != nil:
					return
				case e.EventAppeared != nil && e.EventAppeared.OriginalEvent().EventType == "bench-begin":
					up()
				case e.EventAppeared != nil:
					id := e.EventAppeared.OriginalEvent().EventID
					took[i] = append(took[i], time.Since(began)-time.Duration(sent[binary.BigEndian.Uint32(id[12:])].Load()))
				}
			}
		})
	}
	begin := esdb.EventData{EventID: uuid.New(), EventType: "bench-begin", ContentType: esdb.ContentTypeJson, Data: []byte("{}")}
	_, err := clients[0].AppendToStream(ctx, stream, esdb.AppendToStreamOptions{}, begin)
	b.must(err)
	ready.Wait()
	start := time.Since(began)
	for w := range writers {
		appending.Go(func() {
			for i := w; i < total; i += writers {
				time.Sleep(start + time.Duration(i)*time.Second/time.Duration(perSecond) - time.Since(began)) // a late one goes at once
				events := benchEvents(1)
				binary.BigEndian.PutUint32(events[0].EventID[12:], uint32(i))
				sent[i].Store(int64(time.Since(began)))
				if _, err := clients[w%2].AppendToStream(ctx, stream, esdb.AppendToStreamOptions{}, events...); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	appending.Wait()
	lost := time.AfterFunc(10*time.Second, cancel) // what is missing by then is lost
	receiving.Wait()
	lost.Stop()
	var all quantiles
	for _, t := range took {
		all = append(all, t...)
	}
	b.row(fmt.Sprintf("node: append to delivery, %d subscribers at %d/s", subscribers, perSecond), all.p99(), "%v; %d of %d delivered", all, len(all), total*subscribers)
}

// scale loads logs and measures a start with them, and the node's memory.
func (b *bench) scale() {
	dir := filepath.Join(b.dir, "scale")
	loaded := 0
	for _, size := range []int{benchLog, benchLargeLog} {
		node := b.child("node", dir)
		began := time.Now()
		b.load(node, loaded, size)
		rate, cost := float64(size-loaded)/time.Since(began).Seconds(), float64(node.cpu().Microseconds())/float64(size-loaded)
		loaded = size
		b.row(fmt.Sprintf("node: loading up to %d events in %d streams", size, benchLogStreams), perSecond(rate), "%.1f µs of the node's CPU each; memory %d MiB, at most %d MiB", cost, node.memory("VmRSS"), node.memory("VmHWM"))
		node.stop()
		began = time.Now()
		node = b.child("node", dir)
		ready := time.Since(began)
		client := b.client("esdb://" + node.ready + "?tls=false")
		_, err := client.AppendToStream(b.Context(), "bench-started", esdb.AppendToStreamOptions{}, benchEvents(1)...)
		b.must(err)
		served := time.Since(began)
		fresh := node.memory("VmRSS")
		pages := b.reads(func(ctx context.Context, count func() bool) error {
			return eachOfAll(ctx, client, esdb.Start{}, math.MaxInt64, func(*esdb.RecordedEvent) bool { return count() })
		})
		b.must(client.Close())
		b.row(fmt.Sprintf("node: a start with %d events", size), fmt.Sprintf("%.2f s", ready.Seconds()), "first append answered after %.2f s; memory %d MiB, after reading %.0f events/s for a while %d MiB",
			served.Seconds(), fresh, pages, node.memory("VmRSS"))
		node.stop()
	}
}

// load appends events in appends of benchBatch until there are so many, over benchLogStreams streams.
func (b *bench) load(node *child, from, to int) {
	client := b.client("esdb://" + node.ready + "?tls=false")
	defer client.Close()
	var next atomic.Int64
	next.Store(int64(from / benchBatch))
	var writing sync.WaitGroup
	for range 16 {
		writing.Go(func() {
			for i := next.Add(1) - 1; i < int64(to/benchBatch); i = next.Add(1) - 1 {
				if _, err := client.AppendToStream(b.Context(), fmt.Sprintf("scale-%d", i%benchLogStreams), esdb.AppendToStreamOptions{}, benchEvents(benchBatch)...); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	writing.Wait()
}

// memory is what the child has of a kind of memory, in MiB; 0 where there is no /proc.
func (c *child) memory(kind string) int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid))
	_, rest, _ := strings.Cut(string(status), kind+":")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, _ := strconv.Atoi(fields[0])
	return kib / 1024
}
