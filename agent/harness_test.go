package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	"github.com/tenure-dev/tenure/agent/drivers"
	"github.com/tenure-dev/tenure/agent/protocol"
	"github.com/tenure-dev/tenure/agent/protocol/agentv1"
	"github.com/tenure-dev/tenure/agent/protocol/agentv1/agentv1connect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	plane = "pln_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	tenA  = "ten_a"
	tenB  = "ten_b"
)

var epoch1 = &agentv1.Epoch{Number: 1, Id: "one"}

// bubble runs the test on its own clock: the network is in memory, so time passes only when everybody waits.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// authority is a gateway's CA and leaf, valid on the bubble's clock and the real one.
type authority struct {
	ca   *x509.Certificate
	leaf tls.Certificate
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	sign := func(template, parent *x509.Certificate, public ed25519.PublicKey, signer ed25519.PrivateKey) *x509.Certificate {
		template.SerialNumber = big.NewInt(1)
		template.NotBefore = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
		template.NotAfter = time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return certificate
	}
	caPublic, caKey, _ := ed25519.GenerateKey(rand.Reader)
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	ca := sign(template, template, caPublic, caKey)
	public, key, _ := ed25519.GenerateKey(rand.Reader)
	leaf := sign(&x509.Certificate{
		DNSNames: []string{protocol.ServerName}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, public, caKey)
	return &authority{ca: ca, leaf: tls.Certificate{Certificate: [][]byte{leaf.Raw, ca.Raw}, PrivateKey: key}}
}

func (a *authority) token() string {
	token := protocol.Token{PlaneID: plane, Fingerprint: protocol.CAFingerprint(a.ca)}
	_, _ = rand.Read(token.Secret[:])
	return token.Text()
}

// testGateway serves the protocol and leaves every word of a session to the test.
type testGateway struct {
	agentv1connect.UnimplementedAgentServiceHandler
	*authority
	t        testing.TB
	listener *memoryListener
	server   *http.Server
	talks    chan *talk
	number   int64
	epoch    *agentv1.Epoch

	mu    sync.Mutex
	joins []*agentv1.JoinRequest
	join  func(*agentv1.JoinRequest) error // nil: all may join
}

func newGateway(t testing.TB) *testGateway {
	t.Helper()
	g := &testGateway{t: t, authority: newAuthority(t), talks: make(chan *talk), epoch: epoch1}
	g.start()
	return g
}

func (g *testGateway) start() {
	g.prepare()
	g.serve()
}

func (g *testGateway) prepare() {
	g.mu.Lock()
	g.listener = newMemoryListener()
	g.mu.Unlock()
	mux := http.NewServeMux()
	mux.Handle(agentv1connect.NewAgentServiceHandler(g))
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	g.server = &http.Server{
		Handler: mux, Protocols: protocols, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{g.leaf}, MinVersion: tls.VersionTLS13},
	}
}

func (g *testGateway) serve() {
	served := make(chan struct{})
	server, listener := g.server, g.listener
	go func() {
		defer close(served)
		_ = server.ServeTLS(listener, "", "")
	}()
	g.t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
}

// die closes every connection; nothing listens until start.
func (g *testGateway) die() { _ = g.server.Close() }

func (g *testGateway) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	g.mu.Lock()
	l := g.listener
	g.mu.Unlock()
	return l.dial(ctx)
}

func (g *testGateway) Join(_ context.Context, r *connect.Request[agentv1.JoinRequest]) (*connect.Response[agentv1.JoinResponse], error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.joins = append(g.joins, r.Msg)
	if g.join != nil {
		if err := g.join(r.Msg); err != nil {
			return nil, err
		}
	}
	return connect.NewResponse(&agentv1.JoinResponse{PlaneId: r.Msg.GetPlaneId(), Epoch: g.epoch}), nil
}

func (g *testGateway) Session(ctx context.Context, s *connect.BidiStream[agentv1.AgentMessage, agentv1.GatewayMessage]) error {
	k := &talk{t: g.t, stream: s, over: make(chan struct{}), inbox: make(chan *agentv1.AgentMessage, 1000), number: g.number}
	select {
	case g.talks <- k:
	case <-ctx.Done():
		return ctx.Err()
	}
	<-k.over
	return nil
}

// talk is one session as the gateway has it.
type talk struct {
	t      testing.TB
	stream *connect.BidiStream[agentv1.AgentMessage, agentv1.GatewayMessage]
	over   chan struct{}
	end    sync.Once
	inbox  chan *agentv1.AgentMessage // closed when the agent is gone
	number int64
	hello  *agentv1.Hello
}

// meet waits for the next Hello and checks its signature.
func (g *testGateway) meet() *talk {
	g.t.Helper()
	var k *talk
	select {
	case k = <-g.talks:
	case <-time.After(time.Hour):
		g.t.Fatal("no agent dialled")
	}
	g.t.Cleanup(k.hangUp)
	nonce := make([]byte, 32)
	_, _ = rand.Read(nonce)
	k.send(&agentv1.GatewayMessage{Message: &agentv1.GatewayMessage_Challenge{Challenge: &agentv1.Challenge{Nonce: nonce}}})
	m, err := k.stream.Receive()
	if err != nil {
		g.t.Fatalf("no Hello: %v", err)
	}
	k.hello = m.GetHello()
	if !ed25519.Verify(k.hello.GetPublicKey(), protocol.HelloText(nonce, k.hello.GetPlaneId()), k.hello.GetSignature()) {
		g.t.Fatal("Hello's signature is wrong")
	}
	return k
}

// welcome opens session n+1 in the gateway's epoch.
func (g *testGateway) welcome(k *talk, resync bool) *talk {
	g.t.Helper()
	g.number++
	k.number = g.number
	k.send(&agentv1.GatewayMessage{Message: &agentv1.GatewayMessage_Welcome{Welcome: &agentv1.Welcome{
		Epoch: g.epoch, HeartbeatIntervalMs: 5000, Revision: 100, Resync: resync,
	}}})
	go func() {
		defer close(k.inbox)
		for {
			m, err := k.stream.Receive()
			if err != nil {
				return
			}
			k.inbox <- m
		}
	}()
	return k
}

// open is a whole start of a session: Hello, Welcome, the resync that the agent needs, and its answers.
func (g *testGateway) open(tenants ...*agentv1.DesiredTenant) *talk {
	g.t.Helper()
	k := g.meet()
	needs := k.hello.GetJournalEpoch().GetId() != g.epoch.GetId() || k.hello.GetJournalEpoch().GetNumber() != g.epoch.GetNumber()
	g.welcome(k, needs)
	if needs {
		k.resync(50, tenants...)
		if got := k.next().GetResynced().GetAsOfRevision(); got != 50 {
			g.t.Fatalf("the agent resynced as of %d", got)
		}
	}
	return k
}

func (k *talk) resync(asOf int64, tenants ...*agentv1.DesiredTenant) {
	for _, t := range tenants { // a chunk each, so that chunks are put together
		k.send(&agentv1.GatewayMessage{Message: &agentv1.GatewayMessage_Resync{Resync: &agentv1.Resync{
			Tenants: []*agentv1.DesiredTenant{t}, AsOfRevision: asOf,
		}}})
	}
	k.send(&agentv1.GatewayMessage{Message: &agentv1.GatewayMessage_Resync{Resync: &agentv1.Resync{Final: true, AsOfRevision: asOf}}})
}

func (k *talk) send(m *agentv1.GatewayMessage) {
	k.t.Helper()
	if m.Session == 0 {
		m.Session = k.number
	}
	if err := k.stream.Send(m); err != nil {
		k.t.Fatalf("send %T: %v", m.GetMessage(), err)
	}
}

func (k *talk) ask(ops ...*agentv1.Operation) {
	k.t.Helper()
	for _, op := range ops {
		k.send(&agentv1.GatewayMessage{Message: &agentv1.GatewayMessage_Operation{Operation: op}})
	}
}

func (k *talk) withdraw(id string) {
	k.send(&agentv1.GatewayMessage{Message: &agentv1.GatewayMessage_Withdraw{Withdraw: &agentv1.Withdraw{OperationId: id}}})
}

func (k *talk) record(ids ...string) {
	k.send(&agentv1.GatewayMessage{Message: &agentv1.GatewayMessage_Recorded{Recorded: &agentv1.Recorded{OperationIds: ids}}})
}

func (k *talk) stop(code string) {
	k.send(&agentv1.GatewayMessage{Message: &agentv1.GatewayMessage_Stop{Stop: &agentv1.Stop{Code: code, Message: "told by the test"}}})
	k.hangUp()
}

func (k *talk) hangUp() { k.end.Do(func() { close(k.over) }) }

// next is the agent's next message but heartbeats and empty inventories, on which session it names is checked.
func (k *talk) next() *agentv1.AgentMessage {
	k.t.Helper()
	late := time.After(time.Hour)
	for {
		select {
		case m, ok := <-k.inbox:
			switch {
			case !ok:
				k.t.Fatal("the agent hung up")
			case m.GetSession() != k.number:
				k.t.Fatalf("the agent names session %d in session %d", m.GetSession(), k.number)
			case m.GetHeartbeat() != nil, m.GetUnclaimed() != nil && len(m.GetUnclaimed().GetTenantIds()) == 0:
				continue
			}
			return m
		case <-late:
			k.t.Fatal("the agent says nothing")
		}
	}
}

func (k *talk) outcome() *agentv1.Outcome {
	k.t.Helper()
	m := k.next()
	if m.GetOutcome() == nil {
		k.t.Fatalf("not an outcome: %v", m)
	}
	return m.GetOutcome()
}

// outcomes are the operation ids and results of the next n outcomes, in the order in which they came.
func (k *talk) outcomes(n int) []string {
	k.t.Helper()
	var all []string
	for range n {
		all = append(all, summary(k.outcome()))
	}
	return all
}

func summary(o *agentv1.Outcome) string {
	switch what := o.GetOutcome().(type) {
	case *agentv1.Outcome_Done:
		return o.GetOperationId() + " done"
	case *agentv1.Outcome_Failed:
		return o.GetOperationId() + " failed " + what.Failed.GetClass().String() + " " + what.Failed.GetCode()
	case *agentv1.Outcome_Withdrawn:
		return o.GetOperationId() + " withdrawn"
	case *agentv1.Outcome_Superseded:
		return o.GetOperationId() + " superseded " + what.Superseded.GetCode()
	default:
		return o.GetOperationId() + " without an outcome"
	}
}

// quiet fails when the agent has said anything but heartbeats and the like once everybody waits.
func (k *talk) quiet() {
	k.t.Helper()
	synctest.Wait()
	for len(k.inbox) > 0 {
		if m := <-k.inbox; m.GetOutcome() != nil || len(m.GetUnclaimed().GetTenantIds()) > 0 {
			k.t.Fatalf("the agent said %v", m)
		}
	}
}

func op(id string, revision int64, k kind, tenant *agentv1.DesiredTenant) *agentv1.Operation {
	for wire, name := range kinds {
		if name == k {
			return &agentv1.Operation{Id: id, Revision: revision, Kind: wire, Tenant: tenant, Attempt: 1}
		}
	}
	panic("no such kind")
}

func tenant(id string, with ...func(*agentv1.DesiredTenant)) *agentv1.DesiredTenant {
	t := &agentv1.DesiredTenant{TenantId: id, Isolation: agentv1.Isolation_ISOLATION_BRIDGE, CredentialVersion: 1, ChangeNumber: 1}
	for _, f := range with {
		f(t)
	}
	return t
}

func change(n int64) func(*agentv1.DesiredTenant) {
	return func(t *agentv1.DesiredTenant) { t.ChangeNumber = n }
}

func causes(n int64, suspended bool) func(*agentv1.DesiredTenant) {
	return func(t *agentv1.DesiredTenant) { t.CausesRevision, t.Suspended = n, suspended }
}

func credential(n int64) func(*agentv1.DesiredTenant) {
	return func(t *agentv1.DesiredTenant) { t.CredentialVersion = n }
}

func gone(t *agentv1.DesiredTenant) { t.Gone = true }

// fakeDriver writes down what it is asked, and does what the test says.
type fakeDriver struct {
	mu      sync.Mutex
	calls   []call
	do      func(ctx context.Context, c call) error // nil: all succeeds
	present []drivers.Observed
}

type call struct {
	Method, Operation, Tenant string
	Suspended                 bool
	Version                   int64
}

func (d *fakeDriver) act(ctx context.Context, c call) error {
	d.mu.Lock()
	d.calls = append(d.calls, c)
	do := d.do
	d.mu.Unlock()
	if do == nil {
		return nil
	}
	return do(ctx, c)
}

// ran are the operations of all calls so far, in order.
func (d *fakeDriver) ran() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var ids []string
	for _, c := range d.calls {
		ids = append(ids, c.Operation)
	}
	return ids
}

func (d *fakeDriver) last() call {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls[len(d.calls)-1]
}

func (d *fakeDriver) Provision(ctx context.Context, operation string, t drivers.Tenant, suspended bool) error {
	return d.act(ctx, call{"provision", operation, t.ID, suspended, t.CredentialVersion})
}

func (d *fakeDriver) Suspend(ctx context.Context, operation string, t drivers.Tenant) error {
	return d.act(ctx, call{Method: "suspend", Operation: operation, Tenant: t.ID})
}

func (d *fakeDriver) Resume(ctx context.Context, operation string, t drivers.Tenant) error {
	return d.act(ctx, call{Method: "resume", Operation: operation, Tenant: t.ID})
}

func (d *fakeDriver) Resize(ctx context.Context, operation string, t drivers.Tenant) error {
	return d.act(ctx, call{Method: "resize", Operation: operation, Tenant: t.ID})
}

func (d *fakeDriver) Deprovision(ctx context.Context, operation string, t drivers.Tenant) error {
	return d.act(ctx, call{Method: "deprovision", Operation: operation, Tenant: t.ID})
}

func (d *fakeDriver) Observe(context.Context) ([]drivers.Observed, error) { return d.present, nil }

func (d *fakeDriver) ConnectionURL(_ context.Context, t drivers.Tenant) (string, error) {
	if t.ID == "ten_missing" {
		return "", drivers.ErrNoTenant
	}
	return "postgresql://" + t.ID + ":v" + string(rune('0'+t.CredentialVersion)) + "@plane/db", nil
}

func (d *fakeDriver) Close() error { return nil }

// runningAgent is an agent under test.
type runningAgent struct {
	*Agent
	t      testing.TB
	cancel context.CancelFunc
	ended  chan error
}

func config(t testing.TB, g *testGateway, d drivers.Driver) Config {
	t.Helper()
	return Config{
		Dir: t.TempDir(), GatewayURL: "https://gateway:8443", JoinToken: g.token(), Driver: d, DriverName: "fake",
		Version: "test", Logger: slog.New(slog.DiscardHandler), Dial: g.dial,
	}
}

func start(t testing.TB, cfg Config) *runningAgent {
	t.Helper()
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &runningAgent{Agent: a, t: t, cancel: cancel, ended: make(chan error, 1)}
	go func() { r.ended <- a.Run(ctx) }()
	t.Cleanup(r.cancel)
	return r
}

func (r *runningAgent) stop() {
	r.t.Helper()
	r.cancel()
	if err := r.failed(); err != nil {
		r.t.Fatalf("Run: %v", err)
	}
}

// failed waits for the end of Run.
func (r *runningAgent) failed() error {
	r.t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(time.Hour):
		r.t.Fatal("Run does not return")
		return nil
	}
}

func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	var coded *Error
	if !errors.As(err, &coded) || coded.Code != code {
		t.Fatalf("error %v, want code %s", err, code)
	}
}

// crashed copies a directory as kill -9 would leave it at this moment.
func crashed(t testing.TB, dir string) string {
	t.Helper()
	to := t.TempDir()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, e.Name()), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// memoryListener is a network of one address whose connections are pipes.
type memoryListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newMemoryListener() *memoryListener {
	return &memoryListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *memoryListener) dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, io.EOF
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }
