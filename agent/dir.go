package agent

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// What Dir holds. Only the two keys cannot be had again: the identity by joining with a new token, the plane key not at
// all, for every tenant's password is derived from it.
const (
	lockFile     = "lock"
	identityFile = "identity.key" // the seed of an ed25519 key, 32 bytes
	planeKeyFile = "plane.key"    // 32 bytes
	settingsFile = "agent.json"
	journalFile  = "journal"
)

// lockDir makes dir and holds it until unlock. A second agent gets one line of code conflict.
func lockDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, failf(CodeInternal, err, "the agent's directory cannot be made")
	}
	file, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, failf(CodeInternal, err, "the agent's directory cannot be locked")
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := io.ReadAll(io.LimitReader(file, 32))
		_ = file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, failf(CodeConflict, nil, "another agent (pid %s) runs on %s", strings.TrimSpace(string(holder)), dir)
		}
		return nil, failf(CodeInternal, err, "the agent's directory cannot be locked")
	}
	_ = file.Truncate(0)
	_, _ = fmt.Fprintf(file, "%d\n", os.Getpid())
	return func() { _ = file.Close() }, nil
}

// ensureIdentity reads the agent's key, or makes one.
func ensureIdentity(dir string) (ed25519.PrivateKey, error) {
	seed, err := ensureKey(dir, identityFile)
	if err != nil {
		return nil, err
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// EnsurePlaneKey gives the plane's key, 32 bytes, and makes it (and dir) where there is none. Passwords are derived from
// it, so it is never replaced: a damaged one is an error.
func EnsurePlaneKey(dir string) ([]byte, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, failf(CodeInternal, err, "the agent's directory cannot be made")
	}
	return ensureKey(dir, planeKeyFile)
}

// ensureKey also holds when two processes make the key at once: the first link wins, and both read what it holds.
func ensureKey(dir, name string) ([]byte, error) {
	path := filepath.Join(dir, name)
	key, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		fresh := make([]byte, 32)
		_, _ = rand.Read(fresh) // never fails
		if err := placeFile(path, fresh, os.Link); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, failf(CodeInternal, err, "%s cannot be made", path)
		}
		key, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, failf(CodeInternal, err, "%s cannot be read", path)
	}
	if len(key) != 32 {
		return nil, failf(CodeInternal, nil, "%s is damaged: it has %d bytes, not 32", path, len(key))
	}
	return key, nil
}

// replaceFile writes the whole file or leaves the old one.
func replaceFile(path string, content []byte) error { return placeFile(path, content, os.Rename) }

// placeFile writes content beside path, syncs it, and lets put bring it there; the directory is synced too.
func placeFile(path string, content []byte, put func(from, to string) error) error {
	temp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(content)
	if err == nil {
		err = temp.Sync()
	}
	if err := errors.Join(err, temp.Close()); err != nil {
		return err
	}
	if err := put(temp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
