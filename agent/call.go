package agent

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/tenure-dev/tenure/agent/drivers"
)

// call has the driver do the operation, in bounded time. A panic of the driver's is an error of class bug.
func (w *work) call(ctx context.Context, op operation, suspended bool) (err error) {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = &drivers.Error{Class: drivers.Bug, Code: "panic", Err: fmt.Errorf("%v\n%s", p, debug.Stack())}
		}
	}()
	tenant := op.Tenant.driverTenant()
	switch op.Kind {
	case provision, rotateCredentials: // a rotation is a provisioning that finds another password
		return w.driver.Provision(ctx, op.ID, tenant, suspended)
	case suspend:
		return w.confirmLevel(op, w.driver.Suspend(ctx, op.ID, tenant))
	case resume:
		return w.confirmLevel(op, w.driver.Resume(ctx, op.ID, tenant))
	case resize:
		return w.driver.Resize(ctx, op.ID, tenant)
	case deprovision:
		return w.driver.Deprovision(ctx, op.ID, tenant)
	default:
		return fmt.Errorf("no driver call for %s", op.Kind)
	}
}

// confirmLevel takes an absent tenant for suspended or resumed: nobody can connect to it, and the level is in the
// journal, from where its provisioning will take it.
func (w *work) confirmLevel(op operation, err error) error {
	if errors.Is(err, drivers.ErrNoTenant) {
		w.log.Warn("the tenant is not on the plane, its level is kept for when it is", "operation", op.ID, "kind", op.Kind, "tenant", op.Tenant.TenantID)
		return nil
	}
	return err
}

// classify keeps to the wire's words, whatever a driver says.
func classify(err error) (drivers.Class, string) {
	class, code := drivers.ClassOf(err)
	if _, known := classes[class]; !known {
		class = drivers.Bug
	}
	if !errorCode.MatchString(code) {
		code = "unexpected"
	}
	return class, code
}
