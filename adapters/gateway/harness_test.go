package gateway

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	"github.com/tenure-dev/tenure/agent/protocol"
	"github.com/tenure-dev/tenure/agent/protocol/agentv1"
	"github.com/tenure-dev/tenure/agent/protocol/agentv1/agentv1connect"
	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/commands/commandstest"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/plane"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	beat    = 10 * time.Second
	patient = 30 * time.Second // bounds what would otherwise hang; nothing waits for it
)

var (
	pln    = domain.ID(domain.PlaneID, domain.DeriveUUID("plane"))
	orgX   = domain.ID(domain.OrgID, domain.DeriveUUID("org"))
	epoch  = domain.Epoch{Number: 3, ID: "three"}
	events = domain.NewRegistry(plane.Events)
)

func ten(n int) string { return domain.ID(domain.TenantID, domain.DeriveUUID("tenant", fmt.Sprint(n))) }

// handClock moves only by hand.
type handClock struct {
	mu      sync.Mutex
	now     time.Time
	waiting []waiter
	changed chan struct{}
}

type waiter struct {
	at time.Time
	c  chan time.Time
}

func newHandClock() *handClock {
	return &handClock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), changed: make(chan struct{})}
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := waiter{c.now.Add(d), make(chan time.Time, 1)}
	c.waiting = append(c.waiting, w)
	close(c.changed)
	c.changed = make(chan struct{})
	return w.c
}

// idle waits until the judge waits for the clock, so that it has judged all that was to be judged.
func (c *handClock) idle(t testing.TB) {
	t.Helper()
	for {
		c.mu.Lock()
		n, changed := len(c.waiting), c.changed
		c.mu.Unlock()
		if n > 0 {
			return
		}
		select {
		case <-changed:
		case <-time.After(patient):
			t.Fatal("the judge never waits")
		}
	}
}

// advance moves the clock in steps of half an interval, letting the judge do its round at each.
func (c *handClock) advance(t testing.TB, d time.Duration) {
	t.Helper()
	for ; d > 0; d -= beat / 2 {
		c.idle(t)
		c.mu.Lock()
		c.now = c.now.Add(min(d, beat/2))
		c.waiting = slices.DeleteFunc(c.waiting, func(w waiter) bool {
			if due := !w.at.After(c.now); due {
				w.c <- c.now
				return true
			}
			return false
		})
		c.mu.Unlock()
	}
	c.idle(t)
}

// feed is the in-memory log with a feed that a test may hold back.
type feed struct {
	commandstest.Log
	down atomic.Bool // appends are unavailable

	mu    sync.Mutex
	held  bool
	moved chan struct{}
}

func newFeed() *feed {
	f := &feed{moved: make(chan struct{})}
	f.OnAppend = func(string, int64, []domain.Proposed) commandstest.Fault {
		if f.down.Load() {
			return commandstest.Before
		}
		return commandstest.None
	}
	return f
}

func (f *feed) Append(ctx context.Context, stream string, expected int64, e []domain.Proposed) (commands.Appended, error) {
	defer f.move(nil)
	return f.Log.Append(ctx, stream, expected, e)
}

func (f *feed) move(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if change != nil {
		change()
	}
	close(f.moved)
	f.moved = make(chan struct{})
}

// hold keeps the feed from delivering until release.
func (f *feed) hold()    { f.move(func() { f.held = true }) }
func (f *feed) release() { f.move(func() { f.held = false }) }

func (f *feed) Head(context.Context) (uint64, error) {
	if all := f.All(); len(all) > 0 {
		return all[len(all)-1].Commit, nil
	}
	return 0, nil
}

func (f *feed) Follow(ctx context.Context, after uint64) iter.Seq2[domain.Delivery, error] {
	return func(yield func(domain.Delivery, error) bool) {
		for {
			f.mu.Lock()
			held, moved := f.held, f.moved
			f.mu.Unlock()
			if !held {
				for _, e := range f.All() {
					if e.Commit <= after {
						continue
					}
					after = e.Commit
					if !yield(domain.Delivery{Event: e, Commit: e.Commit}, nil) {
						return
					}
				}
				if !yield(domain.Delivery{Kind: domain.CaughtUp, Commit: after}, nil) {
					return
				}
			}
			select {
			case <-moved:
			case <-ctx.Done():
				yield(domain.Delivery{}, ctx.Err())
				return
			}
		}
	}
}

// await waits until an event of the plane fits.
func (f *feed) await(t testing.TB, what string, fits func(e any, m domain.Meta) bool) {
	t.Helper()
	for {
		f.mu.Lock()
		moved := f.moved
		f.mu.Unlock()
		if f.count(t, fits) > 0 {
			return
		}
		select {
		case <-moved:
		case <-time.After(patient):
			t.Fatalf("never in the log: %s", what)
		}
	}
}

func (f *feed) count(t testing.TB, fits func(e any, m domain.Meta) bool) (n int) {
	t.Helper()
	for _, r := range f.Stream(plane.Aggregate.Stream(pln), 0) {
		e, err := events.DecodeRecorded(r)
		if err != nil {
			t.Fatal(err)
		}
		if fits(e, r.Meta) {
			n++
		}
	}
	return n
}

func is[E any](fits func(E) bool) func(any, domain.Meta) bool {
	return func(e any, _ domain.Meta) bool {
		v, ok := e.(E)
		return ok && (fits == nil || fits(v))
	}
}

func judged(session int64, state plane.AgentState) func(any, domain.Meta) bool {
	return is(func(e plane.AgentJudged) bool { return e == plane.AgentJudged{Session: session, State: state} })
}

// house is a gateway that serves over loopback TLS, on a real Bus.
type house struct {
	*Gateway
	t     testing.TB
	log   *feed
	bus   *commands.Bus
	clock *handClock
	url   string
	stop  func() // ends Run and waits for it; may be called twice
	keys  atomic.Int64
}

type option func(*Config)

func newHouse(t testing.TB, options ...option) *house {
	t.Helper()
	h := &house{t: t, log: newFeed(), clock: newHandClock()}
	t.Cleanup(func() { goleak.VerifyNone(t) })
	var err error
	h.bus, err = commands.New(commands.Config{Log: h.log, Aggregates: []domain.Aggregate{plane.Aggregate}, HashKey: make([]byte, 32),
		Epoch: epoch, Now: h.clock.Now, Tries: 2, Pause: func(context.Context, int) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.bus.Close(context.Background()) })
	h.do(plane.Register{PlaneID: pln})
	h.run(options...)
	return h
}

// run starts a gateway on the house's log.
func (h *house) run(options ...option) {
	h.t.Helper()
	ca, err := NewCA(make([]byte, 32), h.clock.Now)
	if err != nil {
		h.t.Fatal(err)
	}
	c := Config{Bus: h.bus, Log: h.log, Clock: h.clock, CA: ca, Epoch: epoch, Heartbeat: beat,
		Planes: func(context.Context) ([]string, error) { return []string{pln}, nil }}
	for _, o := range options {
		o(&c)
	}
	if h.Gateway, err = New(c); err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	g := h.Gateway
	go func() { ran <- g.Run(ctx) }()
	h.clock.idle(h.t)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	server := &http.Server{Handler: g.Handler(), TLSConfig: ca.TLS(), ReadHeaderTimeout: patient,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.ServeTLS(listener, "", "") }()
	h.url = "https://" + listener.Addr().String()
	h.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ran:
			if err != nil {
				h.t.Errorf("Run ended with %v", err)
			}
		case <-time.After(patient):
			h.t.Error("Run does not end")
		}
	})
	stop := h.stop
	h.t.Cleanup(func() { stop(); _ = server.Close(); <-served })
}

// do gives the Bus a command under an id of its own.
func (h *house) do(c domain.Command) commands.Outcome {
	h.t.Helper()
	id := domain.DeriveUUID("test", fmt.Sprint(h.keys.Add(1))).String()
	out, err := h.bus.Execute(h.t.Context(), commands.Call{Command: c, Actor: "test", CommandID: id,
		Answers: &domain.Answers{Saga: "sag_x", Command: id}})
	if err != nil {
		h.t.Errorf("%T: %v", c, err)
	}
	return out
}

// ask asks an operation that needs nothing before it, and gives its id.
func (h *house) ask(tenant, change int) string {
	h.t.Helper()
	out := h.do(plane.Ask{PlaneID: pln, TenantID: ten(tenant), OrgID: orgX, Kind: plane.Deprovision, Change: int64(change), Isolation: "pool"})
	return domain.OperationIDFor(out.CommandID)
}

func (h *house) provision(tenant int) string {
	h.t.Helper()
	h.do(plane.Reserve{PlaneID: pln, TenantID: ten(tenant), OrgID: orgX, Change: 1, Isolation: "pool"})
	out := h.do(plane.Ask{PlaneID: pln, TenantID: ten(tenant), OrgID: orgX, Kind: plane.Provision, Change: 1, Isolation: "pool", Limits: domain.Units{"connections": 5}})
	return domain.OperationIDFor(out.CommandID)
}

func (h *house) state() plane.State {
	h.t.Helper()
	s, _, err := h.bus.State(h.t.Context(), plane.Aggregate.Stream(pln))
	if err != nil {
		h.t.Fatal(err)
	}
	return s.(plane.State)
}

// client speaks to the gateway as an agent does, and trusts its CA alone.
func (h *house) client() agentv1connect.AgentServiceClient {
	roots := x509.NewCertPool()
	roots.AddCert(h.CA.Certificate)
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	transport := &http.Transport{Protocols: protocols,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: protocol.ServerName, Time: h.clock.Now}}
	h.t.Cleanup(transport.CloseIdleConnections)
	return agentv1connect.NewAgentServiceClient(&http.Client{Transport: transport}, h.url)
}

func newKey() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func public(k ed25519.PrivateKey) []byte { return k.Public().(ed25519.PublicKey) }

// token issues a join token.
func (h *house) token() protocol.Token {
	h.t.Helper()
	text, hash, err := h.NewJoinToken(pln)
	if err != nil {
		h.t.Fatal(err)
	}
	h.do(plane.IssueJoinToken{PlaneID: pln, Hash: hash, Life: time.Hour})
	token, err := protocol.ParseToken(text)
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

func (h *house) join(secret []byte, key ed25519.PrivateKey) error {
	h.t.Helper()
	r, err := h.client().Join(h.t.Context(), connect.NewRequest(&agentv1.JoinRequest{PlaneId: pln, TokenSecret: secret, PublicKey: public(key), Driver: "fake"}))
	if err == nil && (r.Msg.GetPlaneId() != pln || r.Msg.GetEpoch().GetNumber() != epoch.Number || r.Msg.GetEpoch().GetId() != epoch.ID) {
		h.t.Errorf("joined as %v", r.Msg)
	}
	return err
}

// joined makes a plane with an agent's key.
func (h *house) joined() ed25519.PrivateKey {
	h.t.Helper()
	token, key := h.token(), newKey()
	if err := h.join(token.Secret[:], key); err != nil {
		h.t.Fatal(err)
	}
	return key
}

// talk is one session as the agent has it.
type talk struct {
	t      testing.TB
	stream *connect.BidiStreamForClient[agentv1.AgentMessage, agentv1.GatewayMessage]
	number int64
	nonce  []byte
}

// dial opens a stream and takes the challenge.
func (h *house) dial() *talk {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	k := &talk{t: h.t, stream: h.client().Session(ctx)}
	h.t.Cleanup(func() { k.hangUp(); cancel() })
	if err := k.stream.Send(nil); err != nil {
		h.t.Fatal(err)
	}
	k.nonce = k.receive().GetChallenge().GetNonce()
	if len(k.nonce) < 16 {
		h.t.Fatalf("a nonce of %d bytes", len(k.nonce))
	}
	return k
}

func (k *talk) hangUp() {
	_ = k.stream.CloseRequest()
	_ = k.stream.CloseResponse()
}

func (k *talk) receive() *agentv1.GatewayMessage {
	k.t.Helper()
	m, err := k.stream.Receive()
	if err != nil {
		k.t.Fatalf("session %d: %v", k.number, err)
	}
	if m.GetSession() != k.number && m.GetWelcome() == nil && m.GetStop() == nil {
		k.t.Errorf("session %d got %v", k.number, m)
	}
	return m
}

func (k *talk) send(m *agentv1.AgentMessage) {
	k.t.Helper()
	if m.Session == 0 {
		m.Session = k.number
	}
	if err := k.stream.Send(m); err != nil {
		k.t.Fatal(err)
	}
}

func (k *talk) hello(id string, key, signer ed25519.PrivateKey, journal *agentv1.Epoch) {
	k.t.Helper()
	k.send(&agentv1.AgentMessage{Message: &agentv1.AgentMessage_Hello{Hello: &agentv1.Hello{PlaneId: id, AgentVersion: "v1", Driver: "fake",
		JournalEpoch: journal, CursorRevision: -1, PublicKey: public(key), Signature: ed25519.Sign(signer, protocol.HelloText(k.nonce, id))}}})
}

var current = &agentv1.Epoch{Number: epoch.Number, Id: epoch.ID}

// session opens a session with a journal of this epoch.
func (h *house) session(key ed25519.PrivateKey) *talk {
	h.t.Helper()
	k := h.dial()
	k.hello(pln, key, key, current)
	w := k.welcome()
	if w.GetResync() {
		h.t.Error("a resync that is not due")
	}
	return k
}

func (k *talk) welcome() *agentv1.Welcome {
	k.t.Helper()
	m := k.receive()
	w := m.GetWelcome()
	if w == nil {
		k.t.Fatalf("no Welcome but %v", m)
	}
	k.number = m.GetSession()
	if w.GetEpoch().GetId() != epoch.ID || w.GetEpoch().GetNumber() != epoch.Number || w.GetHeartbeatIntervalMs() != beat.Milliseconds() {
		k.t.Errorf("welcomed with %v", w)
	}
	return w
}

func (k *talk) heartbeat() {
	k.t.Helper()
	k.send(&agentv1.AgentMessage{Message: &agentv1.AgentMessage_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}})
}

func (k *talk) done(op string) {
	k.t.Helper()
	k.outcome(&agentv1.Outcome{OperationId: op, Outcome: &agentv1.Outcome_Done{Done: &agentv1.Done{}}})
}

func (k *talk) outcome(o *agentv1.Outcome) {
	k.t.Helper()
	k.send(&agentv1.AgentMessage{Message: &agentv1.AgentMessage_Outcome{Outcome: o}})
}

func (k *talk) recorded(op string) {
	k.t.Helper()
	if m := k.receive(); !slices.Equal(m.GetRecorded().GetOperationIds(), []string{op}) {
		k.t.Fatalf("not recorded but %v", m)
	}
}

func (k *talk) operation(id string) *agentv1.Operation {
	k.t.Helper()
	m := k.receive()
	if m.GetOperation().GetId() != id {
		k.t.Fatalf("not operation %s but %v", id, m)
	}
	return m.GetOperation()
}

// stopped expects Stop with a code, and then the end.
func (k *talk) stopped(code string) {
	k.t.Helper()
	m, err := k.stream.Receive()
	if err != nil || m.GetStop().GetCode() != code {
		k.t.Fatalf("not stopped with %s but %v, %v", code, m, err)
	}
	if m, err := k.stream.Receive(); err == nil {
		k.t.Errorf("after Stop came %v", m)
	}
}

// ended expects the end without a Stop, as unavailable: the agent dials again.
func (k *talk) ended() {
	k.t.Helper()
	m, err := k.stream.Receive()
	if code := connect.CodeOf(err); err == nil || code != connect.CodeUnavailable {
		k.t.Fatalf("not ended as unavailable but %v, %v", m, err)
	}
}

// online opens a session and waits until its agent is judged online.
func (h *house) online(key ed25519.PrivateKey) *talk {
	h.t.Helper()
	k := h.session(key)
	k.heartbeat()
	h.log.await(h.t, "online", judged(k.number, plane.Online))
	return k
}

func codeOf(err error) connect.Code {
	var e *connect.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}
