package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// ErrRunning is Start's answer while another process, or another part of this one, runs the same cluster.
var ErrRunning = errors.New("already running")

// lock is a file lock that the kernel takes back when this process dies. The file holds the owner's pid for the message.
type lock struct {
	file *os.File
	once sync.Once
}

func acquire(base string) (*lock, error) {
	f, err := os.OpenFile(base+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		defer f.Close()
		pid, _ := io.ReadAll(io.LimitReader(f, 32))
		return nil, fmt.Errorf("postgres cluster %s is %w in process %s", base, ErrRunning, strings.TrimSpace(string(pid)))
	case err != nil:
		return nil, errors.Join(fmt.Errorf("lock %s.lock: %w", base, err), f.Close())
	}
	if err := errors.Join(f.Truncate(0), writeAt0(f, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s.lock: %w", base, err), f.Close())
	}
	return &lock{file: f}, nil
}

func writeAt0(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

func (l *lock) release() { l.once.Do(func() { l.file.Close() }) }
