package broker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
	"github.com/tenure-dev/tenure/domain"
)

// contentType is the type of every message's payload.
const contentType = "application/cloudevents+json"

// streamKey is the metadata's key of the stream's name.
const streamKey = "stream"

// Sink is a target's settings. Publisher checks how they go together and builds the publisher, for which the broker need not be
// there; its errors are domain.Invalid, with the setting as the field. Without a logger nothing is logged.
type Sink interface {
	read(*settings.Section)
	Publisher(*slog.Logger) (message.Publisher, error)
}

// Source is the settings of where messages come from. Subscriber is as Sink's Publisher; Answers is a publisher to topics of the
// same broker, which are made where they are not there.
type Source interface {
	read(*settings.Section)
	Subscriber(*slog.Logger) (message.Subscriber, error)
	Answers(*slog.Logger) (message.Publisher, error)
}

var sinks = map[string]func() Sink{
	"nats":     func() Sink { return NewNATSSink() },
	"kafka":    func() Sink { return NewKafkaSink() },
	"amqp":     func() Sink { return NewAMQPSink() },
	"postgres": func() Sink { return NewPostgresSink() },
}

var sources = map[string]func() Source{
	"nats":     func() Source { return NewNATSSource() },
	"amqp":     func() Source { return NewAMQPSource() },
	"postgres": func() Source { return NewPostgresSource() },
}

// SinkKinds are the kinds that OpenSink knows, sorted.
func SinkKinds() []string { return slices.Sorted(maps.Keys(sinks)) }

// SourceKinds are the kinds that OpenSource knows, sorted.
func SourceKinds() []string { return slices.Sorted(maps.Keys(sources)) }

// OpenSink builds the publisher of a sink of one of SinkKinds. Errors name the key by its full path.
func OpenSink(kind string, s *settings.Section, log *slog.Logger) (message.Publisher, error) {
	sink := sinks[kind]()
	sink.read(s)
	if err := s.Err(); err != nil {
		return nil, err
	}
	p, err := sink.Publisher(log)
	return p, s.Locate(err)
}

// OpenSource is OpenSink for the subscriber of a source, and for the publisher of its answers.
func OpenSource(kind string, s *settings.Section, log *slog.Logger) (message.Subscriber, message.Publisher, error) {
	source := sources[kind]()
	source.read(s)
	if err := s.Err(); err != nil {
		return nil, nil, err
	}
	subscriber, err := source.Subscriber(log)
	if err != nil {
		return nil, nil, s.Locate(err)
	}
	answers, err := source.Answers(log)
	if err != nil {
		return nil, nil, errors.Join(s.Locate(err), subscriber.Close())
	}
	return subscriber, answers, nil
}

func readTimeout(s *settings.Section) time.Duration {
	return s.DurationWithin("timeout", defaultTimeout, 100*time.Millisecond, 5*time.Minute)
}

func readRedelivery(s *settings.Section) time.Duration {
	return s.DurationWithin("redelivery", defaultRedelivery, time.Millisecond, 10*time.Minute)
}

// formed holds a name to its form.
func formed(field, name string, form *regexp.Regexp) error {
	if !form.MatchString(name) {
		return domain.Invalid(field, "must match %s", form)
	}
	return nil
}

// authorities is the TLS configuration that trusts the given certificates (PEM) alone; nil, the system's, where none is given.
func authorities(pem []byte) (*tls.Config, error) {
	if pem == nil {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, domain.Invalid("ca", "must hold certificates in PEM")
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// quiet is a logger that is there: one that says nothing, where none is given.
func quiet(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}

// libraryLog passes on a watermill library's errors alone, scrubbed: its other lines hold queries and payloads.
type libraryLog struct {
	watermill.NopLogger
	log  *slog.Logger
	hide scrubber
}

func (l libraryLog) Error(text string, err error, _ watermill.LogFields) {
	if err != nil {
		l.log.Warn("broker: "+text, "error", l.hide.scrub(err.Error()))
	}
}

func (l libraryLog) With(watermill.LogFields) watermill.LoggerAdapter { return l }
