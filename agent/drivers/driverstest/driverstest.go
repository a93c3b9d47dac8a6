// Package driverstest is the conformance kit of data-plane drivers: what any driver must do, as far as Observe and
// ConnectionURL show it. A driver's own tests call Run, and add what only they can see.
package driverstest

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/agent/drivers"
)

// Run tries a driver. open may give the same driver each time or a new one, on one plane or on several; other tenants may be
// on it, so long as nobody else changes them meanwhile.
func Run(t *testing.T, open func(t *testing.T) drivers.Driver) {
	for _, k := range []drivers.Isolation{drivers.Pool, drivers.Bridge, drivers.Silo} {
		t.Run(string(k), func(t *testing.T) {
			for _, rule := range rules {
				t.Run(strings.ReplaceAll(rule.name, " ", "_"), func(t *testing.T) { rule.check(kit{t, open(t), k}) })
			}
		})
	}
}

// kit is one rule's view of the driver.
type kit struct {
	*testing.T
	drivers.Driver
	kind drivers.Isolation
}

var rules = []struct {
	name  string
	check func(kit)
}{
	{"provision makes a tenant as asked", func(k kit) {
		ten := k.tenant()
		ten.Limits = map[string]int64{"connections": 7, "a_unit_that_no_driver_knows": 3}
		k.twice(func() error { return k.Provision(k.ctx(), "op_1", ten, false) }, ten.ID,
			&drivers.Observed{TenantID: ten.ID, Isolation: k.kind, Limits: map[string]int64{"connections": 7}})
	}},
	{"without a limit there is none", func(k kit) {
		ten := k.provisioned()
		k.sees(ten.ID, &drivers.Observed{TenantID: ten.ID, Isolation: k.kind})
	}},
	{"a tenant can be provisioned suspended", func(k kit) {
		ten := k.tenant()
		k.twice(func() error { return k.Provision(k.ctx(), "op_1", ten, true) }, ten.ID,
			&drivers.Observed{TenantID: ten.ID, Isolation: k.kind, Suspended: true})
	}},
	{"suspend and resume are each done once and repeated harmlessly", func(k kit) {
		ten := k.provisioned()
		k.twice(func() error { return k.Suspend(k.ctx(), "op_2", ten) }, ten.ID, &drivers.Observed{TenantID: ten.ID, Isolation: k.kind, Suspended: true})
		k.twice(func() error { return k.Resume(k.ctx(), "op_3", ten) }, ten.ID, &drivers.Observed{TenantID: ten.ID, Isolation: k.kind})
	}},
	{"provision decides whether an existing tenant is suspended", func(k kit) {
		ten := k.provisioned()
		k.ok(k.Suspend(k.ctx(), "op_2", ten))
		k.ok(k.Provision(k.ctx(), "op_3", ten, true))
		k.sees(ten.ID, &drivers.Observed{TenantID: ten.ID, Isolation: k.kind, Suspended: true})
		k.ok(k.Provision(k.ctx(), "op_4", ten, false))
		k.sees(ten.ID, &drivers.Observed{TenantID: ten.ID, Isolation: k.kind})
	}},
	{"resize sets and removes limits", func(k kit) {
		ten := k.provisioned()
		ten.Limits = map[string]int64{"connections": 3}
		k.twice(func() error { return k.Resize(k.ctx(), "op_2", ten) }, ten.ID, &drivers.Observed{TenantID: ten.ID, Isolation: k.kind, Limits: ten.Limits})
		ten.Limits = nil
		k.twice(func() error { return k.Resize(k.ctx(), "op_3", ten) }, ten.ID, &drivers.Observed{TenantID: ten.ID, Isolation: k.kind})
	}},
	{"resize leaves a suspended tenant suspended", func(k kit) {
		ten := k.provisioned()
		k.ok(k.Suspend(k.ctx(), "op_2", ten))
		k.ok(k.Resize(k.ctx(), "op_3", ten))
		k.sees(ten.ID, &drivers.Observed{TenantID: ten.ID, Isolation: k.kind, Suspended: true})
	}},
	{"deprovision removes the tenant and no other", func(k kit) {
		ten, other := k.provisioned(), k.provisioned()
		k.twice(func() error { return k.Deprovision(k.ctx(), "op_2", ten) }, ten.ID, nil)
		k.sees(other.ID, &drivers.Observed{TenantID: other.ID, Isolation: k.kind})
	}},
	{"a suspended tenant can be deprovisioned", func(k kit) {
		ten := k.provisioned()
		k.ok(k.Suspend(k.ctx(), "op_2", ten))
		k.ok(k.Deprovision(k.ctx(), "op_3", ten))
		k.sees(ten.ID, nil)
	}},
	{"deprovision of an unknown tenant succeeds whatever its isolation", func(k kit) {
		ten := k.tenant()
		k.ok(k.Deprovision(k.ctx(), "op_1", ten))
		ten.Isolation = ""
		k.ok(k.Deprovision(k.ctx(), "op_2", ten))
	}},
	{"a deprovisioned tenant can come back", func(k kit) {
		ten := k.provisioned()
		k.ok(k.Deprovision(k.ctx(), "op_2", ten))
		k.ok(k.Provision(k.ctx(), "op_3", ten, false))
		k.sees(ten.ID, &drivers.Observed{TenantID: ten.ID, Isolation: k.kind})
	}},
	{"an unknown tenant is refused as user", func(k kit) {
		ten := k.tenant()
		for name, err := range map[string]error{
			"suspend": k.Suspend(k.ctx(), "op", ten), "resume": k.Resume(k.ctx(), "op", ten), "resize": k.Resize(k.ctx(), "op", ten),
		} {
			if class, _ := drivers.ClassOf(err); err == nil || class != drivers.User || !errors.Is(err, drivers.ErrNoTenant) {
				k.Errorf("%s: %v", name, err)
			}
		}
		if _, err := k.ConnectionURL(k.ctx(), ten); !errors.Is(err, drivers.ErrNoTenant) {
			k.Errorf("url: %v", err)
		}
	}},
	{"what can never be is refused as user and changes nothing", func(k kit) {
		ten := k.provisioned()
		for name, change := range map[string]func(*drivers.Tenant){
			"another isolation": func(x *drivers.Tenant) {
				x.Isolation = map[bool]drivers.Isolation{true: drivers.Silo, false: drivers.Pool}[k.kind == drivers.Pool]
			},
			"an unknown isolation": func(x *drivers.Tenant) { x.Isolation = "cloud" },
			"a negative limit":     func(x *drivers.Tenant) { x.Limits = map[string]int64{"connections": -1} },
		} {
			asked := ten
			change(&asked)
			if class, _ := drivers.ClassOf(k.Provision(k.ctx(), "op", asked, false)); class != drivers.User {
				k.Errorf("%s: class %q", name, class)
			}
		}
		k.sees(ten.ID, &drivers.Observed{TenantID: ten.ID, Isolation: k.kind})
	}},
	{"the url belongs to tenant and credential version", func(k kit) {
		a, b := k.provisioned(), k.provisioned()
		first := k.url(a)
		if k.url(a) != first {
			k.Error("two calls, two answers")
		}
		if k.url(b) == first {
			k.Error("two tenants, one URL")
		}
		k.ok(k.Suspend(k.ctx(), "op_2", a))
		if k.url(a) != first {
			k.Error("a suspended tenant has another URL")
		}
		a.CredentialVersion = 2
		k.ok(k.Provision(k.ctx(), "op_3", a, false))
		if k.url(a) == first {
			k.Error("two credential versions, one URL")
		}
	}},
	{"observe is ordered by id", func(k kit) {
		for range 3 {
			k.provisioned()
		}
		all, err := k.Observe(k.ctx())
		k.ok(err)
		if !slices.IsSortedFunc(all, func(a, b drivers.Observed) int { return strings.Compare(a.TenantID, b.TenantID) }) {
			k.Errorf("got %v", all)
		}
	}},
	{"a cancelled call is transient and can be made again", func(k kit) {
		ten := k.tenant()
		ctx, cancel := context.WithCancel(k.ctx())
		cancel()
		if class, _ := drivers.ClassOf(k.Provision(ctx, "op_1", ten, false)); class != drivers.Transient {
			k.Errorf("class %q", class)
		}
		k.ok(k.Provision(k.ctx(), "op_1", ten, false))
		k.sees(ten.ID, &drivers.Observed{TenantID: ten.ID, Isolation: k.kind})
	}},
	{"different tenants are served side by side", func(k kit) {
		var all sync.WaitGroup
		for n := range 6 {
			ten := k.tenant()
			ctx := k.ctx()
			all.Go(func() {
				for _, err := range []error{k.Provision(ctx, "op_1", ten, false), k.Suspend(ctx, "op_2", ten), k.Resume(ctx, "op_3", ten)} {
					if err != nil {
						k.Error(err)
					}
				}
				if n%2 == 0 {
					if err := k.Deprovision(ctx, "op_4", ten); err != nil {
						k.Error(err)
					}
				}
			})
		}
		all.Wait()
	}},
}

// tenant is a new tenant's desired state.
func (k kit) tenant() drivers.Tenant {
	raw := make([]byte, 16)
	rand.Read(raw)
	id := "ten_" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw))
	return drivers.Tenant{ID: id, Isolation: k.kind, CredentialVersion: 1}
}

func (k kit) provisioned() drivers.Tenant {
	k.Helper()
	ten := k.tenant()
	k.ok(k.Provision(k.ctx(), "op_1", ten, false))
	return ten
}

func (k kit) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	k.Cleanup(cancel)
	return ctx
}

func (k kit) ok(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

func (k kit) url(ten drivers.Tenant) string {
	k.Helper()
	u, err := k.ConnectionURL(k.ctx(), ten)
	k.ok(err)
	return u
}

// twice does something two times and demands the same outcome after each; want is nil for a tenant that is not there.
func (k kit) twice(do func() error, id string, want *drivers.Observed) {
	k.Helper()
	for range 2 {
		k.ok(do())
		k.sees(id, want)
	}
}

func (k kit) sees(id string, want *drivers.Observed) {
	k.Helper()
	all, err := k.Observe(k.ctx())
	k.ok(err)
	var got *drivers.Observed
	for _, o := range all {
		if o.TenantID == id {
			got = &o
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		k.Errorf("observed (-want +got):\n%s", diff)
	}
}
