package agent

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"time"

	"connectrpc.com/connect"

	"github.com/tenure-dev/tenure/agent/protocol"
	"github.com/tenure-dev/tenure/agent/protocol/agentv1"
)

type stream = connect.BidiStreamForClient[agentv1.AgentMessage, agentv1.GatewayMessage]

// session is one conversation with the gateway, from Welcome on.
type session struct {
	number    int64
	epoch     Epoch
	heartbeat time.Duration
	stream    *stream
	outbox    *outbox
	last      int64 // the revision of the last operation; rises
}

// handshakeTime bounds how long a gateway may take from the dial to the end of a resync.
const handshakeTime = time.Minute

// defaultHeartbeat stands in where the gateway names no interval.
const defaultHeartbeat = 10 * time.Second

// hold opens a session and keeps it until it breaks. Lasted says that it lived for a heartbeat interval: the next one
// may be dialled soon. An *Error is final. Operations get life, for they outlive the session that brought them.
func (a *Agent) hold(life context.Context, g *gateway) (lasted bool, err error) {
	ctx, cancel := context.WithCancelCause(life)
	defer cancel(nil)
	tooLong := time.AfterFunc(handshakeTime, func() { cancel(errors.New("the gateway does not open the session")) })
	defer tooLong.Stop()

	stream := g.Session(ctx)
	// net/http sees the end of ctx only when it is not waiting for the next word of ours: closing our side wakes it.
	stopWaking := context.AfterFunc(ctx, func() { _ = stream.CloseRequest() })
	defer stopWaking()
	defer func() {
		cancel(nil)
		_ = stream.CloseRequest()
		_ = stream.CloseResponse()
	}()
	s, resync, err := a.open(stream)
	if err != nil {
		return false, because(ctx, err)
	}
	opened := time.Now()

	s.outbox = newOutbox()
	sending := make(chan struct{})
	go func() {
		defer close(sending)
		a.send(ctx, cancel, s)
	}()
	defer func() {
		cancel(nil)
		<-sending
	}()
	if resync {
		if err := a.resync(s); err != nil {
			return false, because(ctx, err)
		}
	}
	tooLong.Stop()

	a.attach(s)
	defer a.detach()
	counted := a.takeInventory(ctx, s)
	defer func() {
		cancel(nil)
		<-counted
	}()
	err = a.listen(ctx, life, s)
	return time.Since(opened) >= s.heartbeat, because(ctx, err)
}

// because prefers why ctx was ended to the error that its end produced.
func because(ctx context.Context, err error) error {
	var final *Error
	if cause := context.Cause(ctx); cause != nil && !errors.As(err, &final) {
		return cause
	}
	return err
}

// open is Challenge, Hello, Welcome.
func (a *Agent) open(stream *stream) (s *session, resync bool, err error) {
	if err := sent(stream.Send(nil)); err != nil { // the headers: the gateway speaks first
		return nil, false, err
	}
	first, err := receive(stream, 0)
	if err != nil {
		return nil, false, err
	}
	challenge := first.GetChallenge()
	if challenge == nil || len(challenge.GetNonce()) < 16 {
		return nil, false, errors.New("the gateway did not begin with a challenge")
	}
	hello := &agentv1.AgentMessage{Message: &agentv1.AgentMessage_Hello{Hello: a.hello(challenge.GetNonce())}}
	if err := sent(stream.Send(hello)); err != nil {
		return nil, false, err
	}

	second, err := receive(stream, 0)
	if err != nil {
		return nil, false, err
	}
	welcome := second.GetWelcome()
	if welcome == nil || second.GetSession() < 1 {
		return nil, false, errors.New("the gateway did not answer Hello with a session")
	}
	s = &session{
		number: second.GetSession(), epoch: epochOf(welcome.GetEpoch()), stream: stream, last: -1,
		heartbeat: time.Duration(welcome.GetHeartbeatIntervalMs()) * time.Millisecond,
	}
	if s.heartbeat <= 0 {
		s.heartbeat = defaultHeartbeat
	}
	if err := a.enter(s.epoch, welcome.GetResync()); err != nil {
		return nil, false, err
	}
	a.log.Info("a session is open", "session", s.number, "epoch", s.epoch.Number, "revision", welcome.GetRevision(), "resync", welcome.GetResync())
	return s, welcome.GetResync(), nil
}

func (a *Agent) hello(nonce []byte) *agentv1.Hello {
	hello := &agentv1.Hello{
		PlaneId:        a.settings.PlaneID,
		AgentVersion:   a.cfg.Version,
		Driver:         a.cfg.DriverName,
		Capabilities:   a.cfg.Capabilities,
		CursorRevision: a.cursor(),
		PublicKey:      a.publicKey(),
		Signature:      ed25519.Sign(a.key, protocol.HelloText(nonce, a.settings.PlaneID)),
	}
	if epoch := a.journalEpoch(); epoch != (Epoch{}) {
		hello.JournalEpoch = &agentv1.Epoch{Number: epoch.Number, Id: epoch.ID}
	}
	return hello
}

// enter refuses a lower epoch, and one that the journal is not of unless a resync follows.
func (a *Agent) enter(epoch Epoch, resync bool) error {
	seen := a.settings.Epoch
	if err := a.noteEpoch(epoch); err != nil {
		return err
	}
	if epoch != seen {
		a.log.Warn("the log is in another epoch", "epoch", epoch.Number, "before", seen.Number)
		if err := a.settings.save(a.cfg.Dir); err != nil {
			return err
		}
	}
	if journal := a.journalEpoch(); journal != epoch && !resync {
		return fmt.Errorf("the gateway sends no resync, and the journal is of epoch %d", journal.Number)
	}
	return nil
}

// resync takes the chunks, and journals them at once when all are there.
func (a *Agent) resync(s *session) error {
	var tenants []desired
	for {
		m, err := receive(s.stream, s.number)
		if err != nil {
			return err
		}
		chunk := m.GetResync()
		if chunk == nil {
			return fmt.Errorf("the gateway sent %T before the end of the resync", m.GetMessage())
		}
		for _, t := range chunk.GetTenants() {
			tenants = append(tenants, desiredOf(t))
		}
		if !chunk.GetFinal() {
			continue
		}
		if a.journalEpoch() != s.epoch {
			a.work.forgetAll()
		}
		if err := a.journal.resync(s.epoch, chunk.GetAsOfRevision(), s.number == 1, tenants); err != nil {
			return err
		}
		a.mu.Lock()
		a.inventoryDue = true
		a.mu.Unlock()
		s.outbox.put(&agentv1.AgentMessage{Message: &agentv1.AgentMessage_Resynced{
			Resynced: &agentv1.Resynced{AsOfRevision: chunk.GetAsOfRevision()},
		}})
		a.log.Info("resynced", "tenants", len(tenants), "revision", chunk.GetAsOfRevision())
		return nil
	}
}

// listen takes what the gateway sends until the stream breaks.
func (a *Agent) listen(ctx, life context.Context, s *session) error {
	for {
		m, err := receive(s.stream, s.number)
		if err != nil {
			return err
		}
		switch message := m.GetMessage().(type) {
		case *agentv1.GatewayMessage_Operation:
			a.operation(life, s, message.Operation)
		case *agentv1.GatewayMessage_Withdraw:
			a.work.withdraw(message.Withdraw.GetOperationId())
		case *agentv1.GatewayMessage_Recorded:
			if err := a.journal.recorded(message.Recorded.GetOperationIds()); err != nil {
				return err
			}
			s.outbox.recorded(message.Recorded.GetOperationIds())
		default:
			a.log.Warn("a message is not understood and ignored", "session", s.number, "message", fmt.Sprintf("%T", message))
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

func (a *Agent) operation(life context.Context, s *session, m *agentv1.Operation) {
	op, code := operationOf(m)
	if op.Revision <= s.last && !a.work.knows(op.ID) {
		a.log.Debug("an operation came again after it was recorded", "operation", op.ID)
		return
	}
	s.last = max(s.last, op.Revision)
	if code != "" {
		a.work.refuse(s.epoch, op, code)
		return
	}
	a.work.offer(life, s.epoch, op, m.GetWithdrawn())
}

// sent passes over the end of the stream: why it ended, be it a Stop, is what receive gives.
func sent(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// receive skips what belongs to an older session, and turns Stop into an error.
func receive(stream *stream, session int64) (*agentv1.GatewayMessage, error) {
	for {
		m, err := stream.Receive()
		if err != nil {
			return nil, err
		}
		if stop := m.GetStop(); stop != nil {
			return nil, stopped(stop)
		}
		switch {
		case session == 0 || m.GetSession() == session:
			return m, nil
		case m.GetSession() > session:
			return nil, fmt.Errorf("the gateway speaks of session %d, and this is %d", m.GetSession(), session)
		}
	}
}

// stopped is an *Error unless dialling again may help.
func stopped(stop *agentv1.Stop) error {
	switch stop.GetCode() {
	case protocol.StopStaleSession:
		return failf(CodeStale, nil, "another agent has taken over this plane: %s", stop.GetMessage())
	case protocol.StopUnknownIdentity, protocol.StopBadSignature:
		return failf(CodeUnauthenticated, nil, "the gateway does not know this agent, join again with a new token: %s", stop.GetMessage())
	case protocol.StopUnavailable:
		return fmt.Errorf("the gateway is busy: %s", stop.GetMessage())
	default:
		return failf(CodeUnavailable, nil, "the gateway stops this agent (%s): %s", stop.GetCode(), stop.GetMessage())
	}
}

// attach makes s the session that outcomes go to, beginning with those that earlier ones could not bring home.
func (a *Agent) attach(s *session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.live = s
	a.journal.look(func(state *journalState) {
		for _, o := range state.pendingOutcomes() {
			s.outbox.putOutcome(o)
		}
	})
}

func (a *Agent) detach() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.live = nil
}

func (a *Agent) journalEpoch() (epoch Epoch) {
	a.journal.look(func(s *journalState) { epoch = s.Epoch })
	return epoch
}

func (a *Agent) cursor() (revision int64) {
	a.journal.look(func(s *journalState) { revision = s.Cursor })
	return revision
}
