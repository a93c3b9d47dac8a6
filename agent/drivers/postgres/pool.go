package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tenure-dev/tenure/agent/drivers"
)

// policyName is the one permissive policy of a pool table.
const policyName = "tenure_tenant"

// tableTemplate is the one template by which a pool table is protected. The predicate is compared to current_user, and
// shuts out the role that tenants are members of: whoever turns into it with SET ROLE sees nothing and writes nothing.
// TRUNCATE, REFERENCES and TRIGGER, which row-level security does not bind, are never granted.
const tableTemplate = `
	ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT CURRENT_USER, ALTER COLUMN {column} SET NOT NULL,
		ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
	DROP POLICY IF EXISTS {policy} ON {table};
	CREATE POLICY {policy} ON {table} AS PERMISSIVE FOR ALL TO PUBLIC
		USING ({column} = CURRENT_USER::text AND CURRENT_USER <> '{tenants}')
		WITH CHECK ({column} = CURRENT_USER::text AND CURRENT_USER <> '{tenants}');
	REVOKE ALL ON TABLE {table} FROM PUBLIC, {tenants};
	GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE {table} TO {tenants};`

// Views show what the policies of their tables let through, if they are security_invoker, which checkPool demands. A
// sequence may be drawn from.
const (
	viewTemplate     = `REVOKE ALL ON TABLE {table} FROM PUBLIC, {tenants}; GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE {table} TO {tenants};`
	sequenceTemplate = `REVOKE ALL ON SEQUENCE {table} FROM PUBLIC, {tenants}; GRANT USAGE ON SEQUENCE {table} TO {tenants};`
)

func (d *Driver) fill(template, table string) string {
	return strings.NewReplacer("{table}", table, "{column}", quote(d.column), "{policy}", policyName, "{tenants}", tenantsOf(drivers.Pool)).Replace(template)
}

// preparePool runs the vendor's new files and protects what they made, in one transaction: no table is ever there unprotected,
// and files that cannot be protected are refused as if they had never been run.
func (d *Driver) preparePool(ctx context.Context, c *pgx.Conn) error {
	if _, err := c.Exec(ctx, fmt.Sprintf(`SET client_min_messages = warning; CREATE SCHEMA IF NOT EXISTS %[1]s AUTHORIZATION %[2]s`,
		quote(poolSchema), quote(ownerOf(drivers.Pool)))); err != nil {
		return err
	}
	if err := d.failpoint("prepare: pool schema"); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		ran, err := d.files.run(ctx, tx, d.files.pool, drivers.Pool, poolSchema, poolSchema)
		if err != nil {
			return err
		}
		if err := d.samplePolicy(ctx, tx); err != nil {
			return err
		}
		found, err := d.unprotected(ctx, tx)
		if err != nil || len(found) == 0 {
			return err
		}
		if err := d.protect(ctx, tx); err != nil {
			return err
		}
		if found, err = d.unprotected(ctx, tx); err != nil || len(found) == 0 {
			return err
		}
		if ran > 0 {
			return poolUnprotected(found)
		}
		d.log.Error("the pool is not protected: pooled tenants will be neither provisioned nor resumed", "found", found)
		return nil
	})
}

// samplePolicy keeps a table to which the template has been applied as it is today; checkPool compares all others to it.
func (d *Driver) samplePolicy(ctx context.Context, tx pgx.Tx) error {
	sample := quote(ownSchema, "sample")
	if _, err := tx.Exec(ctx, "CREATE TABLE IF NOT EXISTS "+sample+" ("+quote(d.column)+" text NOT NULL)"); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, d.fill(tableTemplate, sample)); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "REVOKE ALL ON TABLE "+sample+" FROM "+quote(tenantsOf(drivers.Pool))+
		"; ALTER TABLE "+sample+" OWNER TO "+quote(ownerOf(drivers.Pool)))
	return err
}

// protect applies the templates to everything in the pool's schema. A table without a
// fitting tenant column is left to checkPool.
func (d *Driver) protect(ctx context.Context, tx pgx.Tx) error {
	tenants := quote(tenantsOf(drivers.Pool))
	if _, err := tx.Exec(ctx, "REVOKE ALL ON SCHEMA pool FROM PUBLIC, "+tenants+"; GRANT USAGE ON SCHEMA pool TO "+tenants); err != nil {
		return err
	}
	rows, err := tx.Query(ctx, `SELECT c.oid::regclass::text, c.relkind::text FROM pg_class c
		WHERE c.relnamespace = 'pool'::regnamespace AND (c.relkind IN ('v', 'S') OR c.relkind IN ('r', 'p')
		AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = $1 AND a.atttypid = 'text'::regtype AND a.attnum > 0))`, d.column)
	if err != nil {
		return err
	}
	type relation struct{ Name, Kind string }
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[relation])
	if err != nil {
		return err
	}
	for _, r := range found {
		template := tableTemplate
		switch r.Kind {
		case "v":
			template = viewTemplate
		case "S":
			template = sequenceTemplate
		}
		if _, err := tx.Exec(ctx, d.fill(template, r.Name)); err != nil {
			return err
		}
	}
	return nil
}
