package postgres

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// Options say which Postgres and how to use it.
type Options struct {
	URL      string          // postgresql://…
	MaxConns int32           // of the readers' pool; 16 if zero: more make a small machine slower
	Tracer   pgx.QueryTracer // or nil
	Logger   *slog.Logger    // slog.Default() if nil
}

// Database is an open read side.
type Database struct {
	Pool   *pgxpool.Pool // for readers
	writer *pgx.ConnConfig
	log    *slog.Logger
}

// Open connects, refuses a server older than 15, and brings the fixed tables up to date. Several processes may do so at once.
func Open(ctx context.Context, o Options) (*Database, error) {
	config, err := pgxpool.ParseConfig(o.URL)
	if err != nil {
		return nil, fmt.Errorf("the Postgres URL is malformed: %w", err)
	}
	config.MaxConns = 16
	if o.MaxConns > 0 {
		config.MaxConns = o.MaxConns
	}
	config.ConnConfig.Tracer = o.Tracer
	config.ConnConfig.RuntimeParams["application_name"] = "tenure"
	config.ConnConfig.RuntimeParams["timezone"] = "UTC"
	db := &Database{writer: config.ConnConfig.Copy(), log: o.Logger}
	if db.log == nil {
		db.log = slog.Default()
	}
	// The writer's plans are pinned: a generic plan made while a table was empty would scan it for ever, and the price put
	// on such a scan to forbid it would make Postgres compile every statement.
	db.writer.RuntimeParams["application_name"] = "tenure projections"
	db.writer.RuntimeParams["enable_seqscan"] = "off"
	db.writer.RuntimeParams["jit"] = "off"
	if db.Pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, err
	}
	if err := db.migrate(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// Close closes the pool once its connections are given back.
func (db *Database) Close() { db.Pool.Close() }

//go:embed migrations/*.sql
var migrations embed.FS

// setupLock is the advisory lock under which one process at a time prepares the schema.
const setupLock = 0x74656e757265 // "tenure"

func (db *Database) migrate(ctx context.Context) error {
	if err := db.schema(ctx); err != nil {
		return err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(setupLock + 1))
	if err != nil {
		return err
	}
	std := stdlib.OpenDBFromPool(db.Pool)
	defer std.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, std, files,
		goose.WithTableName("tenure.migrations"), goose.WithSessionLocker(locker), goose.WithSlog(db.log))
	if err != nil {
		return err
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("the read side's tables could not be brought up to date: %w", err)
	}
	return nil
}

// schema makes the schema that the migrations' own table stands in. "If not exists" alone fails when two do it at once.
func (db *Database) schema(ctx context.Context) error {
	return pgx.BeginFunc(ctx, db.Pool, func(tx pgx.Tx) error {
		var version int
		if err := tx.QueryRow(ctx, "select current_setting('server_version_num')::int").Scan(&version); err != nil {
			return err
		}
		if version < 150000 {
			return fmt.Errorf("Postgres 15 or later is needed, this is %d", version/10000)
		}
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", int64(setupLock)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "create schema if not exists tenure")
		return err
	})
}
