package broker

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	amqp "github.com/rabbitmq/amqp091-go"
)

// maxTopics bounds the topics of one publisher of answers: whoever asks for an answer may name one.
const maxTopics = 100

// answers is a publisher whose topic says where a message goes: each topic has a publisher of its own, made when it is needed.
type answers struct {
	open func(topic string) (message.Publisher, error)

	mu     sync.Mutex
	made   map[string]message.Publisher
	closed bool
}

func newAnswers(open func(topic string) (message.Publisher, error)) *answers {
	return &answers{open: open, made: map[string]message.Publisher{}}
}

// Publish returns when the broker has stored every message under the topic, or with a *Failure. A topic that is not there is
// made, up to maxTopics of them.
func (a *answers) Publish(topic string, messages ...*message.Message) error {
	p, err := a.of(topic)
	if err != nil {
		return err
	}
	return p.Publish(topic, messages...)
}

func (a *answers) of(topic string) (message.Publisher, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch p := a.made[topic]; {
	case a.closed:
		return nil, &Failure{code: CodeClosed, text: "the publisher is closed"}
	case p != nil:
		return p, nil
	case len(a.made) >= maxTopics:
		return nil, &Failure{code: CodeUnroutable, permanent: true, text: "there are answers to too many topics"}
	}
	p, err := a.open(topic)
	if err != nil {
		return nil, &Failure{code: CodeUnroutable, permanent: true, text: "the topic cannot be one of this broker"}
	}
	a.made[topic] = p
	return p, nil
}

// Close closes all of them.
func (a *answers) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	var errs []error
	for _, p := range a.made {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

var notOfNames = regexp.MustCompile(`[^A-Za-z0-9_]+`)

// nameOf makes a name of letters, digits and _ of a topic.
func nameOf(topic string) string { return notOfNames.ReplaceAllString(topic, "_") }

// Answers publishes to subjects that are the topics. A subject that no stream takes gets one of its own, which has its name.
func (c *NATSSource) Answers(log *slog.Logger) (message.Publisher, error) {
	conn, hide, err := c.connect(log, nil)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	all := newAnswers(func(topic string) (message.Publisher, error) {
		subject, err := parseTemplate("topic", strings.ReplaceAll(topic, "/", "."), subjectForbids, 4096)
		if err != nil {
			return nil, err
		}
		t := &natsTarget{conn: conn, js: js, subject: subject, config: NATSSink{NATSServer: NATSServer{Stream: nameOf(topic)}}}
		return newPublisher(&natsAnswers{t, strings.ReplaceAll(topic, "/", ".")}, hide, defaultTimeout), nil
	})
	return &shared{all, conn.Close}, nil
}

type natsAnswers struct {
	*natsTarget
	name string
}

func (t *natsAnswers) send(ctx context.Context, m *message.Message) error {
	msg := func() *nats.Msg { return &nats.Msg{Subject: t.name, Data: m.Payload, Header: natsHeader(m)} }
	_, err := t.js.PublishMsg(ctx, msg(), jetstream.WithMsgID(m.UUID))
	if !errors.Is(err, jetstream.ErrNoStreamResponse) && !errors.Is(err, nats.ErrNoResponders) {
		return err
	}
	if _, err := t.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: t.config.Stream, Subjects: []string{t.name}}); err != nil {
		return err
	}
	_, err = t.js.PublishMsg(ctx, msg(), jetstream.WithMsgID(m.UUID))
	return err
}

// end leaves the connection to those who share it.
func (t *natsAnswers) end() error { return nil }

// shared is publishers of topics over one connection.
type shared struct {
	*answers
	hangUp func()
}

func (s *shared) Close() error {
	err := s.answers.Close()
	s.hangUp()
	return err
}

// Answers publishes to queues that have the topics' names, which are made where they are not there.
func (c *AMQPSource) Answers(*slog.Logger) (message.Publisher, error) {
	link, err := newLink(c.URL, c.CA)
	if err != nil {
		return nil, err
	}
	all := newAnswers(func(topic string) (message.Publisher, error) {
		if err := amqpName("topic", topic); err != nil {
			return nil, err
		}
		return newPublisher(&amqpAnswers{link, topic}, link.hide, defaultTimeout), nil
	})
	return &shared{all, link.end}, nil
}

type amqpAnswers struct {
	link  *amqpLink
	queue string
}

func (t *amqpAnswers) send(ctx context.Context, m *message.Message) error {
	conn, err := t.link.connection(ctx)
	if err != nil {
		return err
	}
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	defer ch.Close()
	if _, err := ch.QueueDeclare(t.queue, true, false, false, false, nil); err != nil {
		return err
	}
	if err := ch.Confirm(false); err != nil {
		return err
	}
	_, err = (&amqpChannel{ch, ch.NotifyReturn(make(chan amqp.Return, 1)), ch.NotifyClose(make(chan *amqp.Error, 1))}).publish(ctx, "", t.queue, m)
	return err
}

func (t *amqpAnswers) judge(err error) verdict { return judgeAMQP(err) }

func (t *amqpAnswers) end() error { return nil }

// Answers publishes to tables of the source's schema that have the topics' names, in lower case and with _ for what a table's name
// cannot hold. They are made where they are not there.
func (c *PostgresSource) Answers(log *slog.Logger) (message.Publisher, error) {
	return newAnswers(func(topic string) (message.Publisher, error) {
		s := NewPostgresSink()
		s.URL, s.Schema, s.Topic = c.URL, c.Schema, strings.ToLower(nameOf(topic))
		return s.Publisher(log)
	}), nil
}
