package sources

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain"
)

// contentType is that of a structured CloudEvent in JSON.
const contentType = "application/cloudevents+json"

// reply is the CloudEvent that answers a request.
type reply struct {
	SpecVersion string          `json:"specversion"`
	ID          string          `json:"id"` // derived: the same answer to the same request has the same
	Source      string          `json:"source"`
	Type        string          `json:"type"`              // <command>.accepted or <command>.refused
	Subject     string          `json:"subject,omitempty"` // the stream; absent for a refused command that would have begun one
	Time        string          `json:"time"`
	Content     string          `json:"datacontenttype"`
	Correlation string          `json:"correlationid"` // the request's id
	Traceparent string          `json:"traceparent,omitempty"`
	Data        json.RawMessage `json:"data"`
}

// accepted is the data of the answer to a command that stands.
type accepted struct {
	ID       string `json:"id"`       // of the aggregate
	Position string `json:"position"` // in the log, decimal
	Revision string `json:"revision"` // of the stream, decimal
	Repeated bool   `json:"repeated,omitempty"`
}

// refused is the data of the answer to a command that does not: what the API has in userErrors.
type refused struct {
	Code     domain.Code `json:"code"`
	Field    string      `json:"field,omitempty"`
	Message  string      `json:"message"`
	Phase    string      `json:"phase,omitempty"`
	Allowed  []string    `json:"allowed,omitempty"`
	Expected *int64      `json:"expected,omitempty"`
	Actual   *int64      `json:"actual,omitempty"`
	Retry    bool        `json:"retry"` // the same event may be accepted once others have acted
}

func acceptance(o commands.Outcome) accepted {
	return accepted{ID: o.ID, Position: strconv.FormatUint(o.Position.Commit, 10), Revision: strconv.FormatInt(o.Revision, 10), Repeated: o.Repeated}
}

// refusal is what the sender can mend, or nil where there is nothing but to try again. Like the API it says not_found of
// what a command is for and does not exist.
func refusal(err error, call commands.Call, target string) *refused {
	var e *domain.Error
	if !errors.As(err, &e) {
		return nil
	}
	if e.Code == domain.CodeNotAllowed && e.Phase == "absent" && target != "" {
		e = domain.NotFound(target, "names nothing that exists")
	}
	r := &refused{Code: e.Code, Field: e.Field, Message: e.Public()}
	if r.Field == "" {
		r.Field = target
	}
	switch e.Code {
	case domain.CodeInvalid, domain.CodeKeyReused, domain.CodeForbidden, domain.CodeStale, domain.CodeTooLarge:
	case domain.CodeNotFound, domain.CodeAlreadyExists, domain.CodeQuotaExceeded, domain.CodeCapacityExhausted:
		r.Retry = true
	case domain.CodeNotAllowed:
		r.Phase, r.Allowed, r.Retry = e.Phase, e.Allowed, true
	case domain.CodeConflict:
		if call.Expected == nil {
			return nil
		}
		r.Expected, r.Actual = &e.Expected, &e.Actual // the object never comes back to what the sender saw
	default:
		return nil
	}
	return r
}

// answer publishes what became of a request; false says that there is nobody to tell. What tells one outcome of the request
// from another is its position or code.
func (w *worker) answer(ctx context.Context, r request, actor, verdict, outcome, stream string, data any) (told bool, err error) {
	topic := r.replyTo
	if topic == "" {
		topic = w.Replies
	}
	if topic == "" {
		return false, nil
	}
	body, err := json.Marshal(data)
	if err != nil {
		return false, err
	}
	event := reply{SpecVersion: "1.0", Source: "tenure:" + w.epoch.ID, Type: r.name + "." + verdict, Subject: stream,
		Time: domain.Micro(w.clock.Now()).UTC().Format(time.RFC3339Nano), Content: "application/json", Correlation: r.id, Data: body,
		ID: domain.DeriveUUID("reply", w.Name, actor, r.name, r.id, verdict, outcome).String()}
	if trace, err := r.extension("traceparent"); err == nil && traceForm.MatchString(trace) {
		event.Traceparent = trace
	}
	payload, err := json.Marshal(event)
	if err != nil {
		return false, err
	}
	// The message's own id is drawn: a broker that drops what it has seen must not drop the answer to a repeat.
	m := message.NewMessage(watermill.NewUUID(), payload)
	for key, value := range map[string]string{"type": event.Type, "stream": stream, "correlationid": r.id, "content-type": contentType} {
		if value != "" {
			m.Metadata.Set(key, value)
		}
	}
	m.SetContext(ctx)
	return true, w.Publisher.Publish(topic, m)
}
