package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tenure-dev/tenure/agent/drivers"
)

// secret is in the victim's rows, in the text of its queries and in its application name: no answer may hold it.
const secret = "victims-secret"

// attack is one or more statements that a tenant sends on a session in its first state. {me}, {victim} and {pid} (the victim's backend)
// are filled in, {kind} too. want: the SQLSTATEs with which it may be refused; "" if Postgres allows it and it does no harm;
// "*" if either is right, which varies between versions.
type attack struct{ want, sql string }

// denied is SQLSTATE insufficient_privilege, under which row-level security refuses too.
const denied = "42501"

// everywhere is what any tenant may try, of whatever kind.
var everywhere = []attack{
	// Reading what others have.
	{"", "SELECT * FROM customers"},
	{"", "TABLE projects"},
	{"", "SELECT c.*, p.*, i.* FROM customers c JOIN projects p ON p.customer_id = c.id JOIN invoices i ON i.project_id = p.id"},
	{"", "SELECT xmin, ctid, tableoid, * FROM ONLY customers"},
	{"", "SELECT * FROM customers TABLESAMPLE SYSTEM (100)"},
	{"", "SELECT 1 / (CASE WHEN name LIKE '%secret%' THEN 0 ELSE 1 END) FROM customers"},
	{"", "SELECT * FROM customers FOR UPDATE"},
	{"", "EXPLAIN (ANALYZE, VERBOSE, BUFFERS) SELECT * FROM customers"},
	{"", "PREPARE p AS SELECT * FROM customers; EXECUTE p; DEALLOCATE p"},
	{"", "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT * FROM customers; COMMIT; FETCH ALL c"},
	{"", "SELECT query_to_xml('SELECT * FROM customers', true, true, '')"},
	{"*", "SELECT database_to_xml(true, true, '')"},
	{"*", "SELECT schema_to_xml('pool', true, true, '')"},
	{"", "WITH gone AS (DELETE FROM invoices RETURNING *) SELECT * FROM gone"},
	{"", "DO $$ DECLARE r record; BEGIN FOR r IN SELECT * FROM customers LOOP RAISE NOTICE '%', r; END LOOP; END $$"},
	{"", "COPY customers TO STDOUT"},
	{"", "COPY (SELECT * FROM customers) TO STDOUT"},

	// Files, programs, the server itself.
	{denied, "COPY customers TO '/tmp/tenure-stolen'"},
	{denied, "COPY customers TO PROGRAM 'cat > /tmp/tenure-stolen'"},
	{denied, "COPY customers FROM '/etc/passwd'"},
	{denied, "COPY customers FROM PROGRAM 'id'"},
	{denied, "SELECT pg_read_file('/etc/passwd')"},
	{denied, "SELECT pg_read_binary_file('/etc/passwd')"},
	{denied, "SELECT pg_ls_dir('.')"},
	{denied, "SELECT pg_stat_file('.')"},
	{denied, "SELECT pg_ls_logdir()"},
	{denied, "SELECT pg_current_logfile()"},
	{denied, "SELECT * FROM pg_hba_file_rules"},
	{denied, "SELECT * FROM pg_file_settings"},
	{denied, "SELECT * FROM pg_config"},
	{denied, "SELECT * FROM pg_shmem_allocations"},
	{denied, "SELECT current_setting('data_directory')"},
	{denied, "SHOW hba_file"},
	{denied, "ALTER SYSTEM SET fsync = off"},
	{denied, "SELECT pg_reload_conf()"},
	{denied, "SELECT pg_rotate_logfile()"},
	{denied, "SELECT pg_switch_wal()"},
	{denied, "SELECT pg_create_restore_point('x')"},
	{denied, "SELECT pg_promote()"},
	{denied, "CHECKPOINT"},
	{denied, "LOAD 'auto_explain'"},
	{denied, "SET session_replication_role = replica"},
	{denied, "SET log_statement = 'none'"},
	{denied, "SET session_preload_libraries = 'x'"},
	{denied, "SELECT set_config('log_min_messages', 'panic', false)"},
	{denied, "SELECT pg_create_physical_replication_slot('x')"},
	{denied, "SELECT pg_create_logical_replication_slot('x', 'pgoutput')"},
	{denied, "SELECT pg_replication_origin_create('x')"},
	{denied, "CREATE TABLESPACE x LOCATION '/tmp'"},

	// Large objects, which a database's roles would share.
	{denied, "SELECT lo_create(0)"},
	{denied, "SELECT lo_creat(-1)"},
	{denied, "SELECT lo_from_bytea(0, 'x')"},
	{denied, "SELECT lo_import('/etc/passwd')"},
	{denied, "SELECT lo_export(1, '/tmp/tenure-stolen')"},
	{denied, "SELECT lo_get(1)"},
	{denied, "SELECT lo_put(1, 0, 'x')"},
	{denied, "SELECT lo_open(1, 131072)"},
	{denied, "SELECT lo_unlink(1)"},
	{denied, "SELECT loread(0, 1)"},
	{denied, "SELECT * FROM pg_largeobject"},

	// Other sessions, and what the statistics tell of them.
	{denied, "SELECT * FROM pg_stat_activity"},
	{denied, "SELECT * FROM pg_stat_get_activity(NULL)"},
	{denied, "SELECT pg_stat_get_backend_activity(n) FROM pg_stat_get_backend_idset() AS n"},
	{denied, "SELECT pg_stat_get_backend_userid(1)"},
	{denied, "SELECT * FROM pg_stat_ssl"},
	{denied, "SELECT * FROM pg_stat_replication"},
	{denied, "SELECT * FROM pg_stat_database"},
	{denied, "SELECT * FROM pg_stat_user_tables"},
	{denied, "SELECT * FROM pg_statio_user_indexes"},
	{denied, "SELECT * FROM pg_locks"},
	{denied, "SELECT * FROM pg_prepared_xacts"},
	{denied, "SELECT pg_terminate_backend({pid})"},
	{denied, "SELECT pg_cancel_backend({pid})"},
	{denied, "SELECT pg_log_backend_memory_contexts({pid})"},
	{denied, "SELECT pg_stat_reset()"},
	{"", "SELECT pg_blocking_pids({pid})"},
	{"", "LISTEN x; NOTIFY x, 'hello'; UNLISTEN *"},
	{"", "SELECT pg_notification_queue_usage()"},

	// Catalogs.
	{denied, "SELECT * FROM pg_authid"},
	{denied, "SELECT * FROM pg_shadow"},
	{denied, "SELECT * FROM pg_statistic"},
	{denied, "SELECT * FROM pg_user_mapping"},
	{denied, "SELECT * FROM pg_subscription"},
	{"", "SELECT * FROM pg_stats WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"},
	{"", "SELECT * FROM pg_stats_ext"},
	{"", "SELECT * FROM pg_roles"},
	{"", "SELECT * FROM pg_user"},
	{"", "SELECT * FROM pg_settings"},
	{"", "SELECT * FROM pg_database"},
	{"", "SELECT * FROM pg_class"},
	{"", "SELECT * FROM pg_policies"},
	{"", "SELECT * FROM pg_seclabels"},
	{"", "SELECT * FROM information_schema.tables"},
	{"", "SELECT * FROM information_schema.column_privileges"},
	{"", "SELECT * FROM pg_cursors"},
	{"", "SELECT * FROM pg_prepared_statements"},
	{denied, "UPDATE pg_authid SET rolsuper = true"},
	{denied, "UPDATE pg_class SET relrowsecurity = false"},
	{denied, "DELETE FROM pg_policy"},
	{denied, "INSERT INTO pg_auth_members SELECT * FROM pg_auth_members"},
	{denied, "SELECT * FROM tenure.applied"},
	{denied, "DELETE FROM tenure.applied"},

	// Becoming somebody else.
	{denied, "SET ROLE {victim}"},
	{denied, "SET ROLE postgres"},
	{denied, "SET ROLE tenure_{kind}_owner"},
	{denied, "SET ROLE pg_read_all_data"},
	{denied, "SET SESSION AUTHORIZATION {victim}"},
	{denied, "SET SESSION AUTHORIZATION postgres"},
	{denied, "SELECT set_config('role', '{victim}', false)"},
	{denied, "SELECT set_config('session_authorization', '{victim}', false)"},
	{denied, "DO $$ BEGIN EXECUTE 'SET ROLE {victim}'; END $$"},
	{"", "RESET ROLE; RESET SESSION AUTHORIZATION; SELECT * FROM customers"},
	{denied, "GRANT tenure_{kind}_owner TO {me}"},
	{denied, "GRANT pg_read_all_data TO {me}"},
	{denied, "GRANT pg_execute_server_program TO CURRENT_USER"},
	{denied, "GRANT {victim} TO {me}"},
	{denied, "GRANT tenure_{kind}_tenants TO {victim}"},
	{denied, "REVOKE tenure_{kind}_tenants FROM {victim}"},

	// Its own limits, and others'.
	{denied, "ALTER ROLE {me} CONNECTION LIMIT -1"},
	{denied, "ALTER ROLE {me} SUPERUSER"},
	{denied, "ALTER ROLE {me} BYPASSRLS"},
	{denied, "ALTER ROLE {me} CREATEROLE"},
	{denied, "ALTER ROLE {me} CREATEDB"},
	{denied, "ALTER ROLE {me} REPLICATION"},
	{denied, "ALTER ROLE {me} VALID UNTIL 'infinity'"},
	{"0A000", "ALTER ROLE {me} RENAME TO somebody"},
	{denied, "ALTER ROLE {victim} PASSWORD 'x'"},
	{denied, "ALTER ROLE {victim} NOLOGIN"},
	{denied, "ALTER ROLE {victim} SET search_path = pg_catalog"},
	{denied, "ALTER ROLE ALL SET search_path = pg_catalog"},
	{denied, "DROP ROLE {victim}"},
	{denied, "DROP ROLE {me}"},
	{denied, "CREATE ROLE x"},
	{denied, "CREATE USER x PASSWORD 'x'"},
	{denied, "COMMENT ON ROLE {victim} IS 'x'"},
	{denied, "COMMENT ON ROLE {me} IS 'tenure tenant: silo'"},

	// Making things.
	{denied, "CREATE TABLE x (n int)"},
	{denied, "CREATE TABLE public.x (n int)"},
	{denied, "CREATE TABLE tenure.x (n int)"},
	{denied, "CREATE TABLE pg_catalog.x (n int)"},
	{denied, "CREATE TEMP TABLE x (n int)"},
	{denied, "CREATE UNLOGGED TABLE x (n int)"},
	{denied, "CREATE TABLE x AS SELECT * FROM customers"},
	{denied, "SELECT * INTO x FROM customers"},
	{denied, "CREATE VIEW x AS SELECT 1"},
	{denied, "CREATE TEMP VIEW x AS SELECT 1"},
	{denied, "CREATE MATERIALIZED VIEW x AS SELECT 1"},
	{denied, "CREATE SEQUENCE x"},
	{denied, "CREATE TEMP SEQUENCE x"},
	{denied, "CREATE SCHEMA x"},
	{denied, "CREATE SCHEMA AUTHORIZATION {me}"},
	{denied, "CREATE TYPE x AS (n int)"},
	{denied, "CREATE TYPE x AS ENUM ('a')"},
	{denied, "CREATE DOMAIN x AS int"},
	{denied, "CREATE FUNCTION x() RETURNS int LANGUAGE sql AS 'SELECT 1'"},
	{denied, "CREATE FUNCTION pg_temp.x() RETURNS int LANGUAGE sql AS 'SELECT 1'"},
	{denied, "CREATE FUNCTION public.x(text) RETURNS bool LANGUAGE plpgsql COST 0.0001 AS 'BEGIN RAISE NOTICE ''%'', $1; RETURN true; END'"},
	{denied, "CREATE PROCEDURE x() LANGUAGE sql AS 'SELECT 1'"},
	{denied, "CREATE AGGREGATE x (int) (SFUNC = int4pl, STYPE = int)"},
	{denied, "CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq)"},
	{denied, "CREATE CAST (text AS int) WITH INOUT"},
	{denied, "CREATE COLLATION x FROM \"C\""},
	{denied, "CREATE TEXT SEARCH CONFIGURATION x (COPY = simple)"},
	{denied, "CREATE INDEX ON customers (name)"},
	{denied, "CREATE UNIQUE INDEX ON customers (name)"},
	{denied, "CREATE STATISTICS x ON id, name FROM customers"},
	{denied, "CREATE POLICY x ON customers USING (true)"},
	{denied, "CREATE TRIGGER x BEFORE INSERT ON customers FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()"},
	{denied, "CREATE RULE x AS ON INSERT TO customers DO INSTEAD NOTHING"},
	{denied, "CREATE EVENT TRIGGER x ON ddl_command_start EXECUTE FUNCTION suppress_redundant_updates_trigger()"},
	{denied, "CREATE EXTENSION hstore"},
	{denied, "CREATE EXTENSION dblink"},
	{"42501 0A000", "CREATE LANGUAGE plperlu"},
	{denied, "CREATE FOREIGN DATA WRAPPER x"},
	{"*", "CREATE SERVER x FOREIGN DATA WRAPPER x"},
	{denied, "CREATE PUBLICATION x FOR ALL TABLES"},
	{denied, "CREATE PUBLICATION x"},
	{denied, "CREATE SUBSCRIPTION x CONNECTION 'host=127.0.0.1' PUBLICATION x"},
	{denied, "CREATE ACCESS METHOD x TYPE INDEX HANDLER bthandler"},
	{denied, "CREATE DATABASE x"},

	// Changing and dropping what the owners own.
	{denied, "ALTER TABLE customers DISABLE ROW LEVEL SECURITY"},
	{denied, "ALTER TABLE customers NO FORCE ROW LEVEL SECURITY"},
	{denied, "ALTER TABLE customers OWNER TO {me}"},
	{denied, "ALTER TABLE customers ADD COLUMN x int"},
	{denied, "ALTER TABLE customers DISABLE TRIGGER ALL"},
	{denied, "ALTER TABLE customers ALTER COLUMN name SET DEFAULT 'x'"},
	{denied, "ALTER TABLE customers SET SCHEMA public"},
	{denied, "ALTER TABLE customers RENAME TO x"},
	{denied, "DROP TABLE invoices"},
	{denied, "TRUNCATE customers CASCADE"},
	{denied, "TRUNCATE invoices"},
	{denied, "REINDEX TABLE customers"},
	{denied, "CLUSTER customers USING customers_pkey"},
	{"", "VACUUM customers"}, // skipped with a warning
	{"", "ANALYZE customers"},
	{denied, "COMMENT ON TABLE customers IS 'x'"},
	{"*", "SECURITY LABEL ON TABLE customers IS 'x'"},
	{denied, "DROP SCHEMA public CASCADE"},
	{denied, "DROP SCHEMA tenure CASCADE"},
	{denied, "ALTER SCHEMA public OWNER TO {me}"},
	{denied, "ALTER DATABASE tenure_pool SET search_path = public"},
	{denied, "ALTER DATABASE tenure_silo_template ALLOW_CONNECTIONS true"},
	{denied, "ALTER DATABASE tenure_bridge CONNECTION LIMIT 0"},
	{denied, "DROP DATABASE tenure_bridge"},
	{denied, "DROP EXTENSION plpgsql"},
	{denied, "ALTER FUNCTION lo_create(oid) OWNER TO {me}"},
	{denied, "REASSIGN OWNED BY tenure_{kind}_owner TO {me}"},
	{denied, "DROP OWNED BY tenure_{kind}_owner"},
	{denied, "DROP OWNED BY {victim}"},
	{"*", "DROP OWNED BY {me}"},
	{"*", "DROP OWNED BY tenure_{kind}_tenants"},
	{"*", "GRANT ALL ON customers TO PUBLIC"},
	{"*", "GRANT SELECT ON customers TO {victim} WITH GRANT OPTION"},
	{"*", "REVOKE ALL ON customers FROM PUBLIC, tenure_{kind}_tenants"},
	{"*", "GRANT EXECUTE ON FUNCTION lo_create(oid) TO PUBLIC"},
	{"*", "GRANT CONNECT ON DATABASE tenure_pool TO PUBLIC"},
	{"*", "REVOKE CONNECT ON DATABASE tenure_pool FROM tenure_pool_tenants"},
	{denied, "ALTER DEFAULT PRIVILEGES FOR ROLE tenure_{kind}_owner GRANT ALL ON TABLES TO PUBLIC"},
	{denied, "DO $$ BEGIN EXECUTE 'ALTER TABLE customers DISABLE ROW LEVEL SECURITY'; END $$"},
	{"55000", "BEGIN; SELECT 1; PREPARE TRANSACTION 'x'"},
}

// inThePool is tried in the shared tables.
var inThePool = []attack{
	{"", "SELECT * FROM pool.customers WHERE tenant = '{victim}'"},
	{"", "SELECT * FROM customers WHERE tenant <> current_user"},
	{"", "SELECT count(*) FROM customers WHERE email LIKE 'v%' OR true"},
	{denied, "SET row_security = off; SELECT * FROM customers"},
	{denied, "SET row_security = off; DELETE FROM customers"},
	{denied, "SET row_security = off; COPY customers TO STDOUT"},
	{"", "UPDATE customers SET name = 'taken' WHERE tenant = '{victim}'"},
	{"", "UPDATE customers SET name = 'mine'"},
	{"", "DELETE FROM invoices WHERE tenant = '{victim}'"},
	{"", "DELETE FROM projects"},
	{denied, "UPDATE customers SET tenant = '{victim}'"},
	{denied, "INSERT INTO customers (tenant, name) VALUES ('{victim}', 'planted')"},
	{denied, "INSERT INTO customers (tenant, id, name) VALUES ('{victim}', '00000000-0000-0000-0000-00000000000c', 'x') ON CONFLICT (tenant, id) DO UPDATE SET name = 'x' RETURNING *"},
	{denied, "INSERT INTO customers (tenant, id, name) VALUES ('{victim}', '00000000-0000-0000-0000-00000000000c', 'x') ON CONFLICT DO NOTHING"},
	{denied, "MERGE INTO customers c USING (SELECT '{victim}' AS t) v ON c.tenant = v.t WHEN MATCHED THEN UPDATE SET name = 'x' WHEN NOT MATCHED THEN INSERT (tenant, name) VALUES (v.t, 'x')"},
	{"0A000", "COPY customers FROM STDIN"},

	// Constraints must not tell what others have: the victim alone has these keys.
	{"23503", "INSERT INTO projects (customer_id, title) VALUES ('00000000-0000-0000-0000-0000000000ff', 'x')"},
	{"", "INSERT INTO customers (id, name) VALUES ('00000000-0000-0000-0000-0000000000ff', 'x')"},
	{"", "INSERT INTO customers (name, email) VALUES ('x', 'only@victim.example')"},

	// Turning into the role of all pooled tenants gains nothing.
	{"*", "SET ROLE tenure_pool_tenants; SELECT * FROM customers"},
	{denied, "SET ROLE tenure_pool_tenants; INSERT INTO customers (name) VALUES ('for all')"},
	{denied, "SET ROLE tenure_pool_tenants; INSERT INTO customers (tenant, name) VALUES ('{victim}', 'x')"},
	{denied, "SET ROLE tenure_pool_tenants; SELECT pg_terminate_backend({pid})"},
	{"*", "SET ROLE tenure_pool_tenants; DROP OWNED BY tenure_pool_tenants"},
	{denied, "SET ROLE tenure_pool_tenants; GRANT tenure_pool_tenants TO {victim} WITH ADMIN OPTION"},

	{denied, "SELECT pg_advisory_lock(1)"},
	{denied, "SELECT pg_try_advisory_xact_lock_shared(1, 2)"},
	{denied, "SELECT * FROM tenure.sample"},
	{denied, "DROP POLICY tenure_tenant ON customers"},
	{denied, "ALTER POLICY tenure_tenant ON customers USING (true)"},
	{denied, "ALTER TABLE customers ALTER COLUMN tenant DROP DEFAULT"},
	{denied, "DROP SCHEMA pool CASCADE"},
	{denied, "CREATE TABLE pool.x (n int)"},
	{denied, "CREATE TABLE pool.x () INHERITS (customers)"},
	{denied, "CREATE TABLE pool.x (LIKE customers, FOREIGN KEY (tenant, id) REFERENCES customers)"},
	{"", "BEGIN; LOCK TABLE customers IN ACCESS EXCLUSIVE MODE; ROLLBACK"}, // see the package comment
}

// inTheBridge is tried on another tenant's schema.
var inTheBridge = []attack{
	{denied, "SELECT * FROM {victim}.customers"},
	{denied, "SET search_path = {victim}; INSERT INTO {victim}.customers (name) VALUES ('x')"},
	{denied, "UPDATE {victim}.customers SET name = 'x'"},
	{denied, "DELETE FROM {victim}.invoices"},
	{denied, "TRUNCATE {victim}.invoices"},
	{denied, "BEGIN; LOCK TABLE {victim}.customers"},
	{denied, "COPY {victim}.customers TO STDOUT"},
	{denied, "DROP SCHEMA {victim} CASCADE"},
	{denied, "DROP SCHEMA {me} CASCADE"},
	{denied, "CREATE TABLE {victim}.x (n int)"},
	{denied, "CREATE TABLE {me}.x (n int)"},
	{denied, "ALTER SCHEMA {victim} RENAME TO x"},
	{"*", "GRANT USAGE ON SCHEMA {me} TO PUBLIC"},
	{denied, "GRANT USAGE ON SCHEMA {victim} TO {me}"},
	{denied, "SELECT schema_to_xml('{victim}', true, true, '')"},
	{denied, "SELECT '{victim}.customers'::regclass"},
	{denied, "SELECT pg_advisory_lock(1)"},
	{"*", "SET ROLE tenure_bridge_tenants; SELECT * FROM {victim}.customers"},
}

// inASilo is tried from a database of one's own.
var inASilo = []attack{
	{"", "SELECT pg_advisory_xact_lock(1)"}, // its keys are the database's own
	{denied, "DROP DATABASE {victim}"},
	{denied, "ALTER DATABASE {victim} OWNER TO {me}"},
	{denied, "ALTER DATABASE {me} CONNECTION LIMIT 5"},
	{denied, "GRANT CONNECT ON DATABASE {victim} TO {me}"},
	{"*", "GRANT CONNECT ON DATABASE {me} TO PUBLIC"},
	{denied, "SELECT pg_database_size('{victim}')"},
	{denied, "CREATE DATABASE x TEMPLATE {victim}"},
	{"0A000", "SELECT * FROM {victim}.public.customers"},
}

func TestWhateverATenantSendsItReachesNoOneElse(t *testing.T) {
	d := standing(t)
	bystanders := map[drivers.Isolation]drivers.Tenant{}
	for _, k := range isolations {
		bystanders[k] = provisioned(t, d, k)
		fill(t, d, bystanders[k], secret)
	}
	special := map[drivers.Isolation][]attack{drivers.Pool: inThePool, drivers.Bridge: inTheBridge, drivers.Silo: inASilo}
	for _, k := range isolations {
		t.Run(string(k), func(t *testing.T) {
			me, victim := provisioned(t, d, k), bystanders[k]
			fill(t, d, me, "mine")
			session := login(t, d, victim)
			must(t, session, "SET application_name = '"+secret+"'")
			must(t, session, "INSERT INTO customers (id, name, email) VALUES ('00000000-0000-0000-0000-0000000000ff', '"+secret+"', 'only@victim.example')")
			pid := one(t, session, "SELECT pg_backend_pid()::text /* "+secret+" */")
			must(t, superuser(t, databaseOf(victim)), "ANALYZE") // so that there are statistics to steal
			before := fingerprint(t, bystanders, me)

			fillIn := strings.NewReplacer("{me}", me.ID, "{victim}", victim.ID, "{kind}", string(k), "{pid}", pid).Replace
			sender := attackAs(t, urlOf(t, d, me))
			for _, a := range append(append([]attack{}, everywhere...), special[k]...) {
				said, err := sender.send(t, fillIn(a.sql))
				switch {
				case strings.Contains(said, secret) || err != nil && strings.Contains(err.Error(), secret):
					t.Errorf("%s\n\tgave away the secret: %s %v", a.sql, said, err)
				case a.want == "" && err != nil, a.want != "" && a.want != "*" && !refused(err, strings.Fields(a.want)...):
					t.Errorf("%s\n\twant %q, got %v", a.sql, a.want, err)
				}
			}
			if diff := cmp.Diff(before, fingerprint(t, bystanders, me)); diff != "" {
				t.Errorf("somebody else's things have changed:\n%s", diff)
			}
			must(t, session, "SELECT 1")
		})
	}
}

// attacker is a tenant's session with all that the server has said on it.
type attacker struct {
	conn *pgx.Conn
	said bytes.Buffer
}

func attackAs(t *testing.T, url string) *attacker {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	a := &attacker{}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { fmt.Fprintln(&a.said, n.Message) }
	if a.conn, err = pgx.ConnectConfig(within(t), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hangUp(a.conn) })
	return a
}

// send runs statements, gives back all that the server said, and puts the session back into its first state.
func (a *attacker) send(t *testing.T, sql string) (string, error) {
	t.Helper()
	a.said.Reset()
	err := a.run(t, sql)
	for _, reset := range []string{"ROLLBACK", "DISCARD ALL"} {
		must(t, a.conn, reset)
	}
	return a.said.String(), err
}

func (a *attacker) run(t *testing.T, sql string) error {
	c, first, last := a.conn.PgConn(), "", sql
	if at := strings.LastIndex(sql, "; "); at >= 0 {
		first, last = sql[:at], sql[at+2:]
	}
	switch {
	case strings.HasPrefix(last, "COPY ") && strings.HasSuffix(last, "STDOUT"):
		if _, err := c.Exec(within(t), first).ReadAll(); err != nil {
			return err
		}
		_, err := c.CopyTo(within(t), &a.said, last)
		return err
	case strings.HasPrefix(sql, "COPY ") && strings.HasSuffix(sql, "STDIN"):
		_, err := c.CopyFrom(within(t), strings.NewReader(""), sql)
		return err
	}
	results, err := c.Exec(within(t), sql).ReadAll()
	for _, r := range results {
		for _, row := range r.Rows {
			a.said.Write(append(bytes.Join(row, []byte("|")), '\n'))
		}
		err = errors.Join(err, r.Err)
	}
	return err
}

// fingerprint is everything on the plane that is not the exception's: others' rows with their versions, and who owns and may do
// what.
func fingerprint(t *testing.T, tenants map[drivers.Isolation]drivers.Tenant, except drivers.Tenant) map[string]string {
	t.Helper()
	got := map[string]string{}
	cluster := map[string]string{
		"roles":    `SELECT concat_ws(' ', rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolconnlimit, rolpassword, rolvaliduntil, rolbypassrls, shobj_description(oid, 'pg_authid')) FROM pg_authid WHERE rolname <> $1`,
		"members":  `SELECT roleid::regrole || ' ' || member::regrole || ' ' || admin_option FROM pg_auth_members WHERE member <> coalesce(to_regrole($1)::oid, 0)`,
		"database": `SELECT concat_ws(' ', datname, datdba::regrole, datallowconn, datconnlimit, datacl) FROM pg_database WHERE datname <> $1`,
		"settings": `SELECT concat_ws(' ', setdatabase, setrole::regrole, setconfig) FROM pg_db_role_setting WHERE setrole <> coalesce(to_regrole($1)::oid, 0)`,
	}
	admin := superuser(t, "postgres")
	for name, sql := range cluster {
		got[name] = one(t, admin, sql+" ORDER BY 1", except.ID)
	}
	local := map[string]string{
		"relations": `SELECT concat_ws(' ', oid::regclass, relowner::regrole, relkind, relrowsecurity, relforcerowsecurity, relacl) FROM pg_class WHERE relnamespace <> coalesce(to_regnamespace($1)::oid, 0) AND relnamespace <> 'pg_toast'::regnamespace`,
		"schemas":   `SELECT concat_ws(' ', nspname, nspowner::regrole, nspacl) FROM pg_namespace WHERE nspname <> $1`,
		"functions": `SELECT concat_ws(' ', oid, proname, proowner, proacl, prosecdef) FROM pg_proc WHERE $1 <> ''`,
		"policies":  `SELECT concat_ws(' ', schemaname, tablename, policyname, qual, with_check) FROM pg_policies WHERE $1 <> ''`,
		"applied":   `SELECT concat_ws(' ', target, file, sha256, applied_at) FROM tenure.applied WHERE target <> $1`,
	}
	for _, k := range isolations {
		c := superuser(t, databaseOf(tenants[k]))
		for name, sql := range local {
			got[string(k)+" "+name] = one(t, c, sql+" ORDER BY 1", except.ID)
		}
		for _, table := range []string{"customers", "projects", "invoices"} {
			switch k {
			case drivers.Pool:
				got["pool rows of "+table] = one(t, c, "SELECT concat_ws(' ', ctid, xmin, xmax, x) FROM pool."+table+" x WHERE tenant <> $1 ORDER BY 1", except.ID)
			case drivers.Bridge:
				got["bridge rows of "+table] = one(t, c, "SELECT concat_ws(' ', ctid, xmin, xmax, x) FROM "+tenants[k].ID+"."+table+" x WHERE $1 <> '' ORDER BY 1", except.ID)
			default:
				got["silo rows of "+table] = one(t, c, "SELECT concat_ws(' ', ctid, xmin, xmax, x) FROM public."+table+" x WHERE $1 <> '' ORDER BY 1", except.ID)
			}
		}
	}
	return got
}

func TestATenantConnectsToItsOwnDatabaseOnly(t *testing.T) {
	d := standing(t)
	all := map[drivers.Isolation]drivers.Tenant{}
	for _, k := range isolations {
		all[k] = provisioned(t, d, k)
	}
	// A database that somebody makes later is open to everyone, until the next tenant comes.
	must(t, superuser(t, "postgres"), "CREATE DATABASE other_one")
	other := provisioned(t, d, drivers.Silo)
	databases := []string{"postgres", "template0", "template1", "other_one", poolDatabase, bridgeDatabase, siloTemplate, all[drivers.Silo].ID, other.ID}
	for _, ten := range all {
		own := databaseOf(ten)
		for _, name := range databases {
			url := strings.Replace(urlOf(t, d, ten), "/"+own+"?", "/"+name+"?", 1)
			_, err := tryConnect(t, url)
			if name == own && err != nil || name != own && !refused(err, denied, "55000") {
				t.Errorf("%s tenant to %s: %v", ten.Isolation, name, err)
			}
		}
		// Another's name with one's own password.
		victim := provisioned(t, d, ten.Isolation)
		url := strings.Replace(urlOf(t, d, ten), ten.ID+":", victim.ID+":", 1)
		if _, err := tryConnect(t, url); !refused(err, "28P01") {
			t.Errorf("%s tenant under another's name: %v", ten.Isolation, err)
		}
		if _, err := tryConnect(t, urlOf(t, d, ten)+"&replication=database"); !refused(err, denied) {
			t.Errorf("%s tenant as a replica: %v", ten.Isolation, err)
		}
	}
}
