package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tenure-dev/tenure/sagas"
)

// Cursors keeps places in the log by name. It implements sagas.Cursors.
type Cursors struct {
	DB   *Database
	Name string
}

// Load implements sagas.Cursors.
func (c Cursors) Load(ctx context.Context) (at sagas.Cursor, found bool, err error) {
	var place []byte
	err = c.DB.Pool.QueryRow(ctx, "select place from tenure.cursors where name = $1", c.Name).Scan(&place)
	if errors.Is(err, pgx.ErrNoRows) {
		return at, false, nil
	}
	if err == nil {
		err = json.Unmarshal(place, &at)
	}
	return at, err == nil, err
}

// Save implements sagas.Cursors.
func (c Cursors) Save(ctx context.Context, at sagas.Cursor) error {
	place, err := json.Marshal(at)
	if err == nil {
		_, err = c.DB.Pool.Exec(ctx, `insert into tenure.cursors (name, place) values ($1, $2)
			on conflict (name) do update set place = excluded.place`, c.Name, place)
	}
	return err
}

// Lock makes one of many processes the leader by a session's advisory lock, which falls free at once when the leader's
// connection ends, however it ends. It implements sagas.Lease.
type Lock struct {
	DB    *Database
	Key   int64
	After func(time.Duration) <-chan time.Time
}

// lockCheck is how often the leader looks whether its session still lives; afterwards it may overlap with the next one for
// so long at most, which expected revisions make harmless.
const lockCheck = time.Second

// Lead implements sagas.Lease.
func (l Lock) Lead(ctx context.Context, run func(ctx context.Context) error) error {
	conn, err := pgx.ConnectConfig(ctx, l.DB.writer.Copy())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "select pg_advisory_lock($1)", l.Key); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		for {
			select {
			case <-ctx.Done():
				return
			case <-l.After(lockCheck):
			}
			if err := conn.Ping(ctx); err != nil {
				cancel(err)
				return
			}
		}
	}()
	err = run(ctx)
	cancel(nil)
	<-watching
	return err
}
