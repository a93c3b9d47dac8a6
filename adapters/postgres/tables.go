package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tenure-dev/tenure/projections"
)

// sqlTypes are the columns' types. Text sorts by its bytes, as Go does.
var sqlTypes = map[projections.Kind]string{
	projections.Text:  `text collate "C"`,
	projections.Int:   "bigint",
	projections.Bool:  "boolean",
	projections.Time:  "timestamptz",
	projections.Texts: `text[] collate "C"`,
}

// Prepare makes the tables that nobody serves in their version, and removes what earlier builds and versions left. Tables
// that another version serves stay until the new one has taken over and the group is begun once more.
func (s *Store) Prepare(ctx context.Context, l projections.Lease, tables []*projections.Table) (unbuilt []*projections.Table, err error) {
	names := map[string]string{}
	err = s.within(ctx, func(tx pgx.Tx) error {
		var m projections.Mark
		if err := held(ctx, tx, l, &m); err != nil {
			return err
		}
		for _, t := range tables {
			name, serving, err := prepare(ctx, tx, l.Group, t)
			if err != nil {
				return err
			}
			names[t.Name] = name
			if !serving {
				unbuilt = append(unbuilt, t)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.prepared = map[string]bool{}
		if err := s.conn.DeallocateAll(ctx); err != nil {
			return nil, err
		}
	}
	s.tables = names
	return unbuilt, nil
}

func prepare(ctx context.Context, tx pgx.Tx, group string, t *projections.Table) (name string, serving bool, err error) {
	type known struct {
		version, generation int64
		name                string
		serving, exists     bool
	}
	rows, err := tx.Query(ctx, `select version, generation, table_name, serving, to_regclass(table_name) is not null
		from tenure.registry where projection = $1 order by version, generation`, t.Name)
	if err != nil {
		return "", false, err
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (k known, err error) {
		err = r.Scan(&k.version, &k.generation, &k.name, &k.serving, &k.exists)
		return k, err
	})
	if err != nil {
		return "", false, err
	}
	generation := int64(0)
	for _, k := range all {
		ours := k.version == int64(t.Version)
		if ours {
			generation = max(generation, k.generation)
		}
		switch {
		case ours && k.serving && k.exists:
			name, serving = k.name, true
		case k.serving && k.exists: // another version, which readers use until ours is built
		default:
			if err := dropTable(ctx, tx, k.name); err != nil {
				return "", false, err
			}
		}
	}
	if serving {
		return name, true, nil
	}
	name = fmt.Sprintf("tenure.%s_v%d_g%d", t.Name, t.Version, generation+1)
	if _, err := tx.Exec(ctx, createTable(name, t)); err != nil {
		return "", false, err
	}
	for _, columns := range t.Indexes {
		if _, err := tx.Exec(ctx, "create index on "+name+" ("+strings.Join(columns, ", ")+")"); err != nil {
			return "", false, err
		}
	}
	if _, err := tx.Exec(ctx, "delete from tenure.parked where grp = $1 and projection = $2 and version = $3", group, t.Name, t.Version); err != nil {
		return "", false, err
	}
	_, err = tx.Exec(ctx, "insert into tenure.registry (projection, version, generation, grp, table_name, serving) values ($1, $2, $3, $4, $5, false)",
		t.Name, t.Version, generation+1, group, name)
	return name, false, err
}

func dropTable(ctx context.Context, tx pgx.Tx, name string) error {
	if _, err := tx.Exec(ctx, "drop table if exists "+name); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "delete from tenure.registry where table_name = $1", name)
	return err
}

func createTable(name string, t *projections.Table) string {
	var lines []string
	for i, c := range t.Columns {
		line := quoted(c.Name) + " " + sqlTypes[c.Kind]
		switch {
		case i == 0:
			line += " primary key"
		case !c.Null:
			line += " not null"
		}
		lines = append(lines, line)
	}
	return "create table " + name + " (" + strings.Join(lines, ", ") + ")"
}

// Fill writes rows into a table that is being built.
func (s *Store) Fill(ctx context.Context, l projections.Lease, t *projections.Table, rows []projections.Upsert) (refused []projections.Parked, err error) {
	err = s.within(ctx, func(tx pgx.Tx) error {
		var m projections.Mark
		if err := held(ctx, tx, l, &m); err != nil {
			return err
		}
		refused, err = s.upsertSparing(ctx, tx, t, rows)
		return err
	})
	return refused, err
}

// Serve flips the registry, provided that the checkpoint stands where the tables were built up to.
func (s *Store) Serve(ctx context.Context, l projections.Lease, built []*projections.Table, parked []projections.Parked, at projections.Mark) error {
	return s.within(ctx, func(tx pgx.Tx) error {
		var m projections.Mark
		if err := held(ctx, tx, l, &m); err != nil {
			return err
		}
		if m.Commit != at.Commit {
			return projections.ErrFenced
		}
		for _, t := range built {
			if _, err := tx.Exec(ctx, "update tenure.registry set serving = false where projection = $1 and serving", t.Name); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "update tenure.registry set serving = true where table_name = $1", s.tables[t.Name]); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "analyze "+s.tables[t.Name]); err != nil {
				return err
			}
		}
		for _, p := range parked {
			if _, err := tx.Exec(ctx, parkSQL, parkArgs(l.Group, p)...); err != nil {
				return err
			}
		}
		return nil
	})
}

func quoted(name string) string { return `"` + name + `"` }

func columnNames(t *projections.Table) string {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = quoted(c.Name)
	}
	return strings.Join(names, ", ")
}
