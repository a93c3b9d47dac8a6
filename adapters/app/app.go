// Package app is the composition root: it builds the running system from a configuration, and takes it down again. Only the
// command line and the suites call it.
package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tenure-dev/tenure/adapters/bus/sinks"
	"github.com/tenure-dev/tenure/adapters/bus/sources"
	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/adapters/gateway"
	"github.com/tenure-dev/tenure/adapters/keystore"
	"github.com/tenure-dev/tenure/adapters/postgres"
	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/org"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/domain/reservation"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/domain/sink"
	"github.com/tenure-dev/tenure/domain/tenant"
	"github.com/tenure-dev/tenure/domain/tier"
	"github.com/tenure-dev/tenure/graphql"
	"github.com/tenure-dev/tenure/projections"
	"github.com/tenure-dev/tenure/projections/readmodels"
	"github.com/tenure-dev/tenure/sagas"
	"github.com/tenure-dev/tenure/sagas/offboarding"
	"github.com/tenure-dev/tenure/sagas/onboarding"
	"github.com/tenure-dev/tenure/sagas/suspension"
)

// Aggregates is every aggregate that the Bus decides on.
var Aggregates = []domain.Aggregate{org.Aggregate, tier.Aggregate, tenant.Aggregate, plane.Aggregate, reservation.Aggregate, saga.Aggregate, sink.Aggregate}

// Definitions is every version of every saga that this release runs.
var Definitions = []*sagas.Definition{
	onboarding.Onboarding.Definition(),
	suspension.Suspension.Definition(),
	suspension.Resumption.Definition(),
	offboarding.Offboarding.Definition(),
}

// Registry holds every event of the log and every command.
func Registry() *domain.Registry {
	catalogs := []domain.Catalog{domain.EpochCatalog, saga.Definitions, sink.Cursors}
	for _, a := range Aggregates {
		catalogs = append(catalogs, a.Events, a.Commands)
	}
	return domain.NewRegistry(catalogs...)
}

// Config is what a control plane is made of. All is required but Sinks, Sources, Sole, Heartbeat, Metrics and Logger.
type Config struct {
	EventStore string // esdb://…
	Postgres   string // of the read side: postgresql://…
	KeyDir     string // of the key store
	HTTP       net.Listener
	Gateway    net.Listener
	Token      string           // the operator's bearer token
	Sinks      []sinks.Sink     // as ParseSinks gives them; Start closes their targets
	Sources    []sources.Source // as ParseSources gives them; Start closes what they hold
	Owner      string           // under which this process takes leases: no two that run at once may share it
	// Sole says that no other control plane writes to this log, now or from before.
	Sole      bool
	Heartbeat time.Duration        // of agents; 5 s when zero
	Metrics   *prometheus.Registry // what /metrics serves; one of NewMetrics when nil
	Logger    *slog.Logger
}

// System is a running control plane.
type System struct {
	Bus     *commands.Bus
	Log     *eventstore.Log
	Group   *projections.Group
	Gateway *gateway.Gateway
	Reader  *postgres.Reader
	Epoch   domain.Epoch

	sinks      *sinks.Runner // nil when none is configured
	deliveries *postgres.Deliveries

	logger *slog.Logger
	stops  []func(context.Context) // in the order of starting; run backwards
	mu     sync.Mutex
	err    error
	failed chan struct{} // closed at the first part that ends by itself
}

// Start brings a control plane up: the log, the Bus, the read side, the gateway, the sagas, the API. On an error everything
// that was started has been stopped.
func Start(ctx context.Context, c Config) (s *System, err error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics()
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 5 * time.Second
	}
	s = &System{logger: c.Logger, failed: make(chan struct{})}
	defer func() {
		if err != nil {
			s.Stop(context.WithoutCancel(ctx))
		}
	}()
	s.onStop(func(context.Context) { _ = errors.Join(closeSinks(c.Sinks), closeSources(c.Sources)) })

	keys, err := keystore.Open(c.KeyDir)
	if err != nil {
		return s, err
	}
	hashKey, err := keys.HashKey()
	if err != nil {
		return s, err
	}
	seed, err := keys.Secret("gateway-ca", 32)
	if err != nil {
		return s, err
	}
	ca, err := gateway.NewCA(seed, clock{}.Now)
	if err != nil {
		return s, err
	}

	if s.Log, err = eventstore.Open(ctx, eventstore.Config{URL: c.EventStore, Logger: c.Logger.With("part", "log")}); err != nil {
		return s, err
	}
	s.onStop(func(ctx context.Context) { _ = s.Log.Close(ctx) })
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return s, err
	}
	if s.Epoch, err = s.Log.Epoch(ctx, hex.EncodeToString(random), 1, domain.Micro(clock{}.Now())); err != nil {
		return s, err
	}
	known := newPlanes(s.Log, func() uint64 { at, _ := s.Group.Position(); return at.Commit })
	if s.Bus, err = commands.New(commands.Config{Log: s.Log, Aggregates: Aggregates, Facts: commands.Facts, Fill: known.fill, Sealer: keys, HashKey: hashKey,
		Epoch: s.Epoch, Now: clock{}.Now, Sole: c.Sole, Logger: c.Logger.With("part", "bus")}); err != nil {
		return s, err
	}
	known.bus = s.Bus
	s.onStop(func(ctx context.Context) { _ = s.Bus.Close(ctx) })

	db, err := postgres.Open(ctx, postgres.Options{URL: c.Postgres, Logger: c.Logger.With("part", "postgres")})
	if err != nil {
		return s, err
	}
	s.onStop(func(context.Context) { db.Close() })
	tables, registry := readmodels.All(), Registry()
	s.Group = projections.NewGroup(projections.Options{Name: "live", Owner: c.Owner, Tables: tables, Registry: registry, Log: s.Epoch,
		Source: s.Log, Streams: s.Log, Store: db.Store(), Clock: clock{}, Logger: c.Logger.With("part", "projections")})
	s.Reader = db.Reader("live", tables)
	s.goes("projections", s.Group.Run)

	s.goes("planes", func(ctx context.Context) error {
		return known.run(ctx, s.planesOf, clock{}.Now)
	})
	if s.Gateway, err = gateway.New(gateway.Config{Bus: s.Bus, Log: s.Log, Clock: clock{}, CA: ca, Epoch: s.Epoch, Planes: known.ids,
		Heartbeat: c.Heartbeat, Logger: c.Logger.With("part", "gateway")}); err != nil {
		return s, err
	}
	s.goes("gateway", s.Gateway.Run)
	agents := &http.Server{Handler: s.Gateway.Handler(), TLSConfig: ca.TLS(), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(c.Logger.With("part", "gateway").Handler(), slog.LevelDebug)}
	s.serves("gateway listener", agents, func() error { return agents.ServeTLS(c.Gateway, "", "") })

	runner, err := sagas.NewRunner(sagas.Config{Definitions: Definitions, Registry: registry, Epoch: s.Epoch, Log: appendOnly{s.Log}, Source: s.Log,
		Bus: commander{s.Bus}, Open: openSagas{s.Reader, s.Group}, Cursors: postgres.Cursors{DB: db, Name: "sagas"}, Snapshots: known, Planes: known,
		Lease: postgres.Lock{DB: db, Key: sagaLock, After: clock{}.After}, Clock: clock{}, Logger: c.Logger.With("part", "sagas")})
	if err != nil {
		return s, err
	}
	s.goes("sagas", s.retried("sagas", runner.Run))
	if err := s.startSinks(c.Sinks, keys, db, c.Metrics, c.Logger); err != nil {
		return s, err
	}
	if err := s.startSources(c.Sources, c.Metrics, c.Logger); err != nil {
		return s, err
	}

	var names []string
	for _, d := range Definitions {
		names = append(names, d.Name)
	}
	api := graphql.NewHandler(graphql.Config{Commands: s.Bus, Sagas: graphql.NamedSagas{States: s.Bus, Names: names}, Reads: reads{s.Reader}, Sinks: s.sinkReader(),
		Live: live{s.Group}, Sealer: keys, Tokens: s.Gateway, Auth: graphql.StaticToken(c.Token, "operator"), Logger: c.Logger.With("part", "graphql"),
		Introspection: true})
	handler := mux(api, MetricsHandler(c.Metrics), s.standing, answers("the read side's database", db.Pool.Ping), answers("the log", func(ctx context.Context) error {
		_, err := s.Log.Head(ctx)
		return err
	}))
	web := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(c.Logger.With("part", "http").Handler(), slog.LevelDebug)}
	s.serves("http listener", web, func() error { return web.Serve(c.HTTP) })
	s.onStop(func(ctx context.Context) { _ = api.Close(ctx) })
	return s, nil
}

// sagaLock is the advisory lock of whoever runs the sagas.
const sagaLock = 0x74656e75_73616761 // "tenusaga"

// planesOf lists the planes that the read side knows by now. It waits until the read side has met the log's head.
func (s *System) planesOf(ctx context.Context) (ids []string, err error) {
	head, err := s.Log.Head(ctx)
	if err != nil {
		return nil, err
	}
	for {
		err := s.Group.WaitFor(ctx, head, openBound)
		if err == nil {
			break
		}
		if domain.CodeOf(err) != domain.CodeLagging || ctx.Err() != nil {
			return nil, err
		}
	}
	err = s.Reader.Read(ctx, func(r *postgres.Snapshot) error {
		q, after := readmodels.Queries{Snapshot: r}, ""
		for {
			page, err := q.PageOfPlanes(ctx, "", after, 1000)
			if err != nil || len(page) == 0 {
				return err
			}
			for _, p := range page {
				ids = append(ids, p.ID)
			}
			after = page[len(page)-1].ID
		}
	})
	return ids, err
}

// Failed is closed when a part has ended by itself; Err says which and why.
func (s *System) Failed() <-chan struct{} { return s.failed }

// Err is why the system has failed, or nil.
func (s *System) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Stop takes everything down in the opposite order. ctx bounds how long calls under way may take.
func (s *System) Stop(ctx context.Context) {
	for i := len(s.stops) - 1; i >= 0; i-- {
		s.stops[i](ctx)
	}
	s.stops = nil
}

func (s *System) onStop(f func(context.Context)) { s.stops = append(s.stops, f) }

func (s *System) fail(part string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = fmt.Errorf("%s: %w", part, err)
		close(s.failed)
	}
}

// goes runs a part until it is stopped; a part that ends before fails the system.
func (s *System) goes(part string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := run(ctx)
		if ctx.Err() == nil {
			s.fail(part, errors.Join(err, errors.New("ended by itself")))
		}
	}()
	s.onStop(func(context.Context) { cancel(); <-done })
}

// retried runs a part again when it fails, for as long as its failure may pass.
func (s *System) retried(part string, run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for {
			err := run(ctx)
			if ctx.Err() != nil || errors.Is(err, domain.ErrNewer) {
				return err
			}
			s.logger.Warn("a part has failed and is started again", "part", part, "error", err)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

func (s *System) serves(part string, server *http.Server, serve func() error) {
	secure, done := server.TLSConfig != nil, make(chan struct{}) // asked now: serving changes it
	go func() {
		defer close(done)
		if err := serve(); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.fail(part, err)
		}
	}()
	s.onStop(func(ctx context.Context) {
		if secure { // agents' sessions never end by themselves: the gateway ends them next
			_ = server.Close()
		} else if err := server.Shutdown(ctx); err != nil {
			_ = server.Close()
		}
		<-done
	})
}
