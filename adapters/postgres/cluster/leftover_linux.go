package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// serves says whether the process is a postmaster of this data directory: a program called postgres that works there.
func serves(pid int, data string) bool {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return false
	}
	name := strings.TrimSuffix(filepath.Base(exe), " (deleted)")
	if name != "postgres" && name != "postmaster" {
		return false
	}
	cwd, err1 := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	dir, err2 := os.Stat(data)
	return err1 == nil && err2 == nil && os.SameFile(cwd, dir)
}

// sysPidfdOpen has this number on every architecture.
const sysPidfdOpen = 434

// endsWithin sends the signal and says whether the process has ended by then. It sleeps on a pid file descriptor, which
// the kernel makes readable at the process's end, and on a pipe, which the end of ctx closes.
func endsWithin(ctx context.Context, pid int, sig syscall.Signal, within time.Duration) (bool, error) {
	r, _, errno := syscall.Syscall(sysPidfdOpen, uintptr(pid), 0, 0)
	switch {
	case errno == syscall.ESRCH:
		return true, nil
	case errno != 0:
		return false, fmt.Errorf("pidfd_open: %w", errno)
	}
	fd := int(r)
	defer syscall.Close(fd)
	var pipe [2]int
	if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC); err != nil {
		return false, err
	}
	defer syscall.Close(pipe[0])
	poll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return false, errors.Join(err, syscall.Close(pipe[1]))
	}
	defer syscall.Close(poll)
	for _, f := range []int{fd, pipe[0]} {
		if err := syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, f, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(f)}); err != nil {
			return false, errors.Join(err, syscall.Close(pipe[1]))
		}
	}
	bounded, cancel := context.WithTimeout(ctx, within)
	closed := make(chan struct{})
	context.AfterFunc(bounded, func() {
		defer close(closed)
		syscall.Close(pipe[1])
	})
	defer func() { cancel(); <-closed }()

	if err := syscall.Kill(pid, sig); errors.Is(err, syscall.ESRCH) {
		return true, nil
	} else if err != nil {
		return false, err
	}
	events := make([]syscall.EpollEvent, 2)
	for {
		n, err := syscall.EpollWait(poll, events, -1)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return false, err
		}
		for _, e := range events[:n] {
			if int(e.Fd) == fd {
				return true, nil
			}
		}
		return false, ctx.Err() // nil where only this signal's time is over
	}
}
