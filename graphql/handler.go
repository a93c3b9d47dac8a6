package graphql

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	gql "github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/handler"
	"github.com/99designs/gqlgen/graphql/handler/extension"
	"github.com/99designs/gqlgen/graphql/handler/lru"
	"github.com/99designs/gqlgen/graphql/handler/transport"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/graphql/generated"
)

// Config is what a Handler is made of. All ports are required but Sinks.
type Config struct {
	Commands Commander
	Sagas    Sagas
	Reads    Reads
	Live     Live
	Sealer   Sealer
	Tokens   Tokens
	Sinks    SinkReader // nil if no sinks are configured
	Auth     Authenticator

	Logger        *slog.Logger // slog.Default() if nil
	Introspection bool         // whether callers may ask for the schema
	// After tells when a duration has passed; time.After if nil.
	After func(time.Duration) <-chan time.Time
}

// Handler serves the GraphQL API: queries and mutations by POST, subscriptions by WebSocket and by POST with
// Accept: text/event-stream.
type Handler struct {
	auth   Authenticator
	faults faults
	server *handler.Server

	base    context.Context // of every request; ends with Close
	end     context.CancelFunc
	mu      sync.Mutex // guards closed, and running.Add against running.Wait
	closed  bool
	running sync.WaitGroup
}

// NewHandler makes a Handler. It panics if a port is missing: that is a mistake in the program.
func NewHandler(c Config) *Handler {
	if c.Commands == nil || c.Sagas == nil || c.Reads == nil || c.Live == nil || c.Sealer == nil || c.Tokens == nil || c.Auth == nil {
		panic("graphql: a port is missing in the Config")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Sinks == nil {
		c.Sinks = noSinks{}
	}
	if c.After == nil {
		c.After = time.After
	}
	h := &Handler{auth: c.Auth, faults: faults{c.Logger}}
	h.base, h.end = context.WithCancel(context.Background())
	h.server = newServer(c, h.faults)
	return h
}

func newServer(c Config, f faults) *handler.Server {
	s := handler.New(generated.NewExecutableSchema(generated.Config{Resolvers: &root{c}, Complexity: costs()}))
	s.AddTransport(transport.Websocket{Implementation: promptSockets{}, InitFunc: initWebsocket(c.Auth),
		InitTimeout: initTimeout, PingPongInterval: pingInterval})
	s.AddTransport(transport.SSE{KeepAlivePingInterval: pingInterval}) // before POST, which does not look at Accept
	s.AddTransport(transport.POST{})
	s.SetParserTokenLimit(maxTokens)
	s.SetDisableSuggestion(true)
	known := shortDocuments{lru.New[*ast.QueryDocument](256)}
	s.SetQueryCache(known)
	s.SetErrorPresenter(f.present)
	s.SetRecoverFunc(f.recovered)
	if c.Introspection {
		s.Use(extension.Introspection{})
	}
	s.Use(&limits{known: known})
	s.Use(sessions{c.Reads, c.Live, c.Sealer, f})
	s.AroundFields(coded)
	return s
}

// ServeHTTP lets in who has a token, bounds the request, and leaves the rest to gqlgen.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !h.begin() {
		h.refuse(w, r, http.StatusServiceUnavailable, domain.Unavailable("the server is going down", nil))
		return
	}
	defer h.running.Done()
	ctx, ok := authenticate(h.auth, r)
	if !ok {
		w.Header().Set("WWW-Authenticate", "Bearer")
		h.refuse(w, r, http.StatusUnauthorized, unauthenticated())
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.base, cancel)()
	r = r.WithContext(ctx)
	if isUpgrade(r) {
		if !sameOrigin(r) {
			h.refuse(w, r, http.StatusForbidden, &domain.Error{Code: domain.CodeForbidden, Message: "pages of another origin may not connect"})
			return
		}
		h.server.ServeHTTP(w, r.WithContext(withWebsocket(ctx)))
		return
	}
	if status, err := takeBody(w, r); err != nil {
		h.refuse(w, r, status, err)
		return
	}
	p := newPromptWriter(w)
	defer p.close()
	h.server.ServeHTTP(p, r)
}

func (h *Handler) begin() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.running.Add(1)
	return true
}

// Close ends every subscription and waits until all requests have been answered, or ctx has ended. It comes before
// http.Server.Shutdown, which waits for subscriptions and knows nothing of WebSockets.
func (h *Handler) Close(ctx context.Context) error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.end()
	idle := make(chan struct{})
	go func() { h.running.Wait(); close(idle) }()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// shortDocuments keeps parsed documents by their text, but for long ones, which no front end sends again and again.
type shortDocuments struct{ gql.Cache[*ast.QueryDocument] }

func (c shortDocuments) Add(ctx context.Context, text string, doc *ast.QueryDocument) {
	if len(text) <= 16<<10 {
		c.Cache.Add(ctx, text, doc)
	}
}

var _ http.Handler = (*Handler)(nil)

const (
	maxBody     = 1 << 20          // bytes of a request's body
	maxDrain    = 16 << 20         // bytes of a refused body that are read away, so that the client gets to read the answer
	bodyTimeout = 30 * time.Second // for all of a body
)
