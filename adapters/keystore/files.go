package keystore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// create writes a new file that is either there whole and on disk, or not at all. It tells whether this call made it: an
// existing file is left as it is.
func create(path string, data []byte) (made bool, err error) {
	dir := filepath.Dir(path)
	draft, err := os.CreateTemp(dir, ".draft-*") // mode 0600
	if err != nil {
		return false, err
	}
	defer os.Remove(draft.Name())
	_, err = draft.Write(data)
	if err = errors.Join(err, draft.Sync(), draft.Close()); err != nil {
		return false, err
	}
	if err := os.Link(draft.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	} else if err == nil {
		made = true
	}
	return made, syncDirs(dir) // also when another made it: its name may not be on disk yet
}

// read reads a file and refuses one that others may read.
func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s may be read by others (mode %o)", path, info.Mode().Perm())
	}
	return os.ReadFile(path)
}

func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func syncDirs(dirs ...string) error {
	for _, d := range dirs {
		f, err := os.Open(d)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}
