package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/projections"
)

// Store keeps groups' rows. It has one connection of its own for writing, opened when it is needed.
type Store struct {
	db *Database

	mu       sync.Mutex
	conn     *pgx.Conn
	prepared map[string]bool
	tables   map[string]string // physical names, by projection; set by Prepare
}

var _ projections.Store = (*Store)(nil)

// Store gives a store for one process's group. Close it after the group.
func (db *Database) Store() *Store { return &Store{db: db, tables: map[string]string{}} }

// Close closes the writing connection.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close(ctx)
	s.conn = nil
	return err
}

// with runs f on the writing connection. One that broke is replaced at the next call.
func (s *Store) with(ctx context.Context, f func(c *pgx.Conn) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil || s.conn.IsClosed() {
		c, err := pgx.ConnectConfig(ctx, s.db.writer)
		if err != nil {
			return err
		}
		s.conn, s.prepared = c, map[string]bool{}
	}
	err := f(s.conn)
	var pg *pgconn.PgError
	if err != nil && !errors.As(err, &pg) && !errors.Is(err, projections.ErrFenced) {
		s.conn.Close(context.WithoutCancel(ctx)) // whatever it still does ends with it
		s.conn = nil
	}
	return fenced(err)
}

// within runs f in a transaction on the writing connection.
func (s *Store) within(ctx context.Context, f func(tx pgx.Tx) error) error {
	return s.with(ctx, func(c *pgx.Conn) error { return pgx.BeginFunc(ctx, c, f) })
}

// fencedState is the SQLSTATE of tenure.advance.
const fencedState = "TN001"

func fenced(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == fencedState {
		return fmt.Errorf("%w", projections.ErrFenced)
	}
	return err
}

// Lease gives the group's lease as it stands.
func (s *Store) Lease(ctx context.Context, group string) (projections.Lease, error) {
	l := projections.Lease{Group: group}
	err := s.with(ctx, func(c *pgx.Conn) error {
		err := c.QueryRow(ctx, "select owner, epoch, beat from tenure.leases where grp = $1", group).Scan(&l.Owner, &l.Epoch, &l.Beat)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return l, err
}

// Acquire takes the lease; from then on the checkpoint moves for nobody else.
func (s *Store) Acquire(ctx context.Context, seen projections.Lease, owner string) (projections.Lease, error) {
	l := projections.Lease{Group: seen.Group, Owner: owner}
	err := s.within(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "insert into tenure.leases (grp, owner, epoch, beat) values ($1, '', 0, 0) on conflict do nothing", seen.Group); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, `update tenure.leases set owner = $5, epoch = epoch + 1, beat = 0
			where grp = $1 and owner = $2 and epoch = $3 and beat = $4 returning epoch`,
			seen.Group, seen.Owner, seen.Epoch, seen.Beat, owner).Scan(&l.Epoch)
		if errors.Is(err, pgx.ErrNoRows) {
			return projections.ErrFenced
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `insert into tenure.checkpoints (grp, lease_epoch, position, log_number, log_id) values ($1, $2, -1, 0, '')
			on conflict (grp) do update set lease_epoch = excluded.lease_epoch`, seen.Group, l.Epoch)
		return err
	})
	return l, err
}

// Renew raises the lease's beat.
func (s *Store) Renew(ctx context.Context, l projections.Lease) (projections.Lease, error) {
	err := s.with(ctx, func(c *pgx.Conn) error {
		tag, err := c.Exec(ctx, "update tenure.leases set beat = beat + 1 where grp = $1 and owner = $2 and epoch = $3", l.Group, l.Owner, l.Epoch)
		if err == nil && tag.RowsAffected() == 0 {
			return projections.ErrFenced
		}
		return err
	})
	l.Beat++
	return l, err
}

// Release makes the lease nobody's.
func (s *Store) Release(ctx context.Context, l projections.Lease) error {
	return s.within(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "update tenure.leases set owner = '' where grp = $1 and owner = $2 and epoch = $3", l.Group, l.Owner, l.Epoch)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return projections.ErrFenced
		}
		_, err = tx.Exec(ctx, "select pg_notify($1, $2)", channel, l.Group+" free")
		return err
	})
}

// Mark gives the group's checkpoint and its parked keys.
func (s *Store) Mark(ctx context.Context, l projections.Lease) (m projections.Mark, parked []projections.Parked, err error) {
	err = s.within(ctx, func(tx pgx.Tx) error {
		if err := held(ctx, tx, l, &m); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `select projection, version, key, stream, revision, position, error from tenure.parked
			where grp = $1`, l.Group)
		if err != nil {
			return err
		}
		parked, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (p projections.Parked, err error) {
			err = r.Scan(&p.Projection, &p.Version, &p.Key, &p.Stream, &p.Revision, &p.Commit, &p.Error)
			p.Key, p.Stream = unprinted(p.Key), unprinted(p.Stream)
			return p, err
		})
		return err
	})
	return m, parked, err
}

// held reads the checkpoint and locks it for the transaction, unless the lease has been taken by another.
func held(ctx context.Context, tx pgx.Tx, l projections.Lease, m *projections.Mark) error {
	var log domain.Epoch
	err := tx.QueryRow(ctx, "select position, log_number, log_id from tenure.checkpoints where grp = $1 and lease_epoch = $2 for update",
		l.Group, l.Epoch).Scan(&m.Commit, &log.Number, &log.ID)
	if errors.Is(err, pgx.ErrNoRows) {
		return projections.ErrFenced
	}
	m.Log = log
	return err
}
