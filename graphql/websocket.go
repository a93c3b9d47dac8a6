package graphql

import (
	"context"
	"net/http"
	"time"

	"github.com/99designs/gqlgen/graphql/handler/transport"
)

const (
	initTimeout  = 10 * time.Second // for a WebSocket's first message
	pingInterval = 15 * time.Second // a WebSocket that leaves two pings unanswered is closed; server-sent events get comments
	writeTimeout = 10 * time.Second // for one message; a peer that takes longer is cut off
)

// promptSockets are WebSockets on which no message waits for ever: gqlgen writes without a deadline, and a peer that reads
// nothing would hold its subscriptions' goroutines. The Origin, if there is one, must be the server's own.
type promptSockets struct {
	transport.CoderWebsocketImplementation
}

// Accept implements gqlgen's WebsocketImplementation.
func (s promptSockets) Accept(w http.ResponseWriter, r *http.Request, o transport.WebsocketAcceptOptions) (transport.WebsocketConn, error) {
	c, err := s.CoderWebsocketImplementation.Accept(w, r, o)
	if err != nil {
		return nil, err
	}
	return promptSocket{c.(socket)}, nil
}

// socket is all that gqlgen can do with a connection.
type socket interface {
	transport.WebsocketConn
	transport.WebsocketReadLimiter
	transport.WebsocketReadDeadliner
}

type promptSocket struct{ socket }

func (s promptSocket) WriteJSON(v any) error {
	late := time.AfterFunc(writeTimeout, func() { _ = s.Close() })
	defer late.Stop()
	return s.socket.WriteJSON(v)
}

type websocketKey struct{}

func withWebsocket(ctx context.Context) context.Context {
	return context.WithValue(ctx, websocketKey{}, true)
}

// overWebsocket tells whether an operation came by WebSocket.
func overWebsocket(ctx context.Context) bool { return ctx.Value(websocketKey{}) != nil }
