package graphql

import (
	"context"

	gql "github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/handler/transport"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/graphql/view"
)

// sessions gives each operation one snapshot to read in, and each answer the position that it is as of.
type sessions struct {
	reads  Reads
	live   Live
	sealer Sealer
	faults faults
}

// ExtensionName implements gqlgen's HandlerExtension.
func (sessions) ExtensionName() string { return "sessions" }

// Validate implements gqlgen's HandlerExtension.
func (sessions) Validate(gql.ExecutableSchema) error { return nil }

// InterceptOperation implements gqlgen's OperationInterceptor.
func (s sessions) InterceptOperation(ctx context.Context, next gql.OperationHandler) gql.ResponseHandler {
	return next(view.With(ctx, view.NewSession(s.reads, s.live, s.sealer, demanded(ctx))))
}

// InterceptResponse implements gqlgen's ResponseInterceptor: it runs around the fields of a query or a mutation, and of each
// event of a subscription.
func (s sessions) InterceptResponse(ctx context.Context, next gql.ResponseHandler) *gql.Response {
	session := view.Of(ctx)
	if session == nil { // the operation was refused
		return next(ctx)
	}
	defer session.End() // for a panic
	answer := next(ctx)
	if at, read := session.End(); read && answer != nil {
		answer.Extensions["position"] = at.String()
	}
	if answer == nil {
		return s.last(ctx, session)
	}
	return answer
}

// last is what a subscriber is told when its subscription ends before its time: an error message over WebSocket, an answer
// that holds nothing but the error as a server-sent event.
func (s sessions) last(ctx context.Context, session *view.Session) *gql.Response {
	err := session.Fault()
	if err == nil {
		return nil
	}
	e := s.faults.present(ctx, err)
	if overWebsocket(ctx) {
		transport.AddSubscriptionError(ctx, e)
		return nil
	}
	return &gql.Response{Errors: gqlerror.List{e}}
}

// demanded is the highest position that a query's fields ask for: they all read in one snapshot. One that is no position is
// left to its field to refuse.
func demanded(ctx context.Context) (highest domain.Position) {
	op := gql.GetOperationContext(ctx)
	if op.Operation.Operation != ast.Query {
		return highest
	}
	for _, f := range gql.CollectFields(op, op.Operation.SelectionSet, []string{"Query"}) {
		text, _ := f.ArgumentMap(op.Variables)["atLeast"].(string)
		if p, err := domain.ParsePosition(text); err == nil && (p.Commit >= highest.Commit || p.Epoch != highest.Epoch) {
			highest = p
		}
	}
	return highest
}
