package broker

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"go.yaml.in/yaml/v3"

	"github.com/tenure-dev/tenure/domain"
)

// contentType is the type of every message's payload.
const contentType = "application/cloudevents+json"

// streamKey is the metadata's key of the stream's name.
const streamKey = "stream"

// Ports are what publishers and subscribers need of the outside. The zero value looks nothing up and logs nothing.
type Ports struct {
	Lookup Lookup
	Logger *slog.Logger
}

func (p Ports) log() *slog.Logger {
	if p.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return p.Logger
}

// Sink is a target's settings. Publisher checks them and builds the publisher, for which the broker need not be there; its
// errors are domain.Invalid, with the setting as the field.
type Sink interface {
	settings
	Publisher(Ports) (message.Publisher, error)
}

// Source is the settings of where messages come from. Subscriber is as Sink's Publisher; Answers is a publisher to topics of the
// same broker, which are made where they are not there.
type Source interface {
	settings
	Subscriber(Ports) (message.Subscriber, error)
	Answers(Ports) (message.Publisher, error)
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

// SinkKinds are the kinds that DecodeSink knows, sorted.
func SinkKinds() []string { return slices.Sorted(maps.Keys(sinks)) }

// SourceKinds are the kinds that DecodeSource knows, sorted.
func SourceKinds() []string { return slices.Sorted(maps.Keys(sources)) }

// DecodeSink reads a sink's settings strictly: what is below the kind's name in the file. Fields of errors are relative to it.
func DecodeSink(kind string, node *yaml.Node) (Sink, error) {
	build, ok := sinks[kind]
	if !ok {
		return nil, domain.Invalid(kind, "is no kind of sink here (there are: %s)", strings.Join(SinkKinds(), ", "))
	}
	sink := build()
	return sink, decode(node, sink)
}

// DecodeSource is DecodeSink for a source.
func DecodeSource(kind string, node *yaml.Node) (Source, error) {
	build, ok := sources[kind]
	if !ok {
		return nil, domain.Invalid(kind, "is no kind of source here (there are: %s)", strings.Join(SourceKinds(), ", "))
	}
	source := build()
	return source, decode(node, source)
}

// authorities is the TLS configuration that trusts the given certificates (PEM) alone; nil, the system's, where none is given.
func authorities(pem string) (*tls.Config, error) {
	if pem == "" {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(pem)) {
		return nil, domain.Invalid("ca", "must hold certificates in PEM")
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
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
