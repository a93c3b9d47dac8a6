package broker

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
	"github.com/tenure-dev/tenure/domain"
)

// AMQPSink publishes to an exchange of an AMQP 0.9.1 broker, such as RabbitMQ. A message that reaches no queue has failed.
type AMQPSink struct {
	URL          settings.Secret // amqp:// or amqps://
	CA           []byte          // certificates (PEM) to trust instead of the system's
	Exchange     string
	ExchangeType string        // topic (default), direct, fanout or headers
	Declare      bool          // make the exchange, durable, if it is not there (default); else it must be there
	RoutingKey   string        // a template with {type}, {org}, {tenant}, {stream}
	Timeout      time.Duration // of one message; 10s, at least 100ms, at most 5m
}

// NewAMQPSink gives the defaults.
func NewAMQPSink() *AMQPSink {
	return &AMQPSink{ExchangeType: amqp.ExchangeTopic, Declare: true, Timeout: defaultTimeout}
}

func (c *AMQPSink) read(s *settings.Section) {
	c.URL, c.CA = settings.NewSecret(s.Required("url")), s.Certificates("ca")
	c.Exchange, c.RoutingKey = s.Required("exchange"), s.Required("routingKey")
	c.ExchangeType = s.OneOf("exchangeType", amqp.ExchangeTopic, amqp.ExchangeDirect, amqp.ExchangeFanout, amqp.ExchangeHeaders)
	c.Declare, c.Timeout = s.Bool("declare", c.Declare), readTimeout(s)
}

// shortText is how many bytes AMQP's names may have.
const shortText = 255

// Publisher connects with the first message. A wrong setting is refused.
func (c *AMQPSink) Publisher(*slog.Logger) (message.Publisher, error) {
	key, err1 := parseTemplate("routingKey", c.RoutingKey, routingKeyForbids, shortText)
	link, err2 := newLink(c.URL, c.CA)
	if err := cmp.Or(err1, amqpName("exchange", c.Exchange), err2); err != nil {
		return nil, err
	}
	t := &amqpTarget{link: link, key: key, config: *c, free: make(chan *amqpChannel, 256)}
	return newPublisher(t, link.hide, c.Timeout), nil
}

func amqpName(field, name string) error {
	if name == "" || len(name) > shortText {
		return domain.Invalid(field, "must be 1 to %d bytes", shortText)
	}
	return nil
}

// amqpTarget publishes on one channel at a time for each message, so a return and a confirm belong to that message.
type amqpTarget struct {
	link   *amqpLink
	key    template
	config AMQPSink
	free   chan *amqpChannel
}

// amqpChannel is a channel in confirm mode, used for one message at a time.
type amqpChannel struct {
	*amqp.Channel
	returns chan amqp.Return // unroutable: comes before the confirm
	closes  chan *amqp.Error
}

func (t *amqpTarget) send(ctx context.Context, m *message.Message) error {
	key, err := t.key.of(m)
	if err != nil {
		return err
	}
	ch, err := t.take(ctx)
	if err != nil {
		return err
	}
	reusable, err := ch.publish(ctx, t.config.Exchange, key, m)
	if reusable {
		select {
		case t.free <- ch:
			return err
		default:
		}
	}
	_ = ch.Close()
	return err
}

// take finds a free channel or opens one.
func (t *amqpTarget) take(ctx context.Context) (*amqpChannel, error) {
	for {
		select {
		case ch := <-t.free:
			if !ch.IsClosed() {
				return ch, nil
			}
			continue
		default:
		}
		break
	}
	conn, err := t.link.connection(ctx)
	if err != nil {
		return nil, err
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	opened := &amqpChannel{ch, ch.NotifyReturn(make(chan amqp.Return, 1)), ch.NotifyClose(make(chan *amqp.Error, 1))}
	exchange := ch.ExchangeDeclarePassive
	if t.config.Declare {
		exchange = ch.ExchangeDeclare
	}
	if err := errors.Join(exchange(t.config.Exchange, t.config.ExchangeType, true, false, false, false, nil), ch.Confirm(false)); err != nil {
		_ = ch.Close()
		return nil, err
	}
	return opened, nil
}

var (
	errUnroutable = &Failure{code: CodeUnroutable, text: "no queue takes messages of this routing key"}
	errRefused    = errors.New("the broker has not taken the message")
	errInterrupt  = errors.New("the connection was lost before the broker confirmed")
)

// publish tells, too, whether the channel is still good.
func (c *amqpChannel) publish(ctx context.Context, exchange, key string, m *message.Message) (reusable bool, err error) {
	confirm, err := c.PublishWithDeferredConfirmWithContext(ctx, exchange, key, true, false, toAMQP(m))
	if err != nil {
		return false, err
	}
	acked, err := confirm.WaitContext(ctx)
	if err != nil {
		return false, err
	}
	if !acked {
		select {
		case why := <-c.closes:
			if why != nil {
				return false, why
			}
			return false, errInterrupt
		default:
			return !c.IsClosed(), errRefused
		}
	}
	select {
	case <-c.returns:
		return true, errUnroutable
	default:
		return true, nil
	}
}

func toAMQP(m *message.Message) amqp.Publishing {
	headers := amqp.Table{uuidHeader: m.UUID}
	for key, value := range m.Metadata {
		headers[key] = value
	}
	return amqp.Publishing{
		Headers: headers, ContentType: contentType, DeliveryMode: amqp.Persistent, MessageId: m.UUID,
		Type: m.Metadata.Get("type"), Body: m.Payload,
	}
}

func (t *amqpTarget) judge(err error) verdict { return judgeAMQP(err) }

func judgeAMQP(err error) verdict {
	var said *amqp.Error
	if !errors.As(err, &said) {
		return verdict{}
	}
	switch {
	case said.Code == amqp.ContentTooLarge, said.Code == amqp.PreconditionFailed && strings.Contains(said.Reason, "message size"):
		return verdict{CodeTooLarge, true}
	case said.Code == amqp.AccessRefused, said.Code == amqp.NotAllowed:
		return verdict{code: CodeUnauthorized}
	case said.Code == amqp.NotFound, said.Code == amqp.NoRoute:
		return verdict{code: CodeUnroutable}
	}
	return verdict{}
}

func (t *amqpTarget) end() error {
	t.link.end()
	return nil
}
