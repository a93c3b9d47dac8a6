package cluster

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// identity is who the server runs as. Postgres refuses to run as root, so root needs another.
type identity struct {
	name string
	uid  int // owner of the files, as this process sees them
	gid  int
	attr func() *syscall.SysProcAttr
}

// plainUsers are accounts that postgres may run as on root's behalf, best first. initdb wants one with a name.
var plainUsers = []string{"postgres", "nobody", "daemon"}

func plainUser() (name string, uid, gid int, err error) {
	for _, n := range plainUsers {
		u, err := user.Lookup(n)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 == nil && err2 == nil && uid > 0 && gid > 0 {
			return n, uid, gid, nil
		}
	}
	return "", 0, 0, fmt.Errorf("postgres cannot run as root, and this machine has none of the users %v", plainUsers)
}

// dropped runs the server as a plain user, to whom the files are given.
func dropped() (identity, error) {
	name, uid, gid, err := plainUser()
	if err != nil {
		return identity{}, err
	}
	return identity{name: "user " + name, uid: uid, gid: gid, attr: func() *syscall.SysProcAttr {
		a := childAttr()
		a.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return a
	}}, nil
}

// asSelf runs the server as whoever we are.
func asSelf() identity {
	return identity{name: "this user", uid: os.Geteuid(), gid: os.Getegid(), attr: childAttr}
}

// own gives the tree to the identity. Only root can, and only root ever needs to.
func (i identity) own(root string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(root)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) == i.uid && int(st.Gid) == i.gid {
		return nil
	}
	// Children first, the root last: a crash in the middle leaves the root with the old owner, and we come here again.
	var paths []string
	err = filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		paths = append(paths, p)
		return err
	})
	if err != nil {
		return err
	}
	for n := len(paths) - 1; n >= 0; n-- {
		if err := os.Lchown(paths[n], i.uid, i.gid); err != nil {
			return err
		}
	}
	return nil
}

// reaches says whether the identity may walk down to dir.
func (i identity) reaches(dir string) bool {
	if i.uid == os.Geteuid() {
		return true
	}
	for p := dir; ; p = filepath.Dir(p) {
		info, err := os.Stat(p)
		if err != nil {
			return false
		}
		bit := fs.FileMode(0o001)
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			switch {
			case int(st.Uid) == i.uid:
				bit = 0o100
			case int(st.Gid) == i.gid:
				bit = 0o010
			}
		}
		if info.Mode().Perm()&bit == 0 {
			return false
		}
		if p == filepath.Dir(p) {
			return true
		}
	}
}
