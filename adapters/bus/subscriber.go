package bus

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/domain"
)

// SubscriberConfig is what a Subscriber is made of. Log and Name are required.
type SubscriberConfig struct {
	Log Log
	// Name is the subscription's: 2 to 40 characters of a-z, 0-9 and -. It keeps one place for each topic.
	Name string
	// FromEnd begins a new subscription with what is appended after it was initialised or subscribed to, not with the log's start.
	FromEnd bool
	// Filter chooses events by what is known of them besides their payload; nil takes all. It is called from one goroutine for each
	// subscription.
	Filter func(domain.Meta) bool
	// InFlight is how many events may be read and unanswered, those that wait for an earlier one of their stream among them; 256
	// when zero. With 1, the events of all streams come one after the other.
	InFlight int
	// SaveEvery is how many messages are acked before the place is saved; 100 when zero. SaveAfter is how long an acked one waits for
	// that at most; 1 s when zero. What was acked and not yet saved comes again after a crash.
	SaveEvery int
	SaveAfter time.Duration
	// Redelivery is the pause before a nacked message comes again.
	Redelivery Backoff
	// Grace is how long Close waits for answers to messages that are out; they are given up at once when it is zero.
	Grace time.Duration
	// Leases let only one of several subscribers of the name read a topic. With nil, they read side by side: each that finds the
	// place moved by another goes on from there, and messages come more than once.
	Leases Leases
	Logger *slog.Logger // nil drops
}

// Subscriber delivers the events of a topic at least once: those of one stream one after the other, each when the one before is
// acked; those of different streams side by side. A nacked message comes again. The place up to which all is acked is kept in the
// log, so that a subscriber of the same name goes on behind it. It is safe for concurrent use.
type Subscriber struct {
	SubscriberConfig
	all *subscriptions
}

var (
	_ message.Subscriber           = (*Subscriber)(nil)
	_ message.SubscribeInitializer = (*Subscriber)(nil)
)

// skipEvery is how many events that are not for a subscription pass before its place is saved.
const skipEvery = 10_000

// flushing is how long a subscription that ends may take to save its place.
const flushing = 5 * time.Second

// NewSubscriber makes a subscriber. CodeInvalid names what is wrong with the configuration.
func NewSubscriber(c SubscriberConfig) (*Subscriber, error) {
	if c.Log == nil {
		return nil, errors.New("bus: Log is required")
	}
	if err := checkSubscription(c.Name); err != nil {
		return nil, err
	}
	if c.InFlight < 0 || c.InFlight > 1<<16 {
		return nil, domain.Invalid("inFlight", "must be between 0 and %d", 1<<16)
	}
	c.InFlight, c.SaveEvery, c.SaveAfter = cmp.Or(c.InFlight, 256), cmp.Or(max(c.SaveEvery, 0), 100), cmp.Or(max(c.SaveAfter, 0), time.Second)
	c.Redelivery = c.Redelivery.orDefault()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Subscriber{c, newSubscriptions(c.Grace)}, nil
}

// SubscribeInitialize puts a new subscription that is to begin at the topic's end there.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	t, err := parseTopic(topic)
	if err != nil {
		return err
	}
	_, err = s.load(s.all.feeding, newCursor(s.Log, s.Name, t))
	return err
}

// Subscribe delivers a topic's events until ctx ends or Close is called; the channel is closed when everything has ended. The context
// of a message comes from ctx, and ends when the message is answered or given up. CodeStale says that the subscription's place
// cannot be found in this log. Later on only what trying again cannot mend closes the channel.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	t, err := parseTopic(topic)
	if err != nil {
		return nil, err
	}
	c := newCursor(s.Log, s.Name, t)
	if _, err := s.load(ctx, c); err != nil {
		return nil, err
	}
	return s.all.begin(ctx, func(under subscribed, out chan<- *message.Message) { s.run(under, c, out) })
}

// Close ends all subscriptions, closes their channels and saves their places.
func (s *Subscriber) Close() error {
	s.all.close()
	return nil
}

// load gives the place of a subscription, new ones included.
func (s *Subscriber) load(ctx context.Context, c *cursor) (start, error) {
	at, found, err := c.load(ctx)
	if err != nil || found || !s.FromEnd {
		return at, err
	}
	if err := c.begin(ctx); err != nil {
		return at, err
	}
	at, _, err = c.load(ctx)
	return at, err
}

// run serves a subscription again and again: until it ends, or something comes that cannot be mended.
func (s *Subscriber) run(under subscribed, c *cursor, out chan<- *message.Message) {
	for failures := 0; under.feeding.Err() == nil; failures++ {
		before := c.revision
		err := s.lead(under, c, out)
		if under.feeding.Err() != nil || under.answering.Err() != nil {
			return
		}
		switch domain.CodeOf(err) {
		case domain.CodeStale, domain.CodeInvalid, domain.CodeNotFound:
			s.Logger.Error("a subscription has ended", "subscription", s.Name, "topic", c.topic.name, "error", err)
			return
		}
		if c.revision > before {
			failures = 0
		}
		s.Logger.Warn("a subscription begins again", "subscription", s.Name, "topic", c.topic.name, "error", err)
		if !s.Redelivery.pause(under.feeding, failures) {
			return
		}
	}
}

// lead serves a subscription while it holds its lease.
func (s *Subscriber) lead(under subscribed, c *cursor, out chan<- *message.Message) error {
	if s.Leases == nil {
		return s.serve(under, c, out)
	}
	return s.Leases.Lead(under.feeding, c.stream, func(held context.Context) error {
		answering, giveUp := context.WithCancel(under.answering)
		defer giveUp()
		defer context.AfterFunc(held, func() {
			if under.feeding.Err() == nil { // the lease is lost: another delivers what is out now
				giveUp()
			}
		})()
		return s.serve(subscribed{held, answering}, c, out)
	})
}

// serve delivers from the cursor on and keeps it moving. All that it began has ended when it returns.
func (s *Subscriber) serve(under subscribed, c *cursor, out chan<- *message.Message) error {
	at, err := s.load(under.feeding, c)
	if err != nil {
		return err
	}
	feeding, stop := context.WithCancelCause(under.feeding)
	defer stop(nil)
	answering, giveUp := context.WithCancel(under.answering)
	defer giveUp()
	within := subscribed{feeding, answering}
	w := newWindow(s.InFlight, func(e Event) bool { return s.deliver(within, e, out) })
	saved := make(chan struct{})
	go func() {
		defer close(saved)
		if err := s.keep(feeding, c, w); err != nil {
			stop(err)
			giveUp()
		}
	}()
	err = s.feed(feeding, c.topic, at, w)
	if cause := context.Cause(feeding); err == nil && cause != nil && under.feeding.Err() == nil {
		err = cause
	}
	stop(err)
	w.running.Wait()
	<-saved
	if domain.CodeOf(err) != domain.CodeConflict {
		s.flush(under.feeding, c, w)
	}
	if err == nil {
		err = errors.New("the log's events ended")
	}
	return err
}

// feed puts the topic's events into the window.
func (s *Subscriber) feed(ctx context.Context, t topic, at start, w *window) error {
	for e, err := range s.events(ctx, t, at) {
		if err != nil {
			return err
		}
		if t.stream == "" {
			if category, _ := domain.SplitStream(e.Stream); category == domain.CursorCategory {
				continue // a place that is saved must not move others: they would have to be saved, too
			}
		}
		if t.stream == "" && !t.has(e.Stream) || s.Filter != nil && !s.Filter(metaOf(e)) {
			w.skip(e)
			continue
		}
		if !w.add(ctx, e) {
			return nil
		}
	}
	return nil
}

func (s *Subscriber) events(ctx context.Context, t topic, at start) iter.Seq2[Event, error] {
	if t.stream != "" {
		return s.Log.FollowStream(ctx, t.stream, at.revision)
	}
	return s.Log.Follow(ctx, at.position)
}

// deliver hands an event out until it is acked. It reports false when it was given up.
func (s *Subscriber) deliver(under subscribed, e Event, out chan<- *message.Message) bool {
	for n := 0; ; n++ {
		switch under.hand(decode(e), out) {
		case acked:
			return true
		case unanswered:
			return false
		}
		if !s.Redelivery.pause(under.feeding, n) {
			return false
		}
	}
}

// keep saves the place while the window moves. It ends with ctx, and with an error that says that the place is not ours to save.
func (s *Subscriber) keep(ctx context.Context, c *cursor, w *window) error {
	var due <-chan time.Time
	for failures := 0; ; {
		late := false
		select {
		case <-ctx.Done():
			return nil
		case <-w.moved:
		case <-due:
			late, due = true, nil
		}
		done, skipped := w.unsaved()
		if !late && done < s.SaveEvery && skipped < skipEvery {
			if done > 0 && due == nil {
				due = time.After(s.SaveAfter)
			}
			continue
		}
		at, _ := w.progress()
		err := c.save(ctx, at)
		switch domain.CodeOf(err) {
		case "":
			failures, due = 0, nil
		case domain.CodeUnavailable:
			w.unsave()
			due = time.After(s.Redelivery.before(failures))
			failures++
		default:
			return err
		}
	}
}

// flush saves the place of a subscription that ends.
func (s *Subscriber) flush(ctx context.Context, c *cursor, w *window) {
	at, moved := w.progress()
	if !moved {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushing)
	defer cancel()
	if err := c.save(ctx, at); err != nil {
		s.Logger.Warn("a place was not saved: messages come again", "subscription", s.Name, "topic", c.topic.name, "error", err)
	}
}
