package graphql

import (
	"context"

	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/tenant"
	"github.com/tenure-dev/tenure/graphql/generated"
	"github.com/tenure-dev/tenure/graphql/view"
)

func (m mutation) RequestTenant(ctx context.Context, in generated.RequestTenantInput) (*view.TenantPayload, error) {
	return m.tenant(ctx, tenant.Request{OrgID: in.OrgID, Slug: in.Slug, TierKey: in.TierKey, Name: text(in.Name), Region: text(in.Region)},
		form{key: in.IdempotencyKey, expected: in.ExpectedRevision})
}

func (m mutation) SuspendTenant(ctx context.Context, in generated.SuspendTenantInput) (*view.TenantPayload, error) {
	return m.tenant(ctx, tenant.Suspend{TenantID: in.TenantID, Cause: causeOf(in.Cause), Reason: domain.Clear(text(in.Reason))},
		form{in.IdempotencyKey, in.ExpectedRevision, "tenantId"})
}

func (m mutation) ResumeTenant(ctx context.Context, in generated.ResumeTenantInput) (*view.TenantPayload, error) {
	return m.tenant(ctx, tenant.Resume{TenantID: in.TenantID, Cause: causeOf(in.Cause), Reason: domain.Clear(text(in.Reason))},
		form{in.IdempotencyKey, in.ExpectedRevision, "tenantId"})
}

func (m mutation) OffboardTenant(ctx context.Context, in generated.OffboardTenantInput) (*view.TenantPayload, error) {
	return m.tenant(ctx, tenant.Offboard{TenantID: in.TenantID, Reason: domain.Clear(text(in.Reason))},
		form{in.IdempotencyKey, in.ExpectedRevision, "tenantId"})
}

func (m mutation) tenant(ctx context.Context, c domain.Command, f form) (*view.TenantPayload, error) {
	o, answer, err := m.do(ctx, c, f)
	return &view.TenantPayload{Answer: answer, ID: o.ID, Starts: startedBy(o)}, err
}

// startedBy is the saga that a command's events start or, for an offboarding that has to wait, turn back.
func startedBy(o commands.Outcome) (s view.Starting) {
	for _, e := range o.Events {
		id := tenant.StartedSaga(e.Payload)
		if id == "" {
			continue
		}
		s = view.Starting{ID: id, Tenant: o.ID, Org: e.Org}
		switch e.Payload.(type) {
		case tenant.Requested, tenant.OffboardingRequested:
			s.Name = tenant.Onboarding
		case tenant.SuspensionDue:
			s.Name = tenant.Suspension
		case tenant.ResumptionDue:
			s.Name = tenant.Resumption
		case tenant.OffboardingStarted:
			s.Name = tenant.Offboarding
		}
	}
	return s
}

// causeOf is the zero cause, the operator's own, where none is named.
func causeOf(in *generated.SuspensionCauseInput) tenant.Cause {
	if in == nil {
		return tenant.Cause{}
	}
	return tenant.Cause{Kind: in.Kind, Reference: in.Reference}
}
