// Package postgres is the real data-plane driver: it keeps tenants in one Postgres server, as rows under forced row-level
// security (pool), as schemas (bridge) or as databases (silo), each behind a login role of its own that owns nothing.
// Only the agent calls it.
//
// # What stands where
//
// A tenant's role has the tenant's id as its name, and so has its schema or database. Everything else belongs to roles
// that cannot log in: tenure_{pool,bridge,silo}_owner own databases, schemas and tables; tenure_{pool,bridge,silo}_tenants
// hold what all tenants of a kind may do, and being a member is also the mark of a tenant that is completely made. A
// tenant's kind is the comment on its role. Nothing is kept besides: what Observe reports is what the server's own
// catalogs say.
//
// # What Postgres cannot hide
//
// No row crosses from one tenant to another, but some facts do. All tenants can list roles and databases: opaque ids, and
// the settings that a role has given itself with ALTER ROLE … SET. In the shared databases (pool, bridge) NOTIFY reaches
// whoever listens, so vendors must not send data in it; and LOCK TABLE, transactions left open and load are felt by
// neighbours. In the pool, planner estimates and pg_relation_size speak of shared tables as a whole, and a shared sequence
// tells how far it is. Up to Postgres 15 a tenant may grant its own role to another tenant, which gives away its own rows
// and no one else's; Provision and Suspend take that back.
package postgres

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tenure-dev/tenure/agent/drivers"
)

// Options say where the plane is. URL and PlaneKey are required.
type Options struct {
	// URL connects as a superuser of the server, to any database of it that tenants do not use, usually postgres.
	URL string
	// PlaneKey is the plane's own secret, 32 bytes, from which tenants' passwords are derived. Another key means other
	// passwords for every tenant.
	PlaneKey []byte
	// VendorSQL holds tenant/*.sql, run in each bridge schema and silo database, and pool/*.sql, run once in the pool; each
	// set in the order of its names. Nil means Example(). Files that have been run must stay as they were; new ones go
	// to the end.
	VendorSQL fs.FS
	// TenantColumn is the column of pool tables that names the row's tenant, of type text. Empty means "tenant".
	TenantColumn string
	// AdvertiseHost and AdvertisePort are what ConnectionURL tells tenants. Empty and 0: those of URL.
	AdvertiseHost string
	AdvertisePort int
	// Logger hears what is worth knowing. Nil discards it.
	Logger *slog.Logger

	// failpoint is asked after each step of a change, so that tests can end it there as a crash would.
	failpoint func(step string) error
}

// Driver implements drivers.Driver. It may be used by any number of goroutines, and by several processes on one server.
type Driver struct {
	planeKey  []byte
	host      string
	port      int
	sslmode   string
	column    string
	files     vendorFiles
	log       *slog.Logger
	failpoint func(string) error
	version   int // server_version_num

	admin, pool, bridge *lane
	config              *pgx.ConnConfig
}

var _ drivers.Driver = (*Driver)(nil)

// lanes bound how many connections the driver itself holds.
const adminLanes, sharedLanes = 12, 6

// Open makes the plane ready: roles, the two shared databases and the template of the siloed ones, closed to PUBLIC, with
// the vendor's files run. It may run beside another Open and beside tenants at work, and completes one that crashed.
// Errors are *drivers.Error. A pool that has become unprotected since (see checkPool) does not fail Open: it is logged, and
// pooled tenants are then neither provisioned nor resumed, while everything else works.
func Open(ctx context.Context, o Options) (*Driver, error) {
	d, err := configure(o)
	if err != nil {
		return nil, &drivers.Error{Class: drivers.User, Code: "invalid_options", Err: err}
	}
	if err := d.prepare(ctx); err != nil {
		return nil, errors.Join(classify(err), d.Close())
	}
	return d, nil
}

func configure(o Options) (*Driver, error) {
	config, err := pgx.ParseConfig(o.URL)
	if err != nil {
		return nil, err // pgx leaves the password out
	}
	if len(o.PlaneKey) != sha256.Size {
		return nil, fmt.Errorf("the plane key has %d bytes, not %d", len(o.PlaneKey), sha256.Size)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.RuntimeParams["application_name"] = "tenure-driver"
	config.RuntimeParams["search_path"] = "pg_catalog"
	config.RuntimeParams["lock_timeout"] = "30s"
	config.RuntimeParams["timezone"] = "UTC"

	d := &Driver{
		planeKey: append([]byte(nil), o.PlaneKey...), host: o.AdvertiseHost, port: o.AdvertisePort, column: o.TenantColumn,
		log: o.Logger, failpoint: o.failpoint, config: config,
	}
	if d.host == "" {
		d.host = config.Host
	}
	if d.port == 0 {
		d.port = int(config.Port)
	}
	if strings.HasPrefix(d.host, "/") {
		return nil, errors.New("the URL leads to a Unix socket: AdvertiseHost must say where tenants connect")
	}
	d.sslmode = sslmode(config)
	if d.column == "" {
		d.column = "tenant"
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.failpoint == nil {
		d.failpoint = func(string) error { return nil }
	}
	if o.VendorSQL == nil {
		o.VendorSQL = Example()
	}
	if d.files, err = readVendorSQL(o.VendorSQL); err != nil {
		return nil, err
	}
	d.admin = newLane(config, config.Database, adminLanes)
	d.pool = newLane(config, poolDatabase, sharedLanes)
	d.bridge = newLane(config, bridgeDatabase, sharedLanes)
	return d, nil
}

// sslmode is what tenants are told, as strict as the admin URL is.
func sslmode(c *pgx.ConnConfig) string {
	if c.TLSConfig == nil {
		return "disable"
	}
	for _, f := range c.Fallbacks {
		if f.TLSConfig == nil {
			return "prefer"
		}
	}
	return "require"
}

// Close ends the driver's own connections. Calls that are still running fail.
func (d *Driver) Close() error {
	d.admin.close()
	d.pool.close()
	d.bridge.close()
	return nil
}

// address is what tenants connect to.
func (d *Driver) address() string { return net.JoinHostPort(d.host, strconv.Itoa(d.port)) }

// change runs f on an admin connection while holding the tenant's lock, which also keeps out another agent's driver.
func (d *Driver) change(ctx context.Context, tenantID string, f func(*pgx.Conn) error) error {
	return classify(d.admin.use(ctx, func(admin *pgx.Conn) error {
		if _, err := admin.Exec(ctx, "SELECT pg_advisory_lock($1::int, hashtext($2))", tenantLocks, tenantID); err != nil {
			return err
		}
		if err := f(admin); err != nil {
			return err // the lane closes the connection, and the lock goes with it
		}
		_, err := admin.Exec(ctx, "SELECT pg_advisory_unlock($1::int, hashtext($2))", tenantLocks, tenantID)
		return err
	}))
}
