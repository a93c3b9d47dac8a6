package graphql

import (
	"context"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/graphql/generated"
	"github.com/tenure-dev/tenure/graphql/view"
)

// root is what gqlgen resolves from. Objects resolve their own fields: see package view.
type root struct{ Config }

func (r *root) Mutation() generated.MutationResolver         { return mutation{r.Config} }
func (r *root) Query() generated.QueryResolver               { return query{r.Config} }
func (r *root) Subscription() generated.SubscriptionResolver { return subscription{r.Config} }

// query resolves the fields of Query. What atLeast asks for has been seen to by the operation's session.
type query struct{ Config }

func (query) Org(ctx context.Context, id string, _ *domain.Position) (*view.Org, error) {
	return view.OrgByID(ctx, id)
}

func (query) Orgs(ctx context.Context, first int64, after, parentID *string, _ *domain.Position) (*view.OrgConnection, error) {
	return view.Orgs(ctx, view.Page{First: first, After: after}, text(parentID))
}

func (query) Tier(ctx context.Context, key string, _ *domain.Position) (*view.Tier, error) {
	return view.TierByKey(ctx, key)
}

func (query) Tiers(ctx context.Context, first int64, after *string, _ *domain.Position) (*view.TierConnection, error) {
	return view.Tiers(ctx, view.Page{First: first, After: after})
}

func (query) Tenant(ctx context.Context, id string, _ *domain.Position) (*view.Tenant, error) {
	return view.TenantByID(ctx, id)
}

func (query) Tenants(ctx context.Context, first int64, after, orgID, planeID, phase, slug *string, _ *domain.Position) (*view.TenantConnection, error) {
	return view.Tenants(ctx, view.Page{First: first, After: after},
		view.TenantFilter{Org: text(orgID), Plane: text(planeID), Phase: word(phase), Slug: text(slug)})
}

func (query) Plane(ctx context.Context, id string, _ *domain.Position) (*view.Plane, error) {
	return view.PlaneByID(ctx, id)
}

func (query) Planes(ctx context.Context, first int64, after, region *string, _ *domain.Position) (*view.PlaneConnection, error) {
	return view.Planes(ctx, view.Page{First: first, After: after}, text(region))
}

func (query) Saga(ctx context.Context, id string, _ *domain.Position) (*view.Saga, error) {
	return view.SagaByID(ctx, id)
}

func (query) Sagas(ctx context.Context, first int64, after, tenantID, state, name *string, _ *domain.Position) (*view.SagaConnection, error) {
	return view.Sagas(ctx, view.Page{First: first, After: after},
		view.SagaFilter{Tenant: text(tenantID), State: word(state), Name: text(name)})
}

func (q query) Sink(ctx context.Context, name string, atLeast *domain.Position) (*view.Sink, error) {
	if err := q.ofThisLog(atLeast); err != nil {
		return nil, err
	}
	return view.SinkByName(ctx, q.Config.Sinks, name)
}

func (q query) Sinks(ctx context.Context, first int64, after *string, atLeast *domain.Position) (*view.SinkConnection, error) {
	if err := q.ofThisLog(atLeast); err != nil {
		return nil, err
	}
	return view.Sinks(ctx, q.Config.Sinks, view.Page{First: first, After: after})
}

// ofThisLog refuses a position of another log. Sinks have nothing to wait for.
func (q query) ofThisLog(atLeast *domain.Position) error {
	if atLeast == nil {
		return nil
	}
	return view.CheckEpoch(q.Live, *atLeast)
}
