package sagas_test

import (
	"hash/fnv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/sagas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The vocabulary of the tests: a tenant is requested, capacity is reserved on a plane, the plane's agent provisions it.
type (
	requested struct {
		Tenant string `json:"tenant"`
	}
	suspensionDue struct {
		Tenant   string `json:"tenant"`
		Revision int64  `json:"revision"`
	}
	offboarding struct{}
	activated   struct{}
	rejected    struct {
		Code string `json:"code"`
	}
	confirmed     struct{}
	reserved      struct{}
	reserveNo     struct{}
	released      struct{}
	operationDue  struct{ Op, Kind, Tenant string }
	operationDone struct {
		Op       string
		Endpoint string
	}
	operationFailed struct{ Op, Class, Code string }
)

type (
	reserve    struct{ Plane, Tenant string }
	release    struct{ Plane, Tenant string }
	operate    struct{ Plane, Tenant, Kind string }
	activate   struct{ Tenant string }
	reject     struct{ Tenant, Code string }
	confirm    struct{ Tenant string }
	badCommand struct{ Tenant string } // in no catalog
)

func (c reserve) Target() string    { return c.Plane }
func (c release) Target() string    { return c.Plane }
func (c operate) Target() string    { return c.Plane }
func (c activate) Target() string   { return c.Tenant }
func (c reject) Target() string     { return c.Tenant }
func (c confirm) Target() string    { return c.Tenant }
func (c badCommand) Target() string { return c.Tenant }

var registry = domain.NewRegistry(domain.Catalog{
	domain.Fact[requested]("tenant.requested"),
	domain.Fact[suspensionDue]("tenant.suspension.due"),
	domain.Fact[offboarding]("tenant.offboarding"),
	domain.Fact[activated]("tenant.activated"),
	domain.Fact[rejected]("tenant.rejected"),
	domain.Fact[confirmed]("tenant.confirmed"),
	domain.Fact[reserved]("plane.reserved"),
	domain.Fact[reserveNo]("plane.reserve.refused"),
	domain.Fact[released]("plane.released"),
	domain.Fact[operationDue]("plane.operation.due"),
	domain.Fact[operationDone]("plane.operation.done"),
	domain.Fact[operationFailed]("plane.operation.failed"),
	domain.Fact[reserve]("plane.reserve"),
	domain.Fact[release]("plane.release"),
	domain.Fact[operate]("plane.operate"),
	domain.Fact[activate]("tenant.activate"),
	domain.Fact[reject]("tenant.reject"),
	domain.Fact[confirm]("tenant.confirm"),
})

type plan struct {
	Tenant   string `json:"tenant"`
	Plane    string `json:"plane,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
}

const within = 15 * time.Minute

var fails = sagas.FailsWith(func(e operationFailed) (class, code string) { return e.Class, e.Code })

// onboarding has a choice, an ask that the Bus answers, and an operation that an agent answers.
var onboarding = sagas.Saga[plan]{
	Name: "onboarding", Version: 1,
	Start: sagas.StartsWith(func(e requested, m domain.Meta) plan { return plan{Tenant: e.Tenant} }),
	Hears: sagas.ByTenant(func(p plan) string { return p.Tenant }),
	Abort: sagas.When[offboarding](),
	Steps: []sagas.Step[plan]{
		{Name: "choose plane", Choose: sagas.Choose(choosePlane)},
		{Name: "reserve", Within: 30 * time.Second, Else: sagas.Again("choose plane", 2),
			Do:   func(p plan) domain.Command { return reserve{p.Plane, p.Tenant} },
			Done: sagas.When[reserved](), Refused: sagas.When[reserveNo](),
			Undo:   func(p plan) domain.Command { return release{p.Plane, p.Tenant} },
			Undone: sagas.When[released]()},
		{Name: "provision", Within: within, Retry: sagas.Backoff(3, time.Second, time.Minute),
			Operation: func(p plan) string { return p.Plane },
			Do:        func(p plan) domain.Command { return operate{p.Plane, p.Tenant, "provision"} },
			Done:      sagas.When[operationDone](), Fails: fails,
			Learn:  sagas.Learns(func(p plan, e operationDone, _ domain.Meta) plan { p.Endpoint = e.Endpoint; return p }),
			Undo:   func(p plan) domain.Command { return operate{p.Plane, p.Tenant, "deprovision"} },
			Undone: sagas.When[operationDone]()},
	},
	Succeeded: func(p plan) domain.Command { return activate{p.Tenant} },
	Failed:    func(p plan, why sagas.Why) domain.Command { return reject{p.Tenant, why.Code} },
}

// suspension goes only forward.
var suspension = sagas.Saga[plan]{
	Name: "suspension", Version: 1,
	Start: sagas.StartsIf(func(e suspensionDue, m domain.Meta) (plan, bool) {
		return plan{Tenant: e.Tenant, Plane: "p1"}, e.Revision > 0
	}),
	Hears: sagas.ByTenant(func(p plan) string { return p.Tenant }),
	Abort: sagas.When[offboarding](),
	Steps: []sagas.Step[plan]{
		{Name: "suspend", Within: within, Forward: true, Retry: sagas.Backoff(2, time.Second, time.Minute),
			Operation: func(p plan) string { return p.Plane },
			Do:        func(p plan) domain.Command { return operate{p.Plane, p.Tenant, "suspend"} },
			Done:      sagas.When[operationDone](), Fails: fails,
			Superseded: sagas.When(func(e operationFailed, _ domain.Meta) bool { return e.Code == "superseded" })},
	},
	Succeeded: func(p plan) domain.Command { return confirm{p.Tenant} },
}

// choosePlane takes the first plane by a hash of the tenant that was not refused before.
func choosePlane(p plan, planes []string, past []sagas.Past) (sagas.Choice[plan], error) {
	for n := range planes {
		pick := planes[(int(hash(p.Tenant))+n)%len(planes)]
		refused := false
		for _, r := range past {
			refused = refused || r.Was(pick)
		}
		if !refused {
			p.Plane = pick
			return sagas.Choice[plan]{Plan: p, Chosen: pick, Reason: "first by hash"}, nil
		}
	}
	return sagas.Choice[plan]{}, &domain.Error{Code: domain.CodeCapacityExhausted, Message: "no plane is left"}
}

func hash(parts ...string) uint32 {
	h := fnv.New32a()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return h.Sum32() % 1000
}
