package broker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// closeGrace is how long a subscriber that is closed waits for the answer to the message that it has handed out.
const closeGrace = 10 * time.Second

// receiver is one broker's way of receiving.
type receiver interface {
	// receive hands on one message after the other until s.stop ends, or the connection is lost, which is an error.
	receive(s *session) error
	end()
}

// session is one run of a subscription.
type session struct {
	stop context.Context // ended: take no more messages
	hard context.Context // ended: and wait for no answers
	out  chan *message.Message
	got  bool // a message has come
}

// hand gives a message to the subscriber and waits for its answer. Answered is false where the subscription ended before;
// the broker then gives the message again. Meanwhile, if not nil, is called every so often while the answer is awaited.
func (s *session) hand(m *message.Message, every time.Duration, meanwhile func()) (acked, answered bool) {
	select {
	case s.out <- m:
	case <-s.stop.Done():
		return false, false
	}
	s.got = true
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-m.Acked():
			return true, true
		case <-m.Nacked():
			return false, true
		case <-s.hard.Done():
			return false, false
		case <-ticker.C:
			meanwhile()
		}
	}
}

// subscriber is a message.Subscriber of any broker. An acknowledged message is told to the broker; a refused one comes
// again, before all later ones; one without an answer comes again after the subscriber or the broker has come back. A lost
// connection is made anew for ever.
type subscriber struct {
	receiver receiver
	hide     scrubber
	log      *slog.Logger

	mu      sync.Mutex
	closed  bool
	closing chan struct{}
	running sync.WaitGroup
}

func newSubscriber(r receiver, hide scrubber, log *slog.Logger) *subscriber {
	return &subscriber{receiver: r, hide: hide, log: log, closing: make(chan struct{})}
}

// Subscribe starts to receive; the broker need not be there yet. What is received is the settings' matter: the topic is not
// looked at. The channel is closed after ctx has ended or the subscriber is closed.
func (s *subscriber) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, &Failure{code: CodeClosed, text: "the subscriber is closed"}
	}
	out := make(chan *message.Message)
	s.running.Go(func() {
		defer close(out)
		s.run(ctx, out)
	})
	return out, nil
}

func (s *subscriber) run(ctx context.Context, out chan *message.Message) {
	stop, cancelStop := context.WithCancel(ctx)
	hard, cancelHard := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelHard()
	defer cancelStop()
	defer context.AfterFunc(stop, func() { // whatever has stopped it
		select {
		case <-time.After(closeGrace):
			cancelHard()
		case <-hard.Done():
		}
	})()
	s.running.Go(func() {
		select {
		case <-s.closing:
			cancelStop()
		case <-stop.Done():
		}
	})
	for failures := 0; stop.Err() == nil; {
		now := &session{stop: stop, hard: hard, out: out}
		err := s.receiver.receive(now)
		if stop.Err() != nil {
			return
		}
		if now.got {
			failures = 0
		}
		failures++
		if err != nil {
			s.log.Warn("receiving was interrupted", "error", s.hide.scrub(err.Error()), "failures", failures)
		}
		pause(stop, backoff(failures))
	}
}

// Close takes no more messages, waits up to 10 s for the answer to what is handed out, and ends every subscription.
func (s *subscriber) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		return nil
	}
	close(s.closing)
	s.running.Wait()
	s.receiver.end()
	return nil
}
