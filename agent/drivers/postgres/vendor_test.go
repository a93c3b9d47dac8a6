package postgres

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/tenure-dev/tenure/agent/drivers"
)

// files is the example set with some files put in, replaced or (nil) taken out.
func files(t *testing.T, change map[string]string) fstest.MapFS {
	t.Helper()
	set := fstest.MapFS{}
	err := fs.WalkDir(Example(), ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(Example(), p)
		set[p] = &fstest.MapFile{Data: raw}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, sql := range change {
		if sql == "" {
			delete(set, name)
			continue
		}
		set[name] = &fstest.MapFile{Data: []byte(sql)}
	}
	return set
}

func TestAPoolThatCannotBeProtectedIsRefused(t *testing.T) {
	o := plane(t)
	const table = "CREATE TABLE extra (tenant text NOT NULL, id uuid, PRIMARY KEY (tenant, id));"
	for _, row := range []struct{ name, sql, says string }{
		{"a table without the tenant column", "CREATE TABLE extra (id uuid PRIMARY KEY)", "table pool.extra has no column tenant"},
		{"a tenant column of another type", "CREATE TABLE extra (tenant uuid NOT NULL)", "column tenant is not text"},
		{"a key across tenants", "CREATE TABLE extra (tenant text NOT NULL, id uuid PRIMARY KEY)", "extra_pkey is unique across tenants"},
		{"a unique index across tenants", table + "CREATE UNIQUE INDEX extra_id ON extra (id) INCLUDE (tenant)", "pool.extra_id is unique across tenants"},
		{"an exclusion across tenants", table + "ALTER TABLE extra ADD CONSTRAINT x EXCLUDE USING hash (id WITH =)", "pool.x is unique across tenants"},
		{"a foreign key across tenants", "CREATE TABLE a (tenant text NOT NULL, id uuid, PRIMARY KEY (tenant, id), owner text, FOREIGN KEY (owner, id) REFERENCES a (tenant, id))", "a_owner_id_fkey of pool.a reaches across tenants"},
		{"a view with its owner's rights", "CREATE VIEW v AS SELECT * FROM customers", "view pool.v is not security_invoker"},
		{"a materialized view", "CREATE MATERIALIZED VIEW v AS SELECT * FROM customers", "materialized view pool.v"},
		{"a function with its owner's rights", "CREATE FUNCTION f() RETURNS bigint SECURITY DEFINER LANGUAGE sql AS 'SELECT count(*) FROM pool.customers'", "function pool.f() is SECURITY DEFINER"},
		{"another permissive policy", "CREATE POLICY everyone ON customers USING (true)", "another permissive policy, everyone"},
		{"a rule", "CREATE RULE r AS ON UPDATE TO customers DO ALSO SELECT 1", "table pool.customers has a rule"},
		{"a grant on a column", "GRANT SELECT (name) ON customers TO pg_monitor", "has grants on a column"},
		{"a table in a schema of its own", "RESET ROLE; CREATE SCHEMA aside; CREATE TABLE aside.t (tenant text NOT NULL)", "relation aside.t is outside of the schema pool"},
		{"a table of somebody else", "RESET ROLE; " + table, "pool.extra does not belong to tenure_pool_owner"},
	} {
		t.Run(row.name, func(t *testing.T) {
			o.VendorSQL = files(t, map[string]string{"pool/0009_extra.sql": row.sql})
			_, err := Open(within(t), o)
			if class, code := drivers.ClassOf(err); class != drivers.Bug || code != "pool_unprotected" || !strings.Contains(err.Error(), row.says) {
				t.Fatalf("got %v", err)
			}
			if one(t, superuser(t, poolDatabase), "SELECT relname FROM pg_class WHERE relnamespace = 'pool'::regnamespace") != "" {
				t.Error("the files have left something behind")
			}
		})
	}
}

func TestWhatAVendorMayPutIntoThePool(t *testing.T) {
	o := plane(t)
	o.VendorSQL = files(t, map[string]string{"pool/0009_extra.sql": `
		CREATE VIEW open_invoices WITH (security_invoker) AS SELECT i.number, c.name FROM invoices i JOIN customers c ON c.id = i.customer_id;
		CREATE FUNCTION shout(x text) RETURNS text LANGUAGE sql AS 'SELECT upper(x)';
		CREATE TABLE numbered (tenant text NOT NULL, n bigserial, PRIMARY KEY (tenant, n));
		CREATE TABLE counted (tenant text NOT NULL, n bigint GENERATED ALWAYS AS IDENTITY, at date NOT NULL, PRIMARY KEY (tenant, n, at)) PARTITION BY RANGE (at);
		CREATE TABLE counted_all PARTITION OF counted DEFAULT;
		CREATE POLICY cheap ON invoices AS RESTRICTIVE FOR INSERT WITH CHECK (amount_cents < 1000);
		CREATE TABLE left_ring (tenant text NOT NULL, id int, other int, PRIMARY KEY (tenant, id));
		CREATE TABLE right_ring (tenant text NOT NULL, id int, other int, PRIMARY KEY (tenant, id), FOREIGN KEY (tenant, other) REFERENCES left_ring);
		ALTER TABLE left_ring ADD FOREIGN KEY (tenant, other) REFERENCES right_ring;`})
	d := open(t, o)
	a, b := provisioned(t, d, drivers.Pool), provisioned(t, d, drivers.Pool)
	for _, ten := range []drivers.Tenant{a, b} {
		fill(t, d, ten, "of "+ten.ID)
		c := login(t, d, ten)
		if got := one(t, c, "SELECT shout(name) FROM open_invoices"); got != strings.ToUpper("of "+ten.ID+" customer") {
			t.Errorf("the view shows %q", got)
		}
		for _, sql := range []string{
			"INSERT INTO numbered DEFAULT VALUES", "INSERT INTO counted (at) VALUES ('2020-01-01')",
			"INSERT INTO left_ring (id) VALUES (1)", "INSERT INTO right_ring (id, other) VALUES (1, 1)", "UPDATE left_ring SET other = 1",
		} {
			must(t, c, sql)
		}
		if got := one(t, c, "SELECT count(*)::text FROM counted_all"); got != "1" {
			t.Errorf("a partition shows %s rows", got)
		}
		for _, sql := range []string{"SELECT setval('numbered_n_seq', 1)", "SELECT last_value FROM numbered_n_seq", "SELECT nextval('counted_n_seq'), setval('counted_n_seq', 9)"} {
			if _, err := c.Exec(within(t), sql); !refused(err, denied) {
				t.Errorf("%s: %v", sql, err)
			}
		}
	}
	if err := d.Deprovision(within(t), "op", a); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"customers", "invoices", "numbered", "counted", "left_ring", "right_ring"} {
		if got := one(t, superuser(t, poolDatabase), "SELECT DISTINCT tenant FROM pool."+table); got != b.ID {
			t.Errorf("%s holds rows of %q", table, got)
		}
	}
}

// What is done to the pool by hand later is repaired, where that can be done, and otherwise found before anybody is let in.
func TestAPoolThatHasBecomeUnprotectedServesNobodyNew(t *testing.T) {
	o := plane(t)
	d := open(t, o)
	ten, silo := provisioned(t, d, drivers.Pool), provisioned(t, d, drivers.Silo)
	admin := superuser(t, poolDatabase)
	must(t, admin, "CREATE TABLE pool.stray (note text); GRANT SELECT ON pool.stray TO PUBLIC")
	wants := func(name string, err error, code string) {
		t.Helper()
		if class, got := drivers.ClassOf(err); err == nil || class != drivers.Bug || got != code {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, x := range []*Driver{d, open(t, o)} {
		wants("provision", x.Provision(within(t), "op", tenant(drivers.Pool), false), "pool_unprotected")
		wants("resume", x.Resume(within(t), "op", ten), "pool_unprotected")
		for name, err := range map[string]error{
			"suspend": x.Suspend(within(t), "op", ten), "silo": x.Provision(within(t), "op", silo, false),
			"deprovision": x.Deprovision(within(t), "op", tenant(drivers.Pool)),
		} {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	must(t, admin, "DROP TABLE pool.stray")
	for _, damage := range []string{
		"ALTER TABLE pool.customers NO FORCE ROW LEVEL SECURITY",
		"ALTER TABLE pool.customers DISABLE ROW LEVEL SECURITY",
		"ALTER POLICY tenure_tenant ON pool.customers USING (true)",
		"ALTER POLICY tenure_tenant ON pool.customers WITH CHECK (true)",
		"ALTER POLICY tenure_tenant ON pool.customers TO tenure_pool_tenants",
		"ALTER TABLE pool.customers ALTER COLUMN tenant SET DEFAULT 'x'",
		"GRANT TRUNCATE ON pool.customers TO tenure_pool_tenants",
		"GRANT SELECT ON pool.customers TO PUBLIC",
		"GRANT CREATE ON SCHEMA pool TO tenure_pool_tenants",
	} {
		must(t, admin, damage)
		wants(damage, d.Resume(within(t), "op", ten), "pool_unprotected")
		again := open(t, o) // opening repairs
		if err := again.Resume(within(t), "op", ten); err != nil {
			t.Errorf("after %s and another Open: %v", damage, err)
		}
	}
}

func TestABridgeThatCannotBeProtectedIsRefused(t *testing.T) {
	for _, row := range []struct{ name, sql string }{
		{"a function with the owner's rights", "CREATE FUNCTION f() RETURNS int SECURITY DEFINER LANGUAGE sql AS 'SELECT 1'"},
		{"a table for all", "CREATE TABLE IF NOT EXISTS public.shared (n int)"},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := plane(t)
			o.VendorSQL = files(t, map[string]string{"tenant/0009_extra.sql": row.sql})
			d := open(t, o)
			ten := tenant(drivers.Bridge)
			if class, code := drivers.ClassOf(d.Provision(within(t), "op", ten, false)); class != drivers.Bug || code != "bridge_unprotected" {
				t.Errorf("got %s %s", class, code)
			}
			if _, err := d.ConnectionURL(within(t), ten); err == nil {
				t.Error("the tenant has a URL")
			}
		})
	}
}

func TestNewVendorFilesReachOldTenants(t *testing.T) {
	o := plane(t)
	first := open(t, o)
	var old []drivers.Tenant
	for _, k := range isolations {
		old = append(old, provisioned(t, first, k))
	}
	o.VendorSQL = files(t, map[string]string{
		"tenant/0004_notes.sql": "CREATE TABLE notes (body text)",
		"pool/0004_notes.sql":   "CREATE TABLE notes (tenant text NOT NULL, body text)",
	})
	d := open(t, o)
	for _, ten := range append(old, tenant(drivers.Pool), tenant(drivers.Bridge), tenant(drivers.Silo)) {
		if err := d.Provision(within(t), "op", ten, false); err != nil {
			t.Fatal(err)
		}
		must(t, login(t, d, ten), "INSERT INTO notes (body) VALUES ('x')")
	}
}

func TestVendorFilesThatHaveBeenRunStayAsTheyWere(t *testing.T) {
	o := plane(t)
	open(t, o)
	for _, row := range []struct {
		name, says string
		change     map[string]string
	}{
		{"changed", "pool/0002_projects.sql has been run here with other content", map[string]string{"pool/0002_projects.sql": "SELECT 1"}},
		{"taken out", "pool/0003_invoices.sql has been run here and is now missing", map[string]string{"pool/0003_invoices.sql": ""}},
		{"put in between", "pool/0002_a.sql comes where pool/0002_projects.sql", map[string]string{"pool/0002_a.sql": "SELECT 1"}},
		{"changed for silos", "tenant/0001_customers.sql has been run here with other content", map[string]string{"tenant/0001_customers.sql": "SELECT 1"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			o.VendorSQL = files(t, row.change)
			_, err := Open(within(t), o)
			if class, code := drivers.ClassOf(err); class != drivers.Bug || code != "vendor_sql_changed" || !strings.Contains(err.Error(), row.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestBrokenVendorFilesAreNamed(t *testing.T) {
	for name, sql := range map[string]string{"syntax": "CREATE TABEL x ()", "commit": "COMMIT"} {
		t.Run(name, func(t *testing.T) {
			o := plane(t)
			o.VendorSQL = files(t, map[string]string{"pool/0007_broken.sql": sql})
			_, err := Open(within(t), o)
			if class, code := drivers.ClassOf(err); class != drivers.Bug || code != "vendor_sql_failed" || !strings.Contains(err.Error(), "pool/0007_broken.sql") {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		o := plane(t)
		o.VendorSQL = fstest.MapFS{}
		if _, err := Open(within(t), o); err == nil || !strings.Contains(err.Error(), "no tenant/*.sql") {
			t.Errorf("got %v", err)
		}
	})
}
