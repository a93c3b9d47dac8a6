package graphql_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/domain/tenant"
)

// list reads a whole list in pages of two.
func (r *rig) list(field, filter string) (ids []string) {
	r.t.Helper()
	var after *string
	for {
		var page struct {
			Edges []struct {
				Node   object
				Cursor string
			}
			Nodes    []object
			PageInfo struct {
				HasNextPage, HasPreviousPage bool
				StartCursor, EndCursor       *string
			}
		}
		r.must(fmt.Sprintf(`query($after: String) { %s(first: 2, after: $after %s) { edges { node { id } cursor } nodes { id }
			pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }`, field, filter), map[string]any{"after": after}).into(r.t, &page, field)
		if len(page.Edges) > 2 || len(page.Edges) != len(page.Nodes) || page.PageInfo.HasPreviousPage != (after != nil) {
			r.t.Fatalf("%+v", page)
		}
		for _, n := range page.Nodes {
			ids = append(ids, n.ID)
		}
		if n := len(page.Edges); n > 0 && (*page.PageInfo.EndCursor != page.Edges[n-1].Cursor || *page.PageInfo.StartCursor != page.Edges[0].Cursor) {
			r.t.Fatalf("%+v", page)
		}
		if !page.PageInfo.HasNextPage {
			return ids
		}
		after = page.PageInfo.EndCursor
	}
}

func TestListsComeInPages(t *testing.T) {
	r := newRig(t)
	var orgs, planes, tenants, sagas []string
	for i := range 5 {
		orgs = append(orgs, r.anOrg())
		planes = append(planes, r.aPlane())
		r.aTier("tier-" + itoa(i))
	}
	var part object
	r.done("registerOrg", "org { id }", map[string]any{"name": "part", "parentId": orgs[0]}).into(t, &part, "registerOrg", "org")
	for i := range 5 {
		id, sagaID := r.aTenant(orgs[i%2], "tier-0", "t-"+itoa(i)+"x")
		r.begins(tenant.Onboarding, sagaID, id)
		tenants, sagas = append(tenants, id), append(sagas, sagaID)
	}
	r.activate(tenants[4], planes[3])
	r.facts(tenant.Onboarding, sagas[4], saga.Ended{Outcome: saga.OutcomeSucceeded})
	slices.Reverse(sagas) // the one that started last comes first
	sorted := func(ids ...string) []string { return slices.Sorted(slices.Values(ids)) }
	for _, c := range []struct {
		field, filter string
		want          []string
	}{
		{"orgs", "", sorted(append(orgs, part.ID)...)},
		{"orgs", fmt.Sprintf("parentId: %q", orgs[0]), []string{part.ID}},
		{"tiers", "", []string{"tier-0", "tier-1", "tier-2", "tier-3", "tier-4"}},
		{"planes", "", sorted(planes...)},
		{"planes", `region: "nowhere"`, nil},
		{"tenants", "", sorted(tenants...)},
		{"tenants", fmt.Sprintf("orgId: %q", orgs[1]), sorted(tenants[1], tenants[3])},
		{"tenants", fmt.Sprintf("planeId: %q", planes[3]), []string{tenants[4]}},
		{"tenants", "phase: active", []string{tenants[4]}},
		{"tenants", `slug: "t-2x"`, []string{tenants[2]}},
		{"sagas", "", sagas},
		{"sagas", "state: succeeded", sagas[:1]},
		{"sagas", `name: "offboarding"`, nil},
		{"sagas", fmt.Sprintf("tenantId: %q", tenants[0]), sagas[4:]},
	} {
		if got := r.list(c.field, c.filter); !slices.Equal(got, c.want) {
			t.Errorf("%s %s gives %v, want %v", c.field, c.filter, got, c.want)
		}
	}
	// A variable's enum may be written in any case.
	if a := r.must(`query($p: TenantPhase) { tenants(phase: $p) { nodes { id } } }`, map[string]any{"p": "ACTIVE"}); !strings.Contains(a.text, tenants[4]) {
		t.Errorf("answered %s", a.text)
	}
}

func TestAPageThatIsNoneIsInvalid(t *testing.T) {
	r := newRig(t)
	r.aTier("one")
	r.aTier("two")
	var tierCursor struct{ PageInfo struct{ EndCursor string } }
	r.must(`{ tiers(first: 1) { pageInfo { endCursor } } }`, nil).into(t, &tierCursor, "tiers")
	for args, field := range map[string]string{
		"first: 0":                  "first",
		"first: 201":                "first",
		"first: -1":                 "first",
		`after: "nonsense"`:         "after",
		`after: ""`:                 "after",
		`after: "eyJsIjoib3JncyJ9"`: "after",
		fmt.Sprintf("after: %q", tierCursor.PageInfo.EndCursor): "after",
	} {
		if a := r.ask("{ orgs("+args+") { nodes { id } } }", nil); a.code() != "INVALID" || a.Errors[0].Extensions["field"] != field {
			t.Errorf("%s is answered %s", args, a.text)
		}
	}
}

func TestOneOfEachIsFoundOrNull(t *testing.T) {
	r := newRig(t)
	none := func(prefix string) string { return domain.NewID(prefix, "a", "b", "c") }
	for field, id := range map[string]string{"org": none("org"), "tenant": none("ten"), "plane": none("pln"), "saga": none("sag")} {
		if a := r.must(fmt.Sprintf("{ %s(id: %q) { id } }", field, id), nil); string(a.Data) != fmt.Sprintf(`{"%s":null}`, field) {
			t.Errorf("%s is answered %s", field, a.text)
		}
		if a := r.ask(fmt.Sprintf("{ %s(id: %q) { id } }", field, "x_"+id), nil); a.code() != "INVALID" || a.Errors[0].Extensions["field"] != "id" {
			t.Errorf("%s is answered %s", field, a.text)
		}
	}
	if a := r.must(`{ tier(key: "none") { id } }`, nil); string(a.Data) != `{"tier":null}` {
		t.Errorf("answered %s", a.text)
	}
}

func TestAtLeastWaitsAndThenSaysThatItLags(t *testing.T) {
	r := newRig(t)
	r.anOrg()
	query := `query($p: Position) { orgs(atLeast: $p) { nodes { id } } tiers { nodes { id } } }`
	next := domain.Position{Epoch: epoch, Commit: 200}.String()
	r.log.hold(true)
	r.command1(t)
	answers := make(chan answer)
	ask := func() { answers <- r.ask(query, map[string]any{"p": next}) }

	go ask()
	a := r.untilLate(answers)
	if a.code() != "PROJECTION_LAGGING" || a.Errors[0].Extensions["retryAfterMs"] == nil || strings.Contains(string(a.Data), "org_") {
		t.Errorf("answered %s", a.text)
	}
	go ask()
	r.log.hold(false)
	a = <-answers
	if len(a.Errors) > 0 || a.Extensions["position"] != next {
		t.Errorf("answered %s, want position %s", a.text, next)
	}
	for name, c := range map[string]struct{ position, code string }{
		"another epoch": {domain.Position{Epoch: domain.Epoch{Number: 1, ID: "other"}, Commit: 1}.String(), "STALE"},
		"no position":   {"17", "INVALID"},
		"nothing":       {"", "INVALID"},
	} {
		if a := r.ask(query, map[string]any{"p": c.position}); a.code() != c.code {
			t.Errorf("%s is answered %s", name, a.text)
		}
	}
}

// command1 appends one event that the read side may not see yet.
func (r *rig) command1(t *testing.T) {
	t.Helper()
	r.must(`mutation { publishTier(input: { tierKey: "later", idempotencyKey: "l" }) { position } }`, nil)
}

func TestAnOperationReadsOneSnapshotInFewQueries(t *testing.T) {
	r := newRig(t)
	tier := r.aTier("standard")
	r.aTier("other")
	planeID, second := r.aPlane(), r.aPlane()
	var orgs []string
	for i := range 20 {
		if i%5 == 0 {
			orgs = append(orgs, r.anOrg())
		}
		id, sagaID := r.aTenant(orgs[i/5], []string{tier, "other"}[i%2], "t-"+itoa(i)+"x")
		r.begins(tenant.Onboarding, sagaID, id, saga.Asked{Step: "reserve slug", Attempt: 1, CommandID: "c"}, saga.Answered{Step: "reserve slug", CommandID: "c"},
			saga.Chosen{Step: "choose plane"})
		r.command(tenant.Place{TenantID: id, Change: 1, PlaneID: []string{planeID, second}[i%2]})
	}
	fields := `id tier { key latest { name } } plane { name } org { name parent { id } } saga { state steps { name state } tenant { plane { id } } org { id } }`
	for name, c := range map[string]struct {
		query string
		want  int64
	}{
		"tenants as nodes": {"{ tenants(first: 20) { nodes { " + fields + " } } }", 6}, // page, orgs, planes, tiers, sagas, steps; the sagas' tenants are there already
		"tenants in edges": {"{ tenants(first: 20) { edges { node { " + fields + " } } } }", 6},
		"sagas with steps": {"{ sagas { nodes { id steps { name } } } }", 2},
		"one of each":      {fmt.Sprintf("{ a: org(id: %q) { id } b: org(id: %q) { id } }", orgs[0], orgs[1]), 2},
		"nothing":          {"{ __typename }", 0},
	} {
		t.Run(name, func(t *testing.T) {
			queries, opens := r.read.queries.Load(), r.read.opens.Load()
			a := r.must(c.query, nil)
			if strings.Contains(a.text, `"org":null`) || strings.Contains(a.text, `"saga":null`) || strings.Contains(a.text, `"steps":[]`) {
				t.Errorf("something is missing: %.300s", a.text)
			}
			if n := r.read.queries.Load() - queries; n != c.want {
				t.Errorf("%d queries, want %d", n, c.want)
			}
			if n := r.read.opens.Load() - opens; n > min(c.want, 1) {
				t.Errorf("%d snapshots", n)
			}
		})
	}
}

func TestStepsShowWhatBecameOfThem(t *testing.T) {
	r := newRig(t)
	id, sagaID := r.aTenant(r.anOrg(), r.aTier("standard"), "first")
	r.begins(tenant.Onboarding, sagaID, id, saga.Asked{Step: "reserve slug", Attempt: 1, CommandID: "c"}, saga.Answered{Step: "reserve slug", CommandID: "c"},
		saga.Refused{Step: "choose plane", Code: "capacity_exhausted"}, saga.Turned{Step: "choose plane", Code: "capacity_exhausted"},
		saga.Asked{Step: "reserve slug", Undo: true, Attempt: 1, CommandID: "d"})
	a := r.must(`query($id: ID!) { saga(id: $id) { state code step steps { name state attempt startedAt finishedAt lastError } finishedAt } }`, map[string]any{"id": sagaID})
	var s struct {
		State, Code, Step string
		FinishedAt        *string
		Steps             []struct {
			Name, State           string
			Attempt               int
			StartedAt, FinishedAt *string
			LastError             *string
		}
	}
	a.into(t, &s, "saga")
	if s.State != "undoing" || s.Code != "capacity_exhausted" || s.Step != "reserve slug" || len(s.Steps) != 2 || s.FinishedAt != nil {
		t.Fatalf("answered %s", a.text)
	}
	if one := s.Steps[0]; one.Name != "reserve slug" || one.State != "undoing" || one.FinishedAt != nil || one.LastError != nil || !strings.HasSuffix(*one.StartedAt, "Z") {
		t.Errorf("answered %s", a.text)
	}
	if two := s.Steps[1]; two.Name != "choose plane" || two.State != "failed" || *two.LastError != "capacity_exhausted" || two.FinishedAt == nil {
		t.Errorf("answered %s", a.text)
	}
}

func TestAFaultIsAnIDInTheLogAndNothingElse(t *testing.T) {
	r := newRig(t)
	r.read.broken.Store(errBox{errors.New("pq: password of tenure_app is hunter2")})
	a := r.ask(`{ orgs { nodes { id } } }`, nil)
	id, _ := a.Errors[0].Extensions["id"].(string)
	if a.code() != "INTERNAL" || id == "" || strings.Contains(a.text, "hunter2") || strings.Contains(a.text, "pq:") {
		t.Errorf("answered %s", a.text)
	}
	if logged := r.logs.String(); !strings.Contains(logged, id) || !strings.Contains(logged, "hunter2") {
		t.Errorf("the log has %s", logged)
	}
	r.read.broken.Store(errBox{domain.Unavailable("the read side does not answer", errors.New("hunter2"))})
	if a := r.ask(`{ orgs { nodes { id } } }`, nil); a.code() != "UNAVAILABLE" || strings.Contains(a.text, "hunter2") {
		t.Errorf("answered %s", a.text)
	}
	r.read.broken.Store(errBox{})
	r.must(`{ orgs { nodes { id } } }`, nil)
}

func TestAPanicIsAFaultToo(t *testing.T) {
	r := newRig(t)
	r.aTier("standard")
	r.read.panics.Store(true)
	for _, query := range []string{`{ tiers { nodes { id } } }`, `{ tier(key: "standard") { id } }`} {
		if a := r.ask(query, nil); a.code() != "INTERNAL" || strings.Contains(a.text, "hunter2") || a.Errors[0].Extensions["id"] == nil {
			t.Errorf("answered %s", a.text)
		}
	}
	r.read.panics.Store(false)
	r.must(`{ tier(key: "standard") { id } }`, nil)
	if !strings.Contains(r.logs.String(), "hunter2") {
		t.Error("the panic was not logged")
	}
}
