package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// deleteRows removes a tenant's rows from every table of the pool, referencing tables first, in one transaction. Where tables
// refer to each other in a ring the order cannot help, and the ring's foreign keys are not looked at: they begin with the
// tenant column, and all of the tenant's rows go.
func (d *Driver) deleteRows(ctx context.Context, tx pgx.Tx, tenantID string) error {
	order, ring, err := d.deleteOrder(ctx, tx)
	if err != nil {
		return err
	}
	if ring {
		if _, err := tx.Exec(ctx, "SET LOCAL session_replication_role = replica"); err != nil {
			return err
		}
	}
	for _, table := range order {
		if _, err := tx.Exec(ctx, "DELETE FROM "+table+" WHERE "+quote(d.column)+" = $1", tenantID); err != nil {
			return err
		}
	}
	return nil
}

// deleteOrder sorts the tables so that each comes after all that refer to it. Partitions are emptied through their parents.
func (d *Driver) deleteOrder(ctx context.Context, q querier) (order []string, ring bool, err error) {
	tables, err := column(ctx, q, `SELECT c.oid::regclass::text FROM pg_class c
		WHERE c.relnamespace = 'pool'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
		AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = $1 AND a.attnum > 0 AND NOT a.attisdropped)
		ORDER BY 1`, d.column)
	if err != nil {
		return nil, false, err
	}
	rows, err := q.Query(ctx, `SELECT DISTINCT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint
		WHERE contype = 'f' AND conrelid <> confrelid AND connamespace = 'pool'::regnamespace`)
	if err != nil {
		return nil, false, err
	}
	type edge struct{ From, To string }
	edges, err := pgx.CollectRows(rows, pgx.RowToStructByPos[edge])
	if err != nil {
		return nil, false, err
	}
	waiting := map[string]map[string]bool{} // table → those that refer to it and are not deleted from yet
	for _, t := range tables {
		waiting[t] = map[string]bool{}
	}
	for _, e := range edges {
		if waiting[e.To] != nil && waiting[e.From] != nil {
			waiting[e.To][e.From] = true
		}
	}
	for len(order) < len(tables) {
		before := len(order)
		for _, t := range tables {
			if by, open := waiting[t]; open && len(by) == 0 {
				order = append(order, t)
				delete(waiting, t)
				for _, others := range waiting {
					delete(others, t)
				}
			}
		}
		if len(order) == before {
			ring = true
			for _, t := range tables {
				if _, open := waiting[t]; open {
					order = append(order, t)
				}
			}
		}
	}
	return order, ring, nil
}
