package sagas

import (
	"encoding/json"
	"time"

	"github.com/tenure-dev/tenure/domain"
)

// Saga is a definition: a table of steps, and how it starts, is turned back and ends. Plan is what it knows; it is stored
// as JSON, so its form is a wire contract like any message's.
type Saga[Plan any] struct {
	Name    string // for ever; a slug
	Version int    // raised when running instances could not go on under the new table
	Start   Start[Plan]
	Hears   Keys[Plan] // keys by which events born elsewhere reach it

	Abort      Cue // heard by key: turn back, unless something was asked that is never undone
	Superseded Cue // heard by key: end as superseded, nothing undone

	Steps     []Step[Plan]
	Succeeded func(Plan) domain.Command      // the last ask after all steps; may be nil
	Failed    func(Plan, Why) domain.Command // the last ask after all is undone; may be nil

	Change func(Plan) int64 // the number of the tenant's change slot that it holds; nil for none
}

// Why says what turned a saga back.
type Why struct {
	Step string // that was refused or timed out; empty when it was aborted or cancelled
	Code string // the refusal's, timed_out, aborted or cancelled
}

// Step is one row: it chooses, waits, or asks. Times are counted only while someone could have spoken.
type Step[Plan any] struct {
	Name   string          // stored; never changed within a version
	Only   func(Plan) bool // the step is passed over where this is false; nil means never
	Choose Chooser[Plan]   // a choice over a snapshot; such a step asks nothing
	Wait   Waiter[Plan]    // a wait; such a step asks nothing
	Until  Cue             // heard by key: ends a wait early

	Do         func(Plan) domain.Command
	Done       Cue // answers it; without one the Bus's acceptance does
	Refused    Cue // answers it with no, and nothing was left behind
	Fails      Failing
	Superseded Cue // answers it: a later wish overtook this saga, which ends
	Learn      Learning[Plan]

	Within time.Duration // for doing and for undoing; 0 means for ever
	Retry  Retry         // after a failure of class transient or plane_down
	Else   Else          // after a refusal

	Undo   func(Plan) domain.Command // nil if there is nothing to undo
	Undone Cue                       // answers it; without one the Bus's acceptance does

	// Forward marks what is never undone: it is asked until it is answered, late or refused it needs attention, and from
	// its first ask on the saga cannot turn back.
	Forward bool
	// QuietWaits says that a command which changes nothing is not done by that. Operations, and steps that learn, always
	// wait: their answer is an event.
	QuietWaits bool
	// Operation gives the id of the plane whose agent does the step; nil if no agent does.
	Operation func(Plan) string
}

// Start tells which events start a saga, with which plan.
type Start[Plan any] struct{ starts []starting[Plan] }

type starting[Plan any] struct {
	hearing
	plan func(e any, m domain.Meta) (Plan, bool)
}

// StartsWith starts a saga at every event E.
func StartsWith[E, Plan any](plan func(e E, m domain.Meta) Plan) Start[Plan] {
	return StartsIf(func(e E, m domain.Meta) (Plan, bool) { return plan(e, m), true })
}

// StartsIf starts a saga at those events E for which plan does not decline.
func StartsIf[E, Plan any](plan func(e E, m domain.Meta) (Plan, bool)) Start[Plan] {
	return Start[Plan]{[]starting[Plan]{{hear[E](nil), func(e any, m domain.Meta) (Plan, bool) { return plan(e.(E), m) }}}}
}

// StartsAny starts a saga as any of the given starts would.
func StartsAny[Plan any](starts ...Start[Plan]) (all Start[Plan]) {
	for _, s := range starts {
		all.starts = append(all.starts, s.starts...)
	}
	return all
}

// Keys are the keys by which outside events reach a saga.
type Keys[Plan any] func(Plan) []string

// ByTenant lets a saga hear events whose metadata names the tenant.
func ByTenant[Plan any](id func(Plan) string) Keys[Plan] {
	return func(p Plan) []string { return []string{TenantKey(id(p))} }
}

// ByOrg lets a saga hear events whose metadata names the org.
func ByOrg[Plan any](id func(Plan) string) Keys[Plan] {
	return func(p Plan) []string { return []string{OrgKey(id(p))} }
}

// And joins two sets of keys.
func (k Keys[Plan]) And(other Keys[Plan]) Keys[Plan] {
	return func(p Plan) []string { return append(k(p), other(p)...) }
}

// TenantKey is the key of events whose metadata names a tenant.
func TenantKey(id string) string { return "tenant:" + id }

// OrgKey is the key of events whose metadata names an org.
func OrgKey(id string) string { return "org:" + id }

// Retry bounds the attempts at a step that fails in a way that may pass.
type Retry struct {
	Attempts int // in all; 0 means that the first failure needs attention
	Min, Max time.Duration
}

// Backoff allows that many attempts in all, doubling the pause from min up to max, jittered by a hash of the ask.
func Backoff(attempts int, min, max time.Duration) Retry { return Retry{attempts, min, max} }

// Else names what a refusal tries before the saga turns back.
type Else struct {
	Step  string // an earlier one; what was done since is undone first
	Times int
}

// Again tries again from an earlier step, at most that many times.
func Again(step string, times int) Else { return Else{step, times} }

// Chooser makes a choice over a snapshot that the runner reads.
type Chooser[Plan any] struct {
	snapshot func(json.RawMessage) (any, error)
	choose   func(p Plan, snapshot any, past []Past) (Choice[Plan], error)
}

// Choice is what was chosen: the plan that holds it, its own stored form, and why.
type Choice[Plan any] struct {
	Plan   Plan
	Chosen any    // marshalled to JSON; a refusal hands it to the next choice
	Reason string // a short word or figures, no personal data
}

// Past is a refusal that followed an earlier choice of the same step.
type Past struct {
	Chosen json.RawMessage
	Step   string // that was refused
	Code   string
}

// Was tells whether the earlier choice was v, compared as JSON.
func (p Past) Was(v any) bool {
	b, err := json.Marshal(v)
	return err == nil && string(b) == string(p.Chosen)
}

// Choose makes a choosing step's function: pure, over a snapshot of type S and the refusals that followed earlier choices.
// An error with a code is a refusal of the step: the saga turns back.
func Choose[Plan, S any](choose func(p Plan, snapshot S, past []Past) (Choice[Plan], error)) Chooser[Plan] {
	return Chooser[Plan]{
		snapshot: func(b json.RawMessage) (any, error) {
			var s S
			err := json.Unmarshal(b, &s)
			return s, err
		},
		choose: func(p Plan, snapshot any, past []Past) (Choice[Plan], error) {
			s, ok := snapshot.(S)
			if !ok {
				panic(wrongSnapshot[S](snapshot))
			}
			return choose(p, s, past)
		},
	}
}

// Waiter tells until when a step waits.
type Waiter[Plan any] func(p Plan, now time.Time) time.Time

// For waits for a duration.
func For[Plan any](d func(Plan) time.Duration) Waiter[Plan] {
	return func(p Plan, now time.Time) time.Time { return now.Add(d(p)) }
}

// UntilTime waits for a moment; one that has passed is no wait.
func UntilTime[Plan any](at func(Plan) time.Time) Waiter[Plan] {
	return func(p Plan, _ time.Time) time.Time { return at(p) }
}

// Learning takes values of the answering event into the plan.
type Learning[Plan any] struct {
	hearing
	learn func(p Plan, e any, m domain.Meta) Plan
}

// Learns takes values of the answering event E into the plan.
func Learns[E, Plan any](learn func(p Plan, e E, m domain.Meta) Plan) Learning[Plan] {
	return Learning[Plan]{hear[E](nil), func(p Plan, e any, m domain.Meta) Plan { return learn(p, e.(E), m) }}
}

// Decode reads the earlier choice's stored form.
func (p Past) Decode(v any) error { return json.Unmarshal(p.Chosen, v) }
