package commands

import "github.com/tenure-dev/tenure/domain"

// Call is one command on its way in. A caller's has an Actor and a Key; a saga's or the system's has a CommandID instead.
type Call struct {
	Command     domain.Command // by value, of a type in an aggregate's command catalog
	Actor       string         // opaque id of who asks
	Key         string         // the caller's idempotency key
	CommandID   string         // UUID, derived by who sends: a saga or the system
	Expected    *int64         // the revision that the caller saw, domain.NoStream for none; nil does not ask
	DryRun      bool           // decide, append nothing
	Correlation string         // groups a trace; the command id when empty
	Causation   string         // event id of the cause
	Traceparent string         // W3C trace context
	Answers     *domain.Answers
}

// Outcome is what became of a command that was not refused.
type Outcome struct {
	CommandID string
	ID        string // of the aggregate
	Stream    string
	// Revision is that of the command's last event; where it appended nothing, that of the stream.
	Revision int64
	// Position is that of the event at Revision; its Commit is zero for a stream without events.
	Position domain.Position
	// Events are the command's own as the log has them, a Noted event included; those of a dry run are what it would append,
	// with clear text unsealed.
	Events   []Event
	Quiet    bool // the command changed nothing
	Repeated bool // this is the outcome of an earlier call of the same command
	DryRun   bool
	State    any // of the aggregate right behind Events; for a repeated command and one without events, at the stream's end
}

// Event is one decoded event.
type Event struct {
	domain.Meta
	Payload any
}
