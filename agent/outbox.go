package agent

import (
	"context"
	"sync"
	"time"

	"github.com/tenure-dev/tenure/agent/protocol/agentv1"
)

// outbox is what a session has still to send, and which outcomes it sent that are not recorded.
type outbox struct {
	filled chan struct{} // holds one token when something waits

	mu       sync.Mutex
	messages []*agentv1.AgentMessage
	unproven map[string]unproven // by operation id
}

type unproven struct {
	outcome outcome
	sent    time.Time
}

func newOutbox() *outbox {
	return &outbox{filled: make(chan struct{}, 1), unproven: map[string]unproven{}}
}

func (b *outbox) put(m *agentv1.AgentMessage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.putLocked(m)
}

func (b *outbox) putLocked(m *agentv1.AgentMessage) {
	b.messages = append(b.messages, m)
	select {
	case b.filled <- struct{}{}:
	default:
	}
}

func (b *outbox) putOutcome(o outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unproven[o.OperationID] = unproven{outcome: o, sent: time.Now()}
	b.putLocked(&agentv1.AgentMessage{Message: &agentv1.AgentMessage_Outcome{Outcome: o.message()}})
}

func (b *outbox) recorded(ids []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range ids {
		delete(b.unproven, id)
	}
}

// remind puts again what was sent before a time and is not recorded.
func (b *outbox) remind(before time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, u := range b.unproven {
		if u.sent.Before(before) {
			b.unproven[id] = unproven{outcome: u.outcome, sent: time.Now()}
			b.putLocked(&agentv1.AgentMessage{Message: &agentv1.AgentMessage_Outcome{Outcome: u.outcome.message()}})
		}
	}
}

func (b *outbox) take() []*agentv1.AgentMessage {
	b.mu.Lock()
	defer b.mu.Unlock()
	messages := b.messages
	b.messages = nil
	return messages
}

// remindAfter is how many heartbeats an outcome waits for its Recorded before it is sent again.
const remindAfter = 3

// send is the only one that sends after Hello: a heartbeat at once and at every interval, and what the outbox holds.
func (a *Agent) send(ctx context.Context, fail context.CancelCauseFunc, s *session) {
	ticker := time.NewTicker(s.heartbeat)
	defer ticker.Stop()
	s.outbox.put(a.heartbeat())
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.outbox.remind(time.Now().Add(-remindAfter * s.heartbeat))
			s.outbox.put(a.heartbeat())
		case <-s.outbox.filled:
			for _, m := range s.outbox.take() {
				m.Session = s.number
				if err := sent(s.stream.Send(m)); err != nil {
					fail(err)
					return
				}
			}
		}
	}
}

func (a *Agent) heartbeat() *agentv1.AgentMessage {
	return &agentv1.AgentMessage{Message: &agentv1.AgentMessage_Heartbeat{Heartbeat: &agentv1.Heartbeat{
		InFlight: int32(a.work.inFlight()), CursorRevision: a.cursor(), //nolint:gosec // far fewer than 2³¹
	}}}
}
