package postgres

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"

	"github.com/jackc/pgx/v5"

	"github.com/tenure-dev/tenure/agent/drivers"
)

//go:embed example
var example embed.FS

// Example is a vendor's set of files to learn from and to try the system with: customers, projects and invoices.
func Example() fs.FS {
	sub, err := fs.Sub(example, "example")
	if err != nil {
		panic(err) // the directory is compiled in
	}
	return sub
}

// vendorFiles are the vendor's SQL files, each set in the order in which it is run.
type vendorFiles struct{ tenant, pool []vendorFile }

type vendorFile struct {
	name string // tenant/0001_customers.sql
	sql  string
	hash string
}

func readVendorSQL(from fs.FS) (v vendorFiles, err error) {
	if v.tenant, err = readSet(from, "tenant"); err != nil {
		return v, err
	}
	v.pool, err = readSet(from, "pool")
	return v, err
}

func readSet(from fs.FS, dir string) ([]vendorFile, error) {
	names, err := fs.Glob(from, path.Join(dir, "*.sql")) // sorted
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("vendor SQL: no %s/*.sql", dir)
	}
	var set []vendorFile
	for _, n := range names {
		raw, err := fs.ReadFile(from, n)
		if err != nil {
			return nil, fmt.Errorf("vendor SQL: %w", err)
		}
		sum := sha256.Sum256(raw)
		set = append(set, vendorFile{name: n, sql: string(raw), hash: hex.EncodeToString(sum[:])})
	}
	return set, nil
}

// run runs those files of a set that the target has not had yet, in the caller's transaction, as the NOLOGIN role that
// owns everything of the kind, and says how many there were. What the target has had must be the set's beginning,
// unchanged.
func (vendorFiles) run(ctx context.Context, tx pgx.Tx, set []vendorFile, k drivers.Isolation, target, schema string) (int, error) {
	rows, err := tx.Query(ctx, "SELECT file, sha256 FROM tenure.applied WHERE target = $1 ORDER BY ordinal", target)
	if err != nil {
		return 0, err
	}
	had, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (f vendorFile, err error) { return f, r.Scan(&f.name, &f.hash) })
	if err != nil {
		return 0, err
	}
	for i, h := range had {
		switch {
		case i >= len(set):
			return 0, changed("%s has been run here and is now missing", h.name)
		case set[i].name != h.name:
			return 0, changed("%s comes where %s has been run: new files go to the end", set[i].name, h.name)
		case set[i].hash != h.hash:
			return 0, changed("%s has been run here with other content: put the change into a new file", h.name)
		}
	}
	for i := len(had); i < len(set); i++ {
		if err := set[i].run(ctx, tx, k, schema); err != nil {
			return 0, err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO tenure.applied (target, ordinal, file, sha256) VALUES ($1, $2::int, $3, $4)",
			target, i, set[i].name, set[i].hash); err != nil {
			return 0, err
		}
	}
	return len(set) - len(had), nil
}

func (f vendorFile) run(ctx context.Context, tx pgx.Tx, k drivers.Isolation, schema string) error {
	if _, err := tx.Exec(ctx, "SET LOCAL ROLE "+quote(ownerOf(k))+"; SET LOCAL search_path = "+quote(schema)); err != nil {
		return err
	}
	_, err := tx.Conn().PgConn().Exec(ctx, f.sql).ReadAll()
	if err == nil && tx.Conn().PgConn().TxStatus() != 'T' {
		err = fmt.Errorf("it ends the transaction that it is run in")
	}
	if err != nil {
		if class, _ := drivers.ClassOf(classify(err)); class != drivers.Bug {
			return err
		}
		return &drivers.Error{Class: drivers.Bug, Code: "vendor_sql_failed", Err: fmt.Errorf("%s: %w", f.name, err)}
	}
	_, err = tx.Exec(ctx, "RESET ROLE; SET LOCAL search_path = pg_catalog")
	return err
}

func changed(format string, args ...any) error {
	return &drivers.Error{Class: drivers.Bug, Code: "vendor_sql_changed", Err: fmt.Errorf("vendor SQL: "+format, args...)}
}
