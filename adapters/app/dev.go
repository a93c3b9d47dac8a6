package app

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tenure-dev/tenure/adapters/bus/sinks"
	"github.com/tenure-dev/tenure/adapters/bus/sources"
	"github.com/tenure-dev/tenure/adapters/eventnode"
	"github.com/tenure-dev/tenure/adapters/postgres/cluster"
	"github.com/tenure-dev/tenure/agent"
	"github.com/tenure-dev/tenure/agent/drivers"
	driver "github.com/tenure-dev/tenure/agent/drivers/postgres"
	"github.com/tenure-dev/tenure/agent/drivers/simulated"
	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/plane"
)

// DevConfig is what `tenure dev` is started with.
type DevConfig struct {
	Dir      string // where everything is kept
	HTTP     string // addresses, host:port
	Node     string
	Gateway  string
	Postgres string         // of the read side; a private cluster when empty
	Driver   string         // of the agent: postgres, or simulated
	Custom   drivers.Driver // of the agent instead, for the suites; Dev closes it
	// EventStore and Plane are servers from elsewhere, for the suites: esdb:// for the log, postgresql:// for the plane. Where
	// they are empty Dev starts its own.
	EventStore, Plane string
	Sinks             []sinks.Sink     // as ParseSinks gives them; Dev closes their targets
	Sources           []sources.Source // as ParseSources gives them; Dev closes what they hold
	Demo              bool
	Token             string // the operator's; generated when empty, and kept
	Version           string
	Logger            *slog.Logger
}

// Client is DIR/client.json: what the command line needs to know of a running dev.
type Client struct {
	API        string `json:"api"`
	Token      string `json:"token"`
	EventStore string `json:"eventstore"`
}

// ClientFile is the name of Client's file in dev's directory.
const ClientFile = "client.json"

// ErrTaken is wrapped by what another process stands in the way of: an address, or the directory.
var ErrTaken = errors.New("taken")

// stopBound is how long a stop may take before what is left is cut off.
const stopBound = 8 * time.Second

// Dev runs everything in one process until ctx ends. It writes the line with the token, and the line ready, to out.
func Dev(ctx context.Context, c DevConfig, out io.Writer) (err error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return err
	}
	unlock, err := lockDev(c.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	web, err := listen("--http", c.HTTP)
	if err != nil {
		return err
	}
	defer web.Close()
	agents, err := listen("--gateway", c.Gateway)
	if err != nil {
		return err
	}
	defer agents.Close()
	log, err := listen("--node", c.Node)
	if err != nil {
		return err
	}
	defer log.Close()
	if c.Token, err = devToken(c.Dir, c.Token); err != nil {
		return err
	}
	d := &dev{DevConfig: c}
	defer d.stop()
	if err := d.start(ctx, web, agents, log); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if err := saveClient(c.Dir, Client{"http://" + web.Addr().String(), c.Token, d.url}); err != nil {
		return err
	}
	fmt.Fprintf(out, "token %s\n", c.Token)
	if err := d.ready(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	fmt.Fprintf(out, "ready http://%s\n", web.Addr())
	return d.wait(ctx)
}

// dev is the running parts, in the order of starting.
type dev struct {
	DevConfig
	url      string // of the event store
	readside *cluster.Cluster
	plane    *cluster.Cluster
	node     *eventnode.Node
	serving  chan error
	system   *System
	planeID  string
	session  int64 // the plane's last one before this start
	driver   drivers.Driver
	agent    chan error
	end      context.CancelFunc // of the agent
}

func (d *dev) start(ctx context.Context, web, agents, log net.Listener) (err error) {
	if err := d.startClusters(ctx); err != nil {
		return err
	}
	metrics := NewMetrics()
	if d.url = d.EventStore; d.url == "" {
		if err := d.startNode(log, metrics); err != nil {
			return err
		}
	}
	readside := d.Postgres
	if readside == "" {
		readside = d.readside.URL("postgres")
	}
	if d.system, err = Start(ctx, Config{EventStore: d.url, Postgres: readside, KeyDir: filepath.Join(d.Dir, "keys"), HTTP: web, Gateway: agents,
		Token: d.Token, Owner: "dev", Sole: d.EventStore == "", Heartbeat: 2 * time.Second, Metrics: metrics, Sinks: d.Sinks, Sources: d.Sources, Logger: d.Logger}); err != nil {
		return err
	}
	return d.startAgent(ctx, "https://"+agents.Addr().String())
}

func (d *dev) startNode(log net.Listener, metrics *prometheus.Registry) (err error) {
	d.node, err = eventnode.Open(eventnode.Options{Dir: filepath.Join(d.Dir, "log"), Listener: log, Logger: d.Logger.With("part", "node"), Now: time.Now, Metrics: metrics})
	if err != nil {
		return err
	}
	d.serving = make(chan error, 1)
	go func() { d.serving <- d.node.Serve() }()
	d.url = fmt.Sprintf("esdb://%s?tls=false", d.node.Addr())
	return nil
}

// startClusters starts the two private clusters side by side.
func (d *dev) startClusters(ctx context.Context) error {
	var wait sync.WaitGroup
	var errs [2]error
	begin := func(i int, name string, into **cluster.Cluster, needed bool) {
		if needed {
			wait.Go(func() {
				*into, errs[i] = cluster.Start(ctx, cluster.Options{Dir: d.Dir, Name: name, Logger: d.Logger.With("part", name)})
			})
		}
	}
	begin(0, "readside", &d.readside, d.Postgres == "")
	begin(1, "plane", &d.plane, d.Custom == nil && d.Driver == "postgres" && d.Plane == "")
	wait.Wait()
	return errors.Join(errs[:]...)
}

// startAgent registers dev's own plane, and has its agent join and run.
func (d *dev) startAgent(ctx context.Context, gateway string) error {
	dir := filepath.Join(d.Dir, "agent")
	key, err := agent.EnsurePlaneKey(dir)
	if err != nil {
		return err
	}
	options := map[string]string{}
	switch {
	case d.Custom != nil:
		d.driver = d.Custom
	case d.Driver == "postgres":
		if options["postgres"] = d.Plane; d.Plane == "" {
			options["postgres"] = d.plane.URL("postgres")
		}
		d.driver, err = driver.Open(ctx, driver.Options{URL: options["postgres"], PlaneKey: key, Logger: d.Logger.With("part", "driver")})
	case d.Driver == "simulated":
		d.driver, err = simulated.Open(simulated.Options{Dir: dir})
	default:
		err = domain.Invalid("driver", "must be postgres or simulated")
	}
	if err != nil {
		return err
	}
	_, err = d.system.Bus.Execute(ctx, commands.Call{Actor: "dev", CommandID: domain.CallerCommandID("dev", "plane.register", "", "plane"),
		Command: plane.Register{PlaneID: domain.NewID(domain.PlaneID, "dev", "plane.register", "plane"),
			Registration: plane.Registration{Name: "local", Region: "local"}}})
	if err != nil && domain.CodeOf(err) != domain.CodeNotAllowed { // not_allowed: it is registered
		return err
	}
	d.planeID = domain.NewID(domain.PlaneID, "dev", "plane.register", "plane")
	before, _, err := d.system.Bus.State(ctx, plane.Aggregate.Stream(d.planeID))
	if err != nil {
		return err
	}
	known := before.(plane.State).Agent
	d.session = known.Session
	token := ""
	// A new log, or an agent that has lost its identity: it joins again.
	if saved, err := agent.LoadSettings(dir); err != nil || saved.PlaneID != d.planeID || known.PublicKey == "" || !joinedOnce(dir) {
		text, hash, err := d.system.Gateway.NewJoinToken(d.planeID)
		if err != nil {
			return err
		}
		if _, err := d.system.Bus.Execute(ctx, commands.Call{Actor: "dev", CommandID: domain.DeriveUUID("dev", "join", hash).String(),
			Command: plane.IssueJoinToken{PlaneID: d.planeID, Hash: hash, Life: time.Hour}}); err != nil {
			return err
		}
		token = text
	}
	a, err := agent.New(agent.Config{Dir: dir, GatewayURL: gateway, JoinToken: token, Driver: d.driver, DriverName: d.Driver, DriverOptions: options,
		Version: d.Version, MaxParallel: 8, Logger: d.Logger.With("part", "agent")})
	if err != nil {
		return err
	}
	running, end := context.WithCancel(context.Background())
	d.agent, d.end = make(chan error, 1), end
	go func() { d.agent <- a.Run(running) }()
	return nil
}

// joinedOnce tells whether the agent's identity is still there.
func joinedOnce(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "identity.key"))
	return err == nil
}

// ready waits until the plane is online for readers and, with the demo, its tenants are settled.
func (d *dev) ready(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	check := func() (bool, error) { return d.system.planeOnline(bounded, d.planeID, d.session) }
	if err := d.until(bounded, check); err != nil {
		return fmt.Errorf("the plane did not come online: %w", err)
	}
	if !d.Demo {
		return nil
	}
	tenants, err := d.system.demo(bounded)
	if err != nil {
		return fmt.Errorf("the demo could not be made: %w", err)
	}
	if err := d.until(bounded, func() (bool, error) { return d.system.settled(bounded, tenants) }); err != nil {
		return fmt.Errorf("the demo's tenants were not made: %w", err)
	}
	return nil
}

// until asks whenever the read side has moved.
func (d *dev) until(ctx context.Context, check func() (bool, error)) error {
	for {
		at, _ := d.system.Group.Position()
		if ok, err := check(); err == nil && ok {
			return nil
		}
		select {
		case <-d.system.Failed():
			return d.system.Err()
		case err := <-d.agent:
			d.agent <- err
			return fmt.Errorf("the agent has stopped: %w", err)
		default:
		}
		if err := d.system.Group.WaitFor(ctx, at.Commit+1, time.Second); err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// wait ends with ctx, or with the first part that ends by itself.
func (d *dev) wait(ctx context.Context) error {
	var readside, plane, node <-chan struct{}
	if d.node != nil {
		node = d.node.Done()
	}
	if d.readside != nil {
		readside = d.readside.Done()
	}
	if d.plane != nil {
		plane = d.plane.Done()
	}
	select {
	case <-ctx.Done():
		return nil
	case <-d.system.Failed():
		return d.system.Err()
	case err := <-d.agent:
		d.agent <- err
		return fmt.Errorf("the agent has stopped: %w", err)
	case <-node:
		return fmt.Errorf("the event node has stopped: %w", d.node.Err())
	case <-readside:
		return fmt.Errorf("the read side's Postgres has stopped: %w", d.readside.Err())
	case <-plane:
		return fmt.Errorf("the plane's Postgres has stopped: %w", d.plane.Err())
	}
}

func (d *dev) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), stopBound)
	defer cancel()
	if d.end != nil {
		d.end()
		select {
		case <-d.agent:
		case <-ctx.Done():
		}
	}
	if d.driver != nil {
		_ = d.driver.Close()
	}
	if d.system != nil {
		d.system.Stop(ctx)
	}
	if d.node != nil {
		_ = d.node.Close(ctx)
		<-d.serving
	}
	var wait sync.WaitGroup
	for _, c := range []*cluster.Cluster{d.readside, d.plane} {
		if c != nil {
			wait.Go(func() { _ = c.Stop(ctx) })
		}
	}
	wait.Wait()
}

// lockDev holds dev's directory; a second dev gets the pid of the first.
func lockDev(dir string) (func(), error) {
	f, err := os.OpenFile(filepath.Join(dir, "dev.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		pid, _ := io.ReadAll(io.LimitReader(f, 32))
		_ = f.Close()
		return nil, fmt.Errorf("--data %s is in use by pid %s: %w", dir, strings.TrimSpace(string(pid)), ErrTaken)
	}
	_ = f.Truncate(0)
	_, _ = fmt.Fprintln(f, os.Getpid())
	return func() { _ = f.Close() }, nil
}

func listen(flag, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s %s: the address is in use: %w", flag, address, ErrTaken)
	case err != nil:
		return nil, domain.Invalid(strings.TrimPrefix(flag, "--"), "%s cannot be listened on: %v", address, err)
	}
	return l, nil
}

// devToken is the one given, else the one kept from before, else a new one.
func devToken(dir, given string) (string, error) {
	if given != "" {
		return given, nil
	}
	path := filepath.Join(dir, "token")
	kept, err := os.ReadFile(path)
	if err == nil && len(strings.TrimSpace(string(kept))) > 0 {
		return strings.TrimSpace(string(kept)), nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	random := make([]byte, 32)
	if _, err := rand.Read(random); err != nil {
		return "", err
	}
	token := base64.RawURLEncoding.EncodeToString(random)
	return token, writeSecret(path, []byte(token+"\n"))
}

func saveClient(dir string, c Client) error {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return writeSecret(filepath.Join(dir, ClientFile), append(text, '\n'))
}

// writeSecret replaces a file that only its owner may read.
func writeSecret(path string, data []byte) error {
	next := path + ".new"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}
