package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tenure-dev/tenure/adapters/gateway"
	"github.com/tenure-dev/tenure/agent"
	"github.com/tenure-dev/tenure/agent/drivers"
	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/commands/commandstest"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/plane"
)

// memoryFeed is the log in memory, and its feed.
type memoryFeed struct {
	commandstest.Log
	mu    sync.Mutex
	moved chan struct{}
}

func (f *memoryFeed) Append(ctx context.Context, stream string, expected int64, e []domain.Proposed) (commands.Appended, error) {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		close(f.moved)
		f.moved = make(chan struct{})
	}()
	return f.Log.Append(ctx, stream, expected, e)
}

func (f *memoryFeed) next() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.moved
}

func (f *memoryFeed) Head(context.Context) (uint64, error) {
	all := f.All()
	return all[len(all)-1].Commit, nil
}

func (f *memoryFeed) Follow(ctx context.Context, after uint64) iter.Seq2[domain.Delivery, error] {
	return func(yield func(domain.Delivery, error) bool) {
		for {
			moved := f.next()
			for _, e := range f.All() {
				if e.Commit <= after {
					continue
				}
				after = e.Commit
				if !yield(domain.Delivery{Event: e, Commit: e.Commit}, nil) {
					return
				}
			}
			select {
			case <-moved:
			case <-ctx.Done():
				yield(domain.Delivery{}, ctx.Err())
				return
			}
		}
	}
}

type realClock struct{}

func (realClock) Now() time.Time                         { return time.Now() }
func (realClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// memoryDriver is a plane in memory.
type memoryDriver struct {
	mu      sync.Mutex
	tenants map[string]drivers.Observed
}

func (d *memoryDriver) set(t drivers.Tenant, suspended bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tenants[t.ID] = drivers.Observed{TenantID: t.ID, Isolation: t.Isolation, Suspended: suspended, Limits: t.Limits}
	return nil
}

func (d *memoryDriver) Provision(_ context.Context, _ string, t drivers.Tenant, suspended bool) error {
	return d.set(t, suspended)
}
func (d *memoryDriver) Suspend(_ context.Context, _ string, t drivers.Tenant) error {
	return d.set(t, true)
}
func (d *memoryDriver) Resume(_ context.Context, _ string, t drivers.Tenant) error {
	return d.set(t, false)
}
func (d *memoryDriver) Resize(context.Context, string, drivers.Tenant) error { return nil }
func (d *memoryDriver) Deprovision(_ context.Context, _ string, t drivers.Tenant) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.tenants, t.ID)
	return nil
}

func (d *memoryDriver) Observe(context.Context) (all []drivers.Observed, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range d.tenants {
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b drivers.Observed) int { return bytes.Compare([]byte(a.TenantID), []byte(b.TenantID)) })
	return all, nil
}

func (d *memoryDriver) ConnectionURL(context.Context, drivers.Tenant) (string, error) {
	return "", drivers.ErrNoTenant
}
func (d *memoryDriver) Close() error { return nil }

// gatewayHouse is a Bus on a log in memory, and a gateway that can be started again.
type gatewayHouse struct {
	*gateway.Gateway
	t       *testing.T
	log     *memoryFeed
	bus     *commands.Bus
	plane   string
	address atomic.Value
	n       int
	stop    func()
}

func newGatewayHouse(t *testing.T) *gatewayHouse {
	t.Helper()
	h := &gatewayHouse{t: t, log: &memoryFeed{moved: make(chan struct{})}, plane: domain.ID(domain.PlaneID, domain.DeriveUUID("gateway test"))}
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	var err error
	if h.bus, err = commands.New(commands.Config{Log: h.log, Aggregates: []domain.Aggregate{plane.Aggregate}, HashKey: make([]byte, 32),
		Epoch: domain.Epoch{Number: 1, ID: "one"}, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.bus.Close(context.Background()) })
	h.do(plane.Register{PlaneID: h.plane})
	h.start()
	t.Cleanup(func() { h.stop() })
	return h
}

func (h *gatewayHouse) start() {
	h.t.Helper()
	ca, err := gateway.NewCA(make([]byte, 32), time.Now)
	if err != nil {
		h.t.Fatal(err)
	}
	if h.Gateway, err = gateway.New(gateway.Config{Bus: h.bus, Log: h.log, Clock: realClock{}, CA: ca, Epoch: domain.Epoch{Number: 1, ID: "one"},
		Heartbeat: 100 * time.Millisecond, Planes: func(context.Context) ([]string, error) { return []string{h.plane}, nil }}); err != nil {
		h.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	h.address.Store(listener.Addr().String())
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{Handler: h.Handler(), TLSConfig: ca.TLS(), ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	var running sync.WaitGroup
	g := h.Gateway
	running.Go(func() { _ = server.ServeTLS(listener, "", "") })
	running.Go(func() {
		if err := g.Run(ctx); err != nil {
			h.t.Error(err)
		}
	})
	h.stop = func() { cancel(); _ = server.Close(); running.Wait() }
}

func (h *gatewayHouse) do(c domain.Command) commands.Outcome {
	h.t.Helper()
	h.n++
	out, err := h.bus.Execute(h.t.Context(), commands.Call{Command: c, Actor: "test", CommandID: domain.DeriveUUID("test", fmt.Sprint(h.n)).String()})
	if err != nil {
		h.t.Fatalf("%T: %v", c, err)
	}
	return out
}

// await waits until the plane's state fits.
func (h *gatewayHouse) await(what string, fits func(plane.State) bool) {
	h.t.Helper()
	bound := time.After(time.Minute)
	for {
		moved := h.log.next()
		s, _, err := h.bus.State(h.t.Context(), plane.Aggregate.Stream(h.plane))
		if err != nil {
			h.t.Fatal(err)
		}
		if fits(s.(plane.State)) {
			return
		}
		select {
		case <-moved:
		case <-bound:
			h.t.Fatalf("never: %s, but %+v", what, s)
		}
	}
}

// agent starts a real agent that joins with a new token; end stops it.
func (h *gatewayHouse) agent(d drivers.Driver) (end func(), ended <-chan error) {
	h.t.Helper()
	text, hash, err := h.NewJoinToken(h.plane)
	if err != nil {
		h.t.Fatal(err)
	}
	h.do(plane.IssueJoinToken{PlaneID: h.plane, Hash: hash, Life: time.Hour})
	a, err := agent.New(agent.Config{Dir: h.t.TempDir(), GatewayURL: "https://gateway.test:1", JoinToken: text, Driver: d, DriverName: "memory",
		Reconnect: agent.Backoff{First: time.Millisecond, Max: 10 * time.Millisecond}, Logger: slog.New(slog.DiscardHandler),
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", h.address.Load().(string))
		}})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	out := make(chan error, 1)
	done := make(chan struct{})
	go func() { defer close(done); out <- a.Run(ctx) }()
	end = func() { cancel(); <-done }
	h.t.Cleanup(end)
	return end, out
}

func TestARealAgentThroughTheGateway(t *testing.T) {
	h := newGatewayHouse(t)
	d := &memoryDriver{tenants: map[string]drivers.Observed{"stray": {TenantID: "stray"}}}
	_, first := h.agent(d)
	online := func(session int64) func(plane.State) bool {
		return func(s plane.State) bool { return s.Agent.State == plane.Online && s.Agent.Session >= session }
	}
	h.await("online", online(1))

	org, ten := domain.ID(domain.OrgID, domain.DeriveUUID("org")), domain.ID(domain.TenantID, domain.DeriveUUID("tenant"))
	h.do(plane.Reserve{PlaneID: h.plane, TenantID: ten, OrgID: org, Change: 1, Isolation: "pool"})
	settled := func(operations int64) func(plane.State) bool {
		return func(s plane.State) bool { return s.Asked == operations && s.Operations.Len() == 0 }
	}
	h.do(plane.Ask{PlaneID: h.plane, TenantID: ten, OrgID: org, Kind: plane.Provision, Change: 1, Isolation: "pool"})
	h.await("provisioned", settled(1))
	d.mu.Lock()
	if o := d.tenants[ten]; o.Suspended || o.Isolation != drivers.Pool {
		t.Errorf("provisioned as %+v", o)
	}
	d.mu.Unlock()

	h.stop() // the gateway goes, the tenant is suspended, another comes
	h.do(plane.Ask{PlaneID: h.plane, TenantID: ten, OrgID: org, Kind: plane.Suspend, Causes: 1})
	h.start()
	h.await("suspended", settled(2))
	h.await("online again", online(2))
	d.mu.Lock()
	if !d.tenants[ten].Suspended {
		t.Error("not suspended")
	}
	d.mu.Unlock()

	end, _ := h.agent(d) // one that has lost all takes over
	var stale *agent.Error
	if err := <-first; !errors.As(err, &stale) || stale.Code != agent.CodeStale && stale.Code != agent.CodeUnauthenticated {
		t.Errorf("the first agent ended with %v", err)
	}
	h.await("online anew", online(3))
	h.do(plane.Ask{PlaneID: h.plane, TenantID: ten, OrgID: org, Kind: plane.Deprovision, Change: 2})
	h.await("gone", settled(3))
	if all, _ := d.Observe(t.Context()); len(all) != 1 || all[0].TenantID != "stray" {
		t.Errorf("there are %+v", all)
	}
	strays := 0
	for _, e := range h.log.All() {
		if e.Type == "plane.tenants.unclaimed" {
			strays++
			if !bytes.Contains(e.Data, []byte(`"tenants":["stray"]`)) {
				t.Errorf("unclaimed: %s", e.Data)
			}
		}
	}
	if strays == 0 {
		t.Error("the stray tenant was not reported")
	}
	end()
	h.await("offline", func(s plane.State) bool { return s.Agent.State == plane.Offline })
}
