package cluster

import (
	"context"
	"os"
	"os/exec"
	"syscall"
)

// childAttr has the kernel ask the server for a fast shutdown (SIGINT) when the thread that started it ends, and keeps a
// Ctrl-C at the terminal from reaching the server before us.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
}

// chooseIdentity: a plain user runs the server as itself. Root prefers a user namespace, in which the files stay root's
// and any directory can be reached, and falls back to a plain user where namespaces are refused.
func chooseIdentity(ctx context.Context, bin binaries) (identity, error) {
	if os.Geteuid() != 0 {
		return asSelf(), nil
	}
	if i, err := namespaced(); err == nil && i.works(ctx, bin) {
		return i, nil
	}
	return dropped()
}

// namespaced maps root to a plain user inside a user namespace of the server's own.
func namespaced() (identity, error) {
	name, uid, gid, err := plainUser()
	if err != nil {
		return identity{}, err
	}
	return identity{name: "root, seen as " + name, uid: 0, gid: 0, attr: func() *syscall.SysProcAttr {
		a := childAttr()
		a.Cloneflags = syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: 0, Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: 0, Size: 1}}
		return a
	}}, nil
}

func (i identity) works(ctx context.Context, bin binaries) bool {
	cmd := exec.CommandContext(ctx, bin.path("postgres"), "--version")
	cmd.Env, cmd.SysProcAttr = environment(), i.attr()
	cmd.SysProcAttr.Pdeathsig = 0
	return cmd.Run() == nil
}
