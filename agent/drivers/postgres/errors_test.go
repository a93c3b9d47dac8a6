package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tenure-dev/tenure/adapters/postgres/cluster"
	"github.com/tenure-dev/tenure/adapters/postgres/cluster/clustertest"
	"github.com/tenure-dev/tenure/agent/drivers"
)

func TestEveryFailureHasAClassAndACode(t *testing.T) {
	state := func(code string) error { return fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code}) }
	for _, row := range []struct {
		err   error
		class drivers.Class
		code  string
	}{
		{state("57P01"), drivers.PlaneDown, "shutting_down"},
		{state("57P03"), drivers.PlaneDown, "shutting_down"},
		{state("08006"), drivers.PlaneDown, "connection_lost"},
		{state("25006"), drivers.PlaneDown, "read_only"},
		{io.ErrUnexpectedEOF, drivers.PlaneDown, "connection_lost"},
		{state("53100"), drivers.Quota, "disk_full"},
		{state("53400"), drivers.Quota, "configuration_limit"},
		{state("53300"), drivers.Transient, "too_many_connections"},
		{state("53000"), drivers.Transient, "no_resources"},
		{state("40001"), drivers.Transient, "serialization"},
		{state("40P01"), drivers.Transient, "serialization"},
		{state("55006"), drivers.Transient, "in_use"},
		{state("55P03"), drivers.Transient, "in_use"},
		{&pgconn.PgError{Code: "XX000", Message: "tuple concurrently updated"}, drivers.Transient, "concurrent_change"},
		{&pgconn.PgError{Code: "XX000", Message: "cache lookup failed"}, drivers.Bug, "sql_xx000"},
		{state("42P01"), drivers.Bug, "sql_42p01"},
		{state("28P01"), drivers.Bug, "admin_refused"},
		{context.DeadlineExceeded, drivers.Transient, "timeout"},
		{errors.New("what"), drivers.Bug, "unexpected"},
		{&drivers.Error{Class: drivers.Quota, Code: "kept", Err: io.EOF}, drivers.Quota, "kept"},
	} {
		if class, code := drivers.ClassOf(classify(row.err)); class != row.class || code != row.code {
			t.Errorf("%v: %s %s, want %s %s", row.err, class, code, row.class, row.code)
		}
	}
}

func TestAPlaneThatIsAwayIsPlaneDownAndComesBack(t *testing.T) {
	dir := t.TempDir()
	start := func() *cluster.Cluster {
		t.Helper()
		c, err := cluster.Start(within(t), cluster.Options{Dir: dir, Name: "plane", Settings: clustertest.Settings})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Stop(context.Background()) })
		return c
	}
	c := start()
	o := Options{URL: c.URL("postgres"), PlaneKey: make([]byte, 32)}
	d := open(t, o)
	ten := provisioned(t, d, drivers.Silo)
	if err := c.Stop(within(t)); err != nil {
		t.Fatal(err)
	}
	_, observing := d.Observe(within(t))
	_, opening := Open(within(t), o)
	for name, err := range map[string]error{"observe": observing, "open": opening, "suspend": d.Suspend(within(t), "op", ten)} {
		if class, code := drivers.ClassOf(err); class != drivers.PlaneDown || code != "unreachable" {
			t.Errorf("%s: %v", name, err)
		}
	}
	start()
	if got, err := d.Observe(within(t)); err != nil || len(got) != 1 {
		t.Errorf("after the restart: %v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if class, code := drivers.ClassOf(d.Provision(ctx, "op", ten, false)); class != drivers.Transient || code != "timeout" {
		t.Errorf("a cancelled call: %s %s", class, code)
	}
}

func TestAnAdminWhoIsNoSuperuserIsRefused(t *testing.T) {
	d := standing(t)
	silo := provisioned(t, d, drivers.Silo)
	_, err := Open(within(t), Options{URL: urlOf(t, d, silo), PlaneKey: make([]byte, 32)})
	if class, code := drivers.ClassOf(err); class != drivers.User || code != "admin_not_superuser" {
		t.Errorf("got %v", err)
	}
}
