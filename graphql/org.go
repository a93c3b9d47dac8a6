package graphql

import (
	"context"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/org"
	"github.com/tenure-dev/tenure/graphql/generated"
	"github.com/tenure-dev/tenure/graphql/view"
)

func (m mutation) RegisterOrg(ctx context.Context, in generated.RegisterOrgInput) (*view.OrgPayload, error) {
	return m.org(ctx, org.Register{Name: text(in.Name), Slug: text(in.Slug), ParentID: text(in.ParentID)},
		form{key: in.IdempotencyKey, expected: in.ExpectedRevision})
}

func (m mutation) RenameOrg(ctx context.Context, in generated.RenameOrgInput) (*view.OrgPayload, error) {
	return m.org(ctx, org.Rename{OrgID: in.OrgID, Name: in.Name}, form{in.IdempotencyKey, in.ExpectedRevision, "orgId"})
}

func (m mutation) org(ctx context.Context, c domain.Command, f form) (*view.OrgPayload, error) {
	o, answer, err := m.do(ctx, c, f)
	return &view.OrgPayload{Answer: answer, ID: o.ID}, err
}
