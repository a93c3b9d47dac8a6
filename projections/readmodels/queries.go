package readmodels

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tenure-dev/tenure/projections"
)

// Snapshot is a read transaction of the live group.
type Snapshot interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	// Table is the name, as SQL has it, of the table that serves a projection.
	Table(projection string) string
	// Parked is CodeUnavailable if the row stands still until it is healed.
	Parked(ctx context.Context, projection, key string) error
}

// Queries asks the read models within one read transaction. Look-ups give the rows that exist, in no order; one of a parked
// row is CodeUnavailable. Pages give up to limit rows behind a place, in their order; a parked row in them is as it last was.
type Queries struct{ Snapshot }

// find selects rows: tail is what follows the table's name, with $1 and so on for args.
func find[Row any](ctx context.Context, q Queries, t *projections.Table, tail string, args ...any) ([]Row, error) {
	columns := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		columns[i] = pgx.Identifier{c.Name}.Sanitize()
	}
	sql := "select " + strings.Join(columns, ", ") + " from " + q.Table(t.Name) + " " + tail
	found, err := q.Query(ctx, sql, append([]any{pgx.QueryResultFormats{pgx.BinaryFormatCode}}, args...)...)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	var rows []Row
	for found.Next() {
		row, err := t.Decode(found.RawValues())
		if err != nil {
			return nil, err
		}
		rows = append(rows, row.(Row))
	}
	return rows, found.Err()
}

// byKey looks rows up.
func byKey[Row any](ctx context.Context, q Queries, t *projections.Table, keys []string) ([]Row, error) {
	for _, k := range keys {
		if err := q.Parked(ctx, t.Name, k); err != nil {
			return nil, err
		}
	}
	return find[Row](ctx, q, t, "where "+t.Columns[0].Name+" = any($1)", keys)
}

// filter collects the conditions of a page.
type filter struct {
	terms []string
	args  []any
}

// where adds a condition on one value, unless the value is empty: it does not ask then.
func (f *filter) where(condition, value string) {
	if value != "" {
		f.add(condition, value)
	}
}

// add adds a condition whose %d, one for each value, are their numbers.
func (f *filter) add(condition string, values ...any) {
	numbers := make([]any, len(values))
	for i, v := range values {
		f.args = append(f.args, v)
		numbers[i] = len(f.args)
	}
	f.terms = append(f.terms, fmt.Sprintf(condition, numbers...))
}

// page ends the query.
func (f *filter) page(order string, limit int) (tail string, args []any) {
	if len(f.terms) > 0 {
		tail = "where " + strings.Join(f.terms, " and ") + " "
	}
	f.args = append(f.args, limit)
	return fmt.Sprintf("%sorder by %s limit $%d", tail, order, len(f.args)), f.args
}
