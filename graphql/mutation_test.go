package graphql_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/domain/tenant"
)

type userError struct {
	Message  string
	Code     string
	Path     []string
	Phase    *string
	Allowed  []string
	Expected *int64
	Actual   *int64
}

const errorFields = "position repeated userErrors { message code path phase allowed expected actual }"

// mutate sends a mutation with one input and gives its payload's text, and its userErrors.
func (r *rig) mutate(name, fields string, input map[string]any) (answer, []userError) {
	r.t.Helper()
	a := r.ask("mutation M($input: "+strings.ToUpper(name[:1])+name[1:]+"Input!) { "+name+"(input: $input) { "+fields+" "+errorFields+" } }",
		map[string]any{"input": input})
	if len(a.Errors) > 0 {
		r.t.Fatalf("%s %v answered %s", name, input, a.text)
	}
	var payload struct{ UserErrors []userError }
	a.into(r.t, &payload, name)
	return a, payload.UserErrors
}

// done is mutate for what has to go well.
func (r *rig) done(name, fields string, input map[string]any) answer {
	r.t.Helper()
	if _, given := input["idempotencyKey"]; !given {
		r.keys.mu.Lock()
		r.used++
		input["idempotencyKey"] = "key-" + itoa(r.used)
		r.keys.mu.Unlock()
	}
	a, errs := r.mutate(name, fields, input)
	if len(errs) > 0 {
		r.t.Fatalf("%s %v answered %s", name, input, a.text)
	}
	return a
}

type object struct{ ID string }

func (r *rig) anOrg() string {
	var o object
	r.done("registerOrg", "org { id }", map[string]any{"name": "Acme"}).into(r.t, &o, "registerOrg", "org")
	return o.ID
}

func (r *rig) aTier(key string) string {
	r.done("publishTier", "tier { id }", map[string]any{"tierKey": key})
	return key
}

func (r *rig) aPlane() string {
	var o object
	r.done("registerPlane", "plane { id }", map[string]any{}).into(r.t, &o, "registerPlane", "plane")
	return o.ID
}

// aTenant requests one and gives its id and that of its saga.
func (r *rig) aTenant(org, tier, slug string) (id, sagaID string) {
	var p struct{ Tenant, Saga object }
	r.done("requestTenant", "tenant { id } saga { id }", map[string]any{"orgId": org, "tierKey": tier, "slug": slug}).into(r.t, &p, "requestTenant")
	return p.Tenant.ID, p.Saga.ID
}

// activate does what the onboarding would.
func (r *rig) activate(id, planeID string) {
	r.t.Helper()
	r.command(tenant.Place{TenantID: id, Change: 1, PlaneID: planeID})
	r.command(tenant.Activate{TenantID: id, Change: 1})
}

func TestRegisterOrg(t *testing.T) {
	r := newRig(t)
	fields := "org { id name slug phase parent { id } revision createdAt updatedAt }"
	var p struct {
		Org struct {
			ID, Name, Phase      string
			Slug                 *string
			Parent               *object
			Revision             int
			CreatedAt, UpdatedAt time.Time
		}
		Position *string
		Repeated bool
	}
	r.done("registerOrg", fields, map[string]any{"name": "Acme Inc", "slug": "acme", "idempotencyKey": "k1"}).into(t, &p, "registerOrg")
	if p.Org.Name != "Acme Inc" || *p.Org.Slug != "acme" || p.Org.Phase != "active" || p.Org.Parent != nil || p.Org.Revision != 0 ||
		p.Org.CreatedAt.IsZero() || !domain.IsID(domain.OrgID, p.Org.ID) || p.Position == nil || p.Repeated {
		t.Errorf("%+v", p)
	}
	if at, err := domain.ParsePosition(*p.Position); err != nil || at.Epoch != epoch {
		t.Errorf("position %q: %v", *p.Position, err)
	}
	first := p
	r.done("registerOrg", fields, map[string]any{"name": "Acme Inc", "slug": "acme", "idempotencyKey": "k1"}).into(t, &p, "registerOrg")
	first.Repeated = true
	if d := cmp.Diff(first, p); d != "" {
		t.Errorf("a repeat answers otherwise (-first +repeat):\n%s", d)
	}
	r.done("registerOrg", fields, map[string]any{"slug": "part", "parentId": first.Org.ID}).into(t, &p, "registerOrg")
	if p.Org.Name != "part" || p.Org.Parent == nil || p.Org.Parent.ID != first.Org.ID {
		t.Errorf("%+v", p)
	}
	r.done("renameOrg", fields, map[string]any{"orgId": first.Org.ID, "name": "Acme & Sons", "expectedRevision": 0}).into(t, &p, "renameOrg")
	if p.Org.Name != "Acme & Sons" || p.Org.Revision != 1 || p.Org.ID != first.Org.ID {
		t.Errorf("%+v", p)
	}
}

func TestPublishTier(t *testing.T) {
	r := newRig(t)
	fields := "tier { id key version name phase isolation endpoint nodes quotas { unit amount } features targets { unit amount } cost { unit amount } revision }"
	type amount struct {
		Unit   string
		Amount int64
	}
	type tierView struct {
		ID, Key, Name, Phase, Isolation, Endpoint, Nodes string
		Version, Revision                                int
		Quotas, Targets, Cost                            []amount
		Features                                         []string
	}
	var got tierView
	r.done("publishTier", fields, map[string]any{"tierKey": "standard"}).into(t, &got, "publishTier", "tier")
	want := tierView{ID: "standard", Key: "standard", Name: "standard", Phase: "published", Isolation: "pool", Endpoint: "shared", Nodes: "shared",
		Version: 1, Quotas: []amount{}, Targets: []amount{}, Cost: []amount{{"slots", 1}}, Features: []string{}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the defaults are others (-want +got):\n%s", d)
	}
	got = tierView{}
	r.done("publishTier", fields, map[string]any{"tierKey": "standard", "name": "Big", "isolation": "silo", "endpoint": "dedicated", "nodes": "reserved",
		"quotas": []any{map[string]any{"unit": "connections", "amount": 20}, map[string]any{"unit": "bytes", "amount": int64(1) << 50}}, "features": []string{"sso", "audit"},
		"targets": []any{map[string]any{"unit": "availability-ppm", "amount": 999_000}}, "cost": []any{map[string]any{"unit": "slots", "amount": 8}},
		"expectedRevision": 0}).into(t, &got, "publishTier", "tier")
	want = tierView{ID: "standard", Key: "standard", Name: "Big", Phase: "published", Isolation: "silo", Endpoint: "dedicated", Nodes: "reserved", Version: 2, Revision: 1,
		Quotas: []amount{{"bytes", 1 << 50}, {"connections", 20}}, Targets: []amount{{"availability-ppm", 999_000}}, Cost: []amount{{"slots", 8}}, Features: []string{"audit", "sso"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	r.done("deprecateTier", fields, map[string]any{"tierKey": "standard"}).into(t, &got, "deprecateTier", "tier")
	if got.Phase != "deprecated" {
		t.Errorf("%+v", got)
	}
	// In the document itself an enum is a name.
	r.must(`mutation { publishTier(input: { tierKey: "written", isolation: bridge, idempotencyKey: "w" }) { tier { isolation } userErrors { code } } }`, nil)
}

func TestRegisterPlane(t *testing.T) {
	r := newRig(t)
	fields := "plane { id name region cloud account labels { key value } isolations capacity { unit total used } phase reason agent { state session version driver } revision }"
	a := r.done("registerPlane", fields, map[string]any{"idempotencyKey": "k"})
	if want := `"name":"plane","region":"default","cloud":null,"account":"hosted","labels":[],"isolations":["bridge","pool","silo"],"capacity":[{"unit":"slots","total":1000,"used":0}],"phase":"open","reason":null,"agent":{"state":"never","session":0,"version":null,"driver":null},"revision":0`; !strings.Contains(a.text, want) {
		t.Errorf("the defaults are others: %s", a.text)
	}
	var o object
	r.done("registerPlane", fields, map[string]any{"name": "eu", "region": "eu-west", "cloud": "aws", "account": "customer", "labels": []any{map[string]any{"key": "zone", "value": "a"}},
		"capacity": []any{map[string]any{"unit": "slots", "amount": 4}}, "isolations": []string{"pool"}}).into(t, &o, "registerPlane", "plane")
	r.command(plane.IssueJoinToken{PlaneID: o.ID, Hash: "h", Life: time.Hour})
	r.command(plane.Join{PlaneID: o.ID, Hash: "h", PublicKey: "p"})
	r.command(plane.OpenSession{PlaneID: o.ID, PublicKey: "p", Version: "1.0", Driver: "simulated"})
	if a := r.must(`{ planes(region: "eu-west") { nodes { agent { state session version driver } } } }`, nil); !strings.Contains(a.text, `{"state":"awaiting_first_heartbeat","session":1,"version":"1.0","driver":"simulated"}`) {
		t.Errorf("answered %s", a.text)
	}
	r.command(plane.Judge{PlaneID: o.ID, Session: 1, State: plane.Online})
	r.command(plane.Reserve{PlaneID: o.ID, TenantID: "ten_x", OrgID: "org_x", Change: 1, Isolation: "pool", Cost: domain.Units{"slots": 3}})
	a = r.done("cordonPlane", fields, map[string]any{"planeId": o.ID, "reason": "a new disk"})
	if want := `"name":"eu","region":"eu-west","cloud":"aws","account":"customer","labels":[{"key":"zone","value":"a"}],"isolations":["pool"],"capacity":[{"unit":"slots","total":4,"used":3}],"phase":"cordoned","reason":"a new disk"`; !strings.Contains(a.text, want) {
		t.Errorf("answered %s", a.text)
	}
	for _, e := range r.log.All() {
		if strings.Contains(string(e.Data), "a new disk") {
			t.Error("the log holds a reason in the clear")
		}
	}
	r.keys.erase(o.ID)
	if a := r.must(`query($id: ID!) { plane(id: $id) { reason phase } }`, map[string]any{"id": o.ID}); !strings.Contains(a.text, `"reason":null,"phase":"cordoned"`) {
		t.Errorf("an erased reason reads as %s", a.text)
	}
	if a := r.done("uncordonPlane", fields, map[string]any{"planeId": o.ID}); !strings.Contains(a.text, `"phase":"open"`) {
		t.Errorf("answered %s", a.text)
	}
}

func TestAJoinTokenIsAnsweredOnce(t *testing.T) {
	r := newRig(t)
	id := r.aPlane()
	var p struct {
		Plane     object
		Token     *string
		ExpiresAt time.Time
		Repeated  bool
	}
	input := map[string]any{"planeId": id, "idempotencyKey": "t1"}
	r.done("createJoinToken", "plane { id } token expiresAt", input).into(t, &p, "createJoinToken")
	if p.Token == nil || !strings.HasPrefix(*p.Token, "join-"+id) || p.Plane.ID != id || p.Repeated {
		t.Fatalf("%+v", p)
	}
	expires := p.ExpiresAt
	if d := expires.Sub(time.Date(2026, 3, 1, 13, 0, 0, 0, time.UTC)); d < 0 || d > time.Minute {
		t.Errorf("it expires at %s", expires)
	}
	p.Token = nil
	r.done("createJoinToken", "plane { id } token expiresAt", input).into(t, &p, "createJoinToken")
	if p.Token != nil || !p.Repeated || !p.ExpiresAt.Equal(expires) {
		t.Errorf("a repeat answers %+v", p)
	}
	for _, e := range r.log.All() {
		if strings.Contains(string(e.Data), "join-") {
			t.Error("the log holds a token")
		}
	}
}

func TestATenantsLife(t *testing.T) {
	r := newRig(t)
	org, tier, planeID := r.anOrg(), r.aTier("standard"), r.aPlane()
	fields := "tenant { id slug name phase region tier { key version isolation cost { unit amount } latest { version } } plane { id } org { id } causes { kind reference reason } saga { id } revision } saga { id name state version steps { name } tenant { id } revision startedAt }"
	type payload struct {
		Tenant struct {
			ID, Slug, Name, Phase string
			Region                *string
			Tier                  struct {
				Key     string
				Version int
			}
			Plane, Org, Saga *object
			Causes           []struct{ Kind, Reference, Reason string }
			Revision         int
		}
		Saga *struct {
			ID, Name, State string
			Tenant          *object
			StartedAt       *time.Time
			Revision        int
		}
	}
	step := func(mutation string, input map[string]any) (p payload) {
		t.Helper()
		r.done(mutation, fields, input).into(t, &p, mutation)
		return p
	}
	p := step("requestTenant", map[string]any{"orgId": org, "tierKey": tier, "slug": "first"})
	id := p.Tenant.ID
	if p.Tenant.Name != "first" || p.Tenant.Phase != "requested" || p.Tenant.Tier.Version != 1 || p.Tenant.Org.ID != org || p.Tenant.Plane != nil || p.Tenant.Region != nil {
		t.Errorf("requested: %+v", p)
	}
	if p.Saga == nil || p.Saga.Name != "onboarding" || p.Saga.State != "running" || p.Saga.Tenant == nil || p.Saga.Tenant.ID != id || p.Saga.Revision != -1 || p.Saga.StartedAt != nil || !domain.IsID(domain.SagaID, p.Saga.ID) {
		t.Errorf("its saga: %+v", p.Saga)
	}
	if p := step("suspendTenant", map[string]any{"tenantId": id, "cause": map[string]any{"kind": "billing", "reference": "INV-1"}}); p.Saga != nil || len(p.Tenant.Causes) != 1 {
		t.Errorf("suspended before it is there: %+v", p)
	}
	step("resumeTenant", map[string]any{"tenantId": id, "cause": map[string]any{"kind": "billing", "reference": "INV-1"}})
	r.activate(id, planeID)

	p = step("suspendTenant", map[string]any{"tenantId": id, "reason": "abuse"})
	if p.Saga == nil || p.Saga.Name != "suspension" || p.Tenant.Phase != "active" || len(p.Tenant.Causes) != 1 || p.Tenant.Causes[0].Kind != "manual" || p.Tenant.Causes[0].Reason != "abuse" || p.Tenant.Plane.ID != planeID {
		t.Errorf("suspended: %+v", p)
	}
	if p := step("suspendTenant", map[string]any{"tenantId": id}); p.Saga != nil {
		t.Errorf("suspended again for the same cause: %+v", p)
	}
	p = step("resumeTenant", map[string]any{"tenantId": id})
	if p.Saga == nil || p.Saga.Name != "resumption" || len(p.Tenant.Causes) != 0 {
		t.Errorf("resumed: %+v", p)
	}
	p = step("offboardTenant", map[string]any{"tenantId": id, "expectedRevision": p.Tenant.Revision})
	if p.Saga == nil || p.Saga.Name != "offboarding" || p.Tenant.Phase != "offboarding" || p.Tenant.Saga == nil || p.Tenant.Saga.ID != p.Saga.ID {
		t.Errorf("offboarded: %+v", p)
	}
	second, onboarding := r.aTenant(org, tier, "second")
	if p := step("offboardTenant", map[string]any{"tenantId": second}); p.Saga == nil || p.Saga.ID != onboarding || p.Saga.Name != "onboarding" || p.Tenant.Phase != "requested" {
		t.Errorf("offboarded while onboarding: %+v", p)
	}
}

func TestSagasAreRetriedAndCancelled(t *testing.T) {
	r := newRig(t)
	id, sagaID := r.aTenant(r.anOrg(), r.aTier("standard"), "first")
	r.begins(tenant.Onboarding, sagaID, id, saga.Asked{Step: "reserve slug", Attempt: 1, CommandID: "c"}, saga.Refused{Step: "reserve slug", CommandID: "c", Code: "bug", Class: "bug"},
		saga.AttentionNeeded{Step: "reserve slug", Code: "bug"})
	fields := "saga { id name state code step steps { name state attempt lastError startedAt finishedAt } tenant { id } revision }"
	a := r.done("retrySaga", fields, map[string]any{"sagaId": sagaID, "reason": "fixed", "idempotencyKey": "k"})
	if !strings.Contains(a.text, `"name":"onboarding","state":"attention","code":"bug","step":"reserve slug","steps":[{"name":"reserve slug","state":"failed","attempt":1,"lastError":"bug"`) {
		t.Errorf("answered %s", a.text)
	}
	a = r.done("cancelSaga", fields, map[string]any{"sagaId": sagaID, "reason": "no longer wanted"})
	if !strings.Contains(a.text, `"revision":5`) {
		t.Errorf("answered %s", a.text)
	}
}

func TestBadInputIsCodedNamesTheFieldAndAppendsNothing(t *testing.T) {
	r := newRig(t)
	org, tier, planeID := r.anOrg(), r.aTier("standard"), r.aPlane()
	r.aTier("old")
	r.done("deprecateTier", "tier { id }", map[string]any{"tierKey": "old"})
	id, sagaID := r.aTenant(org, tier, "first")
	r.done("requestTenant", "tenant { id }", map[string]any{"orgId": org, "tierKey": tier, "slug": "used-key", "idempotencyKey": "used"})
	gone, _ := r.aTenant(org, tier, "gone")
	r.command(tenant.Reject{TenantID: gone, Change: 1, Code: "capacity_exhausted", Step: "choose plane"})
	r.hold(org, "held", id)
	r.begins(tenant.Onboarding, sagaID, id, saga.Ended{Outcome: saga.OutcomeSucceeded})
	none := func(prefix string) string { return domain.NewID(prefix, "a", "b", "c") }
	unit := func(u string, n any) []any { return []any{map[string]any{"unit": u, "amount": n}} }

	for name, c := range map[string]struct {
		mutation string
		input    map[string]any
		code     string
		path     string
	}{
		"no name and no slug":         {"registerOrg", map[string]any{}, "INVALID", "input.name"},
		"an org's odd slug":           {"registerOrg", map[string]any{"slug": "Acme!"}, "INVALID", "input.slug"},
		"a name that is too long":     {"registerOrg", map[string]any{"name": strings.Repeat("x", 201)}, "INVALID", "input.name"},
		"a name with NUL":             {"registerOrg", map[string]any{"name": "a\x00b"}, "INVALID", "input.name"},
		"an unknown parent":           {"registerOrg", map[string]any{"name": "x", "parentId": none("org")}, "NOT_FOUND", "input.parentId"},
		"a malformed parent":          {"registerOrg", map[string]any{"name": "x", "parentId": "17"}, "INVALID", "input.parentId"},
		"an empty key":                {"registerOrg", map[string]any{"name": "x", "idempotencyKey": ""}, "INVALID", "input.idempotencyKey"},
		"an odd key":                  {"registerOrg", map[string]any{"name": "x", "idempotencyKey": "a b"}, "INVALID", "input.idempotencyKey"},
		"a revision below -1":         {"registerOrg", map[string]any{"name": "x", "expectedRevision": -2}, "INVALID", "input.expectedRevision"},
		"an org that should be there": {"registerOrg", map[string]any{"name": "x", "expectedRevision": 3}, "CONFLICT", "input.expectedRevision"},
		"an empty new name":           {"renameOrg", map[string]any{"orgId": org, "name": ""}, "INVALID", "input.name"},
		"an unknown org to rename":    {"renameOrg", map[string]any{"orgId": none("org"), "name": "x"}, "NOT_FOUND", "input.orgId"},

		"a tier's odd key":          {"publishTier", map[string]any{"tierKey": "Gold"}, "INVALID", "input.tierKey"},
		"an empty tier key":         {"publishTier", map[string]any{"tierKey": ""}, "INVALID", "input.tierKey"},
		"no connections":            {"publishTier", map[string]any{"tierKey": "gold", "quotas": unit("connections", 0)}, "INVALID", "input.quotas.connections"},
		"a negative cost":           {"publishTier", map[string]any{"tierKey": "gold", "cost": unit("slots", -1)}, "INVALID", "input.cost.slots"},
		"an amount above 2^53":      {"publishTier", map[string]any{"tierKey": "gold", "cost": unit("slots", int64(1)<<53)}, "INVALID", "input.cost.slots"},
		"an odd unit":               {"publishTier", map[string]any{"tierKey": "gold", "cost": unit("S", 1)}, "INVALID", "input.cost"},
		"a unit twice":              {"publishTier", map[string]any{"tierKey": "gold", "targets": append(unit("p99-ms", 1), unit("p99-ms", 2)...)}, "INVALID", "input.targets"},
		"a reserved endpoint":       {"publishTier", map[string]any{"tierKey": "gold", "endpoint": "reserved"}, "INVALID", "input.endpoint"},
		"an odd feature":            {"publishTier", map[string]any{"tierKey": "gold", "features": []string{"S S O"}}, "INVALID", "input.features"},
		"another tier revision":     {"publishTier", map[string]any{"tierKey": tier, "expectedRevision": 7}, "CONFLICT", "input.expectedRevision"},
		"an unknown tier":           {"deprecateTier", map[string]any{"tierKey": "gold"}, "NOT_FOUND", "input.tierKey"},
		"a tenant's odd slug":       {"requestTenant", map[string]any{"orgId": org, "tierKey": tier, "slug": "Héllo"}, "INVALID", "input.slug"},
		"an empty slug":             {"requestTenant", map[string]any{"orgId": org, "tierKey": tier, "slug": ""}, "INVALID", "input.slug"},
		"an odd region":             {"requestTenant", map[string]any{"orgId": org, "tierKey": tier, "slug": "ok1", "region": "EU West"}, "INVALID", "input.region"},
		"no such tier":              {"requestTenant", map[string]any{"orgId": org, "tierKey": "gold", "slug": "ok1"}, "NOT_FOUND", "input.tierKey"},
		"a deprecated tier":         {"requestTenant", map[string]any{"orgId": org, "tierKey": "old", "slug": "ok1"}, "INVALID", "input.tierKey"},
		"no such org":               {"requestTenant", map[string]any{"orgId": none("org"), "tierKey": tier, "slug": "ok1"}, "NOT_FOUND", "input.orgId"},
		"a tenant for an org":       {"requestTenant", map[string]any{"orgId": id, "tierKey": tier, "slug": "ok1"}, "INVALID", "input.orgId"},
		"a slug that is taken":      {"requestTenant", map[string]any{"orgId": org, "tierKey": tier, "slug": "held"}, "ALREADY_EXISTS", "input.slug"},
		"a reused key":              {"requestTenant", map[string]any{"orgId": org, "tierKey": tier, "slug": "other", "idempotencyKey": "used"}, "IDEMPOTENCY_KEY_REUSED", "input.idempotencyKey"},
		"no such tenant":            {"suspendTenant", map[string]any{"tenantId": none("ten")}, "NOT_FOUND", "input.tenantId"},
		"a malformed tenant":        {"suspendTenant", map[string]any{"tenantId": "ten_1"}, "INVALID", "input.tenantId"},
		"an odd cause":              {"suspendTenant", map[string]any{"tenantId": id, "cause": map[string]any{"kind": "B!", "reference": "x"}}, "INVALID", "input.cause.kind"},
		"an empty cause's name":     {"suspendTenant", map[string]any{"tenantId": id, "cause": map[string]any{"kind": "billing", "reference": ""}}, "INVALID", "input.cause.reference"},
		"a reason that is too long": {"suspendTenant", map[string]any{"tenantId": id, "reason": strings.Repeat("x", 2001)}, "INVALID", "input.reason"},
		"a rejected tenant":         {"suspendTenant", map[string]any{"tenantId": gone}, "NOT_ALLOWED", "input.tenantId"},
		"another tenant revision":   {"offboardTenant", map[string]any{"tenantId": id, "expectedRevision": 99}, "CONFLICT", "input.expectedRevision"},
		"offboarding the rejected":  {"offboardTenant", map[string]any{"tenantId": gone}, "NOT_ALLOWED", "input.tenantId"},
		"resuming no tenant":        {"resumeTenant", map[string]any{"tenantId": none("ten")}, "NOT_FOUND", "input.tenantId"},

		"a plane's odd region":   {"registerPlane", map[string]any{"region": "EU"}, "INVALID", "input.region"},
		"a label twice":          {"registerPlane", map[string]any{"labels": []any{map[string]any{"key": "a", "value": "1"}, map[string]any{"key": "a", "value": "2"}}}, "INVALID", "input.labels"},
		"an odd label":           {"registerPlane", map[string]any{"labels": []any{map[string]any{"key": "a", "value": "x y"}}}, "INVALID", "input.labels.a"},
		"no such plane":          {"cordonPlane", map[string]any{"planeId": none("pln")}, "NOT_FOUND", "input.planeId"},
		"a token for no plane":   {"createJoinToken", map[string]any{"planeId": none("pln")}, "NOT_FOUND", "input.planeId"},
		"another plane revision": {"cordonPlane", map[string]any{"planeId": planeID, "expectedRevision": 5}, "CONFLICT", "input.expectedRevision"},
		"no such saga":           {"retrySaga", map[string]any{"sagaId": none("sag")}, "NOT_FOUND", "input.sagaId"},
		"a malformed saga":       {"cancelSaga", map[string]any{"sagaId": "onboarding." + sagaID}, "INVALID", "input.sagaId"},
		"a saga that has ended":  {"cancelSaga", map[string]any{"sagaId": sagaID}, "NOT_ALLOWED", "input.sagaId"},
		"another saga revision":  {"retrySaga", map[string]any{"sagaId": sagaID, "expectedRevision": 0}, "CONFLICT", "input.expectedRevision"},
	} {
		t.Run(name, func(t *testing.T) {
			r := r.in(t)
			if _, given := c.input["idempotencyKey"]; !given {
				c.input["idempotencyKey"] = "bad"
			}
			before := len(r.log.All())
			a, errs := r.mutate(c.mutation, "__typename", c.input)
			if len(errs) != 1 || errs[0].Code != c.code || strings.Join(errs[0].Path, ".") != c.path || errs[0].Message == "" {
				t.Errorf("answered %s, want %s at %s", a.text, c.code, c.path)
			}
			if !strings.Contains(a.text, `"position":null`) {
				t.Errorf("a refusal has a position: %s", a.text)
			}
			if n := len(r.log.All()); n != before {
				t.Errorf("%d events were appended", n-before)
			}
			switch c.code {
			case "NOT_ALLOWED":
				if errs[0].Phase == nil || errs[0].Allowed == nil {
					t.Errorf("the phases are missing: %s", a.text)
				}
			case "CONFLICT":
				if errs[0].Expected == nil || errs[0].Actual == nil {
					t.Errorf("the revisions are missing: %s", a.text)
				}
			}
		})
	}
}

func TestInputThatDoesNotFitTheSchemaIsInvalid(t *testing.T) {
	r := newRig(t)
	for name, c := range map[string]struct {
		input map[string]any
		field string
	}{
		"an unknown field":      {map[string]any{"name": "x", "idempotencyKey": "k", "colour": "red"}, "input.colour"},
		"no key":                {map[string]any{"name": "x"}, "input.idempotencyKey"},
		"a null key":            {map[string]any{"name": "x", "idempotencyKey": nil}, "input.idempotencyKey"},
		"a name of wrong type":  {map[string]any{"name": 7, "idempotencyKey": "k"}, "input.name"},
		"a list for a name":     {map[string]any{"name": []string{"x"}, "idempotencyKey": "k"}, "input.name"},
		"a revision in letters": {map[string]any{"name": "x", "idempotencyKey": "k", "expectedRevision": "one"}, "input.expectedRevision"},
	} {
		t.Run(name, func(t *testing.T) {
			r := r.in(t)
			a := r.ask(`mutation($input: RegisterOrgInput!) { registerOrg(input: $input) { org { id } userErrors { code } } }`, map[string]any{"input": c.input})
			if a.code() != "INVALID" || a.Errors[0].Extensions["field"] != c.field {
				t.Errorf("answered %d %s, want INVALID at %s", a.status, a.text, c.field)
			}
		})
	}
	for name, document := range map[string]string{
		"an unknown field":    `mutation { registerOrg(input: { name: "x", idempotencyKey: "k", colour: "red" }) { org { id } } }`,
		"no key":              `mutation { registerOrg(input: { name: "x" }) { org { id } } }`,
		"an unknown enum":     `mutation { publishTier(input: { tierKey: "x", isolation: vault, idempotencyKey: "k" }) { tier { id } } }`,
		"half an amount":      `mutation { publishTier(input: { tierKey: "gold", cost: [{ unit: "slots", amount: 1.5 }], idempotencyKey: "k" }) { tier { id } userErrors { code } } }`,
		"a cause with a hole": `mutation { suspendTenant(input: { tenantId: "x", cause: { kind: "billing" }, idempotencyKey: "k" }) { userErrors { code } } }`,
	} {
		t.Run(name+" in the document", func(t *testing.T) {
			r := r.in(t)
			if a := r.ask(document, nil); a.code() != "INVALID" || strings.Contains(a.text, "Did you mean") {
				t.Errorf("answered %d %s", a.status, a.text)
			}
		})
	}
	r.nothingAppended()
}

func TestSeveralMutationsOfOneOperationEachShowTheirChange(t *testing.T) {
	r := newRig(t)
	a := r.must(`mutation { a: registerOrg(input: { name: "A", idempotencyKey: "1" }) { org { name revision } position }
		b: registerOrg(input: { name: "B", idempotencyKey: "2" }) { org { name revision } position } }`, nil)
	if strings.Count(a.text, `"revision":0`) != 2 || !strings.Contains(a.text, `"name":"B"`) {
		t.Errorf("answered %s", a.text)
	}
}

func TestAMutationStandsThoughTheReadModelsLag(t *testing.T) {
	r := newRig(t)
	r.log.hold(true)
	answers := make(chan answer)
	go func() {
		answers <- r.ask(`mutation { registerOrg(input: { name: "A", idempotencyKey: "1" }) { org { id } position userErrors { code } } }`, nil)
	}()
	a := r.untilLate(answers)
	if a.status != 200 || a.code() != "PROJECTION_LAGGING" || !slices.Equal(a.Errors[0].Path, []any{"registerOrg", "org"}) || a.Errors[0].Extensions["retryAfterMs"] == nil {
		t.Errorf("answered %s", a.text)
	}
	var p struct {
		Org      *object
		Position string
	}
	a.into(t, &p, "registerOrg")
	if p.Org != nil || p.Position == "" || len(r.log.All()) != 1 {
		t.Errorf("answered %s", a.text)
	}
	r.log.hold(false)
	if a := r.must(`query($p: Position) { orgs(atLeast: $p) { nodes { name } } }`, map[string]any{"p": p.Position}); !strings.Contains(a.text, `"name":"A"`) {
		t.Errorf("answered %s", a.text)
	}
}

func TestALogThatDoesNotAnswerIsUnavailable(t *testing.T) {
	r := newRig(t)
	r.log.OnRead = func(string, int64) error { return domain.Unavailable("the log is away", nil) }
	a := r.ask(`mutation { renameOrg(input: { orgId: "`+domain.NewID("org", "a", "b", "c")+`", name: "x", idempotencyKey: "1" }) { org { id } userErrors { code } } }`, nil)
	if a.code() != "UNAVAILABLE" || string(a.Data) != `{"renameOrg":null}` {
		t.Errorf("answered %s", a.text)
	}
}
