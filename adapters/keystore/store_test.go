package keystore_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/tenure-dev/tenure/adapters/keystore"
	"github.com/tenure-dev/tenure/domain"
)

func open(t testing.TB, dir string) *keystore.Store {
	t.Helper()
	s, err := keystore.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func seal(t testing.TB, s *keystore.Store, subject, text string) domain.Sealed {
	t.Helper()
	sealed, err := s.Seal(t.Context(), subject, text)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func expect(t testing.TB, s *keystore.Store, sealed domain.Sealed, want string, ok bool) {
	t.Helper()
	text, got, err := s.Open(t.Context(), sealed)
	if err != nil || text != want || got != ok {
		t.Errorf("opened %q, %v, %v; want %q, %v", text, got, err, want, ok)
	}
}

func TestWhatIsSealedOpensHereAndInAnotherProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	s := open(t, dir)
	a, b := seal(t, s, "org_a", "a reason"), seal(t, s, "org_b", "a reason")
	if bytes.Contains(a.Text, []byte("reason")) || bytes.Equal(a.Text, seal(t, s, "org_a", "a reason").Text) || a.Subject != "org_a" || a.Key == "" {
		t.Errorf("%+v", a)
	}
	for _, store := range []*keystore.Store{s, open(t, dir)} {
		expect(t, store, a, "a reason", true)
		expect(t, store, b, "a reason", true)
		expect(t, store, seal(t, store, "org_a", ""), "", true)
		expect(t, store, domain.Sealed{}, "", false)
		expect(t, store, domain.Clear("dry"), "dry", true)
	}
}

func TestAnErasedSubjectReadsAsAbsent(t *testing.T) {
	dir := t.TempDir()
	s, other := open(t, dir), open(t, dir)
	sealed, kept := seal(t, s, "per_1", "Ada"), seal(t, s, "per_2", "Grace")
	expect(t, other, sealed, "Ada", true) // the other has the key in memory
	for range 2 {
		if err := s.Destroy("per_1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Destroy("per_never"); err != nil {
		t.Fatal(err)
	}
	for _, store := range []*keystore.Store{s, other, open(t, dir)} {
		expect(t, store, sealed, "", false)
		expect(t, store, kept, "Grace", true)
		again := seal(t, store, "per_1", "Ada")
		if again.Subject != "per_1" || len(again.Text) != 0 || again.IsZero() {
			t.Errorf("sealed for an erased subject: %+v", again)
		}
		expect(t, store, again, "", false)
		expect(t, store, seal(t, store, "per_never", "x"), "", false)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "subjects", "per_1.key")); left != nil {
		t.Error(left)
	}
}

func TestAMissingKeyIsAbsentAndADamagedTextIsNot(t *testing.T) {
	s := open(t, t.TempDir())
	sealed := seal(t, s, "org_a", "text")
	expect(t, open(t, t.TempDir()), sealed, "", false)
	other := sealed
	other.Key = "77"
	expect(t, s, other, "", false)
	seal(t, s, "org_b", "x")
	damaged := sealed
	damaged.Text = append([]byte(nil), sealed.Text...)
	damaged.Text[len(damaged.Text)-1] ^= 1
	if _, _, err := s.Open(t.Context(), damaged); domain.CodeOf(err) != domain.CodeInternal {
		t.Error(err)
	}
	b := seal(t, s, "org_b", "text")
	b.Text = sealed.Text
	if _, _, err := s.Open(t.Context(), b); domain.CodeOf(err) != domain.CodeInternal {
		t.Error("text of another subject was opened:", err)
	}
}

func TestNamesCannotLeaveTheDirectory(t *testing.T) {
	s := open(t, t.TempDir())
	for _, bad := range []string{"", "..", "../x", "a/b", ".x", "A", "a\x00", strings.Repeat("a", 201)} {
		if _, err := s.Seal(t.Context(), bad, "x"); domain.CodeOf(err) != domain.CodeInvalid {
			t.Errorf("seal %q: %v", bad, err)
		}
		if err := s.Destroy(bad); domain.CodeOf(err) != domain.CodeInvalid {
			t.Errorf("destroy %q: %v", bad, err)
		}
		if _, err := s.Secret(bad, 32); domain.CodeOf(err) != domain.CodeInvalid {
			t.Errorf("secret %q: %v", bad, err)
		}
		if _, _, err := s.Open(t.Context(), domain.Sealed{Subject: bad, Key: "1", Text: []byte("x")}); domain.CodeOf(err) != domain.CodeInvalid {
			t.Errorf("open %q: %v", bad, err)
		}
	}
	seal(t, s, "slug.org_x.acme-1", "reservations have dots")
}

func TestOnlyTheOwnerMayRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	sealed := seal(t, s, "org_a", "x")
	if _, err := s.HashKey(); err != nil {
		t.Fatal(err)
	}
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		info, _ := d.Info()
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		if strings.Contains(path, "draft") {
			t.Errorf("%s is left over", path)
		}
		return err
	})
	if err := os.Chmod(filepath.Join(dir, "subjects", "org_a.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := open(t, dir).Open(t.Context(), sealed); domain.CodeOf(err) != domain.CodeUnavailable {
		t.Error(err)
	}
}

func TestSecretsAreDrawnOnce(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	key, err := s.HashKey()
	if err != nil || len(key) != 32 || bytes.Equal(key, make([]byte, 32)) {
		t.Fatal(key, err)
	}
	if again, err := open(t, dir).HashKey(); err != nil || !bytes.Equal(again, key) {
		t.Error(again, err)
	}
	if other, err := s.Secret("other", 32); err != nil || bytes.Equal(other, key) {
		t.Error(other, err)
	}
	if _, err := s.Secret("other", 64); err == nil {
		t.Error("another size was taken")
	}
	if _, err := s.Secret("short", 8); err == nil {
		t.Error("a short secret was drawn")
	}
}

func TestRacingGoroutinesShareOneKey(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	var all sync.WaitGroup
	keys, secrets := map[string]bool{}, map[string]bool{}
	for range 32 {
		all.Go(func() {
			s := open(t, dir)
			sealed, err := s.Seal(t.Context(), "org_a", "x")
			if err != nil {
				t.Error(err)
			}
			secret, err := s.HashKey()
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			keys[sealed.Key], secrets[string(secret)] = true, true
		})
	}
	all.Wait()
	if len(keys) != 1 || len(secrets) != 1 {
		t.Errorf("%d keys, %d secrets", len(keys), len(secrets))
	}
}

func TestErasingWinsOverSealing(t *testing.T) {
	for range 10 {
		dir := t.TempDir()
		var all sync.WaitGroup
		sealed := make([]domain.Sealed, 8)
		for i := range sealed {
			all.Go(func() { sealed[i], _ = open(t, dir).Seal(t.Context(), "per_1", "Ada") })
		}
		all.Go(func() {
			if err := open(t, dir).Destroy("per_1"); err != nil {
				t.Error(err)
			}
		})
		all.Wait()
		for _, s := range sealed {
			expect(t, open(t, dir), s, "", false)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "subjects", "*.key")); left != nil {
			t.Fatal("a key outlived its erasure")
		}
	}
}

const helper = "KEYSTORE_TEST_DIR"

func TestMain(m *testing.M) {
	dir := os.Getenv(helper)
	if dir == "" {
		os.Exit(m.Run())
	}
	s, err := keystore.Open(dir)
	if err != nil {
		panic(err)
	}
	_, _ = bufio.NewReader(os.Stdin).ReadByte() // all begin together
	secret, err1 := s.HashKey()
	text, _, err2 := s.Open(context.Background(), sealedIn(s))
	fmt.Printf("%x %s %v\n", secret, text, errors.Join(err1, err2))
}

func sealedIn(s *keystore.Store) domain.Sealed {
	sealed, err := s.Seal(context.Background(), "org_a", "x")
	if err != nil {
		panic(err)
	}
	return domain.Sealed{Subject: sealed.Subject, Key: sealed.Key, Text: sealed.Text}
}

func TestRacingProcessesShareOneKey(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	outs := make([]bytes.Buffer, 6)
	var procs []*exec.Cmd
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range outs {
		c := exec.Command(self)
		c.Env, c.Stdin, c.Stdout, c.Stderr = append(os.Environ(), helper+"="+dir), r, &outs[i], os.Stderr
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		procs = append(procs, c)
	}
	_ = w.Close()
	for i, c := range procs {
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
		if outs[i].String() != outs[0].String() || !strings.HasSuffix(outs[i].String(), " x <nil>\n") {
			t.Errorf("process %d: %q, the first: %q", i, outs[i].String(), outs[0].String())
		}
	}
	expect(t, open(t, dir), seal(t, open(t, dir), "org_a", "y"), "y", true)
}

func TestAnyTextComesBack(t *testing.T) {
	s := open(t, t.TempDir())
	rapid.Check(t, func(rt *rapid.T) {
		subject := rapid.SampledFrom([]string{"org_a", "org_b", "per_1"}).Draw(rt, "subject")
		text := rapid.String().Draw(rt, "text")
		expect(t, s, seal(t, s, subject, text), text, true)
	})
}
