package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/domain"
)

// suiteCommand is the variable that makes this binary the command line itself, to be killed.
const suiteCommand = "TENURE_SUITE_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(suiteCommand) != "" {
		os.Exit(run(context.Background(), os.Args[1:], noEnv, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// killing starts the same command again and again, and kills it with signal 9 at a random moment, until a kill, or ten with
// TENURE_SOAK, have met it at work, as midway sees from what it has left. The moments lie within what a run takes, as far as is known.
func killing(t *testing.T, midway func() bool, args ...string) {
	t.Helper()
	seed, err := strconv.ParseUint(os.Getenv("TENURE_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64() >> 32
	}
	t.Logf("TENURE_SEED=%d", seed)
	wanted := 1
	if os.Getenv("TENURE_SOAK") != "" {
		wanted = 10
	}
	random, longest, met := rand.New(rand.NewPCG(seed, 1)), time.Second, 0
	for tries := 0; met < wanted; tries++ {
		if tries == 40*wanted {
			t.Fatalf("of %d kills %d have met the command at work, want %d", tries, met, wanted)
		}
		c := exec.CommandContext(t.Context(), os.Args[0], args...)
		c.Env = append(os.Environ(), suiteCommand+"=1")
		var said strings.Builder
		c.Stdout, c.Stderr = &said, &said
		began := time.Now()
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- c.Wait() }()
		select {
		case <-time.After(time.Duration(random.Int64N(int64(longest)))):
			_ = c.Process.Kill()
			err = <-ended
		case err = <-ended:
		}
		if err == nil {
			longest = min(longest, time.Since(began))
		} else if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.Exited() {
			t.Fatalf("%v: %v\n%s", args, err, &said)
		}
		if midway() {
			met++
		}
	}
}

// aLongLog has many turns of streams, and enough bytes that moving them takes its time.
func aLongLog(t *testing.T, log *eventstore.Log, turns, run int) {
	t.Helper()
	if _, err := log.Epoch(t.Context(), "first", 1, moment); err != nil {
		t.Fatal(err)
	}
	data := []byte(strings.Repeat("x", 400))
	for n := range turns {
		events := make([]eventstore.Raw, run)
		for i := range events {
			events[i] = eventstore.Raw{ID: uuid.New(), Type: "T", Data: data}
		}
		appendRaw(t, log, fmt.Sprint("s-", n%10), int64(n/10*run)-1, events...)
	}
}

func TestABackupThatIsKilledIsAsWholeAsBefore(t *testing.T) {
	url, backup := startNode(t, t.TempDir()), filepath.Join(t.TempDir(), "b")
	log := openLog(t, url)
	aLongLog(t, log, 10, 1)
	succeeds(t, "backed up: ", "log", "backup", backup, "--eventstore", url)
	first, err := os.ReadFile(filepath.Join(backup, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	whole := fmt.Sprintf("verified: %d events in 1 segments", len(everything(t, log)))
	for n := range 8 {
		events := make([]eventstore.Raw, 1000)
		for i := range events {
			events[i] = eventstore.Raw{ID: uuid.New(), Type: "T", Data: []byte(strings.Repeat("x", 400))}
		}
		appendRaw(t, log, "long", int64(n*1000)-1, events...)
	}
	killing(t, func() bool {
		exit, stdout, stderr := call(t, nil, "log", "verify", backup)
		if exit != exitOK {
			t.Fatalf("after a kill: %s", stderr)
		}
		if strings.HasPrefix(stdout, whole) {
			if strings.Contains(stderr, "segment-00000002") {
				succeeds(t, "restored: ", "log", "restore", backup, "--data", t.TempDir())
				return true
			}
			return false
		}
		// This run has come to its end. Go back to where it began.
		if err := os.WriteFile(filepath.Join(backup, "manifest.json"), first, 0o600); err != nil {
			t.Fatal(err)
		}
		return false
	}, "log", "backup", backup, "--eventstore", url)
	succeeds(t, "backed up: ", "log", "backup", backup, "--eventstore", url)
	wantRestored(t, backup, everything(t, log))
}

// wantRestored restores a backup and compares the log with events; the epoch that a restore begins comes behind them.
func wantRestored(t *testing.T, backup string, want []eventstore.Raw) {
	t.Helper()
	data := t.TempDir()
	succeeds(t, "restored: ", "log", "restore", backup, "--data", data)
	wantLog(t, data, want)
}

func wantLog(t *testing.T, data string, want []eventstore.Raw) {
	t.Helper()
	got := everything(t, openLog(t, startNode(t, data)))
	if len(got) != len(want)+1 || fmt.Sprint(got[:len(want)]) != fmt.Sprint(want) || got[len(want)].Stream != domain.EpochStream {
		t.Fatalf("the restored log has %d events, and is not that of %d events with an epoch more", len(got), len(want))
	}
}

func TestARestoreThatIsKilledLeavesNoLog(t *testing.T) {
	url, backup, data := startNode(t, t.TempDir()), filepath.Join(t.TempDir(), "b"), t.TempDir()
	log := openLog(t, url)
	aLongLog(t, log, 10, 800)
	succeeds(t, "backed up: ", "log", "backup", backup, "--eventstore", url)
	if exit, _, stderr := users(t, data, "good-password\n", "add", "adam", "--roles", "$admins"); exit != exitOK {
		t.Fatal(stderr)
	}
	place := filepath.Join(data, "log")
	killing(t, func() bool {
		if err := noLogIn(place); err != nil { // this run has come to its end
			if err := os.Rename(place, place+".restoring"); err != nil { // as if killed between its last two steps
				t.Fatal(err)
			}
			return false
		}
		_, err := os.Stat(place + ".restoring")
		return err == nil
	}, "log", "restore", backup, "--data", data)
	succeeds(t, "restored: ", "log", "restore", backup, "--data", data)
	if exit, stdout, _ := users(t, data, "", "list"); exit != exitOK || !strings.Contains(stdout, "adam") {
		t.Errorf("the users are %s", stdout)
	}
	if _, err := os.Stat(place + ".restoring"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("something is left over", err)
	}
	succeeds(t, "whole: ", "log", "check", "--data", data)
	wantLog(t, data, everything(t, log))
}

func TestACopyThatIsKilledGoesOn(t *testing.T) {
	from, to := startNode(t, t.TempDir()), startNode(t, t.TempDir())
	source, target := openLog(t, from), openLog(t, to)
	aLongLog(t, source, 1000, 2)
	all, before := len(ours(everything(t, source))), 0
	killing(t, func() bool {
		now := len(ours(everything(t, target)))
		defer func() { before = now }()
		if now == all { // the source grows, so that there is more to kill
			stream := fmt.Sprint("more-", all)
			for i := range 500 {
				appendRaw(t, source, stream, int64(i)-1, rawEvent(i))
				appendRaw(t, source, stream+"-b", int64(i)-1, rawEvent(i))
			}
			all += 1000
			return false
		}
		return now > before
	}, "log", "copy", "--from", from, "--to", to)
	succeeds(t, "copied: ", "log", "copy", "--from", from, "--to", to)
	if got, want := ours(everything(t, target)), ours(everything(t, source)); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the target has %d events, and is not the same as the source's %d", len(got), len(want))
	}
}
