package bus

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/domain"
)

// ConsumersConfig is what Consumers are made of. Groups and Name are required.
type ConsumersConfig struct {
	Groups Groups
	Name   string // the group's: 2 to 40 characters of a-z, 0-9 and -
	// New says how a group is made that does not exist yet; one that does is left as it is.
	New GroupSettings
	// Buffer is how many messages one subscription may have unanswered; 10 when zero.
	Buffer int
	// Redelivery is the pause before a nacked message is given back. Keep it below the group's AckTimeout.
	Redelivery Backoff
	Grace      time.Duration // how long Close waits for answers to messages that are out
	Logger     *slog.Logger  // nil drops
}

// Consumers share the messages of a stream with all others of their group's name, in no particular order: each message goes to one of
// them, at least once. One that was nacked or not answered comes again, to any of them, until the event store parks it. It is an
// EventStoreDB persistent subscription. There are none on several streams: event stores lose events of those.
type Consumers struct {
	ConsumersConfig
	all *subscriptions
}

var (
	_ message.Subscriber           = (*Consumers)(nil)
	_ message.SubscribeInitializer = (*Consumers)(nil)
)

// NewConsumers makes a subscriber of a group. CodeInvalid names what is wrong with the configuration.
func NewConsumers(c ConsumersConfig) (*Consumers, error) {
	if c.Groups == nil {
		return nil, errors.New("bus: Groups is required")
	}
	if err := checkSubscription(c.Name); err != nil {
		return nil, err
	}
	if c.Buffer < 0 || c.Buffer > 1<<16 {
		return nil, domain.Invalid("buffer", "must be between 0 and %d", 1<<16)
	}
	c.Buffer, c.Redelivery = cmp.Or(c.Buffer, 10), Backoff{c.Redelivery.First, cmp.Or(c.Redelivery.Last, 10*time.Second)}.orDefault()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Consumers{c, newSubscriptions(c.Grace)}, nil
}

// SubscribeInitialize makes the group on a topic, which is one stream.
func (s *Consumers) SubscribeInitialize(topic string) error { return s.ensure(s.all.feeding, topic) }

// Subscribe makes the group if there is none and delivers its messages until ctx ends or Close is called; the channel is closed
// when everything has ended. The context of a message ends when it is answered or given up.
func (s *Consumers) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if err := s.ensure(ctx, topic); err != nil {
		return nil, err
	}
	return s.all.begin(ctx, func(under subscribed, out chan<- *message.Message) { s.run(under, topic, out) })
}

// Close ends all subscriptions and closes their channels.
func (s *Consumers) Close() error {
	s.all.close()
	return nil
}

func (s *Consumers) ensure(ctx context.Context, topic string) error {
	t, err := parseTopic(topic)
	if err != nil {
		return err
	}
	if t.stream == "" {
		return domain.Invalid("topic", "must be one stream: groups on several lose events")
	}
	return s.Groups.EnsureGroup(ctx, t.stream, s.Name, s.New)
}

// run consumes again and again; a group that was deleted is made anew.
func (s *Consumers) run(under subscribed, topic string, out chan<- *message.Message) {
	for failures := 0; under.feeding.Err() == nil; failures++ {
		came, err := s.consume(under, topic, out)
		if under.feeding.Err() != nil || under.answering.Err() != nil {
			return
		}
		if came {
			failures = 0
		}
		s.Logger.Warn("consuming begins again", "group", s.Name, "topic", topic, "error", err)
		if !s.Redelivery.pause(under.feeding, failures) {
			return
		}
		if err := s.ensure(under.feeding, topic); domain.CodeOf(err) == domain.CodeInvalid {
			s.Logger.Error("consuming has ended", "group", s.Name, "topic", topic, "error", err)
			return
		}
	}
}

// consume is one subscription's life. When nothing more is to be delivered it goes on until what is out has been answered or given
// up: later an answer would be lost.
func (s *Consumers) consume(under subscribed, topic string, out chan<- *message.Message) (came bool, err error) {
	var settling sync.WaitGroup
	defer settling.Wait()
	connected, cancel := context.WithCancel(under.answering)
	defer cancel()
	o := &outstanding{last: cancel}
	defer context.AfterFunc(under.feeding, o.close)()
	within := subscribed{under.feeding, connected}
	for c, err := range s.Groups.Consume(connected, topic, s.Name, s.Buffer) {
		if err != nil {
			return came, err
		}
		came = true
		if o.begin() {
			settling.Go(func() {
				defer o.end()
				s.settle(within, c, out)
			})
		}
	}
	return came, nil
}

// outstanding counts the messages that are out, and says so when the last one has been answered after closing.
type outstanding struct {
	last   func()
	mu     sync.Mutex
	n      int
	closed bool
}

func (o *outstanding) begin() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		o.n++
	}
	return !o.closed
}

func (o *outstanding) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.n--; o.n == 0 && o.closed {
		o.last()
	}
}

func (o *outstanding) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed = true; o.n == 0 {
		o.last()
	}
}

// settle hands a message out and gives the event store its answer; with none, the event comes again by itself.
func (s *Consumers) settle(under subscribed, c Consumed, out chan<- *message.Message) {
	var err error
	switch under.hand(decode(c.Event), out) {
	case unanswered:
		return
	case acked:
		err = c.Ack()
	case nacked:
		s.Redelivery.pause(under.feeding, c.Retries)
		err = c.Retry("nacked by its handler")
	}
	if err != nil {
		s.Logger.Info("an answer did not arrive: the message comes again", "group", s.Name, "id", c.Event.ID, "error", err)
	}
}
