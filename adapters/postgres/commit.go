package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tenure-dev/tenure/projections"
)

// channel is where every process hears of checkpoints. The payload is the group and its position, or the group and "free".
const channel = "tenure_checkpoints"

const (
	advanceSQL = "select tenure.advance($1, $2, $3, $4, $5, $6)"
	notifySQL  = "select pg_notify('" + channel + "', $1)"
	parkSQL    = `insert into tenure.parked (grp, projection, version, id, key, stream, revision, position, error)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict do nothing`
	unparkSQL = "delete from tenure.parked where grp = $1 and projection = $2 and version = $3 and id = $4"
)

// Commit sends the checkpoint's compare-and-set and every table's rows, as one array a column, in one pipeline that ends in
// one Sync: one implicit transaction, one round trip. When Postgres refuses a row's value, the same is done again with
// savepoints, which finds and parks the rows that are at fault.
func (s *Store) Commit(ctx context.Context, c projections.Commit) (refused []projections.Parked, err error) {
	err = s.with(ctx, func(conn *pgx.Conn) error {
		err := s.pipeline(ctx, conn, c)
		if refusal(err) == nil {
			return err
		}
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			refused, err = s.sparing(ctx, tx, c)
			return err
		})
	})
	return refused, err
}

func (s *Store) pipeline(ctx context.Context, conn *pgx.Conn, c projections.Commit) error {
	var statements []statement
	add := func(name, sql string, params ...[]byte) {
		statements = append(statements, statement{name, sql, params})
	}
	add("advance", advanceSQL, []byte(c.Lease.Group), bigint(c.Lease.Epoch), bigint(c.From), bigint(c.To.Commit), bigint(c.To.Log.Number), []byte(c.To.Log.ID))
	for _, changes := range c.Changes {
		t := changes.Table
		if keys := storable(changes.Deletes); len(keys) > 0 {
			add("delete "+t.Name, s.deleteSQL(t), textArray(keys))
		}
		if len(changes.Upserts) > 0 {
			add("upsert "+t.Name, s.upsertSQL(t), columnArrays(t, changes.Upserts)...)
		}
	}
	for _, p := range c.Park {
		id := idOf(p)
		p = printable(p)
		add("park", parkSQL, []byte(c.Lease.Group), []byte(p.Projection), integer(p.Version), []byte(id), []byte(p.Key), []byte(p.Stream), bigint(p.Revision), bigint(int64(p.Commit)), []byte(p.Error))
	}
	for _, p := range c.Unpark {
		add("unpark", unparkSQL, []byte(c.Lease.Group), []byte(p.Projection), integer(p.Version), []byte(idOf(p)))
	}
	add("notify", notifySQL, []byte(notice(c)))
	return s.run(ctx, conn, statements, nil)
}

// statement is one prepared statement of a pipeline, with its parameters in binary.
type statement struct {
	name, sql string
	params    [][]byte
}

// run sends statements as one implicit transaction. row, if any, gets each row of statement number i; its values are lent.
func (s *Store) run(ctx context.Context, conn *pgx.Conn, all []statement, row func(i int, values [][]byte)) error {
	for _, st := range all {
		if s.prepared[st.name] {
			continue
		}
		if _, err := conn.PgConn().Prepare(ctx, st.name, st.sql, nil); err != nil {
			return err
		}
		s.prepared[st.name] = true
	}
	p := conn.PgConn().StartPipeline(ctx)
	for _, st := range all {
		p.SendQueryPrepared(st.name, st.params, binary, binary)
	}
	err := p.Sync()
	for i := 0; err == nil; {
		var result any
		if result, err = p.GetResults(); err != nil {
			break
		}
		reader, isRows := result.(*pgconn.ResultReader)
		if !isRows {
			break // the Sync
		}
		for row != nil && reader.NextRow() {
			row(i, reader.Values())
		}
		_, err = reader.Close()
		i++
	}
	if closed := p.Close(); err == nil {
		err = closed
	}
	return err
}

var binary = []int16{pgx.BinaryFormatCode}

// Load reads rows of several tables in one round trip.
func (s *Store) Load(ctx context.Context, wanted []projections.Wanted) (loaded []projections.Loaded, err error) {
	err = s.with(ctx, func(conn *pgx.Conn) error {
		loaded = nil
		var all []statement
		for _, w := range wanted {
			sql := fmt.Sprintf("select %s from %s where %s = any($1::text[])", columnNames(w.Table), s.tables[w.Table.Name], quoted(w.Table.Columns[0].Name))
			all = append(all, statement{"load " + w.Table.Name, sql, [][]byte{textArray(storable(w.Keys))}})
		}
		return s.run(ctx, conn, all, func(i int, values [][]byte) {
			loaded = append(loaded, projections.Loaded{Want: i, Fields: owned(values)})
		})
	})
	return loaded, err
}

// owned copies values that the connection's buffer lends.
func owned(values [][]byte) [][]byte {
	size := 0
	for _, v := range values {
		size += len(v)
	}
	all, b := make([][]byte, len(values)), make([]byte, 0, size)
	for i, v := range values {
		if v == nil {
			continue
		}
		at := len(b)
		b = append(b, v...)
		all[i] = b[at:len(b):len(b)]
	}
	return all
}

// Below gives the keys at and below one.
func (s *Store) Below(ctx context.Context, t *projections.Table, key string) (keys []string, err error) {
	if len(storable([]string{key})) == 0 {
		return nil, nil
	}
	err = s.with(ctx, func(conn *pgx.Conn) error {
		k := quoted(t.Columns[0].Name)
		// All that begins with the key and a slash sorts between it and the key with the slash's successor.
		rows, err := conn.Query(ctx, fmt.Sprintf("select %s from %s where %s = $1 or %s > $1 || '/' and %s < $1 || '0'", k, s.tables[t.Name], k, k, k), key)
		if err != nil {
			return err
		}
		keys, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return keys, err
}

func (s *Store) deleteSQL(t *projections.Table) string {
	return fmt.Sprintf("delete from %s where %s = any($1::text[])", s.tables[t.Name], quoted(t.Columns[0].Name))
}

func (s *Store) upsertSQL(t *projections.Table) string {
	var arrays, names, values, sets []string
	for i, c := range t.Columns {
		element, _, _ := strings.Cut(sqlTypes[c.Kind], " ")
		name := quoted(c.Name)
		value := "r." + name
		if c.Kind == projections.Texts { // an array of arrays would be taken apart wholly
			element, value = "text", value+"::text[]"
		}
		arrays = append(arrays, fmt.Sprintf("$%d::%s[]", i+1, element))
		names, values = append(names, name), append(values, value)
		if i > 0 {
			sets = append(sets, name+" = excluded."+name)
		}
	}
	conflict := "nothing"
	if len(sets) > 0 {
		conflict = "update set " + strings.Join(sets, ", ")
	}
	return fmt.Sprintf("insert into %s (%s) select %s from unnest(%s) as r(%s) on conflict (%s) do %s", s.tables[t.Name],
		strings.Join(names, ", "), strings.Join(values, ", "), strings.Join(arrays, ", "), strings.Join(names, ", "), names[0], conflict)
}

func notice(c projections.Commit) string {
	return c.Lease.Group + " " + strconv.FormatInt(c.To.Commit, 10)
}

func parkArgs(group string, p projections.Parked) []any {
	id := idOf(p)
	p = printable(p)
	return []any{group, p.Projection, p.Version, id, p.Key, p.Stream, p.Revision, int64(p.Commit), p.Error}
}

// idOf names a parked key by its hash.
func idOf(p projections.Parked) string {
	h := sha256.Sum256([]byte(p.Key))
	return hex.EncodeToString(h[:])
}

// printable is p as text can hold it: a key or stream that text cannot is written as a Go string.
func printable(p projections.Parked) projections.Parked {
	p.Key, p.Stream = printed(p.Key), printed(p.Stream)
	p.Error = strings.ReplaceAll(strings.ToValidUTF8(p.Error, "\uFFFD"), "\x00", "\uFFFD")
	return p
}

func printed(s string) string {
	if len(storable([]string{s})) == 0 || strings.HasPrefix(s, `"`) {
		return strconv.Quote(s)
	}
	return s
}

// unprinted is the opposite of printed.
func unprinted(s string) string {
	if strings.HasPrefix(s, `"`) {
		if original, err := strconv.Unquote(s); err == nil {
			return original
		}
	}
	return s
}

// storable leaves out keys that no row can have.
func storable(keys []string) []string {
	for i, k := range keys {
		if utf8.ValidString(k) && !strings.ContainsRune(k, 0) {
			continue
		}
		kept := append([]string(nil), keys[:i]...)
		return append(kept, storable(keys[i+1:])...)
	}
	return keys
}

// refusal is the error of a value that Postgres does not take: of classes 22 (data), 23 (integrity) and 54 (limits).
func refusal(err error) *pgconn.PgError {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && len(pg.Code) == 5 && (pg.Code[:2] == "22" || pg.Code[:2] == "23" || pg.Code[:2] == "54") {
		return pg
	}
	return nil
}
