package gateway

import (
	"context"
	"errors"
	"strings"
	"sync"

	"connectrpc.com/connect"

	"github.com/tenure-dev/tenure/agent/protocol"
	"github.com/tenure-dev/tenure/agent/protocol/agentv1"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/plane"
)

// session is one open conversation with a plane's agent.
type session struct {
	gateway  *Gateway
	plane    string
	number   int64
	stream   *stream
	queue    *queue
	reports  chan struct{} // a place for each outcome on its way to the log
	resynced chan struct{} // closed when the agent has all that it needs to be judged online
	once     sync.Once

	cancel  context.CancelCauseFunc
	sending sync.Mutex // guards stream.Send and closed
	closed  bool       // the handler is over: nothing can be sent
	sent    int64      // the order of the last operation sent
	read    int64      // the revision up to which the plane's stream has been handed over
}

var (
	errStale = errors.New("another session has been opened")
	errOver  = errors.New("the session is over")
)

// hold serves the session until either side ends it.
func (s *session) hold(ctx context.Context, hello *agentv1.Hello) error {
	g := s.gateway
	g.mu.Lock()
	g.sessions[s] = true // before the state is read, so that nothing falls between
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		delete(g.sessions, s)
		g.mu.Unlock()
	}()
	g.sign(s) // Hello is one
	g.Logger.Info("a session is open", "plane", s.plane, "session", s.number)

	ctx, s.cancel = context.WithCancelCause(ctx)
	defer s.close()
	if err := s.welcome(ctx, hello); err != nil {
		return s.over(err)
	}
	g.open.Add(1) // Receive returns when the handler has, so the listener outlives it a little
	go func() {
		defer g.open.Done()
		s.listen(ctx)
	}()
	return s.over(s.deliver(ctx))
}

func (s *session) close() {
	s.cancel(nil)
	s.sending.Lock()
	defer s.sending.Unlock()
	s.closed = true
}

// over turns the end of a session into what the agent hears last. The log may know of a higher session before the feed does.
func (s *session) over(err error) error {
	s.gateway.Logger.Info("a session has ended", "plane", s.plane, "session", s.number, "why", err)
	if errors.Is(err, errStale) || domain.CodeOf(err) == domain.CodeStale {
		return s.send(&agentv1.GatewayMessage{Session: s.number, Message: &agentv1.GatewayMessage_Stop{
			Stop: &agentv1.Stop{Code: protocol.StopStaleSession, Message: "another agent of this plane has opened a session"}}})
	}
	return connect.NewError(connect.CodeUnavailable, errOver)
}

// welcome sends Welcome, the resync if one is due, and the open operations.
func (s *session) welcome(ctx context.Context, hello *agentv1.Hello) error {
	g := s.gateway
	state, revision, err := g.state(ctx, s.plane)
	if err != nil {
		return err
	}
	if state.Agent.Session > s.number {
		return errStale
	}
	journal := hello.GetJournalEpoch()
	resync := journal.GetNumber() != g.Epoch.Number || journal.GetId() != g.Epoch.ID
	if err := s.send(&agentv1.GatewayMessage{Session: s.number, Message: &agentv1.GatewayMessage_Welcome{Welcome: &agentv1.Welcome{
		Epoch: g.epoch(), HeartbeatIntervalMs: g.Heartbeat.Milliseconds(), Revision: revision, Resync: resync}}}); err != nil {
		return err
	}
	if resync {
		if err := s.sendResync(state); err != nil {
			return err
		}
	} else {
		s.once.Do(func() { close(s.resynced) })
	}
	return s.sendOpen(state, revision)
}

// sendResync sends what the plane's stream wants of every tenant, and whom it has seen go.
func (s *session) sendResync(state plane.State) error {
	const chunk = 500
	var tenants []*agentv1.DesiredTenant
	for _, id := range state.Tenants.Keys() {
		d, _ := state.Tenants.Get(id)
		tenants = append(tenants, desired(id, d)) // not gone, though its deprovisioning may be open
	}
	for _, id := range state.Settled.Keys() {
		settled, _ := state.Settled.Get(id)
		if _, there := state.Tenants.Get(id); !there && settled.Change > 0 {
			tenants = append(tenants, &agentv1.DesiredTenant{TenantId: id, Isolation: agentv1.Isolation_ISOLATION_SILO,
				CredentialVersion: 1, ChangeNumber: settled.Change, Gone: true})
		}
	}
	for {
		n := min(chunk, len(tenants))
		if err := s.send(&agentv1.GatewayMessage{Session: s.number, Message: &agentv1.GatewayMessage_Resync{Resync: &agentv1.Resync{
			Tenants: tenants[:n], Final: n == len(tenants), AsOfRevision: state.Asked}}}); err != nil {
			return err
		}
		if tenants = tenants[n:]; len(tenants) == 0 {
			return nil
		}
	}
}

// sendOpen sends the open operations that have not been sent in this session.
func (s *session) sendOpen(state plane.State, revision int64) error {
	for _, op := range state.Open() {
		if op.Order <= s.sent {
			if op.Withdrawn {
				if err := s.withdraw(op.ID); err != nil {
					return err
				}
			}
			continue
		}
		if err := s.ask(op.ID, op.Order, op.Kind, op.Tenant, op.Desired, op.Withdrawn); err != nil {
			return err
		}
	}
	s.read = max(s.read, revision)
	return nil
}

// deliver hands on what follows in the plane's stream.
func (s *session) deliver(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.queue.ready:
		}
		events, lost := s.queue.take()
		if lost { // the agent was slower than the log: what is open now is all that it needs
			state, revision, err := s.gateway.state(ctx, s.plane)
			if err != nil {
				return err
			}
			if state.Agent.Session > s.number {
				return errStale
			}
			if err := s.sendOpen(state, revision); err != nil {
				return err
			}
			continue
		}
		for _, e := range events {
			if e.Revision <= s.read {
				continue
			}
			s.read = e.Revision
			if err := s.handle(e); err != nil {
				return err
			}
		}
	}
}

func (s *session) handle(e domain.Recorded) error {
	payload, err := s.gateway.events.DecodeRecorded(e)
	if err != nil {
		return err
	}
	switch e := payload.(type) {
	case plane.OperationAsked:
		return s.ask(e.Operation, e.Order, e.Kind, e.Tenant, e.Desired, false)
	case plane.WithdrawalAsked:
		return s.withdraw(e.Operation)
	case plane.SessionOpened:
		if e.Session > s.number {
			return errStale
		}
	}
	return nil
}

func (s *session) ask(id string, order int64, kind plane.Kind, tenant string, d plane.Desired, withdrawn bool) error {
	s.sent = max(s.sent, order)
	return s.send(&agentv1.GatewayMessage{Session: s.number, Message: &agentv1.GatewayMessage_Operation{Operation: &agentv1.Operation{
		Id: id, Revision: order, Kind: kinds[kind], Tenant: desired(tenant, d), Attempt: 1, Withdrawn: withdrawn}}})
}

func (s *session) withdraw(id string) error {
	return s.send(&agentv1.GatewayMessage{Session: s.number, Message: &agentv1.GatewayMessage_Withdraw{Withdraw: &agentv1.Withdraw{OperationId: id}}})
}

func (s *session) send(m *agentv1.GatewayMessage) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.closed {
		return errOver
	}
	return s.stream.Send(m)
}

// listen takes what the agent says, and ends the session with why it stopped.
func (s *session) listen(ctx context.Context) {
	var reporting sync.WaitGroup
	defer reporting.Wait()
	s.cancel(s.hear(ctx, &reporting)) // before the wait: what is under way ends with the session
}

func (s *session) hear(ctx context.Context, reporting *sync.WaitGroup) error {
	for {
		m, err := s.stream.Receive()
		if err != nil {
			return err
		}
		if m.GetSession() != s.number {
			return errStale
		}
		s.gateway.sign(s)
		switch m := m.GetMessage().(type) {
		case *agentv1.AgentMessage_Heartbeat:
			s.gateway.alive(ctx, s)
		case *agentv1.AgentMessage_Resynced:
			s.once.Do(func() { close(s.resynced) })
			s.gateway.alive(ctx, s)
		case *agentv1.AgentMessage_Outcome:
			select {
			case s.reports <- struct{}{}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			reporting.Add(1)
			go func() {
				defer reporting.Done()
				defer func() { <-s.reports }()
				s.report(ctx, m.Outcome)
			}()
		case *agentv1.AgentMessage_Unclaimed:
			if err := s.unclaimed(ctx, m.Unclaimed.GetTenantIds()); err != nil {
				return err
			}
		}
	}
}

// report brings an outcome to the log and says so to the agent; what is not certain is not said.
func (s *session) report(ctx context.Context, o *agentv1.Outcome) {
	c := plane.Report{PlaneID: s.plane, Session: s.number, Operation: o.GetOperationId(), Attempts: 1}
	switch o := o.GetOutcome().(type) {
	case *agentv1.Outcome_Done:
		c.Outcome = "done"
	case *agentv1.Outcome_Failed:
		c.Outcome, c.Class, c.Code, c.Attempts = "failed", classes[o.Failed.GetClass()], o.Failed.GetCode(), int64(o.Failed.GetAttempts())
	case *agentv1.Outcome_Withdrawn:
		c.Outcome = "withdrawn"
	case *agentv1.Outcome_Superseded:
		c.Outcome = "superseded"
	}
	if _, err := s.gateway.do(ctx, c, "report", s.plane, c.Operation, c.Outcome); err != nil {
		if ctx.Err() == nil {
			s.gateway.Logger.Warn("an outcome was not recorded", "plane", s.plane, "operation", c.Operation, "error", err)
		}
		s.cancel(err) // the agent dials again and brings it once more
		return
	}
	if err := s.send(&agentv1.GatewayMessage{Session: s.number, Message: &agentv1.GatewayMessage_Recorded{
		Recorded: &agentv1.Recorded{OperationIds: []string{c.Operation}}}}); err != nil {
		s.cancel(err)
	}
}

func (s *session) unclaimed(ctx context.Context, tenants []string) error {
	if len(tenants) == 0 {
		return nil
	}
	const atOnce = 1_000
	for len(tenants) > 0 {
		n := min(atOnce, len(tenants))
		if _, err := s.gateway.do(ctx, plane.ReportUnclaimed{PlaneID: s.plane, Session: s.number, Tenants: tenants[:n]},
			append([]string{"unclaimed", s.plane}, strings.Join(tenants[:n], " "))...); err != nil {
			return err
		}
		tenants = tenants[n:]
	}
	return nil
}

var kinds = map[plane.Kind]agentv1.OperationKind{
	plane.Provision:   agentv1.OperationKind_OPERATION_KIND_PROVISION,
	plane.Suspend:     agentv1.OperationKind_OPERATION_KIND_SUSPEND,
	plane.Resume:      agentv1.OperationKind_OPERATION_KIND_RESUME,
	plane.Deprovision: agentv1.OperationKind_OPERATION_KIND_DEPROVISION,
}

var isolations = map[string]agentv1.Isolation{
	"pool":   agentv1.Isolation_ISOLATION_POOL,
	"bridge": agentv1.Isolation_ISOLATION_BRIDGE,
	"silo":   agentv1.Isolation_ISOLATION_SILO,
}

var classes = map[agentv1.FailureClass]string{
	agentv1.FailureClass_FAILURE_CLASS_USER:       "user",
	agentv1.FailureClass_FAILURE_CLASS_QUOTA:      "quota",
	agentv1.FailureClass_FAILURE_CLASS_TRANSIENT:  "transient",
	agentv1.FailureClass_FAILURE_CLASS_PLANE_DOWN: "plane_down",
	agentv1.FailureClass_FAILURE_CLASS_BUG:        "bug",
}

func desired(id string, d plane.Desired) *agentv1.DesiredTenant {
	return &agentv1.DesiredTenant{TenantId: id, Isolation: isolations[d.Isolation], Limits: d.Limits, CredentialVersion: d.CredentialVersion,
		Suspended: d.Suspended, ChangeNumber: d.Change, CausesRevision: d.Causes}
}
