package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stopLeftover ends a server of this data directory that outlived the process which ran it, and removes the pid file of
// one that is dead: after a restart of a container its pid may be anybody's, and postgres would refuse to start.
func stopLeftover(ctx context.Context, data string, log *slog.Logger) error {
	file := filepath.Join(data, "postmaster.pid")
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		pid = 0
	}
	if pid > 1 && serves(pid, data) {
		log.Warn("stopping a postgres that an earlier process left behind", "pid", pid, "data", data)
		if err := endProcess(ctx, pid); err != nil {
			return fmt.Errorf("postgres %d of an earlier process: %w", pid, err)
		}
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// endProcess asks ever more firmly, as server.stop does, a process that is not our child.
func endProcess(ctx context.Context, pid int) error {
	for _, step := range []struct {
		signal syscall.Signal
		within time.Duration
	}{{syscall.SIGINT, fastShutdown}, {syscall.SIGQUIT, immediateShutdown}, {syscall.SIGKILL, immediateShutdown}} {
		gone, err := endsWithin(ctx, pid, step.signal, step.within)
		if gone || err != nil {
			return err
		}
	}
	return errors.New("does not end, even when killed")
}
