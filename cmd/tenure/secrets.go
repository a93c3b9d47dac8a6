package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

func secretsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "secrets FILE[=TEMPLATE]...",
		Short: "Make files with random secrets, where there are none yet",
		Long: `Makes files with a random secret each: 26 characters, of 130 bits of randomness. A file that is there stays as it is. With a
TEMPLATE there is also FILE.url, with the template's {} replaced by the secret. Only the caller may read the files.

    tenure secrets /secrets/token '/secrets/postgres=postgresql://postgres:{}@postgres/postgres'`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			for _, arg := range args {
				file, template, templated := strings.Cut(arg, "=")
				if file == "" || templated && !strings.Contains(template, "{}") {
					return usage("%s must be FILE, or FILE=TEMPLATE with {} in the template", arg)
				}
				secret, err := ensureSecret(file)
				if err == nil && templated {
					err = replaceFile(file+".url", strings.ReplaceAll(template, "{}", secret))
				}
				if err != nil {
					return secretsError(err)
				}
			}
			return nil
		},
	}
}

// ensureSecret gives what stands in file, or makes it.
func ensureSecret(file string) (string, error) {
	text, err := os.ReadFile(file)
	secret := strings.TrimSpace(string(text))
	switch {
	case err == nil && secret != "":
		return secret, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	secret = rand.Text()
	return secret, replaceFile(file, secret)
}

// replaceFile writes a line that only the caller may read; whoever reads meanwhile gets the old one or the new one.
func replaceFile(path, line string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, line)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// secretsError is what stands in the way of a file: its directory, most likely.
func secretsError(err error) error {
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		return usage("%s", err)
	}
	return err
}
