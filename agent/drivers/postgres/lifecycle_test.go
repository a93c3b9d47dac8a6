package postgres

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/agent/drivers"
)

func TestATenantOfEachKindHasTheVendorsTablesToItself(t *testing.T) {
	d := standing(t)
	for _, k := range isolations {
		t.Run(string(k), func(t *testing.T) {
			a, b := provisioned(t, d, k), provisioned(t, d, k)
			fill(t, d, a, "A")
			fill(t, d, b, "B")
			for ten, want := range map[*drivers.Tenant]string{&a: "A customer", &b: "B customer"} {
				c := login(t, d, *ten)
				if got := one(t, c, "SELECT name FROM customers"); got != want {
					t.Errorf("sees %q, not %q", got, want)
				}
				must(t, c, "UPDATE customers SET name = name || '!'")
				must(t, c, "DELETE FROM invoices")
			}
			if got := one(t, login(t, d, a), "SELECT name FROM customers"); got != "A customer!" {
				t.Errorf("after both have written, A sees %q", got)
			}
		})
	}
}

func TestSuspendedMeansRefusedAndEnded(t *testing.T) {
	d := standing(t)
	for _, k := range isolations {
		t.Run(string(k), func(t *testing.T) {
			ten, other := provisioned(t, d, k), provisioned(t, d, k)
			busy, bystander := login(t, d, ten), login(t, d, other)
			must(t, busy, "BEGIN")
			if err := d.Suspend(within(t), "op", ten); err != nil {
				t.Fatal(err)
			}
			if _, err := busy.Exec(within(t), "SELECT 1"); err == nil {
				t.Error("an open session goes on")
			}
			if _, err := tryConnect(t, urlOf(t, d, ten)); !refused(err, "28000") {
				t.Errorf("a new connection: %v", err)
			}
			must(t, bystander, "SELECT 1")

			// Provisioning a suspended tenant again must not open the door, unless it is told to.
			if err := d.Provision(within(t), "op", ten, true); err != nil {
				t.Fatal(err)
			}
			if _, err := tryConnect(t, urlOf(t, d, ten)); !refused(err, "28000") {
				t.Errorf("after provisioning it suspended: %v", err)
			}
			if err := d.Resume(within(t), "op", ten); err != nil {
				t.Fatal(err)
			}
			login(t, d, ten)
		})
	}
}

// Clients that connect again and again must not slip through between the two halves of a suspension.
func TestNobodySlipsThroughASuspension(t *testing.T) {
	d := standing(t)
	ten := provisioned(t, d, drivers.Pool)
	url := urlOf(t, d, ten)
	var clients sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	defer clients.Wait()
	defer cancel()
	connected := make(chan struct{}, 1)
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				if c, err := tryConnect(t, url); err == nil {
					select {
					case connected <- struct{}{}:
					default:
					}
					defer hangUp(c)
				}
			}
		})
	}
	for range 5 {
		<-connected
		if err := d.Suspend(within(t), "op", ten); err != nil {
			t.Fatal(err)
		}
		if n := one(t, superuser(t, "postgres"), "SELECT count(*)::text FROM pg_stat_activity WHERE usename = $1", ten.ID); n != "0" {
			t.Fatalf("%s sessions after Suspend", n)
		}
		select {
		case <-connected:
		default:
		}
		if err := d.Resume(within(t), "op", ten); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheConnectionLimitHolds(t *testing.T) {
	d := standing(t)
	ten := tenant(drivers.Silo)
	ten.Limits = map[string]int64{"connections": 2, "storage_gb": 5}
	if err := d.Provision(within(t), "op", ten, false); err != nil {
		t.Fatal(err)
	}
	login(t, d, ten)
	login(t, d, ten)
	if _, err := tryConnect(t, urlOf(t, d, ten)); !refused(err, "53300") {
		t.Fatalf("the third connection: %v", err)
	}
	ten.Limits["connections"] = 3
	if err := d.Resize(within(t), "op", ten); err != nil {
		t.Fatal(err)
	}
	login(t, d, ten)
	if _, err := tryConnect(t, urlOf(t, d, ten)); !refused(err, "53300") {
		t.Fatalf("the fourth connection: %v", err)
	}
	delete(ten.Limits, "connections")
	if err := d.Resize(within(t), "op", ten); err != nil {
		t.Fatal(err)
	}
	login(t, d, ten)
}

func TestDeprovisionRemovesAllOfATenantAndNothingElse(t *testing.T) {
	d := standing(t)
	others := map[drivers.Isolation]drivers.Tenant{}
	for _, k := range isolations {
		others[k] = provisioned(t, d, k)
		fill(t, d, others[k], "other")
	}
	before := fingerprint(t, others, tenant(drivers.Pool))
	for _, k := range isolations {
		t.Run(string(k), func(t *testing.T) {
			ten := provisioned(t, d, k)
			fill(t, d, ten, "doomed")
			c := login(t, d, ten)
			for _, own := range []string{ // what a tenant can leave lying about
				"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
				"ALTER ROLE CURRENT_USER SET statement_timeout = '1h'",
				"BEGIN",
			} {
				must(t, c, own)
			}
			asked := ten
			asked.Isolation = "" // whatever the caller believes
			for range 2 {
				if err := d.Deprovision(within(t), "op", asked); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(before, fingerprint(t, others, tenant(drivers.Pool))); diff != "" {
				t.Errorf("left behind or taken along:\n%s", diff)
			}
			if _, err := d.ConnectionURL(within(t), ten); !errors.Is(err, drivers.ErrNoTenant) {
				t.Errorf("its URL: %v", err)
			}
		})
	}
}

// What a tenant may do to itself, the next provisioning undoes.
func TestProvisionRepairsWhatATenantDidToItself(t *testing.T) {
	d := standing(t)
	for _, k := range isolations {
		t.Run(string(k), func(t *testing.T) {
			ten, friend := provisioned(t, d, k), provisioned(t, d, k)
			c := login(t, d, ten)
			must(t, c, "ALTER ROLE CURRENT_USER PASSWORD 'changed'")
			must(t, c, "ALTER ROLE CURRENT_USER IN DATABASE "+databaseOf(ten)+" SET search_path = pg_catalog")
			_, err := c.Exec(within(t), "GRANT "+ten.ID+" TO "+friend.ID) // allowed up to Postgres 15
			if err != nil && !refused(err, denied) {
				t.Fatal(err)
			}
			if _, err := tryConnect(t, urlOf(t, d, ten)); !refused(err, "28P01") {
				t.Fatalf("the old password: %v", err)
			}
			if err := d.Provision(within(t), "op", ten, false); err != nil {
				t.Fatal(err)
			}
			c = login(t, d, ten)
			if k == drivers.Bridge {
				must(t, c, "SELECT * FROM customers")
			}
			if _, err := login(t, d, friend).Exec(within(t), "SET ROLE "+ten.ID); !refused(err, denied) {
				t.Errorf("the friend becomes the tenant: %v", err)
			}
		})
	}
}

func TestProvisionRepairsWhatAnOperatorDid(t *testing.T) {
	d := standing(t)
	ten := provisioned(t, d, drivers.Pool)
	must(t, superuser(t, "postgres"), "ALTER ROLE "+ten.ID+" SUPERUSER BYPASSRLS CONNECTION LIMIT 9 VALID UNTIL '2001-01-01'")
	must(t, superuser(t, "postgres"), "GRANT pg_read_all_data TO "+ten.ID)
	if err := d.Provision(within(t), "op", ten, false); err != nil {
		t.Fatal(err)
	}
	got := one(t, login(t, d, ten), `SELECT concat_ws(' ', rolsuper, rolbypassrls, rolconnlimit, pg_has_role('pg_read_all_data', 'member'))
		FROM pg_roles WHERE rolname = current_user`)
	if got != "f f -1 f" {
		t.Errorf("got %s", got)
	}
}

func TestTheCredentialVersionIsThePassword(t *testing.T) {
	o := plane(t)
	d := open(t, o)
	ten := provisioned(t, d, drivers.Pool)
	first := urlOf(t, d, ten)
	ten.CredentialVersion = 2
	second := urlOf(t, d, ten)
	if first == second {
		t.Fatal("two versions, one password")
	}
	if err := d.Provision(within(t), "op", ten, false); err != nil {
		t.Fatal(err)
	}
	if _, err := tryConnect(t, first); !refused(err, "28P01") {
		t.Errorf("the old password: %v", err)
	}
	connect(t, second)
	if again := urlOf(t, open(t, o), ten); again != second {
		t.Error("the same key gives another password")
	}
	o.PlaneKey = bytes.Repeat([]byte{8}, 32)
	if other := urlOf(t, open(t, o), ten); other == second {
		t.Error("another key gives the same password")
	}
	must(t, superuser(t, "postgres"), "SELECT 1")
	if stored := one(t, superuser(t, "postgres"), "SELECT rolpassword FROM pg_authid WHERE rolname = $1", ten.ID); !strings.HasPrefix(stored, "SCRAM-SHA-256$4096:") {
		t.Errorf("stored is %q", stored)
	}
}

var errCrash = errors.New("crash")

// crashAt ends the n-th step of what follows, counted from 1. It says whether there was such a step.
func crashAt(n int) (hook func(string) error, crashed func() bool) {
	seen := 0
	return func(string) error {
		if seen++; seen == n {
			return errCrash
		}
		return nil
	}, func() bool { return seen >= n }
}

func TestACrashAtAnyStepIsCompletedByTheNextRun(t *testing.T) {
	steady := standing(t)
	others := map[drivers.Isolation]drivers.Tenant{}
	for _, k := range isolations {
		others[k] = provisioned(t, steady, k)
		fill(t, steady, others[k], "other")
	}
	nobody := tenant(drivers.Pool)
	before := fingerprint(t, others, nobody)

	type change struct {
		name  string
		first func(drivers.Tenant) error // brings the tenant to where the change begins
		do    func(*Driver, drivers.Tenant) error
	}
	absent := func(drivers.Tenant) error { return nil }
	active := func(ten drivers.Tenant) error { return steady.Provision(within(t), "op", ten, false) }
	suspended := func(ten drivers.Tenant) error { return steady.Provision(within(t), "op", ten, true) }
	changes := []change{
		{"provision", absent, func(d *Driver, ten drivers.Tenant) error { return d.Provision(within(t), "op", ten, false) }},
		{"provision suspended", absent, func(d *Driver, ten drivers.Tenant) error { return d.Provision(within(t), "op", ten, true) }},
		{"provision again", active, func(d *Driver, ten drivers.Tenant) error { return d.Provision(within(t), "op", ten, false) }},
		{"suspend", active, func(d *Driver, ten drivers.Tenant) error { return d.Suspend(within(t), "op", ten) }},
		{"resume", suspended, func(d *Driver, ten drivers.Tenant) error { return d.Resume(within(t), "op", ten) }},
		{"deprovision", active, func(d *Driver, ten drivers.Tenant) error { return d.Deprovision(within(t), "op", ten) }},
	}
	for _, k := range isolations {
		for _, c := range changes {
			t.Run(string(k)+" "+c.name, func(t *testing.T) {
				ten := tenant(k)
				if err := c.first(ten); err != nil {
					t.Fatal(err)
				}
				// Each run goes on from where the one before has crashed, and crashes one step later.
				for n, crashed := 1, true; crashed; n++ {
					hook, reached := crashAt(n)
					broken := *steady
					broken.failpoint = hook
					err := c.do(&broken, ten)
					if crashed = reached(); crashed != errors.Is(err, errCrash) || !crashed && err != nil {
						t.Fatalf("step %d: %v", n, err)
					}
				}
				switch c.name {
				case "deprovision":
				case "suspend", "provision suspended":
					if _, err := tryConnect(t, urlOf(t, steady, ten)); !refused(err, "28000") {
						t.Fatalf("a connection: %v", err)
					}
				default:
					fill(t, steady, ten, "own")
				}
				if err := steady.Deprovision(within(t), "op", ten); err != nil {
					t.Fatal(err)
				}
			})
		}
		// A tenant that was only half made is removed whole.
		t.Run(string(k)+" given up", func(t *testing.T) {
			for n := 1; ; n++ {
				ten := tenant(k)
				hook, crashed := crashAt(n)
				broken := *steady
				broken.failpoint = hook
				_ = broken.Provision(within(t), "op", ten, false)
				if err := steady.Deprovision(within(t), "op", ten); err != nil {
					t.Fatalf("after a crash at step %d: %v", n, err)
				}
				if !crashed() {
					break
				}
			}
		})
		// Resuming one that was only half made completes it.
		t.Run(string(k)+" resumed", func(t *testing.T) {
			ten := tenant(k)
			broken := *steady
			broken.failpoint, _ = crashAt(1)
			_ = broken.Provision(within(t), "op", ten, false)
			if err := steady.Resume(within(t), "op", ten); err != nil {
				t.Fatal(err)
			}
			fill(t, steady, ten, "own")
			if err := steady.Deprovision(within(t), "op", ten); err != nil {
				t.Fatal(err)
			}
		})
	}
	if diff := cmp.Diff(before, fingerprint(t, others, nobody)); diff != "" {
		t.Errorf("something is left behind, or others' things have changed:\n%s", diff)
	}
}

func TestACrashAtAnyStepOfOpenIsCompletedByTheNext(t *testing.T) {
	o := plane(t)
	for n, crashed := 1, true; crashed; n++ { // each goes on from where the one before has crashed
		hook, reached := crashAt(n)
		o.failpoint = hook
		d, err := Open(within(t), o)
		if crashed = reached(); crashed != errors.Is(err, errCrash) || !crashed && err != nil {
			t.Fatalf("step %d: %v", n, err)
		}
		if err == nil {
			d.Close()
		}
	}
	o.failpoint = nil
	d := open(t, o)
	for _, k := range isolations {
		fill(t, d, provisioned(t, d, k), "own")
	}
}

func TestTwentyTenantsAtOnceOverTwoDrivers(t *testing.T) {
	o := plane(t)
	var ds [2]*Driver
	var opening sync.WaitGroup
	for i := range ds { // two Opens race as well
		opening.Go(func() {
			d, err := Open(within(t), o)
			if err != nil {
				t.Error(err)
				return
			}
			ds[i] = d
		})
	}
	opening.Wait()
	if t.Failed() {
		t.FailNow()
	}
	var all sync.WaitGroup
	for i := range 20 {
		d, k := ds[i%2], isolations[i%3]
		t.Cleanup(func() { d.Close() })
		all.Go(func() {
			ctx, ten := within(t), tenant(k)
			for _, step := range []func() error{
				func() error { return d.Provision(ctx, "1", ten, false) },
				func() error { return d.Suspend(ctx, "2", ten) },
				func() error { return d.Resume(ctx, "3", ten) },
				func() error { return d.Provision(ctx, "4", ten, false) },
			} {
				if err := step(); err != nil {
					t.Errorf("%s: %v", k, err)
					return
				}
			}
			if c, err := tryConnect(t, urlOf(t, d, ten)); err != nil {
				t.Errorf("%s: %v", k, err)
			} else {
				hangUp(c)
			}
			if i%2 == 0 {
				if err := d.Deprovision(ctx, "5", ten); err != nil {
					t.Errorf("%s: %v", k, err)
				}
			}
		})
	}
	all.Wait()
	left, err := ds[0].Observe(within(t))
	if err != nil || len(left) != 10 {
		t.Errorf("%d tenants are left, %v", len(left), err)
	}
}

func TestWhatCannotBeIsRefusedAsUser(t *testing.T) {
	d := standing(t)
	ten := provisioned(t, d, drivers.Pool)
	for _, row := range []struct {
		code string
		set  func(*drivers.Tenant)
	}{
		{"invalid_tenant", func(x *drivers.Tenant) { x.ID = `ten_"; DROP ROLE postgres` }},
		{"invalid_tenant", func(x *drivers.Tenant) { x.ID = "postgres" }},
		{"unknown_isolation", func(x *drivers.Tenant) { x.Isolation = "cloud" }},
		{"invalid_credential_version", func(x *drivers.Tenant) { x.CredentialVersion = 0 }},
		{"invalid_limit", func(x *drivers.Tenant) { x.Limits = map[string]int64{"connections": -1} }},
		{"invalid_limit", func(x *drivers.Tenant) { x.Limits = map[string]int64{"connections": 1 << 40} }},
		{"isolation_differs", func(x *drivers.Tenant) { x.Isolation = drivers.Silo }},
	} {
		t.Run(row.code, func(t *testing.T) {
			asked := ten
			row.set(&asked)
			class, code := drivers.ClassOf(d.Provision(within(t), "op", asked, false))
			if class != drivers.User || code != row.code {
				t.Errorf("got %s %s", class, code)
			}
		})
	}
	if _, err := Open(within(t), Options{URL: "postgres://127.0.0.1/x", PlaneKey: []byte("short")}); err == nil || !strings.Contains(err.Error(), "plane key") {
		t.Errorf("a short key: %v", err)
	}
}

func TestTenantsAreToldWhereToConnect(t *testing.T) {
	key := make([]byte, 32)
	for _, row := range []struct {
		o             Options
		address, mode string
	}{
		{Options{URL: "postgres://db.example/x?sslmode=disable"}, "db.example:5432", "disable"},
		{Options{URL: "postgres://db.example:6000/x?sslmode=prefer"}, "db.example:6000", "prefer"},
		{Options{URL: "postgres://db.example/x?sslmode=verify-full"}, "db.example:5432", "require"},
		{Options{URL: "postgres:///x?host=/run/pg&sslmode=disable", AdvertiseHost: "pg.example", AdvertisePort: 7}, "pg.example:7", "disable"},
	} {
		row.o.PlaneKey = key
		d, err := configure(row.o)
		if err != nil {
			t.Fatal(err)
		}
		if d.address() != row.address || d.sslmode != row.mode {
			t.Errorf("%s: %s %s", row.o.URL, d.address(), d.sslmode)
		}
	}
	if _, err := configure(Options{URL: "postgres:///x?host=/run/pg", PlaneKey: key}); err == nil || !strings.Contains(err.Error(), "AdvertiseHost") {
		t.Errorf("a socket without AdvertiseHost: %v", err)
	}
}

// A role that merely looks like a tenant's is not ours to touch.
func TestAForeignRoleOfTheSameFormIsNotObservedNorTaken(t *testing.T) {
	d := open(t, plane(t))
	ten := tenant(drivers.Pool)
	must(t, superuser(t, "postgres"), "CREATE ROLE "+ten.ID)
	got, err := d.Observe(within(t))
	if err != nil || len(got) != 0 {
		t.Errorf("observed %v, %v", got, err)
	}
	if class, code := drivers.ClassOf(d.Provision(within(t), "op", ten, false)); class != drivers.User || code != "isolation_differs" {
		t.Errorf("provision: %s %s", class, code)
	}
	if class, code := drivers.ClassOf(d.Deprovision(within(t), "op", ten)); class != drivers.Bug || code != "foreign_role" {
		t.Errorf("deprovision: %s %s", class, code)
	}
	must(t, superuser(t, "postgres"), "DROP ROLE "+ten.ID)
}
