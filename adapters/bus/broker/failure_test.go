package broker

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/IBM/sarama"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats.go"
	amqp "github.com/rabbitmq/amqp091-go"
)

func TestABrokersErrorHasACode(t *testing.T) {
	n := &natsTarget{conn: &nats.Conn{}}
	for _, c := range []struct {
		judge     func(error) verdict
		err       error
		code      string
		permanent bool
	}{
		{judgeAMQP, &amqp.Error{Code: amqp.PreconditionFailed, Reason: "message size 9 is larger than configured max size 8"}, CodeTooLarge, true},
		{judgeAMQP, &amqp.Error{Code: amqp.PreconditionFailed, Reason: "inequivalent arg 'type'"}, CodeUnavailable, false},
		{judgeAMQP, amqp.ErrCredentials, CodeUnauthorized, false},
		{judgeAMQP, &amqp.Error{Code: amqp.NotFound}, CodeUnroutable, false},
		{n.judge, nats.ErrMaxPayload, CodeTooLarge, true},
		{n.judge, nats.ErrNoResponders, CodeUnroutable, false},
		{n.judge, nats.ErrAuthorization, CodeUnauthorized, false},
		{n.judge, nats.ErrConnectionClosed, CodeUnavailable, false},
		{new(kafkaTarget).judge, sarama.ErrMessageSizeTooLarge, CodeTooLarge, true},
		{new(kafkaTarget).judge, sarama.ErrInvalidRecord, CodeInvalid, true},
		{new(kafkaTarget).judge, sarama.ErrUnknownTopicOrPartition, CodeUnroutable, false},
		{new(kafkaTarget).judge, sarama.ErrTopicAuthorizationFailed, CodeUnauthorized, false},
		{new(kafkaTarget).judge, sarama.ErrNotEnoughReplicas, CodeUnavailable, false},
		{new(postgresTarget).judge, &pgconn.PgError{Code: "22P02"}, CodeInvalid, true},
		{new(postgresTarget).judge, &pgconn.PgError{Code: "54000"}, CodeTooLarge, true},
		{new(postgresTarget).judge, &pgconn.PgError{Code: "28P01"}, CodeUnauthorized, false},
		{new(postgresTarget).judge, &pgconn.PgError{Code: "42501"}, CodeUnauthorized, false},
		{new(postgresTarget).judge, &pgconn.PgError{Code: "42P01"}, CodeUnroutable, false},
		{new(postgresTarget).judge, &pgconn.PgError{Code: "57P01"}, CodeUnavailable, false},
		{new(postgresTarget).judge, context.DeadlineExceeded, CodeTimeout, false},
	} {
		var failure *Failure
		err := fail(fmt.Errorf("publishing: %w", c.err), c.judge, nil)
		if !errors.As(err, &failure) || failure.Code() != c.code || failure.Permanent() != c.permanent {
			t.Errorf("%v: got %v, want %s, permanent: %v", c.err, err, c.code, c.permanent)
		}
	}
}
