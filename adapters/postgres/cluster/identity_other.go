//go:build unix && !linux

package cluster

import (
	"context"
	"os"
	"syscall"
)

// childAttr cannot tie the server to our life outside Linux: a server left by a killed process is stopped at the next
// start instead.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func chooseIdentity(context.Context, binaries) (identity, error) {
	if os.Geteuid() != 0 {
		return asSelf(), nil
	}
	return dropped()
}
