package saga

import (
	"encoding/json"
	"time"

	"github.com/tenure-dev/tenure/domain"
)

// Category is that of the sagas' streams: saga-<name>.<sag_…>.
const Category = "saga"

// DefinitionCategory is that of the streams which switch definitions on: sagadefinition-<name>.
const DefinitionCategory = "sagadefinition"

// Catalog is the wire contract of the sagas' own facts.
var Catalog = domain.Catalog{
	domain.Fact[Started]("saga.started"),
	domain.Fact[Chosen]("saga.chosen"),
	domain.Fact[Learned]("saga.learned"),
	domain.Fact[Asked]("saga.asked"),
	domain.Fact[Accepted]("saga.accepted"),
	domain.Fact[Quiet]("saga.quiet"),
	domain.Fact[Refused]("saga.refused"),
	domain.Fact[Answered]("saga.answered"),
	domain.Fact[Undone]("saga.undone"),
	domain.Fact[TimedOut]("saga.timed.out"),
	domain.Fact[RetryScheduled]("saga.retry.scheduled"),
	domain.Fact[Waiting]("saga.waiting"),
	domain.Fact[Turned]("saga.turned"),
	domain.Fact[AttentionNeeded]("saga.attention.needed"),
	domain.Fact[AttentionCleared]("saga.attention.cleared"),
	domain.Fact[Ended]("saga.ended"),
	domain.Fact[Retried]("saga.retried"),
	domain.Fact[Cancelled]("saga.cancelled"),
	domain.Fact[Noted]("saga.noted"),
}

// Commands is the wire contract of what operators may ask of a saga.
var Commands = domain.Catalog{
	domain.Fact[Retry]("saga.retry"),
	domain.Fact[Cancel]("saga.cancel"),
}

// Definitions is the wire contract of the streams sagadefinition-<name>.
var Definitions = domain.Catalog{
	domain.Fact[DefinitionEnabled]("saga.definition.enabled"),
}

// Event is any fact of a saga's stream.
type Event interface{ fact() }

// The steps that every definition has besides its own.
const (
	SucceededStep = "succeeded"
	FailedStep    = "failed"
)

// The outcomes of a saga.
const (
	OutcomeSucceeded  = "succeeded"
	OutcomeFailed     = "failed"     // turned back and undone
	OutcomeSuperseded = "superseded" // overtaken by a later wish; nothing to undo
)

// The classes of a failure, as data planes report them; empty for a plain refusal.
const (
	ClassUser      = "user"       // the input is wrong: refusal
	ClassQuota     = "quota"      // no room: refusal
	ClassTransient = "transient"  // asked again, a bounded number of times
	ClassPlaneDown = "plane_down" // the same
	ClassBug       = "bug"        // needs attention
)

// The codes with which a saga needs attention, besides the codes of refusals and failures.
const (
	CodeLate  = "late"  // what is never undone, or an undo, has not been answered in time
	CodePanic = "panic" // the definition failed
)

// The codes with which a saga turns back, besides those of refusals.
const (
	CodeTimedOut  = "timed_out"
	CodeAborted   = "aborted"   // by an event
	CodeCancelled = "cancelled" // by an operator
)

type (
	// Started is the first fact of every saga, and says all that routing needs without its definition.
	Started struct {
		Saga       string          `json:"saga"` // sag_…
		Name       string          `json:"name"`
		Version    int             `json:"version"` // of the definition, kept to the end
		Org        string          `json:"org,omitempty"`
		Tenant     string          `json:"tenant,omitempty"`
		Change     int64           `json:"change,omitempty"` // number of the tenant's change slot that it holds; 0 for none
		Hears      []string        `json:"hears,omitempty"`  // keys of outside events: tenant:ten_…, org:org_…
		StartEvent string          `json:"startEvent"`       // id of the event that started it
		Plan       json.RawMessage `json:"plan"`             // what the definition knows
		Begins     string          `json:"begins"`           // wire name of that event
		Steps      []string        `json:"steps,omitempty"`  // names, in order, for people
	}
	// Chosen is a choice among what a snapshot offered, and why.
	Chosen struct {
		Step   string          `json:"step"`
		Choice json.RawMessage `json:"choice"`
		Reason string          `json:"reason,omitempty"` // a short word or figures, no personal data
	}
	// Learned is the plan with what a choice or an answer added to it.
	Learned struct {
		Plan json.RawMessage `json:"plan"`
	}
	// Asked is the intent to send a command; the same command id may be asked again while it stands unanswered.
	Asked struct {
		Step      string          `json:"step"`
		Item      string          `json:"item,omitempty"` // of a fan-out
		Undo      bool            `json:"undo,omitempty"`
		Attempt   int             `json:"attempt"` // from 1, for each step and direction
		CommandID string          `json:"commandId"`
		Command   string          `json:"command"` // wire name
		Rev       int             `json:"rev"`     // schema revision of the body
		Body      json.RawMessage `json:"body"`    // the command before the Bus fills it
		WithinMs  int64           `json:"withinMs,omitempty"`
		Plane     string          `json:"plane,omitempty"`   // an operation of this plane: time runs only while it is online and resynced
		Forward   bool            `json:"forward,omitempty"` // never undone: from here on there is no way back
	}
	// Accepted says that the Bus appended events for an ask.
	Accepted struct {
		Step      string `json:"step"`
		Undo      bool   `json:"undo,omitempty"`
		CommandID string `json:"commandId"`
		Stream    string `json:"stream"`
		Revision  int64  `json:"revision"` // of the last of them
	}
	// Quiet says that an ask changed nothing: it was so already, or it had been asked before.
	Quiet struct {
		Step      string `json:"step"`
		Undo      bool   `json:"undo,omitempty"`
		CommandID string `json:"commandId"`
	}
	// Refused says that an ask was answered with no, by the Bus or by an event.
	Refused struct {
		Step      string `json:"step"`
		Undo      bool   `json:"undo,omitempty"`
		CommandID string `json:"commandId,omitempty"` // empty for a choice that found nothing
		Code      string `json:"code"`
		Class     string `json:"class,omitempty"`
		Message   string `json:"message,omitempty"` // public, no personal data
		EventID   string `json:"eventId,omitempty"`
		Partial   bool   `json:"partial,omitempty"` // may have left something behind, so it is undone too
	}
	// Answered says that a step is done.
	Answered struct {
		Step      string `json:"step"`
		CommandID string `json:"commandId,omitempty"` // empty for a wait
		Stream    string `json:"stream,omitempty"`
		Revision  int64  `json:"revision,omitempty"`
		EventID   string `json:"eventId,omitempty"` // empty when the ask was quiet
	}
	// Undone says that a step's compensation is done.
	Undone struct {
		Step      string `json:"step"`
		CommandID string `json:"commandId"`
		Stream    string `json:"stream,omitempty"`
		Revision  int64  `json:"revision,omitempty"`
		EventID   string `json:"eventId,omitempty"`
	}
	// TimedOut says that nobody spoke who could have; whether the ask took effect is unknown.
	TimedOut struct {
		Step      string `json:"step"`
		Undo      bool   `json:"undo,omitempty"`
		CommandID string `json:"commandId"`
	}
	// RetryScheduled says when a failed step is attempted again.
	RetryScheduled struct {
		Step    string    `json:"step"`
		Undo    bool      `json:"undo,omitempty"`
		Attempt int       `json:"attempt"` // the one to come
		DueAt   time.Time `json:"dueAt"`
	}
	// Waiting says until when a step waits.
	Waiting struct {
		Step  string    `json:"step"`
		DueAt time.Time `json:"dueAt"`
	}
	// Turned says that the saga undoes what it did: all of it, or down to the step that it then tries again.
	Turned struct {
		Step string `json:"step,omitempty"` // that was refused or timed out
		Code string `json:"code"`           // of the refusal, timed_out, aborted or cancelled
		To   string `json:"to,omitempty"`   // the step that is tried again; empty for all the way back
	}
	// AttentionNeeded says that the saga waits for an operator.
	AttentionNeeded struct {
		Step string `json:"step"`
		Undo bool   `json:"undo,omitempty"`
		Code string `json:"code"`
	}
	// AttentionCleared says that it went on by itself.
	AttentionCleared struct{}
	// Ended is the last fact of every saga.
	Ended struct {
		Outcome string `json:"outcome"`
		Code    string `json:"code,omitempty"` // why it failed
		Step    string `json:"step,omitempty"` // where
	}
	// Retried is an operator's wish to ask again.
	Retried struct {
		Reason domain.Sealed `json:"reason"`
	}
	// Cancelled is an operator's wish to turn back.
	Cancelled struct {
		Reason domain.Sealed `json:"reason"`
	}
	// Noted remembers a command that changed nothing.
	Noted struct{}
)

func (Started) fact()          {}
func (Chosen) fact()           {}
func (Learned) fact()          {}
func (Asked) fact()            {}
func (Accepted) fact()         {}
func (Quiet) fact()            {}
func (Refused) fact()          {}
func (Answered) fact()         {}
func (Undone) fact()           {}
func (TimedOut) fact()         {}
func (RetryScheduled) fact()   {}
func (Waiting) fact()          {}
func (Turned) fact()           {}
func (AttentionNeeded) fact()  {}
func (AttentionCleared) fact() {}
func (Ended) fact()            {}
func (Retried) fact()          {}
func (Cancelled) fact()        {}
func (Noted) fact()            {}

// DefinitionEnabled switches a definition on: events after it start sagas of that version, none before it does.
type DefinitionEnabled struct {
	Name    string `json:"name"`
	Version int    `json:"version"`
}

// Retry clears attention and asks again; where a retry is scheduled it brings it forward.
type Retry struct {
	Saga         string        `json:"saga"` // <name>.<sag_…>
	Reason       domain.Sealed `json:"reason"`
	domain.Given `json:"-"`
}

// Cancel turns a saga back, where nothing has been done that is never undone.
type Cancel struct {
	Saga         string        `json:"saga"` // <name>.<sag_…>
	Reason       domain.Sealed `json:"reason"`
	domain.Given `json:"-"`
}

// Target is the saga's id behind the category.
func (c Retry) Target() string { return c.Saga }

// Target is the saga's id behind the category.
func (c Cancel) Target() string { return c.Saga }

// Check refuses bad input.
func (c Retry) Check() error {
	return domain.FirstError(checkSaga(c.Saga), domain.CheckReason(c.Reason))
}

// Check refuses bad input.
func (c Cancel) Check() error {
	return domain.FirstError(checkSaga(c.Saga), domain.CheckReason(c.Reason))
}
