package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/tenure-dev/tenure/projections"
)

// sparing does what Commit does, statement by statement, and parks the rows that Postgres refuses.
func (s *Store) sparing(ctx context.Context, tx pgx.Tx, c projections.Commit) (refused []projections.Parked, err error) {
	exec := func(sql string, args ...any) {
		if err == nil {
			_, err = tx.Exec(ctx, sql, args...)
		}
	}
	exec(advanceSQL, c.Lease.Group, c.Lease.Epoch, c.From, c.To.Commit, c.To.Log.Number, c.To.Log.ID)
	for _, changes := range c.Changes {
		if keys := storable(changes.Deletes); len(keys) > 0 {
			exec(s.deleteSQL(changes.Table), keys)
		}
		if err != nil {
			return nil, err
		}
		var more []projections.Parked
		if more, err = s.upsertSparing(ctx, tx, changes.Table, changes.Upserts); err != nil {
			return nil, err
		}
		refused = append(refused, more...)
	}
	for _, p := range c.Unpark {
		exec(unparkSQL, c.Lease.Group, p.Projection, p.Version, idOf(p))
	}
	for _, p := range append(append([]projections.Parked(nil), c.Park...), refused...) {
		exec(parkSQL, parkArgs(c.Lease.Group, p)...)
	}
	exec(notifySQL, notice(c))
	return refused, err
}

// upsertSparing writes rows under a savepoint, all at once if it can be, else in halves: a few bad rows among thousands
// cost a few dozen statements.
func (s *Store) upsertSparing(ctx context.Context, tx pgx.Tx, t *projections.Table, rows []projections.Upsert) ([]projections.Parked, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	err := pgx.BeginFunc(ctx, tx, func(save pgx.Tx) error {
		arrays := columnArrays(t, rows)
		formats := make([]int16, len(arrays))
		for i := range formats {
			formats[i] = pgx.BinaryFormatCode
		}
		_, err := save.Conn().PgConn().ExecParams(ctx, s.upsertSQL(t), arrays, nil, formats, nil).Close()
		return err
	})
	pg := refusal(err)
	switch {
	case pg == nil:
		return nil, err
	case len(rows) == 1:
		p := rows[0].First
		p.Error = pg.Code + ": " + pg.Message
		return []projections.Parked{p}, nil
	}
	half := len(rows) / 2
	refused, err := s.upsertSparing(ctx, tx, t, rows[:half])
	if err != nil {
		return nil, err
	}
	more, err := s.upsertSparing(ctx, tx, t, rows[half:])
	return append(refused, more...), err
}
