package sinks

// Target is the part of a sink's configuration that says where its events go.
type Target struct {
	Kind string // webhook, nats, kafka, amqp or postgres
}
