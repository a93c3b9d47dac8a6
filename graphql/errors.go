package graphql

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"

	gql "github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/tenure-dev/tenure/domain"
)

// retryAfterMs is what a caller is told to wait before it asks a read side again that was behind.
const retryAfterMs = 500

// faults maps errors to what a caller may see, and logs what it may not.
type faults struct{ log *slog.Logger }

// present is what stands in errors[]. It never changes err itself: gqlgen looks at it again to choose the protocol's message.
func (f faults) present(ctx context.Context, err error) *gqlerror.Error {
	out := &gqlerror.Error{Path: gql.GetPath(ctx)}
	var ours *domain.Error
	var theirs *gqlerror.Error
	if errors.As(err, &theirs) {
		out.Path, out.Locations = theirs.Path, theirs.Locations
	}
	switch {
	case errors.As(err, &ours):
		out.Message, out.Extensions = f.public(ctx, ours)
	case theirs == nil || theirs.Message == "must not be null":
		out.Message, out.Extensions = f.public(ctx, hidden(err))
	default: // gqlgen's own word on a document, its variables or its arguments
		out.Message, out.Extensions = badDocument(theirs)
		if len(out.Path) > 0 && out.Path[0] == ast.PathName("variable") {
			out.Path = nil
		}
	}
	return out
}

func (f faults) public(ctx context.Context, e *domain.Error) (string, map[string]any) {
	ext := map[string]any{"code": wordOf(e.Code)}
	switch e.Code {
	case domain.CodeInternal:
		id := f.report(ctx, e)
		ext["id"] = id
		return "something went wrong on our side; the log has it under " + id, ext
	case domain.CodeLagging:
		ext["retryAfterMs"] = retryAfterMs
	case domain.CodeUnavailable:
		ext["retryAfterMs"] = retryAfterMs
		f.log.WarnContext(ctx, "a request could not be served", "error", e)
	}
	if e.Field != "" {
		ext["field"] = e.Field
	}
	return e.Public(), ext
}

// report logs a fault under an id that the caller is given.
func (f faults) report(ctx context.Context, err error) string {
	id := rand.Text()
	f.log.ErrorContext(ctx, "a request failed", "id", id, "path", gql.GetPath(ctx).String(), "error", err)
	return id
}

// recovered turns a panic into an internal error.
func (f faults) recovered(_ context.Context, p any) error {
	return &domain.Error{Code: domain.CodeInternal, Message: "panic", Cause: fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
}

// badDocument says what is wrong with a document, its variables or its arguments. Hints at names that the caller did not
// write are cut off. Where gqlgen knows the field it leads to it from "variable" or from the field that has the argument.
func badDocument(e *gqlerror.Error) (string, map[string]any) {
	message, _, _ := strings.Cut(e.Message, " Did you mean ")
	ext := map[string]any{"code": wordOf(domain.CodeInvalid)}
	if len(e.Path) > 1 {
		field := e.Path[1:].String()
		ext["field"] = field
		message = field + " " + message
	}
	return message, ext
}

// wordOf is a code as GraphQL writes it.
func wordOf(c domain.Code) string { return strings.ToUpper(string(c)) }

// coded marks what a resolver returns, so that an uncoded fault is told from gqlgen's own word on the input.
func coded(ctx context.Context, next gql.Resolver) (any, error) {
	v, err := next(ctx)
	if err == nil {
		return v, nil
	}
	var ours *domain.Error
	if errors.As(err, &ours) {
		return v, err
	}
	return v, hidden(err)
}

// hidden is an error of which the caller sees nothing but an id; a call that ended before it was served is unavailable.
func hidden(err error) *domain.Error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return domain.Unavailable("the request ended before it was served", err)
	}
	return &domain.Error{Code: domain.CodeInternal, Message: "internal", Cause: err}
}
