package broker

import (
	"log/slog"
	"time"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
)

// PostgresSource receives from a table: rows in the order of their transactions.
type PostgresSource struct {
	PostgresTable
	Group      string        // the consumer group, which keeps how far it has read; of tableForm
	Poll       time.Duration // how often the table is looked at where nothing has come; 1s, at least 10ms, at most 10m
	Redelivery time.Duration // how long a refused message rests; 1s, at least 1ms, at most 10m
}

// NewPostgresSource gives the defaults.
func NewPostgresSource() *PostgresSource {
	return &PostgresSource{PostgresTable: PostgresTable{Schema: "tenure", Declare: true}, Poll: time.Second, Redelivery: defaultRedelivery}
}

func (c *PostgresSource) read(s *settings.Section) {
	c.PostgresTable.read(s)
	c.Group, c.Redelivery = s.Required("group"), readRedelivery(s)
	c.Poll = s.DurationWithin("poll", c.Poll, 10*time.Millisecond, 10*time.Minute)
}

// Subscriber connects when it is subscribed to. A wrong setting is refused.
func (c *PostgresSource) Subscriber(log *slog.Logger) (message.Subscriber, error) {
	pool, hide, err := c.pool()
	if err != nil {
		return nil, err
	}
	return newSubscriber(&postgresReceiver{pool, *c, libraryLog{log: quiet(log), hide: hide}}, hide, quiet(log)), nil
}

type postgresReceiver struct {
	pool   *pgxpool.Pool
	config PostgresSource
	log    libraryLog
}

// receive passes the library's messages on: their answers are its own.
func (r *postgresReceiver) receive(s *session) error {
	unlimited := time.Duration(0) // how long an answer may take: the Router's matter
	inner, err := wsql.NewSubscriber(wsql.BeginnerFromPgx(r.pool), wsql.SubscriberConfig{
		ConsumerGroup: r.config.Group, AckDeadline: &unlimited,
		PollInterval: r.config.Poll, ResendInterval: r.config.Redelivery,
		SchemaAdapter:    r.config.adapter(),
		OffsetsAdapter:   wsql.DefaultPostgreSQLOffsetsAdapter{GenerateMessagesOffsetsTableName: func(string) string { return r.config.offsets() }},
		InitializeSchema: r.config.Declare,
	}, r.log)
	if err != nil {
		return err
	}
	defer inner.Close()
	messages, err := inner.Subscribe(s.hard, r.config.Topic)
	if err != nil {
		return err
	}
	for {
		select {
		case <-s.stop.Done():
			return nil
		case m, ok := <-messages:
			if !ok {
				return nil
			}
			if _, answered := s.hand(m, time.Hour, func() {}); !answered {
				return nil
			}
		}
	}
}

func (r *postgresReceiver) end() { r.pool.Close() }
