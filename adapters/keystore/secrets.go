package keystore

import (
	"crypto/rand"
	"fmt"
	"path/filepath"
)

// hashKey is the secret under which the Bus hashes callers' input, and its size in bytes.
const (
	hashKey     = "input-hash"
	hashKeySize = 32
)

// HashKey gives the log-wide key of the input hash. Losing it means that repeated commands look like reused keys.
func (s *Store) HashKey() ([]byte, error) { return s.Secret(hashKey, hashKeySize) }

// Secret gives a named secret of that many random bytes (16 to 4,096), which is drawn by the first who asks for it and is
// the same ever after, for every process.
func (s *Store) Secret(name string, size int) ([]byte, error) {
	if err := check("secret", name); err != nil {
		return nil, err
	}
	if size < 16 || size > 4096 {
		return nil, fmt.Errorf("keystore: a secret of %d bytes", size)
	}
	path := filepath.Join(s.secrets, name)
	there, err := exists(path)
	if err != nil {
		return nil, away(err)
	}
	if !there {
		drawn := make([]byte, size)
		if _, err := rand.Read(drawn); err != nil {
			return nil, err
		}
		if _, err := create(path, drawn); err != nil {
			return nil, away(err)
		}
	}
	kept, err := read(path)
	if err != nil {
		return nil, away(err)
	}
	if len(kept) != size {
		return nil, fmt.Errorf("keystore: the secret %s has %d bytes, not %d", name, len(kept), size)
	}
	return kept, nil
}
