package integration

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/tenure-dev/tenure/adapters/bus/broker"
	"github.com/tenure-dev/tenure/adapters/bus/settings"
	"github.com/tenure-dev/tenure/adapters/bus/sinks"
	"github.com/tenure-dev/tenure/adapters/bus/webhook"
	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/sink"
)

const (
	sinkEvents  = 10_000    // of one sink that starts behind
	sinkRate    = 200       // events a second while delays are measured
	sinkBacklog = 1_000_000 // events that one sink is behind while another is at the head
)

// sinkTarget is one kind of target: each call makes a publisher of its own.
type sinkTarget struct {
	name string
	open func(n int) message.Publisher
}

// sinks measures how events reach other systems.
func (b *bench) sinks(postgres string) {
	node := b.child("node", filepath.Join(b.dir, "sinks")) // a log of their own: what is behind them is what is counted
	defer node.stop()
	log, err := eventstore.Open(b.Context(), eventstore.Config{URL: "esdb://" + node.ready + "?tls=false"})
	b.must(err)
	defer log.Close(context.Background())
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	defer receiver.Close()
	nats := natsBroker(b.T)
	targets := []sinkTarget{
		{"webhook", func(int) message.Publisher {
			p, err := webhook.New(webhook.Config{URL: receiver.URL, Secrets: []settings.Secret{settings.NewSecret(webhookSecret)},
				Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, time.Now, "bench")
			b.must(err)
			return p
		}},
		{"NATS JetStream", func(n int) message.Publisher {
			return b.published(nats.sink(fmt.Sprint("bench", n)))
		}},
		{"Postgres", func(n int) message.Publisher {
			s := broker.NewPostgresSink()
			s.URL, s.Topic = settings.NewSecret(postgres), fmt.Sprint("bench", n)
			return b.published(s)
		}},
	}
	b.backlog(log, sinkEvents, 1)
	for i, t := range targets {
		direct := b.direct(t, 100*i)
		b.row("publishing to "+t.name+" without the log", perSecond(direct), "16 at a time")
		for _, n := range []int{1, 10} {
			rate := b.catchUp(log, t, 100*i+10*n, n, sinkEvents/n)
			b.row(fmt.Sprintf("%d sinks to %s, %d events behind: deliveries", n, t.name, sinkEvents/n), perSecond(rate), "%.2f × without the log", rate/direct)
			took := b.delays(log, t, 100*i+10*n+n, n)
			b.row(fmt.Sprintf("%d sinks to %s at the head, %d events/s: append to delivery", n, t.name, sinkRate), took.p99(), "%v", took)
		}
	}
	b.behind(log, targets[0], targets[1], node)
}

func (b *bench) published(s broker.Sink) message.Publisher {
	p, err := s.Publisher(nil)
	b.must(err)
	return p
}

// direct publishes messages like those of a sink, 16 at a time.
func (b *bench) direct(t sinkTarget, n int) float64 {
	p := t.open(n)
	defer p.Close()
	payload := []byte(`{"specversion":"1.0","data":{"fill":"` + strings.Repeat("x", benchPayload) + `"}}`)
	return b.loop(16, func(w, _ int) error {
		m := message.NewMessage(uuid.NewString(), payload)
		m.Metadata = message.Metadata{"stream": fmt.Sprint("s", w), "type": "bench"}
		m.SetContext(b.Context())
		return p.Publish("", m)
	}).perSecond
}

// measured tells of every message that has been delivered.
type measured struct {
	message.Publisher
	done func(*message.Message)
}

func (p measured) Publish(topic string, all ...*message.Message) error {
	err := p.Publisher.Publish(topic, all...)
	if err == nil {
		p.done(all[0])
	}
	return err
}

// running runs sinks over a log until it is stopped.
func (b *bench) running(log *eventstore.Log, all ...sinks.Sink) (stop func()) {
	bus := sinksBus(b, log)
	end := runSinks(b, log, bus, all...)
	return func() {
		end()
		b.must(bus.Close(context.Background()))
		for _, s := range all {
			b.must(s.Publisher.Close())
		}
	}
}

// catchUp starts sinks behind so many events, and gives deliveries a second.
func (b *bench) catchUp(log *eventstore.Log, t sinkTarget, number, n, events int) float64 {
	var delivered atomic.Int64
	all, enough := make([]sinks.Sink, n), make(chan struct{})
	for i := range all {
		all[i] = sinks.Sink{Config: sinks.Config{Name: fmt.Sprintf("behind-%d-%d", number, i), FromStart: true}, Publisher: measured{t.open(number + i), func(*message.Message) {
			if delivered.Add(1) == int64(n*events) {
				close(enough)
			}
		}}}
	}
	began := time.Now()
	stop := b.running(log, all...)
	<-enough
	rate := float64(n*events) / time.Since(began).Seconds()
	stop()
	return rate
}

// delays appends at a steady rate to what sinks at the head send.
func (b *bench) delays(log *eventstore.Log, t sinkTarget, number, n int) (all quantiles) {
	began, stop := b.atHead(log, t, number, n, &all)
	b.steadily(log, number, began)
	stop()
	return all
}

// atHead runs sinks of events appended by steadily, and notes their delays until it is stopped.
func (b *bench) atHead(log *eventstore.Log, t sinkTarget, number, n int, all *quantiles) (sent *sync.Map, stop func()) {
	sent = &sync.Map{}
	var mu sync.Mutex
	var missing sync.WaitGroup
	missing.Add(n * sinkRate * int(b.span.Seconds()))
	some := make([]sinks.Sink, n)
	for i := range some {
		some[i] = sinks.Sink{Config: sinks.Config{Name: fmt.Sprintf("head-%d-%d", number, i), Tenants: []string{fmt.Sprint("tenant-", number)}},
			Publisher: measured{t.open(number + 50 + i), func(m *message.Message) {
				at, _ := sent.Load(m.UUID)
				mu.Lock()
				*all = append(*all, time.Since(at.(time.Time)))
				mu.Unlock()
				missing.Done()
			}}}
	}
	halt := b.running(log, some...)
	for _, s := range some { // its first cursor says that it is there
		b.until(log, sink.CursorStream(s.Name))
	}
	return sent, func() { missing.Wait(); halt() }
}

// until waits for the first event of a stream.
func (b *bench) until(log *eventstore.Log, stream string) {
	for d, err := range log.Follow(b.Context(), 0) {
		b.must(err)
		if d.Kind == domain.DeliveredEvent && d.Event.Stream == stream {
			return
		}
	}
}

// steadily appends sinkRate events a second for the span.
func (b *bench) steadily(log *eventstore.Log, number int, sent *sync.Map) {
	const writers = 8
	began := time.Now()
	var appending sync.WaitGroup
	for w := range writers {
		appending.Go(func() {
			for i, next := w, 0; i < sinkRate*int(b.span.Seconds()); i, next = i+writers, next+1 {
				time.Sleep(time.Duration(i)*time.Second/sinkRate - time.Since(began)) // a late one goes at once
				e := domain.Proposed{ID: uuid.NewString(), Type: "bench", Data: []byte(`{"fill":"` + strings.Repeat("x", benchPayload) + `"}`),
					Meta: domain.Meta{Rev: 1, Tenant: fmt.Sprint("tenant-", number), RecordedAt: time.Now()}.Encode()}
				sent.Store(e.ID, time.Now())
				if _, err := log.Append(b.Context(), fmt.Sprintf("steady-%d-%d", number, w), int64(next)-1, []domain.Proposed{e}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	appending.Wait()
}

// backlog appends events in batches of 20, each into a stream of its own.
func (b *bench) backlog(log *eventstore.Log, events, first int) {
	var next atomic.Int64
	var writing sync.WaitGroup
	for range 16 {
		writing.Go(func() {
			for i := next.Add(1) - 1; i < int64(events/20); i = next.Add(1) - 1 {
				raw := make([]domain.Proposed, 20)
				for n := range raw {
					raw[n] = domain.Proposed{ID: uuid.NewString(), Type: "bench", Data: []byte(`{"fill":"` + strings.Repeat("x", benchPayload) + `"}`),
						Meta: domain.Meta{Rev: 1, RecordedAt: time.Now()}.Encode()}
				}
				if _, err := log.Append(b.Context(), fmt.Sprintf("backlog-%d-%d", first, i), domain.NoStream, raw); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	writing.Wait()
}

// behind has one sink catch up with a long log while another is at the head.
func (b *bench) behind(log *eventstore.Log, head, late sinkTarget, node *child) {
	b.backlog(log, sinkBacklog, 2)
	alone := b.delays(log, head, 901, 1)
	var beside quantiles
	sent, stop := b.atHead(log, head, 903, 1, &beside)
	var caught atomic.Int64
	halt := b.running(log, sinks.Sink{Config: sinks.Config{Name: "late", FromStart: true}, Publisher: measured{late.open(990), func(*message.Message) { caught.Add(1) }}})
	began, before := time.Now(), caught.Load()
	b.steadily(log, 903, sent)
	rate := float64(caught.Load()-before) / time.Since(began).Seconds()
	stop()
	halt()
	b.row(fmt.Sprintf("a sink to %s, %d events behind, catches up", late.name, sinkBacklog), perSecond(rate), "node's memory %d MiB", node.memory("VmRSS"))
	b.row(fmt.Sprintf("meanwhile a sink to %s at the head: append to delivery", head.name), beside.p99(), "%v; without the other p50 %.2f, p99 %.2f ms", beside,
		alone.at(0.5).Seconds()*1000, alone.at(0.99).Seconds()*1000)
}
