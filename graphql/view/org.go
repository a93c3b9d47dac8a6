package view

import (
	"context"

	"github.com/tenure-dev/tenure/domain"
)

// Org is an org's row as the schema shows it.
type Org struct{ OrgRow }

func showOrg(r OrgRow) *Org { return &Org{r} }

// Slug is null if the org was registered without one.
func (o *Org) Slug() *string { return orNull(o.OrgRow.Slug) }

// Parent is the org of which it is a part.
func (o *Org) Parent(ctx context.Context) (*Org, error) { return loadOrg(ctx, o.OrgRow.Parent) }

// OrgByID gives one org, or nil.
func OrgByID(ctx context.Context, id string) (*Org, error) {
	if err := domain.CheckID("id", domain.OrgID, id); err != nil {
		return nil, err
	}
	return loadOrg(ctx, id)
}

func orgsOf(j *joins) *table[OrgRow] { return &j.orgs }

var orgList = list[OrgRow, Org]{"orgs", 1, func(r OrgRow) []string { return []string{r.ID} }, orgsOf, showOrg}

// Orgs gives a page of all orgs, or of one's parts.
func Orgs(ctx context.Context, p Page, parent string) (*OrgConnection, error) {
	return orgList.page(ctx, p, func(s Snapshot, after []string, limit int) ([]OrgRow, error) {
		return s.PageOfOrgs(ctx, parent, after[0], limit)
	})
}

func loadOrg(ctx context.Context, id string) (*Org, error) {
	return load(ctx, orgsOf, id, showOrg)
}

// OrgPayload answers a mutation of an org.
type OrgPayload struct {
	Answer
	ID string
}

// Org is the org as of the mutation or later.
func (p *OrgPayload) Org(ctx context.Context) (*Org, error) {
	if p.refused() {
		return nil, nil
	}
	return loadOrg(ctx, p.ID)
}
