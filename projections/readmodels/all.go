package readmodels

import (
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/org"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/domain/tenant"
	"github.com/tenure-dev/tenure/domain/tier"
	"github.com/tenure-dev/tenure/projections"
)

// Each read model's table.
var (
	orgs         = Orgs.Table()
	tiers        = Tiers.Table()
	tierVersions = TierVersions.Table()
	tenants      = Tenants.Table()
	planes       = Planes.Table()
	operations   = Operations.Table()
	allSagas     = Sagas.Table()
	sagaSteps    = SagaSteps.Table()
	openSagas    = OpenSagas.Table()
)

// All is every table of the live group.
func All() []*projections.Table {
	return []*projections.Table{orgs, tiers, tierVersions, tenants, planes, operations, allSagas, sagaSteps, openSagas}
}

// Catalogs are those of the events that the read models fold.
func Catalogs() []domain.Catalog {
	return []domain.Catalog{org.Events, tier.Events, tenant.Events, plane.Events, saga.Catalog}
}
