// Package clustertest gives tests a real Postgres: one private cluster a test binary, started when the first test asks
// for it, and a fresh database for each test. Only tests import it.
//
//	func TestMain(m *testing.M) { clustertest.Main(m) }
//
//	func TestRows(t *testing.T) {
//		url := clustertest.Database(t) // the superuser's URL of an empty database
//	}
package clustertest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tenure-dev/tenure/adapters/postgres/cluster"
)

// Settings of the tests' cluster. It is thrown away, so it need not survive a crash of the machine.
var Settings = map[string]string{
	"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
	"max_connections": "200", "shared_buffers": "64MB", "autovacuum": "off",
}

var shared struct {
	sync.Mutex
	cluster *cluster.Cluster
	dir     string
	err     error
	ended   bool
}

var databases atomic.Int64

// Main runs the tests, stops the cluster if one was started, and exits with the tests' code.
func Main(m *testing.M) { os.Exit(Wrap(m).Run()) }

// Runner is what goleak.VerifyTestMain takes.
type Runner interface{ Run() int }

// Wrap is for a TestMain with goleak: goleak.VerifyTestMain(clustertest.Wrap(m)).
func Wrap(m Runner) Runner { return wrapped{m} }

type wrapped struct{ Runner }

func (w wrapped) Run() int {
	code := w.Runner.Run()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, "clustertest:", err)
		return max(code, 1)
	}
	return code
}

func stop() error {
	shared.Lock()
	defer shared.Unlock()
	shared.ended = true
	if shared.cluster == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := shared.cluster.Stop(ctx); err != nil {
		return err
	}
	return os.RemoveAll(shared.dir)
}

// Shared is the test binary's cluster. A TestMain that calls Main or Wrap stops it at the end; without one the kernel
// does, and its directory stays in the system's place for temporary files.
func Shared(t testing.TB) *cluster.Cluster {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.ended {
		t.Fatal("clustertest: the cluster has already been stopped")
	}
	if shared.cluster == nil && shared.err == nil {
		shared.dir, shared.err = os.MkdirTemp("", "tenure-test-")
		if shared.err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			shared.cluster, shared.err = cluster.Start(ctx, cluster.Options{Dir: shared.dir, Name: "test", Settings: Settings})
		}
	}
	if shared.err != nil {
		t.Fatal("clustertest:", shared.err)
	}
	return shared.cluster
}

// Database makes an empty database and gives its superuser URL. It is dropped, with whatever is still connected, when
// the test ends.
func Database(t testing.TB) (url string) {
	t.Helper()
	c := Shared(t)
	name := fmt.Sprintf("test_%d", databases.Add(1))
	admin(t, c, "CREATE DATABASE "+name+" TEMPLATE template0")
	t.Cleanup(func() { admin(t, c, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)") })
	return c.URL(name)
}

func admin(t testing.TB, c *cluster.Cluster, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		t.Fatal("clustertest:", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Fatal("clustertest:", err)
	}
}
