package view

import (
	"context"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/tenant"
)

// Tenant is a tenant's row as the schema shows it.
type Tenant struct{ TenantRow }

func showTenant(r TenantRow) *Tenant { return &Tenant{r} }

// Region is null for any.
func (t *Tenant) Region() *string { return orNull(t.TenantRow.Region) }

// Tier is the version that the tenant has.
func (t *Tenant) Tier() *TenantTier { return &TenantTier{t.TenantRow} }

// Plane is where the tenant is; null before one is chosen.
func (t *Tenant) Plane(ctx context.Context) (*Plane, error) { return loadPlane(ctx, t.TenantRow.Plane) }

// Org is whose tenant it is.
func (t *Tenant) Org(ctx context.Context) (*Org, error) { return loadOrg(ctx, t.TenantRow.Org) }

// Saga is the one that changes the tenant at this moment, if any.
func (t *Tenant) Saga(ctx context.Context) (*Saga, error) {
	return sagaOr(ctx, Starting{ID: t.TenantRow.Saga, Name: changeOf(t.Phase), Tenant: t.ID, Org: t.TenantRow.Org})
}

// changeOf is the saga that holds a tenant's change slot in a phase.
func changeOf(phase string) string {
	if phase == string(tenant.Leaving) {
		return tenant.Offboarding
	}
	return tenant.Onboarding
}

// Causes are why it is suspended, or shall be.
func (t *Tenant) Causes() []*SuspensionCause {
	all := make([]*SuspensionCause, len(t.TenantRow.Causes))
	for i, c := range t.TenantRow.Causes {
		all[i] = &SuspensionCause{c}
	}
	return all
}

// Rejection is why it was rejected, if it was.
func (t *Tenant) Rejection() *Rejection {
	if t.RejectedCode == "" {
		return nil
	}
	return &Rejection{t.RejectedCode, t.RejectedStep}
}

// TenantTier is a version of a tier, as it was when the tenant took it.
type TenantTier struct{ tenant TenantRow }

// Key is the tier's.
func (t *TenantTier) Key() string { return t.tenant.TierKey }

// Version is the tier's.
func (t *TenantTier) Version() int64 { return t.tenant.TierVersion }

// Isolation is how the tenant is kept apart.
func (t *TenantTier) Isolation() string { return t.tenant.Isolation }

// Limits are those on the tenant.
func (t *TenantTier) Limits() []UnitAmount { return t.tenant.Limits }

// Cost is what it takes of its data plane's capacity.
func (t *TenantTier) Cost() []UnitAmount { return t.tenant.Cost }

// Latest is the tier as of its latest version.
func (t *TenantTier) Latest(ctx context.Context) (*Tier, error) {
	return loadTier(ctx, t.tenant.TierKey)
}

// SuspensionCause is one reason for which a tenant is suspended.
type SuspensionCause struct{ CauseRow }

// Reason is in the words of who added the cause.
func (c *SuspensionCause) Reason(ctx context.Context) (*string, error) {
	return Of(ctx).unseal(ctx, c.CauseRow.Reason)
}

// Rejection is why a tenant was rejected.
type Rejection struct{ Code, Step string }

// TenantByID gives one tenant, or nil.
func TenantByID(ctx context.Context, id string) (*Tenant, error) {
	if err := domain.CheckID("id", domain.TenantID, id); err != nil {
		return nil, err
	}
	return loadTenant(ctx, id)
}

func tenantsOf(j *joins) *table[TenantRow] { return &j.tenants }

var tenantList = list[TenantRow, Tenant]{"tenants", 1, func(r TenantRow) []string { return []string{r.ID} }, tenantsOf, showTenant}

// Tenants gives a page of the tenants that the filter lets through.
func Tenants(ctx context.Context, p Page, f TenantFilter) (*TenantConnection, error) {
	return tenantList.page(ctx, p, func(s Snapshot, after []string, limit int) ([]TenantRow, error) {
		return s.PageOfTenants(ctx, f, after[0], limit)
	})
}

func loadTenant(ctx context.Context, id string) (*Tenant, error) {
	return load(ctx, tenantsOf, id, showTenant)
}

// TenantPayload answers a mutation of a tenant.
type TenantPayload struct {
	Answer
	ID     string
	Starts Starting // the saga that the mutation started, if any
}

// Tenant is the tenant as of the mutation or later.
func (p *TenantPayload) Tenant(ctx context.Context) (*Tenant, error) {
	if p.refused() {
		return nil, nil
	}
	return loadTenant(ctx, p.ID)
}

// Saga is the saga that the mutation started.
func (p *TenantPayload) Saga(ctx context.Context) (*Saga, error) {
	if p.refused() {
		return nil, nil
	}
	return sagaOr(ctx, p.Starts)
}
