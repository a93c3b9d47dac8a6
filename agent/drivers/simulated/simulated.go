// Package simulated is a data plane that exists only in a ledger: for tests, demonstrations and benchmarks of all that
// stands above a driver. What it answers, and when, is scripted; what it did is written down, so that a test can prove that no
// operation ran twice to different effect.
package simulated

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/tenure-dev/tenure/agent/drivers"
)

// Op names a driver's method.
type Op string

// The methods that a Script sees.
const (
	Provision   Op = "provision"
	Suspend     Op = "suspend"
	Resume      Op = "resume"
	Resize      Op = "resize"
	Deprovision Op = "deprovision"
	Observe     Op = "observe"
)

// Call is one call of a method, as a Script sees it before anything happens.
type Call struct {
	Op        Op
	Operation string // empty for Observe
	Tenant    drivers.Tenant
	Suspended bool // Provision's
	Attempt   int  // 1 for the first call of this operation since the driver was opened
}

// Answer is what a call meets. The zero Answer succeeds at once.
type Answer struct {
	Delay time.Duration
	// Until, if not nil, holds the call, after Delay, until it is closed.
	Until <-chan struct{}
	// Never holds the call, after Delay, until its context ends.
	Never bool
	Err   error
	// After has the effect happen before Err is returned: what a caller sees of a crash between effect and answer.
	After bool
}

// Script answers a call. It is called by many goroutines at once.
type Script func(Call) Answer

// Options have useful zero values: a plane in memory that does at once what it is asked.
type Options struct {
	// Dir keeps the ledger in Dir/simulated.jsonl, so that a killed and restarted agent meets the same plane. Each effect is in the
	// file before its call returns, but not synced: it outlives the process, not the machine. Empty keeps it in memory.
	Dir string
	// Latency is added to every operation.
	Latency time.Duration
	// Capacity is the most tenants that fit; one more is refused as quota, plane_full. 0 means no limit.
	Capacity int
	Script   Script
	// Sleep waits for d or the end of ctx, whose error it then returns. Nil waits on a timer.
	Sleep func(ctx context.Context, d time.Duration) error
}

// Driver implements drivers.Driver.
type Driver struct {
	options Options
	mu      sync.Mutex
	ledger  *ledger
	tenants map[string]state
	calls   map[string]int
	running map[string]int // calls in progress, by tenant
	overlap int
	closed  bool
}

var _ drivers.Driver = (*Driver)(nil)

// state is a tenant as the plane has it.
type state struct {
	Isolation         drivers.Isolation `json:"isolation"`
	Suspended         bool              `json:"suspended"`
	Limits            map[string]int64  `json:"limits,omitempty"`
	CredentialVersion int64             `json:"credentialVersion"`
}

func (s state) equal(o state) bool {
	return s.Isolation == o.Isolation && s.Suspended == o.Suspended && s.CredentialVersion == o.CredentialVersion && maps.Equal(s.Limits, o.Limits)
}

// Open reads the ledger, if there is one. A last line that a crash has cut off is dropped.
func Open(o Options) (*Driver, error) {
	if o.Script == nil {
		o.Script = func(Call) Answer { return Answer{} }
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	l, err := openLedger(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("simulated plane: %w", err)
	}
	d := &Driver{options: o, ledger: l, tenants: map[string]state{}, calls: map[string]int{}, running: map[string]int{}}
	for _, e := range l.effects {
		d.put(e)
	}
	return d, nil
}

func (d *Driver) put(e Effect) {
	if e.After == nil {
		delete(d.tenants, e.TenantID)
		return
	}
	d.tenants[e.TenantID] = *e.After
}

// Provision creates or repairs.
func (d *Driver) Provision(ctx context.Context, operation string, t drivers.Tenant, suspended bool) error {
	return d.do(ctx, Call{Op: Provision, Operation: operation, Tenant: t, Suspended: suspended}, func(have *state) (*state, error) {
		if have == nil && d.options.Capacity > 0 && len(d.tenants) >= d.options.Capacity {
			return nil, Fail(drivers.Quota, "plane_full")
		}
		if have != nil && have.Isolation != t.Isolation {
			return nil, Fail(drivers.User, "isolation_differs")
		}
		return &state{Isolation: t.Isolation, Suspended: suspended, Limits: known(t.Limits), CredentialVersion: t.CredentialVersion}, nil
	})
}

// Suspend marks the tenant.
func (d *Driver) Suspend(ctx context.Context, operation string, t drivers.Tenant) error {
	return d.do(ctx, Call{Op: Suspend, Operation: operation, Tenant: t}, existing(func(s *state) { s.Suspended = true }))
}

// Resume takes the mark away.
func (d *Driver) Resume(ctx context.Context, operation string, t drivers.Tenant) error {
	return d.do(ctx, Call{Op: Resume, Operation: operation, Tenant: t}, existing(func(s *state) { s.Suspended = false }))
}

// Resize sets the limits.
func (d *Driver) Resize(ctx context.Context, operation string, t drivers.Tenant) error {
	return d.do(ctx, Call{Op: Resize, Operation: operation, Tenant: t}, existing(func(s *state) { s.Limits = known(t.Limits) }))
}

// Deprovision forgets the tenant.
func (d *Driver) Deprovision(ctx context.Context, operation string, t drivers.Tenant) error {
	return d.do(ctx, Call{Op: Deprovision, Operation: operation, Tenant: t}, func(*state) (*state, error) { return nil, nil })
}

// Observe lists the tenants.
func (d *Driver) Observe(ctx context.Context) ([]drivers.Observed, error) {
	answer := d.options.Script(Call{Op: Observe})
	if err := d.wait(ctx, answer, 0); err != nil {
		return nil, err
	}
	if answer.Err != nil {
		return nil, answer.Err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []drivers.Observed
	for _, id := range slices.Sorted(maps.Keys(d.tenants)) {
		s := d.tenants[id]
		all = append(all, drivers.Observed{TenantID: id, Isolation: s.Isolation, Suspended: s.Suspended, Limits: maps.Clone(s.Limits)})
	}
	return all, nil
}

// ConnectionURL is in the form of the postgres driver's, and leads nowhere.
func (d *Driver) ConnectionURL(ctx context.Context, t drivers.Tenant) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	d.mu.Lock()
	_, there := d.tenants[t.ID]
	d.mu.Unlock()
	if !there {
		return "", drivers.ErrNoTenant
	}
	pw := sha256.Sum256(fmt.Appendf(nil, "simulated/%s/%d", t.ID, t.CredentialVersion))
	u := url.URL{Scheme: "postgresql", User: url.UserPassword(t.ID, base64.RawURLEncoding.EncodeToString(pw[:])), Host: "simulated.invalid:5432", Path: "/" + t.ID}
	return u.String(), nil
}

// Close closes the ledger. It does not wait for calls in progress; their effects are refused.
func (d *Driver) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return d.ledger.close()
}

// do is one operation: the script's delay, then the effect and its line in the ledger, then the script's error.
func (d *Driver) do(ctx context.Context, c Call, effect func(*state) (*state, error)) error {
	if err := check(c); err != nil {
		return err
	}
	defer d.enter(&c)()
	answer := d.options.Script(c)
	if err := d.wait(ctx, answer, d.options.Latency); err != nil {
		return err
	}
	if answer.Err != nil && !answer.After {
		return answer.Err
	}
	if err := d.effect(c, effect); err != nil {
		return err
	}
	return answer.Err
}

// enter counts the call, and whether another for the same tenant is in progress, until its end.
func (d *Driver) enter(c *Call) (leave func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls[c.Operation]++
	c.Attempt = d.calls[c.Operation]
	if d.running[c.Tenant.ID]++; d.running[c.Tenant.ID] > 1 {
		d.overlap++
	}
	id := c.Tenant.ID
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.running[id]--; d.running[id] == 0 {
			delete(d.running, id)
		}
	}
}

func (d *Driver) wait(ctx context.Context, a Answer, more time.Duration) error {
	if wait := a.Delay + more; wait > 0 {
		if err := d.options.Sleep(ctx, wait); err != nil {
			return err
		}
	}
	if a.Never {
		<-ctx.Done()
	} else if a.Until != nil {
		select {
		case <-a.Until:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

func (d *Driver) effect(c Call, effect func(*state) (*state, error)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return Fail(drivers.PlaneDown, "closed")
	}
	var before *state
	if s, there := d.tenants[c.Tenant.ID]; there {
		before = &s
	}
	after, err := effect(before)
	if err != nil {
		return err
	}
	e := Effect{Operation: c.Operation, Op: c.Op, TenantID: c.Tenant.ID, After: after}
	e.Changed = (before == nil) != (after == nil) || before != nil && !before.equal(*after)
	if err := d.ledger.append(e); err != nil {
		return &drivers.Error{Class: drivers.Bug, Code: "ledger", Err: err}
	}
	d.put(e)
	return nil
}

// existing is an effect on a tenant that must be there.
func existing(change func(*state)) func(*state) (*state, error) {
	return func(have *state) (*state, error) {
		if have == nil {
			return nil, &drivers.Error{Class: drivers.User, Code: "no_such_tenant", Err: drivers.ErrNoTenant}
		}
		after := *have
		change(&after)
		return &after, nil
	}
}

func check(c Call) error {
	switch c.Tenant.Isolation {
	case drivers.Pool, drivers.Bridge, drivers.Silo:
	default:
		if c.Op != Deprovision {
			return Fail(drivers.User, "unknown_isolation")
		}
	}
	if c.Tenant.Limits["connections"] < 0 {
		return Fail(drivers.User, "invalid_limit")
	}
	return nil
}

// known are the limits that this plane enforces, the same as the postgres driver's.
func known(limits map[string]int64) map[string]int64 {
	n, limited := limits["connections"]
	if !limited {
		return nil
	}
	return map[string]int64{"connections": n}
}

// Fail makes a failure for a Script.
func Fail(class drivers.Class, code string) error {
	return &drivers.Error{Class: class, Code: code, Err: fmt.Errorf("simulated")}
}

// FailFirst scripts the first n calls of each operation of these kinds (none given: of every kind) to fail.
func FailFirst(n int, err error, ops ...Op) Script {
	return func(c Call) Answer {
		if c.Operation != "" && c.Attempt <= n && (len(ops) == 0 || slices.Contains(ops, c.Op)) {
			return Answer{Err: err}
		}
		return Answer{}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
