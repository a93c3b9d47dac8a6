package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/tenure-dev/tenure/adapters/bus/broker"
	"github.com/tenure-dev/tenure/adapters/bus/settings"
	"github.com/tenure-dev/tenure/adapters/postgres/cluster"
	"github.com/tenure-dev/tenure/adapters/postgres/cluster/clustertest"
)

// largest is the limit that the brokers are given for a message, in bytes.
const largest = 64 << 10

func natsBroker(t testing.TB) testBroker {
	dir, port := t.TempDir(), freePort(t)
	var s *server.Server
	b := testBroker{
		start: func() {
			var err error
			s, err = server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true,
				MaxPayload: largest, Username: "tenure", Password: "of-the-test"})
			if err != nil {
				t.Fatal(err)
			}
			s.Start()
			if !s.ReadyForConnections(patience) {
				t.Fatal("nats-server is not ready")
			}
		},
		stop: func() { s.Shutdown(); s.WaitForShutdown() },
	}
	url := func(password string) settings.Secret {
		return settings.NewSecret(fmt.Sprintf("nats://tenure:%s@127.0.0.1:%d", password, port))
	}
	sink := func(name, password string) *broker.NATSSink {
		c := broker.NewNATSSink()
		c.URL, c.Stream, c.Subject, c.Create = url(password), name, name+".{type}", true
		return c
	}
	b.sink = func(name string) broker.Sink { return sink(name, "of-the-test") }
	b.source = func(name string) subscribing {
		c := broker.NewNATSSource()
		c.URL, c.Stream, c.Durable, c.Redelivery = url("of-the-test"), name, "suite", time.Millisecond
		return c
	}
	b.url = fmt.Sprintf("nats://tenure:of-the-test@127.0.0.1:%d", port)
	b.stranger = sink("stranger", strangersPassword)
	nowhere := sink("nowhere", "of-the-test")
	nowhere.Create = false
	b.nowhere = nowhere
	b.start()
	t.Cleanup(func() { b.stop() })
	return b
}

func postgresBroker(t testing.TB) testBroker {
	dir := t.TempDir()
	var c *cluster.Cluster
	b := testBroker{
		start: func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			var err error
			if c, err = cluster.Start(ctx, cluster.Options{Dir: dir, Name: "broker", Settings: clustertest.Settings}); err != nil {
				t.Fatal(err)
			}
		},
		stop: func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := c.Stop(ctx); err != nil {
				t.Fatal(err)
			}
		},
	}
	b.start()
	t.Cleanup(func() { b.stop() })
	conn, err := pgx.Connect(t.Context(), c.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "CREATE DATABASE events"); err != nil {
		t.Fatal(err)
	}
	url := c.URL("events")
	sink := func(name, url string) *broker.PostgresSink {
		c := broker.NewPostgresSink()
		c.URL, c.Topic, c.MaxBytes = settings.NewSecret(url), strings.ReplaceAll(name, "-", "_"), largest
		return c
	}
	b.sink = func(name string) broker.Sink { return sink(name, url) }
	b.source = func(name string) subscribing {
		c := broker.NewPostgresSource()
		c.URL, c.Topic, c.Group = settings.NewSecret(url), strings.ReplaceAll(name, "-", "_"), "suite"
		c.Poll, c.Redelivery = 10*time.Millisecond, time.Millisecond
		return c
	}
	b.stranger = sink("stranger", fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/events?sslmode=disable", cluster.Superuser, strangersPassword, c.Port()))
	nowhere := sink("nowhere", url)
	nowhere.Declare = false
	b.nowhere = nowhere
	return b
}
