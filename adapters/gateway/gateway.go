// Package gateway is what agents talk to: it serves the plane streams of the log over Connect and gRPC, one session an
// agent, and brings outcomes back as commands. It follows the log once for all planes.
package gateway

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"iter"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/tenure-dev/tenure/agent/protocol"
	"github.com/tenure-dev/tenure/agent/protocol/agentv1/agentv1connect"
	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/plane"
)

// Bus is the write side as the gateway needs it.
type Bus interface {
	Execute(ctx context.Context, call commands.Call) (commands.Outcome, error)
	State(ctx context.Context, stream string) (state any, revision int64, err error)
}

// Log is the feed of the log.
type Log interface {
	// Head is the position of the log's last event.
	Head(ctx context.Context) (commit uint64, err error)
	// Follow yields every event behind a position in log order, for ever; it ends with ctx.
	Follow(ctx context.Context, after uint64) iter.Seq2[domain.Delivery, error]
}

// Clock is the time, so that tests can advance it by hand.
type Clock interface {
	Now() time.Time
	After(d time.Duration) <-chan time.Time
}

// Config is what a Gateway is made of; all but Logger is required.
type Config struct {
	Bus   Bus
	Log   Log
	Clock Clock
	CA    *CA
	Epoch domain.Epoch
	// Planes lists the planes that may have an agent. It only says whom to look after: what is judged is read from the log.
	Planes func(ctx context.Context) ([]string, error)
	// Heartbeat is the interval asked of agents: 100 ms to 1 min.
	Heartbeat time.Duration
	Logger    *slog.Logger
}

// The bounds of one session: outcomes being brought to the log, and events that wait for a slow agent before it is caught
// up from the stream instead.
const (
	maxReports = 64
	maxWaiting = 4_096
	maxMessage = 4 << 20 // bytes
)

// Gateway serves agents. Run must be running.
type Gateway struct {
	Config
	events *domain.Registry

	mu       sync.Mutex
	sessions map[*session]bool
	seen     map[string]contact // by plane, since this gateway listens
	ended    context.Context    // when Run is over
	end      context.CancelFunc
	open     sync.WaitGroup
}

// contact is the last sign of life of a plane's agent.
type contact struct {
	session int64
	at      time.Time
}

// New makes a Gateway.
func New(c Config) (*Gateway, error) {
	if c.Bus == nil || c.Log == nil || c.Clock == nil || c.CA == nil || c.Planes == nil || c.Epoch.ID == "" {
		return nil, errors.New("gateway: Bus, Log, Clock, CA, Epoch and Planes are required")
	}
	if c.Heartbeat < 100*time.Millisecond || c.Heartbeat > time.Minute {
		return nil, errors.New("gateway: Heartbeat must be from 100 ms to 1 min")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{Config: c, events: domain.NewRegistry(plane.Events), sessions: map[*session]bool{}, seen: map[string]contact{}}
	g.ended, g.end = context.WithCancel(context.Background())
	return g, nil
}

// Handler serves the agents' protocol; it wants HTTP/2.
func (g *Gateway) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(agentv1connect.NewAgentServiceHandler(service{g}, connect.WithReadMaxBytes(maxMessage)))
	return mux
}

// Run follows the log and judges agents until ctx ends; then it ends all sessions and waits for them.
func (g *Gateway) Run(ctx context.Context) error {
	defer g.open.Wait()
	defer g.end()
	head, err := g.Log.Head(ctx)
	if err != nil {
		return err
	}
	judging := make(chan struct{})
	go func() { defer close(judging); g.judgeForEver(ctx) }()
	defer func() { <-judging }()
	for d, err := range g.Log.Follow(ctx, head) {
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if d.Kind == domain.DeliveredEvent {
			g.pass(d.Event)
		}
	}
	return nil
}

// pass hands an event of a plane's stream to the sessions of that plane.
func (g *Gateway) pass(e domain.Recorded) {
	category, id := domain.SplitStream(e.Stream)
	if category != plane.Aggregate.Category {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := range g.sessions {
		if s.plane == id {
			s.queue.put(e)
		}
	}
}

// NewJoinToken draws a token for a plane. The log gets the hash; the text is for whoever asked, once.
func (g *Gateway) NewJoinToken(planeID string) (text, hash string, err error) {
	t := protocol.Token{PlaneID: planeID, Fingerprint: protocol.CAFingerprint(g.CA.Certificate)}
	if _, err := rand.Read(t.Secret[:]); err != nil {
		return "", "", err
	}
	return t.Text(), secretHash(t.Secret[:]), nil
}

func secretHash(secret []byte) string {
	sum := sha256.Sum256(secret)
	return hex.EncodeToString(sum[:])
}

// system is the actor of what the gateway does by itself.
const system = "gateway"

// do sends a command under an id derived from what it is about, so that a repeat is the same command.
func (g *Gateway) do(ctx context.Context, c domain.Command, parts ...string) (commands.Outcome, error) {
	return g.Bus.Execute(ctx, commands.Call{Command: c, Actor: system, CommandID: domain.DeriveUUID(append([]string{system}, parts...)...).String()})
}

func (g *Gateway) state(ctx context.Context, id string) (plane.State, int64, error) {
	s, revision, err := g.Bus.State(ctx, plane.Aggregate.Stream(id))
	if err != nil {
		return plane.State{}, revision, err
	}
	return s.(plane.State), revision, nil
}
