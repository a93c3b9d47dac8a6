package broker

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
	"github.com/tenure-dev/tenure/domain"
)

// KafkaSink publishes to a topic of Kafka, 2.1 or newer. A message's key is its stream, so a stream's messages are in one partition.
type KafkaSink struct {
	Brokers  []string // host:port of some
	Topic    string
	TLS      bool
	CA       []byte // certificates (PEM) to trust instead of the system's; with TLS
	User     string // for SASL/PLAIN, which asks for TLS; none when absent
	Password settings.Secret
	MaxBytes int           // of one message with its headers, as the topic's max.message.bytes: 1,000,000; 1 KiB to 100 MiB
	Timeout  time.Duration // of one message; 10s, at least 100ms, at most 5m
}

// NewKafkaSink gives the defaults.
func NewKafkaSink() *KafkaSink { return &KafkaSink{MaxBytes: 1_000_000, Timeout: defaultTimeout} }

func (c *KafkaSink) read(s *settings.Section) {
	c.Brokers, c.Topic = s.Texts("brokers"), s.Required("topic")
	c.TLS, c.CA = s.Bool("tls", false), s.Certificates("ca")
	c.User, c.Password = s.Text("user", ""), settings.NewSecret(s.Text("password", ""))
	c.MaxBytes, c.Timeout = s.Number("maxBytes", c.MaxBytes, 1<<10, 100<<20), readTimeout(s)
}

// Publisher connects with the first message. A wrong setting is refused.
func (c *KafkaSink) Publisher(*slog.Logger) (message.Publisher, error) {
	password := c.Password.Reveal()
	trusted, err := authorities(c.CA)
	if err := cmp.Or(c.check(), err); err != nil {
		return nil, err
	}
	switch {
	case (c.User == "") != (password == ""):
		return nil, domain.Invalid("password", "goes with user: both or none")
	case c.User != "" && !c.TLS:
		return nil, domain.Invalid("tls", "must be true where a password is sent")
	case c.CA != nil && !c.TLS:
		return nil, domain.Invalid("ca", "goes with tls: true")
	}
	config := c.producer()
	config.Net.TLS.Enable, config.Net.TLS.Config = c.TLS, trusted
	config.Net.SASL.Enable, config.Net.SASL.User, config.Net.SASL.Password = c.User != "", c.User, password
	if err := config.Validate(); err != nil {
		return nil, domain.Invalid("brokers", "cannot be used with these settings: %s", hiding(password).scrub(err.Error()))
	}
	t := &kafkaTarget{topic: c.Topic, brokers: c.Brokers, config: config}
	return newPublisher(t, hiding(password), c.Timeout), nil
}

func (c *KafkaSink) check() error {
	if len(c.Brokers) == 0 {
		return domain.Invalid("brokers", "must be given")
	}
	for _, b := range c.Brokers {
		if host, port, err := net.SplitHostPort(b); err != nil || host == "" || port == "" {
			return domain.Invalid("brokers", "must be of the form host:port")
		}
	}
	if len(c.Topic) > 249 || strings.Trim(c.Topic, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" || strings.Trim(c.Topic, ".") == "" {
		return domain.Invalid("topic", "must be made of letters, digits, ., _ and -, at most 249")
	}
	return nil
}

// producer asks for the acknowledgement of all replicas in sync and for the broker to drop what the library sends again.
func (c *KafkaSink) producer() *sarama.Config {
	config := sarama.NewConfig()
	config.ClientID = "tenure"
	config.Version = sarama.V2_1_0_0
	config.Metadata.Full = false  // only of our topic
	config.Metadata.Retry.Max = 1 // whoever publishes tries again, at distances of his own
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1 // as idempotence and order demand
	config.Producer.Return.Successes, config.Producer.Return.Errors = true, true
	config.Producer.MaxMessageBytes = c.MaxBytes
	config.Producer.Timeout = c.Timeout
	config.Net.DialTimeout, config.Net.ReadTimeout, config.Net.WriteTimeout = c.Timeout, 2*c.Timeout, c.Timeout
	return config
}

// kafkaTarget opens its producer when a message comes, since the library wants the broker up for that.
type kafkaTarget struct {
	topic   string
	brokers []string
	config  *sarama.Config

	mu   sync.Mutex
	open *kafkaProducer
}

// kafkaProducer is a producer with its client: the library's own constructor leaves the client running where the producer
// cannot be made.
type kafkaProducer struct {
	sarama.SyncProducer
	client sarama.Client
}

func (t *kafkaTarget) send(ctx context.Context, m *message.Message) error {
	record, err := toKafka(t.topic, m)
	if err != nil {
		return err
	}
	producer, err := t.producer(ctx)
	if err != nil {
		return err
	}
	_, _, err = producer.SendMessage(record)
	return err
}

func (t *kafkaTarget) producer(ctx context.Context) (*kafkaProducer, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open != nil {
		return t.open, nil
	}
	if err := ctx.Err(); err != nil { // whoever held the lock has used up our time
		return nil, err
	}
	client, err := sarama.NewClient(t.brokers, t.config)
	if err != nil {
		return nil, err
	}
	opened, err := sarama.NewSyncProducerFromClient(client)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	t.open = &kafkaProducer{opened, client}
	return t.open, nil
}

// toKafka adds the key and our headers to watermill's form.
func toKafka(topic string, m *message.Message) (*sarama.ProducerMessage, error) {
	record, err := kafka.DefaultMarshaler{}.Marshal(topic, m)
	if err != nil {
		return nil, err
	}
	key := m.Metadata.Get(streamKey)
	if key == "" {
		key = m.UUID
	}
	record.Key = sarama.StringEncoder(key)
	record.Headers = append(record.Headers,
		sarama.RecordHeader{Key: []byte("content-type"), Value: []byte(contentType)},
		sarama.RecordHeader{Key: []byte("ce_id"), Value: []byte(m.UUID)})
	return record, nil
}

func (t *kafkaTarget) judge(err error) verdict {
	var wrong sarama.ConfigurationError
	switch {
	case errors.Is(err, sarama.ErrMessageSizeTooLarge), errors.As(err, &wrong) && strings.Contains(string(wrong), "MaxMessageBytes"):
		return verdict{CodeTooLarge, true}
	case errors.Is(err, sarama.ErrInvalidRecord):
		return verdict{CodeInvalid, true}
	case errors.Is(err, sarama.ErrUnknownTopicOrPartition), errors.Is(err, sarama.ErrInvalidTopic):
		return verdict{code: CodeUnroutable}
	case errors.Is(err, sarama.ErrTopicAuthorizationFailed), errors.Is(err, sarama.ErrClusterAuthorizationFailed), errors.Is(err, sarama.ErrSASLAuthenticationFailed):
		return verdict{code: CodeUnauthorized}
	}
	return verdict{}
}

func (t *kafkaTarget) end() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		return nil
	}
	return errors.Join(t.open.Close(), t.open.client.Close())
}
