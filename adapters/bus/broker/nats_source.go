package broker

import (
	"cmp"
	"log/slog"
	"regexp"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
)

// defaultRedelivery is how long a refused message rests.
const defaultRedelivery = time.Second

// NATSSource receives from a JetStream stream by a durable pull consumer, which it makes.
type NATSSource struct {
	NATSServer
	Subject    string        // only of these subjects (NATS's wildcards); all when empty
	Durable    string        // the consumer's name: a letter, digit, - or _, at most 64; who shares it shares the messages
	Redelivery time.Duration // how long a refused message rests; 1s, at least 1ms, at most 10m
	// AckWait is how long JetStream waits for an answer, or for the word that one is being made, before another process gets
	// the message; 30s, at least 1s, at most 10m.
	AckWait time.Duration
}

// NewNATSSource gives the defaults.
func NewNATSSource() *NATSSource {
	return &NATSSource{Redelivery: defaultRedelivery, AckWait: 30 * time.Second}
}

func (c *NATSSource) read(s *settings.Section) {
	c.NATSServer.read(s)
	c.Subject, c.Durable, c.Redelivery = s.Text("subject", ""), s.Required("durable"), readRedelivery(s)
	c.AckWait = s.DurationWithin("ackWait", c.AckWait, time.Second, 10*time.Minute)
}

var durableForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Subscriber connects in the background. A wrong setting is refused.
func (c *NATSSource) Subscriber(log *slog.Logger) (message.Subscriber, error) {
	if err := cmp.Or(formed("durable", c.Durable, durableForm), formed("stream", c.Stream, streamForm)); err != nil {
		return nil, err
	}
	conn, hide, err := c.connect(log, nil)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return newSubscriber(&natsReceiver{conn: conn, js: js, config: *c}, hide, quiet(log)), nil
}

type natsReceiver struct {
	conn   *nats.Conn
	js     jetstream.JetStream
	config NATSSource
}

// receive lets one message at a time be unanswered, so that a refused one comes again before those behind it.
func (r *natsReceiver) receive(s *session) error {
	consumer, err := r.js.CreateOrUpdateConsumer(s.stop, r.config.Stream, jetstream.ConsumerConfig{
		Durable: r.config.Durable, FilterSubject: r.config.Subject,
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: r.config.AckWait, MaxAckPending: 1,
	})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(1), jetstream.PullExpiry(5*time.Second))
	if err != nil {
		return err
	}
	defer messages.Stop()
	for {
		from, err := messages.Next(jetstream.NextContext(s.stop))
		if err != nil {
			return err
		}
		acked, err := r.hand(s, from)
		if err == nil && acked {
			err = from.DoubleAck(s.hard)
		}
		if err != nil || !acked {
			return err
		}
	}
}

// hand gives a message until it is acknowledged: a refused one is kept here while it rests, and JetStream told that it is
// being worked on. Given back to JetStream, it would at times come only after the pull had timed out, seconds later.
func (r *natsReceiver) hand(s *session, from jetstream.Msg) (acked bool, err error) {
	for {
		m := fromNATS(from)
		m.SetContext(s.hard)
		acked, answered := s.hand(m, r.config.AckWait/3, func() { _ = from.InProgress() })
		if acked {
			return true, nil
		}
		for left := r.config.Redelivery; answered && left > 0; left -= r.config.AckWait / 3 {
			if err := from.InProgress(); err != nil {
				return false, err
			}
			answered = pause(s.stop, min(left, r.config.AckWait/3))
		}
		if !answered {
			return false, from.Nak()
		}
	}
}

func fromNATS(from jetstream.Msg) *message.Message {
	header := from.Headers()
	id := header.Get(nats.MsgIdHdr)
	if id == "" {
		id = header.Get(uuidHeader)
	}
	m := message.NewMessage(id, from.Data())
	for key := range header {
		if key != nats.MsgIdHdr && key != uuidHeader && key != nats.ExpectedStreamHdr {
			m.Metadata.Set(key, header.Get(key))
		}
	}
	return m
}

func (r *natsReceiver) end() { r.conn.Close() }
