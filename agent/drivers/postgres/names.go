package postgres

import (
	"fmt"
	"regexp"

	"github.com/jackc/pgx/v5"

	"github.com/tenure-dev/tenure/agent/drivers"
)

// Databases and the schema of the pool.
const (
	poolDatabase   = "tenure_pool"
	bridgeDatabase = "tenure_bridge"
	siloTemplate   = "tenure_silo_template"
	poolSchema     = "pool"
	siloSchema     = "public"
	ownSchema      = "tenure" // what the driver itself keeps in each database; nobody else may look in
)

// Keys of advisory locks, in the admin URL's database, which tenants cannot connect to.
const (
	tenantLocks  = 0x74656e75 // first of two keys; the second is the tenant's hash
	prepareLock  = 0x74656e7501
	templateLock = 0x74656e7502 // shared while a silo is copied, exclusive while the template changes
	closingLock  = 0x74656e7503
)

func ownerOf(k drivers.Isolation) string   { return "tenure_" + string(k) + "_owner" }
func tenantsOf(k drivers.Isolation) string { return "tenure_" + string(k) + "_tenants" }

// commentOn marks a tenant's role with its kind.
func commentOn(k drivers.Isolation) string { return "tenure tenant: " + string(k) }

var isolations = []drivers.Isolation{drivers.Pool, drivers.Bridge, drivers.Silo}

var tenantForm = regexp.MustCompile(`^ten_[a-z2-7]{26}$`)

// checkID refuses what is not a tenant id. What it lets through is a Postgres name (30 bytes) that needs no quoting.
func checkID(id string) error {
	if !tenantForm.MatchString(id) {
		return &drivers.Error{Class: drivers.User, Code: "invalid_tenant", Err: fmt.Errorf("%q is no tenant id", id)}
	}
	return nil
}

// quote makes an SQL identifier.
func quote(name ...string) string { return pgx.Identifier(name).Sanitize() }
