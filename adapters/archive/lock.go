package archive

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// ErrInUse is wrapped by what Lock and Append return while somebody else has what they want.
var ErrInUse = errors.New("is in use")

// Lock takes a file, which it makes where there is none, until release is called or this process ends. The file stays, with
// the process's pid in it. The error wraps ErrInUse while another process, or another part of this one, has it.
func Lock(path string) (release func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		defer f.Close()
		pid, _ := io.ReadAll(io.LimitReader(f, 32))
		return nil, fmt.Errorf("%w by process %s, which has locked %s", ErrInUse, strings.TrimSpace(string(pid)), path)
	case err != nil:
		return nil, errors.Join(fmt.Errorf("%s cannot be locked: %w", path, err), f.Close())
	}
	_, err = f.WriteAt(fmt.Appendf(nil, "%-20d\n", os.Getpid()), 0)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}
