// Package drivers is what the agent asks of a data plane: one small interface that every kind of plane implements, and
// the classes into which its failures fall. Drivers live in the packages below; only the agent calls them.
package drivers

import (
	"context"
	"errors"
	"fmt"
)

// Isolation says how a tenant's data is kept apart from others'.
type Isolation string

// The three kinds: rows in shared tables, a schema of one's own, a database of one's own.
const (
	Pool   Isolation = "pool"
	Bridge Isolation = "bridge"
	Silo   Isolation = "silo"
)

// Tenant is the desired state of one tenant on this plane: all that a driver may know of it.
type Tenant struct {
	ID        string    // ten_…; names on the plane derive from it, never from a slug
	Isolation Isolation // how it is kept
	// Limits are the plane's limits on the tenant in named units. "connections" bounds concurrent sessions of the login
	// (absent: no limit). Units that a driver does not know are ignored.
	Limits map[string]int64
	// CredentialVersion is 1 for the first password; only a rotation raises it.
	CredentialVersion int64
}

// Observed is one tenant as the plane really has it.
type Observed struct {
	TenantID  string
	Isolation Isolation
	Suspended bool
	Limits    map[string]int64
}

// Driver makes tenants real. Every method is idempotent by operation id AND by effect: called again after a crash in its
// middle it completes the same change; called again after its success it changes nothing. Methods for different tenants
// run concurrently; the agent never runs two for one tenant at once. Each honours ctx.
type Driver interface {
	// Provision creates the tenant: storage, login, limits. On an existing tenant it repairs what differs. A tenant that
	// is suspended stays suspended only if suspended is true.
	Provision(ctx context.Context, operation string, t Tenant, suspended bool) error
	// Suspend refuses new connections of the tenant, then ends its open ones until none is left.
	Suspend(ctx context.Context, operation string, t Tenant) error
	// Resume lets the tenant in again.
	Resume(ctx context.Context, operation string, t Tenant) error
	// Resize sets the tenant's limits.
	Resize(ctx context.Context, operation string, t Tenant) error
	// Deprovision removes all of the tenant and nothing else: sessions, storage, rows, login. On an unknown tenant it
	// succeeds, whatever its isolation was.
	Deprovision(ctx context.Context, operation string, t Tenant) error
	// Observe lists every tenant that the plane really has, ordered by id.
	Observe(ctx context.Context) ([]Observed, error)
	// ConnectionURL gives the tenant's own URL with its credentials. The error is ErrNoTenant if the plane has no such tenant.
	ConnectionURL(ctx context.Context, t Tenant) (string, error)
	// Close releases what the driver holds.
	Close() error
}

// ErrNoTenant is ConnectionURL's answer for a tenant that the plane does not have.
var ErrNoTenant = errors.New("no such tenant on this plane")

// Class decides what follows a failure: user and quota are refusals, transient and plane_down are retried, and a bug
// needs a person's attention.
type Class string

// The classes of failure.
const (
	User      Class = "user"       // the request can never succeed as it is
	Quota     Class = "quota"      // the plane has no room for it
	Transient Class = "transient"  // the same request may succeed soon
	PlaneDown Class = "plane_down" // the plane itself is away
	Bug       Class = "bug"        // neither: somebody has to look
)

// Error is a driver's failure. Only Class and Code leave the plane; Err stays in the agent's own log.
type Error struct {
	Class Class
	Code  string // a short stable word such as "too_many_databases"; [a-z0-9_]{1,64}, holds nothing of the tenant's
	Err   error
}

func (e *Error) Error() string { return fmt.Sprintf("%s (%s): %v", e.Code, e.Class, e.Err) }

// Unwrap gives the plane's own error.
func (e *Error) Unwrap() error { return e.Err }

// ClassOf finds the class and code of any error: an Error's own, transient for an ended deadline or a cancelled call, bug for the rest.
func ClassOf(err error) (Class, string) {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Class, e.Code
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return Transient, "timeout"
	default:
		return Bug, "unexpected"
	}
}
