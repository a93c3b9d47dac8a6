package reservation

import (
	"strings"

	"github.com/tenure-dev/tenure/domain"
)

// Event is one of the facts of a reservation's life.
//
//sumtype:decl
type Event interface{ isReservationEvent() }

type rule = domain.Rule[Phase, State, Event]

func on[C domain.Command](h func(State, C) ([]Event, error), from ...Phase) rule {
	return domain.On(h, from...)
}

func fact[E Event](name string, up ...domain.Upcast) domain.Entry { return domain.Fact[E](name, up...) }

// The events.
type (
	// Held says that the value belongs to Holder.
	Held struct {
		Org    string `json:"org"`
		Holder string `json:"holder"` // ten_…
	}
	// Released says that the value is free again.
	Released struct {
		Org    string `json:"org"`
		Holder string `json:"holder"`
	}
	// Noted remembers a caller's command that changed nothing.
	Noted struct{}
)

func (Held) isReservationEvent()     {}
func (Released) isReservationEvent() {}
func (Noted) isReservationEvent()    {}

// Owner says whose tenant it is about.
func (e Held) Owner() (org, tenant string) { return e.Org, e.Holder }

// Owner says whose tenant it is about.
func (e Released) Owner() (org, tenant string) { return e.Org, e.Holder }

// The commands; sagas alone send them.
type (
	// Hold takes a value for a holder.
	Hold struct {
		domain.Given `json:"-"`
		ID           string `json:"id"` // SlugID
		Org          string `json:"org"`
		Holder       string `json:"holder"`
	}
	// Release gives it back; for another holder than the one that has it, nothing changes.
	Release struct {
		domain.Given `json:"-"`
		ID           string `json:"id"`
		Org          string `json:"org"`
		Holder       string `json:"holder"`
	}
)

// SlugID is the id of the reservation of a tenant's slug within an org.
func SlugID(org, slug string) string { return "slug." + org + "." + slug }

// Target is the reservation's id.
func (c Hold) Target() string { return c.ID }

// Target is the reservation's id.
func (c Release) Target() string { return c.ID }

// Kind is what is reserved: the part of the id before its first dot.
func Kind(id string) string { kind, _, _ := strings.Cut(id, "."); return kind }
