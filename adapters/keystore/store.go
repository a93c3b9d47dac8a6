// Package keystore is the first key store: a directory with one file a subject, and the log-wide secrets. It seals personal
// data and free text for the Bus, and opens it at the edges. It is kept apart from the log and from the log's backups; who
// can read the directory can read every text, so it belongs on an encrypted disk.
//
// Texts are sealed with Tink's AES-256-GCM (random nonce), one keyset a subject, so that keys can be rotated later without
// a change of form. The subject and the key's id are bound to the ciphertext as associated data.
package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain"
)

// ErasedKey is the key id of text that was sealed for a subject already erased: nobody can open it.
const ErasedKey = "erased"

// cached is how many subjects' keys are kept in memory.
const cached = 4096

// Names become file names: lower case, so that they differ on every file system.
var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,199}$`)

// Store is a key store directory. It is safe for concurrent use by any number of goroutines and processes.
type Store struct {
	subjects, secrets string // directories

	mu   sync.Mutex
	keys map[string]*key
}

var _ commands.Sealer = (*Store)(nil)

// key is a subject's keyset, and the file that it was read from.
type key struct {
	file    fs.FileInfo
	primary string
	ids     map[string]bool
	aead    tink.AEAD
}

// Open opens or creates a directory, and closes it to everyone but its owner.
func Open(dir string) (*Store, error) {
	s := &Store{subjects: filepath.Join(dir, "subjects"), secrets: filepath.Join(dir, "secrets"), keys: map[string]*key{}}
	for _, d := range []string{dir, s.subjects, s.secrets} {
		if err := errors.Join(os.MkdirAll(d, 0o700), os.Chmod(d, 0o700)); err != nil {
			return nil, fmt.Errorf("keystore: %w", err)
		}
	}
	if err := syncDirs(dir); err != nil {
		return nil, fmt.Errorf("keystore: %w", err)
	}
	if err := syncDirs(filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("keystore: %w", err)
	}
	return s, nil
}

// Seal implements commands.Sealer. The subject's key is made when it is first needed. Text for an erased subject is dropped:
// what is given back opens as absent. Errors are CodeInvalid for a subject that cannot be a file's name, else CodeUnavailable.
func (s *Store) Seal(_ context.Context, subject, text string) (domain.Sealed, error) {
	k, err := s.key(subject, true)
	if err != nil {
		return domain.Sealed{}, err
	}
	if k == nil {
		return domain.Sealed{Subject: subject, Key: ErasedKey}, nil
	}
	sealed, err := k.aead.Encrypt([]byte(text), associated(subject, k.primary))
	if err != nil {
		return domain.Sealed{}, domain.Unavailable("the text cannot be sealed", err)
	}
	return domain.Sealed{Subject: subject, Key: k.primary, Text: sealed}, nil
}

// Open implements commands.Sealer: false for absent text, and for a key that is erased or not there. Text that was altered,
// or moved from another subject, is CodeInternal.
func (s *Store) Open(_ context.Context, sealed domain.Sealed) (string, bool, error) {
	if clear, is := sealed.Unsealed(); is {
		return clear, true, nil // of a dry run
	}
	if sealed.IsZero() || sealed.Key == ErasedKey {
		return "", false, nil
	}
	k, err := s.key(sealed.Subject, false)
	if err != nil || k == nil || !k.ids[sealed.Key] {
		return "", false, err
	}
	text, err := k.aead.Decrypt(sealed.Text, associated(sealed.Subject, sealed.Key))
	if err != nil {
		return "", false, &domain.Error{Code: domain.CodeInternal, Message: "sealed text is damaged", Cause: err}
	}
	return string(text), true, nil
}

// Destroy erases a subject: its key is gone for every process at once, and it never gets another. Doing it again changes nothing.
func (s *Store) Destroy(subject string) error {
	if err := check("subject", subject); err != nil {
		return err
	}
	// The mark comes first: whoever makes a key at this moment looks for it afterwards.
	if _, err := create(s.mark(subject), nil); err != nil {
		return away(err)
	}
	if err := os.Remove(s.file(subject)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return away(err)
	}
	s.mu.Lock()
	delete(s.keys, subject)
	s.mu.Unlock()
	if err := syncDirs(s.subjects); err != nil {
		return away(err)
	}
	return nil
}

func (s *Store) file(subject string) string { return filepath.Join(s.subjects, subject+".key") }
func (s *Store) mark(subject string) string { return filepath.Join(s.subjects, subject+".erased") }

// key gives a subject's key, nil if it is erased or, unless it may be made, not there.
func (s *Store) key(subject string, orMake bool) (*key, error) {
	if err := check("subject", subject); err != nil {
		return nil, err
	}
	for {
		k, err := s.load(subject)
		if err == nil {
			return k, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, away(err)
		}
		if erased, err := exists(s.mark(subject)); err != nil || erased || !orMake {
			return nil, err
		}
		if err := s.makeKey(subject); err != nil {
			return nil, away(err)
		}
	}
}

// load reads a subject's key, or takes it from memory while its file still stands there.
func (s *Store) load(subject string) (*key, error) {
	file, err := os.Stat(s.file(subject))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	known := s.keys[subject]
	s.mu.Unlock()
	if known != nil && os.SameFile(known.file, file) && known.file.ModTime().Equal(file.ModTime()) {
		return known, nil
	}
	data, err := read(s.file(subject))
	if err != nil {
		return nil, err
	}
	k, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("the key of %s: %w", subject, err)
	}
	k.file = file
	s.mu.Lock()
	if len(s.keys) >= cached {
		clear(s.keys)
	}
	s.keys[subject] = k
	s.mu.Unlock()
	return k, nil
}

func (s *Store) makeKey(subject string) error {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return err
	}
	var data bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&data)); err != nil {
		return err
	}
	if _, err := create(s.file(subject), data.Bytes()); err != nil {
		return err
	}
	erased, err := exists(s.mark(subject))
	if erased {
		return os.Remove(s.file(subject))
	}
	return err
}

func parse(data []byte) (*key, error) {
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(data)))
	if err != nil {
		return nil, err
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, err
	}
	info := handle.KeysetInfo()
	k := &key{primary: strconv.FormatUint(uint64(info.GetPrimaryKeyId()), 10), ids: map[string]bool{}, aead: primitive}
	for _, one := range info.GetKeyInfo() {
		k.ids[strconv.FormatUint(uint64(one.GetKeyId()), 10)] = true
	}
	return k, nil
}

func associated(subject, key string) []byte { return []byte(subject + "\x00" + key) }

func check(field, name string) error {
	if !nameForm.MatchString(name) {
		return domain.Invalid(field, "must be 1 to 200 of a-z, 0-9, dot, underscore and dash, beginning with a letter or digit")
	}
	return nil
}

func away(err error) error { return domain.Unavailable("the key store did not answer", err) }
