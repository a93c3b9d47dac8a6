package broker

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
	"github.com/tenure-dev/tenure/domain"
)

// PostgresTable says where messages are: table Topic of schema Schema has a row a message, in watermill-sql's form
// ("offset", uuid, created_at, payload, metadata, transaction_id); Topic_offsets has how far each consumer group has read.
type PostgresTable struct {
	URL     settings.Secret // postgres://user:password@host:port/database
	Schema  string          // tenure by default
	Topic   string          // a letter or _, then letters, digits or _, all lower case; at most 55
	Declare bool            // make the schema and the tables if they are not there (default); else they must be there
}

func (c *PostgresTable) read(s *settings.Section) {
	c.URL, c.Topic = settings.NewSecret(s.Required("url")), s.Required("topic")
	c.Schema, c.Declare = s.Text("schema", c.Schema), s.Bool("declare", c.Declare)
}

// PostgresSink publishes to a table.
type PostgresSink struct {
	PostgresTable
	MaxBytes int           // of a payload: 16 MiB; 1 KiB to 512 MiB
	Timeout  time.Duration // of one message; 10s, at least 100ms, at most 5m
}

// NewPostgresSink gives the defaults.
func NewPostgresSink() *PostgresSink {
	return &PostgresSink{PostgresTable{Schema: "tenure", Declare: true}, 16 << 20, defaultTimeout}
}

func (c *PostgresSink) read(s *settings.Section) {
	c.PostgresTable.read(s)
	c.MaxBytes, c.Timeout = s.Number("maxBytes", c.MaxBytes, 1<<10, 512<<20), readTimeout(s)
}

var tableForm = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,54}$`) // with _offsets at most 63 bytes

// Publisher connects with the first message. A wrong setting is refused.
func (c *PostgresSink) Publisher(log *slog.Logger) (message.Publisher, error) {
	pool, hide, err := c.pool()
	if err != nil {
		return nil, err
	}
	inner, err := wsql.NewPublisher(wsql.BeginnerFromPgx(pool), wsql.PublisherConfig{SchemaAdapter: c.adapter()}, libraryLog{log: quiet(log), hide: hide})
	if err != nil {
		pool.Close()
		return nil, err
	}
	return newPublisher(&postgresTarget{inner: inner, pool: pool, config: *c, making: make(chan struct{}, 1)}, hide, c.Timeout), nil
}

// pool does not connect yet.
func (c *PostgresTable) pool() (*pgxpool.Pool, scrubber, error) {
	url := c.URL.Reveal()
	if err := cmp.Or(formed("schema", c.Schema, tableForm), formed("topic", c.Topic, tableForm), checkURL("url", url, "postgres", "postgresql")); err != nil {
		return nil, nil, err
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, nil, domain.Invalid("url", "must be a URL of the form postgres://user:password@host:port/database")
	}
	config.ConnConfig.RuntimeParams["application_name"] = "tenure"
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	return pool, hiding(url, config.ConnConfig.Password), err
}

func (c *PostgresTable) table() string   { return `"` + c.Schema + `"."` + c.Topic + `"` }
func (c *PostgresTable) offsets() string { return `"` + c.Schema + `"."` + c.Topic + `_offsets"` }

// adapter makes the schema, too. A payload is kept as json: the text as it came.
func (c *PostgresTable) adapter() postgresSchema {
	return postgresSchema{c.Schema, wsql.DefaultPostgreSQLSchema{
		GenerateMessagesTableName: func(string) string { return c.table() },
		SubscribeBatchSize:        1, // acknowledged messages are kept in batches: of one, so that each is for itself
	}}
}

type postgresSchema struct {
	schema string
	wsql.DefaultPostgreSQLSchema
}

func (s postgresSchema) SchemaInitializingQueries(p wsql.SchemaInitializingQueriesParams) ([]wsql.Query, error) {
	queries, err := s.DefaultPostgreSQLSchema.SchemaInitializingQueries(p)
	if err != nil || len(queries) == 0 {
		return nil, err
	}
	lock, rest := queries[0], queries[1:] // the library locks first: the schema is made under that
	return append([]wsql.Query{lock, {Query: `CREATE SCHEMA IF NOT EXISTS "` + s.schema + `"`}}, rest...), nil
}

type postgresTarget struct {
	inner  *wsql.Publisher
	pool   *pgxpool.Pool
	config PostgresSink
	making chan struct{} // holds a token while somebody makes the tables; closed when they are made
	made   bool          // with the token
}

func (t *postgresTarget) send(ctx context.Context, m *message.Message) error {
	if len(m.Payload) > t.config.MaxBytes {
		return &Failure{code: CodeTooLarge, permanent: true, text: "the payload is over the setting maxBytes"}
	}
	if err := t.ensure(ctx); err != nil {
		return err
	}
	bounded := m.CopyWithContext()
	bounded.SetContext(ctx)
	return t.inner.Publish(t.config.Topic, bounded)
}

// ensure makes the schema and the table once, in one transaction.
func (t *postgresTarget) ensure(ctx context.Context) error {
	if !t.config.Declare {
		return nil
	}
	select {
	case t.making <- struct{}{}:
		defer func() { <-t.making }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if t.made {
		return nil
	}
	queries, err := t.config.adapter().SchemaInitializingQueries(wsql.SchemaInitializingQueriesParams{Topic: t.config.Topic})
	if err != nil {
		return err
	}
	tx, err := t.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	for _, q := range queries {
		if _, err := tx.Exec(ctx, q.Query, q.Args...); err != nil {
			return err
		}
	}
	err = tx.Commit(ctx)
	t.made = err == nil
	return err
}

func (t *postgresTarget) judge(err error) verdict {
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		return verdict{}
	}
	switch class := said.Code[:min(2, len(said.Code))]; {
	case class == "54": // program limit exceeded
		return verdict{CodeTooLarge, true}
	case class == "22": // data exception: no JSON, an id of more than 36 bytes
		return verdict{CodeInvalid, true}
	case class == "28", said.Code == "42501":
		return verdict{code: CodeUnauthorized}
	case strings.HasPrefix(said.Code, "42P01"), class == "3D", class == "3F":
		return verdict{code: CodeUnroutable}
	}
	return verdict{}
}

func (t *postgresTarget) end() error {
	err := t.inner.Close()
	t.pool.Close()
	return err
}

var _ watermill.LoggerAdapter = libraryLog{}
