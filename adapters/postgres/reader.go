package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/projections"
)

// Reader reads a group's tables as they are at one position.
type Reader struct {
	db     *Database
	group  string
	tables []*projections.Table
}

// Reader gives a reader of those tables of a group, in the versions that this release knows.
func (db *Database) Reader(group string, tables []*projections.Table) *Reader {
	return &Reader{db, group, tables}
}

// Snapshot is one read transaction: the whole group at one position.
type Snapshot struct {
	pgx.Tx
	Position domain.Position // of the last event in the rows
	Begun    bool            // there was one; otherwise Position says nothing
	tables   map[string]string
	parked   bool // some key is
	group    string
	versions map[string]int
}

// Read runs f in one REPEATABLE READ transaction that has read the checkpoint first. It is CodeUnavailable while a table is
// not there in the version that this release knows.
func (r *Reader) Read(ctx context.Context, f func(s *Snapshot) error) error {
	s, err := r.open(ctx)
	if err != nil && domain.CodeOf(err) != domain.CodeUnavailable && ctx.Err() == nil {
		r.db.Pool.Reset() // the server may have been started again under the pool's connections
		s, err = r.open(ctx)
	}
	switch {
	case err == nil:
	case domain.CodeOf(err) == domain.CodeUnavailable:
		return err
	default:
		return domain.Unavailable("the read side does not answer", err)
	}
	defer s.Rollback(context.WithoutCancel(ctx)) // nothing was written
	return f(s)
}

func (r *Reader) open(ctx context.Context) (*Snapshot, error) {
	tx, err := r.db.Pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, err
	}
	s, err := r.snapshot(ctx, tx)
	if err != nil {
		tx.Rollback(context.WithoutCancel(ctx))
		return nil, err
	}
	return s, nil
}

func (r *Reader) snapshot(ctx context.Context, tx pgx.Tx) (*Snapshot, error) {
	s := &Snapshot{Tx: tx, group: r.group, tables: map[string]string{}, versions: map[string]int{}}
	var at int64
	var projection, name []string
	var version []int
	err := tx.QueryRow(ctx, `select c.position, c.log_number, c.log_id, exists (select from tenure.parked p where p.grp = c.grp),
		coalesce(array_agg(r.projection order by r.projection) filter (where r.serving), '{}'),
		coalesce(array_agg(r.version order by r.projection) filter (where r.serving), '{}'),
		coalesce(array_agg(r.table_name order by r.projection) filter (where r.serving), '{}')
		from tenure.checkpoints c left join tenure.registry r on r.grp = c.grp where c.grp = $1 group by c.grp`, r.group).
		Scan(&at, &s.Position.Epoch.Number, &s.Position.Epoch.ID, &s.parked, &projection, &version, &name)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, err
	}
	for i, p := range projection {
		s.tables[p], s.versions[p] = name[i], version[i]
	}
	for _, t := range r.tables {
		switch v, known := s.versions[t.Name]; {
		case !known:
			return nil, domain.Unavailable(t.Name+" is being built", nil)
		case v != t.Version:
			return nil, domain.Unavailable(fmt.Sprintf("%s has version %d, this release reads version %d", t.Name, v, t.Version), nil)
		}
	}
	if s.Begun = at != projections.Nowhere && err == nil; s.Begun {
		s.Position.Commit = uint64(at)
	}
	return s, nil
}

// Table is the name, as SQL has it, of the table that serves a projection now.
func (s *Snapshot) Table(projection string) string {
	name := s.tables[projection]
	if name == "" {
		panic("no projection is called " + projection)
	}
	return name
}

// Parked is CodeUnavailable if the row, or all of its stream's, stands still until it is healed.
func (s *Snapshot) Parked(ctx context.Context, projection, key string) error {
	if !s.parked {
		return nil
	}
	own, _, _ := strings.Cut(key, "/")
	var parked bool
	err := s.QueryRow(ctx, "select exists (select from tenure.parked where grp = $1 and projection = $2 and version = $3 and key in ($4, $5))",
		s.group, projection, s.versions[projection], printed(key), printed(own)).Scan(&parked)
	if err == nil && parked {
		err = domain.Unavailable(fmt.Sprintf("%s %s is parked until it is healed", projection, key), nil)
	}
	return err
}
