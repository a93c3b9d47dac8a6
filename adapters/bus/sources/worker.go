package sources

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain"
)

// callBound is how long one command, with its answer, may take before it counts as failed.
const callBound = 30 * time.Second

// worker takes the messages of one source, one after the other.
type worker struct {
	Source
	commander Commander
	clock     Clock
	epoch     domain.Epoch
	kinds     map[string]kind
	metrics   *metrics
	log       *slog.Logger
	attempts  map[[sha256.Size]byte]int // failed ones of what was given back to the broker
}

// manyAttempts bounds the memory for messages that went to somebody else; past it all are counted anew.
const manyAttempts = 10_000

// hopeless is why a message is parked at once.
type hopeless struct{ code string }

func (h *hopeless) Error() string { return "parked: " + h.code }

// take handles a message and answers it: acknowledged once what became of it has been published or parked, else given back
// after a pause. The command is carried out to its end even where ctx ends meanwhile.
func (w *worker) take(ctx context.Context, m *message.Message) {
	calling, cancel := context.WithTimeout(context.WithoutCancel(ctx), callBound)
	defer cancel()
	err := w.try(calling, m)
	key := sha256.Sum256(m.Payload)
	var why *hopeless
	switch {
	case err == nil:
		w.settled(key, m)
		return
	case errors.As(err, &why):
		err = w.park(calling, m, why.code, 1)
	default:
		n := w.failed(key)
		w.log.WarnContext(ctx, "a message failed", "message", m.UUID, "attempt", n, "error", err)
		if n < w.Attempts {
			w.giveBack(ctx, m, n)
			return
		}
		err = w.park(calling, m, codeOf(err), n)
	}
	if err == nil {
		w.settled(key, m)
		return
	}
	w.log.ErrorContext(ctx, "a message could not be parked and stays with the broker", "message", m.UUID, "error", err)
	w.giveBack(ctx, m, w.failed(key))
}

func (w *worker) settled(key [sha256.Size]byte, m *message.Message) {
	delete(w.attempts, key)
	m.Ack()
}

func (w *worker) failed(key [sha256.Size]byte) int {
	w.metrics.failed(w.Name)
	if len(w.attempts) >= manyAttempts {
		clear(w.attempts)
	}
	w.attempts[key]++
	return w.attempts[key]
}

// giveBack refuses a message after its n-th failure, so that the broker gives it again, here or elsewhere.
func (w *worker) giveBack(ctx context.Context, m *message.Message, n int) {
	select {
	case <-w.clock.After(min(w.First<<min(n-1, 30), w.Most)):
	case <-ctx.Done():
	}
	m.Nack()
}

// try carries out a message's command and publishes the answer. An error is hopeless, or it may be tried again.
func (w *worker) try(ctx context.Context, m *message.Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &domain.Error{Code: domain.CodeInternal, Message: "panic", Cause: fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
		}
	}()
	r, code := read(m, w.kinds)
	if code != "" {
		return &hopeless{code}
	}
	call := commands.Call{Actor: w.Actor}
	if err = r.wishes(w.Config, m); err == nil {
		call, err = r.call(w.Config)
	}
	var o commands.Outcome
	if err == nil {
		o, err = w.commander.Execute(ctx, call)
	}
	if err != nil {
		return w.refuse(ctx, r, call, err)
	}
	a := acceptance(o)
	if _, err := w.answer(ctx, r, call.Actor, "accepted", a.Position, o.Stream, a); err != nil {
		return &unanswered{err}
	}
	w.metrics.accepted(w.Name)
	return nil
}

// refuse answers what the sender can mend. Where nobody can be told, the message is parked for whoever looks there.
func (w *worker) refuse(ctx context.Context, r request, call commands.Call, err error) error {
	no := refusal(err, call, r.target)
	if no == nil {
		return err
	}
	var stream string
	if r.target != "" && call.Command != nil && call.Command.Target() != "" && no.Code != domain.CodeInvalid {
		stream = r.aggregate.Stream(call.Command.Target())
	}
	told, err := w.answer(ctx, r, call.Actor, "refused", string(no.Code), stream, no)
	switch {
	case err != nil:
		return &unanswered{err}
	case !told:
		err = &hopeless{string(no.Code)}
	}
	w.metrics.refused(w.Name)
	return err
}

// unanswered is a command that was decided, but whose answer could not be published.
type unanswered struct{ cause error }

func (u *unanswered) Error() string { return "the answer was not published: " + u.cause.Error() }
func (u *unanswered) Unwrap() error { return u.cause }

// codeOf is the word for why a message failed.
func codeOf(err error) string {
	var u *unanswered
	switch {
	case errors.As(err, &u):
		return CodeReply
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return string(domain.CodeUnavailable)
	}
	return string(domain.CodeOf(err))
}

// park publishes a message as it came to where somebody looks at it, with the reason among its metadata.
func (w *worker) park(ctx context.Context, m *message.Message, code string, attempts int) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	parked := message.NewMessage(watermill.NewUUID(), m.Payload) // drawn, as an answer's
	for key, value := range m.Metadata {
		parked.Metadata.Set(key, value)
	}
	parked.Metadata.Set("parkedCode", code)
	parked.Metadata.Set("parkedSource", w.Name)
	parked.Metadata.Set("parkedAttempts", strconv.Itoa(attempts))
	parked.Metadata.Set("parkedMessage", m.UUID)
	parked.SetContext(ctx)
	if err := w.Publisher.Publish(w.Parked, parked); err != nil {
		return err
	}
	w.metrics.parked(w.Name)
	w.log.WarnContext(ctx, "a message was parked", "message", m.UUID, "code", code, "attempts", attempts)
	return nil
}
