// Package cluster keeps one private Postgres running for as long as this process lives: for `tenure dev`, for the demo
// and for tests. It uses the machine's own binaries, listens on loopback alone and never removes a data directory.
// Only the composition root and tests call it.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5"
)

// Host is the only address that a cluster listens on.
const Host = "127.0.0.1"

// Superuser is the role that URL connects as.
const Superuser = "postgres"

// Options say which cluster to run. Dir and Name are required.
type Options struct {
	// Dir holds the cluster: Dir/Name is the data directory, Dir/Name.json its port and password (0600), and
	// Dir/Name.lock the lock that this process holds. Dir is made (0700) if it is missing.
	Dir string
	// Name is one path element, [a-z][a-z0-9-]*.
	Name string
	// Logger hears what the supervisor does and, at debug level, what the server says. Nil discards it.
	Logger *slog.Logger
	// BinDir holds initdb and postgres. Empty finds them: the newest of /usr/lib/postgresql/*/bin, then PATH; for an
	// existing data directory, the one of its own major version.
	BinDir string
	// Settings are server settings besides, or instead of, the defaults. Those on which the supervisor rests (address,
	// port, log format) cannot be set.
	Settings map[string]string
}

// Cluster is a running server. Its methods may be called from any goroutine.
type Cluster struct {
	port     int
	password string
	server   *server
	lock     *lock
	log      *slog.Logger
	stop     sync.Once
}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// Start makes the cluster if it is new, ends a server that a killed process left behind, and returns when Postgres
// answers. One process at a time may run a cluster: a second Start fails with ErrRunning and names the pid. ctx bounds
// the start only. The server stops when Stop is called or when this process dies, however it dies.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if !nameForm.MatchString(o.Name) {
		return nil, fmt.Errorf("cluster name %q: must match %s", o.Name, nameForm)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("cluster directory: %w", err)
	}
	o.Dir = dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cluster directory: %w", err)
	}
	held, err := acquire(filepath.Join(dir, o.Name))
	if err != nil {
		return nil, err
	}
	c, err := start(ctx, o, chooseIdentity)
	if err != nil {
		held.release()
		return nil, fmt.Errorf("postgres cluster %s: %w", filepath.Join(dir, o.Name), err)
	}
	c.lock = held
	c.server.beforeDone(held.release)
	return c, nil
}

// start is Start once the lock is held.
func start(ctx context.Context, o Options, choose func(context.Context, binaries) (identity, error)) (*Cluster, error) {
	h, err := open(o)
	if err != nil {
		return nil, err
	}
	bin, err := findBinaries(ctx, o.BinDir, h.version)
	if err != nil {
		return nil, err
	}
	who, err := choose(ctx, bin)
	if err != nil {
		return nil, err
	}
	if err := stopLeftover(ctx, h.data, o.Logger); err != nil {
		return nil, err
	}
	if err := h.prepare(ctx, bin, who, o); err != nil {
		return nil, err
	}
	srv, err := h.serve(ctx, bin, who, o)
	if err != nil {
		return nil, err
	}
	c := &Cluster{port: h.state.Port, password: h.state.Password, server: srv, log: o.Logger}
	if err := c.answer(ctx); err != nil {
		return nil, errors.Join(err, c.Stop(ctx))
	}
	o.Logger.Info("postgres is up", "cluster", o.Name, "port", c.port, "version", bin.version, "as", who.name)
	return c, nil
}

// answer proves that the server takes our password.
func (c *Cluster) answer(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return fmt.Errorf("the server is up but refuses us: %w", err)
	}
	return conn.Close(ctx)
}

// URL is the superuser's URL of a database of this cluster. It holds the password: do not log it.
func (c *Cluster) URL(db string) string {
	u := url.URL{
		Scheme: "postgresql", User: url.UserPassword(Superuser, c.password),
		Host: net.JoinHostPort(Host, strconv.Itoa(c.port)), Path: "/" + db, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Host is where the server listens: always the loopback address.
func (c *Cluster) Host() string { return Host }

// Port is the server's TCP port, the same at every start unless somebody else has taken it meanwhile.
func (c *Cluster) Port() int { return c.port }

// Done is closed when the server has ended, by Stop or by itself; Err then says why.
func (c *Cluster) Done() <-chan struct{} { return c.server.ended.Done() }

// Err is nil while the server runs and after a clean Stop, else how it ended with the last lines that it said.
func (c *Cluster) Err() error { return c.server.err() }

// Stop ends the server and returns when it is gone: sessions are cut and a checkpoint written (fast shutdown), and if
// ctx ends or 6 s pass before that is done, the server is made to stop at once, which costs a recovery at the next
// start but no data. It may be called again.
func (c *Cluster) Stop(ctx context.Context) error {
	err := c.server.stop(ctx)
	c.stop.Do(func() { c.log.Info("postgres has stopped", "port", c.port) })
	return err
}
