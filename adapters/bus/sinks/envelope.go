package sinks

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/domain"
)

// ContentType is that of a structured CloudEvent in JSON.
const ContentType = "application/cloudevents+json"

// envelope writes an event as a structured CloudEvent 1.0 around data. Its sequence orders as text as the log does.
func envelope(epoch string, e *domain.Recorded, data []byte) []byte {
	b := make([]byte, 0, len(data)+640)
	b = append(b, `{"specversion":"1.0"`...)
	add := func(key, value string) {
		if value == "" {
			return
		}
		b = append(append(append(b, `,"`...), key...), `":`...)
		text, _ := json.Marshal(value) // a string always marshals
		b = append(b, text...)
	}
	add("id", e.EventID)
	add("source", "tenure:"+epoch)
	add("type", e.Type)
	add("subject", e.Stream)
	add("time", e.RecordedAt.UTC().Format(time.RFC3339Nano))
	add("datacontenttype", "application/json")
	add("sequence", fmt.Sprintf("%020d", e.Commit))
	add("revision", strconv.FormatInt(e.Revision, 10))
	add("schemarevision", strconv.Itoa(e.Rev))
	add("org", e.Org)
	add("tenant", e.Tenant)
	add("correlationid", e.Correlation)
	add("causationid", e.Causation)
	add("traceparent", e.Traceparent)
	b = append(append(append(b, `,"data":`...), data...), '}')
	return b
}

// wrap makes the message of an event: its id is the event's, and its metadata say where the event stands.
func wrap(e *domain.Recorded, body []byte) *message.Message {
	m := message.NewMessage(e.EventID, body)
	for key, value := range map[string]string{"type": e.Type, "stream": e.Stream, "revision": strconv.FormatInt(e.Revision, 10),
		"position": strconv.FormatUint(e.Commit, 10), "recordedAt": e.RecordedAt.UTC().Format(time.RFC3339Nano), "org": e.Org,
		"tenant": e.Tenant, "$correlationId": e.Correlation, "$causationId": e.Causation, "traceparent": e.Traceparent,
		"rev": strconv.Itoa(e.Rev), "content-type": ContentType} {
		if value != "" {
			m.Metadata.Set(key, value)
		}
	}
	return m
}
