package graphql

import (
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/graphql/generated"
	"github.com/tenure-dev/tenure/graphql/view"
)

// costs is what lists cost: what is asked of a node, times the size of the page.
func costs() (c generated.ComplexityRoot) {
	c.Query.Orgs = func(node int, first int64, _, _ *string, _ *domain.Position) int { return pageOf(node, first) }
	c.Query.Tiers = func(node int, first int64, _ *string, _ *domain.Position) int { return pageOf(node, first) }
	c.Query.Tenants = func(node int, first int64, _, _, _, _, _ *string, _ *domain.Position) int { return pageOf(node, first) }
	c.Query.Planes = func(node int, first int64, _, _ *string, _ *domain.Position) int { return pageOf(node, first) }
	c.Query.Sagas = func(node int, first int64, _, _, _, _ *string, _ *domain.Position) int { return pageOf(node, first) }
	c.Query.Sinks = func(node int, first int64, _ *string, _ *domain.Position) int { return pageOf(node, first) }
	c.Sink.Parked = func(node int, first int64, _ *string) int { return pageOf(node, first) }
	c.Sink.Deliveries = func(node int, first int64, _ *string) int { return pageOf(node, first) }
	return c
}

func pageOf(node int, first int64) int { return node * int(min(max(first, 1), view.MaxPage)) }
