package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// How long a server may take over each way of stopping before the next, harder one.
const (
	fastShutdown      = 6 * time.Second
	immediateShutdown = 2 * time.Second
)

// defaults suit a developer's machine. fsync stays on: what a dev cluster acknowledges is on disk.
var defaults = map[string]string{
	"shared_buffers":            "128MB",
	"max_connections":           "200",
	"max_wal_size":              "1GB",
	"jit":                       "off",
	"timezone":                  "UTC",
	"log_timezone":              "UTC",
	"password_encryption":       "scram-sha-256",
	"max_prepared_transactions": "0",
}

// fixed are the settings on which the supervisor rests.
var fixed = map[string]string{
	"listen_addresses":        Host,
	"unix_socket_directories": "",
	"log_destination":         "stderr",
	"logging_collector":       "off",
	"log_min_messages":        "warning",
	"lc_messages":             "C",
	"log_line_prefix":         "",
}

// server is one postmaster, our direct child.
type server struct {
	process *os.Process
	log     *slog.Logger
	ready   context.Context // cancelled when the server takes connections
	ended   context.Context // cancelled when it and all its children are gone
	mu      sync.Mutex
	tail    []string // the last lines that it said
	status  error    // how it ended
	stopped bool     // we asked it to end
	over    bool     // status is known
	last    func()   // runs before ended is cancelled
}

var (
	errPortTaken = errors.New("the port is taken")
	errStillHeld = errors.New("the dead server's children are still there")
)

// serve starts the server on the cluster's port, or on another if that has been taken, and waits until it takes
// connections. Recovery after a crash may take as long as ctx allows.
func (h *home) serve(ctx context.Context, bin binaries, who identity, o Options) (*server, error) {
	for attempt := 0; ; attempt++ {
		if err := h.choosePort(); err != nil {
			return nil, err
		}
		s, err := launch(ctx, h, bin, who, o)
		switch {
		case err == nil:
			return s, nil
		case errors.Is(err, errPortTaken) && attempt < 10:
			h.state.Port = 0
		case errors.Is(err, errStillHeld) && attempt < 100:
			// Children of a killed postmaster notice its death by themselves, in milliseconds.
			if err := pause(ctx, 100*time.Millisecond); err != nil {
				return nil, err
			}
		default:
			return nil, err
		}
	}
}

func launch(ctx context.Context, h *home, bin binaries, who identity, o Options) (*server, error) {
	args := []string{"-D", h.data, "-p", strconv.Itoa(h.state.Port)}
	settings := maps.Clone(defaults)
	maps.Copy(settings, o.Settings)
	maps.Copy(settings, fixed)
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", k+"="+settings[k])
	}
	cmd := exec.Command(bin.path("postgres"), args...)
	cmd.Env, cmd.Dir, cmd.SysProcAttr = environment(), h.data, who.attr()
	said, says, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = says, says

	s := &server{log: o.Logger.With("cluster", o.Name)}
	ready, becomesReady := context.WithCancel(context.Background())
	ended, ends := context.WithCancel(context.Background())
	s.ready, s.ended = ready, ended
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		s.listen(said, becomesReady)
	}()
	started := make(chan error, 1)
	go func() {
		// The kernel ties the child's life to the thread that made it, so this thread must live as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		says.Close()
		s.process = cmd.Process
		started <- err
		if err == nil {
			err = cmd.Wait()
		}
		<-heard // the pipe ends when the last child of the server has closed it
		s.mu.Lock()
		s.status, s.over = err, true
		last := s.last
		s.mu.Unlock()
		if last != nil {
			last()
		}
		becomesReady()
		ends()
	}()
	if err := <-started; err != nil {
		<-ended.Done()
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}

	select {
	case <-ready.Done():
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("postgres was not ready in time: %w", ctx.Err()), s.stop(ctx))
	}
	if ended.Err() == nil {
		return s, nil
	}
	err = s.err()
	switch text := err.Error(); {
	case strings.Contains(text, "could not bind"), strings.Contains(text, "could not create any TCP/IP sockets"):
		return nil, fmt.Errorf("%w: %w", errPortTaken, err)
	case strings.Contains(text, "still in use"):
		return nil, fmt.Errorf("%w: %w", errStillHeld, err)
	}
	return nil, err
}

// listen hands on what the server says until its last process has closed the pipe.
func (s *server) listen(said io.ReadCloser, ready func()) {
	defer said.Close()
	lines := bufio.NewReaderSize(said, 64<<10)
	for {
		part, _, err := lines.ReadLine() // a longer line comes in parts
		if err != nil {
			return
		}
		line := string(part)
		s.mu.Lock()
		if s.tail = append(s.tail, line); len(s.tail) > 20 {
			s.tail = s.tail[1:]
		}
		s.mu.Unlock()
		level := slog.LevelDebug
		if strings.HasPrefix(line, "PANIC:") {
			level = slog.LevelError
		}
		s.log.Log(context.Background(), level, "postgres says", "line", line)
		if strings.HasSuffix(line, "database system is ready to accept connections") {
			ready()
		}
	}
}

// beforeDone has f run when the server has ended, before ended says so.
func (s *server) beforeDone(f func()) {
	s.mu.Lock()
	over := s.over
	s.last = f
	s.mu.Unlock()
	if over {
		f()
	}
}

func (s *server) err() error {
	if s.ended.Err() == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped && s.status == nil {
		return nil
	}
	how := "by itself"
	if s.status != nil {
		how = s.status.Error()
	}
	return fmt.Errorf("postgres ended (%s): %s", how, strings.Join(s.tail, " | "))
}

// stop asks ever more firmly. It returns when the server is gone.
func (s *server) stop(ctx context.Context) error {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	if s.signal(ctx, syscall.SIGINT, fastShutdown) {
		return s.err()
	}
	s.log.Warn("postgres takes too long over a fast shutdown: stopping it at once")
	if s.signal(context.Background(), syscall.SIGQUIT, immediateShutdown) {
		return nil
	}
	s.signal(context.Background(), syscall.SIGKILL, immediateShutdown)
	<-s.ended.Done()
	return nil
}

// signal sends a signal and says whether the server has ended within the time.
func (s *server) signal(ctx context.Context, sig os.Signal, within time.Duration) bool {
	if s.ended.Err() == nil {
		_ = s.process.Signal(sig) // an error means that it has just ended
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	select {
	case <-s.ended.Done():
		return true
	case <-ctx.Done():
		return s.ended.Err() != nil
	}
}

// pinned runs a short program on one thread, so that the kernel's parent-death signal is not sent early.
func pinned(cmd *exec.Cmd) ([]byte, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return cmd.CombinedOutput()
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
