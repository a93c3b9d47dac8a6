package bus

import (
	"context"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/domain"
)

// subscriptions are those of one subscriber: what begins, ends and is waited for together.
type subscriptions struct {
	grace    time.Duration   // how long closing waits for answers to messages that are out
	feeding  context.Context // ends when nothing more is to be delivered
	stop     context.CancelFunc
	open     context.Context // ends when messages that are out are given up
	giveUp   context.CancelFunc
	mu       sync.Mutex // of beginning a subscription, and of closing
	closed   bool
	underway sync.WaitGroup
}

func newSubscriptions(grace time.Duration) *subscriptions {
	s := &subscriptions{grace: grace}
	s.feeding, s.stop = context.WithCancel(context.Background())
	s.open, s.giveUp = context.WithCancel(context.Background())
	return s
}

// subscribed are the contexts of one subscription: messages are delivered while feeding lasts, and answers are taken while
// answering does, from which the messages' own contexts come.
type subscribed struct{ feeding, answering context.Context }

// begin runs a subscription and closes its channel when it has ended.
func (s *subscriptions) begin(ctx context.Context, run func(c subscribed, out chan<- *message.Message)) (<-chan *message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, domain.Unavailable("the subscriber is closed", nil)
	}
	out := make(chan *message.Message)
	s.underway.Go(func() {
		defer close(out)
		feeding, stop := context.WithCancel(ctx)
		defer stop()
		defer context.AfterFunc(s.feeding, stop)()
		answering, giveUp := context.WithCancel(ctx)
		defer giveUp()
		defer context.AfterFunc(s.open, giveUp)()
		run(subscribed{feeding, answering}, out)
	})
	return out, nil
}

// close ends all subscriptions. Messages that are out have until the grace is over to be answered.
func (s *subscriptions) close() {
	s.mu.Lock()
	s.closed = true
	s.stop()
	s.mu.Unlock()
	late := time.AfterFunc(s.grace, s.giveUp)
	s.underway.Wait()
	late.Stop()
	s.giveUp()
}

// hand gives a message out and waits for its answer. Given up, it counts as unanswered, unless the answer is there already.
func (c subscribed) hand(m *message.Message, out chan<- *message.Message) answer {
	ctx, cancel := context.WithCancel(c.answering)
	defer cancel()
	m.SetContext(ctx)
	if c.feeding.Err() != nil {
		return unanswered
	}
	select {
	case out <- m:
	case <-c.feeding.Done():
		return unanswered
	}
	select {
	case <-m.Acked():
		return acked
	case <-m.Nacked():
		return nacked
	case <-ctx.Done():
	}
	select {
	case <-m.Acked():
		return acked
	default:
		return unanswered
	}
}

// answer is what became of a message.
type answer int

const (
	unanswered answer = iota
	acked
	nacked
)
