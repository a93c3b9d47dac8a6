package readmodels

import (
	"context"
	"strconv"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/tier"
	"github.com/tenure-dev/tenure/projections"
)

// TierRow is a tier as of its latest version. Its revision is its stream's.
type TierRow struct {
	Key       string
	Version   int64
	Name      string
	Phase     string
	Isolation string
	Endpoint  string
	Nodes     string
	Quotas    []UnitAmount `db:",json"`
	Features  []string
	Targets   []UnitAmount `db:",json"`
	Cost      []UnitAmount `db:",json"`
	Revision  int64
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Tiers has one row a tier.
var Tiers = projections.Projection[TierRow]{
	Name: "tiers", Version: 1,
	After: func(r *TierRow, m domain.Meta) {
		if r.Revision, r.UpdatedAt = m.Revision, m.RecordedAt; r.CreatedAt.IsZero() {
			r.CreatedAt = m.RecordedAt
		}
	},
	On: []projections.Handler[TierRow]{
		projections.On(func(r *TierRow, e tier.Published, m domain.Meta) {
			r.Version, r.Phase = e.Version, string(tier.Offered)
			r.Name, r.Isolation, r.Endpoint, r.Nodes = e.Name, e.Isolation, e.Endpoint, e.Nodes
			r.Quotas, r.Features, r.Targets, r.Cost = amounts(e.Quotas), e.Features, amounts(e.Targets), amounts(e.Cost)
		}),
		projections.On(func(r *TierRow, e tier.Deprecated, m domain.Meta) { r.Phase = string(tier.Outdated) }),
		projections.Touch[TierRow, tier.Noted](),
	},
}

// TierVersionRow is one version of a tier, which never changes.
type TierVersionRow struct {
	ID          string // the tier's key, a slash and the version
	Tier        string
	Version     int64
	Name        string
	Isolation   string
	Endpoint    string
	Nodes       string
	Quotas      []UnitAmount `db:",json"`
	Features    []string
	Targets     []UnitAmount `db:",json"`
	Cost        []UnitAmount `db:",json"`
	PublishedAt time.Time
}

// TierVersions has one row a version.
var TierVersions = projections.Projection[TierVersionRow]{
	Name: "tier_versions", Version: 1,
	Indexes: [][]string{{"tier", "version"}},
	On: []projections.Handler[TierVersionRow]{
		projections.OnKey(func(e tier.Published) string { return strconv.FormatInt(e.Version, 10) },
			func(r *TierVersionRow, e tier.Published, m domain.Meta) {
				r.Tier, r.Version, r.PublishedAt = m.ID(), e.Version, m.RecordedAt
				r.Name, r.Isolation, r.Endpoint, r.Nodes = e.Name, e.Isolation, e.Endpoint, e.Nodes
				r.Quotas, r.Features, r.Targets, r.Cost = amounts(e.Quotas), e.Features, amounts(e.Targets), amounts(e.Cost)
			}),
		projections.Ignore[TierVersionRow, tier.Deprecated](),
		projections.Ignore[TierVersionRow, tier.Noted](),
	},
}

// TierVersionID is the key of a version's row.
func TierVersionID(tier string, version int64) string {
	return tier + "/" + strconv.FormatInt(version, 10)
}

// Tiers looks tiers up by key.
func (q Queries) Tiers(ctx context.Context, keys []string) ([]TierRow, error) {
	return byKey[TierRow](ctx, q, tiers, keys)
}

// PageOfTiers gives tiers by key.
func (q Queries) PageOfTiers(ctx context.Context, after string, limit int) ([]TierRow, error) {
	var f filter
	f.where("key > $%d", after)
	tail, args := f.page("key", limit)
	return find[TierRow](ctx, q, tiers, tail, args...)
}

// TierVersions looks versions up by TierVersionID.
func (q Queries) TierVersions(ctx context.Context, ids []string) ([]TierVersionRow, error) {
	return byKey[TierVersionRow](ctx, q, tierVersions, ids)
}

// PageOfTierVersions gives a tier's versions, latest first; before 0 is the list's start.
func (q Queries) PageOfTierVersions(ctx context.Context, tier string, before int64, limit int) ([]TierVersionRow, error) {
	f := filter{}
	f.add("tier = $%d", tier)
	if before > 0 {
		f.add("version < $%d", before)
	}
	tail, args := f.page("version desc", limit)
	return find[TierVersionRow](ctx, q, tierVersions, tail, args...)
}
