package view

import (
	"context"
	"strings"
	"time"

	"github.com/tenure-dev/tenure/domain"
)

// Plane is a data plane's row as the schema shows it.
type Plane struct{ PlaneRow }

func showPlane(r PlaneRow) *Plane { return &Plane{r} }

// Cloud is null where none was named.
func (p *Plane) Cloud() *string { return orNull(p.PlaneRow.Cloud) }

// Capacity is what it has of each unit, and what of it is reserved.
func (p *Plane) Capacity() []*Capacity {
	used := map[string]int64{}
	for _, u := range p.Used {
		used[u.Unit] = u.Amount
	}
	all := make([]*Capacity, len(p.PlaneRow.Capacity))
	for i, c := range p.PlaneRow.Capacity {
		all[i] = &Capacity{c.Unit, c.Amount, used[c.Unit]}
	}
	return all
}

// Capacity is one unit of it.
type Capacity struct {
	Unit        string
	Total, Used int64
}

// Reason is why it is cordoned.
func (p *Plane) Reason(ctx context.Context) (*string, error) {
	return Of(ctx).unseal(ctx, p.PlaneRow.Reason)
}

// Agent is its agent.
func (p *Plane) Agent() *Agent { return &Agent{p.PlaneRow} }

// Agent is a data plane's agent as its gateway knows it.
type Agent struct{ plane PlaneRow }

// State is what its gateway thinks of it, as a name that GraphQL can have.
func (a *Agent) State() string {
	if a.plane.AgentState == "" {
		return "never"
	}
	return strings.ReplaceAll(a.plane.AgentState, "-", "_")
}

// Session counts its sessions.
func (a *Agent) Session() int64 { return a.plane.Session }

// Version is its release; null before its first session.
func (a *Agent) Version() *string { return orNull(a.plane.Version) }

// Driver is what it makes changes with; null before its first session.
func (a *Agent) Driver() *string { return orNull(a.plane.Driver) }

// PlaneByID gives one data plane, or nil.
func PlaneByID(ctx context.Context, id string) (*Plane, error) {
	if err := domain.CheckID("id", domain.PlaneID, id); err != nil {
		return nil, err
	}
	return loadPlane(ctx, id)
}

func planesOf(j *joins) *table[PlaneRow] { return &j.planes }

var planeList = list[PlaneRow, Plane]{"planes", 1, func(r PlaneRow) []string { return []string{r.ID} }, planesOf, showPlane}

// Planes gives a page of all data planes, or of those in a region.
func Planes(ctx context.Context, p Page, region string) (*PlaneConnection, error) {
	return planeList.page(ctx, p, func(s Snapshot, after []string, limit int) ([]PlaneRow, error) {
		return s.PageOfPlanes(ctx, region, after[0], limit)
	})
}

func loadPlane(ctx context.Context, id string) (*Plane, error) {
	return load(ctx, planesOf, id, showPlane)
}

// PlanePayload answers a mutation of a data plane.
type PlanePayload struct {
	Answer
	ID string
}

// Plane is the data plane as of the mutation or later.
func (p *PlanePayload) Plane(ctx context.Context) (*Plane, error) {
	if p.refused() {
		return nil, nil
	}
	return loadPlane(ctx, p.ID)
}

// TokenPayload answers createJoinToken.
type TokenPayload struct {
	PlanePayload
	Token     *string // nil for a repeat
	ExpiresAt *time.Time
}
