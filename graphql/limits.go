package graphql

import (
	"context"
	"strings"

	"github.com/99designs/gqlgen/complexity"
	gql "github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/errcode"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/parser"
)

// The limits of one document. They are far above what a page of a user interface needs.
const (
	maxTokens     = 10_000
	maxDepth      = 15 // of nested fields; introspection has its own limit in the validator
	maxAliases    = 100
	maxFields     = 600    // with every fragment written out: the validator compares each with each
	maxComplexity = 25_000 // fields that may be resolved: see costs
)

// limits refuses documents that are too deep or too wide before they are validated, and operations that are too dear before
// they are executed.
type limits struct {
	known  gql.Cache[*ast.QueryDocument] // of documents that have passed
	schema gql.ExecutableSchema
}

// ExtensionName implements gqlgen's HandlerExtension.
func (*limits) ExtensionName() string { return "limits" }

// Validate implements gqlgen's HandlerExtension.
func (l *limits) Validate(schema gql.ExecutableSchema) error {
	l.schema = schema
	return nil
}

// MutateOperationParameters implements gqlgen's OperationParameterMutator. What does not parse is left to gqlgen to refuse.
func (l *limits) MutateOperationParameters(ctx context.Context, params *gql.RawParams) *gqlerror.Error {
	if _, passed := l.known.Get(ctx, params.Query); passed {
		return nil
	}
	doc, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: params.Query}, maxTokens)
	if err != nil {
		return nil
	}
	m := measurer{doc.Fragments, map[string]measure{}}
	var total measure
	for _, op := range doc.Operations {
		total = total.with(m.of(op.SelectionSet))
	}
	switch {
	case total.depth > maxDepth:
		return refuse("the operation is more than %d fields deep", maxDepth)
	case total.aliases > maxAliases:
		return refuse("the document has more than %d aliases", maxAliases)
	case total.fields > maxFields:
		return refuse("the document has more than %d fields", maxFields)
	}
	return nil
}

// MutateOperationContext implements gqlgen's OperationContextMutator.
func (l *limits) MutateOperationContext(ctx context.Context, op *gql.OperationContext) *gqlerror.Error {
	if complexity.Calculate(ctx, l.schema, op.Operation, op.Variables) > maxComplexity {
		return refuse("the operation asks for more than %d fields; ask for smaller pages", maxComplexity)
	}
	return nil
}

func refuse(message string, limit int) *gqlerror.Error {
	e := gqlerror.Errorf(message, limit)
	errcode.Set(e, errcode.ValidationFailed)
	return e
}

type measure struct{ depth, aliases, fields int }

// with adds what stands beside it; sums end a little above their limits.
func (m measure) with(other measure) measure {
	return measure{max(m.depth, other.depth), min(m.aliases+other.aliases, maxAliases+1), min(m.fields+other.fields, maxFields+1)}
}

// measurer measures each fragment once, however often it is spread, so that fragments of fragments cost nothing. One that
// spreads itself counts as empty there; the validator refuses it.
type measurer struct {
	fragments ast.FragmentDefinitionList
	known     map[string]measure
}

func (m measurer) of(set ast.SelectionSet) (total measure) {
	for _, selection := range set {
		switch s := selection.(type) {
		case *ast.Field:
			one := m.of(s.SelectionSet).with(measure{fields: 1})
			one.depth++
			if strings.HasPrefix(s.Name, "__") {
				one.depth = 1
			}
			if s.Alias != s.Name {
				one.aliases++
			}
			total = total.with(one)
		case *ast.InlineFragment:
			total = total.with(m.of(s.SelectionSet))
		case *ast.FragmentSpread:
			total = total.with(m.fragment(s.Name))
		}
	}
	return total
}

func (m measurer) fragment(name string) measure {
	size, known := m.known[name]
	if f := m.fragments.ForName(name); !known && f != nil {
		m.known[name] = measure{}
		size = m.of(f.SelectionSet)
		m.known[name] = size
	}
	return size
}
