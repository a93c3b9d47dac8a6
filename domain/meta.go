package domain

import (
	"encoding/json"
	"time"
)

// Meta is what the log knows of an event besides its payload: where it stands, and who caused it in answer to what.
type Meta struct {
	Stream   string    // such as tenant-ten_…
	Revision int64     // within the stream, from 0
	Commit   uint64    // within the log
	EventID  string    // UUID
	Type     string    // the wire name of the event
	Created  time.Time // the store's own time, UTC, to the µs

	Rev         int       // the payload's schema revision, from 1
	Correlation string    // groups a trace; carries no meaning
	Causation   string    // the event id of the cause, or empty
	CommandID   string    // UUID of the command that was decided
	InputHash   string    // keyed hash of a caller's input; empty for a saga's and the system's commands
	Actor       string    // opaque id of who asked
	Org         string    // org_… or empty
	Tenant      string    // ten_… or empty
	RecordedAt  time.Time // the decider's time, UTC, to the µs
	Traceparent string    // W3C trace context, or empty
	Epoch       Epoch
	Answers     *Answers         // the saga's ask that this event answers
	Read        map[string]int64 // other streams' revisions that the decision rested on
}

// Answers names the ask that an event answers; it is copied from the ask to its outcome.
type Answers struct {
	Saga    string `json:"saga"`    // sag_…
	Command string `json:"command"` // the ask's command id
}

// ID is the aggregate's id: what stands behind the first dash of the stream's name.
func (m Meta) ID() string { _, id := SplitStream(m.Stream); return id }

// wireMeta is Meta as it stands in the log; $correlationId and $causationId are EventStoreDB's own names.
type wireMeta struct {
	Correlation string           `json:"$correlationId,omitempty"`
	Causation   string           `json:"$causationId,omitempty"`
	Rev         int              `json:"rev"`
	CommandID   string           `json:"commandId,omitempty"`
	InputHash   string           `json:"inputHash,omitempty"`
	Actor       string           `json:"actor,omitempty"`
	Org         string           `json:"org,omitempty"`
	Tenant      string           `json:"tenant,omitempty"`
	RecordedAt  time.Time        `json:"recordedAt"`
	Traceparent string           `json:"traceparent,omitempty"`
	Epoch       Epoch            `json:"epoch"`
	Answers     *Answers         `json:"answers,omitempty"`
	Read        map[string]int64 `json:"read,omitempty"`
}

// Encode gives the metadata's JSON for the log; where the event stands is left to the log.
func (m Meta) Encode() []byte {
	b, err := json.Marshal(wireMeta{m.Correlation, m.Causation, m.Rev, m.CommandID, m.InputHash, m.Actor, m.Org, m.Tenant,
		m.RecordedAt, m.Traceparent, m.Epoch, m.Answers, m.Read})
	if err != nil {
		panic(err) // only a time outside of years 0 to 9999 cannot be marshalled
	}
	return b
}

// DecodeMeta fills the parts of m that the log's metadata JSON holds.
func DecodeMeta(b []byte, m *Meta) error {
	var w wireMeta
	if !w.scan(b) {
		w = wireMeta{}
		if err := json.Unmarshal(b, &w); err != nil {
			return &Error{Code: CodeInternal, Message: "event metadata is not ours", Cause: err}
		}
	}
	m.Correlation, m.Causation, m.Rev, m.CommandID, m.InputHash = w.Correlation, w.Causation, w.Rev, w.CommandID, w.InputHash
	m.Actor, m.Org, m.Tenant, m.RecordedAt, m.Traceparent = w.Actor, w.Org, w.Tenant, w.RecordedAt, w.Traceparent
	m.Epoch, m.Answers, m.Read = w.Epoch, w.Answers, w.Read
	if m.Rev < 1 {
		m.Rev = 1
	}
	return nil
}

// Recorded is one event of the log, not yet decoded.
type Recorded struct {
	Meta
	Data []byte // JSON payload
}

// Proposed is one event on its way into the log.
type Proposed struct {
	ID   string // UUID; the same id at the same expected revision is appended once
	Type string
	Data []byte // JSON payload
	Meta []byte // JSON metadata
}

// NoStream is the expected revision of a stream that must not exist yet.
const NoStream int64 = -1

// SplitStream cuts a stream's name at its first dash into category and id.
func SplitStream(stream string) (category, id string) {
	for i := range len(stream) {
		if stream[i] == '-' {
			return stream[:i], stream[i+1:]
		}
	}
	return stream, ""
}

// Micro is t as rows and payloads keep it: UTC, to the µs, without a monotonic clock.
func Micro(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
