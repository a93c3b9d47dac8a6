//go:build unix && !linux

package cluster

import (
	"context"
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// serves says whether the process is a postmaster of this data directory, which we name on its command line.
func serves(pid int, data string) bool {
	out, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.Contains(string(out), "postgres -D "+data+" ")
}

func endsWithin(ctx context.Context, pid int, sig syscall.Signal, within time.Duration) (bool, error) {
	if err := syscall.Kill(pid, sig); errors.Is(err, syscall.ESRCH) {
		return true, nil
	} else if err != nil {
		return false, err
	}
	bounded, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for pause(bounded, 50*time.Millisecond) == nil {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return true, nil
		}
	}
	return false, ctx.Err()
}
