package sources_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/tenure-dev/tenure/adapters/bus/sources"
	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epoch = domain.Epoch{Number: 1, ID: "0a1b"}

const org = "org_aaaaaaaaaaaaaaaaaaaaaaaaaa"

// rename is an event that every test may change.
func rename(id string, more ...string) string {
	return event(id, "org.rename", `{"orgId":"`+org+`","name":"Acme"}`, more...)
}

// event is a CloudEvent; more are attributes as they stand in JSON.
func event(id, kind, data string, more ...string) string {
	return `{"specversion":"1.0","id":"` + id + `","source":"/crm","type":"` + kind + `","data":` + data + strings.Join(append([]string{""}, more...), ",") + `}`
}

// bus answers what a test says, or that the command stands at position 70 + n.
type bus struct {
	mu     sync.Mutex
	calls  []commands.Call
	answer func(n int, c commands.Call) (commands.Outcome, error) // n counts calls from 1
}

func (b *bus) Execute(ctx context.Context, c commands.Call) (o commands.Outcome, err error) {
	b.mu.Lock()
	b.calls = append(b.calls, c)
	n, answer := len(b.calls), b.answer
	b.mu.Unlock()
	if o = stands(n); answer != nil {
		o, err = answer(n, c)
	}
	if ctx.Err() != nil {
		return commands.Outcome{}, domain.Unavailable("the call was broken off", ctx.Err())
	}
	return o, err
}

func (b *bus) all() []commands.Call {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]commands.Call(nil), b.calls...)
}

func stands(n int) commands.Outcome {
	return commands.Outcome{ID: org, Stream: "org-" + org, Revision: int64(n), Position: domain.Position{Epoch: epoch, Commit: uint64(70 + n)}}
}

// failing answers with errors, one after the other, and then that the command stands.
func failing(errs ...error) func(int, commands.Call) (commands.Outcome, error) {
	return func(n int, _ commands.Call) (commands.Outcome, error) {
		if n <= len(errs) {
			return commands.Outcome{}, errs[n-1]
		}
		return stands(n), nil
	}
}

// clock stands still, and what is waited for has passed at once.
type clock struct {
	mu     sync.Mutex
	waited []time.Duration
	hold   chan struct{} // if not nil, nothing passes; it is told of each wait
}

func (*clock) Now() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func (c *clock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waited = append(c.waited, d)
	passed := make(chan time.Time, 1)
	if c.hold != nil {
		c.hold <- struct{}{}
	} else {
		passed <- time.Time{}
	}
	return passed
}

// rig is one source on a broker in memory.
type rig struct {
	*testing.T
	broker          *gochannel.GoChannel
	metrics         *prometheus.Registry
	clock           *clock
	replies, parked <-chan *message.Message
	end             context.CancelFunc // begins to stop
	stop            func()
}

func start(t *testing.T, b sources.Commander, change ...func(*sources.Source, *sources.Options)) *rig {
	t.Helper()
	r := &rig{T: t, broker: gochannel.NewGoChannel(gochannel.Config{Persistent: true, OutputChannelBuffer: 100}, nil),
		metrics: prometheus.NewRegistry(), clock: &clock{}}
	s := sources.Source{Config: sources.Config{Name: "crm", Actor: "svc-crm", Replies: "answers", Attempts: 3},
		Subscriber: r.broker, Topic: "asks", Publisher: r.broker}
	o := sources.Options{Commands: b, Clock: r.clock, Epoch: epoch, Metrics: r.metrics}
	for _, f := range change {
		f(&s, &o)
	}
	o.Sources = append([]sources.Source{s}, o.Sources...)
	runner, err := sources.New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.replies, r.parked = r.listen("answers"), r.listen("tenure.sources.crm.parked")
	ctx, cancel := context.WithCancel(context.Background())
	r.end = cancel
	done := make(chan error, 1)
	go func() { done <- runner.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		r.stop()
		_ = r.broker.Close()
	})
	return r
}

func (r *rig) listen(topic string) <-chan *message.Message {
	r.Helper()
	all, err := r.broker.Subscribe(context.Background(), topic)
	if err != nil {
		r.Fatal(err)
	}
	return all
}

func (r *rig) send(payload string, metadata ...string) {
	r.Helper()
	m := message.NewMessage(watermill.NewUUID(), []byte(payload))
	for i := 0; i < len(metadata); i += 2 {
		m.Metadata.Set(metadata[i], metadata[i+1])
	}
	if err := r.broker.Publish("asks", m); err != nil {
		r.Fatal(err)
	}
}

// answered is a reply as a receiver reads it.
type answered struct {
	SpecVersion, ID, Source, Type, Subject, Time, CorrelationID, Traceparent string
	Data                                                                     map[string]any
}

// reply takes the next message of a topic and reads it. It waits for ever: a test that gets none is a hung one.
func (r *rig) reply(from <-chan *message.Message) (a answered) {
	r.Helper()
	m := <-from
	m.Ack()
	if err := json.Unmarshal(m.Payload, &a); err != nil {
		r.Fatalf("%s: %v", m.Payload, err)
	}
	if a.SpecVersion != "1.0" || a.Source != "tenure:0a1b" || a.Time != "2026-03-01T12:00:00Z" || a.ID == "" ||
		m.Metadata.Get("content-type") != "application/cloudevents+json" {
		r.Errorf("%+v is no proper CloudEvent", a)
	}
	return a
}

// aside takes the next parked message and says why it was parked, as code/attempts.
func (r *rig) aside() (payload, why string) {
	m := <-r.parked
	m.Ack()
	return string(m.Payload), m.Metadata.Get("parkedCode") + "/" + m.Metadata.Get("parkedAttempts")
}

// count is what a metric says of a source.
func (r *rig) count(source string) (all string) {
	r.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		r.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if v := m.Counter.GetValue(); m.Label[0].GetValue() == source && v > 0 {
				all += fmt.Sprint(strings.TrimSuffix(strings.TrimPrefix(f.GetName(), "tenure_source_"), "_total"), "=", v, " ")
			}
		}
	}
	return strings.TrimSpace(all)
}

// publisher fails as long as it is told to.
type publisher struct {
	message.Publisher
	mu   sync.Mutex
	left map[string]int // failures to come, by topic
}

func (p *publisher) Publish(topic string, m ...*message.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left[topic] > 0 {
		p.left[topic]--
		return errors.New("broker away")
	}
	return p.Publisher.Publish(topic, m...)
}

func unavailable() error { return domain.Unavailable("the log is away", errors.New("secret cause")) }
