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
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/tenure-dev/tenure/adapters/app"
	"github.com/tenure-dev/tenure/adapters/eventnode"
	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/adapters/postgres"
	"github.com/tenure-dev/tenure/adapters/postgres/cluster"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/projections"
	"github.com/tenure-dev/tenure/projections/projectionstest"
	"github.com/tenure-dev/tenure/projections/readmodels"
)

const (
	benchInFlight = 50  // onboardings
	benchRate     = 200 // commands a second while delays are measured
	benchToken    = "bench"
	// benchPayload is the data of one appended event and of one inserted row.
	benchPayload = 300
)

// TestBench prints the figures of docs/benchmarks.md: `make bench`. Each is a ratio to something measured in the same run.
// TENURE_BENCH names the parts to run.
func TestBench(t *testing.T) {
	parts := strings.Fields(os.Getenv("TENURE_BENCH"))
	if len(parts) == 0 {
		t.Skip("TENURE_BENCH is not set: make bench")
	}
	runs := func(part string) bool { return slices.Contains(parts, part) || slices.Contains(parts, "all") }
	b := &bench{T: t, dir: os.Getenv("TENURE_BENCH_DIR"), span: time.Duration(setting("TENURE_BENCH_SECONDS", 10)) * time.Second}
	if b.dir == "" {
		b.dir = t.TempDir()
	}
	fmt.Printf("%s, %s, %d cores, load %s\n\n", runtime.Version(), runtime.GOARCH, runtime.NumCPU(), load())
	defer func() { fmt.Printf("\nload at the end %s\n", load()) }()
	fmt.Printf("%-58s %12s   %s\n", "figure", "measured", "beside, in the same run")
	pg := b.postgres()
	one, sixteen := b.commits(pg, 1), b.commits(pg, 16)
	if runs("node") {
		b.node(one, sixteen)
	}
	if runs("sinks") {
		b.sinks(pg)
	}
	if runs("scale") {
		b.scale()
	}
	if runs("visible") || runs("onboarding") || runs("projection") {
		dev := b.child("dev")
		api := b.api(dev)
		if runs("visible") {
			b.visible(api, one)
		}
		if runs("onboarding") || runs("projection") {
			b.onboardings(api, dev, sixteen)
		}
		dev.stop()
		if runs("projection") {
			b.projection(pg)
		}
	}
}

// load is the machine's load, of the last minute and of the last five, where it can be told.
func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	return strings.Join(append(strings.Fields(string(text)), "?", "?")[:2], ", ")
}

type bench struct {
	*testing.T
	dir  string
	span time.Duration
}

func (b *bench) row(figure, measured, beside string, args ...any) {
	fmt.Printf("%-58s %12s   %s\n", figure, measured, fmt.Sprintf(beside, args...))
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func setting(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// ---- what is measured against: Postgres

// postgres is a private cluster with a server's usual settings: every commit is synced.
func (b *bench) postgres() string {
	c, err := cluster.Start(b.Context(), cluster.Options{Dir: b.dir, Name: "beside"})
	b.must(err)
	b.Cleanup(func() { _ = c.Stop(context.Background()) })
	conn, err := pgx.Connect(b.Context(), c.URL("postgres"))
	b.must(err)
	defer conn.Close(context.Background())
	for _, name := range []string{"fsync", "synchronous_commit"} {
		var value string
		b.must(conn.QueryRow(b.Context(), "select current_setting($1)", name).Scan(&value))
		if value != "on" {
			b.Fatalf("%s is %s", name, value)
		}
	}
	_, err = conn.Exec(b.Context(), `create table beside (id uuid primary key, stream text not null, revision bigint not null, data text not null);
		create index on beside (stream, revision)`)
	b.must(err)
	return c.URL("postgres")
}

// rate is how many a second, and how long each took.
type rate struct {
	perSecond float64
	took      quantiles
}

// commits inserts one row a transaction, into a table with two indexes.
func (b *bench) commits(url string, clients int) rate {
	conns := make([]*pgx.Conn, clients)
	for i := range conns {
		var err error
		conns[i], err = pgx.Connect(b.Context(), url)
		b.must(err)
		defer conns[i].Close(context.Background())
	}
	data := strings.Repeat("x", benchPayload)
	r := b.loop(clients, func(w, n int) error {
		_, err := conns[w].Exec(b.Context(), "insert into beside values ($1, $2, $3, $4)", uuid.New(), fmt.Sprint("s-", w), n, data)
		return err
	})
	b.row(fmt.Sprintf("Postgres: single-row insert commits, %d clients", clients), perSecond(r.perSecond), "%v", r.took)
	return r
}

// loop has each of so many workers do one thing after another for the span, after a second of warming up.
func (b *bench) loop(workers int, do func(worker, n int) error) rate {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var all quantiles
	warm := time.Now().Add(time.Second)
	end := warm.Add(b.span)
	for w := range workers {
		wg.Go(func() {
			var took quantiles
			for n := 0; ; n++ {
				began := time.Now()
				if began.After(end) {
					break
				}
				if err := do(w, n); err != nil {
					b.Error(err)
					break
				}
				if began.After(warm) {
					took = append(took, time.Since(began))
				}
			}
			mu.Lock()
			all = append(all, took...)
			mu.Unlock()
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return rate{float64(len(all)) / time.Since(warm).Seconds(), all}
}

func (b *bench) client(url string) *esdb.Client {
	settings, err := esdb.ParseConnectionString(url)
	b.must(err)
	settings.Logger = esdb.NoopLogging()
	client, err := esdb.NewClient(settings)
	b.must(err)
	return client
}

// ---- 2. onboardings

// onboardings keeps so many in flight, from the request over HTTP to the saga's last fact in the log, and then has GraphQL
// confirm that every tenant is active. The log is followed to know at once what has ended; that costs less than 50 subscriptions.
func (b *bench) onboardings(a *api, dev *child, beside rate) {
	total := setting("TENURE_BENCH_ONBOARDINGS", 4500)
	warm := min(200, total/5)
	org := a.org("onboardings")
	a.mutate("publishTier", "PublishTierInput", map[string]any{"tierKey": "bench", "idempotencyKey": "bench",
		"cost": []any{map[string]any{"unit": "slots", "amount": 0}}}, "") // else the plane is full at 1,000
	client := b.client(a.eventStore)
	defer client.Close()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	ends, err := client.SubscribeToAll(ctx, esdb.SubscribeToAllOptions{From: esdb.End{},
		Filter: &esdb.SubscriptionFilter{Type: esdb.EventFilterType, Prefixes: []string{"saga.ended"}}})
	b.must(err)
	defer ends.Close()

	slots, ended, failed := make(chan struct{}, benchInFlight), make(chan struct{}), make(chan error, benchInFlight)
	var began time.Time
	asked := make([]time.Time, total)
	var mu sync.Mutex
	index := map[string]int{} // by saga
	early := map[string]time.Time{}
	var took quantiles
	var lasted, cpu time.Duration
	settle := func(i int, at time.Time) {
		took = append(took, at.Sub(asked[i]))
	}
	go func() {
		defer close(ended)
		for n := 0; n < total; {
			e := ends.Recv()
			if e.SubscriptionDropped != nil {
				return
			}
			if e.EventAppeared == nil {
				continue
			}
			event := e.EventAppeared.OriginalEvent()
			if !strings.Contains(string(event.Data), `"succeeded"`) {
				failed <- fmt.Errorf("%s has ended with %s", event.StreamID, event.Data)
				return
			}
			n++
			now := time.Now()
			id := event.StreamID[strings.LastIndexByte(event.StreamID, '.')+1:]
			mu.Lock()
			if n == warm {
				began, cpu = now, -dev.cpu()
			}
			if n > warm {
				if i, there := index[id]; there {
					settle(i, now)
				} else {
					early[id] = now
				}
			}
			lasted = now.Sub(began)
			mu.Unlock()
			<-slots
		}
	}()
	for i := range total {
		select {
		case slots <- struct{}{}:
		case err := <-failed:
			b.Fatal(err)
		case <-time.After(time.Minute):
			b.Fatal("no onboarding has ended for a minute")
		}
		go func() {
			at := time.Now()
			out, err := a.call("mutation($input: RequestTenantInput!) { requestTenant(input: $input) { saga { id } userErrors { message } } }",
				map[string]any{"input": map[string]any{"orgId": org, "slug": fmt.Sprint("tenant-", i), "tierKey": "bench", "idempotencyKey": fmt.Sprint("tenant-", i)}})
			id, _ := field(out, "requestTenant", "saga", "id").(string)
			if err != nil || id == "" {
				failed <- fmt.Errorf("requestTenant: %v %v", out, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			asked[i], index[id] = at, i
			if when, there := early[id]; there {
				settle(i, when)
			}
		}()
	}
	select {
	case <-ended:
	case err := <-failed:
		b.Fatal(err)
	case <-time.After(time.Minute):
		b.Fatal("the last onboardings have not ended within a minute")
	}
	cpu += dev.cpu()
	active, after := 0, any(nil)
	head := a.org("head") // answers once the read models have met the log's head
	for more := true; more; {
		out, err := a.call("query($org: ID!, $after: String) { tenants(orgId: $org, phase: active, first: 200, after: $after) { nodes { id } pageInfo { hasNextPage endCursor } } }",
			map[string]any{"org": org, "after": after})
		b.must(err)
		nodes, _ := field(out, "tenants", "nodes").([]any)
		active += len(nodes)
		after = field(out, "tenants", "pageInfo", "endCursor")
		more, _ = field(out, "tenants", "pageInfo", "hasNextPage").(bool)
	}
	if head == "" || active != total {
		b.Fatalf("%d of %d tenants are active", active, total)
	}
	perSec := float64(total-warm) / lasted.Seconds()
	b.row(fmt.Sprintf("system: completed onboardings, %d in flight", benchInFlight), perSecond(perSec), "one per %.1f Postgres commits at 16 clients; %v; %.1f ms CPU each in its process; %d of %d active",
		beside.perSecond/perSec, took, cpu.Seconds()*1000/float64(total-warm), active, total)
}

// ---- 3. from commit to visible

// visible sends commands at a steady rate, each followed by a query that is to see it. A command that is due while others are
// late goes at its time all the same.
func (b *bench) visible(a *api, beside rate) {
	total := int(b.span.Seconds()*benchRate) + benchRate
	var wg sync.WaitGroup
	var mu sync.Mutex
	var commands, delays, whole quantiles
	var failures atomic.Int64
	began := time.Now()
	for i := range total {
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / benchRate)))
		wg.Go(func() {
			name := fmt.Sprint("visible-", i)
			sent := time.Now()
			out, err := a.call("mutation($input: RegisterOrgInput!) { registerOrg(input: $input) { org { id } position userErrors { message } } }",
				map[string]any{"input": map[string]any{"slug": name, "idempotencyKey": name}})
			answered := time.Now()
			if err == nil {
				out, err = a.call("query($id: ID!, $at: Position) { org(id: $id, atLeast: $at) { slug } }",
					map[string]any{"id": field(out, "registerOrg", "org", "id"), "at": field(out, "registerOrg", "position")})
			}
			seen := time.Now()
			if err != nil || field(out, "org", "slug") != name {
				if failures.Add(1) == 1 {
					b.Errorf("%s: %v %v", name, out, err)
				}
				return
			}
			if i < benchRate {
				return // warming up
			}
			mu.Lock()
			defer mu.Unlock()
			commands, delays, whole = append(commands, answered.Sub(sent)), append(delays, seen.Sub(answered)), append(whole, seen.Sub(sent))
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
	sent := float64(total) / time.Since(began).Seconds()
	beside1 := beside.took.at(0.5)
	b.row(fmt.Sprintf("GraphQL: command sent to answered, %.0f/s", sent), commands.p99(), "%v", commands)
	b.row("GraphQL: command answered to seen by atLeast", delays.p99(), "p99 %.1f × a Postgres commit's p50; %v", float64(delays.at(0.99))/float64(beside1), delays)
	b.row("GraphQL: command sent to seen (bounds commit to visible)", whole.p99(), "p99 %.1f × a Postgres commit's p50; %v", float64(whole.at(0.99))/float64(beside1), whole)
}

// ---- 4. projection

// projection replays the log of the onboardings, from a node in a process of its own, into all read models of a fresh database;
// then a part of it with one transaction an event, which is what a projection without batches does.
func (b *bench) projection(url string) {
	node := b.child("node", filepath.Join(b.dir, "dev", "log"))
	defer node.stop()
	log, err := eventstore.Open(b.Context(), eventstore.Config{URL: "esdb://" + node.ready + "?tls=false"})
	b.must(err)
	defer log.Close(context.Background())
	total, part, events := uint64(0), uint64(0), 0
	ctx, cancel := context.WithCancel(b.Context())
	for d, err := range log.Subscribe(ctx, 0, true) {
		b.must(err)
		if d.Kind == domain.CaughtUp {
			break
		}
		if d.Kind == domain.DeliveredEvent {
			total, events = d.Commit, events+1
			if events == 3000 {
				part = d.Commit
			}
		}
	}
	cancel()
	if part == 0 {
		b.Fatalf("the log has only %d events", events)
	}
	stop := b.profile("projection")
	batched := float64(events) / b.replay(url, log, total, 0).Seconds()
	stop()
	single := 3000 / b.replay(url, log, part, 1).Seconds()
	b.row(fmt.Sprintf("projection: all read models, %d events", events), perSecond(batched), "%.0f × one transaction an event (%.0f/s)", batched/single, single)
}

func (b *bench) replay(url string, log *eventstore.Log, upTo uint64, batch int) time.Duration {
	name := fmt.Sprint("replay_", batch)
	conn, err := pgx.Connect(b.Context(), url)
	b.must(err)
	_, err = conn.Exec(b.Context(), "create database "+name)
	b.must(errors.Join(err, conn.Close(b.Context())))
	db, err := postgres.Open(b.Context(), postgres.Options{URL: strings.Replace(url, "/postgres?", "/"+name+"?", 1), Logger: quiet()})
	b.must(err)
	defer db.Close()
	epoch, err := log.Epoch(b.Context(), "bench", 1, time.Now())
	b.must(err)
	store := db.Store()
	defer store.Close(context.Background())
	began := time.Now()
	g := projections.NewGroup(projections.Options{Owner: "bench", Tables: readmodels.All(), Registry: app.Registry(), Log: epoch,
		Source: log, Streams: log, Store: store, Clock: projectionstest.Real{}, Batch: batch, Logger: quiet()})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Run(ctx) }()
	defer func() { cancel(); <-done }()
	b.must(g.WaitFor(ctx, upTo, 10*time.Minute))
	if parked := g.Status().Parked; len(parked) > 0 {
		b.Fatalf("parked: %v", parked)
	}
	return time.Since(began)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// ---- processes

// child is this test binary again, with a part of the system in it.
type child struct {
	ready string // what it said when it was
	stop  func()
	pid   int
}

// cpu is the time that the child has computed; 0 where there is no /proc.
func (c *child) cpu() time.Duration {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.pid))
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * time.Second / 100
}

func (b *bench) child(args ...string) *child {
	if args[0] == "node" && len(args) == 1 {
		args = append(args, filepath.Join(b.dir, "node"))
	} else if args[0] == "dev" {
		args = append(args, filepath.Join(b.dir, "dev"))
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestBenchChild$")
	cmd.Env = append(os.Environ(), "TENURE_BENCH_CHILD="+strings.Join(args, " "))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe() // the child ends with it, and so with us
	b.must(err)
	out, err := cmd.StdoutPipe()
	b.must(err)
	b.must(cmd.Start())
	c := &child{pid: cmd.Process.Pid, stop: sync.OnceFunc(func() { _ = in.Close(); _ = cmd.Wait() })}
	b.Cleanup(c.stop)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if ready, found := strings.CutPrefix(lines.Text(), "ready "); found {
			c.ready = ready
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return c
		}
	}
	b.Fatalf("%s has ended: %v", args[0], lines.Err())
	return nil
}

// TestBenchChild is a child of TestBench. It ends when its standard input does.
func TestBenchChild(t *testing.T) {
	what := strings.SplitN(os.Getenv("TENURE_BENCH_CHILD"), " ", 2)
	if len(what) != 2 {
		t.Skip("only TestBench runs it")
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { defer cancel(); _, _ = io.Copy(io.Discard, os.Stdin) }()
	b := &bench{T: t}
	defer b.profile(what[0])()
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	switch what[0] {
	case "node":
		n, err := eventnode.Open(eventnode.Options{Dir: what[1], Addr: "127.0.0.1:0", Now: time.Now, Logger: logger})
		b.must(err)
		go func() { <-ctx.Done(); _ = n.Close(context.Background()) }()
		fmt.Println("ready", n.Addr())
		b.must(n.Serve())
	case "dev":
		b.must(app.Dev(ctx, app.DevConfig{Dir: what[1], HTTP: "127.0.0.1:0", Node: "127.0.0.1:0", Gateway: "127.0.0.1:0", Driver: "simulated",
			Token: benchToken, Version: "bench", Logger: logger}, os.Stdout))
	}
}

// profile writes a CPU profile of this process, if one is wanted, until it is stopped.
func (b *bench) profile(name string) (stop func()) {
	dir := os.Getenv("TENURE_BENCH_PROFILE")
	if dir == "" {
		return func() {}
	}
	f, err := os.CreateTemp(dir, name+"-*.pprof")
	b.must(err)
	b.must(pprof.StartCPUProfile(f))
	return func() { pprof.StopCPUProfile(); _ = f.Close() }
}

// ---- GraphQL

type api struct {
	*bench
	url, eventStore string
	http            *http.Client
}

func (b *bench) api(dev *child) *api {
	text, err := os.ReadFile(filepath.Join(b.dir, "dev", app.ClientFile))
	b.must(err)
	var c app.Client
	b.must(json.Unmarshal(text, &c))
	return &api{b, dev.ready + "/graphql", c.EventStore, &http.Client{Timeout: 30 * time.Second,
		Transport: &http.Transport{MaxIdleConns: 256, MaxIdleConnsPerHost: 256}}}
}

func (a *api) call(query string, variables map[string]any) (map[string]any, error) {
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(a.Context(), http.MethodPost, a.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+benchToken)
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Data   map[string]any
		Errors []any
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if len(answer.Errors) > 0 {
		return nil, fmt.Errorf("%v", answer.Errors)
	}
	return answer.Data, nil
}

func (a *api) mutate(name, input string, values map[string]any, fields string) map[string]any {
	a.Helper()
	out, err := a.call(fmt.Sprintf("mutation($input: %s!) { %s(input: $input) { %s position userErrors { message } } }", input, name, fields), map[string]any{"input": values})
	a.must(err)
	if problems, _ := field(out, name, "userErrors").([]any); len(problems) > 0 {
		a.Fatalf("%s: %v", name, problems)
	}
	return out
}

// org registers one, waits until the read models have it and gives its id.
func (a *api) org(slug string) string {
	a.Helper()
	out := a.mutate("registerOrg", "RegisterOrgInput", map[string]any{"slug": slug, "idempotencyKey": slug}, "org { id }")
	id, _ := field(out, "registerOrg", "org", "id").(string)
	_, err := a.call("query($id: ID!, $at: Position) { org(id: $id, atLeast: $at) { id } }", map[string]any{"id": id, "at": field(out, "registerOrg", "position")})
	a.must(err)
	return id
}

// field is what stands at a path of a JSON object, or nil.
func field(object any, path ...string) any {
	for _, name := range path {
		m, _ := object.(map[string]any)
		object = m[name]
	}
	return object
}

// ---- figures

type quantiles []time.Duration

func (q quantiles) at(p float64) time.Duration {
	if len(q) == 0 {
		return 0
	}
	slices.Sort(q)
	return q[int(math.Round(p*float64(len(q)-1)))]
}

func (q quantiles) p99() string { return fmt.Sprintf("%.1f ms", q.at(0.99).Seconds()*1000) }

func (q quantiles) String() string {
	return fmt.Sprintf("p50 %.2f ms, p99 %.2f ms", q.at(0.5).Seconds()*1000, q.at(0.99).Seconds()*1000)
}

func perSecond(n float64) string { return fmt.Sprintf("%.0f/s", n) }
