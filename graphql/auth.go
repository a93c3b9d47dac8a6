package graphql

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"github.com/99designs/gqlgen/graphql/handler/transport"

	"github.com/tenure-dev/tenure/domain"
)

// Authenticator says for whom a bearer token speaks.
type Authenticator interface {
	// Authenticate gives the opaque id of the actor, or false. It does not say why, and takes no longer for one token than
	// for another.
	Authenticate(ctx context.Context, token string) (actor string, ok bool)
}

// StaticToken lets in whoever has the one token, as that actor. An empty token lets nobody in.
func StaticToken(token, actor string) Authenticator {
	return staticToken{sha256.Sum256([]byte(token)), token != "", actor}
}

type staticToken struct {
	hash  [sha256.Size]byte
	set   bool
	actor string
}

func (t staticToken) Authenticate(_ context.Context, token string) (string, bool) {
	hash := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(hash[:], t.hash[:]) != 1 || !t.set {
		return "", false
	}
	return t.actor, true
}

type actorKey struct{}

func withActor(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

// actorOf is who asks; the handler lets nobody past who is not named.
func actorOf(ctx context.Context) string {
	actor, _ := ctx.Value(actorKey{}).(string)
	return actor
}

// bearer is the token of an Authorization header's value.
func bearer(header string) (token string, ok bool) {
	scheme, token, found := strings.Cut(strings.TrimSpace(header), " ")
	return strings.TrimSpace(token), found && strings.EqualFold(scheme, "Bearer")
}

// authenticate names the caller of an HTTP request. A browser's WebSocket cannot have the header: it is let through without
// a name, and authenticated by its first message.
func authenticate(a Authenticator, r *http.Request) (ctx context.Context, ok bool) {
	header := r.Header.Get("Authorization")
	if header == "" && isUpgrade(r) {
		return r.Context(), true
	}
	token, ok := bearer(header)
	if !ok {
		return r.Context(), false
	}
	actor, ok := a.Authenticate(r.Context(), token)
	return withActor(r.Context(), actor), ok
}

// unauthorized is the close code of graphql-transport-ws for a client that may not connect; clients do not try again.
const unauthorized = 4401

// initWebsocket authenticates a WebSocket by connection_init's payload, { "authorization": "Bearer …" }, unless its
// handshake had the header.
func initWebsocket(a Authenticator) transport.WebsocketInitFunc {
	return func(ctx context.Context, payload transport.InitPayload) (context.Context, *transport.InitPayload, error) {
		if actorOf(ctx) != "" {
			return ctx, nil, nil
		}
		if token, ok := bearer(payload.Authorization()); ok {
			if actor, ok := a.Authenticate(ctx, token); ok {
				return withActor(ctx, actor), nil, nil
			}
		}
		ctx = transport.WithWebsocketCloseCode(transport.AppendCloseReason(ctx, "Unauthorized"), unauthorized)
		return ctx, nil, unauthenticated()
	}
}

func unauthenticated() *domain.Error {
	return &domain.Error{Code: domain.CodeUnauthenticated,
		Message: "the bearer token is missing or wrong: send the header Authorization: Bearer TOKEN"}
}
