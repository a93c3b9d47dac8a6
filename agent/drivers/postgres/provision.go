package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/tenure-dev/tenure/agent/drivers"
)

// Provision makes the tenant, or completes and repairs it. The role comes first and cannot log in; storage follows; last, in
// one transaction, it becomes a member of its kind's tenants, which lets it connect, and may log in. An existing tenant of
// another kind is refused as user, isolation_differs.
func (d *Driver) Provision(ctx context.Context, _ string, t drivers.Tenant, suspended bool) error {
	if err := check(t); err != nil {
		return err
	}
	return d.change(ctx, t.ID, func(admin *pgx.Conn) error { return d.provision(ctx, admin, t, suspended) })
}

func (d *Driver) provision(ctx context.Context, admin *pgx.Conn, t drivers.Tenant, suspended bool) error {
	if err := d.closeDatabases(ctx, admin); err != nil {
		return err
	}
	have, err := d.find(ctx, admin, t.ID)
	if err != nil {
		return err
	}
	if have.exists && have.kind != t.Isolation {
		return &drivers.Error{Class: drivers.User, Code: "isolation_differs", Err: fmt.Errorf("the tenant is kept as %q, not %q", have.kind, t.Isolation)}
	}
	if !have.exists {
		if err := createRole(ctx, admin, t); err != nil {
			return err
		}
	}
	if err := d.failpoint("provision: role"); err != nil {
		return err
	}
	if err := d.alignRole(ctx, admin, t); err != nil {
		return err
	}
	if err := d.failpoint("provision: credential and limits"); err != nil {
		return err
	}
	if err := d.provisionStorage(ctx, admin, t); err != nil {
		return err
	}
	if err := d.failpoint("provision: storage"); err != nil {
		return err
	}
	if suspended {
		if err := setLogin(ctx, admin, t.ID, false); err != nil {
			return err
		}
		if err := d.failpoint("provision: nologin"); err != nil {
			return err
		}
		if err := endSessions(ctx, admin, t.ID); err != nil {
			return err
		}
	}
	return pgx.BeginFunc(ctx, admin, func(tx pgx.Tx) error {
		if !have.complete {
			if _, err := tx.Exec(ctx, "GRANT "+quote(tenantsOf(t.Isolation))+" TO "+quote(t.ID)+d.withoutSetRole()); err != nil {
				return err
			}
		}
		return setLogin(ctx, tx, t.ID, !suspended)
	})
}

// check refuses what can never be provisioned.
func check(t drivers.Tenant) error {
	if err := checkID(t.ID); err != nil {
		return err
	}
	switch t.Isolation {
	case drivers.Pool, drivers.Bridge, drivers.Silo:
	default:
		return &drivers.Error{Class: drivers.User, Code: "unknown_isolation", Err: fmt.Errorf("isolation %q", t.Isolation)}
	}
	if t.CredentialVersion < 1 {
		return &drivers.Error{Class: drivers.User, Code: "invalid_credential_version", Err: fmt.Errorf("credential version %d", t.CredentialVersion)}
	}
	_, err := connections(t)
	return err
}

// connections is the tenant's connection limit as Postgres has it: -1 for none.
func connections(t drivers.Tenant) (int, error) {
	n, limited := t.Limits["connections"]
	switch {
	case !limited:
		return -1, nil
	case n < 0 || n > math.MaxInt32:
		return 0, &drivers.Error{Class: drivers.User, Code: "invalid_limit", Err: fmt.Errorf("%d connections", n)}
	}
	return int(n), nil
}

// found is what the server's catalogs say of a tenant.
type found struct {
	exists   bool
	kind     drivers.Isolation // "" if the role is not one of ours
	complete bool
	login    bool
	limit    int // -1: none
	verifier string
	plain    bool // the role has none of the attributes that a tenant must not have
}

func (d *Driver) find(ctx context.Context, admin *pgx.Conn, tenantID string) (f found, err error) {
	var comment, verifier *string
	err = admin.QueryRow(ctx, `
		SELECT shobj_description(r.oid, 'pg_authid'), r.rolcanlogin, r.rolconnlimit, r.rolpassword,
			NOT (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls)
				AND r.rolinherit AND coalesce(r.rolvaliduntil = 'infinity', true)
		FROM pg_authid r WHERE r.rolname = $1`, tenantID).Scan(&comment, &f.login, &f.limit, &verifier, &f.plain)
	if errors.Is(err, pgx.ErrNoRows) {
		return found{}, nil
	}
	if err != nil {
		return found{}, err
	}
	f.exists = true
	if verifier != nil {
		f.verifier = *verifier
	}
	for _, k := range isolations {
		if comment != nil && *comment == commentOn(k) {
			f.kind = k
		}
	}
	if f.kind == "" {
		return f, nil
	}
	err = admin.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_auth_members m
		JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles t ON t.oid = m.member WHERE g.rolname = $1 AND t.rolname = $2)`,
		tenantsOf(f.kind), tenantID).Scan(&f.complete)
	return f, err
}

// createRole makes the role and its mark in one transaction, so that there never is one without the other.
func createRole(ctx context.Context, admin *pgx.Conn, t drivers.Tenant) error {
	return pgx.BeginFunc(ctx, admin, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "CREATE ROLE "+quote(t.ID)+" NOLOGIN"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "COMMENT ON ROLE "+quote(t.ID)+" IS '"+commentOn(t.Isolation)+"'")
		return err
	})
}

// alignRole makes attributes, password, limit and memberships what they should be, and touches only what differs. (A
// tenant can change its own password, and up to Postgres 15 give its own role away.)
func (d *Driver) alignRole(ctx context.Context, admin *pgx.Conn, t drivers.Tenant) error {
	verifier, err := d.verifier(t.ID, t.CredentialVersion)
	if err != nil {
		return err
	}
	limit, err := connections(t)
	if err != nil {
		return err
	}
	have, err := d.find(ctx, admin, t.ID)
	if err != nil {
		return err
	}
	if !have.plain || have.limit != limit || have.verifier != verifier {
		if _, err := admin.Exec(ctx, fmt.Sprintf(`ALTER ROLE %s NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS INHERIT
			VALID UNTIL 'infinity' CONNECTION LIMIT %d PASSWORD '%s'`, quote(t.ID), limit, verifier)); err != nil {
			return err
		}
	}
	return d.alignMemberships(ctx, admin, t.ID)
}

// alignMemberships leaves the tenant a member of its kind's tenants at most, and nobody a member of the tenant.
func (d *Driver) alignMemberships(ctx context.Context, admin *pgx.Conn, tenantID string) error {
	grants, err := column(ctx, admin, `
		SELECT format('REVOKE %I FROM %I', r.rolname, m.rolname) || CASE WHEN $3 THEN format(' GRANTED BY %I', g.rolname) ELSE '' END
		FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member LEFT JOIN pg_roles g ON g.oid = a.grantor
		WHERE r.rolname = $1 OR m.rolname = $1 AND r.rolname <> ALL ($2)`,
		tenantID, []string{tenantsOf(drivers.Pool), tenantsOf(drivers.Bridge), tenantsOf(drivers.Silo)}, d.version >= 160000)
	if err != nil {
		return err
	}
	for _, sql := range grants {
		if _, err := admin.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// withoutSetRole keeps a tenant from turning into its kind's tenants, where Postgres can. Where it cannot, the policies do.
func (d *Driver) withoutSetRole() string {
	if d.version >= 160000 {
		return " WITH INHERIT TRUE, SET FALSE"
	}
	return ""
}

// provisionStorage makes or completes where the tenant's rows go.
func (d *Driver) provisionStorage(ctx context.Context, admin *pgx.Conn, t drivers.Tenant) error {
	switch t.Isolation {
	case drivers.Bridge:
		return d.provisionSchema(ctx, admin, t.ID)
	case drivers.Silo:
		return d.provisionDatabase(ctx, admin, t.ID)
	default:
		return d.checkPool(ctx)
	}
}

// provisionSchema makes the tenant's schema with the vendor's tables in one transaction.
func (d *Driver) provisionSchema(ctx context.Context, admin *pgx.Conn, tenantID string) error {
	owner := ownerOf(drivers.Bridge)
	err := d.bridge.use(ctx, func(c *pgx.Conn) error {
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "SET LOCAL client_min_messages = warning; CREATE SCHEMA IF NOT EXISTS "+quote(tenantID)+" AUTHORIZATION "+quote(owner)); err != nil {
				return err
			}
			if _, err := d.files.run(ctx, tx, d.files.tenant, drivers.Bridge, tenantID, tenantID); err != nil {
				return err
			}
			if err := grantSchema(ctx, tx, tenantID, tenantID); err != nil {
				return err
			}
			return checkBridge(ctx, tx, tenantID)
		})
	})
	if err != nil {
		return err
	}
	if err := d.failpoint("provision: schema"); err != nil {
		return err
	}
	var aligned bool
	if err := admin.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole
		JOIN pg_database d ON d.oid = s.setdatabase WHERE r.rolname = $1 AND d.datname = $2 AND ('search_path=' || $1) = ANY (s.setconfig))`,
		tenantID, bridgeDatabase).Scan(&aligned); err != nil || aligned {
		return err
	}
	_, err = admin.Exec(ctx, "ALTER ROLE "+quote(tenantID)+" IN DATABASE "+quote(bridgeDatabase)+" SET search_path = "+quote(tenantID))
	return err
}

// checkBridge refuses vendor files that would let a tenant out of its schema: functions that run as the owner of all
// schemas, and anything put into a schema that no tenant has to itself.
func checkBridge(ctx context.Context, tx pgx.Tx, schema string) error {
	wrong, err := column(ctx, tx, `
		SELECT 'function ' || p.oid::regprocedure::text || ' is SECURITY DEFINER' FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
			WHERE n.nspname = $1 AND p.prosecdef
		UNION ALL SELECT 'relation ' || c.oid::regclass::text || ' is outside of a tenant''s schema' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname !~ '^(pg_|ten_)' AND n.nspname NOT IN ('information_schema', 'tenure')
		UNION ALL SELECT 'function ' || p.oid::regprocedure::text || ' is outside of a tenant''s schema' FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
			WHERE n.nspname !~ '^(pg_|ten_)' AND n.nspname NOT IN ('information_schema', 'tenure')`, schema)
	if err != nil || len(wrong) == 0 {
		return err
	}
	return &drivers.Error{Class: drivers.Bug, Code: "bridge_unprotected", Err: fmt.Errorf("%v", wrong)}
}

// provisionDatabase copies the template, or brings an older copy up to date.
func (d *Driver) provisionDatabase(ctx context.Context, admin *pgx.Conn, tenantID string) error {
	var older bool
	if err := admin.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1 AND datconnlimit <> -2)", tenantID).Scan(&older); err != nil {
		return err
	}
	if err := d.ensureDatabase(ctx, admin, tenantID, siloTemplate, ownerOf(drivers.Silo), tenantID); err != nil {
		return err
	}
	if err := d.failpoint("provision: database"); err != nil {
		return err
	}
	if !older {
		return nil
	}
	return alone(ctx, d.config, tenantID, func(c *pgx.Conn) error { return d.fillSilo(ctx, c) })
}
