package eventnode

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenure-dev/tenure/domain"
)

func TestUsersThatCannotBe(t *testing.T) {
	t.Parallel()
	users := newUsers(t, t.TempDir(), newClock())
	before, err := users.List()
	if err != nil {
		t.Fatal(err)
	}
	const good = "good-password"
	for name, row := range map[string]struct {
		err   error
		code  domain.Code
		field string
	}{
		"short name":            {users.Add("ab", good), domain.CodeInvalid, "name"},
		"long name":             {users.Add(strings.Repeat("a", 65), good), domain.CodeInvalid, "name"},
		"colon":                 {users.Add("a:bc", good), domain.CodeInvalid, "name"},
		"letter of no alphabet": {users.Add("añb", good), domain.CodeInvalid, "name"},
		"short password":        {users.Add("abc", "1234567"), domain.CodeInvalid, "password"},
		"long password":         {users.Add("abc", strings.Repeat("x", 1025)), domain.CodeInvalid, "password"},
		"role":                  {users.Add("abc", good, "admins"), domain.CodeInvalid, "roles"},
		"taken":                 {users.Add("plain", good), domain.CodeAlreadyExists, "name"},
		"new short password":    {users.SetPassword("plain", ""), domain.CodeInvalid, "password"},
		"password of nobody":    {users.SetPassword("nobody", good), domain.CodeNotFound, "name"},
		"remove nobody":         {users.Remove("nobody"), domain.CodeNotFound, "name"},
		"last administrator":    {users.Remove("admin"), domain.CodeNotAllowed, "name"},
	} {
		if domain.CodeOf(row.err) != row.code || !strings.HasPrefix(row.err.Error(), row.field+" ") {
			t.Errorf("%s: %v", name, row.err)
		}
	}
	if after, err := users.List(); err != nil || len(after) != len(before) {
		t.Errorf("%v %v", after, err)
	}
}

func TestAnAdministratorMayGoWhenAnotherStays(t *testing.T) {
	t.Parallel()
	users := newUsers(t, t.TempDir(), newClock())
	if err := users.Add("second", "second-password", RoleOps, RoleAdmins, RoleOps); err != nil {
		t.Fatal(err)
	}
	if err := users.Remove("admin"); err != nil {
		t.Error(err)
	}
	if err := users.Remove("second"); domain.CodeOf(err) != domain.CodeNotAllowed {
		t.Errorf("the last one: %v", err)
	}
}

// Nobody can read a password in the file, and nobody but its owner can read the file.
func TestTheFileOfUsers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	newUsers(t, dir, newClock())
	path := filepath.Join(dir, usersFile)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info, err)
	}
	text, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(text), "-password") || strings.Count(string(text), "$argon2id$") != 3 {
		t.Errorf("%s %v", text, err)
	}
	if err := os.WriteFile(path, text[:len(text)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenUsers(dir, time.Now, nil); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a damaged file: %v", err)
	}
}

// A running node keeps its users when their file is damaged or gone: it must neither open up nor shut everybody out.
func TestADamagedFileChangesNothing(t *testing.T) {
	t.Parallel()
	c, dir := newClock(), t.TempDir()
	users := newUsers(t, dir, c)
	path := filepath.Join(dir, usersFile)
	for name, harm := range map[string]func() error{
		"damaged": func() error { return os.WriteFile(path, []byte("[{"), 0o600) },
		"gone":    func() error { return os.Remove(path) },
	} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		c.advance(time.Second)
		if user, err := users.verify(t.Context(), nil, "plain", "plain-password"); err != nil || user.Name != "plain" {
			t.Errorf("%s: %v %v", name, user, err)
		}
		if _, err := users.verify(t.Context(), nil, "plain", "wrong-password"); err == nil {
			t.Errorf("%s: a wrong password is taken", name)
		}
	}
}

func TestADisabledUserIsRefused(t *testing.T) {
	t.Parallel()
	c, dir := newClock(), t.TempDir()
	users := newUsers(t, dir, c)
	if _, err := users.verify(t.Context(), nil, "plain", "plain-password"); err != nil {
		t.Fatal(err)
	}
	err := users.change(func(list []User) ([]User, error) {
		find(list, "plain").Disabled = true
		return list, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := users.verify(t.Context(), nil, "plain", "plain-password"); err == nil {
		t.Error("it is let in")
	}
}

// A password that was right once costs no hash again: it needs no turn, of which there are few. A wrong one, and one of
// nobody, does, and gives up with its call or with the node.
func TestOnlyWhatIsNotKnownTakesATurn(t *testing.T) {
	t.Parallel()
	users := newUsers(t, t.TempDir(), newClock())
	if _, err := users.verify(t.Context(), nil, "plain", "plain-password"); err != nil {
		t.Fatal(err)
	}
	for range cap(users.turns) {
		users.turns <- struct{}{}
	}
	if user, err := users.verify(t.Context(), nil, "plain", "plain-password"); err != nil || user.Name != "plain" {
		t.Errorf("known: %v %v", user, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	stopped := make(chan struct{})
	close(stopped)
	for name, pair := range map[string][2]string{"wrong": {"plain", "wrong-password"}, "nobody": {"nobody", "plain-password"}, "new": {"ops", "ops-password"}} {
		if _, err := users.verify(gone, nil, pair[0], pair[1]); err != context.Canceled {
			t.Errorf("%s, and the caller has gone: %v", name, err)
		}
		if _, err := users.verify(t.Context(), stopped, pair[0], pair[1]); err == nil || err.Error() != notReady().Error() {
			t.Errorf("%s, and the node is going: %v", name, err)
		}
	}
}

// Two programs that change users at once both succeed.
func TestUsersAreChangedOneAtATime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	newUsers(t, dir, newClock())
	var wg sync.WaitGroup
	for _, name := range []string{"one", "two", "three", "four"} {
		wg.Go(func() {
			own, err := OpenUsers(dir, time.Now, nil)
			if err == nil {
				err = own.Add(name, "good-password")
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	all, err := OpenUsers(dir, time.Now, nil)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := all.List(); err != nil || len(list) != 7 {
		t.Errorf("%d users, %v", len(list), err)
	}
}

func TestTheFirstUsers(t *testing.T) {
	t.Parallel()
	users, err := OpenUsers(t.TempDir(), time.Now, nil)
	if err != nil {
		t.Fatal(err)
	}
	password, err := users.First()
	if err != nil || len(password) < 20 {
		t.Fatal(password, err)
	}
	if user, err := users.verify(t.Context(), nil, "admin", password); err != nil || !user.leads() {
		t.Errorf("%v %v", user, err)
	}
	if again, err := users.First(); again != "" || err != nil {
		t.Errorf("the second time: %q %v", again, err)
	}
	if err := users.Develop(); err != nil {
		t.Fatal(err)
	}
	if _, err := users.verify(t.Context(), nil, "admin", "changeit"); err == nil {
		t.Error("the password that everybody knows has replaced the one that was there")
	}

	fresh, err := OpenUsers(t.TempDir(), time.Now, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := fresh.Develop(); err != nil {
		t.Fatal(err)
	}
	for name, role := range map[string]string{"admin": RoleAdmins, "ops": RoleOps} {
		if user, err := fresh.verify(t.Context(), nil, name, "changeit"); err != nil || user.Roles[0] != role {
			t.Errorf("%s: %v %v", name, user, err)
		}
	}
}

func TestHashesOfOtherKindsAreNobodys(t *testing.T) {
	t.Parallel()
	good := hashPassword("password", passwordCost)
	if !samePassword(good, "password") || samePassword(good, "passwords") {
		t.Error("a password is not its own")
	}
	users, err := OpenUsers(t.TempDir(), newClock().now, nil)
	if err != nil || users.cost != passwordCost || !strings.HasPrefix(good, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("a password costs %s %v", good, err)
	}
	for name, bad := range map[string]string{
		"empty":     "",
		"plain":     "password",
		"bcrypt":    "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
		"no salt":   strings.Join(strings.Split(good, "$")[:4], "$"),
		"too dear":  strings.Replace(good, "m=", "m=9", 1),
		"no passes": strings.Replace(good, "t=2", "t=0", 1),
		"no hash":   good[:strings.LastIndex(good, "$")+1],
	} {
		if samePassword(bad, "password") {
			t.Errorf("%s is taken", name)
		}
	}
}
