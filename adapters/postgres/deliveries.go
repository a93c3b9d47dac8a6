package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Delivery is one attempt of a sink to deliver an event.
type Delivery struct {
	ID                          int64 // given by Record; later ones have higher ids
	Sink, EventID, Type, Stream string
	Revision                    int64
	Attempt                     int // from 1
	Started                     time.Time
	Took                        time.Duration // to the µs
	Outcome, Code               string
	Status                      int // of HTTP; 0 for none
}

// Deliveries keeps what sinks have tried lately. Nothing rests on it.
type Deliveries struct {
	DB   *Database
	Keep int // how many of each sink are kept, at least; 10,000 when zero

	since int // recorded since the table was last trimmed; only Record uses it
}

// Record keeps a batch, and once in a while deletes what is too old. It is for one caller at a time.
func (d *Deliveries) Record(ctx context.Context, batch []Delivery) error {
	_, err := d.DB.Pool.CopyFrom(ctx, pgx.Identifier{"tenure", "deliveries"},
		[]string{"sink", "event_id", "type", "stream", "revision", "attempt", "started", "took", "outcome", "code", "status"},
		pgx.CopyFromSlice(len(batch), func(i int) ([]any, error) {
			x := batch[i]
			return []any{x.Sink, x.EventID, x.Type, x.Stream, x.Revision, int32(x.Attempt), x.Started.UTC(), x.Took.Microseconds(), x.Outcome, x.Code, int32(x.Status)}, nil
		}))
	if err != nil {
		return err
	}
	keep := d.Keep
	if keep == 0 {
		keep = 10_000
	}
	if d.since += len(batch); d.since < keep/10 {
		return nil
	}
	d.since = 0
	_, err = d.DB.Pool.Exec(ctx, `delete from tenure.deliveries old using (
			select sink, (select id from tenure.deliveries x where x.sink = s.sink order by id desc offset $1 limit 1) as last
			from (select distinct sink from tenure.deliveries) s) bound
		where old.sink = bound.sink and old.id <= bound.last`, keep)
	return err
}

// Recent gives at most limit attempts of a sink, the latest first: those with lower ids than before, or all when it is 0.
func (d *Deliveries) Recent(ctx context.Context, sink string, before int64, limit int) ([]Delivery, error) {
	rows, err := d.DB.Pool.Query(ctx, `select id, sink, event_id, type, stream, revision, attempt, started, took, outcome, code, status
		from tenure.deliveries where sink = $1 and ($2 = 0 or id < $2) order by id desc limit $3`, sink, before, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (x Delivery, err error) {
		var took int64
		err = row.Scan(&x.ID, &x.Sink, &x.EventID, &x.Type, &x.Stream, &x.Revision, &x.Attempt, &x.Started, &took, &x.Outcome, &x.Code, &x.Status)
		x.Started, x.Took = x.Started.UTC(), time.Duration(took)*time.Microsecond
		return x, err
	})
}
