package bus

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tenure-dev/tenure/domain"
)

// routed runs a router with one handler, "h", of topic over the log, publishing to topic-out, until the test ends.
func routed(t *testing.T, l *memory, topic string, c RouterConfig, h message.HandlerFunc) {
	t.Helper()
	c.Publisher, c.Now = NewPublisher(l), time.Now
	r, err := NewRouter(c)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSubscriber(SubscriberConfig{Log: l, Name: "reader"})
	if err != nil {
		t.Fatal(err)
	}
	r.AddHandler("h", topic, s, "topic-out", NewPublisher(l), h)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(context.Background()) }()
	t.Cleanup(func() {
		if err := errors.Join(r.Close(), <-ended); err != nil {
			t.Error(err)
		}
	})
	<-r.Running()
}

func TestThroughTheRouterTheNextMessageOfAStreamWaitsForTheOneBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemory()
		l.add(t, "topic-a", "x", 1, 2, 3)
		l.add(t, "topic-b", "x", 1, 2, 3)
		given, answers := make(chan string, 100), map[string]chan error{"topic-a": make(chan error), "topic-b": make(chan error)}
		routed(t, l, "$ce-topic", RouterConfig{Retries: -1}, func(m *message.Message) ([]*message.Message, error) {
			stream := m.Metadata.Get(StreamKey)
			given <- stream + "/" + string(m.Payload)
			return nil, <-answers[stream]
		})
		came := func() (all []string) {
			synctest.Wait()
			for len(given) > 0 {
				all = append(all, <-given)
			}
			return all
		}
		if got := came(); len(got) != 2 || got[0][8:] != "1" || got[1][8:] != "1" {
			t.Fatalf("before any is acked came %v", got)
		}
		for _, want := range []string{"topic-b/2", "topic-b/3"} {
			answers["topic-b"] <- nil
			if got := came(); len(got) != 1 || got[0] != want {
				t.Fatalf("%v came, not %s alone", got, want)
			}
		}
		answers["topic-a"] <- domain.Unavailable("it is away", nil)
		time.Sleep(time.Second) // the pause before it is given again, in the bubble's time
		if got := came(); len(got) != 1 || got[0] != "topic-a/1" {
			t.Fatalf("behind a nacked one came %v", got)
		}
		for _, want := range []string{"topic-a/2", "topic-a/3"} {
			answers["topic-a"] <- nil
			if got := came(); len(got) != 1 || got[0] != want {
				t.Fatalf("%v came, not %s alone", got, want)
			}
		}
		close(answers["topic-a"])
		close(answers["topic-b"])
	})
}

func TestWhatAHandlerFailsOnGoesToItsPoisonStream(t *testing.T) {
	const secret = "ada@example.org"
	for _, c := range []struct {
		name         string
		fail         func() error
		tries        int
		code, reason string
	}{
		{"an uncoded error, without its text", func() error { return errors.New(secret) }, 3, "internal", "the handler failed"},
		{"a coded error, without its cause", func() error {
			return &domain.Error{Code: domain.CodeConflict, Message: "is taken", Cause: errors.New(secret)}
		}, 3, "conflict", "is taken"},
		{"a panic, without its value", func() error { panic(secret) }, 3, "internal", "the handler panicked"},
		{"what no other try mends, at once", func() error { return domain.Invalid("name", "must not be empty") }, 1, "invalid", "name must not be empty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, registry := newMemory(), prometheus.NewRegistry()
				l.add(t, "topic-a", "x", 1, 2)
				tries, done := 0, 0
				routed(t, l, "topic-a", RouterConfig{Retries: 2, Registerer: registry}, func(m *message.Message) ([]*message.Message, error) {
					if string(m.Payload) == "1" {
						tries++
						return nil, c.fail()
					}
					done++
					return nil, nil
				})
				time.Sleep(time.Minute)
				synctest.Wait()
				taken := l.in("poison-h")
				if len(taken) != 1 || tries != c.tries || done != 1 {
					t.Fatalf("%d taken after %d tries, %d done", len(taken), tries, done)
				}
				m := decode(taken[0])
				want := message.Metadata{PoisonCodeKey: c.code, PoisonReasonKey: c.reason, PoisonStreamKey: "topic-a", PoisonRevisionKey: "0",
					MessageIDKey: domain.DeriveUUID("topic-a", "1").String(), TypeKey: "x"}
				got := message.Metadata{}
				for key := range want {
					got[key] = m.Metadata[key]
				}
				if d := cmp.Diff(want, got); d != "" || string(m.Payload) != "1" {
					t.Error(string(m.Payload), d)
				}
				if strings.Contains(string(taken[0].Metadata), secret) {
					t.Errorf("the log holds %s", taken[0].Metadata)
				}
				counted := "# HELP tenure_bus_failed_total Tries of messages that their handler has failed on.\n# TYPE tenure_bus_failed_total counter\n" +
					"tenure_bus_failed_total{handler=\"h\"} " + string(rune('0'+c.tries)) + "\n" +
					"# HELP tenure_bus_handled_total Tries of messages that their handler has done.\n# TYPE tenure_bus_handled_total counter\n" +
					"tenure_bus_handled_total{handler=\"h\"} 1\n" +
					"# HELP tenure_bus_poisoned_total Messages that went to a poison stream.\n# TYPE tenure_bus_poisoned_total counter\n" +
					"tenure_bus_poisoned_total{handler=\"h\"} 1\n"
				if err := testutil.GatherAndCompare(registry, strings.NewReader(counted), "tenure_bus_failed_total", "tenure_bus_handled_total", "tenure_bus_poisoned_total"); err != nil {
					t.Error(err)
				}
				if n, err := testutil.GatherAndCount(registry, "tenure_bus_handler_seconds"); err != nil || n != 1 {
					t.Error(n, err)
				}
			})
		})
	}
}

func TestWhatIsUnavailableIsTriedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemory()
		l.add(t, "topic-a", "x", 1, 2)
		tries, done := 0, []string{}
		routed(t, l, "topic-a", RouterConfig{Retries: 1}, func(m *message.Message) ([]*message.Message, error) {
			if tries++; tries < 20 {
				return nil, domain.Unavailable("it is away", nil)
			}
			done = append(done, string(m.Payload))
			return nil, nil
		})
		time.Sleep(time.Hour)
		synctest.Wait()
		if d := cmp.Diff([]string{"1", "2"}, done); d != "" || len(l.in("poison-h")) != 0 {
			t.Error(d, l.in("poison-h"))
		}
	})
}

func TestWhatAHandlerReturnsCarriesItsCauseOn(t *testing.T) {
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	synctest.Test(t, func(t *testing.T) {
		l := newMemory()
		traced := message.NewMessage(domain.DeriveUUID("traced").String(), []byte("1"))
		traced.Metadata = message.Metadata{CorrelationKey: "first", TraceparentKey: trace}
		plain := message.NewMessage(domain.DeriveUUID("plain").String(), []byte("2"))
		if err := NewPublisher(l).Publish("topic-a", traced, plain); err != nil {
			t.Fatal(err)
		}
		var seen []string
		routed(t, l, "topic-a", RouterConfig{}, func(m *message.Message) ([]*message.Message, error) {
			seen = append(seen, Traceparent(m.Context()))
			own := message.NewMessage("own"+m.UUID, m.Payload)
			own.Metadata = message.Metadata{CorrelationKey: "its own"}
			return []*message.Message{message.NewMessage("of"+m.UUID, m.Payload), own}, nil
		})
		synctest.Wait()
		if d := cmp.Diff([]string{trace, ""}, seen); d != "" {
			t.Error("in the handlers' contexts:", d)
		}
		var got []message.Metadata
		for _, e := range l.in("topic-out") {
			m := decode(e).Metadata
			got = append(got, message.Metadata{CorrelationKey: m[CorrelationKey], CausationKey: m[CausationKey], TraceparentKey: m[TraceparentKey]})
		}
		if d := cmp.Diff([]message.Metadata{
			{CorrelationKey: "first", CausationKey: traced.UUID, TraceparentKey: trace},
			{CorrelationKey: "its own", CausationKey: traced.UUID, TraceparentKey: trace},
			{CorrelationKey: plain.UUID, CausationKey: plain.UUID, TraceparentKey: ""},
			{CorrelationKey: "its own", CausationKey: plain.UUID, TraceparentKey: ""}}, got); d != "" {
			t.Error(d)
		}
	})
}

func TestAMessageWhoseOutcomeCannotBePublishedIsPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemory()
		l.add(t, "topic-a", "x", 1, 2)
		routed(t, l, "topic-a", RouterConfig{}, func(m *message.Message) ([]*message.Message, error) {
			out := message.NewMessage("of"+m.UUID, m.Payload)
			if string(m.Payload) == "1" {
				out.Metadata.Set(TypeKey, "$forbidden")
			}
			return []*message.Message{out}, nil
		})
		synctest.Wait()
		if taken, out := l.in("poison-h"), l.in("topic-out"); len(taken) != 1 || string(taken[0].Data) != "1" || len(out) != 1 || string(out[0].Data) != "2" {
			t.Errorf("%d taken, %d published", len(taken), len(out))
		}
	})
}

func TestPoisonIsNotPoisonedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemory()
		l.add(t, "poison-other", "x", 1)
		l.add(t, "topic-a", "x", 2)
		var tried atomic.Int32
		routed(t, l, All, RouterConfig{Retries: -1}, func(*message.Message) ([]*message.Message, error) {
			tried.Add(1)
			return nil, errors.New("fails on everything")
		})
		time.Sleep(time.Hour)
		synctest.Wait()
		if taken := l.in("poison-h"); tried.Load() != 3 || len(taken) != 1 || string(taken[0].Data) != "2" {
			t.Errorf("%d tries, %d taken", tried.Load(), len(taken))
		}
	})
}

func TestPoisonThatHasBecomeTooLargeGoesWithoutItsPayload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemory()
		l.add(t, "topic-a", "x", 1)
		l.fault = func(e Event, _ bool) error {
			if e.Stream == "poison-h" && len(e.Data) > 0 {
				return &domain.Error{Code: domain.CodeTooLarge, Message: "more than the event store takes at once"}
			}
			return nil
		}
		routed(t, l, "topic-a", RouterConfig{Retries: -1}, func(*message.Message) ([]*message.Message, error) { return nil, errors.New("no") })
		synctest.Wait()
		if taken := l.in("poison-h"); len(taken) != 1 || decode(taken[0]).Metadata.Get(PoisonStreamKey) != "topic-a" {
			t.Errorf("%d taken", len(taken))
		}
	})
}

func TestAMessageIsNeverPoisonBecauseTheRouterIsClosed(t *testing.T) {
	l, registry := newMemory(), prometheus.NewRegistry()
	synctest.Test(t, func(t *testing.T) {
		l.grown = make(chan struct{}) // of the bubble
		l.add(t, "topic-a", "x", 1)
		routed(t, l, "topic-a", RouterConfig{Registerer: registry}, func(m *message.Message) ([]*message.Message, error) {
			<-m.Context().Done()
			return nil, errors.New("given up")
		})
		synctest.Wait()
	})
	if n, err := testutil.GatherAndCount(registry, "tenure_bus_poisoned_total"); n != 0 || err != nil {
		t.Error("it was taken for poison", err)
	}
	if len(l.in("poison-h")) != 0 || len(l.in("bus-reader.topic-a")) != 0 {
		t.Error("it was taken for done")
	}
}

func TestWatermillsLogHoldsNoMessages(t *testing.T) {
	var text bytes.Buffer
	handler := slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	l := NewLogger(slog.New(handler)).With(map[string]any{"router": "r"})
	l.Error("failed", errors.New("why"), map[string]any{"topic": "t", "not_sent_message": "ada", "a": 1})
	l.Info("begins", nil)
	l.Debug("is", nil)
	l.Trace("goes", nil)
	want := "level=ERROR msg=failed router=r a=1 topic=t error=why\nlevel=DEBUG msg=begins router=r\nlevel=DEBUG msg=is router=r\n"
	if d := cmp.Diff(want, text.String()); d != "" {
		t.Error(d)
	}
}

func TestAPublisherOutlivesTheHandlersThatShareIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemory()
		p := NewPublisher(l)
		r, err := NewRouter(RouterConfig{Publisher: p, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		var handlers []*message.Handler
		for _, name := range []string{"one", "two"} {
			s, err := NewSubscriber(SubscriberConfig{Log: l, Name: name})
			if err != nil {
				t.Fatal(err)
			}
			handlers = append(handlers, r.AddHandler(name, "topic-a", s, "topic-"+name, p, message.PassthroughHandler))
		}
		ended := make(chan error, 1)
		go func() { ended <- r.Run(context.Background()) }()
		<-r.Running()
		handlers[0].Stop()
		<-handlers[0].Stopped()
		l.add(t, "topic-a", "x", 1)
		synctest.Wait()
		if out := l.in("topic-two"); len(out) != 1 {
			t.Errorf("%d published", len(out))
		}
		if err := errors.Join(r.Close(), <-ended); err != nil {
			t.Error(err)
		}
	})
}

func TestARouterNeedsItsParts(t *testing.T) {
	if _, err := NewRouter(RouterConfig{Now: time.Now}); err == nil {
		t.Error("without a publisher")
	}
	if _, err := NewRouter(RouterConfig{Publisher: NewPublisher(newMemory())}); err == nil {
		t.Error("without a clock")
	}
	registry := prometheus.NewRegistry()
	c := RouterConfig{Publisher: NewPublisher(newMemory()), Now: time.Now, Registerer: registry}
	if _, err := NewRouter(c); err != nil {
		t.Error(err)
	}
	if _, err := NewRouter(c); err == nil {
		t.Error("the same metrics twice")
	}
}
