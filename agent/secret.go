package agent

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/tenure-dev/tenure/agent/drivers"
)

// Secret gives a tenant's own connection URL, with its credentials. It reads dir's journal without its lock, so it works
// while the agent runs and while it does not. The driver is the caller's, made from LoadSettings(dir). The error's code
// is not_found for a tenant that is not, not yet or no longer on the plane.
func Secret(ctx context.Context, dir, tenantID string, driver drivers.Driver) (string, error) {
	tenant, err := settledTenant(dir, tenantID)
	if err != nil {
		return "", err
	}
	url, err := driver.ConnectionURL(ctx, tenant)
	switch {
	case errors.Is(err, drivers.ErrNoTenant):
		return "", noTenant(tenantID)
	case err != nil:
		return "", failf(CodeUnavailable, err, "the plane does not give the URL of tenant %s", tenantID)
	}
	return url, nil
}

func settledTenant(dir, tenantID string) (drivers.Tenant, error) {
	state, _, err := readJournal(filepath.Join(dir, journalFile))
	if err != nil {
		return drivers.Tenant{}, failf(CodeInternal, err, "the journal in %s cannot be read", dir)
	}
	t, known := state.Tenants[tenantID]
	if !known || !t.Settled || t.Gone {
		return drivers.Tenant{}, noTenant(tenantID)
	}
	return t.driverTenant(), nil
}

func noTenant(id string) *Error { return failf(CodeNotFound, nil, "no tenant %s is on this plane", id) }
