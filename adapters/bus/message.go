package bus

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/domain"
)

// Metadata keys of messages. Everything else in an event's metadata is delivered under its own name: text as it is, anything else
// as its JSON.
const (
	TypeKey        = "type"           // the event's type; published without one, a message is of DefaultType
	StreamKey      = "stream"         // delivered only: where the event stands
	RevisionKey    = "revision"       // delivered only, decimal
	PositionKey    = "position"       // delivered only, decimal
	RecordedAtKey  = "recordedAt"     // RFC 3339; of an event that does not say, the event store's own time
	OrgKey         = "org"            // when present
	TenantKey      = "tenant"         // when present
	CorrelationKey = "$correlationId" // when present
	CausationKey   = "$causationId"   // when present
	TraceparentKey = "traceparent"    // when present; W3C trace context

	// MessageIDKey holds the id that a message was published under, where the event's is another.
	MessageIDKey = "messageId"
	// ExpectedRevisionKey, published only, is the revision behind which the message belongs, decimal; -1 for a new stream.
	ExpectedRevisionKey = "expectedRevision"
)

// DefaultType is the event type of a message that has none.
const DefaultType = "message"

const longestType = 256 // bytes

// asJSON are the metadata that the kernel keeps as something else than text: they go back as they came.
var asJSON = []string{"rev", "epoch", "answers", "read"}

// encode gives the event that a message is in a topic, and the revision that it expects. Its id is the message's where that is a
// UUID. A message that came from another stream gets one of its own instead, always the same: the event store recognises a
// repeated id only in the stream that had it first.
func encode(topic string, m *message.Message) (e Event, expected int64, err error) {
	if err := checkText("uuid", m.UUID, longestTopic); err != nil {
		return e, 0, err
	}
	e = Event{Stream: topic, Type: DefaultType, Data: m.Payload, JSON: json.Valid(m.Payload)}
	id, err := domain.ParseUUID(m.UUID)
	from := m.Metadata.Get(StreamKey)
	derived := err != nil || id == (domain.UUID{}) || from != "" && from != topic
	if derived {
		id = domain.DeriveUUID(topic, m.UUID)
	}
	e.ID = id.String()

	expected, kept := AnyRevision, make(map[string]any, len(m.Metadata)+1)
	for key, value := range m.Metadata {
		if !isText(key) || !isText(value) {
			return e, 0, domain.Invalid("metadata", "must be UTF-8 without NUL")
		}
		switch key {
		case StreamKey, RevisionKey, PositionKey:
		case TypeKey:
			if e.Type = value; value == "" || len(value) > longestType || strings.HasPrefix(value, "$") {
				return e, 0, domain.Invalid("metadata.type", "must have 1 to %d bytes and not begin with $", longestType)
			}
		case ExpectedRevisionKey:
			if expected, err = strconv.ParseInt(value, 10, 64); err != nil || expected < domain.NoStream {
				return e, 0, domain.Invalid("metadata.expectedRevision", "must be a revision, or -1 for a new stream")
			}
		default:
			kept[key] = value
			if slices.Contains(asJSON, key) && json.Valid([]byte(value)) {
				kept[key] = json.RawMessage(value)
			}
		}
	}
	if _, has := kept[MessageIDKey]; derived && !has {
		kept[MessageIDKey] = m.UUID
	}
	e.Metadata, err = json.Marshal(kept)
	return e, expected, err
}

// decode gives an event as a message of its own, which nobody else holds.
func decode(e Event) *message.Message {
	m := message.NewMessage(e.ID, bytes.Clone(e.Data))
	var values map[string]json.RawMessage
	if json.Unmarshal(e.Metadata, &values) != nil {
		values = nil
	}
	for key, value := range values {
		var text *string
		switch err := json.Unmarshal(value, &text); {
		case err != nil:
			m.Metadata[key] = string(value)
		case text != nil:
			m.Metadata[key] = *text
		}
	}
	m.Metadata[TypeKey], m.Metadata[StreamKey] = e.Type, e.Stream
	m.Metadata[RevisionKey], m.Metadata[PositionKey] = strconv.FormatInt(e.Revision, 10), strconv.FormatUint(e.Position, 10)
	if m.Metadata[RecordedAtKey] == "" {
		m.Metadata[RecordedAtKey] = e.Created.UTC().Format(time.RFC3339Nano)
	}
	return m
}

// metaOf gives what a filter sees of an event. Of metadata that are not the kernel's it has the texts that both share.
func metaOf(e Event) (m domain.Meta) {
	if domain.DecodeMeta(e.Metadata, &m) != nil {
		had := decode(e).Metadata
		m = domain.Meta{Org: had[OrgKey], Tenant: had[TenantKey], Correlation: had[CorrelationKey], Causation: had[CausationKey],
			Traceparent: had[TraceparentKey]}
	}
	m.Stream, m.Revision, m.Commit, m.EventID, m.Type, m.Created = e.Stream, e.Revision, e.Position, e.ID, e.Type, domain.Micro(e.Created)
	return m
}

func isText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }
