package bus

import (
	"errors"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/domain"
)

// Publisher appends messages to streams of the log. It is safe for concurrent use.
type Publisher struct {
	log    Log
	mu     sync.Mutex // of beginning to publish, and of closing
	closed bool
	under  sync.WaitGroup // publishing
}

var _ message.Publisher = (*Publisher)(nil)

// NewPublisher makes a publisher on a log.
func NewPublisher(log Log) *Publisher { return &Publisher{log: log} }

// Publish appends messages to the topic's stream, in their order, each under its own context. All are looked at before the first is
// appended: CodeInvalid names what is wrong with one. It ends at the first that fails, and those before it are in the log. A message
// that is published again is the same event: after CodeUnavailable, publish all of them again. CodeConflict is an
// ExpectedRevisionKey that does not hold, CodeTooLarge a message of more than about 1 MiB.
//
// Messages are appended one at a time: of several at once, the event store would recognise only a repeat of the very same several.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	if err := checkPublished(topic); err != nil {
		return err
	}
	type place struct {
		event    Event
		expected int64
	}
	places := make([]place, len(messages))
	for i, m := range messages {
		e, expected, err := encode(topic, m)
		if err != nil {
			return nth(i, messages, err)
		}
		places[i] = place{e, expected}
	}
	if !p.begin() {
		return domain.Unavailable("the publisher is closed", nil)
	}
	defer p.under.Done()
	for i, at := range places {
		if err := messages[i].Context().Err(); err != nil {
			return nth(i, messages, domain.Unavailable("the message's context has ended", err))
		}
		if err := p.log.Append(messages[i].Context(), at.expected, at.event); err != nil {
			return nth(i, messages, err)
		}
	}
	return nil
}

func (p *Publisher) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.under.Add(1)
	return true
}

// Close waits for what is being published. Afterwards nothing is.
func (p *Publisher) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.under.Wait()
	return nil
}

// nth says which of several messages an error is about.
func nth(i int, messages []*message.Message, err error) error {
	if len(messages) == 1 {
		return err
	}
	var e *domain.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("message %d of %d: %w", i+1, len(messages), err)
	}
	named := *e
	named.Message += fmt.Sprintf(" (message %d of %d)", i+1, len(messages))
	return &named
}
