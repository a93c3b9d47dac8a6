package gateway

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/tenure-dev/tenure/agent/protocol"
	"github.com/tenure-dev/tenure/agent/protocol/agentv1"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/plane"
)

// service is the gateway as Connect calls it.
type service struct{ *Gateway }

type stream = connect.BidiStream[agentv1.AgentMessage, agentv1.GatewayMessage]

// Join makes the holder of a token the agent of its plane.
func (g service) Join(ctx context.Context, r *connect.Request[agentv1.JoinRequest]) (*connect.Response[agentv1.JoinResponse], error) {
	m := r.Msg
	if !domain.IsID(domain.PlaneID, m.GetPlaneId()) || len(m.GetTokenSecret()) != 32 || len(m.GetPublicKey()) != ed25519.PublicKeySize {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("a join needs a plane's id, a token's secret and a public key"))
	}
	hash, key := secretHash(m.GetTokenSecret()), keyText(m.GetPublicKey())
	if _, err := g.do(ctx, plane.Join{PlaneID: m.GetPlaneId(), Hash: hash, PublicKey: key}, "join", m.GetPlaneId(), hash, key); err != nil {
		return nil, g.refusal(err)
	}
	g.Logger.Info("an agent joined", "plane", m.GetPlaneId(), "driver", m.GetDriver())
	return connect.NewResponse(&agentv1.JoinResponse{PlaneId: m.GetPlaneId(), Epoch: g.epoch()}), nil
}

// refusal is a coded error in Connect's words.
func (g service) refusal(err error) error {
	var e *domain.Error
	code := connect.CodeInternal
	switch domain.CodeOf(err) {
	case domain.CodeUnauthenticated:
		code = connect.CodeUnauthenticated
	case domain.CodeNotAllowed, domain.CodeNotFound:
		code = connect.CodeNotFound
	case domain.CodeInvalid:
		code = connect.CodeInvalidArgument
	case domain.CodeUnavailable, domain.CodeConflict:
		code = connect.CodeUnavailable
	default:
		g.Logger.Error("a join failed", "error", err)
	}
	if errors.As(err, &e) && code != connect.CodeInternal {
		return connect.NewError(code, errors.New(e.Public()))
	}
	return connect.NewError(code, errors.New("the gateway failed"))
}

// Session is one conversation: Challenge, Hello, Welcome, then work until either side goes.
func (g service) Session(ctx context.Context, st *stream) error {
	g.mu.Lock()
	if g.ended.Err() != nil {
		g.mu.Unlock()
		return connect.NewError(connect.CodeUnavailable, errors.New("the gateway is stopping"))
	}
	g.open.Add(1)
	g.mu.Unlock()
	defer g.open.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(g.ended, cancel)()

	nonce := make([]byte, 32)
	if _, err := rand.Read(nonce); err != nil {
		return err
	}
	if err := st.Send(&agentv1.GatewayMessage{Message: &agentv1.GatewayMessage_Challenge{Challenge: &agentv1.Challenge{Nonce: nonce}}}); err != nil {
		return err
	}
	silent := time.AfterFunc(helloTime, cancel)
	first, err := g.first(ctx, st)
	silent.Stop()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello == nil {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("a session begins with Hello"))
	}
	number, stop := g.openSession(ctx, nonce, hello)
	if stop != nil {
		return st.Send(&agentv1.GatewayMessage{Message: &agentv1.GatewayMessage_Stop{Stop: stop}})
	}
	s := &session{gateway: g.Gateway, plane: hello.GetPlaneId(), number: number, stream: st, queue: newQueue(maxWaiting),
		reports: make(chan struct{}, maxReports), resynced: make(chan struct{})}
	return s.hold(ctx, hello)
}

// helloTime bounds how long a client may stay without saying who it is.
const helloTime = 15 * time.Second

// first receives the agent's first message. Receive ends only with the handler, so it is waited for beside ctx.
func (g service) first(ctx context.Context, st *stream) (*agentv1.AgentMessage, error) {
	type received struct {
		message *agentv1.AgentMessage
		err     error
	}
	first := make(chan received, 1)
	g.open.Add(1)
	go func() {
		defer g.open.Done()
		m, err := st.Receive()
		first <- received{m, err}
	}()
	select {
	case r := <-first:
		return r.message, r.err
	case <-ctx.Done():
		return nil, connect.NewError(connect.CodeUnavailable, errOver)
	}
}

// openSession checks who speaks and opens the plane's next session, or says why not.
func (g service) openSession(ctx context.Context, nonce []byte, hello *agentv1.Hello) (int64, *agentv1.Stop) {
	id, key := hello.GetPlaneId(), hello.GetPublicKey()
	switch {
	case !domain.IsID(domain.PlaneID, id) || len(key) != ed25519.PublicKeySize:
		return 0, &agentv1.Stop{Code: protocol.StopUnknownIdentity, Message: "Hello names no plane or no key"}
	case !ed25519.Verify(key, protocol.HelloText(nonce, id), hello.GetSignature()):
		return 0, &agentv1.Stop{Code: protocol.StopBadSignature, Message: "Hello's signature is not of this nonce, plane and key"}
	}
	out, err := g.do(ctx, plane.OpenSession{PlaneID: id, PublicKey: keyText(key), Version: hello.GetAgentVersion(), Driver: hello.GetDriver()},
		"session", id, hex.EncodeToString(nonce))
	switch code := domain.CodeOf(err); {
	case err == nil:
	case code == domain.CodeUnauthenticated || code == domain.CodeNotAllowed:
		return 0, &agentv1.Stop{Code: protocol.StopUnknownIdentity, Message: "no such plane, or another agent has joined it"}
	case code == domain.CodeInvalid:
		return 0, &agentv1.Stop{Code: protocol.StopUnsupported, Message: err.Error()}
	default:
		g.Logger.Warn("a session was not opened", "plane", id, "error", err)
		return 0, &agentv1.Stop{Code: protocol.StopUnavailable, Message: "the control plane cannot open a session now"}
	}
	for _, e := range out.Events {
		if opened, ok := e.Payload.(plane.SessionOpened); ok {
			return opened.Session, nil
		}
	}
	return 0, &agentv1.Stop{Code: protocol.StopUnavailable, Message: fmt.Sprintf("session %s was not opened", out.CommandID)}
}

func (g *Gateway) epoch() *agentv1.Epoch {
	return &agentv1.Epoch{Number: g.Epoch.Number, Id: g.Epoch.ID}
}

func keyText(key []byte) string { return base64.RawURLEncoding.EncodeToString(key) }

// queue is what waits for one agent. When it overflows it is emptied and says so: the session reads the stream again.
type queue struct {
	mu      sync.Mutex
	waiting []domain.Recorded
	limit   int
	lost    bool
	losses  int           // times that it overflowed
	ready   chan struct{} // capacity 1
}

func newQueue(limit int) *queue { return &queue{limit: limit, ready: make(chan struct{}, 1)} }

func (q *queue) put(e domain.Recorded) {
	q.mu.Lock()
	if len(q.waiting) >= q.limit {
		q.waiting, q.lost = nil, true
		q.losses++
	}
	if !q.lost {
		q.waiting = append(q.waiting, e)
	}
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take gives all that waits. lost says that something is missing before it, and that nothing waits.
func (q *queue) take() (events []domain.Recorded, lost bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	events, lost = q.waiting, q.lost
	q.waiting, q.lost = nil, false
	return events, lost
}
