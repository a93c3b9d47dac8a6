package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tenure-dev/tenure/adapters/app"
)

// readClientFile reads what tenure dev has written to its directory; found is false where none has.
func readClientFile(dir string) (c app.Client, found bool, err error) {
	path := filepath.Join(dir, app.ClientFile)
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c, false, nil
	case err != nil:
		return c, false, usage("--data: %s", err)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, false, usage("--data: %s is damaged", path)
	}
	return c, true, nil
}
