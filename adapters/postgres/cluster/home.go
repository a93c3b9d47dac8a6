package cluster

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// home is what a cluster keeps on disk: the data directory and, beside it, what we remember of it.
type home struct {
	base    string // Dir/Name
	data    string // where the data directory is; base unless the server's user cannot reach that
	version int    // major version that made the data, 0 while there is none
	state   state
	fresh   bool // the state has just been drawn
}

// state is Dir/Name.json. It is written before the data directory exists, so a data directory always has one.
type state struct {
	Port     int    `json:"port"`
	Password string `json:"password"`
	Data     string `json:"data,omitempty"` // set only where it is not Dir/Name
}

// reachable is where the data goes when the user that the server must run as cannot reach Dir.
var reachable = "/var/lib/tenure"

func open(o Options) (*home, error) {
	h := &home{base: filepath.Join(o.Dir, o.Name)}
	h.data = h.base
	raw, err := os.ReadFile(h.base + ".json")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		h.fresh = true
		h.state.Password = rand.Text()
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(raw, &h.state); err != nil {
			return nil, fmt.Errorf("%s.json: %w", h.base, err)
		}
	}
	if h.state.Data != "" {
		h.data = h.state.Data
	}
	v, err := os.ReadFile(filepath.Join(h.data, "PG_VERSION"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(h.data); err == nil {
			return nil, fmt.Errorf("%s exists but is no Postgres data directory (it has no PG_VERSION); move it away", h.data)
		}
	case err != nil:
		return nil, err
	default:
		if h.version, err = strconv.Atoi(strings.TrimSpace(string(v))); err != nil {
			return nil, fmt.Errorf("%s/PG_VERSION: %w", h.data, err)
		}
	}
	return h, nil
}

// prepare makes the data directory where it is missing and gives it to the server's user.
func (h *home) prepare(ctx context.Context, bin binaries, who identity, o Options) error {
	if h.version == 0 && !who.reaches(o.Dir) {
		sum := sha256.Sum256([]byte(h.base))
		h.state.Data = filepath.Join(reachable, o.Name+"-"+hex.EncodeToString(sum[:8]))
		h.data = h.state.Data
		if err := os.MkdirAll(reachable, 0o711); err != nil {
			return err
		}
	}
	if !who.reaches(filepath.Dir(h.data)) {
		return fmt.Errorf("postgres has to run as %s, who cannot reach %s: choose another directory", who.name, h.data)
	}
	if err := h.save(); err != nil {
		return err
	}
	if h.version == 0 {
		o.Logger.Info("making a postgres cluster", "data", h.data, "version", bin.version)
		if err := h.initdb(ctx, bin, who, o); err != nil {
			return err
		}
		h.version = bin.version
	} else if err := who.own(h.data); err != nil {
		return err
	} else if h.fresh {
		if err := h.resetPassword(ctx, bin, who); err != nil {
			return err
		}
	}
	// Only loopback TCP, only with a password; the superuser too.
	const hba = "host all all 127.0.0.1/32 scram-sha-256\n"
	if err := replace(filepath.Join(h.data, "pg_hba.conf"), []byte(hba)); err != nil {
		return err
	}
	return os.Lchown(filepath.Join(h.data, "pg_hba.conf"), who.uid, who.gid)
}

// initdb makes the data directory beside its place and then moves it there, so a crash leaves nothing half-made behind
// but a scratch directory, which the next start clears.
func (h *home) initdb(ctx context.Context, bin binaries, who identity, o Options) error {
	left, _ := filepath.Glob(h.data + ".tmp-*")
	for _, d := range left {
		if err := os.RemoveAll(d); err != nil {
			return err
		}
	}
	scratch, err := os.MkdirTemp(filepath.Dir(h.data), filepath.Base(h.data)+".tmp-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	pw, data := filepath.Join(scratch, "pw"), filepath.Join(scratch, "data")
	if err := os.WriteFile(pw, []byte(h.state.Password+"\n"), 0o600); err != nil {
		return err
	}
	if err := who.own(scratch); err != nil {
		return err
	}
	args := []string{
		"--pgdata=" + data, "--username=" + Superuser, "--pwfile=" + pw, "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=C", "--data-checksums",
	}
	if runtime.GOOS == "linux" {
		args = append(args, "--lc-ctype=C.UTF-8") // order by bytes, yet know letters beyond ASCII
	}
	if o.Settings["fsync"] == "off" {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, bin.path("initdb"), args...)
	cmd.Env, cmd.SysProcAttr, cmd.Dir = environment(), who.attr(), scratch
	if out, err := pinned(cmd); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, strings.TrimSpace(string(out)))
	}
	if err := os.Rename(data, h.data); err != nil {
		return err
	}
	return syncDir(filepath.Dir(h.data))
}

// resetPassword gives the superuser the password of a new Dir/Name.json when the old file has been lost.
func (h *home) resetPassword(ctx context.Context, bin binaries, who identity) error {
	cmd := exec.CommandContext(ctx, bin.path("postgres"), "--single", "-D", h.data, "postgres")
	cmd.Env, cmd.SysProcAttr, cmd.Dir = environment(), who.attr(), h.data
	cmd.Stdin = strings.NewReader("ALTER ROLE " + Superuser + " PASSWORD '" + h.state.Password + "'\n")
	if out, err := pinned(cmd); err != nil {
		return fmt.Errorf("set a new superuser password: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (h *home) save() error {
	raw, err := json.Marshal(h.state)
	if err != nil {
		return err
	}
	return replace(h.base+".json", append(raw, '\n'))
}

// replace writes a file of ours (0600) so that a crash leaves the old or the new one.
func replace(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
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
