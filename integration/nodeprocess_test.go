package integration

import (
	"bufio"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	streams "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/adapters/eventstore/proxytest"
)

// tenureBinary builds the command line once for all suites; TestMain removes it. It has the race detector if the suites have.
var tenureBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "tenure-suite-")
	if err != nil {
		return "", err
	}
	binaryDir = dir
	path := filepath.Join(dir, "tenure")
	args := []string{"build", "-o", path}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "./cmd/tenure")...) //nolint:gosec // of this repository
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %q: %w\n%s", build.Args, err, out)
	}
	return path, nil
})

var binaryDir string

// nodeProcess is a tenure node in a process of its own, that a test may end and start again on its directory. Its clients
// reach it through a proxy, so its address stays.
type nodeProcess struct {
	t      testing.TB
	dir    string
	prefix []string // what runs the binary; nothing when empty
	args   []string // besides --data and --node
	proxy  *proxytest.Proxy

	cmd    *exec.Cmd
	addr   string // of the present process
	ended  chan struct{}
	err    error           // how it ended; read after ended
	stderr strings.Builder // read after ended
	lines  chan string     // what it prints
}

// newNodeProcess begins with none; the test's end ends what is left.
func newNodeProcess(t testing.TB, seed uint64, args ...string) *nodeProcess {
	t.Helper()
	p := &nodeProcess{t: t, dir: t.TempDir(), args: args, proxy: proxytest.New(t, seed, "127.0.0.1:1")}
	t.Cleanup(func() {
		if p.cmd != nil {
			p.kill()
		}
	})
	return p
}

// begin starts a process without waiting until it is ready.
func (p *nodeProcess) begin() {
	p.t.Helper()
	binary, err := tenureBinary()
	if err != nil {
		p.t.Fatal(err)
	}
	args := append(slices.Clone(p.prefix), binary, "node", "--data", p.dir, "--node", "127.0.0.1:0", "--log-level", "error")
	args = append(args, p.args...)
	p.cmd = exec.Command(args[0], args[1:]...) //nolint:gosec // our own binary
	p.stderr.Reset()
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.ended, p.lines = make(chan struct{}), make(chan string, 8)
	go func(cmd *exec.Cmd, ended chan struct{}, lines chan string) {
		defer close(ended)
		defer close(lines)
		for all := bufio.NewScanner(out); all.Scan(); {
			lines <- all.Text()
		}
		p.err = cmd.Wait()
	}(p.cmd, p.ended, p.lines)
}

// ready waits until the process answers, and lets clients come to it.
func (p *nodeProcess) ready() error {
	select {
	case line, ok := <-p.lines:
		if !ok {
			return fmt.Errorf("the node has ended before it was ready: %w", p.wait())
		}
		words := strings.Fields(line)
		if len(words) != 2 || words[0] != "ready" {
			return fmt.Errorf("the node printed %q", line)
		}
		address, err := url.Parse(words[1])
		if err != nil {
			return err
		}
		p.addr = address.Host
		p.proxy.To(p.addr)
		return nil
	case <-time.After(patience):
		return errors.New("the node has not become ready")
	}
}

func (p *nodeProcess) start() {
	p.t.Helper()
	p.begin()
	if err := p.ready(); err != nil {
		p.t.Fatal(err)
	}
}

// kill ends the process as it stands.
func (p *nodeProcess) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
	p.cmd = nil
	if strings.Contains(p.stderr.String(), "DATA RACE") {
		p.t.Errorf("the node says:\n%s", p.stderr.String())
	}
}

// stop ends the process in order.
func (p *nodeProcess) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Error(err)
	}
	if err := p.wait(); err != nil {
		p.t.Errorf("stopping the node: %v", err)
	}
}

// wait gives the process's end: nil, or its exit code and what it said.
func (p *nodeProcess) wait() error {
	select {
	case <-p.ended:
	case <-time.After(patience):
		return errors.New("the process does not end")
	}
	p.cmd = nil
	if p.err != nil {
		return fmt.Errorf("%w: %s", p.err, strings.TrimSpace(p.stderr.String()))
	}
	return nil
}

// url is how clients reach whatever process there is.
func (p *nodeProcess) url() string { return "esdb://" + p.proxy.Addr() + "?tls=false" }

// open connects the adapter. There must be a process.
func (p *nodeProcess) open() *eventstore.Log {
	p.t.Helper()
	l, err := eventstore.Open(p.t.Context(), eventstore.Config{URL: p.url()})
	if err != nil {
		p.t.Fatal(err)
	}
	return l
}

// dial opens a plain connection, for the official client's generated stubs. It comes back quickly where the node does.
func dial(t testing.TB, addr string) (*grpc.ClientConn, streams.StreamsClient) {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond}, MinConnectTimeout: patience}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, streams.NewStreamsClient(conn)
}
