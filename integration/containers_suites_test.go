package integration

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/testcontainers/testcontainers-go"

	"github.com/tenure-dev/tenure/adapters/app"
	"github.com/tenure-dev/tenure/adapters/bus/broker"
	"github.com/tenure-dev/tenure/adapters/bus/settings"
	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/adapters/postgres"
	"github.com/tenure-dev/tenure/commands/commandstest"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/projections"
	"github.com/tenure-dev/tenure/projections/projectionstest"
)

// storeBox is an event store in a container: the product's own node, or a KurrentDB.
type storeBox struct{ *box }

func startStoreBox(t testing.TB) *storeBox {
	t.Helper()
	image := imageOf("TENURE_IMAGE_EVENTSTORE")
	options := []testcontainers.ContainerCustomizer{testcontainers.WithEnv(map[string]string{
		"KURRENTDB_INSECURE": "true", "KURRENTDB_CLUSTER_SIZE": "1", "KURRENTDB_RUN_PROJECTIONS": "None", "KURRENTDB_MEM_DB": "false"})}
	if isOurs(t, image) {
		options = []testcontainers.ContainerCustomizer{testcontainers.WithCmd("node", "--insecure", "--node", "0.0.0.0:2113")}
	}
	return &storeBox{startBox(t, image, "2113", func(ctx context.Context, addr string) error {
		log, err := eventstore.Open(ctx, eventstore.Config{URL: "esdb://" + addr + "?tls=false", Logger: quiet()})
		if err != nil {
			return err
		}
		defer log.Close(context.WithoutCancel(ctx))
		_, err = log.Head(ctx)
		return err
	}, options...)}
}

func (s *storeBox) url() string { return "esdb://" + s.addr + "?tls=false" }

func (s *storeBox) open() *eventstore.Log {
	s.t.Helper()
	l, err := eventstore.Open(context.Background(), eventstore.Config{URL: s.url(), Logger: quiet()})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := l.Close(ctx); err != nil {
			s.t.Error("closing the log:", err)
		}
	})
	return l
}

// startPostgresBox runs a Postgres in a container; its superuser is postgres.
func startPostgresBox(t testing.TB) *box {
	t.Helper()
	return startBox(t, imageOf("TENURE_IMAGE_POSTGRES"), "5432", func(ctx context.Context, addr string) error {
		conn, err := pgx.Connect(ctx, postgresURL(addr, "postgres"))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	}, testcontainers.WithEnv(map[string]string{"POSTGRES_PASSWORD": "suite"}))
}

func postgresURL(addr, database string) string {
	return fmt.Sprintf("postgresql://postgres:suite@%s/%s?sslmode=disable", addr, database)
}

func TestContainersEventStoreKeepsTheLogsContract(t *testing.T) {
	commandstest.Contract(t, startStoreBox(t).open(), "")
}

func TestContainersFollowersMissNothingWhenTheEventStoreIsKilled(t *testing.T) {
	followersMissNothing(t, startStoreBox(t))
}

func TestContainersTwoBusesCarryOutEachCommandOnceWhenTheEventStoreIsKilled(t *testing.T) {
	eachCommandOnce(t, startStoreBox(t))
}

func TestContainersPostgresKeepsTheReadSidesContract(t *testing.T) {
	server := startPostgresBox(t)
	admin, err := pgx.Connect(t.Context(), postgresURL(server.addr, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close(context.Background()) })
	var one sync.Mutex // the contract's parts begin side by side
	databases := 0
	projectionstest.TestStore(t, func(t *testing.T) projectionstest.Backend {
		one.Lock()
		defer one.Unlock()
		databases++
		name := fmt.Sprint("contract", databases)
		if _, err := admin.Exec(t.Context(), "create database "+name); err != nil {
			t.Fatal(err)
		}
		db, err := postgres.Open(t.Context(), postgres.Options{URL: postgresURL(server.addr, name), Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(db.Close)
		return readSide(t, db)
	})
}

// readSide is a database as the contract of read sides wants it.
func readSide(t *testing.T, db *postgres.Database) projectionstest.Backend {
	return projectionstest.Backend{
		Open: func() projections.Store {
			s := db.Store()
			t.Cleanup(func() { s.Close(context.Background()) })
			return s
		},
		Snapshot: func(table *projections.Table) (rows map[string]string, at int64) {
			rows, at = map[string]string{}, projections.Nowhere
			if err := db.Reader("live", []*projections.Table{table}).Read(t.Context(), func(s *postgres.Snapshot) error {
				if s.Begun {
					at = int64(s.Position.Commit)
				}
				all, err := s.Query(t.Context(), "select * from "+s.Table(table.Name), pgx.QueryResultFormats{pgx.BinaryFormatCode})
				if err != nil {
					return err
				}
				defer all.Close()
				for all.Next() {
					row, err := table.Decode(all.RawValues())
					if err != nil {
						return err
					}
					e, err := table.Encode(row)
					if err != nil {
						return err
					}
					rows[e.Key()] = string(e)
				}
				return all.Err()
			}); err != nil {
				t.Error(err)
			}
			return rows, at
		},
		Outage: func() {
			if _, err := db.Pool.Exec(t.Context(), `select pg_terminate_backend(pid) from pg_stat_activity
				where datname = current_database() and pid <> pg_backend_pid() and application_name = 'tenure projections'`); err != nil {
				t.Error(err)
			}
		},
	}
}

// onBoxes is a dev whose log, read side and plane are in containers.
func onBoxes(t *testing.T) (c app.DevConfig, log *storeBox, readside, plane *box) {
	t.Helper()
	log, readside, plane = startStoreBox(t), startPostgresBox(t), startPostgresBox(t)
	return app.DevConfig{Dir: t.TempDir(), Driver: "postgres", EventStore: log.url(), Postgres: postgresURL(readside.addr, "postgres"),
		Plane: postgresURL(plane.addr, "postgres")}, log, readside, plane
}

func TestContainersTheWholeLoop(t *testing.T) {
	c, _, _, _ := onBoxes(t)
	theWholeLoop(t, c)
}

// Tenants are asked for while the event store and then each Postgres is killed with SIGKILL and started again: every one that
// was promised becomes active, once.
func TestContainersTheSystemOutlivesItsServers(t *testing.T) {
	const tenants = 12
	config, store, readside, plane := onBoxes(t)
	s := startSystem(t, config)
	org := text(s.do(t, "registerOrg", object{"slug": "acme", "idempotencyKey": "acme"}), "org", "id")
	for _, isolation := range isolations {
		s.do(t, "publishTier", object{"tierKey": isolation, "isolation": isolation, "cost": slots(1), "idempotencyKey": isolation})
	}
	promised := make(chan string, tenants)
	var all sync.WaitGroup
	for i := range tenants {
		all.Go(func() { promised <- s.promise(t, org, fmt.Sprint("tenant-", i), isolations[i%len(isolations)]) })
	}
	for n, killed := range []*box{store.box, readside, plane} {
		for len(promised) < min(n+1, tenants) && !t.Failed() {
			time.Sleep(time.Millisecond) // the callers' progress is what this waits for
		}
		killed.stop()
		killed.start()
	}
	all.Wait()
	close(promised)
	for id := range promised {
		if id != "" {
			s.active(t, id)
		}
	}
	w := s.shown(t, s.openLog(t))
	w.check(t)
	w.commandsRunOnce(t)
	if len(w.tenants) != tenants {
		t.Errorf("the log has %d tenants, not %d", len(w.tenants), tenants)
	}
}

// promise asks for a tenant, with one idempotency key, until it is answered.
func (c *client) promise(t *testing.T, org, slug, tier string) string {
	input := object{"orgId": org, "slug": slug, "tierKey": tier, "idempotencyKey": slug}
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		a, err := c.ask(t.Context(), mutation("requestTenant"), object{"input": input})
		if err != nil {
			continue
		}
		payload, _ := a.Data["requestTenant"].(object)
		if problems, _ := payload["userErrors"].([]any); len(problems) > 0 && text(problems[0], "code") != "UNAVAILABLE" {
			t.Errorf("%s: %v", slug, problems)
			return ""
		}
		if text(payload, "position") != "" {
			return domain.NewID(domain.TenantID, "operator", "tenant.request", slug)
		}
	}
	t.Errorf("%s was never answered", slug)
	return ""
}

// active waits until a tenant is, over any number of subscriptions that an outage ends.
func (c *client) active(t *testing.T, id string) {
	t.Helper()
	var last object
	var err error
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if last, err = c.watch(t.Context(), "tenantChanged", id, in("phase", []string{"active"})); err == nil {
			return
		}
	}
	t.Errorf("tenant %s is not active: %v; last seen as %v", id, err, last)
}

func TestContainersASinkDeliversToNATSThroughItsKill(t *testing.T) {
	b := natsContainer(t)
	to, from := broker.NewNATSSink(), broker.NewNATSSource()
	to.URL, to.Stream, to.Subject, to.Create = settings.NewSecret("nats://"+b.addr), "sunk", "sunk.{type}", true
	from.URL, from.Stream, from.Durable, from.Redelivery = to.URL, "sunk", "suite", time.Millisecond
	sinksDeliver(t, to, from, func() { b.stop(); b.start() })
}

func TestContainersASinkDeliversToRabbitMQThroughItsKill(t *testing.T) {
	b := rabbitContainer(t)
	to, from := broker.NewAMQPSink(), broker.NewAMQPSource()
	to.URL, to.Exchange, to.RoutingKey = settings.NewSecret("amqp://suite:suite@"+b.addr+"/"), "sunk", "{type}"
	from.URL, from.Exchange, from.Queue, from.Redelivery = to.URL, "sunk", "sunk", time.Millisecond
	sinksDeliver(t, to, from, func() { b.stop(); b.start() })
}
