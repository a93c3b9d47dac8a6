package postgres

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base32"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/tenure-dev/tenure/adapters/postgres/cluster/clustertest"
	"github.com/tenure-dev/tenure/agent/drivers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(clustertest.Wrap(m)) }

// plane is a server without tenants and without anything that an earlier test has left.
func plane(t *testing.T) Options {
	t.Helper()
	c := clustertest.Shared(t)
	if shared != nil {
		shared.Close()
		shared = nil
	}
	admin := superuser(t, "postgres")
	for _, sql := range []string{
		`SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database WHERE datname ~ '^(ten_|tenure_|other_)'`,
		`SELECT format('DROP ROLE %I', rolname) FROM pg_roles WHERE rolname ~ '^(ten_|tenure_)'`,
	} {
		drops, err := column(within(t), admin, sql)
		if err != nil {
			t.Fatal(err)
		}
		for _, drop := range drops {
			must(t, admin, drop)
		}
	}
	return Options{URL: c.URL("postgres"), PlaneKey: bytes.Repeat([]byte{7}, 32)}
}

// shared is a driver that tests may share which need no plane of their own. Other tests' tenants may be on it.
var shared *Driver

func standing(t *testing.T) *Driver {
	t.Helper()
	if shared == nil {
		d, err := Open(within(t), plane(t))
		if err != nil {
			t.Fatal(err)
		}
		shared = d
	}
	return shared
}

func open(t *testing.T, o Options) *Driver {
	t.Helper()
	d, err := Open(within(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	c, err := tryConnect(t, url)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tryConnect is for connections that may be refused.
func tryConnect(t testing.TB, url string) (*pgx.Conn, error) {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	c, err := pgx.ConnectConfig(within(t), config)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { hangUp(c) })
	return c, nil
}

func must(t testing.TB, c *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := c.Exec(within(t), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// one reads a single text value.
func one(t testing.TB, c *pgx.Conn, sql string, args ...any) string {
	t.Helper()
	got, err := column(within(t), c, sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return strings.Join(got, "\n")
}

func tenant(k drivers.Isolation) drivers.Tenant {
	raw := make([]byte, 16)
	rand.Read(raw)
	id := "ten_" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw))
	return drivers.Tenant{ID: id, Isolation: k, CredentialVersion: 1}
}

func provisioned(t testing.TB, d *Driver, k drivers.Isolation) drivers.Tenant {
	t.Helper()
	ten := tenant(k)
	if err := d.Provision(within(t), "op_1", ten, false); err != nil {
		t.Fatal(err)
	}
	return ten
}

func urlOf(t testing.TB, d *Driver, ten drivers.Tenant) string {
	t.Helper()
	u, err := d.ConnectionURL(within(t), ten)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// login connects as the tenant.
func login(t testing.TB, d *Driver, ten drivers.Tenant) *pgx.Conn {
	t.Helper()
	return connect(t, urlOf(t, d, ten))
}

// onlookers are the superuser's connections, kept because making one costs more than most tests' questions.
var onlookers = map[string]*pgx.Conn{}

// superuser is an outsider's connection to a database of the plane, who sees everything. Only the test's own goroutine calls it.
func superuser(t testing.TB, database string) *pgx.Conn {
	t.Helper()
	c := onlookers[database]
	if c == nil || c.Ping(within(t)) != nil {
		config, err := pgx.ParseConfig(clustertest.Shared(t).URL(database))
		if err != nil {
			t.Fatal(err)
		}
		config.DefaultQueryExecMode = pgx.QueryExecModeExec
		if c, err = pgx.ConnectConfig(within(t), config); err != nil {
			t.Fatal(err)
		}
		onlookers[database] = c
	}
	return c
}

// databaseOf is where the tenant's rows are.
func databaseOf(ten drivers.Tenant) string {
	return map[drivers.Isolation]string{drivers.Pool: poolDatabase, drivers.Bridge: bridgeDatabase, drivers.Silo: ten.ID}[ten.Isolation]
}

// refused says whether the error is one of these SQLSTATEs.
func refused(err error, states ...string) bool {
	for _, s := range states {
		if err != nil && strings.Contains(err.Error(), "SQLSTATE "+s) {
			return true
		}
	}
	return false
}

const data = `
	INSERT INTO customers (id, name, email) VALUES ('00000000-0000-0000-0000-00000000000c', $1 || ' customer', 'boss@example.org');
	INSERT INTO projects (id, customer_id, title) VALUES ('00000000-0000-0000-0000-00000000000b', '00000000-0000-0000-0000-00000000000c', $1 || ' project');
	INSERT INTO invoices (number, customer_id, project_id, amount_cents) VALUES ('1', '00000000-0000-0000-0000-00000000000c', '00000000-0000-0000-0000-00000000000b', 42)`

// fill writes rows as the tenant; every tenant gets the same keys.
func fill(t testing.TB, d *Driver, ten drivers.Tenant, mark string) {
	t.Helper()
	c := login(t, d, ten)
	for _, sql := range strings.Split(data, ";") {
		must(t, c, strings.ReplaceAll(sql, "$1", "'"+mark+"'"))
	}
}
