package broker

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
)

// AMQPSource receives from a durable queue of an AMQP 0.9.1 broker.
type AMQPSource struct {
	URL        settings.Secret // amqp:// or amqps://
	CA         []byte          // certificates (PEM) to trust instead of the system's
	Queue      string
	Exchange   string        // to bind the queue to, where it is declared; none when empty
	BindingKey string        // with Exchange; # (all) by default
	Declare    bool          // make the queue, the exchange (topic) and the binding, durable, if not there (default)
	Redelivery time.Duration // how long a refused message rests before the queue gets it back; 1s, at least 1ms, at most 10m
}

// NewAMQPSource gives the defaults.
func NewAMQPSource() *AMQPSource {
	return &AMQPSource{BindingKey: "#", Declare: true, Redelivery: defaultRedelivery}
}

func (c *AMQPSource) read(s *settings.Section) {
	c.URL, c.CA, c.Queue = settings.NewSecret(s.Required("url")), s.Certificates("ca"), s.Required("queue")
	c.Exchange, c.BindingKey = s.Text("exchange", ""), s.Text("bindingKey", c.BindingKey)
	c.Declare, c.Redelivery = s.Bool("declare", c.Declare), readRedelivery(s)
}

// Subscriber connects when it is subscribed to. A wrong setting is refused.
func (c *AMQPSource) Subscriber(log *slog.Logger) (message.Subscriber, error) {
	link, err := newLink(c.URL, c.CA)
	if err := cmp.Or(amqpName("queue", c.Queue), err); err != nil {
		return nil, err
	}
	return newSubscriber(&amqpReceiver{link, *c}, link.hide, quiet(log)), nil
}

type amqpReceiver struct {
	link   *amqpLink
	config AMQPSource
}

// receive lets one message at a time be unanswered, so that a refused one comes again before those behind it.
func (r *amqpReceiver) receive(s *session) error {
	dialling, cancel := context.WithTimeout(s.stop, defaultTimeout)
	defer cancel()
	conn, err := r.link.connection(dialling)
	if err != nil {
		return err
	}
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	defer ch.Close()
	closes := ch.NotifyClose(make(chan *amqp.Error, 1))
	if err := errors.Join(ch.Qos(1, 0, false), r.prepare(ch)); err != nil {
		return err
	}
	deliveries, err := ch.Consume(r.config.Queue, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	for {
		select {
		case <-s.stop.Done():
			return nil
		case from, ok := <-deliveries:
			if !ok {
				return lost(closes)
			}
			if answered, err := r.hand(s, from); err != nil || !answered {
				return err
			}
		}
	}
}

func lost(closes chan *amqp.Error) error {
	select {
	case why := <-closes:
		if why != nil {
			return why
		}
	default: // the queue was deleted
	}
	return errors.New("the broker has ended the delivery")
}

func (r *amqpReceiver) prepare(ch *amqp.Channel) error {
	if !r.config.Declare {
		return nil // consuming says whether the queue is there
	}
	if _, err := ch.QueueDeclare(r.config.Queue, true, false, false, false, nil); err != nil {
		return err
	}
	if r.config.Exchange == "" {
		return nil
	}
	if err := ch.ExchangeDeclare(r.config.Exchange, amqp.ExchangeTopic, true, false, false, false, nil); err != nil {
		return err
	}
	return ch.QueueBind(r.config.Queue, r.config.BindingKey, r.config.Exchange, false, nil)
}

func (r *amqpReceiver) hand(s *session, from amqp.Delivery) (answered bool, err error) {
	m := message.NewMessage(from.MessageId, from.Body)
	for key, value := range from.Headers {
		text, ok := value.(string)
		switch {
		case ok && key == uuidHeader && m.UUID == "":
			m.UUID = text
		case ok && key != uuidHeader:
			m.Metadata.Set(key, text)
		}
	}
	m.SetContext(s.hard)
	acked, answered := s.hand(m, time.Hour, func() {})
	switch {
	case !answered:
		return false, nil
	case acked:
		return true, from.Ack(false)
	}
	pause(s.stop, r.config.Redelivery)
	return true, from.Nack(false, true)
}

func (r *amqpReceiver) end() { r.link.end() }
