package postgres

import (
	"context"
	"errors"
	"iter"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tenure-dev/tenure/projections"
)

// Follow listens on a connection of its own. It listens first and reads the checkpoint then, so that no move is missed.
func (s *Store) Follow(ctx context.Context, group string) iter.Seq2[projections.Notice, error] {
	return func(yield func(projections.Notice, error) bool) {
		fail := func(err error) {
			if ctx.Err() == nil {
				yield(projections.Notice{}, err)
			}
		}
		conn, err := pgx.ConnectConfig(ctx, s.db.writer)
		if err != nil {
			fail(err)
			return
		}
		defer conn.Close(context.WithoutCancel(ctx))
		if _, err := conn.Exec(ctx, "listen "+channel); err != nil {
			fail(err)
			return
		}
		at := projections.Nowhere
		err = conn.QueryRow(ctx, "select position from tenure.checkpoints where grp = $1", group).Scan(&at)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			fail(err)
			return
		}
		if !yield(projections.Notice{Commit: at}, nil) {
			return
		}
		for {
			n, err := conn.WaitForNotification(ctx)
			if err != nil {
				fail(err)
				return
			}
			who, what, _ := strings.Cut(n.Payload, " ")
			if who != group {
				continue
			}
			notice := projections.Notice{Commit: at, Free: what == "free"}
			if to, err := strconv.ParseInt(what, 10, 64); err == nil {
				at, notice.Commit = to, to
			}
			if !yield(notice, nil) {
				return
			}
		}
	}
}
