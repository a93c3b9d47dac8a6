package postgres

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tenure-dev/tenure/agent/drivers"
)

// checkPool refuses to serve a pool in which one tenant could learn of another. It is asked before each tenant is let in.
func (d *Driver) checkPool(ctx context.Context) error {
	return d.pool.use(ctx, func(c *pgx.Conn) error {
		found, err := d.unprotected(ctx, c)
		if err == nil && len(found) > 0 {
			err = poolUnprotected(found)
		}
		return err
	})
}

func poolUnprotected(found []string) error {
	return &drivers.Error{Class: drivers.Bug, Code: "pool_unprotected", Err: errors.New(strings.Join(found, "; "))}
}

// unprotected lists what is wrong with the pool database, in words for the vendor.
func (d *Driver) unprotected(ctx context.Context, q querier) ([]string, error) {
	return column(ctx, q, unprotectedSQL, d.column, ownerOf(drivers.Pool), tenantsOf(drivers.Pool), policyName)
}

// unprotectedSQL: $1 the tenant column, $2 the owner, $3 the role of all pooled tenants, $4 the policy's name.
const unprotectedSQL = `
WITH place AS (
	SELECT n.oid, n.nspname, n.nspacl, n.nspowner FROM pg_namespace n
	WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'tenure')
), rel AS (
	SELECT c.*, c.oid::regclass::text AS name, p.nspname, a.attnum AS tenant, a.atttypid, a.attnotnull,
		pg_get_expr(def.adbin, def.adrelid) AS dflt
	FROM pg_class c JOIN place p ON p.oid = c.relnamespace
	LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $1 AND a.attnum > 0 AND NOT a.attisdropped
	LEFT JOIN pg_attrdef def ON def.adrelid = c.oid AND def.adnum = a.attnum
	WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
), tab AS (
	SELECT * FROM rel WHERE relkind IN ('r', 'p')
), sample AS (
	SELECT pg_get_expr(polqual, polrelid) AS qual, pg_get_expr(polwithcheck, polrelid) AS chk,
		(SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = polrelid) AS dflt
	FROM pg_policy WHERE polrelid = 'tenure.sample'::regclass
), who AS (
	SELECT (SELECT oid FROM pg_roles WHERE rolname = $2) AS owner, (SELECT oid FROM pg_roles WHERE rolname = $3) AS tenants
)
SELECT 'the driver''s own sample is missing' WHERE NOT EXISTS (SELECT FROM sample)
UNION ALL SELECT 'relation ' || name || ' is outside of the schema pool' FROM rel WHERE nspname <> 'pool'
UNION ALL SELECT 'materialized view ' || name || ' cannot be protected' FROM rel WHERE relkind = 'm'
UNION ALL SELECT 'foreign table ' || name || ' cannot be protected' FROM rel WHERE relkind = 'f'
UNION ALL SELECT 'view ' || name || ' is not security_invoker' FROM rel WHERE relkind = 'v' AND NOT coalesce(
	(SELECT option_value::bool FROM pg_options_to_table(reloptions) WHERE option_name = 'security_invoker'), false)
UNION ALL SELECT 'relation ' || name || ' does not belong to ' || $2 FROM rel, who WHERE relowner <> who.owner
UNION ALL SELECT 'table ' || name || ' has no column ' || $1 FROM tab WHERE tenant IS NULL
UNION ALL SELECT 'table ' || name || ': column ' || $1 || ' is not text' FROM tab WHERE atttypid <> 'text'::regtype
UNION ALL SELECT 'table ' || name || ': column ' || $1 || ' lacks NOT NULL or its default' FROM tab, sample
	WHERE tenant IS NOT NULL AND (NOT attnotnull OR tab.dflt IS DISTINCT FROM sample.dflt)
UNION ALL SELECT 'table ' || name || ' has no forced row-level security' FROM tab WHERE NOT (relrowsecurity AND relforcerowsecurity)
UNION ALL SELECT 'table ' || name || ' lacks the policy ' || $4 FROM tab, sample WHERE NOT EXISTS (
	SELECT FROM pg_policy WHERE polrelid = tab.oid AND polname = $4 AND polpermissive AND polcmd = '*' AND polroles = '{0}'
	AND pg_get_expr(polqual, polrelid) = sample.qual AND pg_get_expr(polwithcheck, polrelid) = sample.chk)
UNION ALL SELECT 'table ' || name || ' has another permissive policy, ' || polname FROM tab JOIN pg_policy ON polrelid = tab.oid
	WHERE polpermissive AND polname <> $4
UNION ALL SELECT 'table ' || name || ' has a rule' FROM tab WHERE EXISTS (SELECT FROM pg_rewrite WHERE ev_class = tab.oid)
UNION ALL SELECT 'index ' || i.indexrelid::regclass::text || ' is unique across tenants: it lacks the column ' || $1
	FROM tab JOIN pg_index i ON i.indrelid = tab.oid
	WHERE (i.indisunique OR i.indisexclusion) AND NOT coalesce(tab.tenant = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]), false)
UNION ALL SELECT 'foreign key ' || k.conname || ' of ' || tab.name || ' reaches across tenants: both sides need the column ' || $1
	FROM tab JOIN pg_constraint k ON k.conrelid = tab.oid AND k.contype = 'f'
	LEFT JOIN tab AS other ON other.oid = k.confrelid
	WHERE NOT EXISTS (SELECT FROM unnest(k.conkey, k.confkey) AS pair(mine, theirs) WHERE mine = tab.tenant AND theirs = other.tenant)
UNION ALL SELECT 'relation ' || rel.name || ' grants ' || a.privilege_type || ' to ' ||
		CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END
	FROM rel, who, aclexplode(rel.relacl) AS a
	WHERE a.grantee <> rel.relowner AND NOT (a.grantee = who.tenants AND NOT a.is_grantable AND a.privilege_type = ANY (
		CASE rel.relkind WHEN 'S' THEN '{USAGE}'::text[] ELSE '{SELECT,INSERT,UPDATE,DELETE}' END))
UNION ALL SELECT 'relation ' || rel.name || ' grants nothing to ' || $3 FROM rel, who WHERE NOT EXISTS (
	SELECT FROM aclexplode(rel.relacl) AS a WHERE a.grantee = who.tenants)
UNION ALL SELECT 'relation ' || rel.name || ' has grants on a column' FROM rel JOIN pg_attribute a ON a.attrelid = rel.oid WHERE a.attacl IS NOT NULL
UNION ALL SELECT 'function ' || p.oid::regprocedure::text || ' is ' || CASE WHEN p.prosecdef THEN 'SECURITY DEFINER' ELSE 'LEAKPROOF' END
	FROM pg_proc p JOIN place ON place.oid = p.pronamespace WHERE p.prosecdef OR p.proleakproof
UNION ALL SELECT 'schema ' || place.nspname || ' grants ' || a.privilege_type || ' to ' ||
		CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END
	FROM place, who, aclexplode(coalesce(place.nspacl, acldefault('n', place.nspowner))) AS a
	WHERE a.grantee <> place.nspowner AND NOT (place.nspname = 'pool' AND a.grantee = who.tenants AND NOT a.is_grantable AND a.privilege_type = 'USAGE')
UNION ALL SELECT 'schema pool is not open to ' || $3 FROM place, who WHERE nspname = 'pool' AND NOT EXISTS (
	SELECT FROM aclexplode(place.nspacl) AS a WHERE a.grantee = who.tenants)
ORDER BY 1`
