package graphql

import (
	"context"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/tier"
	"github.com/tenure-dev/tenure/graphql/generated"
	"github.com/tenure-dev/tenure/graphql/view"
)

func (m mutation) PublishTier(ctx context.Context, in generated.PublishTierInput) (*view.TierPayload, error) {
	quotas, err1 := units("quotas", in.Quotas)
	targets, err2 := units("targets", in.Targets)
	cost, err3 := units("cost", in.Cost)
	if err := domain.FirstError(err1, err2, err3); err != nil {
		mend, err := userErrors(err, "tierKey")
		return &view.TierPayload{Answer: view.Answer{UserErrors: mend}}, err
	}
	return m.tier(ctx, tier.Publish{TierKey: in.TierKey, Terms: tier.Terms{Name: text(in.Name), Isolation: word(in.Isolation),
		Endpoint: word(in.Endpoint), Nodes: word(in.Nodes), Quotas: quotas, Features: in.Features, Targets: targets, Cost: cost}},
		form{in.IdempotencyKey, in.ExpectedRevision, "tierKey"})
}

func (m mutation) DeprecateTier(ctx context.Context, in generated.DeprecateTierInput) (*view.TierPayload, error) {
	return m.tier(ctx, tier.Deprecate{TierKey: in.TierKey}, form{in.IdempotencyKey, in.ExpectedRevision, "tierKey"})
}

func (m mutation) tier(ctx context.Context, c domain.Command, f form) (*view.TierPayload, error) {
	o, answer, err := m.do(ctx, c, f)
	return &view.TierPayload{Answer: answer, Key: o.ID}, err
}
