package bus

import (
	"errors"
	"log/slog"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/domain"
)

// Metadata keys of a message in a poison stream, besides those that it had.
const (
	PoisonCodeKey     = "poisonCode"     // a domain.Code
	PoisonReasonKey   = "poisonReason"   // what may be said of it; never the text of an error that is not coded
	PoisonStreamKey   = "poisonStream"   // where the message stands
	PoisonRevisionKey = "poisonRevision" // decimal
)

// poison takes the messages that handlers cannot take.
type poison struct {
	publisher message.Publisher
	meters    *meters
	logger    *slog.Logger
}

// collect lets a message through that failed for ever, and holds back one that may yet be done.
func (p *poison) collect(h message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) ([]*message.Message, error) {
		caused, err := h(m)
		if err == nil || m.Context().Err() != nil || domain.CodeOf(err) == domain.CodeUnavailable {
			return caused, err
		}
		return nil, p.take(m, err)
	}
}

// take publishes a message to its handler's poison stream. One that comes from a poison stream stays there as it is: two handlers
// of the whole log would else hand it back and forth for ever. One that has become too large goes without its payload, which
// stands where it came from.
func (p *poison) take(m *message.Message, why error) error {
	handler := message.HandlerNameFromCtx(m.Context())
	p.meters.poisoned.WithLabelValues(handler).Inc()
	p.logger.Error("a message is poison", "handler", handler, "id", m.UUID, "stream", m.Metadata.Get(StreamKey),
		"revision", m.Metadata.Get(RevisionKey), "code", domain.CodeOf(why), "error", why)
	if category, _ := domain.SplitStream(m.Metadata.Get(StreamKey)); category == domain.PoisonCategory {
		return nil
	}
	taken := poisoned(m, why)
	err := p.publisher.Publish(domain.PoisonCategory+"-"+handler, taken)
	if domain.CodeOf(err) == domain.CodeTooLarge {
		taken.Payload = nil
		err = p.publisher.Publish(domain.PoisonCategory+"-"+handler, taken)
	}
	return err
}

func poisoned(m *message.Message, why error) *message.Message {
	taken := m.Copy()
	taken.SetContext(m.Context())
	delete(taken.Metadata, ExpectedRevisionKey)
	reason := "the handler failed"
	var coded *domain.Error
	if errors.As(why, &coded) {
		reason = coded.Public()
	}
	taken.Metadata.Set(PoisonCodeKey, string(domain.CodeOf(why)))
	taken.Metadata.Set(PoisonReasonKey, reason)
	if stream := m.Metadata.Get(StreamKey); stream != "" {
		taken.Metadata.Set(PoisonStreamKey, stream)
		taken.Metadata.Set(PoisonRevisionKey, m.Metadata.Get(RevisionKey))
	}
	return taken
}
