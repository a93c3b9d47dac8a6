package view

import "github.com/tenure-dev/tenure/domain"

// Answer is what every mutation's payload has. Position is nil if the mutation was refused.
type Answer struct {
	Position   *domain.Position
	Repeated   bool
	UserErrors []*UserError
}

// refused tells whether there is no object to show.
func (a Answer) refused() bool { return a.Position == nil }

// UserError is what the caller can mend.
type UserError struct {
	Message          string
	Code             string
	Path             []string
	Phase            *string
	Allowed          []string
	Expected, Actual *int64
}
