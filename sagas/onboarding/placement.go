package onboarding

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/sagas"
)

// Candidate is one plane as the snapshot found it.
type Candidate struct {
	ID         string       `json:"id"`
	Revision   int64        `json:"revision"` // of its stream
	Region     string       `json:"region"`
	Isolations []string     `json:"isolations"`
	Online     bool         `json:"online"`
	Cordoned   bool         `json:"cordoned"`
	Capacity   domain.Units `json:"capacity"`
	Free       domain.Units `json:"free"`
}

// chosen is the stored form of a choice.
type chosen struct {
	Plane    string `json:"plane"`
	Revision int64  `json:"revision"`
}

// spread is over how many of the best planes tenants are spread.
const spread = 3

// choose picks among the planes that are online, not cordoned, and fit in region, isolation and capacity: of the few with
// the most room, the one that a hash of the tenant's id falls on. A plane that has refused this saga is not asked again.
func choose(p Plan, planes []Candidate, past []sagas.Past) (sagas.Choice[Plan], error) {
	fits, full := []Candidate(nil), false
	for _, c := range planes {
		switch {
		case !c.Online || c.Cordoned, p.Region != "" && c.Region != p.Region, !slices.Contains(c.Isolations, p.Offer.Isolation):
		case slices.ContainsFunc(past, func(r sagas.Past) bool { return refused(r, c.ID) }):
		case room(c, p.Offer.Cost) < 0:
			full = true
		default:
			fits = append(fits, c)
		}
	}
	if len(fits) == 0 {
		return sagas.Choice[Plan]{}, none(p, full, past)
	}
	slices.SortFunc(fits, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(room(b, p.Offer.Cost), room(a, p.Offer.Cost)), cmp.Compare(a.ID, b.ID))
	})
	best := fits[:min(spread, len(fits))]
	h := fnv.New32a()
	_, _ = h.Write([]byte(p.Tenant))
	c := best[int(h.Sum32()%uint32(len(best)))]
	p.Plane = c.ID
	return sagas.Choice[Plan]{Plan: p, Chosen: chosen{c.ID, c.Revision}, Reason: fmt.Sprintf("one of the best %d of %d that fit", len(best), len(fits))}, nil
}

// none says why nothing fits, in the words of whoever asked for the tenant.
func none(p Plan, full bool, past []sagas.Past) error {
	switch {
	case len(past) > 0: // all that fit have refused
		return &domain.Error{Code: domain.Code(past[len(past)-1].Code), Message: "refused by every plane that fits"}
	case full:
		return &domain.Error{Code: domain.CodeCapacityExhausted, Message: "no plane that fits has room"}
	case p.Region != "":
		return domain.NotFound("region", "has no plane that fits")
	}
	return domain.NotFound("plane", "that fits is not there")
}

// room is the share, in thousandths, that is left of the scarcest unit once the tenant is there; negative if it does not fit.
func room(c Candidate, cost domain.Units) int64 {
	left := int64(1000)
	for unit, n := range cost {
		if n == 0 {
			continue
		}
		if c.Free[unit] < n {
			return -1
		}
		left = min(left, (c.Free[unit]-n)*1000/max(1, c.Capacity[unit]))
	}
	return left
}

// refused tells whether an earlier choice of this plane was refused.
func refused(r sagas.Past, id string) bool {
	var c chosen
	return r.Decode(&c) == nil && c.Plane == id
}
