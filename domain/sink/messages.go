package sink

import (
	"time"

	"github.com/tenure-dev/tenure/domain"
)

// Event is one of the facts of a sink's life.
//
//sumtype:decl
type Event interface{ isSinkEvent() }

type rule = domain.Rule[Phase, State, Event]

func on[C domain.Command](h func(State, C) ([]Event, error), from ...Phase) rule {
	return domain.On(h, from...)
}

func fact[E Event](name string, up ...domain.Upcast) domain.Entry { return domain.Fact[E](name, up...) }

// Place names one event of the log. It outlives copies of the log, as a position does not.
type Place struct {
	Stream   string `json:"stream"`
	Revision int64  `json:"revision"` // from 0
}

// The reasons for which a sink is disabled.
const (
	WhyFailing = "failing" // nothing but failure for as long as its configuration allows
	WhyGone    = "gone"    // the receiver said that it is gone for ever
)

// The scopes of a redelivery.
const (
	ScopeEvent  = "event"  // the one at From
	ScopeRange  = "range"  // all from From to To, both included
	ScopeParked = "parked" // all that are parked
)

// The events.
type (
	// Parked says that an event was set aside after its last attempt; those behind it in its stream go on.
	Parked struct {
		Place
		EventID  string `json:"eventId"`
		Attempts int    `json:"attempts"`
		Code     string `json:"code"` // why the last attempt failed: a short word, never another's text
	}
	// Delivered says that a parked event was delivered after all.
	Delivered struct {
		EventID string `json:"eventId"`
	}
	// Paused stops deliveries until the sink is resumed; nothing is lost.
	Paused struct {
		Reason domain.Sealed `json:"reason"`
	}
	// Resumed lets deliveries go on from where they stopped.
	Resumed struct {
		Reason domain.Sealed `json:"reason"`
	}
	// Disabled says that the runtime stopped deliveries until somebody resumes the sink.
	Disabled struct {
		Why   string    `json:"why"`   // failing or gone
		Since time.Time `json:"since"` // the first failure since the last success
		Code  string    `json:"code"`  // of the last failure
	}
	// RedeliveryRequested asks for events once more, under the ids that they have.
	RedeliveryRequested struct {
		ID    string `json:"id"`    // UUID
		Scope string `json:"scope"` // event, range or parked
		From  *Place `json:"from,omitempty"`
		To    *Place `json:"to,omitempty"`
	}
	// RedeliveryFinished says what became of a redelivery.
	RedeliveryFinished struct {
		ID        string `json:"id"`
		Delivered int64  `json:"delivered"`
		Parked    int64  `json:"parked"` // failed once more, or could not be read
	}
	// Noted remembers a caller's command that changed nothing.
	Noted struct{}
)

func (Parked) isSinkEvent()              {}
func (Delivered) isSinkEvent()           {}
func (Paused) isSinkEvent()              {}
func (Resumed) isSinkEvent()             {}
func (Disabled) isSinkEvent()            {}
func (RedeliveryRequested) isSinkEvent() {}
func (RedeliveryFinished) isSinkEvent()  {}
func (Noted) isSinkEvent()               {}

// The commands of operators.
type (
	// Pause stops deliveries.
	Pause struct {
		domain.Given `json:"-"`
		Sink         string        `json:"sink"` // its name
		Reason       domain.Sealed `json:"reason"`
	}
	// Resume lets a paused or disabled sink go on.
	Resume struct {
		domain.Given `json:"-"`
		Sink         string        `json:"sink"`
		Reason       domain.Sealed `json:"reason"`
	}
	// RequestRedelivery asks for events once more. While the sink is paused or disabled it waits.
	RequestRedelivery struct {
		domain.Given `json:"-"`
		Sink         string `json:"sink"`
		Scope        string `json:"scope"`
		From         *Place `json:"from,omitempty"` // with event and range
		To           *Place `json:"to,omitempty"`   // with range
	}
)

// The commands of the sinks' runtime.
type (
	// Park sets an event aside.
	Park struct {
		domain.Given `json:"-"`
		Sink         string `json:"sink"`
		Place
		EventID  string `json:"eventId"`
		Attempts int    `json:"attempts"`
		Code     string `json:"code"`
	}
	// Deliver strikes a delivered event from the parked ones.
	Deliver struct {
		domain.Given `json:"-"`
		Sink         string `json:"sink"`
		EventID      string `json:"eventId"`
	}
	// Disable stops deliveries.
	Disable struct {
		domain.Given `json:"-"`
		Sink         string    `json:"sink"`
		Why          string    `json:"why"`
		Since        time.Time `json:"since"`
		Code         string    `json:"code"`
	}
	// FinishRedelivery closes a redelivery.
	FinishRedelivery struct {
		domain.Given `json:"-"`
		Sink         string `json:"sink"`
		ID           string `json:"id"`
		Delivered    int64  `json:"delivered"`
		Parked       int64  `json:"parked"`
	}
)

// Target is the sink's name.
func (c Pause) Target() string { return c.Sink }

// Target is the sink's name.
func (c Resume) Target() string { return c.Sink }

// Target is the sink's name.
func (c RequestRedelivery) Target() string { return c.Sink }

// Target is the sink's name.
func (c Park) Target() string { return c.Sink }

// Target is the sink's name.
func (c Deliver) Target() string { return c.Sink }

// Target is the sink's name.
func (c Disable) Target() string { return c.Sink }

// Target is the sink's name.
func (c FinishRedelivery) Target() string { return c.Sink }
