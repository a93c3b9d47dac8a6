package postgres

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tenure-dev/tenure/agent/drivers"
)

// Suspend takes LOGIN away, then ends the tenant's sessions until none is left.
func (d *Driver) Suspend(ctx context.Context, _ string, t drivers.Tenant) error {
	return d.existing(ctx, t, func(admin *pgx.Conn, _ found) error {
		if err := setLogin(ctx, admin, t.ID, false); err != nil {
			return err
		}
		if err := d.failpoint("suspend: nologin"); err != nil {
			return err
		}
		if err := d.alignMemberships(ctx, admin, t.ID); err != nil {
			return err
		}
		return endSessions(ctx, admin, t.ID)
	})
}

// Resume gives LOGIN back. A tenant whose provisioning never ended is provisioned instead; into an unprotected pool nobody is let.
func (d *Driver) Resume(ctx context.Context, _ string, t drivers.Tenant) error {
	return d.existing(ctx, t, func(admin *pgx.Conn, have found) error {
		if !have.complete {
			return d.provision(ctx, admin, t, false)
		}
		if have.kind == drivers.Pool {
			if err := d.checkPool(ctx); err != nil {
				return err
			}
		}
		return setLogin(ctx, admin, t.ID, true)
	})
}

// Resize sets the connection limit. Sessions above a lower limit stay; no new ones come in.
func (d *Driver) Resize(ctx context.Context, _ string, t drivers.Tenant) error {
	limit, err := connections(t)
	if err != nil {
		return err
	}
	return d.existing(ctx, t, func(admin *pgx.Conn, have found) error {
		if have.limit == limit {
			return nil
		}
		_, err := admin.Exec(ctx, fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT %d", quote(t.ID), limit))
		return err
	})
}

// existing runs f on a tenant that the plane has; for another the error is user, no_such_tenant, wrapping drivers.ErrNoTenant.
func (d *Driver) existing(ctx context.Context, t drivers.Tenant, f func(*pgx.Conn, found) error) error {
	if err := check(t); err != nil {
		return err
	}
	return d.change(ctx, t.ID, func(admin *pgx.Conn) error {
		have, err := d.find(ctx, admin, t.ID)
		switch {
		case err != nil:
			return err
		case !have.exists:
			return &drivers.Error{Class: drivers.User, Code: "no_such_tenant", Err: drivers.ErrNoTenant}
		case have.kind != t.Isolation:
			return &drivers.Error{Class: drivers.User, Code: "isolation_differs", Err: fmt.Errorf("the tenant is kept as %q, not %q", have.kind, t.Isolation)}
		}
		return f(admin, have)
	})
}

// Observe lists the tenants' roles. One whose provisioning never ended cannot log in and so counts as suspended.
func (d *Driver) Observe(ctx context.Context) ([]drivers.Observed, error) {
	var all []drivers.Observed
	err := d.admin.use(ctx, func(admin *pgx.Conn) error {
		rows, err := admin.Query(ctx, `SELECT rolname, shobj_description(oid, 'pg_authid'), rolcanlogin, rolconnlimit
			FROM pg_roles WHERE rolname ~ '^ten_[a-z2-7]{26}$' AND shobj_description(oid, 'pg_authid') LIKE 'tenure tenant: %'
			ORDER BY rolname COLLATE "C"`)
		if err != nil {
			return err
		}
		all, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (o drivers.Observed, err error) {
			var comment string
			var login bool
			var limit int64
			err = r.Scan(&o.TenantID, &comment, &login, &limit)
			o.Suspended = !login
			for _, k := range isolations {
				if comment == commentOn(k) {
					o.Isolation = k
				}
			}
			if limit >= 0 {
				o.Limits = map[string]int64{"connections": limit}
			}
			return o, err
		})
		return err
	})
	return all, classify(err)
}

// ConnectionURL gives the tenant's URL, with the password that its credential version has, also while it is suspended. The kind
// that the plane really has counts, not the one in t. It holds a secret: do not log it.
func (d *Driver) ConnectionURL(ctx context.Context, t drivers.Tenant) (string, error) {
	if err := checkID(t.ID); err != nil {
		return "", err
	}
	if t.CredentialVersion < 1 {
		return "", &drivers.Error{Class: drivers.User, Code: "invalid_credential_version", Err: fmt.Errorf("credential version %d", t.CredentialVersion)}
	}
	var have found
	err := d.admin.use(ctx, func(admin *pgx.Conn) (err error) {
		have, err = d.find(ctx, admin, t.ID)
		return err
	})
	if err != nil {
		return "", classify(err)
	}
	if !have.complete {
		return "", drivers.ErrNoTenant
	}
	pw, err := d.password(t.ID, t.CredentialVersion)
	if err != nil {
		return "", classify(err)
	}
	database := map[drivers.Isolation]string{drivers.Pool: poolDatabase, drivers.Bridge: bridgeDatabase, drivers.Silo: t.ID}[have.kind]
	u := url.URL{Scheme: "postgresql", User: url.UserPassword(t.ID, pw), Host: d.address(), Path: "/" + database, RawQuery: "sslmode=" + d.sslmode}
	return u.String(), nil
}

// execer is a connection or a transaction.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

func setLogin(ctx context.Context, e execer, tenantID string, login bool) error {
	word := "NOLOGIN"
	if login {
		word = "LOGIN"
	}
	_, err := e.Exec(ctx, "ALTER ROLE "+quote(tenantID)+" "+word)
	return err
}

// How long endSessions lets backends that are still starting show who they are, and how long it rests between two looks.
const startingBound, betweenLooks = time.Second, 5 * time.Millisecond

// endSessions ends the sessions of a role that can no longer log in, until none is left. A backend that passed the login
// check just before is not in pg_stat_activity yet, but already holds a virtual transaction: those that do so at the first
// look are waited for. (Whoever merely keeps a login half-done holds one too, and will be refused: hence the bound.)
func endSessions(ctx context.Context, admin *pgx.Conn, tenantID string) error {
	const startingSQL = `SELECT l.virtualtransaction FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
		WHERE l.locktype = 'virtualxid' AND (a.pid IS NULL OR a.usesysid IS NULL AND a.backend_type = 'client backend')`
	starting, err := column(ctx, admin, startingSQL)
	if err != nil {
		return err
	}
	bound := time.NewTimer(startingBound)
	defer bound.Stop()
	for {
		if len(starting) > 0 {
			starting, err = column(ctx, admin, startingSQL+" AND l.virtualtransaction = ANY ($1)", starting)
			if err != nil {
				return err
			}
		}
		var sessions int
		if err := admin.QueryRow(ctx, `SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a
			JOIN pg_roles r ON r.oid = a.usesysid WHERE r.rolname = $1`, tenantID).Scan(&sessions); err != nil {
			return err
		}
		if sessions == 0 && len(starting) == 0 {
			return nil
		}
		if err := rest(ctx, betweenLooks); err != nil {
			return err
		}
		select {
		case <-bound.C:
			starting = nil
		default:
		}
	}
}

func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
