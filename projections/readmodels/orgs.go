package readmodels

import (
	"context"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/org"
	"github.com/tenure-dev/tenure/projections"
)

// OrgRow is an org. Its revision is its stream's.
type OrgRow struct {
	ID        string
	Name      string
	Slug      string
	Phase     string
	Parent    string // org_…
	Revision  int64
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Orgs has one row an org.
var Orgs = projections.Projection[OrgRow]{
	Name: "orgs", Version: 1,
	Indexes: [][]string{{"parent", "id"}},
	After:   func(r *OrgRow, m domain.Meta) { r.Revision, r.UpdatedAt = m.Revision, m.RecordedAt },
	On: []projections.Handler[OrgRow]{
		projections.On(func(r *OrgRow, e org.Registered, m domain.Meta) {
			r.Name, r.Slug, r.Parent, r.Phase, r.CreatedAt = e.Name, e.Slug, e.Parent, string(org.Active), m.RecordedAt
		}),
		projections.On(func(r *OrgRow, e org.Renamed, m domain.Meta) { r.Name = e.Name }),
		projections.On(func(r *OrgRow, e org.Suspended, m domain.Meta) { r.Phase = string(org.OnHold) }),
		projections.On(func(r *OrgRow, e org.Resumed, m domain.Meta) { r.Phase = string(org.Active) }),
		projections.Touch[OrgRow, org.Noted](),
	},
}

// Orgs looks orgs up by id.
func (q Queries) Orgs(ctx context.Context, ids []string) ([]OrgRow, error) {
	return byKey[OrgRow](ctx, q, orgs, ids)
}

// PageOfOrgs gives orgs by id, those of a parent alone if one is named.
func (q Queries) PageOfOrgs(ctx context.Context, parent, after string, limit int) ([]OrgRow, error) {
	var f filter
	f.where("parent = $%d", parent)
	f.where("id > $%d", after)
	tail, args := f.page("id", limit)
	return find[OrgRow](ctx, q, orgs, tail, args...)
}
