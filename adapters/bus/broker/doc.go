// Package broker builds watermill publishers (for sinks) to NATS JetStream, Kafka, AMQP 0.9.1 and Postgres, and watermill
// subscribers (for sources) from NATS JetStream, AMQP and Postgres, out of strictly read settings. Whoever wires sinks and
// sources calls it; nothing here knows what a message means.
//
// A message's UUID is the event's id and its payload the CloudEvent as JSON. Both arrive as they are. The metadata go along
// as headers (AMQP, Kafka, NATS) or as the metadata column (Postgres), and beside them, where the broker has such things:
//
//	content type     application/cloudevents+json: header content-type; AMQP's own property
//	event's id       NATS: Nats-Msg-Id, by which JetStream drops what it has already; AMQP: message-id;
//	                 Kafka: header ce_id; Postgres: column uuid
//	event's stream   Kafka: the key, so that a stream's events are in one partition
//
// Publish returns when the broker has stored the message: JetStream's acknowledgement, AMQP's confirm of a message that
// reached a queue, Kafka's of all replicas in sync, Postgres's commit. Whoever publishes a stream's events one after the
// other has them stored in that order. A Publish whose context ends may still be stored later, so an event may come twice:
// receivers tell by the id.
//
// The libraries watermill-amqp and watermill-nats are not used: the former cannot say that a message was returned as
// unroutable and races with itself when it reconnects, the latter ignores a message's context; both want the broker up when
// they are built. Of watermill-kafka only the form of messages is used: its publisher leaves a client running where the
// producer cannot be made.
package broker
