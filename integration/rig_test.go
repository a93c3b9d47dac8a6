package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tenure-dev/tenure/adapters/app"
	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/domain/reservation"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/domain/tenant"
)

// patience is how long a suite waits for what must come.
const patience = 3 * time.Minute

// TestMain runs the suites or, in a process that the kill suite has started, the system that is to be killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		os.Exit(victim(dir))
	}
	code := m.Run()
	if binaryDir != "" {
		_ = os.RemoveAll(binaryDir)
	}
	os.Exit(code)
}

// system is a running dev in this process, as its users see it.
type system struct {
	*client
	config app.DevConfig
	dir    string
	stop   func() error // ends it and gives what Dev returned
}

// startSystem runs dev until the test ends, or until it is stopped.
func startSystem(t *testing.T, c app.DevConfig) *system {
	t.Helper()
	s, err := runSystem(t, c)
	if s != nil {
		t.Cleanup(func() {
			if err := s.stop(); err != nil {
				t.Errorf("dev: %v", err)
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func runSystem(t *testing.T, c app.DevConfig) (*system, error) {
	c.HTTP, c.Node, c.Gateway, c.Version = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "suite"
	c.Logger = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := app.Dev(ctx, c, in)
		_ = in.CloseWithError(errors.Join(io.EOF, err))
		done <- err
	}()
	s := &system{config: c, dir: c.Dir, stop: sync.OnceValue(func() error {
		cancel()
		return <-done
	})}
	err := awaitReady(out)
	if err == nil {
		s.client, err = newClient(c.Dir)
	}
	return s, err
}

// awaitReady reads what dev prints: a line with the token, then ready.
func awaitReady(out io.Reader) error {
	lines := bufio.NewScanner(out)
	var all []string
	for lines.Scan() {
		all = append(all, lines.Text())
		if strings.HasPrefix(lines.Text(), "ready http://") {
			if len(all) != 2 || !strings.HasPrefix(all[0], "token ") {
				return fmt.Errorf("dev printed %q", all)
			}
			return nil
		}
	}
	return fmt.Errorf("dev has ended before it was ready: %w; it printed %q", lines.Err(), all)
}

// testWriter sends a logger's lines to a test's log, for as long as the test runs.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(line []byte) (int, error) {
	if w.t.Context().Err() == nil { // else the test may be over
		w.t.Log(strings.TrimSpace(string(line)))
	}
	return len(line), nil
}

// ---- GraphQL

// client is an operator's, for one run of a dev.
type client struct {
	url, token, store string
	http              *http.Client
}

// newClient reads client.json, as the command line does.
func newClient(dir string) (*client, error) {
	text, err := os.ReadFile(filepath.Join(dir, app.ClientFile))
	if err != nil {
		return nil, err
	}
	var known app.Client
	if err := json.Unmarshal(text, &known); err != nil {
		return nil, err
	}
	return &client{known.API + "/graphql", known.Token, known.EventStore, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 128}}}, nil
}

type object = map[string]any

// answer is what GraphQL answers.
type answer struct {
	Data   object `json:"data"`
	Errors []struct {
		Message    string `json:"message"`
		Path       []any  `json:"path"`
		Extensions object `json:"extensions"`
	} `json:"errors"`
	Extensions object `json:"extensions"`
	status     int
}

func (c *client) request(ctx context.Context, query string, variables object) (*http.Request, error) {
	body, err := json.Marshal(object{"query": query, "variables": variables})
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+c.token)
	return r, nil
}

func (c *client) send(r *http.Request) (a answer, err error) {
	resp, err := c.http.Do(r)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	a.status = resp.StatusCode
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return a, fmt.Errorf("status %d: %w", resp.StatusCode, err)
	}
	return a, nil
}

// ask sends a document.
func (c *client) ask(ctx context.Context, query string, variables object) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := c.request(ctx, query, variables)
	if err != nil {
		return answer{}, err
	}
	return c.send(r)
}

// query is ask for what must be answered.
func (c *client) query(t *testing.T, query string, variables object) object {
	t.Helper()
	a, err := c.ask(t.Context(), query, variables)
	if err != nil || len(a.Errors) > 0 {
		t.Fatalf("%s\n%v: %v, %+v", query, variables, err, a.Errors)
	}
	return a.Data
}

const (
	tenantFields = "id slug phase revision tier { key version } plane { id } org { id } causes { kind reference } saga { id } rejection { code step }"
	sagaFields   = "id name state code step revision steps { name state attempt startedAt finishedAt lastError }"
	planeFields  = "id name phase revision capacity { unit total used } agent { state session }"
)

// answered is what each mutation is asked for.
var answered = map[string]string{
	"registerOrg": "org { id slug }", "publishTier": "tier { key version }", "deprecateTier": "tier { key phase }",
	"requestTenant": "tenant { " + tenantFields + " } saga { " + sagaFields + " }",
	"suspendTenant": "tenant { " + tenantFields + " } saga { " + sagaFields + " }",
	"resumeTenant":  "tenant { " + tenantFields + " } saga { " + sagaFields + " }", "offboardTenant": "tenant { " + tenantFields + " } saga { " + sagaFields + " }",
	"registerPlane": "plane { " + planeFields + " }", "cordonPlane": "plane { " + planeFields + " }", "uncordonPlane": "plane { " + planeFields + " }",
	"createJoinToken": "token expiresAt",
	"retrySaga":       "saga { " + sagaFields + " }", "cancelSaga": "saga { " + sagaFields + " }",
}

func mutation(name string) string {
	input := strings.ToUpper(name[:1]) + name[1:] + "Input"
	return fmt.Sprintf("mutation($input: %s!) { %s(input: $input) { %s position repeated userErrors { message code path phase allowed expected actual } } }",
		input, name, answered[name])
}

// change sends a mutation and gives its payload, whatever it says.
func (c *client) change(t *testing.T, name string, input object) object {
	t.Helper()
	payload, _ := c.query(t, mutation(name), object{"input": input})[name].(object)
	return payload
}

// do is change for a mutation that must be carried out.
func (c *client) do(t *testing.T, name string, input object) object {
	t.Helper()
	payload := c.change(t, name, input)
	if problems, _ := payload["userErrors"].([]any); len(problems) > 0 {
		t.Fatalf("%s %v: %v", name, input, problems)
	}
	if text(payload, "position") == "" {
		t.Fatalf("%s %v: no position in %v", name, input, payload)
	}
	return payload
}

// refused is change for a mutation that must be refused; it gives the one user error.
func (c *client) refused(t *testing.T, name string, input object) object {
	t.Helper()
	payload := c.change(t, name, input)
	problems, _ := payload["userErrors"].([]any)
	if len(problems) != 1 || payload["position"] != nil {
		t.Fatalf("%s %v: answered %v", name, input, payload)
	}
	problem, _ := problems[0].(object)
	return problem
}

// text is field for a string.
func text(o any, path ...string) string { s, _ := field(o, path...).(string); return s }

// errWatchEnded says that a subscription has ended before what was waited for.
var errWatchEnded = errors.New("the subscription has ended")

// watch follows a subscription, tenantChanged or sagaChanged, over server-sent events until the object is as wanted.
func (c *client) watch(ctx context.Context, name, id string, wanted func(object) bool) (last object, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	fields := tenantFields
	if name == "sagaChanged" {
		fields = sagaFields
	}
	r, err := c.request(ctx, fmt.Sprintf("subscription($id: ID!) { %s(id: $id) { %s } }", name, fields), object{"id": id})
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "text/event-stream")
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, is := strings.CutPrefix(lines.Text(), "data:")
		if !is || strings.TrimSpace(data) == "" {
			continue
		}
		var a answer
		if err := json.Unmarshal([]byte(data), &a); err != nil {
			return last, err
		}
		if len(a.Errors) > 0 {
			return last, fmt.Errorf("%s %s: %+v", name, id, a.Errors)
		}
		last, _ = a.Data[name].(object)
		if wanted(last) {
			return last, nil
		}
	}
	return last, errors.Join(errWatchEnded, lines.Err(), ctx.Err())
}

// sagaUntil waits until a saga is in one of those states.
func (c *client) sagaUntil(t *testing.T, id string, states ...string) object {
	t.Helper()
	last, err := c.watch(t.Context(), "sagaChanged", id, in("state", states))
	if err != nil {
		t.Fatalf("saga %s is not %v: %v; last seen as %v", id, states, err, last)
	}
	return last
}

// tenantUntil waits until a tenant is in one of those phases.
func (c *client) tenantUntil(t *testing.T, id string, phases ...string) object {
	t.Helper()
	last, err := c.watch(t.Context(), "tenantChanged", id, in("phase", phases))
	if err != nil {
		t.Fatalf("tenant %s is not %v: %v; last seen as %v", id, phases, err, last)
	}
	return last
}

func in(name string, values []string) func(object) bool {
	return func(o object) bool {
		for _, v := range values {
			if text(o, name) == v {
				return true
			}
		}
		return false
	}
}

// settled waits until the saga has ended, and tells its state.
func (c *client) settled(t *testing.T, id string) string {
	t.Helper()
	return text(c.sagaUntil(t, id, "succeeded", "failed", "superseded"), "state")
}

// pages reads every object of a connection as of the log's head.
func (c *client) pages(t *testing.T, log *eventstore.Log, name, fields string) (all []object) {
	t.Helper()
	at, after := c.head(t, log), any(nil)
	for {
		out := c.query(t, fmt.Sprintf("query($after: String, $at: Position) { %s(first: 100, after: $after, atLeast: $at) { nodes { %s } pageInfo { hasNextPage endCursor } } }",
			name, fields), object{"after": after, "at": at})
		nodes, _ := field(out, name, "nodes").([]any)
		for _, n := range nodes {
			o, _ := n.(object)
			all = append(all, o)
		}
		if more, _ := field(out, name, "pageInfo", "hasNextPage").(bool); !more {
			return all
		}
		after = field(out, name, "pageInfo", "endCursor")
	}
}

// head is the position of the log's last event, as callers write it.
func (c *client) head(t *testing.T, log *eventstore.Log) string {
	t.Helper()
	a, err := c.ask(t.Context(), "{ planes(first: 1) { nodes { id } } }", nil)
	if err != nil {
		t.Fatal(err)
	}
	at, err := domain.ParsePosition(text(a.Extensions, "position"))
	if err != nil {
		t.Fatalf("%v: %v", a, err)
	}
	if at.Commit, err = log.Head(t.Context()); err != nil {
		t.Fatal(err)
	}
	return at.String()
}

// ---- the log

func (c *client) openLog(t *testing.T) *eventstore.Log {
	t.Helper()
	log, err := eventstore.Open(t.Context(), eventstore.Config{URL: c.store, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close(context.Background()) })
	return log
}

// appended lists what the log has got after a place, but for what the gateway thinks of agents: that comes with time.
func appended(t *testing.T, log *eventstore.Log, after uint64) (all []domain.Recorded) {
	t.Helper()
	for e, err := range log.ReadAll(t.Context(), after, 1_000_000) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type != "plane.agent.judged" {
			all = append(all, e)
		}
	}
	return all
}

// world is what the log adds up to, folded without any of the system's parts but the aggregates.
type world struct {
	events   []domain.Recorded
	tenants  map[string]tenant.State
	planes   map[string]plane.State
	sagas    map[string]saga.State
	holders  map[string]string // of slugs, by reservation id
	revision map[string]int64  // by stream
}

func foldLog(t *testing.T, log *eventstore.Log) world {
	t.Helper()
	w := world{nil, map[string]tenant.State{}, map[string]plane.State{}, map[string]saga.State{}, map[string]string{}, map[string]int64{}}
	registry := app.Registry()
	states := map[string]any{}
	for e, err := range log.ReadAll(t.Context(), 0, 10_000_000) {
		if err != nil {
			t.Fatal(err)
		}
		payload, err := registry.DecodeRecorded(e)
		if err != nil {
			t.Fatalf("%s in %s: %v", e.Type, e.Stream, err)
		}
		if next := w.revision[e.Stream]; e.Revision != next {
			t.Fatalf("%s: revision %d follows %d", e.Stream, e.Revision, next-1)
		}
		w.revision[e.Stream]++
		w.events = append(w.events, e)
		category, _ := domain.SplitStream(e.Stream)
		for _, a := range app.Aggregates {
			if a.Category != category {
				continue
			}
			if states[e.Stream] == nil {
				states[e.Stream] = a.Zero
			}
			states[e.Stream] = a.Evolve(states[e.Stream], payload)
		}
	}
	for stream, state := range states {
		_, id := domain.SplitStream(stream)
		switch s := state.(type) {
		case tenant.State:
			w.tenants[id] = s
		case plane.State:
			w.planes[id] = s
		case saga.State:
			w.sagas[s.Started.Saga] = s
		case reservation.State:
			if s.Phase == reservation.Taken {
				w.holders[id] = s.Holder
			}
		}
	}
	return w
}

// living tells whether a tenant is there for good.
func living(s tenant.State) bool { return s.Phase == tenant.Active || s.Phase == tenant.OnHold }

// check compares what the streams say with one another, once every saga has ended: nothing lost, nothing left over.
func (w world) check(t *testing.T) {
	t.Helper()
	for id, s := range w.sagas {
		if s.Ended == nil {
			t.Errorf("saga %s (%s of %s) has not ended: %s at %s", id, s.Started.Name, s.Started.Tenant, s.Phase(), s.Step)
		}
	}
	slugs, used, reserved := map[string]string{}, map[string]map[string]int64{}, map[string][]string{}
	for id, s := range w.tenants {
		if s.Slot != (tenant.Slot{}) {
			t.Errorf("tenant %s (%s): its change slot is taken by %+v", id, s.Phase, s.Slot)
		}
		switch s.Phase {
		case tenant.Gone, tenant.TurnedAway:
			continue
		case tenant.Active, tenant.OnHold:
		default:
			t.Errorf("tenant %s is %s", id, s.Phase)
		}
		if (s.Phase == tenant.OnHold) != (len(s.Causes) > 0) {
			t.Errorf("tenant %s is %s with the causes %v", id, s.Phase, s.Causes)
		}
		slugs[reservation.SlugID(s.Org, s.Slug)] = id
		if used[s.Plane] == nil {
			used[s.Plane] = map[string]int64{}
		}
		reserved[s.Plane] = append(reserved[s.Plane], id)
		for unit, n := range s.Offer.Cost {
			used[s.Plane][unit] += n
		}
	}
	if diff := cmp.Diff(slugs, w.holders); diff != "" {
		t.Errorf("slugs of living tenants and who holds them, -want +got:\n%s", diff)
	}
	for id, p := range w.planes {
		got := map[string]int64{}
		for unit, n := range p.Used.All() {
			if n != 0 {
				got[unit] = n
			}
		}
		if diff := cmp.Diff(used[id], got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("plane %s: the costs of living tenants and the units in use, -want +got:\n%s", id, diff)
		}
		var holders, wanted []string
		for who := range p.Reservations.All() {
			holders = append(holders, who)
		}
		for who := range p.Tenants.All() {
			wanted = append(wanted, who)
		}
		slices.Sort(holders)
		slices.Sort(wanted)
		slices.Sort(reserved[id])
		if diff := cmp.Diff(reserved[id], holders, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("plane %s: living tenants and the ledger's lines, -want +got:\n%s", id, diff)
		}
		if diff := cmp.Diff(reserved[id], wanted, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("plane %s: living tenants and desired states, -want +got:\n%s", id, diff)
		}
		for _, op := range p.Open() {
			t.Errorf("plane %s: operation %s (%s of %s) is open", id, op.ID, op.Kind, op.Tenant)
		}
	}
}

// commandsRunOnce checks that no command's events stand in the log twice, and gives the commit positions by command id.
func (w world) commandsRunOnce(t *testing.T) map[string][]domain.Meta {
	t.Helper()
	all := map[string][]domain.Meta{}
	for _, e := range w.events {
		if category, _ := domain.SplitStream(e.Stream); e.CommandID == "" || category == saga.Category && e.InputHash == "" {
			continue // what a runner writes itself
		}
		before := all[e.CommandID]
		if n := len(before); n > 0 && (before[n-1].Stream != e.Stream || before[n-1].Revision+1 != e.Revision) {
			t.Errorf("command %s has run twice: %s of %s@%d after %s@%d", e.CommandID, e.Type, e.Stream, e.Revision, before[n-1].Stream, before[n-1].Revision)
		}
		all[e.CommandID] = append(before, e.Meta)
	}
	return all
}

// shown compares every row that GraphQL shows with the fold of its stream.
func (c *client) shown(t *testing.T, log *eventstore.Log) world {
	t.Helper()
	tenants := c.pages(t, log, "tenants", tenantFields)
	planes := c.pages(t, log, "planes", planeFields)
	seen := c.pages(t, log, "sagas", "id name state code")
	w := foldLog(t, log)
	if len(tenants) != len(w.tenants) || len(planes) != len(w.planes) || len(seen) != len(w.sagas) {
		t.Errorf("%d tenants, %d planes and %d sagas are shown, the log has %d, %d and %d", len(tenants), len(planes), len(seen), len(w.tenants), len(w.planes), len(w.sagas))
	}
	for _, row := range tenants {
		id := text(row, "id")
		s, known := w.tenants[id]
		if !known {
			t.Errorf("tenant %s is not in the log", id)
			continue
		}
		causes := []any{}
		for _, cause := range s.Causes {
			causes = append(causes, object{"kind": cause.Kind, "reference": cause.Reference})
		}
		want := object{"phase": string(s.Phase), "slug": s.Slug, "org": s.Org, "plane": s.Plane, "tier": s.Offer.Key, "version": float64(s.Offer.Version),
			"saga": s.Slot.Saga, "causes": causes, "revision": float64(w.revision["tenant-"+id] - 1)}
		got := object{"phase": text(row, "phase"), "slug": text(row, "slug"), "org": text(row, "org", "id"), "plane": text(row, "plane", "id"),
			"tier": text(row, "tier", "key"), "version": field(row, "tier", "version"), "saga": text(row, "saga", "id"), "causes": row["causes"], "revision": row["revision"]}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("tenant %s, -log +GraphQL:\n%s", id, diff)
		}
	}
	for _, row := range planes {
		id := text(row, "id")
		used := map[string]float64{}
		for _, line := range row["capacity"].([]any) {
			used[text(line, "unit")], _ = field(line, "used").(float64)
		}
		for unit, n := range w.planes[id].Used.All() {
			if used[unit] != float64(n) {
				t.Errorf("plane %s: %v %s in use, the log says %d", id, used[unit], unit, n)
			}
		}
	}
	for _, row := range seen {
		s, want := w.sagas[text(row, "id")], ""
		switch {
		case s.Ended != nil:
			want = s.Ended.Outcome
		default:
			want = string(s.Phase())
		}
		if text(row, "state") != want || text(row, "name") != s.Started.Name {
			t.Errorf("saga %v, the log says %s %s", row, s.Started.Name, want)
		}
	}
	return w
}
