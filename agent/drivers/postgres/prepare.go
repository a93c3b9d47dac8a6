package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tenure-dev/tenure/agent/drivers"
)

// oldestVersion is the first with security_invoker views, without which a pool view cannot be made safe.
const oldestVersion = 150000

// prepare makes the plane ready. Each part looks before it acts, so that a second run changes nothing.
func (d *Driver) prepare(ctx context.Context) error {
	return d.admin.use(ctx, func(admin *pgx.Conn) error {
		if err := d.checkServer(ctx, admin); err != nil {
			return err
		}
		if err := lock(ctx, admin, prepareLock); err != nil {
			return err
		}
		if err := d.prepareRoles(ctx, admin); err != nil {
			return err
		}
		if err := d.closeDatabases(ctx, admin); err != nil {
			return err
		}
		if err := d.prepareShared(ctx, admin, drivers.Pool, poolDatabase, poolSchema, d.pool); err != nil {
			return err
		}
		if err := d.prepareShared(ctx, admin, drivers.Bridge, bridgeDatabase, "", d.bridge); err != nil {
			return err
		}
		if err := d.prepareTemplate(ctx, admin); err != nil {
			return err
		}
		return unlock(ctx, admin, prepareLock)
	})
}

func (d *Driver) checkServer(ctx context.Context, admin *pgx.Conn) error {
	var super bool
	if err := admin.QueryRow(ctx, `SELECT current_setting('server_version_num')::int,
		(SELECT rolsuper FROM pg_roles WHERE rolname = current_user)`).Scan(&d.version, &super); err != nil {
		return err
	}
	if d.version < oldestVersion {
		return &drivers.Error{Class: drivers.User, Code: "postgres_too_old", Err: fmt.Errorf("the server is version %d, needed is %d", d.version, oldestVersion)}
	}
	if !super {
		return &drivers.Error{Class: drivers.User, Code: "admin_not_superuser", Err: errors.New("the admin URL's role is no superuser")}
	}
	return nil
}

// prepareRoles makes the roles that own and the roles that tenants are members of. None can log in.
func (d *Driver) prepareRoles(ctx context.Context, admin *pgx.Conn) error {
	for _, k := range isolations {
		for _, name := range []string{ownerOf(k), tenantsOf(k)} {
			var there bool
			if err := admin.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", name).Scan(&there); err != nil {
				return err
			}
			verb := "CREATE"
			if there {
				verb = "ALTER"
			}
			if _, err := admin.Exec(ctx, verb+" ROLE "+quote(name)+" NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD NULL; ALTER ROLE "+quote(name)+" RESET ALL"); err != nil {
				return err
			}
		}
	}
	return d.failpoint("prepare: roles")
}

// closeDatabases takes CONNECT and TEMP on every database from PUBLIC: on those that stand, and on any that somebody has made
// since. Every provisioning comes by here. One that takes no connections is passed by: it may be just being made by another
// of us, who shuts PUBLIC out before opening it.
func (d *Driver) closeDatabases(ctx context.Context, admin *pgx.Conn) error {
	const open = `SELECT datname FROM pg_database WHERE datconnlimit <> -2 AND datallowconn
		AND EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE grantee = 0)`
	names, err := column(ctx, admin, open)
	if err != nil || len(names) == 0 {
		return err
	}
	return pgx.BeginFunc(ctx, admin, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(closingLock)); err != nil {
			return err
		}
		names, err := column(ctx, tx, open) // again: another may have been here before us
		if err != nil {
			return err
		}
		for _, name := range names {
			if _, err := tx.Exec(ctx, "REVOKE ALL ON DATABASE "+quote(name)+" FROM PUBLIC"); err != nil {
				return err
			}
		}
		return nil
	})
}

// prepareShared makes the database of pool or bridge and what belongs in it.
func (d *Driver) prepareShared(ctx context.Context, admin *pgx.Conn, k drivers.Isolation, name, schema string, l *lane) error {
	if err := d.ensureDatabase(ctx, admin, name, "template0", ownerOf(k), tenantsOf(k)); err != nil {
		return err
	}
	if schema != "" {
		if _, err := admin.Exec(ctx, "ALTER DATABASE "+quote(name)+" SET search_path = "+quote(schema)); err != nil {
			return err
		}
	}
	if err := d.failpoint("prepare: database " + name); err != nil {
		return err
	}
	return l.use(ctx, func(c *pgx.Conn) error {
		if err := harden(ctx, c, k); err != nil {
			return err
		}
		if k == drivers.Pool {
			return d.preparePool(ctx, c)
		}
		return nil
	})
}

// ensureDatabase makes a database that nobody can connect to until PUBLIC has been shut out of it and connect let in. One that an
// interrupted DROP DATABASE has left invalid is made again.
func (d *Driver) ensureDatabase(ctx context.Context, admin *pgx.Conn, name, template, owner, connect string) error {
	var invalid, open bool
	err := admin.QueryRow(ctx, "SELECT datconnlimit = -2, datallowconn FROM pg_database WHERE datname = $1", name).Scan(&invalid, &open)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	there := err == nil
	if invalid {
		if _, err := admin.Exec(ctx, "DROP DATABASE "+quote(name)); err != nil {
			return err
		}
		there = false
	}
	if !there {
		if err := d.createDatabase(ctx, admin, name, template, owner); err != nil {
			return err
		}
	}
	if err := d.failpoint("create database"); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, admin, func(tx pgx.Tx) error {
		for _, sql := range []string{
			"REVOKE ALL ON DATABASE " + quote(name) + " FROM PUBLIC",
			"GRANT CONNECT ON DATABASE " + quote(name) + " TO " + quote(connect),
			"ALTER DATABASE " + quote(name) + " ALLOW_CONNECTIONS true",
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
}

func (d *Driver) createDatabase(ctx context.Context, admin *pgx.Conn, name, template, owner string) error {
	sql := "CREATE DATABASE " + quote(name) + " TEMPLATE " + quote(template) + " OWNER " + quote(owner) + " ALLOW_CONNECTIONS false"
	if template != siloTemplate {
		_, err := admin.Exec(ctx, sql)
		return err
	}
	if _, err := admin.Exec(ctx, "SELECT pg_advisory_lock_shared($1)", int64(templateLock)); err != nil {
		return err
	}
	if _, err := admin.Exec(ctx, sql); err != nil {
		return err
	}
	_, err := admin.Exec(ctx, "SELECT pg_advisory_unlock_shared($1)", int64(templateLock))
	return err
}

// prepareTemplate makes the database that siloed ones are copies of: hardened, with the vendor's tables and grants in it, so
// that a new silo is one CREATE DATABASE.
func (d *Driver) prepareTemplate(ctx context.Context, admin *pgx.Conn) error {
	if err := lock(ctx, admin, templateLock); err != nil {
		return err
	}
	// tenure_silo_owner may connect in name only: it cannot log in.
	if err := d.ensureDatabase(ctx, admin, siloTemplate, "template0", ownerOf(drivers.Silo), ownerOf(drivers.Silo)); err != nil {
		return err
	}
	err := alone(ctx, d.config, siloTemplate, func(c *pgx.Conn) error { return d.fillSilo(ctx, c) })
	if err != nil {
		return err
	}
	if _, err := admin.Exec(ctx, "ALTER DATABASE "+quote(siloTemplate)+" ALLOW_CONNECTIONS false"); err != nil {
		return err
	}
	if err := d.failpoint("prepare: template"); err != nil {
		return err
	}
	return unlock(ctx, admin, templateLock)
}

// fillSilo brings a silo, or the template of silos, up to date.
func (d *Driver) fillSilo(ctx context.Context, c *pgx.Conn) error {
	if err := harden(ctx, c, drivers.Silo); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		if _, err := d.files.run(ctx, tx, d.files.tenant, drivers.Silo, siloSchema, siloSchema); err != nil {
			return err
		}
		return grantSchema(ctx, tx, siloSchema, tenantsOf(drivers.Silo))
	})
}

// harden closes, inside one database, what Postgres opens to everyone: the public schema; large objects, which all in a
// database could share; statistics and locks, which show other tenants' sessions; and in a shared database advisory
// locks, whose keys all would share. Monitoring roles keep the statistics.
func harden(ctx context.Context, c *pgx.Conn, k drivers.Isolation) error {
	own := fmt.Sprintf(`
		REVOKE ALL ON SCHEMA public FROM PUBLIC;
		CREATE SCHEMA IF NOT EXISTS %[1]s AUTHORIZATION %[2]s;
		REVOKE ALL ON SCHEMA %[1]s FROM PUBLIC;
		CREATE TABLE IF NOT EXISTS %[1]s.applied (
			target text NOT NULL, ordinal int NOT NULL, file text NOT NULL, sha256 text NOT NULL,
			applied_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (target, file));
		ALTER TABLE %[1]s.applied OWNER TO %[2]s;`, quote(ownSchema), quote(ownerOf(k)))
	const functions = `
		DO $$ DECLARE f regprocedure; BEGIN
			FOR f IN SELECT oid FROM pg_proc
				WHERE pronamespace = 'pg_catalog'::regnamespace AND has_function_privilege('public', oid, 'EXECUTE')
				AND (proname ~ '^lo_' OR proname ~ '^pg_stat_get_' OR proname IN ('loread', 'lowrite', 'pg_lock_status', 'pg_prepared_xact')
					OR (%t AND proname ~ '^pg_(try_)?advisory_'))
			LOOP
				EXECUTE format('REVOKE EXECUTE ON FUNCTION %%s FROM PUBLIC', f);
				EXECUTE format('GRANT EXECUTE ON FUNCTION %%s TO pg_monitor', f);
			END LOOP;
		END $$`
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL client_min_messages = warning; "+own); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, fmt.Sprintf(functions, k != drivers.Silo))
		return err
	})
}

// grantSchema lets a role use a schema that it has to itself: rows, and no more. Anything else that was granted is taken back.
func grantSchema(ctx context.Context, tx pgx.Tx, schema, role string) error {
	s, r := quote(schema), quote(role)
	for _, sql := range []string{
		"REVOKE ALL ON SCHEMA " + s + " FROM PUBLIC, " + r,
		"REVOKE ALL ON ALL TABLES IN SCHEMA " + s + " FROM PUBLIC, " + r,
		"REVOKE ALL ON ALL SEQUENCES IN SCHEMA " + s + " FROM PUBLIC, " + r,
		"GRANT USAGE ON SCHEMA " + s + " TO " + r,
		"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA " + s + " TO " + r,
		"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA " + s + " TO " + r,
	} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

func lock(ctx context.Context, c *pgx.Conn, key int64) error {
	_, err := c.Exec(ctx, "SELECT pg_advisory_lock($1)", key)
	return err
}

func unlock(ctx context.Context, c *pgx.Conn, key int64) error {
	_, err := c.Exec(ctx, "SELECT pg_advisory_unlock($1)", key)
	return err
}

// querier is a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// column reads the rows of a query of one text column.
func column(ctx context.Context, q querier, sql string, args ...any) ([]string, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
