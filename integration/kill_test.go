package integration

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tenure-dev/tenure/adapters/app"
	"github.com/tenure-dev/tenure/agent/drivers"
	"github.com/tenure-dev/tenure/agent/drivers/simulated"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/tenant"
)

// The variables that make this binary a victim: the directory of its dev, and the seed of its simulated plane's failures.
const (
	victimDir  = "TENURE_SUITE_VICTIM"
	victimSeed = "TENURE_SUITE_VICTIM_SEED"
	victimReal = "TENURE_SUITE_VICTIM_REAL" // set: its plane is a real one
)

// victim runs a dev that is there to be killed.
func victim(dir string) int {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); cancel() }() // it ends with the suite
	config := app.DevConfig{Dir: dir, HTTP: "127.0.0.1:0", Node: "127.0.0.1:0", Gateway: "127.0.0.1:0", Driver: "postgres", Version: "victim",
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))}
	var err error
	if os.Getenv(victimReal) == "" {
		config.Driver = "simulated"
		config.Custom, err = shaken(dir)
	}
	if err == nil {
		err = app.Dev(ctx, config, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "victim:", err)
		return 1
	}
	return 0
}

// shaken is a simulated plane that takes its time, and now and then fails, or loses an answer.
func shaken(dir string) (drivers.Driver, error) {
	seed, _ := strconv.ParseUint(os.Getenv(victimSeed), 10, 64)
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // to be repeated, not to be kept from anyone
	return simulated.Open(simulated.Options{Dir: filepath.Join(dir, "agent"), Script: func(c simulated.Call) simulated.Answer {
		mu.Lock()
		defer mu.Unlock()
		a := simulated.Answer{Delay: time.Duration(random.IntN(250)) * time.Millisecond}
		if c.Operation != "" && random.IntN(8) == 0 {
			a.Err, a.After = simulated.Fail(drivers.Transient, "shaken"), random.IntN(2) == 0
		}
		return a
	}})
}

func TestKilledDuringOnboardings(t *testing.T) {
	seed := seedOf(t)
	killed(t, seed, 12, 3, false)
}

func TestSoakKilledDuringOnboardings(t *testing.T) {
	if os.Getenv("TENURE_SOAK") == "" {
		t.Skip("TENURE_SOAK is not set: make soak")
	}
	seed := seedOf(t)
	for round := range uint64(10) {
		t.Run(fmt.Sprint("round ", round+1), func(t *testing.T) { killed(t, seed+round, 100, 10, false) })
	}
}

func TestSoakKilledOnRealParts(t *testing.T) {
	if os.Getenv("TENURE_SOAK") == "" {
		t.Skip("TENURE_SOAK is not set: make soak")
	}
	killed(t, seedOf(t), 30, 8, true)
}

func seedOf(t *testing.T) uint64 {
	seed, err := strconv.ParseUint(os.Getenv("TENURE_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64() >> 32 //nolint:gosec // printed, to be repeated
	}
	t.Logf("TENURE_SEED=%d", seed)
	return seed
}

// killed has so many tenants live their lives while the process under them is killed so many times, and then looks at what
// is left.
func killed(t *testing.T, seed uint64, tenants, kills int, real bool) {
	m := &mortal{t: t, real: real, dir: t.TempDir(), seed: seed, changed: make(chan struct{}), acks: map[string]ack{}}
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // to be repeated
	m.start()
	defer m.end()
	m.awaitReady()
	m.send("registerOrg", "org.register", object{"slug": "acme", "idempotencyKey": "acme"})
	m.org = domain.NewID(domain.OrgID, "operator", "org.register", "acme")
	for n, isolation := range isolations {
		m.send("publishTier", "tier.publish", object{"tierKey": isolation, "isolation": isolation, "cost": slots(n + 1), "idempotencyKey": isolation})
	}

	var lives sync.WaitGroup
	done := make(chan struct{})
	for i := range tenants {
		life := rand.New(rand.NewPCG(seed, uint64(i)+2)) //nolint:gosec // to be repeated
		begins := (i * kills) / tenants                  // so that every kill meets some that have just begun
		lives.Go(func() {
			if m.deaths(begins) {
				m.live(life, i)
			}
		})
	}
	go func() { lives.Wait(); close(done) }()
	for n := range kills {
		if n%3 != 2 { // else it dies while it recovers, most likely
			m.awaitReady()
		}
		after := time.NewTimer(time.Duration(5+random.IntN(600)) * time.Millisecond)
		select {
		case <-after.C:
		case <-t.Context().Done():
		}
		m.kill()
		m.start()
	}
	m.awaitReady()
	select {
	case <-done:
	case <-time.After(patience + patience):
		t.Error("some lives have not come to an end")
	}
	m.examine()
}

// isolations are the keys of the tiers too.
var isolations = []string{"pool", "bridge", "silo"}

// ---- the process

// mortal is a dev in a process of its own, and what its clients have been told.
type mortal struct {
	t    *testing.T
	dir  string
	seed uint64
	real bool // its plane is
	org  string

	mu      sync.Mutex
	client  *client // of the present process, once it is ready
	died    int
	changed chan struct{} // closed when client or died changes
	acks    map[string]ack
	cmd     *exec.Cmd
	ready   chan error
	stdin   io.Closer
}

// ack is what a client was told of a command that was carried out.
type ack struct {
	position, tenant, saga, mutation string
}

func (m *mortal) start() {
	m.t.Helper()
	cmd := exec.Command(os.Args[0]) //nolint:gosec // this binary
	cmd.Env = append(os.Environ(), victimDir+"="+m.dir, fmt.Sprintf("%s=%d", victimSeed, m.seed+uint64(m.died)))
	if m.real {
		cmd.Env = append(cmd.Env, victimReal+"=1")
	}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.cmd, m.stdin, m.ready = cmd, stdin, make(chan error, 1)
	ready := m.ready
	go func() { ready <- awaitReady(out) }()
}

// awaitReady lets clients know of the process once it is ready.
func (m *mortal) awaitReady() {
	m.t.Helper()
	if m.client != nil {
		return
	}
	select {
	case err := <-m.ready:
		if err != nil {
			m.t.Fatal(err)
		}
	case <-time.After(patience):
		m.t.Fatal("it has not become ready")
	}
	c, err := newClient(m.dir)
	if err != nil {
		m.t.Fatal(err)
	}
	m.change(func() { m.client = c })
}

func (m *mortal) change(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
	close(m.changed)
	m.changed = make(chan struct{})
}

// kill ends the process as a power cut does.
func (m *mortal) kill() {
	m.t.Helper()
	if err := m.cmd.Process.Kill(); err != nil {
		m.t.Fatal(err)
	}
	_ = m.cmd.Wait()
	_ = m.stdin.Close()
	m.change(func() { m.client = nil; m.died++ })
}

// end stops the process in order, if it has not been yet, and sees that nothing of it is left.
func (m *mortal) end() {
	m.t.Helper()
	if m.cmd == nil {
		return
	}
	if _, err := os.Stat("/proc/self/cmdline"); err == nil && len(m.left()) == 0 {
		m.t.Error("its Postgres is not to be found among the processes, running though it is")
	}
	_ = m.stdin.Close()
	hung := time.AfterFunc(15*time.Second, func() { _ = m.cmd.Process.Kill() })
	defer hung.Stop()
	if err := m.cmd.Wait(); err != nil {
		m.t.Errorf("the last process: %v", err)
	}
	m.cmd = nil
	m.change(func() { m.client = nil })
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	end := time.After(10 * time.Second)
	for left := m.left(); len(left) > 0; left = m.left() {
		select {
		case <-tick.C:
		case <-end:
			m.t.Errorf("processes are left: %q", left)
			return
		}
	}
}

// left lists the processes, by their command lines, that have to do with the directory.
func (m *mortal) left() (all []string) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		text, _ := os.ReadFile(path) //nolint:gosec // of /proc
		if strings.Contains(string(text), m.dir) {
			all = append(all, strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return all
}

// ---- its clients

// now is the client of the present process; without one it waits for the next. It is nil when the test is over.
func (m *mortal) now() *client {
	for {
		m.mu.Lock()
		c, changed := m.client, m.changed
		m.mu.Unlock()
		if c != nil {
			return c
		}
		select {
		case <-changed:
		case <-m.t.Context().Done():
			return nil
		}
	}
}

// deaths waits until the process has died so often.
func (m *mortal) deaths(n int) bool {
	for {
		m.mu.Lock()
		died, changed := m.died, m.changed
		m.mu.Unlock()
		if died >= n {
			return true
		}
		select {
		case <-changed:
		case <-m.t.Context().Done():
			return false
		}
	}
}

// again waits a moment before a client asks once more, or for another process.
func (m *mortal) again() bool {
	m.mu.Lock()
	changed := m.changed
	m.mu.Unlock()
	moment := time.NewTimer(100 * time.Millisecond)
	defer moment.Stop()
	select {
	case <-moment.C:
	case <-changed:
	case <-m.t.Context().Done():
		return false
	}
	return true
}

// send sends a mutation, under the same key, until it is answered; it gives the payload.
func (m *mortal) send(name, kind string, input object) object {
	for {
		c := m.now()
		if c == nil {
			return nil
		}
		a, err := c.ask(m.t.Context(), mutation(name), object{"input": input})
		payload, _ := a.Data[name].(object)
		if err != nil || payload == nil {
			if err == nil && !slices.Contains([]string{"UNAVAILABLE", "PROJECTION_LAGGING"}, text(a.Errors[0].Extensions, "code")) {
				m.t.Errorf("%s %v: %+v", name, input, a.Errors)
				return nil
			}
			if !m.again() {
				return nil
			}
			continue
		}
		if position := text(payload, "position"); position != "" {
			key, _ := input["idempotencyKey"].(string)
			target, _ := input["tenantId"].(string)
			switch name {
			case "publishTier":
				target, _ = input["tierKey"].(string)
			case "registerOrg":
				target = domain.NewID(domain.OrgID, "operator", kind, key)
			case "requestTenant":
				target = domain.NewID(domain.TenantID, "operator", kind, key)
			}
			id := domain.CallerCommandID("operator", kind, target, key)
			m.mu.Lock()
			m.acks[id] = ack{position, text(payload, "tenant", "id"), text(payload, "saga", "id"), name}
			m.mu.Unlock()
		}
		return payload
	}
}

// until waits, over any number of processes, until the tenant is in one of those phases.
func (m *mortal) until(id string, phases ...string) string {
	for began := time.Now(); ; {
		c := m.now()
		if c == nil {
			return ""
		}
		last, err := c.watch(m.t.Context(), "tenantChanged", id, in("phase", phases))
		if err == nil {
			return text(last, "phase")
		}
		if time.Since(began) > patience {
			m.t.Errorf("tenant %s is not %v but %s", id, phases, text(last, "phase"))
			return ""
		}
		if !m.again() {
			return ""
		}
	}
}

// live is one tenant's life, drawn from random: requested, perhaps suspended and resumed, perhaps offboarded, at any moment.
func (m *mortal) live(random *rand.Rand, i int) {
	slug := fmt.Sprint("tenant-", i-i%9/8) // now and then two want the same
	key := func(what string) string { return fmt.Sprint(what, "-", i) }
	payload := m.send("requestTenant", "tenant.request", object{"orgId": m.org, "slug": slug, "tierKey": isolations[random.IntN(len(isolations))], "idempotencyKey": key("request")})
	if problems, _ := payload["userErrors"].([]any); payload == nil || len(problems) > 0 {
		if len(problems) > 0 && text(problems[0], "code") != "ALREADY_EXISTS" {
			m.t.Errorf("request %d: %v", i, problems)
		}
		return
	}
	id := domain.NewID(domain.TenantID, "operator", "tenant.request", key("request"))
	if random.IntN(3) > 0 && m.until(id, "active", "rejected") != "active" {
		return
	}
	fine := func(payload object) bool {
		problems, _ := payload["userErrors"].([]any)
		if len(problems) > 0 && text(problems[0], "code") != "NOT_ALLOWED" { // it has been turned away meanwhile
			m.t.Errorf("tenant %d: %v", i, problems)
		}
		return payload != nil && len(problems) == 0
	}
	if random.IntN(2) == 0 {
		if !fine(m.send("suspendTenant", "tenant.suspend", object{"tenantId": id, "reason": "to see", "idempotencyKey": key("suspend")})) {
			return
		}
		if random.IntN(2) == 0 && m.until(id, "suspended", "rejected") != "suspended" {
			return
		}
		if !fine(m.send("resumeTenant", "tenant.resume", object{"tenantId": id, "idempotencyKey": key("resume")})) {
			return
		}
	}
	if random.IntN(3) == 0 {
		if random.IntN(2) == 0 && m.until(id, "active", "rejected") != "active" {
			return
		}
		if !fine(m.send("offboardTenant", "tenant.offboard", object{"tenantId": id, "idempotencyKey": key("offboard")})) {
			return
		}
		m.until(id, "deleted", "rejected")
		return
	}
	m.until(id, "active", "rejected")
}

// ---- what is left

// examine waits until every saga has ended, and holds what the log, GraphQL and the plane say against one another.
func (m *mortal) examine() {
	t := m.t
	c := m.now()
	log := c.openLog(t)
	w := foldLog(t, log)
	for rounds := 0; rounds < 5; rounds++ {
		open := 0
		for id, s := range w.sagas {
			if s.Ended == nil {
				open++
				c.settled(t, id)
			}
		}
		if open == 0 {
			break
		}
		w = foldLog(t, log)
	}
	w = c.shown(t, log)
	w.check(t)
	m.acknowledged(w)
	_ = log.Close(t.Context())
	want, phases := map[string]string{}, map[tenant.Phase]int{}
	for id, s := range w.tenants {
		phases[s.Phase]++
		if living(s) {
			want[id] = fmt.Sprint(s.Offer.Isolation, " suspended ", s.Phase == tenant.OnHold)
		}
	}
	told := fmt.Sprintf("%d deaths; %d events, %d acknowledged commands; tenants %v; %d sagas", m.died, len(w.events), len(m.acks), phases, len(w.sagas))
	if m.real {
		plane, err := planeOf(t.Context(), m.dir)
		if err != nil {
			t.Fatal(err)
		}
		observed(t, plane, want)
		_ = plane.Close()
		m.end()
		t.Log(told)
		return
	}
	m.end()
	plane, err := simulated.Open(simulated.Options{Dir: filepath.Join(m.dir, "agent")})
	if err != nil {
		t.Fatal(err)
	}
	defer plane.Close()
	observed(t, plane, want)
	if bad := plane.Conflicts(); len(bad) > 0 {
		for _, e := range plane.Effects() {
			if slices.Contains(bad, e.Operation) {
				t.Logf("%+v after %+v", e, e.After)
			}
		}
		t.Errorf("operations that ran twice to different effect: %v", bad)
	}
	repeated, runs := 0, map[string]int{}
	for _, e := range plane.Effects() {
		if runs[e.Operation]++; runs[e.Operation] == 2 {
			repeated++
		}
	}
	t.Logf("%s; %d operations, %d of them run more than once", told, len(runs), repeated)
}

// observed compares what a plane really has with the tenants that it should have.
func observed(t *testing.T, plane drivers.Driver, want map[string]string) {
	t.Helper()
	all, err := plane.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, o := range all {
		got[o.TenantID] = fmt.Sprint(o.Isolation, " suspended ", o.Suspended)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("tenants of the log and of the plane, -want +got:\n%s", diff)
	}
}

// acknowledged checks that each command whose success a client has been told is in the log, there and only there.
func (m *mortal) acknowledged(w world) {
	t := m.t
	commands := w.commandsRunOnce(t)
	for id, a := range m.acks {
		events := commands[id]
		at, err := domain.ParsePosition(a.position)
		if err != nil {
			t.Error(err)
			continue
		}
		if !slices.ContainsFunc(events, func(e domain.Meta) bool { return e.Commit == at.Commit }) {
			t.Errorf("%s, acknowledged at %s, has in the log: %+v", a.mutation, a.position, events)
			continue
		}
		if a.tenant != "" && events[0].ID() != a.tenant {
			t.Errorf("%s, acknowledged for %s, was for %s", a.mutation, a.tenant, events[0].Stream)
		}
		if _, known := w.sagas[a.saga]; a.saga != "" && !known {
			t.Errorf("%s, acknowledged with saga %s, has started none", a.mutation, a.saga)
		}
	}
}
