package gateway

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tenure-dev/tenure/agent/protocol"
	"github.com/tenure-dev/tenure/agent/protocol/agentv1"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/plane"
)

func TestSessionNumbersRiseAndTheOlderStreamIsStopped(t *testing.T) {
	h := newHouse(t)
	key := h.joined()
	last := h.session(key)
	for n := int64(2); n < 5; n++ {
		next := h.session(key)
		if last.number != n-1 || next.number != n {
			t.Fatalf("after %d came %d", last.number, next.number)
		}
		last.stopped(protocol.StopStaleSession)
		last = next
	}
	last.heartbeat()
	h.log.await(t, "online", judged(4, plane.Online))
}

func TestAStreamThatBecameStaleBeforeItsWelcomeIsStopped(t *testing.T) {
	h := newHouse(t)
	key := h.joined()
	h.log.hold() // no feed
	old := h.session(key)
	h.session(key)
	old.outcome(&agentv1.Outcome{OperationId: h.ask(1, 1), Outcome: &agentv1.Outcome_Done{Done: &agentv1.Done{}}})
	old.stopped(protocol.StopStaleSession) // the log knows, though the feed does not
	if n := h.log.count(t, is[plane.OperationSucceeded](nil)); n != 0 {
		t.Error("a stale session's outcome was recorded")
	}
	h.log.release()
}

func TestAMessageOfALowerSessionIsStale(t *testing.T) {
	h := newHouse(t)
	key := h.joined()
	h.session(key)
	k := h.session(key)
	k.send(&agentv1.AgentMessage{Session: 1, Message: &agentv1.AgentMessage_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}})
	k.stopped(protocol.StopStaleSession)
}

func TestResync(t *testing.T) {
	h := newHouse(t)
	key := h.joined()
	k := h.online(key)
	const gone = 1100 // more than two chunks
	var all sync.WaitGroup
	for n := range gone {
		all.Go(func() { h.ask(n, 1) })
	}
	all.Wait()
	for range gone {
		k.done(k.receive().GetOperation().GetId())
		if k.receive().GetRecorded() == nil {
			// operations and answers come in any order: the rest is counted in the log
			break
		}
	}
	k.hangUp()
	h.closeAll()
	live, open := h.provision(gone), h.ask(0, 2) // there, and gone for a second time though not confirmed so

	for name, journal := range map[string]*agentv1.Epoch{"no journal": nil, "another epoch": {Number: 2, Id: "two"}, "another of that number": {Number: epoch.Number, Id: "else"}} {
		t.Run(name, func(t *testing.T) {
			k := h.dial()
			k.hello(pln, key, key, journal)
			w := k.welcome()
			state := h.state()
			if !w.GetResync() || w.GetRevision() == 0 {
				t.Fatalf("welcomed with %v", w)
			}
			tenants, chunks := map[string]*agentv1.DesiredTenant{}, 0
			for final := false; !final; chunks++ {
				r := k.receive().GetResync()
				if r == nil || len(r.GetTenants()) > 500 || r.GetAsOfRevision() != state.Asked {
					t.Fatalf("chunk %d is %v", chunks, r)
				}
				for _, d := range r.GetTenants() {
					tenants[d.GetTenantId()] = d
				}
				final = r.GetFinal()
			}
			if len(tenants) != gone+1 || chunks != 3 {
				t.Errorf("%d tenants in %d chunks", len(tenants), chunks)
			}
			if d := tenants[ten(3)]; !d.GetGone() || d.GetChangeNumber() != 1 {
				t.Errorf("a gone tenant is %v", d)
			}
			if d := tenants[ten(0)]; d.GetGone() || d.GetChangeNumber() != 2 {
				t.Errorf("one whose end is not confirmed is %v", d)
			}
			if d := tenants[ten(gone)]; d.GetGone() || d.GetIsolation() != agentv1.Isolation_ISOLATION_POOL || d.GetLimits()["connections"] != 5 ||
				d.GetCredentialVersion() != 1 || d.GetChangeNumber() != 1 {
				t.Errorf("a tenant is %v", d)
			}
			k.operation(live)
			if op := k.operation(open); op.GetRevision() != state.Asked || op.GetKind() != agentv1.OperationKind_OPERATION_KIND_DEPROVISION || op.GetTenant().GetChangeNumber() != 2 {
				t.Errorf("the open operation is %v", op)
			}
			k.heartbeat() // beats, but has not resynced
			k.done(domain.OperationIDFor("never asked"))
			k.recorded(domain.OperationIDFor("never asked"))
			if n := h.log.count(t, judged(k.number, plane.Online)); n != 0 {
				t.Error("online before it has resynced")
			}
			k.send(&agentv1.AgentMessage{Message: &agentv1.AgentMessage_Resynced{Resynced: &agentv1.Resynced{AsOfRevision: state.Asked}}})
			h.log.await(t, "online", judged(k.number, plane.Online))
		})
	}
}

// closeAll answers all that is open, as the agent of the current session would.
func (h *house) closeAll() {
	h.t.Helper()
	s := h.state()
	var all sync.WaitGroup
	for _, op := range s.Open() {
		all.Go(func() {
			h.do(plane.Report{PlaneID: pln, Session: s.Agent.Session, Operation: op.ID, Outcome: "done", Attempts: 1})
		})
	}
	all.Wait()
}

func TestResyncOfAnEmptyPlaneIsOneChunk(t *testing.T) {
	h := newHouse(t)
	key := h.joined()
	k := h.dial()
	k.hello(pln, key, key, nil)
	k.welcome()
	if r := k.receive().GetResync(); r == nil || !r.GetFinal() || len(r.GetTenants()) != 0 {
		t.Errorf("the chunk is %v", r)
	}
}

func TestOpenOperationsComeFirstThenThoseThatFollow(t *testing.T) {
	h := newHouse(t)
	key := h.joined()
	var ops []string
	for n := range 5 {
		ops = append(ops, h.ask(n, 1))
	}
	k := h.session(key)
	for n := 5; n < 8; n++ {
		ops = append(ops, h.ask(n, 1))
	}
	for n, id := range ops {
		if op := k.operation(id); op.GetRevision() != int64(n+1) || op.GetWithdrawn() || op.GetTenant().GetTenantId() != ten(n) {
			t.Errorf("operation %d is %v", n, op)
		}
	}
	k.done(ops[2])
	k.recorded(ops[2])
	k = h.session(key)
	for _, id := range slices.Delete(ops, 2, 3) { // a closed one is never sent again
		k.operation(id)
	}
}

func TestWithdrawal(t *testing.T) {
	h := newHouse(t)
	key := h.joined()
	k := h.online(key)
	provision := h.provision(1)
	k.operation(provision)
	end := h.ask(1, 1)
	if m := k.receive(); m.GetWithdraw().GetOperationId() != provision {
		t.Fatalf("not withdrawn but %v", m)
	}
	k.operation(end)

	k = h.session(key) // one withdrawn earlier comes with the flag
	if !k.operation(provision).GetWithdrawn() || k.operation(end).GetWithdrawn() {
		t.Error("the flag is wrong")
	}
	k.outcome(&agentv1.Outcome{OperationId: provision, Outcome: &agentv1.Outcome_Withdrawn{Withdrawn: &agentv1.Withdrawn{}}})
	k.recorded(provision)
	if n := h.log.count(t, is(func(e plane.OperationWithdrawn) bool { return e.Operation == provision })); n != 1 {
		t.Errorf("withdrawn %d times", n)
	}
}

func TestNothingIsLostBetweenRegistrationAndFeed(t *testing.T) {
	h := newHouse(t)
	key := h.joined()
	const n = 200
	var asking sync.WaitGroup
	for w := range 4 {
		asking.Go(func() {
			for i := range n / 4 {
				h.ask(w*n+i, 1)
			}
		})
	}
	for range 10 { // sessions begin while operations are asked
		k := h.session(key)
		for order := int64(1); order <= 5; order++ {
			if op := k.receive().GetOperation(); op.GetRevision() != order {
				t.Fatalf("session %d: in place %d came %v", k.number, order, op)
			}
		}
	}
	k := h.session(key)
	for order := int64(1); order <= n; order++ {
		if op := k.receive().GetOperation(); op.GetRevision() != order {
			t.Fatalf("in place %d came %v", order, op)
		}
	}
	asking.Wait()
}

func TestAQueueThatOverflowsIsReadAgain(t *testing.T) {
	h := newHouse(t)
	key := h.joined()
	k := h.online(key)
	provision := h.provision(0)
	k.operation(provision)

	h.mu.Lock()
	var s *session
	for s = range h.sessions {
	}
	h.mu.Unlock()
	s.queue.mu.Lock()
	s.queue.limit = 3
	s.queue.mu.Unlock()
	s.sending.Lock() // the agent is slow
	ops := []string{}
	for n := 1; n <= 20; n++ {
		id := h.ask(n, 1)
		if n == 10 { // closed before the agent could hear of it, so it never does
			h.do(plane.Report{PlaneID: pln, Session: k.number, Operation: id, Outcome: "done", Attempts: 1})
			continue
		}
		ops = append(ops, id)
	}
	ops = append(ops, h.ask(0, 1)) // withdraws the one that the agent has
	for lost := false; !lost; {    // whether or not the session has noticed yet
		runtime.Gosched()
		s.queue.mu.Lock()
		lost = s.queue.losses > 0
		s.queue.mu.Unlock()
	}
	s.sending.Unlock()

	last, withdrawn := int64(1), false
	for len(ops) > 0 {
		m := k.receive()
		if m.GetWithdraw().GetOperationId() == provision {
			withdrawn = true
			continue
		}
		op := m.GetOperation()
		if op.GetId() != ops[0] || op.GetRevision() <= last {
			t.Fatalf("after %d came %v", last, m)
		}
		last, ops = op.GetRevision(), ops[1:]
	}
	k.done(provision)
	for recorded := false; !recorded || !withdrawn; { // Withdraw may come again when the stream is read again
		m := k.receive()
		switch {
		case m.GetWithdraw().GetOperationId() == provision:
			withdrawn = true
		case slices.Equal(m.GetRecorded().GetOperationIds(), []string{provision}):
			recorded = true
		default:
			t.Fatalf("not recorded but %v", m)
		}
	}
}

func TestOutcomesAreRecorded(t *testing.T) {
	h := newHouse(t)
	k := h.online(h.joined())
	failed := func(class agentv1.FailureClass) *agentv1.Outcome {
		return &agentv1.Outcome{Outcome: &agentv1.Outcome_Failed{Failed: &agentv1.Failed{Class: class, Code: "because", Attempts: 4}}}
	}
	for n, tc := range []struct {
		outcome *agentv1.Outcome
		stands  func(op string) func(any, domain.Meta) bool
	}{
		{&agentv1.Outcome{Outcome: &agentv1.Outcome_Done{Done: &agentv1.Done{}}}, func(op string) func(any, domain.Meta) bool {
			return is(func(e plane.OperationSucceeded) bool { return e.Operation == op })
		}},
		{failed(agentv1.FailureClass_FAILURE_CLASS_USER), failedAs("user")},
		{failed(agentv1.FailureClass_FAILURE_CLASS_QUOTA), failedAs("quota")},
		{failed(agentv1.FailureClass_FAILURE_CLASS_TRANSIENT), failedAs("transient")},
		{failed(agentv1.FailureClass_FAILURE_CLASS_PLANE_DOWN), failedAs("plane_down")},
		{failed(agentv1.FailureClass_FAILURE_CLASS_BUG), failedAs("bug")},
		{&agentv1.Outcome{Outcome: &agentv1.Outcome_Superseded{Superseded: &agentv1.Superseded{Code: "stale_change"}}}, func(op string) func(any, domain.Meta) bool {
			return is(func(e plane.OperationSuperseded) bool { return e.Operation == op })
		}},
	} {
		op := h.ask(n, 1)
		k.operation(op)
		tc.outcome.OperationId = op
		for range 2 { // a repeat is answered alike
			k.outcome(tc.outcome)
			k.recorded(op)
			if got := h.log.count(t, tc.stands(op)); got != 1 {
				t.Errorf("%v stands %d times", tc.outcome, got)
			}
		}
		other := &agentv1.Outcome{OperationId: op, Outcome: &agentv1.Outcome_Withdrawn{Withdrawn: &agentv1.Withdrawn{}}}
		k.outcome(other) // the first outcome counts
		k.recorded(op)
		if got := h.log.count(t, is(func(e plane.OperationWithdrawn) bool { return e.Operation == op })); got != 0 {
			t.Error("a second outcome was recorded")
		}
	}
	for _, e := range h.log.Stream(plane.Aggregate.Stream(pln), 0) { // the answer is to the ask, not to the report
		if e.Type == "plane.operation.failed" && (e.Answers == nil || e.Answers.Saga != "sag_x") {
			t.Errorf("%s answers %v", e.Type, e.Answers)
		}
	}
}

func failedAs(class string) func(op string) func(any, domain.Meta) bool {
	return func(op string) func(any, domain.Meta) bool {
		return is(func(e plane.OperationFailed) bool {
			return e.Operation == op && e.Class == class && e.Code == "because" && e.Attempts == 4
		})
	}
}

func TestAnOutcomeThatCannotBeRecordedEndsTheStream(t *testing.T) {
	h := newHouse(t)
	key := h.joined()
	k := h.session(key)
	op := h.ask(1, 1)
	k.operation(op)
	h.log.down.Store(true)
	k.done(op)
	k.ended() // and not Recorded
	h.log.down.Store(false)
	k = h.session(key)
	k.operation(op)
	k.done(op)
	k.recorded(op)
}

func TestUnclaimed(t *testing.T) {
	h := newHouse(t)
	key := h.joined()
	k := h.session(key)
	k.operation(h.ask(0, 1))
	tenants := []string{ten(0)} // known
	for n := range 1500 {
		tenants = append(tenants, fmt.Sprintf("stray_%04d", n))
	}
	k.send(&agentv1.AgentMessage{Message: &agentv1.AgentMessage_Unclaimed{Unclaimed: &agentv1.Unclaimed{TenantIds: tenants}}})
	h.log.await(t, "unclaimed", is(func(e plane.TenantsUnclaimed) bool { return e.Tenants[0] == "stray_0000" && len(e.Tenants) == 999 }))
	h.log.await(t, "the rest", is(func(e plane.TenantsUnclaimed) bool { return len(e.Tenants) == 501 }))

	h.log.hold()
	h.session(key)
	k.send(&agentv1.AgentMessage{Message: &agentv1.AgentMessage_Unclaimed{Unclaimed: &agentv1.Unclaimed{TenantIds: []string{"late"}}}})
	k.stopped(protocol.StopStaleSession)
	h.log.release()
}

func TestSilenceIsJudged(t *testing.T) {
	h := newHouse(t)
	key := h.joined()
	k := h.online(key)
	h.clock.advance(t, 2*beat)
	k.heartbeat()
	op := h.ask(1, 1)
	k.operation(op)
	k.done(op)
	k.recorded(op) // so the heartbeat has been heard
	h.clock.advance(t, 5*beat/2)
	if s := h.state().Agent.State; s != plane.Online {
		t.Errorf("%s within three intervals", s)
	}
	h.clock.advance(t, beat/2)
	if s := h.state().Agent.State; s != plane.Unknown {
		t.Errorf("%s after three intervals", s)
	}
	h.clock.advance(t, 3*beat)
	if s := h.state().Agent.State; s != plane.Offline {
		t.Errorf("%s after six intervals", s)
	}
	h.clock.advance(t, 10*beat)
	if n := h.log.count(t, is[plane.AgentJudged](nil)); n != 3 {
		t.Errorf("judged %d times", n)
	}
	last := int64(len(h.log.Stream(plane.Aggregate.Stream(pln), 0))) - 1
	k.heartbeat()
	h.log.await(t, "online again", func(e any, m domain.Meta) bool {
		v, ok := e.(plane.AgentJudged)
		return ok && v.State == plane.Online && m.Revision > last
	})
}

func TestAnAgentThatOnlySaidHelloIsJudgedToo(t *testing.T) {
	h := newHouse(t)
	key := h.joined()
	h.online(key)
	k := h.session(key) // and no word more
	h.clock.advance(t, 6*beat)
	if n := h.log.count(t, judged(k.number, plane.Offline)); n != 1 {
		t.Errorf("the agent is %s", h.state().Agent.State)
	}
}

func TestNobodyIsJudgedBeforeTheGatewayHasListened(t *testing.T) {
	h := newHouse(t)
	key := h.joined()
	h.online(key)
	h.stop()
	h.clock.mu.Lock()
	h.clock.now, h.clock.waiting = h.clock.now.Add(100*beat), nil // the control plane was away
	h.clock.mu.Unlock()
	var asked sync.Mutex
	count := 0
	h.run(func(c *Config) {
		planes := c.Planes
		c.Planes = func(ctx context.Context) ([]string, error) {
			asked.Lock()
			defer asked.Unlock()
			count++
			return planes(ctx)
		}
	})
	h.clock.advance(t, beat/2)
	asked.Lock()
	if count != 0 {
		t.Error("somebody was looked at before one whole interval")
	}
	asked.Unlock()
	h.clock.advance(t, 2*beat)
	if s := h.state().Agent.State; s != plane.Online {
		t.Errorf("%s though the gateway has not listened for long", s)
	}
	h.clock.advance(t, beat)
	if s := h.state().Agent.State; s != plane.Unknown {
		t.Errorf("%s after three intervals of silence", s)
	}
}

func TestRunsEndEndsAllSessions(t *testing.T) {
	h := newHouse(t)
	key := h.joined()
	silent := h.dial() // has not even said Hello
	k := h.session(key)
	h.stop()
	k.ended()
	silent.ended()
	late := h.client().Session(t.Context())
	_ = late.Send(nil)
	if m, err := late.Receive(); err == nil {
		t.Errorf("a stopped gateway said %v", m)
	}
	_ = late.CloseRequest()
	_ = late.CloseResponse()
}

func TestConfig(t *testing.T) {
	h := newHouse(t)
	for name, change := range map[string]func(*Config){
		"no Bus":          func(c *Config) { c.Bus = nil },
		"no epoch":        func(c *Config) { c.Epoch = domain.Epoch{} },
		"a short beat":    func(c *Config) { c.Heartbeat = time.Millisecond },
		"too long a beat": func(c *Config) { c.Heartbeat = time.Hour },
	} {
		c := h.Config
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
