package broker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// defaultTimeout bounds one message's Publish.
const defaultTimeout = 10 * time.Second

// target is one broker's way of publishing.
type target interface {
	// send returns when the broker has stored the message. It should heed ctx, which has a deadline, but nobody waits longer.
	send(ctx context.Context, m *message.Message) error
	judge(err error) verdict
	// end closes the connection, so that no send blocks any longer.
	end() error
}

// publisher is a message.Publisher of any broker. It may be used from any goroutine.
type publisher struct {
	target  target
	hide    scrubber
	timeout time.Duration

	mu     sync.Mutex
	closed bool
	busy   sync.WaitGroup // sends, of abandoned Publishes too
}

func newPublisher(t target, hide scrubber, timeout time.Duration) *publisher {
	return &publisher{target: t, hide: hide, timeout: timeout}
}

// Publish returns when the broker has stored every message, one after the other, or with a *Failure of the first that it
// has not. Where messages go is the settings' matter: the topic is not looked at. Each message's context is heeded.
func (p *publisher) Publish(_ string, messages ...*message.Message) error {
	for _, m := range messages {
		if err := p.publish(m); err != nil {
			return fail(err, p.target.judge, p.hide)
		}
	}
	return nil
}

func (p *publisher) publish(m *message.Message) error {
	ctx, cancel := context.WithTimeout(m.Context(), p.timeout)
	if err := ctx.Err(); err != nil {
		cancel()
		return err
	}
	if !p.begin() {
		cancel()
		return &Failure{code: CodeClosed, text: "the publisher is closed"}
	}
	done := make(chan error, 1)
	go func() {
		defer p.busy.Done()
		defer cancel()
		done <- p.target.send(ctx, m)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		select {
		case err := <-done: // what the broker said says more
			return err
		default:
			return ctx.Err()
		}
	}
}

func (p *publisher) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.busy.Add(1)
	}
	return !p.closed
}

// Close lets what is being published end, for as long as one message may take, and closes the connection. It may be called
// again.
func (p *publisher) Close() error {
	p.mu.Lock()
	closed := p.closed
	p.closed = true
	p.mu.Unlock()
	if closed {
		return nil
	}
	drained := make(chan struct{})
	go func() {
		p.busy.Wait()
		close(drained)
	}()
	select {
	case <-drained:
	case <-time.After(p.timeout):
	}
	err := p.target.end()
	<-drained
	if err != nil {
		return errors.New("broker: closing: " + p.hide.scrub(err.Error()))
	}
	return nil
}
