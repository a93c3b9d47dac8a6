package view

import (
	"context"

	"github.com/tenure-dev/tenure/domain"
)

// Tier is a tier's row as the schema shows it.
type Tier struct{ TierRow }

func showTier(r TierRow) *Tier { return &Tier{r} }

// ID is the key.
func (t *Tier) ID() string { return t.Key }

// TierByKey gives one tier, or nil.
func TierByKey(ctx context.Context, key string) (*Tier, error) {
	if err := domain.CheckSlug("key", key); err != nil {
		return nil, err
	}
	return loadTier(ctx, key)
}

func tiersOf(j *joins) *table[TierRow] { return &j.tiers }

var tierList = list[TierRow, Tier]{"tiers", 1, func(r TierRow) []string { return []string{r.Key} }, tiersOf, showTier}

// Tiers gives a page of all tiers.
func Tiers(ctx context.Context, p Page) (*TierConnection, error) {
	return tierList.page(ctx, p, func(s Snapshot, after []string, limit int) ([]TierRow, error) {
		return s.PageOfTiers(ctx, after[0], limit)
	})
}

func loadTier(ctx context.Context, key string) (*Tier, error) {
	return load(ctx, tiersOf, key, showTier)
}

// TierPayload answers a mutation of a tier.
type TierPayload struct {
	Answer
	Key string
}

// Tier is the tier as of the mutation or later.
func (p *TierPayload) Tier(ctx context.Context) (*Tier, error) {
	if p.refused() {
		return nil, nil
	}
	return loadTier(ctx, p.Key)
}
