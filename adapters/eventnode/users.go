package eventnode

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tenure-dev/tenure/domain"
)

// The roles that a user may have.
const (
	RoleAdmins = "$admins" // may do everything
	RoleOps    = "$ops"    // may do the node's upkeep, persistent subscriptions included
)

// User is somebody whom the node answers.
type User struct {
	Name     string    `json:"name"`
	Roles    []string  `json:"roles"` // sorted
	Hash     string    `json:"hash"`  // of the password; see hashPassword
	Created  time.Time `json:"created"`
	Disabled bool      `json:"disabled"` // and so refused
}

// Users are kept in a file beside the log, never in it, so that hashes do not travel with its backups. Any process may
// change the file, while a node runs or not: a node notices within a second. Its methods may be called from any goroutine.
type Users struct {
	path   string
	now    func() time.Time
	logger *slog.Logger
	cost   argonCost // of new hashes
	key    [32]byte  // of the proofs
	decoy  string    // a hash that no password has, for names that do not exist
	turns  chan struct{}

	mu     sync.Mutex
	byName map[string]*User
	proofs map[string][32]byte // by name: what proves the right password without its costly hash
	stamp  stamp
	looked time.Time
}

const usersFile = "users.json"

// OpenUsers reads the users of a node's directory. It is no error if there are none yet. Now is the node's clock; the
// logger, which may be nil, is told when the file can no longer be read. A file that is damaged is an error that names it.
func OpenUsers(dir string, now func() time.Time, logger *slog.Logger) (*Users, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	u := &Users{path: filepath.Join(dir, usersFile), now: now, logger: logger, cost: passwordCost, turns: make(chan struct{}, hashTurns)}
	if _, err := rand.Read(u.key[:]); err != nil {
		return nil, err
	}
	u.decoy = hashPassword(rand.Text(), u.cost)
	u.stamp, u.looked = stampOf(u.path), now()
	list, err := u.List()
	if err != nil {
		return nil, err
	}
	u.use(list)
	return u, nil
}

// List are the users there are, by name.
func (u *Users) List() ([]User, error) {
	text, err := os.ReadFile(u.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var list []User
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", u.path, err)
	}
	return list, nil
}

// Add makes a user. It fails with already_exists for a name that is taken, and with invalid for a bad name, password or role.
func (u *Users) Add(name, password string, roles ...string) error {
	made, err := u.make(name, password, roles)
	if err != nil {
		return err
	}
	return u.change(func(list []User) ([]User, error) {
		if find(list, name) != nil {
			return nil, &domain.Error{Code: domain.CodeAlreadyExists, Field: "name", Message: name + " is taken"}
		}
		return append(list, made), nil
	})
}

// SetPassword gives a user another password. It fails with not_found, or with invalid for a bad password.
func (u *Users) SetPassword(name, password string) error {
	if err := checkPassword(password); err != nil {
		return err
	}
	hash := hashPassword(password, u.cost)
	return u.change(func(list []User) ([]User, error) {
		user := find(list, name)
		if user == nil {
			return nil, domain.NotFound("name", "%s is no user", name)
		}
		user.Hash = hash
		return list, nil
	})
}

// Remove ends a user. It fails with not_found, and with not_allowed for the last administrator.
func (u *Users) Remove(name string) error {
	return u.change(func(list []User) ([]User, error) {
		if find(list, name) == nil {
			return nil, domain.NotFound("name", "%s is no user", name)
		}
		rest := slices.DeleteFunc(slices.Clone(list), func(x User) bool { return x.Name == name })
		if find(list, name).leads() && !slices.ContainsFunc(rest, User.leads) {
			return nil, &domain.Error{Code: domain.CodeNotAllowed, Field: "name", Message: name + " is the last user with " + RoleAdmins}
		}
		return rest, nil
	})
}

// First makes the administrator of a node that has no users. It returns its password, or nothing if there are users.
func (u *Users) First() (password string, err error) {
	password = rand.Text()
	made, err := u.make("admin", password, []string{RoleAdmins})
	if err != nil {
		return "", err
	}
	return password, u.fill(&password, made)
}

// Develop makes the users admin and ops of a fresh EventStoreDB, whose password everybody knows, unless there are users.
func (u *Users) Develop() error {
	const known = "changeit"
	admin, err := u.make("admin", known, []string{RoleAdmins})
	if err != nil {
		return err
	}
	ops, err := u.make("ops", known, []string{RoleOps})
	if err != nil {
		return err
	}
	made := known
	err = u.fill(&made, admin, ops)
	if err == nil {
		u.logger.Warn("users admin and ops may have a password that everybody knows: this is for development only")
	}
	return err
}

// fill makes users where there are none, else it empties the word that tells of them.
func (u *Users) fill(word *string, made ...User) error {
	return u.change(func(list []User) ([]User, error) {
		if len(list) > 0 {
			*word = ""
			return list, nil
		}
		return made, nil
	})
}

func (u *Users) make(name, password string, roles []string) (User, error) {
	err := errors.Join(checkName(name), checkPassword(password), checkRoles(roles))
	if first, ok := err.(interface{ Unwrap() []error }); ok {
		return User{}, first.Unwrap()[0]
	}
	roles = slices.Compact(slices.Sorted(slices.Values(roles)))
	return User{Name: name, Roles: append([]string{}, roles...), Hash: hashPassword(password, u.cost), Created: u.now().UTC().Truncate(time.Second)}, nil
}

func checkName(name string) error {
	fits := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-", c)
	}
	if len(name) < 3 || len(name) > 64 || strings.ContainsFunc(name, func(c rune) bool { return !fits(c) }) {
		return domain.Invalid("name", "must be 3 to 64 of the letters A to Z and a to z, digits, and . _ -")
	}
	return nil
}

func checkPassword(password string) error {
	if len(password) < 8 || len(password) > 1024 {
		return domain.Invalid("password", "must be 8 to 1024 bytes long")
	}
	return nil
}

func checkRoles(roles []string) error {
	for _, role := range roles {
		if role != RoleAdmins && role != RoleOps {
			return domain.Invalid("roles", "%q is none: there are %s and %s", role, RoleAdmins, RoleOps)
		}
	}
	return nil
}

func find(list []User, name string) *User {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

// leads says whether somebody can use the user to manage all the others.
func (u User) leads() bool { return !u.Disabled && slices.Contains(u.Roles, RoleAdmins) }

// change rewrites the file, one process at a time: whoever reads it sees the users before or after, never a part.
func (u *Users) change(how func([]User) ([]User, error)) error {
	if err := os.MkdirAll(filepath.Dir(u.path), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(u.path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("%s cannot be locked: %w", lock.Name(), err)
	}
	list, err := u.List()
	if err != nil {
		return err
	}
	if list, err = how(list); err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b User) int { return strings.Compare(a.Name, b.Name) })
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	if err := replace(u.path, append(text, '\n')); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stamp = stampOf(u.path)
	u.use(list)
	return nil
}

// replace writes a file that only its owner may read, so that it survives a crash as it was or as it is to be.
func replace(path string, text []byte) error {
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (u *Users) use(list []User) {
	u.byName = make(map[string]*User, len(list))
	for i := range list {
		u.byName[list[i].Name] = &list[i]
	}
	u.proofs = map[string][32]byte{}
}

// refresh looks, at most once a second, whether another process has changed the file. It is called with the lock held.
func (u *Users) refresh() {
	now := u.now()
	if since := now.Sub(u.looked); since >= 0 && since < time.Second {
		return
	}
	u.looked = now
	found := stampOf(u.path)
	if found == u.stamp {
		return
	}
	list, err := u.List()
	if err == nil && found == (stamp{}) {
		err = fs.ErrNotExist
	}
	if u.stamp = found; err != nil {
		u.logger.Error("the users stay as they were, for their file cannot be read", "file", u.path, "error", err)
		return
	}
	u.use(list)
}

// stamp tells whether a file is another one than before.
type stamp struct {
	changed time.Time
	size    int64
	inode   uint64
}

// stampOf is zero for a file that is not there.
func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	s := stamp{changed: info.ModTime(), size: info.Size()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode = sys.Ino
	}
	return s
}

// verify finds the user of a name and a password. A right password is hashed once and then remembered by its proof; each
// wrong one costs a hash, and so does a name that does not exist, so neither can be told from the time it takes.
func (u *Users) verify(ctx context.Context, stop <-chan struct{}, name, password string) (*User, error) {
	if user := u.known(name, password); user != nil {
		return user, nil
	}
	select { // few at a time: whoever guesses passwords must not get all of the machine
	case u.turns <- struct{}{}:
		defer func() { <-u.turns }()
	case <-stop:
		return nil, notReady()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if user := u.known(name, password); user != nil { // another call with the same had its turn before
		return user, nil
	}
	u.mu.Lock()
	user, hash := u.byName[name], u.decoy
	if user != nil {
		hash = user.Hash
	}
	u.mu.Unlock()
	if !samePassword(hash, password) || user == nil || user.Disabled {
		return nil, unauthenticated()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.byName[name] == user {
		u.proofs[name] = u.proof(password)
	}
	return user, nil
}

// known is the user whose password is remembered to be right.
func (u *Users) known(name, password string) *User {
	proof := u.proof(password)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.refresh()
	if right, ok := u.proofs[name]; ok && hmac.Equal(right[:], proof[:]) {
		return u.byName[name]
	}
	return nil
}

// proof is a password's, under a key that this process alone has and never writes down.
func (u *Users) proof(password string) (proof [32]byte) {
	mac := hmac.New(sha256.New, u.key[:])
	mac.Write([]byte(password))
	mac.Sum(proof[:0])
	return proof
}
