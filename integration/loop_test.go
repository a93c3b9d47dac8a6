package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tenure-dev/tenure/adapters/app"
	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/agent"
	"github.com/tenure-dev/tenure/agent/drivers/postgres"
	"github.com/tenure-dev/tenure/domain"
)

// loop is the whole system on real parts, and what its tests make in it.
type loop struct {
	*system
	t       *testing.T
	log     *eventstore.Log
	org     string
	tenants map[string]string // ids, by isolation; pool-2 is a second pooled one
	driver  *postgres.Driver  // to read secrets with
	asked   object            // the pooled one's first answer
}

func TestTheWholeLoop(t *testing.T) {
	theWholeLoop(t, app.DevConfig{Dir: t.TempDir(), Driver: "postgres"})
}

func theWholeLoop(t *testing.T, c app.DevConfig) {
	l := &loop{t: t, system: startSystem(t, c), tenants: map[string]string{}}
	l.log = l.openLog(t)
	for _, part := range []struct {
		name string
		test func(*loop, *testing.T)
	}{
		{"tenants of every isolation become active", (*loop).onboard},
		{"a repeated key gives the same answer", (*loop).repeat},
		{"each tenant has what is its own", (*loop).isolation},
		{"bad input is refused with its code and field, and appends nothing", (*loop).badInput},
		{"a suspended tenant is shut out until it is resumed", (*loop).suspend},
		{"of a hundred racing requests for one slug one wins", (*loop).race},
		{"a restart shows the same system", (*loop).restart},
		{"an offboarded tenant is gone, and nothing else", (*loop).offboard},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.test(l, t) }) {
			t.FailNow()
		}
	}
}

func slots(n int) []any { return []any{object{"unit": "slots", "amount": n}} }

func (l *loop) onboard(t *testing.T) {
	l.org = text(l.do(t, "registerOrg", object{"slug": "acme", "idempotencyKey": "acme"}), "org", "id")
	for n, isolation := range []string{"pool", "bridge", "silo"} {
		l.do(t, "publishTier", object{"tierKey": "tier-" + isolation, "isolation": isolation, "cost": slots(n + 1), "idempotencyKey": isolation,
			"quotas": []any{object{"unit": "connections", "amount": 4}}})
	}
	for slug, tier := range map[string]string{"pool": "tier-pool", "pool-2": "tier-pool", "bridge": "tier-bridge", "silo": "tier-silo"} {
		payload := l.do(t, "requestTenant", object{"orgId": l.org, "slug": slug, "tierKey": tier, "region": "local", "idempotencyKey": slug})
		l.tenants[slug] = text(payload, "tenant", "id")
		if slug == "pool" {
			l.asked = payload
		}
		var states []string
		last, err := l.watch(t.Context(), "sagaChanged", text(payload, "saga", "id"), func(o object) bool {
			states = append(states, text(o, "state"))
			return text(o, "state") != "running"
		})
		if err != nil || text(last, "state") != "succeeded" {
			t.Fatalf("%s: %v, %v", slug, last, err)
		}
		if len(states) < 5 {
			t.Errorf("%s: only %v were to be seen of its saga", slug, states)
		}
		for _, step := range last["steps"].([]any) {
			if text(step, "state") != "done" {
				t.Errorf("%s: step %v", slug, step)
			}
		}
		got := l.tenantUntil(t, l.tenants[slug], "active")
		if text(got, "slug") != slug || text(got, "tier", "key") != tier || text(got, "org", "id") != l.org || text(got, "plane", "id") == "" || got["saga"] != nil {
			t.Errorf("%s is %v", slug, got)
		}
	}
	if got := l.used(t); got != 1+1+2+3 {
		t.Errorf("%v slots are in use", got)
	}
}

// used is how many slots of the plane are, as GraphQL and the log have it.
func (l *loop) used(t *testing.T) float64 {
	t.Helper()
	planes := l.pages(t, l.log, "planes", planeFields)
	if len(planes) != 1 {
		t.Fatalf("the planes are %v", planes)
	}
	for _, line := range planes[0]["capacity"].([]any) {
		if text(line, "unit") == "slots" {
			n, _ := field(line, "used").(float64)
			return n
		}
	}
	t.Fatalf("the plane has no slots: %v", planes[0])
	return 0
}

func (l *loop) repeat(t *testing.T) {
	before, err := l.log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again := l.do(t, "requestTenant", object{"orgId": l.org, "slug": "pool", "tierKey": "tier-pool", "region": "local", "idempotencyKey": "pool"})
	if again["repeated"] != true || text(again, "position") != text(l.asked, "position") || text(again, "tenant", "id") != l.tenants["pool"] ||
		text(again, "saga", "id") != text(l.asked, "saga", "id") {
		t.Errorf("answered %v, first %v", again, l.asked)
	}
	if all := appended(t, l.log, before); len(all) > 0 {
		t.Errorf("appended %v", all)
	}
}

// secret is a tenant's URL, got as `tenure agent secret` gets it.
func (l *loop) secret(t *testing.T, id string) (string, error) {
	t.Helper()
	if l.driver == nil { // once, for it takes its time
		driver, err := planeOf(t.Context(), l.dir)
		if err != nil {
			t.Fatal(err)
		}
		l.driver = driver
		l.t.Cleanup(func() { _ = driver.Close() })
	}
	return agent.Secret(t.Context(), filepath.Join(l.dir, "agent"), id, l.driver)
}

// planeOf opens the driver of the agent of the dev on dir, as the command line does.
func planeOf(ctx context.Context, dir string) (*postgres.Driver, error) {
	dir = filepath.Join(dir, "agent")
	settings, err := agent.LoadSettings(dir)
	if err != nil {
		return nil, err
	}
	key, err := agent.EnsurePlaneKey(dir)
	if err != nil {
		return nil, err
	}
	return postgres.Open(ctx, postgres.Options{URL: settings.DriverOptions["postgres"], PlaneKey: key, Logger: quiet()})
}

func (l *loop) connect(t *testing.T, slug string) *pgx.Conn {
	t.Helper()
	url, err := l.secret(t, l.tenants[slug])
	if err != nil {
		t.Fatalf("%s: %v", slug, err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatalf("%s: %v", slug, err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// plane is the superuser's connection to the data plane, for what only it can see.
func (l *loop) plane(t *testing.T) *pgx.Conn {
	t.Helper()
	settings, err := agent.LoadSettings(filepath.Join(l.dir, "agent"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), settings.DriverOptions["postgres"])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func one[T any](t *testing.T, conn *pgx.Conn, query string, args ...any) (v T) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

func (l *loop) isolation(t *testing.T) {
	places := map[string]string{}
	for slug, id := range l.tenants {
		conn := l.connect(t, slug)
		if user := one[string](t, conn, "select current_user"); user != id {
			t.Errorf("%s logs in as %s", slug, user)
		}
		for _, name := range []string{"first", "second"} {
			if _, err := conn.Exec(t.Context(), "insert into customers (name, email) values ($1, $2)", slug+" "+name, name+"@example.com"); err != nil {
				t.Fatalf("%s: %v", slug, err)
			}
		}
		places[slug] = one[string](t, conn, "select current_database() || ' ' || current_schema()")
		if limit := one[int](t, conn, "select rolconnlimit from pg_roles where rolname = current_user"); limit != 4 {
			t.Errorf("%s may have %d connections", slug, limit)
		}
	}
	for slug := range l.tenants { // when all have written
		conn := l.connect(t, slug)
		if rows := one[string](t, conn, "select string_agg(name, ', ' order by name) from customers"); rows != slug+" first, "+slug+" second" {
			t.Errorf("%s sees %s", slug, rows)
		}
		if slug == "pool" {
			for _, attack := range []string{
				"set row_security = off", "update customers set tenant = '" + l.tenants["pool-2"] + "'",
				"insert into customers (tenant, name) values ('" + l.tenants["pool-2"] + "', 'x')",
			} {
				_, err := conn.Exec(t.Context(), attack)
				if strings.HasPrefix(attack, "set ") {
					_, err = conn.Exec(t.Context(), "select * from customers")
				}
				if err == nil {
					t.Errorf("%s: went through", attack)
				}
			}
			for _, attack := range []string{"set role " + l.tenants["pool-2"], "alter role current_user nosuperuser connection limit -1",
				"alter table customers disable row level security", "create schema mine", "create table public.mine (x int)"} {
				if _, err := conn.Exec(t.Context(), attack); err == nil {
					t.Errorf("%s: went through", attack)
				}
			}
		}
	}
	if places["pool"] != places["pool-2"] || strings.Fields(places["bridge"])[1] != l.tenants["bridge"] || strings.Fields(places["silo"])[0] != l.tenants["silo"] {
		t.Errorf("they are at %v", places)
	}
	// Another's database is closed to a login.
	url, err := l.secret(t, l.tenants["pool"])
	if err != nil {
		t.Fatal(err)
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	for _, database := range []string{l.tenants["silo"], strings.Fields(places["bridge"])[0], "postgres", "template1"} {
		config.Database = database
		if conn, err := pgx.ConnectConfig(t.Context(), config); err == nil {
			_ = conn.Close(t.Context())
			t.Errorf("the pooled tenant came into %s", database)
		}
	}
	if _, err := l.secret(t, domain.ID(domain.TenantID, domain.UUID{})); agentCode(err) != agent.CodeNotFound {
		t.Errorf("the secret of nobody: %v", err)
	}
}

func agentCode(err error) any {
	var e *agent.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return nil
}

func (l *loop) badInput(t *testing.T) {
	id := l.tenants["bridge"]
	nobody := func(prefix string) string { return domain.ID(prefix, domain.UUID{}) }
	l.do(t, "publishTier", object{"tierKey": "giant", "cost": slots(1_000_000), "idempotencyKey": "giant"})
	turned := l.do(t, "requestTenant", object{"orgId": l.org, "slug": "turned", "tierKey": "tier-pool", "idempotencyKey": "turned"})
	gone := text(turned, "tenant", "id")
	l.settled(t, text(turned, "saga", "id"))
	l.settled(t, text(l.do(t, "offboardTenant", object{"tenantId": gone, "idempotencyKey": "turned-off"}), "saga", "id"))

	before, err := l.log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mutation   string
		input      object
		code, path string
	}{
		{"requestTenant", object{"orgId": l.org, "slug": "", "tierKey": "tier-pool"}, "INVALID", "input.slug"},
		{"requestTenant", object{"orgId": l.org, "slug": "Ünïcode", "tierKey": "tier-pool"}, "INVALID", "input.slug"},
		{"requestTenant", object{"orgId": l.org, "slug": "a'; drop table tenants; --", "tierKey": "tier-pool"}, "INVALID", "input.slug"},
		{"requestTenant", object{"orgId": "", "slug": "fine", "tierKey": "tier-pool"}, "INVALID", "input.orgId"},
		{"requestTenant", object{"orgId": nobody("org"), "slug": "fine", "tierKey": "tier-pool"}, "NOT_FOUND", "input.orgId"},
		{"requestTenant", object{"orgId": l.org, "slug": "fine", "tierKey": "no-such"}, "NOT_FOUND", "input.tierKey"},
		{"requestTenant", object{"orgId": l.org, "slug": "fine", "tierKey": ""}, "INVALID", "input.tierKey"},
		{"requestTenant", object{"orgId": l.org, "slug": "fine", "tierKey": "tier-pool", "region": "mars"}, "NOT_FOUND", "input.region"},
		{"requestTenant", object{"orgId": l.org, "slug": "fine", "tierKey": "giant"}, "CAPACITY_EXHAUSTED", "input.tierKey"},
		{"requestTenant", object{"orgId": l.org, "slug": "pool", "tierKey": "tier-pool"}, "ALREADY_EXISTS", "input.slug"},
		{"requestTenant", object{"orgId": l.org, "slug": "fine", "tierKey": "tier-pool", "expectedRevision": 3}, "CONFLICT", "input.expectedRevision"},
		{"requestTenant", object{"orgId": l.org, "slug": "other", "tierKey": "tier-pool", "idempotencyKey": "pool"}, "IDEMPOTENCY_KEY_REUSED", "input.idempotencyKey"},
		{"requestTenant", object{"orgId": l.org, "slug": "fine", "tierKey": "tier-pool", "idempotencyKey": ""}, "INVALID", "input.idempotencyKey"},
		{"suspendTenant", object{"tenantId": id, "expectedRevision": 999}, "CONFLICT", "input.expectedRevision"},
		{"suspendTenant", object{"tenantId": gone}, "NOT_ALLOWED", "input.tenantId"},
		{"resumeTenant", object{"tenantId": gone}, "NOT_ALLOWED", "input.tenantId"},
		{"suspendTenant", object{"tenantId": nobody("ten")}, "NOT_FOUND", "input.tenantId"},
		{"offboardTenant", object{"tenantId": "17"}, "INVALID", "input.tenantId"},
		{"publishTier", object{"tierKey": "x"}, "INVALID", "input.tierKey"},
		{"registerOrg", object{}, "INVALID", "input.name"},
		{"cordonPlane", object{"planeId": nobody("pln")}, "NOT_FOUND", "input.planeId"},
		{"retrySaga", object{"sagaId": nobody("sag")}, "NOT_FOUND", "input.sagaId"},
		{"cancelSaga", object{"sagaId": text(l.asked, "saga", "id")}, "NOT_ALLOWED", "input.sagaId"},
	} {
		if _, given := c.input["idempotencyKey"]; !given {
			c.input["idempotencyKey"] = "bad-input"
		}
		problem := l.refused(t, c.mutation, c.input)
		var path []string
		for _, p := range problem["path"].([]any) {
			path = append(path, p.(string))
		}
		if text(problem, "code") != c.code || strings.Join(path, ".") != c.path || text(problem, "message") == "" {
			t.Errorf("%s %v: %v, want %s at %s", c.mutation, c.input, problem, c.code, c.path)
		}
	}

	document, fine := mutation("registerOrg"), object{"input": object{"slug": "fine", "idempotencyKey": "fine"}}
	for name, c := range map[string]struct {
		variables object
		says      string
	}{
		"an unknown field":   {object{"input": object{"slug": "fine", "idempotencyKey": "k", "slog": "x"}}, "slog"},
		"no idempotency key": {object{"input": object{"slug": "fine"}}, "idempotencyKey"},
		"a number as text":   {object{"input": object{"slug": 17, "idempotencyKey": "k", "name": object{}}}, ""},
		"no input":           {nil, "input"},
	} {
		a, err := l.ask(t.Context(), document, c.variables)
		if err != nil || len(a.Errors) == 0 || text(a.Errors[0].Extensions, "code") != "INVALID" || !strings.Contains(fmt.Sprint(a.Errors[0]), c.says) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	for name, c := range map[string]struct {
		body, token string
		status      int
		code        string
	}{
		"malformed":  {`{"query": "{ orgs`, l.token, 400, "INVALID"},
		"no JSON":    {"\x00\xff", l.token, 400, "INVALID"},
		"empty":      {"", l.token, 400, "INVALID"},
		"10 MB":      {`{"query": "{ orgs { nodes { id } } }", "variables": {"x": "` + strings.Repeat("x", 10<<20) + `"}}`, l.token, 413, "TOO_LARGE"},
		"its token":  {`{"query": "{ orgs { nodes { id } } }"}`, "wrong", 401, "UNAUTHENTICATED"},
		"no token":   {`{"query": "{ orgs { nodes { id } } }"}`, "", 401, "UNAUTHENTICATED"},
		"a fragment": {`{"query": "{ ...f } fragment f on Query { ...f }"}`, l.token, 0, "INVALID"},
	} {
		r, err := l.request(t.Context(), document, fine)
		if err != nil {
			t.Fatal(err)
		}
		r.Body, r.GetBody, r.ContentLength = io.NopCloser(strings.NewReader(c.body)), nil, int64(len(c.body))
		r.Header.Set("Authorization", "Bearer "+c.token)
		if c.token == "" {
			r.Header.Del("Authorization")
		}
		a, err := l.send(r)
		if err != nil || len(a.Errors) == 0 || text(a.Errors[0].Extensions, "code") != c.code || c.status != 0 && a.status != c.status {
			t.Errorf("%s: status %d, %+v, %v; want %d %s", name, a.status, a.Errors, err, c.status, c.code)
		}
	}
	if resp, err := http.Get(strings.TrimSuffix(l.url, "/graphql") + "/livez"); err != nil || resp.StatusCode != 200 { //nolint:noctx // a probe
		t.Errorf("livez: %v, %v", resp, err)
	} else {
		_ = resp.Body.Close()
	}
	for _, e := range appended(t, l.log, before) {
		t.Errorf("appended: %s to %s", e.Type, e.Stream)
	}
}

func (l *loop) suspend(t *testing.T) {
	for slug, id := range l.tenants {
		open := l.connect(t, slug)
		payload := l.do(t, "suspendTenant", object{"tenantId": id, "reason": "late with the rent", "idempotencyKey": "suspend-" + slug})
		if state := l.settled(t, text(payload, "saga", "id")); state != "succeeded" {
			t.Fatalf("%s: the suspension has %s", slug, state)
		}
		if got := l.tenantUntil(t, id, "suspended"); len(got["causes"].([]any)) != 1 {
			t.Errorf("%s: %v", slug, got)
		}
		if err := open.Ping(t.Context()); err == nil {
			t.Errorf("%s: its open connection goes on", slug)
		}
		url, err := l.secret(t, id)
		if err != nil {
			t.Fatal(err)
		}
		var refusal *pgconn.PgError
		if _, err := pgx.Connect(t.Context(), url); !errors.As(err, &refusal) || refusal.Code != "28000" {
			t.Errorf("%s: a new connection: %v", slug, err)
		}
		// A second cause keeps it out when the first is cleared.
		billing := object{"kind": "billing", "reference": "inv-1"}
		if second := l.do(t, "suspendTenant", object{"tenantId": id, "cause": billing, "idempotencyKey": "billing-" + slug}); second["saga"] != nil {
			t.Errorf("%s: a second cause starts %v", slug, second["saga"])
		}
		if first := l.do(t, "resumeTenant", object{"tenantId": id, "idempotencyKey": "resume-" + slug}); first["saga"] != nil || text(first, "tenant", "phase") != "suspended" {
			t.Errorf("%s: clearing one of two: %v", slug, first)
		}
		last := l.do(t, "resumeTenant", object{"tenantId": id, "cause": billing, "idempotencyKey": "paid-" + slug})
		if state := l.settled(t, text(last, "saga", "id")); state != "succeeded" {
			t.Fatalf("%s: the resumption has %s", slug, state)
		}
		l.tenantUntil(t, id, "active")
		if rows := one[int](t, l.connect(t, slug), "select count(*) from customers"); rows != 2 {
			t.Errorf("%s has %d rows", slug, rows)
		}
	}
}

func (l *loop) race(t *testing.T) {
	before := l.used(t)
	payloads := make([]object, 100)
	var wg sync.WaitGroup
	for i := range payloads {
		wg.Go(func() {
			a, err := l.ask(t.Context(), mutation("requestTenant"), object{"input": object{"orgId": l.org, "slug": "wanted", "tierKey": "tier-pool", "idempotencyKey": fmt.Sprint("race-", i)}})
			if err == nil {
				payloads[i], _ = a.Data["requestTenant"].(object)
			}
		})
	}
	wg.Wait()
	active, turned, refused, winner := 0, 0, 0, ""
	for i, p := range payloads {
		problems, _ := p["userErrors"].([]any)
		switch {
		case p == nil:
			t.Errorf("request %d was not answered", i)
		case len(problems) > 0:
			if text(problems[0], "code") != "ALREADY_EXISTS" {
				t.Errorf("request %d: %v", i, problems)
			}
			refused++
		case l.settled(t, l.sagaOf(t, i, p)) == "succeeded":
			active++
			winner = domain.NewID(domain.TenantID, "operator", "tenant.request", fmt.Sprint("race-", i))
		default:
			turned++
		}
	}
	if active != 1 || turned+refused != 99 {
		t.Fatalf("%d are active, %d turned away, %d refused", active, turned, refused)
	}
	t.Logf("1 active, %d turned away by their sagas, %d refused at once", turned, refused)
	if got := l.used(t); got != before+1 {
		t.Errorf("%v slots in use, before %v", got, before)
	}
	l.shown(t, l.log).check(t)
	l.settled(t, text(l.do(t, "offboardTenant", object{"tenantId": winner, "idempotencyKey": "race-off"}), "saga", "id"))
	if got := l.used(t); got != before {
		t.Errorf("%v slots in use, before %v", got, before)
	}
}

// sagaOf is the saga of a request's answer; when read models were behind it, of its repetition.
func (l *loop) sagaOf(t *testing.T, i int, payload object) string {
	t.Helper()
	if id := text(payload, "saga", "id"); id != "" {
		return id
	}
	again := l.do(t, "requestTenant", object{"orgId": l.org, "slug": "wanted", "tierKey": "tier-pool", "idempotencyKey": fmt.Sprint("race-", i)})
	return text(again, "saga", "id")
}

func (l *loop) restart(t *testing.T) {
	token, tenants, sagas := l.token, l.pages(t, l.log, "tenants", tenantFields), l.pages(t, l.log, "sagas", sagaFields)
	position := l.head(t, l.log)
	_ = l.log.Close(t.Context())
	began := time.Now()
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the stop took %v", took)
	}
	next, err := runSystem(l.t, l.config) // until the whole test ends
	if next != nil {
		l.t.Cleanup(func() { _ = next.stop() })
	}
	if err != nil {
		t.Fatal(err)
	}
	l.system = next
	l.log = l.openLog(l.t)
	if l.token != token {
		t.Error("the token is another")
	}
	if a, err := l.ask(t.Context(), "query($at: Position) { orgs(atLeast: $at) { nodes { id } } }", object{"at": position}); err != nil || len(a.Errors) > 0 {
		t.Errorf("an old position: %v, %+v", err, a.Errors)
	}
	if diff := cmp.Diff(tenants, l.pages(t, l.log, "tenants", tenantFields)); diff != "" {
		t.Errorf("tenants, -before +after:\n%s", diff)
	}
	if diff := cmp.Diff(sagas, l.pages(t, l.log, "sagas", sagaFields)); diff != "" {
		t.Errorf("sagas, -before +after:\n%s", diff)
	}
	for slug := range l.tenants {
		if rows := one[int](t, l.connect(t, slug), "select count(*) from customers"); rows != 2 {
			t.Errorf("%s has %d rows", slug, rows)
		}
	}
}

func (l *loop) offboard(t *testing.T) {
	plane := l.plane(t)
	foreign := func(id string) string {
		return one[string](t, plane, "select coalesce(string_agg(rolname, ' ' order by rolname), '') from pg_roles where rolname <> $1", id)
	}
	for _, slug := range []string{"pool", "bridge", "silo", "pool-2"} {
		id := l.tenants[slug]
		open, others := l.connect(t, slug), foreign(id)
		url, err := l.secret(t, id)
		if err != nil {
			t.Fatal(err)
		}
		payload := l.do(t, "offboardTenant", object{"tenantId": id, "reason": "they left", "idempotencyKey": "off-" + slug})
		if state := l.settled(t, text(payload, "saga", "id")); state != "succeeded" {
			t.Fatalf("%s: the offboarding has %s", slug, state)
		}
		l.tenantUntil(t, id, "deleted")
		if err := open.Ping(t.Context()); err == nil {
			t.Errorf("%s: its open connection goes on", slug)
		}
		if _, err := pgx.Connect(t.Context(), url); err == nil {
			t.Errorf("%s: its login still works", slug)
		}
		if _, err := l.secret(t, id); agentCode(err) != agent.CodeNotFound {
			t.Errorf("%s: its secret: %v", slug, err)
		}
		if n := one[int](t, plane, "select (select count(*) from pg_roles where rolname = $1) + (select count(*) from pg_database where datname = $1)", id); n != 0 {
			t.Errorf("%s: a role or database is left", slug)
		}
		if now := foreign(id); now != others {
			t.Errorf("%s: other roles were %s and are %s", slug, others, now)
		}
		delete(l.tenants, slug)
		for other := range l.tenants {
			if rows := one[int](t, l.connect(t, other), "select count(*) from customers"); rows != 2 {
				t.Errorf("after %s, %s has %d rows", slug, other, rows)
			}
		}
	}
	if got := l.used(t); got != 0 {
		t.Errorf("%v slots are in use", got)
	}
	// The slug is free again.
	again := l.do(t, "requestTenant", object{"orgId": l.org, "slug": "pool", "tierKey": "tier-pool", "idempotencyKey": "pool-again"})
	if state := l.settled(t, text(again, "saga", "id")); state != "succeeded" {
		t.Errorf("the slug's next onboarding has %s", state)
	}
	w := l.shown(t, l.log)
	w.check(t)
	w.commandsRunOnce(t)
}
