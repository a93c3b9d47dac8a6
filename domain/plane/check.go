package plane

import (
	"maps"
	"regexp"
	"slices"

	"github.com/tenure-dev/tenure/domain"
)

var codeForm = regexp.MustCompile(`^[a-z0-9_]{1,64}$`)

// Check refuses malformed input before anything is read.
func (c Register) Check() error {
	if err := domain.FirstError(
		domain.CheckText("name", c.Name, 200),
		optional("region", c.Region),
		optional("cloud", c.Cloud),
		domain.CheckUnits("capacity", c.Capacity),
	); err != nil {
		return err
	}
	if !slices.Contains([]string{"", "hosted", "customer"}, c.Account) {
		return domain.Invalid("account", "must be hosted or customer")
	}
	for _, i := range c.Isolations {
		if !slices.Contains(allIsolations, i) {
			return domain.Invalid("isolations", "must be of pool, bridge and silo")
		}
	}
	if len(c.Labels) > 64 {
		return domain.Invalid("labels", "must not be more than 64")
	}
	for _, k := range slices.Sorted(maps.Keys(c.Labels)) {
		if err := domain.FirstError(domain.CheckReference("labels", k), domain.CheckReference("labels."+k, c.Labels[k])); err != nil {
			return err
		}
	}
	return nil
}

func optional(field, key string) error {
	if key == "" {
		return nil
	}
	return domain.CheckSlug(field, key)
}

// Check refuses malformed input before anything is read.
func (c Cordon) Check() error {
	return domain.FirstError(checkPlane(c.PlaneID), domain.CheckReason(c.Reason))
}

// Check refuses malformed input before anything is read.
func (c Uncordon) Check() error {
	return domain.FirstError(checkPlane(c.PlaneID), domain.CheckReason(c.Reason))
}

// Check refuses malformed input before anything is read.
func (c IssueJoinToken) Check() error { return checkPlane(c.PlaneID) }

// Check refuses malformed input before anything is read.
func (c Join) Check() error {
	return domain.FirstError(checkPlane(c.PlaneID), domain.CheckReference("hash", c.Hash), domain.CheckReference("publicKey", c.PublicKey))
}

// Check refuses malformed input before anything is read.
func (c OpenSession) Check() error {
	return domain.FirstError(checkPlane(c.PlaneID), domain.CheckText("version", c.Version, 100), domain.CheckText("driver", c.Driver, 100))
}

// Check refuses what no agent of ours would report.
func (c Report) Check() error {
	if c.Outcome == "failed" && (!slices.Contains([]string{"user", "quota", "transient", "plane_down", "bug"}, c.Class) || !codeForm.MatchString(c.Code)) {
		return domain.Invalid("class", "and code of a failed operation are not ours")
	}
	if !slices.Contains([]string{"done", "failed", "withdrawn", "superseded"}, c.Outcome) {
		return domain.Invalid("outcome", "must be done, failed, withdrawn or superseded")
	}
	return domain.FirstError(checkPlane(c.PlaneID), domain.CheckID("operation", domain.OperationID, c.Operation))
}

// Check refuses what no agent of ours would report.
func (c ReportUnclaimed) Check() error {
	if len(c.Tenants) > 1_000 {
		return domain.Invalid("tenants", "must not be more than 1000 at once")
	}
	for _, t := range c.Tenants {
		if err := domain.CheckText("tenants", t, 128); err != nil {
			return err
		}
	}
	return checkPlane(c.PlaneID)
}

func checkPlane(id string) error { return domain.CheckID("planeId", domain.PlaneID, id) }
