package graphql_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/commands/commandstest"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/org"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/domain/reservation"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/domain/sink"
	"github.com/tenure-dev/tenure/domain/tenant"
	"github.com/tenure-dev/tenure/domain/tier"
	"github.com/tenure-dev/tenure/graphql"
	"github.com/tenure-dev/tenure/graphql/view"
)

const token = "the-operators-token"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epoch = domain.Epoch{Number: 1, ID: "e1"}

// rig is the API over a real Bus, real folds and a real live group, on a log and a store in memory.
type rig struct {
	t     *testing.T
	log   *tailedLog
	bus   *commands.Bus
	keys  *keyStore
	read  *readSide
	sinks *sinkSide
	logs  *lockedBuffer
	url   string
	h     *graphql.Handler
	now   func() time.Time
	late  chan time.Time // ends the patience of subscriptions
	waits chan struct{}  // one for each subscription that has to be patient
	used  int            // idempotency keys
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigWith(t, func(*graphql.Config) {})
}

// newRigWith is a rig whose API is made of something else.
func newRigWith(t *testing.T, change func(*graphql.Config)) *rig {
	t.Helper()
	r := &rig{t: t, log: newTailedLog(), keys: &keyStore{}, logs: &lockedBuffer{}, late: make(chan time.Time), waits: make(chan struct{}, 100)}
	logger := slog.New(slog.NewTextHandler(r.logs, nil))
	r.now = clockOf(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	bus, err := commands.New(commands.Config{Log: r.log, Facts: commands.Facts, Sealer: r.keys, HashKey: bytes.Repeat([]byte("k"), 32),
		Aggregates: []domain.Aggregate{org.Aggregate, tier.Aggregate, tenant.Aggregate, plane.Aggregate, reservation.Aggregate, saga.Aggregate, sink.Aggregate},
		Epoch:      epoch, Now: r.now, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	r.bus = bus
	r.read = newReadSide(t, r.log)
	r.sinks = &sinkSide{bus: bus}
	config := graphql.Config{Commands: bus, Sagas: graphql.NamedSagas{States: bus, Names: []string{tenant.Onboarding, tenant.Suspension, tenant.Resumption, tenant.Offboarding}}, Reads: r.read, Live: r.read, Sealer: r.keys, Tokens: &tokens{}, Sinks: r.sinks,
		Auth: graphql.StaticToken(token, "operator"), Logger: logger, Introspection: true,
		After: func(time.Duration) <-chan time.Time { r.waits <- struct{}{}; return r.late }}
	change(&config)
	r.h = graphql.NewHandler(config)
	server := httptest.NewServer(r.h)
	r.url = server.URL
	t.Cleanup(func() {
		if err := r.h.Close(context.Background()); err != nil {
			t.Error(err)
		}
		server.Close()
		if err := bus.Close(context.Background()); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return r
}

// clockOf is a clock that goes on a microsecond each time it is asked.
func clockOf(at time.Time) func() time.Time {
	var mu sync.Mutex
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		at = at.Add(time.Microsecond)
		return at
	}
}

type answer struct {
	status int
	text   string
	Data   json.RawMessage `json:"data"`
	Errors []struct {
		Message    string         `json:"message"`
		Path       []any          `json:"path"`
		Extensions map[string]any `json:"extensions"`
	} `json:"errors"`
	Extensions map[string]any `json:"extensions"`
}

// code is that of the first error.
func (a answer) code() string {
	if len(a.Errors) == 0 {
		return ""
	}
	code, _ := a.Errors[0].Extensions["code"].(string)
	return code
}

// into decodes what stands at a path of the data.
func (a answer) into(t *testing.T, v any, path ...string) {
	t.Helper()
	raw := a.Data
	for _, name := range path {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(raw, &object); err != nil {
			t.Fatalf("%s: %v", a.text, err)
		}
		raw = object[name]
	}
	if err := json.Unmarshal(raw, v); err != nil {
		t.Fatalf("%v in %s: %v", path, a.text, err)
	}
}

func (r *rig) send(method string, body io.Reader, headers map[string]string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url, body)
	if err != nil {
		r.t.Fatal(err)
	}
	for k, v := range headers {
		if v != "" {
			req.Header.Set(k, v)
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// ask sends an operation as the operator.
func (r *rig) ask(query string, variables map[string]any) answer {
	r.t.Helper()
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		r.t.Fatal(err)
	}
	status, text := r.send(http.MethodPost, bytes.NewReader(body), map[string]string{"Content-Type": "application/json", "Authorization": "Bearer " + token})
	a := answer{status: status, text: text}
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		r.t.Fatalf("answered %d %q: %v", status, text, err)
	}
	return a
}

// must is ask for what has to go well.
func (r *rig) must(query string, variables map[string]any) answer {
	r.t.Helper()
	a := r.ask(query, variables)
	if a.status != http.StatusOK || len(a.Errors) > 0 {
		r.t.Fatalf("%s\nanswered %d %s", query, a.status, a.text)
	}
	return a
}

// in is the same rig in a subtest.
func (r *rig) in(t *testing.T) *rig {
	sub := *r
	sub.t = t
	return &sub
}

// command gives a command as a saga would, and waits for the read models.
func (r *rig) command(c domain.Command) {
	r.t.Helper()
	if err := r.read.WaitFor(r.t.Context(), r.execute(c), time.Second); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) execute(c domain.Command) (commit uint64) {
	r.t.Helper()
	id := domain.DeriveUUID(fmt.Sprintf("%#v", c)).String()
	o, err := r.bus.Execute(r.t.Context(), commands.Call{Command: c, CommandID: id})
	if err != nil {
		r.t.Fatalf("%T: %v", c, err)
	}
	return o.Position.Commit
}

// hold reserves a slug as an onboarding would.
func (r *rig) hold(org, slug, holder string) {
	r.command(reservation.Hold{ID: reservation.SlugID(org, slug), Org: org, Holder: holder})
}

// facts appends to a saga's stream as its runner would, and waits for the read models.
func (r *rig) facts(name, id string, facts ...any) {
	r.t.Helper()
	stream := saga.Stream(name, id)
	at := int64(len(r.log.Stream(stream, 0))) - 1
	registry := domain.NewRegistry(saga.Catalog)
	var events []domain.Proposed
	for i, f := range facts {
		kind, rev, data, err := registry.Encode(f)
		if err != nil {
			r.t.Fatal(err)
		}
		m := domain.Meta{Rev: rev, RecordedAt: r.now(), Epoch: epoch}
		events = append(events, domain.Proposed{ID: domain.EventID(id, stream, int(at)+1+i), Type: kind, Data: data, Meta: m.Encode()})
	}
	done, err := r.log.Append(r.t.Context(), stream, at, events)
	if err != nil {
		r.t.Fatal(err)
	}
	if r.log.isHeld() {
		return
	}
	if err := r.read.WaitFor(r.t.Context(), done.Commit, time.Second); err != nil {
		r.t.Fatal(err)
	}
}

// begins starts a tenant's saga with those facts.
func (r *rig) begins(name, id, tenantID string, more ...any) {
	r.t.Helper()
	started := saga.Started{Saga: id, Name: name, Version: 1, Tenant: tenantID, Org: r.orgOf(tenantID), StartEvent: domain.DeriveUUID(id).String(), Plan: json.RawMessage("{}")}
	r.facts(name, id, append([]any{started}, more...)...)
}

func (r *rig) orgOf(tenantID string) string {
	state, _, err := r.bus.State(r.t.Context(), tenant.Aggregate.Stream(tenantID))
	if err != nil {
		r.t.Fatal(err)
	}
	return state.(tenant.State).Org
}

// untilLate lets time pass until an answer comes.
func (r *rig) untilLate(answers <-chan answer) answer {
	for {
		select {
		case a := <-answers:
			return a
		default:
			r.read.clock.Advance(view.Patience)
			runtime.Gosched()
		}
	}
}

func (r *rig) nothingAppended() {
	r.t.Helper()
	if n := len(r.log.All()); n > 0 {
		r.t.Errorf("%d events were appended", n)
	}
}

// tokens counts instead of drawing.
type tokens struct {
	mu sync.Mutex
	n  int
}

func (d *tokens) NewJoinToken(planeID string) (string, string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.n++
	return fmt.Sprintf("join-%s-%d", planeID, d.n), fmt.Sprintf("hash-%d", d.n), nil
}

// keyStore seals by writing backwards, and forgets a subject's key when told to.
type keyStore struct {
	mu     sync.Mutex
	erased map[string]bool
	opened chan struct{} // told whenever text is opened, if there is one
	gate   chan struct{} // closed once text may be opened
}

func (k *keyStore) Seal(_ context.Context, subject, text string) (domain.Sealed, error) {
	return domain.Sealed{Subject: subject, Key: "k", Text: backwards(text)}, nil
}

func (k *keyStore) Open(_ context.Context, s domain.Sealed) (string, bool, error) {
	if k.gate != nil {
		k.opened <- struct{}{}
		<-k.gate
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.erased[s.Subject] {
		return "", false, nil
	}
	return string(backwards(string(s.Text))), true, nil
}

func (k *keyStore) erase(subject string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.erased = map[string]bool{subject: true}
}

func backwards(s string) []byte {
	b := []byte(s)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return b
}

// tailedLog is a commands.Log that can be subscribed to, and held back from its subscribers.
type tailedLog struct {
	commandstest.Log
	mu      sync.Mutex
	changed chan struct{}
	held    bool
}

func newTailedLog() *tailedLog { return &tailedLog{changed: make(chan struct{})} }

func (l *tailedLog) Append(ctx context.Context, stream string, expected int64, events []domain.Proposed) (commands.Appended, error) {
	done, err := l.Log.Append(ctx, stream, expected, events)
	l.hold(l.isHeld())
	return done, err
}

func (l *tailedLog) hold(held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = held
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *tailedLog) isHeld() bool {
	_, held := l.state()
	return held
}

func (l *tailedLog) state() (changed <-chan struct{}, held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed, l.held
}

// lockedBuffer keeps what is logged.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func itoa(i int) string { return strconv.Itoa(i) }

func repeat(n int, f func(i int) string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(f(i))
	}
	return b.String()
}

func get(t *testing.T, h http.Handler) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("answered %d", w.Code)
	}
	return w.Body.String()
}

// introspection is what GraphiQL asks first.
const introspection = `query IntrospectionQuery { __schema { queryType { name kind } mutationType { name kind } subscriptionType { name kind }
	types { ...FullType } directives { name description locations args(includeDeprecated: true) { ...InputValue } } } }
fragment FullType on __Type { kind name description fields(includeDeprecated: true) { name description args(includeDeprecated: true) { ...InputValue }
	type { ...TypeRef } isDeprecated deprecationReason } inputFields(includeDeprecated: true) { ...InputValue } interfaces { ...TypeRef }
	enumValues(includeDeprecated: true) { name description isDeprecated deprecationReason } possibleTypes { ...TypeRef } }
fragment InputValue on __InputValue { name description type { ...TypeRef } defaultValue isDeprecated deprecationReason }
fragment TypeRef on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name
	ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } } } } } } }`
