package graphql

import (
	"context"
	"errors"
	"regexp"
	"strings"

	gql "github.com/99designs/gqlgen/graphql"

	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/graphql/view"
)

// mutation resolves the fields of Mutation; the aggregates' files have one method for each.
type mutation struct{ Config }

// form is what every input has, and the name of the field that says what the command is for; empty for a command that
// creates something.
type form struct {
	key      string
	expected *int64
	target   string
}

// do gives a command to the Bus. What the caller can mend comes back in the answer's userErrors; anything else that goes
// wrong is an error. What is read from here on holds the command's events.
func (m mutation) do(ctx context.Context, c domain.Command, f form) (commands.Outcome, view.Answer, error) {
	o, err := m.Commands.Execute(ctx, commands.Call{Command: c, Actor: actorOf(ctx), Key: f.key, Expected: f.expected,
		Traceparent: traceparent(ctx)})
	if err != nil {
		mend, err := userErrors(err, f.target)
		return o, view.Answer{UserErrors: mend}, err
	}
	view.Require(ctx, o.Position)
	return o, view.Answer{Position: &o.Position, Repeated: o.Repeated, UserErrors: []*view.UserError{}}, nil
}

// userErrors is what the caller can mend, or the error if there is nothing.
func userErrors(err error, target string) ([]*view.UserError, error) {
	var e *domain.Error
	if !errors.As(err, &e) {
		return nil, err
	}
	if e.Code == domain.CodeNotAllowed && e.Phase == absent && target != "" {
		e = domain.NotFound(target, "names nothing that exists")
	}
	u := &view.UserError{Message: e.Public(), Code: wordOf(e.Code), Path: pathOf(e.Field, target)}
	switch e.Code {
	case domain.CodeNotAllowed:
		u.Phase, u.Allowed = &e.Phase, e.Allowed
	case domain.CodeConflict:
		u.Expected, u.Actual = &e.Expected, &e.Actual
	case domain.CodeInvalid, domain.CodeNotFound, domain.CodeAlreadyExists, domain.CodeKeyReused, domain.CodeQuotaExceeded,
		domain.CodeCapacityExhausted, domain.CodeForbidden, domain.CodeStale:
	default:
		return nil, err
	}
	return []*view.UserError{u}, nil
}

// absent is how domain.NotAllowed names the phase of what does not exist.
const absent = "absent"

// pathOf leads to the field at fault: the error's own or, if it has none, the one that names what the command is for.
func pathOf(field, target string) []string {
	if field == "" {
		field = target
	}
	if field == "" {
		return []string{"input"}
	}
	return append([]string{"input"}, strings.Split(field, ".")...)
}

var traceForm = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// traceparent is the W3C trace context of the request, if it has a proper one.
func traceparent(ctx context.Context) string {
	if t := gql.GetOperationContext(ctx).Headers.Get("Traceparent"); traceForm.MatchString(t) {
		return t
	}
	return ""
}

// units reads a list of amounts; a unit that stands twice is refused.
func units(field string, list []*view.UnitAmount) (domain.Units, error) {
	if list == nil {
		return nil, nil
	}
	all := make(domain.Units, len(list))
	for _, u := range list {
		if _, twice := all[u.Unit]; twice {
			return nil, domain.Invalid(field, "must not name a unit twice")
		}
		all[u.Unit] = u.Amount
	}
	return all, nil
}

// text is what an optional field holds; left out, null and empty are the same.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// word is text of an enum. gqlgen takes those of variables in any case.
func word(s *string) string { return strings.ToLower(text(s)) }
