package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// helperDir turns the test binary into a process that runs a cluster there until it is killed.
const helperDir = "TENURE_CLUSTER_TEST_DIR"

// helperDrops has that process run it as root does where user namespaces are refused.
const helperDrops = "TENURE_CLUSTER_TEST_DROPS"

func asPlainUser(context.Context, binaries) (identity, error) { return dropped() }

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperDir); dir != "" {
		var c *Cluster
		var err error
		if os.Getenv(helperDrops) == "" {
			c, err = Start(context.Background(), options(dir))
		} else {
			c, err = start(context.Background(), options(dir), asPlainUser)
		}
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println("url", c.URL("postgres"))
		<-c.Done()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if dir, err := made(); err == nil {
			os.RemoveAll(dir)
		}
		os.Exit(code)
	}))
}

func options(dir string) Options {
	return Options{Dir: dir, Name: "pg", Logger: slog.New(slog.DiscardHandler), Settings: map[string]string{"fsync": "off", "shared_buffers": "16MB"}}
}

// scratch is a directory that a plain user, too, can reach.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cluster-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// made is one cluster that has been started and stopped; tests which need an old cluster copy it.
var made = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "cluster-made-")
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c, err := Start(ctx, options(dir))
	if err != nil {
		return "", err
	}
	return dir, c.Stop(ctx)
})

// old is a directory with a stopped cluster in it.
func old(t *testing.T) string {
	t.Helper()
	from, err := made()
	if err != nil {
		t.Fatal(err)
	}
	dir := scratch(t)
	if out, err := exec.Command("cp", "-a", from+"/.", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func run(t *testing.T, dir string) *Cluster {
	t.Helper()
	c, err := Start(within(t), options(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Stop(context.Background()) })
	return c
}

func stop(t *testing.T, c *Cluster) {
	t.Helper()
	if err := c.Stop(within(t)); err != nil {
		t.Fatal("stop:", err)
	}
	select {
	case <-c.Done():
	default:
		t.Fatal("Stop returned before Done")
	}
}

func exec1(t *testing.T, c *Cluster, sql string) {
	t.Helper()
	conn, err := pgx.Connect(within(t), c.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(within(t), sql); err != nil {
		t.Fatal(err)
	}
}

func postmaster(t *testing.T, dir string) int {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "pg", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// gone waits for the end of a process that need not be our child.
func gone(t *testing.T, pid int) {
	t.Helper()
	ok, err := endsWithin(within(t), pid, 0, 20*time.Second)
	if err != nil || !ok {
		t.Fatalf("process %d is still there (%v)", pid, err)
	}
}

// helper starts a process that runs a cluster in dir, and returns when it is up.
func helper(t *testing.T, dir string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperDir+"="+dir)
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, _ := bufio.NewReader(out).ReadString('\n')
	if !strings.HasPrefix(line, "url ") {
		t.Fatalf("the helper said %q", line)
	}
	return cmd
}

func TestARestartKeepsDataPortAndPassword(t *testing.T) {
	dir := scratch(t)
	c := run(t, dir)
	exec1(t, c, "create table kept (n int)")
	url := c.URL("postgres")
	stop(t, c)
	if err := c.Err(); err != nil {
		t.Fatal("after a clean stop:", err)
	}
	if _, err := pgx.Connect(within(t), url); err == nil {
		t.Fatal("still answers after Stop")
	}
	c = run(t, dir)
	exec1(t, c, "insert into kept values (1)")
	if c.URL("postgres") != url {
		t.Fatal("the port or the password has changed")
	}
	if info, err := os.Stat(filepath.Join(dir, "pg.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("pg.json: %v %v", info.Mode(), err)
	}
}

func TestTheServerEndsWhenItsParentIsKilled(t *testing.T) {
	dir := old(t)
	parent := helper(t, dir)
	pid := postmaster(t, dir)
	parent.Process.Kill()
	parent.Wait()
	gone(t, pid)
	exec1(t, run(t, dir), "select 1")
}

func TestTheServerEndsWithItsParentAsAPlainUserToo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := old(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	parent := helper(t, dir, helperDrops+"=1")
	pid := postmaster(t, dir)
	parent.Process.Kill()
	parent.Wait()
	gone(t, pid)
	exec1(t, run(t, dir), "select 1")
}

func TestALiveServerLeftBehindIsStoppedFirst(t *testing.T) {
	dir := old(t)
	c := run(t, dir)
	exec1(t, c, "create table kept (n int)")
	// A server as an earlier process could have left it: alive, with nobody who holds the lock.
	c.lock.release()
	before := postmaster(t, dir)
	again := run(t, dir)
	<-c.Done()
	if pid := postmaster(t, dir); pid == before {
		t.Fatal("the old server is still there")
	}
	exec1(t, again, "insert into kept values (1)")
}

func TestAKilledServerStartsAgain(t *testing.T) {
	dir := old(t)
	c := run(t, dir)
	exec1(t, c, "create table kept (n int)")
	if err := syscall.Kill(postmaster(t, dir), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if c.Err() == nil {
		t.Fatal("a killed server ended without an error")
	}
	exec1(t, run(t, dir), "insert into kept values (1)")
}

func TestAStalePidFileOfAnotherProcessIsHarmless(t *testing.T) {
	dir := old(t)
	file := filepath.Join(dir, "pg", "postmaster.pid")
	if err := os.WriteFile(file, []byte(strconv.Itoa(os.Getppid())+"\n"+dir+"/pg\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	exec1(t, run(t, dir), "select 1")
}

func TestASecondStartIsRefusedAndNamesThePid(t *testing.T) {
	dir := old(t)
	run(t, dir)
	_, err := Start(within(t), options(dir))
	if !errors.Is(err, ErrRunning) || !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())) || strings.Contains(err.Error(), "\n") {
		t.Fatalf("got %v", err)
	}
}

func TestAnotherMajorVersionIsRefusedAndKept(t *testing.T) {
	dir := scratch(t)
	if err := os.Mkdir(filepath.Join(dir, "pg"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pg", "PG_VERSION")
	if err := os.WriteFile(file, []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(within(t), options(dir))
	if !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "/usr/lib/postgresql/9/bin/postgres") {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Fatal("the data was touched:", err)
	}
}

func TestADirectoryThatIsNoClusterIsLeftAlone(t *testing.T) {
	dir := scratch(t)
	if err := os.MkdirAll(filepath.Join(dir, "pg", "photos"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(within(t), options(dir)); err == nil || !strings.Contains(err.Error(), "no Postgres data directory") {
		t.Fatalf("got %v", err)
	}
}

func TestMissingBinariesSayWhatToInstall(t *testing.T) {
	o := options(scratch(t))
	o.BinDir = t.TempDir()
	_, err := Start(within(t), o)
	if !errors.Is(err, ErrNoBinaries) || !strings.Contains(err.Error(), "apt-get install postgresql") {
		t.Fatalf("got %v", err)
	}
}

func TestATakenPortIsReplacedAndTheNewOneKept(t *testing.T) {
	dir := old(t)
	c := run(t, dir)
	first := c.Port()
	stop(t, c)
	thief, err := net.Listen("tcp", net.JoinHostPort(Host, strconv.Itoa(first)))
	if err != nil {
		t.Fatal(err)
	}
	c = run(t, dir)
	chosen := c.Port()
	if chosen == first {
		t.Fatal("the taken port was chosen")
	}
	stop(t, c)
	thief.Close()
	if c = run(t, dir); c.Port() != chosen {
		t.Fatalf("port %d, then %d", chosen, c.Port())
	}
}

func TestAHalfMadeClusterIsMadeAgain(t *testing.T) {
	dir := scratch(t)
	half := filepath.Join(dir, "pg.tmp-123", "data")
	if err := os.MkdirAll(half, 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, dir)
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("the scratch directory is still there:", err)
	}
}

func TestALostPasswordFileIsMadeAgain(t *testing.T) {
	dir := old(t)
	c := run(t, dir)
	exec1(t, c, "create table kept (n int)")
	stop(t, c)
	if err := os.Remove(filepath.Join(dir, "pg.json")); err != nil {
		t.Fatal(err)
	}
	exec1(t, run(t, dir), "insert into kept values (1)")
}

func TestOnlyAPasswordLetsIn(t *testing.T) {
	c := run(t, old(t))
	_, err := pgx.Connect(within(t), fmt.Sprintf("postgresql://%s:wrong@%s:%d/postgres?sslmode=disable", Superuser, c.Host(), c.Port()))
	if err == nil || !strings.Contains(err.Error(), "28P01") {
		t.Fatalf("got %v", err)
	}
}

func TestACancelledStartLeavesNothingRunning(t *testing.T) {
	dir := old(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Start(ctx, options(dir)); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	exec1(t, run(t, dir), "select 1") // also proves that the lock is free
}

func TestAServerThatIsNotReadyInTimeIsStopped(t *testing.T) {
	dir := old(t)
	h, err := open(options(dir))
	if err != nil {
		t.Fatal(err)
	}
	bin, err := findBinaries(within(t), "", h.version)
	if err != nil {
		t.Fatal(err)
	}
	who, err := chooseIdentity(within(t), bin)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := h.serve(ctx, bin, who, options(dir)); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	exec1(t, run(t, dir), "select 1")
}

func TestRootWithoutUserNamespacesRunsAsAPlainUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	reachable = scratch(t)
	t.Cleanup(func() { reachable = "/var/lib/tenure" })
	if err := os.Chmod(reachable, 0o711); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name string
		mode os.FileMode
		data func(dir string) string
	}{
		{"in a directory that the user can reach", 0o755, func(dir string) string { return filepath.Join(dir, "pg") }},
		{"in one that it cannot reach", 0o700, func(string) string { return reachable }},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := scratch(t)
			if err := os.Chmod(dir, row.mode); err != nil {
				t.Fatal(err)
			}
			for range 2 { // made, then found again
				c, err := start(within(t), options(dir), asPlainUser)
				if err != nil {
					t.Fatal(err)
				}
				exec1(t, c, "create table if not exists kept (n int)")
				stop(t, c)
			}
			h, err := open(options(dir))
			if err != nil || !strings.HasPrefix(h.data, row.data(dir)) {
				t.Fatalf("data in %s, %v", h.data, err)
			}
			// With namespaces back, the same files serve.
			c := run(t, dir)
			exec1(t, c, "insert into kept values (1)")
		})
	}
}
