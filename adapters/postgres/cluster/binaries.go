package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// ErrNoBinaries is in the error of Start on a machine without a Postgres server.
var ErrNoBinaries = errors.New("no PostgreSQL server binaries found")

// ErrVersion is in the error of Start for a data directory that another major version made.
var ErrVersion = errors.New("made by another major version of PostgreSQL")

// debianBins is where Debian, Ubuntu and their kin keep one directory per major version.
var debianBins = "/usr/lib/postgresql/*/bin"

type binaries struct {
	dir     string
	version int // major
}

func (b binaries) path(name string) string { return filepath.Join(b.dir, name) }

// findBinaries picks the binaries for a data directory of major version want, or the newest for a new one (want 0).
func findBinaries(ctx context.Context, dir string, want int) (binaries, error) {
	candidates := []string{dir}
	if dir == "" {
		candidates = installed()
	}
	var found []binaries
	var problems []error
	for _, d := range candidates {
		v, err := majorVersion(ctx, d)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		found = append(found, binaries{dir: d, version: v})
	}
	if err := ctx.Err(); err != nil {
		return binaries{}, err
	}
	if len(found) == 0 {
		where := debianBins + " or PATH"
		if dir != "" {
			where = dir
		}
		return binaries{}, errors.Join(fmt.Errorf("%w in %s: install them with `apt-get install postgresql`", ErrNoBinaries, where), errors.Join(problems...))
	}
	slices.SortStableFunc(found, func(a, b binaries) int { return b.version - a.version })
	if want == 0 {
		return found[0], nil
	}
	for _, b := range found {
		if b.version == want {
			return b, nil
		}
	}
	return binaries{}, fmt.Errorf("the data was %w: it needs /usr/lib/postgresql/%d/bin/postgres (`apt-get install postgresql-%d`), and found is version %d in %s",
		ErrVersion, want, want, found[0].version, found[0].dir)
}

// installed lists directories that hold both binaries we need. A link in PATH counts as the directory that it points to.
func installed() []string {
	dirs, _ := filepath.Glob(debianBins)
	if p, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(p); err == nil {
			p = real
		}
		dirs = append(dirs, filepath.Dir(p))
	}
	return slices.DeleteFunc(dirs, func(d string) bool {
		_, err1 := os.Stat(filepath.Join(d, "postgres"))
		_, err2 := os.Stat(filepath.Join(d, "initdb"))
		return err1 != nil || err2 != nil
	})
}

var versionForm = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

func majorVersion(ctx context.Context, dir string) (int, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version")
	cmd.Env = environment()
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("%s --version: %w", cmd.Path, err)
	}
	m := versionForm.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("%s --version said %q", cmd.Path, out)
	}
	return strconv.Atoi(string(m[1]))
}

// environment is what every Postgres program gets: none of the caller's PG variables, and messages in English, which
// we read.
func environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
}
