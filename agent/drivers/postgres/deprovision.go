package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/tenure-dev/tenure/agent/drivers"
)

// Deprovision removes all of the tenant, wherever it is found and whatever t says of its isolation: first its login and its
// sessions, then its database, schema and rows, and at the very end its role. So as long as anything of a tenant is left
// its role is, and a call that a crash has cut short is completed by the next. Nothing of any other tenant is touched.
func (d *Driver) Deprovision(ctx context.Context, _ string, t drivers.Tenant) error {
	if err := checkID(t.ID); err != nil {
		return err
	}
	return d.change(ctx, t.ID, func(admin *pgx.Conn) error { return d.deprovision(ctx, admin, t.ID) })
}

func (d *Driver) deprovision(ctx context.Context, admin *pgx.Conn, tenantID string) error {
	have, err := d.find(ctx, admin, tenantID)
	if err != nil {
		return err
	}
	if have.exists && have.kind == "" {
		return &drivers.Error{Class: drivers.Bug, Code: "foreign_role", Err: errors.New("a role has the tenant's name but is none of ours")}
	}
	if have.exists {
		if err := setLogin(ctx, admin, tenantID, false); err != nil {
			return err
		}
		if err := d.failpoint("deprovision: nologin"); err != nil {
			return err
		}
		if err := d.alignMemberships(ctx, admin, tenantID); err != nil {
			return err
		}
		if err := endSessions(ctx, admin, tenantID); err != nil {
			return err
		}
		if err := d.failpoint("deprovision: sessions"); err != nil {
			return err
		}
	}
	if err := d.dropDatabase(ctx, admin, tenantID); err != nil {
		return err
	}
	if err := d.failpoint("deprovision: database"); err != nil {
		return err
	}
	if err := d.leave(ctx, d.bridge, tenantID, have.exists, d.dropSchema); err != nil {
		return err
	}
	if err := d.failpoint("deprovision: schema"); err != nil {
		return err
	}
	if err := d.leave(ctx, d.pool, tenantID, have.exists, d.deleteRows); err != nil {
		return err
	}
	if err := d.failpoint("deprovision: rows"); err != nil {
		return err
	}
	_, err = admin.Exec(ctx, "DROP ROLE IF EXISTS "+quote(tenantID))
	return err
}

func (d *Driver) dropDatabase(ctx context.Context, admin *pgx.Conn, tenantID string) error {
	var valid bool
	err := admin.QueryRow(ctx, "SELECT datconnlimit <> -2 AND datallowconn FROM pg_database WHERE datname = $1", tenantID).Scan(&valid)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	if valid {
		prepared, err := column(ctx, admin, "SELECT gid FROM pg_prepared_xacts WHERE database = $1", tenantID)
		if err != nil {
			return err
		}
		if len(prepared) > 0 {
			err := alone(ctx, d.config, tenantID, func(c *pgx.Conn) error { return rollback(ctx, c, prepared) })
			if err != nil {
				return err
			}
		}
	}
	_, err = admin.Exec(ctx, "DROP DATABASE IF EXISTS "+quote(tenantID)+" WITH (FORCE)")
	return err
}

// leave removes what a tenant has in a shared database: prepared transactions, which outlive sessions; its storage; and what
// it could make for itself, such as default privileges, which would keep the role from being dropped.
func (d *Driver) leave(ctx context.Context, l *lane, tenantID string, role bool, remove func(context.Context, pgx.Tx, string) error) error {
	return l.use(ctx, func(c *pgx.Conn) error {
		prepared, err := column(ctx, c, "SELECT gid FROM pg_prepared_xacts WHERE owner = $1 AND database = current_database()", tenantID)
		if err != nil {
			return err
		}
		if err := rollback(ctx, c, prepared); err != nil {
			return err
		}
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			if err := remove(ctx, tx, tenantID); err != nil || !role {
				return err
			}
			_, err := tx.Exec(ctx, "DROP OWNED BY "+quote(tenantID))
			return err
		})
	})
}

func rollback(ctx context.Context, c *pgx.Conn, prepared []string) error {
	for _, gid := range prepared {
		var sql string
		if err := c.QueryRow(ctx, "SELECT format('ROLLBACK PREPARED %L', $1::text)", gid).Scan(&sql); err != nil {
			return err
		}
		if _, err := c.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

func (d *Driver) dropSchema(ctx context.Context, tx pgx.Tx, tenantID string) error {
	if _, err := tx.Exec(ctx, "SET LOCAL client_min_messages = warning; DROP SCHEMA IF EXISTS "+quote(tenantID)+" CASCADE"); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "DELETE FROM tenure.applied WHERE target = $1", tenantID)
	return err
}
